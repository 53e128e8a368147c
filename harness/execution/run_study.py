"""From a study to a filled store: plan, prepare what trials share, run what is missing."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch

from architectures import GanPair
from harness.analysis.results import untrained_arm
from harness.analysis.wording import count
from harness.data import is_downloaded, prepare
from harness.errors import UserError
from harness.execution.cluster import HERE, Cluster
from harness.execution.estimates import Estimate, arithmetic, estimate
from harness.execution.machine import processors, trials_in_memory
from harness.execution.progress import Progress, duration
from harness.execution.provenance import provenance
from harness.execution.scoring_pool import score_stored
from harness.execution.trial import GRID, TrialContext
from harness.inspection import short_lines
from harness.metrics import proof_in_words
from harness.scoring.extractors import needs_training, prepare_extractor, prepare_online_extractor, require_labels
from harness.scoring.fidelity import make_protocol, prepare_reference
from harness.spec import TrialSpec
from harness.storage.store import Damaged, Store
from harness.study import Cell, Profile, Study
from harness.training.loop import build_networks

FLOAT = 4  # bytes of a weight
SMALL_FILES = 64 * 2**10
"""What a trial takes on disk beside weights and picture, in bytes: JSON, curves, and what files are rounded up to."""

FEWEST_SAMPLES = 20
"""Two for each of the ten splits of the inception score."""

Seeds: TypeAlias = int | Mapping[str, int] | None
"""Replicates an arm, or of each arm by name; None for the profile's own number."""

Say: TypeAlias = Callable[[str], None]
"""Tells the person at the terminal one line."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do; made without running anything."""

    study: Study
    profile: Profile
    cells: list[Cell]
    ceilings: dict[str, TrialSpec]  # baseline -> its first seed's generator, to be scored untrained
    done: set[str]  # trial_ids that the store already holds, untrained generators' too
    core_seconds: Estimate  # of one trial of each arm
    bytes_of: Mapping[str, int]  # arm -> what one of its trials takes on disk, at most
    left_behind: int  # finished trials of the last plan whose places others now take, made from other code or settings
    data_lines: list[str]  # what there is to know of the pictures, in short
    bytes_of_data: int = 0  # what prepared data will take on disk, where they are not in the store already

    @property
    def specs(self) -> dict[str, TrialSpec]:
        """trial_id -> spec, each trial once, in running order."""
        return {cell.spec.trial_id: cell.spec for cell in self.cells}

    @property
    def arms(self) -> list[str]:
        """The arms, in the study's order."""
        return list(dict.fromkeys(cell.arm for cell in self.cells))

    def pending(self) -> list[TrialSpec]:
        """The specs that are still to be run."""
        return [spec for trial_id, spec in self.specs.items() if trial_id not in self.done]

    def bytes_left(self) -> int:
        """What data, pending trials and untrained generators will leave on disk, in bytes, at most."""
        arms = {spec.trial_id: arm for arm, spec in self.ceilings.items()}
        arms |= {cell.spec.trial_id: cell.arm for cell in self.cells}
        trials = sum(self.bytes_of[arm] for trial_id, arm in arms.items() if trial_id not in self.done)
        return trials + self.bytes_of_data

    def seconds_left(self, workers: int | None) -> float:
        """A rough guess at the wall-clock time of what is pending; None workers count as one."""
        arms = {cell.spec.trial_id: cell.arm for cell in reversed(self.cells)}
        takes = [self.core_seconds.seconds[arms[spec.trial_id]] for spec in self.pending()]
        return max(sum(takes) / (workers or 1), max(takes, default=0.0))


def default_workers(cluster: Cluster = HERE) -> int | None:
    """Trials at once on this machine: as many as fit its GPUs, if any, else one a core that this process may use.

    Where memory is short, fewer.

    None on a cluster, which knows by itself.
    """
    if cluster.address:
        return None
    cores, gpus = min(processors(), trials_in_memory()), cluster.gpus_per_trial
    if gpus == 0 or not torch.cuda.device_count():
        return cores
    return max(1, min(cores, int(torch.cuda.device_count() / (gpus or 1))))


