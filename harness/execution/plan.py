"""What a run would do: the trials of a study, what the store holds of them, and what is left to pay."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch

from architectures import GanPair
from harness.analysis.wording import count
from harness.data import prepare
from harness.errors import UserError
from harness.execution.cluster import HERE, Cluster
from harness.execution.estimates import Estimate, arithmetic, estimate
from harness.execution.machine import processors, trials_in_memory
from harness.inspection import short_lines
from harness.scoring.extractors import require_labels
from harness.sources import is_downloaded
from harness.spec import TrialSpec
from harness.storage.records import Damaged
from harness.storage.samples import picture_bytes
from harness.storage.store import Store
from harness.study import Cell, Profile, Study
from harness.training.loop import build_networks

FLOAT = 4  # bytes of a weight
SMALL_FILES = 64 * 2**10
"""What a trial takes on disk beside weights and picture, in bytes: JSON, curves, and what files are rounded up to."""

FEWEST_SAMPLES = 20
"""Two for each of the ten splits of the inception score."""

Seeds: TypeAlias = int | Mapping[str, int] | None
"""Replicates an arm, or of each arm by name; None for the profile's own number."""


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
    return (2 * g + d) * FLOAT + picture_bytes(spec.resolution, spec.channels) + SMALL_FILES
