"""What a run would do: the trials of a study, what the store holds of them, and what is left to pay."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from architectures import GanPair
from harness.analysis.earlier import left_behind, scored_otherwise, seeds_before
from harness.analysis.results import untrained_arm
from harness.analysis.wording import agreeing, count, duration
from harness.data import prepare
from harness.design import Design, Run, Seeds
from harness.errors import UserError, unknown_name
from harness.execution.cluster import HERE, Cluster
from harness.execution.estimates import WORTH_SAYING, Estimate, arithmetic, estimate, feature_seconds
from harness.execution.resources import processors, trials_in_memory
from harness.inspection import short_lines
from harness.metrics import split
from harness.plugin_identity import refusing_files
from harness.questions import extractors_named
from harness.scoring.extractors import EXTRACTORS, default_extractor, require_labels, to_download
from harness.scoring.yardstick import seconds_to_learn
from harness.sources import is_downloaded
from harness.spec import FOLDER, TrialSpec
from harness.storage.plans import profile_of_same_pictures, remove_plan
from harness.storage.records import Damaged
from harness.storage.samples import picture_bytes
from harness.storage.store import Store
from harness.study import Study
from harness.training.loop import build_networks

FLOAT = 4  # bytes of a weight
SMALL_FILES = 64 * 2**10
"""What a trial takes on disk beside weights and picture, in bytes: JSON, curves, and what files are rounded up to."""

GUESS = "a guess by arithmetic; the first trials will tell"

LONGEST_ARM = 44
"""Letters of an arm's name that leave room for its figures in a terminal of 80 columns."""

FEWEST_SAMPLES = 20
"""Two for each of the ten splits of the inception score."""