def make_plan(study: Study, profile_name: str, seeds: Seeds, store: Store | None) -> Plan:
    """Expand the study and look up what the store holds. Refuses every arm that could not be run.

    Without a store nothing is downloaded, and data that would have to be are taken for large enough.

    Raises:
        UserError: an unknown profile, data that cannot be had or that the profile's extractor cannot learn from, or
            a spec or network that is refused.
    """
    profile = study.profile(profile_name)
    require_samples(profile.num_generated)
    with tempfile.TemporaryDirectory() as scratch:
        cache = store.cache if store is not None else Path(scratch)

        num_images: dict[str, int] = {}  # by fingerprint, where known
        bytes_of_data: dict[str, int] = {}
        data_lines: dict[tuple[str, int, int], list[str]] = {}

        def fingerprint(dataset: str, resolution: int, channels: int) -> str:
            if store is None and is_downloaded(dataset):
                return "0" * 16  # nothing to look up, and nowhere to keep a download
            data = prepare(dataset, resolution=resolution, channels=channels, cache=cache)
            require_labels(profile.extractor, data)
            num_images[data.fingerprint] = len(data.images("train"))
            if store is None:  # else they are there already
                bytes_of_data[data.fingerprint] = sum(path.stat().st_size for path in data.folder.iterdir())
            data_lines.setdefault((dataset, resolution, channels), short_lines(data))
            return data.fingerprint

        cells = study.expand(profile, seeds, fingerprint)
    bytes_of, weights = _refuse_impossible(cells, num_images)
    ceilings = {
        c.arm: replace(c.spec, kimg=0.0) for c in reversed(cells) if c.arm in study.baselines and c.spec.world_size == 1
    }
    wanted = {spec.trial_id for spec in (*(c.spec for c in cells), *ceilings.values())}
    done = set() if store is None else {i for i in wanted if store.status(i) in ("ok", "diverged")}
    left_behind = 0 if store is None else _left_behind(store, study.name, profile_name, cells)
    return Plan(
        study=study,
        profile=profile,
        cells=cells,
        ceilings=ceilings,
        done=done,
        core_seconds=estimate(cells, weights, profile, store),
        bytes_of=bytes_of,
        left_behind=left_behind,
        data_lines=[line for lines in data_lines.values() for line in lines],
        bytes_of_data=sum(bytes_of_data.values()),
    )


def left_behind_line(number: int) -> str:
    """What a person is told of trials that this study no longer uses."""
    were = "was" if number == 1 else "were"
    return (
        f"{count(number, 'finished trial')} {were} made from an earlier version of this study's code, data or "
        f"settings: kept, and no longer used"
    )


