"""Final scores through torch-fidelity, whose own functions make them of features; its networks are in networks.py.

What it does around them is done here, since its options are not checked, its caches know names and no content, and a
NaN among samples could pass for black. tests/scoring/test_scoring.py holds every score to what `calculate_metrics`
gives.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache as cache_calls
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from harness.data import PreparedData
from harness.scoring.extractors import Extractor, Pretrained
from harness.scoring.features import NEAREST, density_and_coverage, memorization, modes_and_kl
from harness.scoring.kept import cached, kept_file, moments_are_gone
from harness.scoring.moments import MOMENTS, Moments
from harness.scoring.networks import FeatureNetwork, feature_network
from harness.scoring.sampling import latents, to_uint8
from harness.sources import split_subset
from harness.spec import ScoreProtocol

SCORES = {  # torch-fidelity's name -> ours
    KEY_METRIC_FID: "fid",
    "inception_score_mean": "is_mean",
    "inception_score_std": "is_std",  # over splits of one sample, not over seeds
    "kernel_inception_distance_mean": "kid",
    "kernel_inception_distance_std": "kid_subset_std",  # over overlapping subsets: not a standard error
    "precision": "precision",
    "recall": "recall",
}

KID_AT_ONCE = 2000
"""So many images make one U-statistic of KID; of more, the mean of the library's subsets is taken."""


class NonFiniteSamples(FloatingPointError):
    """The generator made images that are not finite. An outcome of the trial, not an error of the program."""


def make_protocol(
    extractor: Extractor, data: PreparedData, *, num_generated: int, moments: Moments | None = None
) -> ScoreProtocol:
    """The protocol for scoring `num_generated` samples against as many reference images, or all there are.

    Or against moments: of how many images these are is not known, and what is no FID or IS is not scored.

    KID is of all images at once where there are at most KID_AT_ONCE of each: a mean over subsets of them tells less and
    takes longer. Its gamma: Bińkowski et al. 2018 take 1 / dimension, for features of unit scale, and so do published
    KIDs. Other features may have any scale, which is divided out.
    """
    reference = data.images("reference")[:num_generated]
    published: dict[str, Any] = {}
    if pretrained := extractor.pretrained:
        published = {"feature_layer": pretrained.layer, "preparation": _preparation(pretrained, data)}
    rms = pretrained.rms if pretrained else extractor.feature_rms
    protocol = ScoreProtocol(
        extractor=extractor.name,
        extractor_hash=extractor.weights_hash,
        reference=f"{split_subset(data.dataset)[0]}/reference",  # the same whatever part of the training images is used
        reference_hash=hashlib.sha256(np.ascontiguousarray(reference).tobytes()).hexdigest()[:16],
        num_reference=len(reference),
        num_generated=num_generated,
        resolution=data.resolution,
        channels=data.channels,
        **_kid_subsets(min(len(reference), num_generated)),
        kid_gamma=1 / (extractor.dim * rms**2),
        **published,
    )
    if moments is None:
        return protocol
    return replace(protocol, reference=MOMENTS, reference_hash=moments.hash, num_reference=0, kid_subset_size=0)


def _kid_subsets(images: int) -> dict[str, int]:
    return {"kid_subset_size": 1000} if images > KID_AT_ONCE else {"kid_subset_size": images, "kid_subsets": 1}


def _preparation(pretrained: Pretrained, data: PreparedData) -> str:
    """In words, what becomes of the images on their way into the network."""
    tiled = "grey tiled to RGB, " if data.channels == 1 else ""
    shrinks = data.resolution > pretrained.side and not pretrained.by_timm
    shrunk = f"antialiased bicubic to {pretrained.side}, rounded to uint8, " if shrinks else ""
    return f"{tiled}{shrunk}{pretrained.resizing} to {pretrained.side}"


def prepare_reference(
    protocol: ScoreProtocol, extractor: Extractor, data: PreparedData, cache: Path
) -> dict[str, float]:
    """The real-vs-real reference: scores of real training images; writes the reference's features to the cache.

    The same keys as `score_generator`, and `num_images`, how many real images there were to score.
    """
    device, batch_size = ("cuda" if torch.cuda.is_available() else "cpu"), (250 if extractor.is_classifier else 50)
    real = data.images("train")[: protocol.num_generated]
    network = feature_network(extractor, device)
    found = _extract(network, _batches(real, batch_size, device))
    reference = _reference(network, protocol, extractor, data, cache, device, batch_size)
    few = replace(protocol, kid_subset_size=min(protocol.kid_subset_size, len(real)))  # KID's subsets are of both alike
    return {**_scores(found, replace(reference, train=None), few), "num_images": float(len(real))}


def score_generator(
    generator: nn.Module,
    *,
    latent_dim: int,
    latent_std: float,
    protocol: ScoreProtocol,
    extractor: Extractor,
    data: PreparedData,
    cache: Path,
    device: str = "cpu",
    batch_size: int = 250,
    raw: nn.Module | None = None,
) -> dict[str, float]:
    """Score a generator: everything of harness.metrics that is a score, and the spreads that the library gives.

    Also fid_at_<N> for the first half and quarter of the samples, against the whole reference: how much of the FID is
    the bias of its sample size. Networks that classify nothing give no inception score, and only the classifier modes.

    Args:
        generator: latents (N, latent_dim) -> images (N, C, H, W) in [-1, 1]; put into eval mode and back.
        latent_dim: Size of the latent vector.
        latent_std: Standard deviation of the latents; they are the library's N(0, 1), the same for every trial, scaled.
        protocol: What to compute, and against what.
        extractor: The protocol's feature network.
        data: The protocol's reference images.
        cache: Where reference features are kept.
        device: Where to compute.
        batch_size: Images at once.
        raw: The generator with the weights that no average was taken of, for `fid_raw`.

    Raises:
        NonFiniteSamples: some sample is not finite.
    """
    network = feature_network(extractor, device)
    reference = _reference(network, protocol, extractor, data, cache, device, batch_size)
    of = lambda g: _extract(network, _samples(g, latent_dim, latent_std, protocol, device, batch_size))  # noqa: E731
    scores = _scores(of(generator), reference, protocol)
    return scores if raw is None else {**scores, "fid_raw": _fid(of(raw)[0], reference)}