MOST_SAMPLES = 1_000_000
"""Twenty times what papers take; precision and recall compare all of them with each other."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do; made without running anything."""

    design: Design
    runs: list[Run]
    untrained: dict[str, TrialSpec]  # baseline -> its first seed's generator, to be scored as it is before training
    done: set[str]  # trial_ids that the store already holds, of untrained baselines too
    core_seconds: Estimate  # of one trial of each arm
    bytes_of: Mapping[str, int]  # arm -> what one of its trials takes on disk, at most
    left_behind: int  # finished trials of the last plan whose places others now take, made from other code or settings
    seeds_before: int  # an arm, of which the last plan has finished trials, where this one has fewer; else 0
    other_file: str  # which declared the study when it ran here last, where another file does now; "" if none
    moved_from: str  # profile at which it ran last on the same pictures, where these lay in another folder; "" if none
    scored_otherwise: dict[str, int]  # own extractor -> scores of the last plan that it would give otherwise today
    beforehand: Mapping[str, float]  # what is done before the first trial -> seconds
    data_lines: list[str]  # what there is to know of the pictures, in short
    bytes_of_data: int = 0  # what prepared data will take on disk, where they are not in the store already

    @cached_property
    def trained(self) -> dict[str, Run]:
        """trial_id -> the first run that it fills: each trial once, in running order."""
        found: dict[str, Run] = {}
        for run in self.runs:
            found.setdefault(run.spec.trial_id, run)
        return found

    @cached_property
    def trials(self) -> dict[str, Run]:
        """As `trained`, and after them the untrained baselines, under arms of their own."""
        baselines = [Run(arm=untrained_arm(n), seed=spec.seed, spec=spec) for n, spec in self.untrained.items()]
        return self.trained | {r.spec.trial_id: r for r in baselines if r.spec.trial_id not in self.trained}

    @property
    def specs(self) -> dict[str, TrialSpec]:
        """trial_id -> spec of all `trials`."""
        return {trial_id: run.spec for trial_id, run in self.trials.items()}

    def turn(self, trial_id: str) -> tuple[bool, int, float]:
        """By which trials are sorted before they run: seed by seed, so that all arms have as many whenever a run ends.

        Within a seed the longest come first, so that no worker is left with one at the end; untrained baselines last.
        """
        run = self.trials[trial_id]
        return trial_id not in self.trained, run.seed, -self.core_seconds.seconds.get(run.arm, 0.0)

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in the study's order."""
        return list(dict.fromkeys(run.arm for run in self.runs))

    def pending(self) -> list[Run]:
        """The trials that are still to be trained."""
        return [run for trial_id, run in self.trained.items() if trial_id not in self.done]

    def record(
        self,
        protocols: Mapping[str, str],
        stored_name: Callable[[str], str],
        *,
        sequential: bool,
        also: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """What the store keeps of the plan: every run with its trial, under the name that the store has for it.

        Args:
            protocols: Fingerprint of data -> protocol_id of the scores.
            stored_name: trial_id -> the trial's name in the store.
            sequential: Whether seeds were added because of results.
            also: By each extractor that a question names, the same as `protocols`.
        """
        cells = [
            {
                "arm": run.arm,
                "seed": run.seed,
                "trial_id": stored_name(run.spec.trial_id),
                "protocol_id": protocols[run.spec.data_fingerprint],
                **({"also": {by: one[run.spec.data_fingerprint] for by, one in also.items()}} if also else {}),
            }
            for run in self.runs
        ]
        return {
            "protocol_id": cells[0]["protocol_id"],
            "sequential": sequential,
            **({"file": self.design.file} if self.design.file else {}),
            **({"chosen": dict(self.design.chosen)} if self.design.chosen else {}),
            "cells": cells,
            "ceilings": {name: stored_name(spec.trial_id) for name, spec in self.untrained.items()},
        }

    def bytes_left(self) -> int:
        """What data, pending trials and untrained baselines will leave on disk, in bytes, at most."""
        arms = {spec.trial_id: baseline for baseline, spec in self.untrained.items()}
        arms |= {run.spec.trial_id: run.arm for run in self.runs}
        return self.bytes_of_data + sum(self.bytes_of[arm] for i, arm in arms.items() if i not in self.done)

    def seconds_left(self, workers: int | None) -> float:
        """A rough guess at the wall-clock time of what is pending; None workers count as one."""
        takes = [self.core_seconds.seconds[run.arm] for run in self.pending()]
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


def require_gpus(cluster: Cluster) -> None:
    """Refuse GPUs for trials where this machine has none; what a cluster has, its head knows."""
    if cluster.gpus_per_trial and not cluster.address and not torch.cuda.device_count():
        raise UserError(
            f"gpus_per_trial={cluster.gpus_per_trial:g}: torch sees no GPU on this machine; leave it out, and trials "
            "run on processors"
        )


def make_plan(study: Study, profile_name: str, seeds: Seeds, store: Store | None) -> Plan:
    """Expand the study and look up what the store holds. Refuses every arm that could not be run.

    Without a store nothing is downloaded, and data that would have to be are taken for large enough.

    Raises:
        UserError: an unknown profile, data that cannot be had or that the profile's extractor cannot learn from, or
            a spec or network that is refused.
    """
    design = study.at(profile_name)
    profile = design.profile
    require_samples(profile.num_generated)
    places = [(f"profile {profile.name!r}", [profile.extractor] * bool(profile.extractor))]
    places += [(f"the metrics of study {study.name!r}", extractors_named(design.questions))]
    places += [(f"the published values of study {study.name!r}", [split(one.metric)[1] for one in design.published])]
    for place, names in places:
        for name in filter(None, names):
            if name not in EXTRACTORS:
                raise unknown_name(f"extractor in {place}:", name, EXTRACTORS)
    with tempfile.TemporaryDirectory() as scratch:
        cache = store.cache if store is not None else Path(scratch)

        num_images: dict[str, int] = {}  # by fingerprint, where known
        bytes_of_data: dict[str, int] = {}
        data_lines: dict[tuple[str, int, int], list[str]] = {}
        by_default: dict[str, str] = {}  # fingerprint -> network
        learning: dict[str, float] = {}

        def fingerprint(dataset: str, resolution: int, channels: int) -> str:
            if store is None and is_downloaded(dataset):
                return "0" * 16  # nothing to look up, and nowhere to keep a download
            told_below = warnings.catch_warnings(action="ignore") if store is None else nullcontext()
            with told_below:
                data = prepare(dataset, resolution=resolution, channels=channels, cache=cache)
            for name in (profile.extractor, *extractors_named(design.questions)):
                require_labels(name, data)
            num_images[data.fingerprint] = len(data.images("train"))
            by_default[data.fingerprint] = default_extractor(data)
            kept = store.layout.extractors if store is not None else Path(scratch)
            what = f"a classifier learns {dataset} at {resolution}×{resolution}×{channels}"
            learning[what] = seconds_to_learn(data, kept)
            if store is None:  # else they are there already
                bytes_of_data[data.fingerprint] = sum(path.stat().st_size for path in data.folder.iterdir())
            data_lines.setdefault((dataset, resolution, channels), short_lines(data))
            return data.fingerprint

        runs = design.runs(seeds, fingerprint)
    bytes_of, weights = _refuse_impossible(runs, num_images)
    untrained = {
        run.arm: replace(run.spec, kimg=0.0)
        for run in reversed(runs)
        if run.arm in study.baselines and study.scores_untrained and run.spec.world_size == 1
    }
    wanted = {spec.trial_id for spec in (*(run.spec for run in runs), *untrained.values())}
    done = set() if store is None else {i for i in wanted if store.status(i) in ("ok", "diverged")}
    last, moved_from = {}, ""
    if store is not None:
        pictures = {run.spec.data_fingerprint for run in runs}
        moved_from = profile_of_same_pictures(store.layout, study.name, profile.name, pictures)
        last = _last_plan(store, study.name, moved_from or profile.name)
    file = last.get("file", design.file)
    named = extractors_named(design.questions)
    own = [profile.extractor] if profile.extractor else list(dict.fromkeys(by_default.values()))
    scored = {*own, *next((cell.get("also", {}) for cell in last.get("cells", [])), {})} if last else set()
    real = 2 * profile.num_generated
    return Plan(
        design=design,
        runs=runs,
        untrained=untrained,
        done=done,
        core_seconds=estimate(runs, weights, profile, store, [*own[:1], *(n for n in named if n not in own)]),
        bytes_of=bytes_of,
        left_behind=len(left_behind(store, last, runs)) if store is not None and last else 0,
        seeds_before=seeds_before(store, last, runs) if store is not None and last else 0,
        other_file=file if file != design.file else "",
        moved_from=moved_from,
        scored_otherwise={} if store is None else scored_otherwise(store, last, study.own_code),
        beforehand=learning
        | {f"{n} scores the real images": feature_seconds(n, real) for n in [*own, *named] if n not in scored},
        data_lines=[line for lines in data_lines.values() for line in lines],
        bytes_of_data=sum(bytes_of_data.values()),
    )


def describe(plan: Plan, workers: int, downloads: Path) -> list[str]:
    """The plan for people, line by line.

    Args:
        plan: What a run would do.
        workers: Trials at once.
        downloads: Where data sets that are downloaded go.
    """
    arms, seeds, pending = plan.arms, {run.seed for run in plan.runs}, plan.pending()
    named = extractors_named(plan.design.questions)
    sizes = f"{count(len(arms), 'arm')} × {count(len(seeds), 'seed')} = {count(len(plan.trained), 'trial')}"
    downloaded = sorted({run.spec.dataset for run in plan.runs if is_downloaded(run.spec.dataset)})
    on_disk = f"beside features and {' and '.join(downloaded)}" if downloaded else "with the data, beside features"
    unscored = sum(spec.trial_id not in plan.done for spec in plan.untrained.values())
    besides = f"; and {count(unscored, 'untrained generator')} to score" if unscored else ""
    lines = [f"{sizes}, {len(plan.trained) - len(pending)} of them done{besides}"]
    lines += what_changes(plan)
    if pending:
        kimg = f"{sum(run.spec.kimg for run in pending):,.1f}".removesuffix(".0")
        measured = plan.core_seconds.measured
        left = plan.seconds_left(workers) + sum(plan.beforehand.values())
        source = f"as like trials of {measured} of {count(len(arms), 'arm')} took here" if measured else GUESS
        lines += [
            f"{kimg} kimg to train on, {count(plan.design.profile.num_generated, 'image')} scored per trial",
            f"about {duration(left)} with {count(workers, 'trial')} at once ({source})",
            *[
                f"about {duration(took)} of that before the first trial: {what}"
                for what, took in plan.beforehand.items()
                if took >= WORTH_SAYING
            ],
            f"about {plan.bytes_left() / 2**20:,.0f} MiB on disk, {on_disk}",
            *[f"scored by {', '.join(named)}, as questions name their features"] * bool(named),
            *_downloads([plan.design.profile.extractor, *named]),
        ]
    else:
        lines.append("nothing to train" if plan.scored_otherwise else "nothing to run")
    lines += [*plan.data_lines, *(f"{dataset} is downloaded once, into {downloads}" for dataset in downloaded)]
    width = min(max(map(len, arms)), LONGEST_ARM)
    for arm in arms:
        runs = [run for run in plan.runs if run.arm == arm]
        finished = sum(run.spec.trial_id in plan.done for run in runs)
        takes = duration(plan.core_seconds.seconds[arm])
        lines += [arm] * (len(arm) > width)
        head = "" if len(arm) > width else arm
        lines.append(f"{head:<{width}}  {finished}/{len(runs)} done, {runs[0].spec.kimg:g} kimg and {takes} each")
    return [f"{plan.design.name} ({plan.design.profile.name}): {plan.design.title}", *(f"  {line}" for line in lines)]


def _downloads(networks: list[str]) -> Iterator[str]:
    """A line for each published network that a run would first fetch, or could not."""
    for name in dict.fromkeys(networks):
        try:
            if address := to_download(name):
                yield f"{name} is downloaded once, from {address}"
        except UserError as error:  # a run may be given another file
            yield f"{name} cannot be had as things stand: {error}"


def what_changes(plan: Plan) -> list[str]:
    """What a person is told of what the study left here that it will no longer use."""
    lines, number = [], plan.left_behind
    if plan.moved_from:
        lines.append(
            f"these pictures were run here as {plan.moved_from}: a run goes on from there; `report` knows them by "
            f"that name until then"
        )
    if plan.other_file:
        lines.append(
            f"{plan.design.name} was run here from another file, {plan.other_file}, whose plan and report give way to "
            f"this one's (trials stay); give one of the two studies another name, or a store of its own, to keep both"
        )
    if number:
        lines.append(
            f"{count(number, 'finished trial')} {agreeing(number, 'was', 'were')} made from an earlier version of this "
            f"study's code, data or settings: kept, and no longer used"
        )
    if before := plan.seeds_before:
        now = len({run.seed for run in plan.runs})
        lines.append(
            f"the last run had {before} seeds an arm: those beyond {now} are kept, and left out of the report from now "
            f"on; `--seeds {before}` takes them in again"
        )
    for name, scores in plan.scored_otherwise.items():
        lines.append(
            f"{count(scores, 'score')} by {name} {agreeing(scores, 'is', 'are')} of another version of it, in code or "
            f"weights: `run` scores the trials anew, and trains none for that"
        )
    return lines


def go_on(plan: Plan, store: Store, say: Callable[[str], None]) -> None:
    """Say what changes, and take over the last plan on the same pictures, which gives way where its folder is gone."""
    for line in what_changes(plan):
        say(line)
    study, before = plan.design.name, plan.moved_from
    if before and (last := _last_plan(store, study, before)):
        store.write_plan(study, plan.design.profile.name, last)
        if not os.path.exists(before.partition(FOLDER)[2]):
            remove_plan(store.layout, study, before)


def announce(
    plan: Plan,
    pending: list[TrialSpec],
    store: Store,
    workers: int | None,
    say: Callable[[str], None],
    cluster: Cluster,
) -> None:
    """Say what is about to run."""
    to_train = [spec for spec in pending if store.status(spec.trial_id) != "ok"]
    if unscored := len(pending) - len(to_train):  # under another protocol, perhaps by other versions of the libraries
        have = agreeing(unscored, "has", "have")
        say(f"{count(unscored, 'finished trial')} {have} no scores under this protocol; scoring, not training")
    if to_train:
        trained = sum(spec.trial_id in plan.trained for spec in to_train)
        others = len(to_train) - trained
        untrained = f"and {count(others, 'untrained generator')} to score, " if others else ""
        at_once = f"as many at once as {cluster.address} has room for"
        if workers:
            at_once = f"{workers} at once, roughly {duration(plan.seconds_left(workers))}"
        of = count(len(plan.trained), "trial")
        say(f"{plan.design.name} ({plan.design.profile.name}): {trained} of {of} to run, {untrained}{at_once}")


def require_samples(number: int) -> None:
    """Refuse to score by fewer samples than the scores are defined for, or by more than anybody waits for."""
    if not FEWEST_SAMPLES <= number <= MOST_SAMPLES:
        allowed = f"{FEWEST_SAMPLES} to {MOST_SAMPLES:,}"
        raise UserError(f"num_generated={number} is out of range; allowed: {allowed}")


def _last_plan(store: Store, study: str, profile: str) -> dict[str, Any]:
    """What the store has as the study's plan; empty where it has none."""
    try:
        return store.read_plan(study, profile) or {}
    except Damaged:  # a run says so, and quarantines it
        return {}


def _refuse_impossible(runs: list[Run], num_images: Mapping[str, int]) -> tuple[dict[str, int], dict[str, float]]:
    """Refuse an arm whose networks cannot be built, or whose batch is larger than its data. Takes no memory.

    Returns:
        arm -> bytes that a trial takes on disk; arm -> what it costs by arithmetic.
    """
    bytes_of, weights = {}, {}
    for run in runs:
        if run.arm not in bytes_of:
            try:
                watched = refusing_files(f"arm {run.arm!r}") if run.spec.code else nullcontext()
                with watched, torch.device("meta"):
                    gan = build_networks(run.spec)
            except ValueError as error:
                raise UserError(f"arm {run.arm!r} cannot be built: {error}") from None
            available = num_images.get(run.spec.data_fingerprint, run.spec.batch_size)
            if run.spec.batch_size > available:
                raise UserError(
                    f"arm {run.arm!r}: batch_size={run.spec.batch_size} is out of range; allowed: at most "
                    f"{available}, the training images of {run.spec.dataset}"
                )
            bytes_of[run.arm], weights[run.arm] = _bytes_of_trial(run.spec, gan), arithmetic(run.spec, gan)
    return bytes_of, weights


def _bytes_of_trial(spec: TrialSpec, gan: GanPair) -> int:
    """What a trial leaves: G twice (its moving average is the second), D, a picture, small files."""
    g, d = (sum(v.numel() for v in net.state_dict().values()) for net in (gan.generator, gan.discriminator))
    return (2 * g + d) * FLOAT + picture_bytes(spec.resolution, spec.channels) + SMALL_FILES
