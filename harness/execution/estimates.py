"""How long the trials of a plan will take: as like trials in the store took, else by their networks' arithmetic."""

import contextlib
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

import architectures
from architectures import GanPair
from harness.design import Run
from harness.spec import TrialSpec
from harness.storage.records import Damaged
from harness.storage.store import Store
from harness.study import Profile
from harness.training.loop import build_networks

LOOKED_AT = 400
"""Stored trials that are looked at, at most, spread over the store."""

OUTSIDE = 3.0
"""Seconds of a trial outside its training: the start, the scores, the files."""

PACE = {"dc": (0.434, 80e9), "fc": (0.014, 39e9)}
"""Architecture -> (seconds per thousand images beside the arithmetic, floating-point operations per second), one core.

Fitted to the CPU seconds of 565 laptop trials (2026-11-27, an AMD EPYC with other work on it): half of them within 8%,
nine of ten within 18%."""

OWN_PACE = (0.2, 55e9)
"""Of networks that are the user's own: between those two."""

FEATURES_PER_SECOND = {"imagenet-lite0": 200.0, "inception-v3": 6.0, "dinov2": 1.5, "dinov2-vit-l": 0.4, "clip": 8.0}
"""Images that a feature network takes on one core: the first two measured, the others as their arithmetic is to the
second's. Classifiers take thousands, which OUTSIDE holds; a network of the user's own is taken for one of these."""

WORTH_SAYING = 5.0
"""Seconds of preparation from which on it is spoken of."""

COMPARABLE = 3.0
"""Trials whose arithmetic is at most so many times another's tell how fast a machine is at that other's."""

COST_FIELDS = (
    *("architecture", "resolution", "channels", "latent_dim", "generator_depth", "generator_width", "generator_norm"),
    *("generator_dropout", "discriminator_depth", "discriminator_width", "discriminator_norm", "discriminator_dropout"),
    *("batch_size", "kimg", "generator_steps", "discriminator_steps", "mixed_batches", "augmentation", "world_size"),
    *("fresh_latents", "number_format", "penalty_interval"),
)
PENALTIES = ("r1_gamma", "r2_gamma", "gradient_penalty")
"""Trials that agree in the first, and in which of the second and whether instance noise are on, take equally long."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds on one core of one trial of each arm, and how many of the arms have like trials in the store."""

    seconds: Mapping[str, float]
    measured: int


def estimate(
    runs: list[Run], weights: Mapping[str, float], profile: Profile, store: Store | None, scored_by: Sequence[str] = ()
) -> Estimate:
    """What one trial of each arm takes: the same for the same trial and store, whatever else is planned with it.

    An arm with like trials in the store takes their median. Another takes what arithmetic says, scaled as that of
    comparable trials in the store turned out to be; on a GPU, of which arithmetic knows nothing, the profile's guess.

    Args:
        runs: The plan's.
        weights: Arm -> what its trials cost by `arithmetic`.
        profile: Whose guess holds on a GPU until there are measurements.
        store: Where finished trials are.
        scored_by: The networks whose features score a trial, the profile's own first.
    """
    own, *others = (feature_seconds(name, profile.num_generated) for name in scored_by or ("",))
    specs = {run.arm: run.spec for run in reversed(runs)}
    took = _seconds_of(store)
    known = {arm: took[_like(spec)][0] for arm, spec in specs.items() if _like(spec) in took}
    paces = _paces(took)
    guessed = {
        arm: profile.core_seconds_per_trial
        if torch.cuda.device_count()
        else own + weights[arm] * _scale(weights[arm], paces)
        for arm in specs
    }
    seconds = {arm: took + sum(others) for arm, took in {**guessed, **known}.items()}  # which a trial's time leaves out
    return Estimate(seconds=seconds, measured=len(known))


def feature_seconds(extractor: str, images: int) -> float:
    """Seconds on one core for the features of so many images; 0 where they are too quick, or run on a GPU."""
    return 0.0 if torch.cuda.device_count() else images / FEATURES_PER_SECOND.get(extractor, math.inf)


def arithmetic(spec: TrialSpec, gan: GanPair) -> float:
    """Seconds that the published trials' machine would take; the networks may lie on the meta device."""
    per_kimg, rate = PACE.get(spec.architecture, OWN_PACE)
    with torch.no_grad():
        g = architectures.flops_per_image(gan.generator, (spec.latent_dim,))
        d = architectures.flops_per_image(gan.discriminator, (spec.channels, spec.resolution, spec.resolution))
    # A backward pass costs two forward passes. D sees real and fake images; G's gradient goes through D. A penalty is a
    # pass through D, one back to its images, and twice as much back through both; fresh latents are a pass through G.
    penalties = sum(getattr(spec, name) > 0 for name in PENALTIES) / spec.penalty_interval
    a_step = 3 * (2 * spec.discriminator_steps * d + spec.generator_steps * (g + d))
    a_step += 6 * spec.discriminator_steps * penalties * d + spec.fresh_latents * g
    return OUTSIDE + (per_kimg / 1000 + a_step / rate) * spec.num_steps * spec.batch_size


def _like(spec: TrialSpec) -> tuple[object, ...]:
    switches = (*PENALTIES, "instance_noise")
    return (*(getattr(spec, name) for name in COST_FIELDS), *(getattr(spec, name) > 0 for name in switches))


def _scale(weight: float, paces: list[tuple[float, float]]) -> float:
    """How many times its arithmetic a trial takes here, by those that are comparable; 1 where none is."""
    comparable = [took / other for other, took in paces if max(other / weight, weight / other) <= COMPARABLE]
    return statistics.median(comparable) if comparable else 1.0


def _paces(took: Mapping[tuple[object, ...], tuple[float, TrialSpec]]) -> list[tuple[float, float]]:
    """(by arithmetic, measured) seconds of each kind of stored trial whose networks are at hand."""
    found = []
    for seconds, spec in took.values():
        if spec.architecture in architectures.ARCHITECTURES:
            with torch.device("meta"):
                found.append((arithmetic(spec, build_networks(spec)), seconds))
    return found


def _seconds_of(store: Store | None) -> dict[tuple[object, ...], tuple[float, TrialSpec]]:
    """Median seconds of the finished trials in the store, by what they have in common, and one of them."""
    found: dict[tuple[object, ...], list[tuple[float, TrialSpec]]] = defaultdict(list)
    trial_ids = store.trial_ids() if store is not None else []
    for trial_id in trial_ids[:: len(trial_ids) // LOOKED_AT + 1]:
        assert store is not None
        with contextlib.suppress(Damaged, FileNotFoundError):  # not a plan's to tell: a run quarantines them
            result = store.read_result(trial_id)
            if result["status"] == "ok":
                spec = store.read_spec(trial_id)
                found[_like(spec)].append((result["cost"]["seconds"], spec))
    return {like: (statistics.median(took for took, _ in each), each[0][1]) for like, each in found.items()}