def run_study(
    study: Study,
    profile_name: str,
    seeds: Seeds,
    store: Store,
    workers: int | None,
    say: Say,
    cluster: Cluster = HERE,
    *,
    sequential: bool = False,
    extractor_weights: Path | None = None,
) -> bool:
    """Run what the store lacks of the study. True if no trial failed.

    Args:
        study: Which study.
        profile_name: At which of its profiles.
        seeds: Replicates an arm, or of each arm; None for the profile's own number.
        store: Where results go.
        workers: Trials at once.
        say: Told what happens.
        cluster: Where trials run.
        sequential: Whether the number of seeds depends on earlier results. The plan remembers it, once and for all:
            from then on, verdicts are those that stay valid over looks.
        extractor_weights: A local file with the weights of the profile's extractor, where that is a pretrained one.

    Raises:
        UserError: something is refused before work starts, or the store cannot be written.
        KeyboardInterrupt: finished trials stay; the same call goes on from there.
    """
    if workers is not None and workers < 1:
        raise UserError(f"workers={workers} is out of range; allowed: at least 1")
    store.sweep()
    plan = make_plan(study, profile_name, seeds, store)
    ranks = max(spec.world_size for spec in plan.specs.values())
    if not cluster.address and workers is not None and workers < ranks:
        raise UserError(f"workers={workers} is out of range; allowed: at least {ranks}, the ranks of one trial")
    specs = {**plan.specs, **{spec.trial_id: spec for spec in plan.ceilings.values()}}
    former = {spec.former_id for spec in specs.values()} - specs.keys()
    for name, damage in store.set_aside_damaged([*specs, *former]).items():
        say(f"{name} was {damage}")
    if is_sequential(store, study.name, profile_name) and not store.read_plan(study.name, profile_name):
        say("the plan said whether seeds had been added because of results: from now on verdicts allow for it")
    if plan.left_behind:
        say(left_behind_line(plan.left_behind))
    store.require_free(plan.bytes_left())
    contexts = scoring_contexts(
        study,
        plan.specs.values(),
        plan.profile.extractor,
        plan.profile.num_generated,
        store,
        say,
        extractor_weights,
    )
    protocols = {fingerprint: context.protocol.protocol_id for fingerprint, context in contexts.items()}
    pending = [s for i, s in specs.items() if not store.is_done(i, protocols[s.data_fingerprint])]
    store.write_plan(
        study.name,
        profile_name,
        {
            "protocol_id": protocols[plan.cells[0].spec.data_fingerprint],
            "sequential": sequential or is_sequential(store, study.name, profile_name),
            "cells": [
                {
                    "arm": c.arm,
                    "seed": c.seed,
                    "trial_id": store.stored_name(c.spec.trial_id),
                    "protocol_id": protocols[c.spec.data_fingerprint],
                }
                for c in plan.cells
            ],
            "ceilings": {name: store.stored_name(spec.trial_id) for name, spec in plan.ceilings.items()},
        },
    )
    unscored = [spec for spec in pending if store.status(spec.trial_id) == "ok"]
    if unscored:  # under another protocol, perhaps by other versions of the libraries: their weights are there
        have = "has" if len(unscored) == 1 else "have"
        say(f"{count(len(unscored), 'finished trial')} {have} no scores under this protocol; scoring, not training")
        score_stored(unscored, contexts, store, workers or processors(), say)
        pending = [spec for spec in pending if spec not in unscored]
    if not pending:
        say(f"{study.name} ({profile_name}): {count(len(plan.specs), 'trial')} done, nothing to run")
        return True
    from harness.execution.ray_backend import (
        run_trials,
    )  # ray is slow to import, and a finished study does not need it

    trained = sum(spec.trial_id in plan.specs for spec in pending)
    others = len(pending) - trained
    untrained = f"and {count(others, 'untrained generator')} to score, " if others else ""
    say(
        f"{study.name} ({profile_name}): {trained} of {count(len(plan.specs), 'trial')} to run, {untrained}"
        + (
            f"{workers} at once, roughly {duration(plan.seconds_left(workers))}"
            if workers
            else f"as many at once as {cluster.address} has room for"
        )
    )
    arms = {spec.trial_id: (untrained_arm(name), spec.seed) for name, spec in plan.ceilings.items()}
    arms |= {c.spec.trial_id: (c.arm, c.seed) for c in reversed(plan.cells)}
    with Progress(
        title=f"{study.name} ({profile_name})",
        total=len(specs),
        already_done=len(specs) - len(pending),
        arms=dict(reversed(arms.items())),
        workers=workers or 0,
        scored=Counter(arms[i][0] for i in specs.keys() - {spec.trial_id for spec in pending}),
    ) as progress:
        run_trials(pending, contexts, store, progress, workers, cluster)
    if progress.failed:
        say(f"{count(progress.failed, 'trial')} failed, to be tried again by the next run")
    return progress.failed == 0


def is_sequential(store: Store, study: str, profile: str) -> bool:
    """Whether seeds were ever added to this study because of its results, or may have been: its plan was damaged."""
    plan = store.read_plan(study, profile)
    return store.plan_was_lost(study, profile) if plan is None else bool(plan.get("sequential"))