def _samples(
    generator: nn.Module, latent_dim: int, latent_std: float, protocol: ScoreProtocol, device: str, batch_size: int
) -> Iterator[Tensor]:
    """The protocol's samples as uint8 images, in batches."""
    was_training = generator.training
    generator.eval()
    try:
        for normal in latents(protocol.num_generated, latent_dim, protocol.latent_seed, batch_size):
            images = generator(normal.to(device) * latent_std)
            if not torch.isfinite(images).all():  # as uint8 a NaN could pass for black
                raise NonFiniteSamples("the generator's samples are not finite")
            yield to_uint8(images)
    finally:
        generator.train(was_training)


def score_images(
    network: FeatureNetwork, sets: Iterable[np.ndarray], others: np.ndarray, protocol: ScoreProtocol, device: str
) -> list[dict[str, float]]:
    """Scores of sets of uint8 images against others, by the protocol's numbers alone."""
    (theirs, *_), *made = (_extract(network, _batches(images, 50, device)) for images in (others, *sets))
    reference = _Reference(features=theirs, statistics=fid_features_to_statistics(theirs))
    return [_scores(each, reference, protocol) for each in made]


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """What samples are scored against."""

    statistics: dict[str, np.ndarray]  # mean and covariance of the features
    features: Tensor | None = None  # (N, D) of real images that nothing was trained on; None where moments are given
    classes: Tensor | None = None  # (C,) how many of them the classifier sees in each class
    train: Tensor | None = None  # (M, D) features of as many training images, or all there are


def _scores(made: tuple[Tensor, ...], reference: _Reference, protocol: ScoreProtocol) -> dict[str, float]:
    """All scores of what a FeatureNetwork made of images."""
    features, *logits = made
    found: dict[str, float] = {KEY_METRIC_FID: _fid(features, reference)}
    if logits:
        found |= isc_features_to_metric(logits[0], protocol.inception_splits, rng_seed=protocol.latent_seed)
    if (real := reference.features) is not None:
        found |= kid_features_to_metric(
            features,
            real,
            kid_subsets=protocol.kid_subsets,
            kid_subset_size=protocol.kid_subset_size,
            kid_kernel_poly_gamma=protocol.kid_gamma,
            rng_seed=protocol.latent_seed,
            verbose=False,
        )
        found |= prc_features_to_metric(
            features, real, prc_neighborhood=protocol.nearest_neighbours, save_cpu_ram=True, verbose=False
        )
    if protocol.kid_subsets == 1:
        found.pop("kernel_inception_distance_std", None)  # of one subset: nothing
    scores = {ours: float(found[theirs]) for theirs, ours in SCORES.items() if theirs in found}
    if real is not None and len(real) > NEAREST:
        scores["density"], scores["coverage"] = density_and_coverage(features, real)
    if real is not None and reference.train is not None:
        scores["memorization"] = memorization(features, reference.train, real[: len(reference.train)])
    if reference.classes is not None:
        scores["modes"], scores["mode_kl"] = modes_and_kl(logits[0].argmax(1), reference.classes)
    parts = [part for part in (len(features) // 4, len(features) // 2) if part > 1]
    return scores | {f"fid_at_{part}": _fid(features[:part], reference) for part in parts}


def _fid(features: Tensor, reference: _Reference) -> float:
    statistics = fid_features_to_statistics(features)
    return float(fid_statistics_to_metric(statistics, reference.statistics, verbose=False)[KEY_METRIC_FID])


def _extract(network: FeatureNetwork, batches: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """What the network makes of all images, on the CPU."""
    with torch.no_grad():
        found = [[part.cpu() for part in network(images)] for images in batches]
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def _batches(images: np.ndarray, size: int, device: str) -> Iterator[Tensor]:
    for start in range(0, len(images), size):
        yield torch.from_numpy(np.array(images[start : start + size])).to(device)


def _reference(
    network: FeatureNetwork,
    protocol: ScoreProtocol,
    extractor: Extractor,
    data: PreparedData,
    cache: Path,
    device: str,
    batch_size: int,
) -> _Reference:
    """The reference of a protocol; each of its parts is made once for its content."""
    place = partial(kept_file, protocol, extractor, cache)
    if protocol.reference == MOMENTS:
        return _Reference(statistics=cached(place("stat-fid"), moments_are_gone))

    @cache_calls
    def extracted(part: str) -> tuple[Tensor, ...]:
        return _extract(network, _batches(data.images(part)[: protocol.num_reference], batch_size, device))

    features = cached(place("features"), lambda: extracted("reference")[0])
    classes = None
    if extractor.is_classifier:
        seen = lambda: torch.bincount(extracted("reference")[1].argmax(1), minlength=extractor.num_classes)  # noqa: E731
        classes = cached(place("classes"), seen)
    return _Reference(
        features=features,
        statistics=cached(place("stat-fid"), lambda: fid_features_to_statistics(features)),
        classes=classes,
        train=cached(place(f"train-{data.fingerprint}"), lambda: extracted("train")[0]),
    )
