"""How long the trials of a plan will take: as like trials in the store took, else by their networks' arithmetic."""

import contextlib
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch

import architectures
from architectures import GanPair
from harness.design import Run
from harness.spec import TrialSpec
from harness.storage.records import Damaged
from harness.storage.store import Store
from harness.study import Profile

LOOKED_AT = 400
"""Stored trials that are looked at, at most, spread over the store."""

PACE = {"dc": (21.7, 64e9), "fc": (8.6, 53e9)}
"""Architecture -> (seconds outside training, floating-point operations a second) of one core.

Fitted to the 390 published laptop trials (reports/published, an AMD EPYC): half of them within 13%, nine of ten within
27%. A profile's guess sets the level; this says how its arms differ."""

OWN_PACE = (15.0, 58e9)
"""Of networks that are the user's own: between those two."""

COST_FIELDS = (
    *("architecture", "resolution", "channels", "latent_dim", "generator_depth", "generator_width", "generator_norm"),
    *("generator_dropout", "discriminator_depth", "discriminator_width", "discriminator_norm", "discriminator_dropout"),
    *("batch_size", "kimg", "generator_steps", "discriminator_steps", "mixed_batches", "augmentation", "world_size"),
)
PENALTIES = ("r1_gamma", "gradient_penalty", "instance_noise")
"""Trials that agree in the first, and in which of the second are on, take equally long."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds on one core of one trial of each arm, and how many of the arms have like trials in the store."""

    seconds: Mapping[str, float]
    measured: int


def estimate(runs: list[Run], weights: Mapping[str, float], profile: Profile, store: Store | None) -> Estimate:
    """What one trial of each arm takes.

    An arm with like trials in the store takes their median. The others keep their share of the profile's guess, scaled
    as the measured ones turned out to be.

    Args:
        runs: The plan's.
        weights: Arm -> what its trials cost by arithmetic, in any unit (`arithmetic`).
        profile: Whose guess holds until there are measurements.
        store: Where finished trials are.
    """
    specs = {run.arm: run.spec for run in reversed(runs)}
    mean = statistics.fmean(weights[run.arm] for run in runs)
    guessed = {arm: profile.core_seconds_per_trial * weights[arm] / mean for arm in specs}
    took = _seconds_of(store)
    known = {arm: took[_like(spec)] for arm, spec in specs.items() if _like(spec) in took}
    scale = statistics.median(known[arm] / guessed[arm] for arm in known) if known else 1.0
    return Estimate(seconds={arm: known.get(arm, guessed[arm] * scale) for arm in specs}, measured=len(known))


def arithmetic(spec: TrialSpec, gan: GanPair) -> float:
    """Seconds that the published trials' machine would take; the networks may lie on the meta device."""
    outside, rate = PACE.get(spec.architecture, OWN_PACE)
    with torch.no_grad():
        g = architectures.flops_per_image(gan.generator, (spec.latent_dim,))
        d = architectures.flops_per_image(gan.discriminator, (spec.channels, spec.resolution, spec.resolution))
    # A backward pass costs two forward passes. D sees real and fake images; G's gradient goes through D.
    a_step = 3 * (2 * spec.discriminator_steps * d + spec.generator_steps * (g + d))
    return outside + a_step * spec.num_steps * spec.batch_size / rate


def _like(spec: TrialSpec) -> tuple[object, ...]:
    return (*(getattr(spec, name) for name in COST_FIELDS), *(getattr(spec, name) > 0 for name in PENALTIES))


def _seconds_of(store: Store | None) -> dict[tuple[object, ...], float]:
    """Median seconds of the finished trials in the store, by what they have in common."""
    found: dict[tuple[object, ...], list[float]] = defaultdict(list)
    trial_ids = store.trial_ids() if store is not None else []
    for trial_id in trial_ids[:: len(trial_ids) // LOOKED_AT + 1]:
        assert store is not None
        with contextlib.suppress(Damaged, FileNotFoundError):  # not a plan's to tell: a run quarantines them
            result = store.read_result(trial_id)
            if result["status"] == "ok":
                found[_like(store.read_spec(trial_id))].append(result["cost"]["seconds"])
    return {like: statistics.median(seconds) for like, seconds in found.items()}