def scoring_contexts(
    study: Study,
    specs: Iterable[TrialSpec],
    extractor_name: str,
    num_generated: int,
    store: Store,
    say: Say,
    extractor_weights: Path | None = None,
) -> dict[str, TrialContext]:
    """What trials share, by the fingerprint of their data: extractor, protocol, reference features.

    Raises:
        UserError: an extractor that cannot be had, or data that are not those of the specs.
    """
    torch.set_num_threads(min(torch.get_num_threads(), processors()))  # torch knows nothing of a container's quota
    contexts: dict[str, TrialContext] = {}
    for spec in specs:
        if spec.data_fingerprint in contexts:
            continue
        data = prepare(spec.dataset, resolution=spec.resolution, channels=spec.channels, cache=store.cache, check=True)
        if data.fingerprint != spec.data_fingerprint:
            raise UserError(
                f"{spec.dataset} changed since its trials were planned (fingerprint {data.fingerprint}, then "
                f"{spec.data_fingerprint}); put the images back as they were"
            )
        if needs_training(extractor_name, data, store.cache):
            at = f"{spec.dataset} at {spec.resolution}×{spec.resolution}×{spec.channels}"
            say(f"training the {extractor_name} that scores {at} (once)")
        extractor = prepare_extractor(extractor_name, data, store.cache, extractor_weights)
        if sentence := proof_in_words(extractor.proof()):
            say(f"{spec.dataset}: {sentence[0].lower()}{sentence[1:]}")
        protocol = make_protocol(extractor, data, num_generated=num_generated)
        reference, proof = store.read_reference(protocol.protocol_id), extractor.proof()
        if not reference:
            say(f"scoring the real images of {spec.dataset} (once a protocol)")
            reference = prepare_reference(protocol, extractor, data, store.cache)
            store.write_reference(protocol, {**reference, **proof})
        elif not proof.keys() <= reference.keys():  # kept before reports asked for it
            store.write_reference(protocol, {**reference, **proof})
        online = prepare_online_extractor(extractor, data, store.cache)
        if online is None and data.num_classes is not None:
            say(f"no FID in the curves on {spec.dataset}: its classes cannot be learned from its pictures")
        contexts[spec.data_fingerprint] = TrialContext(
            data=data,
            extractor=extractor,
            protocol=protocol,
            cache=store.cache,
            online=online,
            user_code=study.own_code,
            provenance=provenance(),
        )
    return contexts


def require_samples(number: int) -> None:
    """Refuse to score by fewer samples than the scores are defined for."""
    if number < FEWEST_SAMPLES:
        raise UserError(f"num_generated={number} is out of range; allowed: at least {FEWEST_SAMPLES}")


def _left_behind(store: Store, study: str, profile: str, cells: list[Cell]) -> int:
    """Finished trials that the last plan had at an arm and seed where this one has another trial."""
    try:
        last = store.read_plan(study, profile)
    except Damaged:  # a run says so, and sets it aside
        return 0
    held = {(c["arm"], c["seed"]): c["trial_id"] for c in last["cells"]} if last else {}
    there = {(c.arm, c.seed): store.stored_name(c.spec.trial_id) for c in cells}
    replaced = {held[place] for place in held.keys() & there.keys() if held[place] != there[place]}
    return sum(store.status(trial_id) in ("ok", "diverged") for trial_id in replaced - set(there.values()))


def _refuse_impossible(cells: list[Cell], num_images: Mapping[str, int]) -> tuple[dict[str, int], dict[str, float]]:
    """Refuse an arm whose networks cannot be built, or whose batch is larger than its data. Takes no memory.

    Returns:
        arm -> bytes that a trial takes on disk; arm -> what it costs by arithmetic.
    """
    bytes_of, weights = {}, {}
    for cell in cells:
        if cell.arm not in bytes_of:
            try:
                with torch.device("meta"):
                    gan = build_networks(cell.spec)
            except ValueError as error:
                raise UserError(f"arm {cell.arm!r} cannot be built: {error}") from None
            available = num_images.get(cell.spec.data_fingerprint, cell.spec.batch_size)
            if cell.spec.batch_size > available:
                raise UserError(
                    f"arm {cell.arm!r}: batch_size={cell.spec.batch_size} is out of range; allowed: at most "
                    f"{available}, the training images of {cell.spec.dataset}"
                )
            bytes_of[cell.arm], weights[cell.arm] = _bytes_of_trial(cell.spec, gan), arithmetic(cell.spec, gan)
    return bytes_of, weights


def _bytes_of_trial(spec: TrialSpec, gan: GanPair) -> int:
    """What a trial leaves: G twice (its moving average is the second), D, a picture, small files."""
    g, d = (sum(v.numel() for v in net.state_dict().values()) for net in (gan.generator, gan.discriminator))
    picture = (GRID * (spec.resolution + 2)) ** 2 * spec.channels
    return (2 * g + d) * FLOAT + picture + SMALL_FILES
