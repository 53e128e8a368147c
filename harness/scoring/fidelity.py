"""Final scores through torch-fidelity; its only importer.

What the library leaves to its caller is done here: latents of another scale than 1, finiteness, rounding to uint8,
cache names that carry content, and the refusal of misspelt options, which it would ignore.
"""

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import Dataset
from torch_fidelity import (
    FeatureExtractorBase,
    GenerativeModelModuleWrapper,
    calculate_metrics,
    register_feature_extractor,
)
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from harness.data import PreparedData
from harness.errors import UserError
from harness.files import file_checksum, write_file
from harness.scoring.extractors import FEATURE_DIM, Extractor, Pretrained
from harness.sources import split_subset
from harness.spec import ScoreProtocol
from harness.storage.layout import cache_folder

SCORES = {  # torch-fidelity's name -> ours
    "frechet_inception_distance": "fid",
    "inception_score_mean": "is_mean",
    "inception_score_std": "is_std",  # over splits of one sample, not over seeds
    "kernel_inception_distance_mean": "kid",
    "kernel_inception_distance_std": "kid_subset_std",  # over overlapping subsets: not a standard error
    "precision": "precision",
    "recall": "recall",
}


class NonFiniteSamples(FloatingPointError):
    """The generator made images that are not finite. An outcome of the trial, not an error of the program."""


def make_protocol(extractor: Extractor, data: PreparedData, *, num_generated: int) -> ScoreProtocol:
    """The protocol for scoring `num_generated` samples against as many reference images, or all there are.

    KID's gamma: Bińkowski et al. 2018 take 1 / dimension, for features of unit scale, and so do published KIDs. A
    classifier's features may have any scale, which is divided out.
    """
    reference = data.images("reference")[:num_generated]
    published: dict[str, Any] = {}
    if pretrained := extractor.pretrained:
        published = {"feature_layer": pretrained.layer, "preparation": _preparation(pretrained, data)}
    dim, rms = (pretrained.dim, 1.0) if pretrained else (FEATURE_DIM, extractor.feature_rms)
    return ScoreProtocol(
        extractor=extractor.name,
        extractor_hash=extractor.weights_hash,
        reference=f"{split_subset(data.dataset)[0]}/reference",  # the same whatever part of the training images is used
        reference_hash=hashlib.sha256(np.ascontiguousarray(reference).tobytes()).hexdigest()[:16],
        num_reference=len(reference),
        num_generated=num_generated,
        resolution=data.resolution,
        channels=data.channels,
        kid_subset_size=min(1000, min(len(reference), num_generated) // 2),
        kid_gamma=1 / (dim * rms**2),
        **published,
        versions=tuple((name, version(name)) for name in ("torch", "torch-fidelity", "numpy")),
    )


def _preparation(pretrained: Pretrained, data: PreparedData) -> str:
    """In words, what becomes of the images on their way into the network."""
    tiled = "grey tiled to RGB, " if data.channels == 1 else ""
    shrunk = (
        f"antialiased bicubic to {pretrained.side}, rounded to uint8, " if data.resolution > pretrained.side else ""
    )
    return f"{tiled}{shrunk}bilinear as in TensorFlow 1 to {pretrained.side}"


def prepare_reference(
    protocol: ScoreProtocol, extractor: Extractor, data: PreparedData, cache: Path
) -> dict[str, float]:
    """The floor: scores of real training images against the reference; keeps the reference's features on the way.

    The same keys as `score_generator`, and `num_images`, how many real images there were to score.
    """
    real = _Images(data.images("train")[: protocol.num_generated])
    device, batch_size = ("cuda" if torch.cuda.is_available() else "cpu"), (50 if extractor.pretrained else 250)
    scores = _calculate(real, protocol, extractor, data, cache, device, batch_size)
    return {**scores, "num_images": float(len(real))}


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
) -> dict[str, float]:
    """Score a generator: fid ↓, is_mean ↑, kid ↓, precision ↑, recall ↑ and the spreads that the library gives.

    Also fid_at_<N> for the first half and quarter of the samples, against the whole reference: how much of the FID is
    the bias of its sample size. No inception score by networks that classify nothing.

    Args:
        generator: latents (N, latent_dim) -> images (N, C, H, W) in [-1, 1]; put into eval mode and back.
        latent_dim: Size of the latent vector.
        latent_std: Standard deviation of the latents; the library draws N(0, 1), the same for every trial.
        protocol: What to compute, and against what.
        extractor: The protocol's feature network.
        data: The protocol's reference images.
        cache: Where reference features are kept.
        device: Where to compute.
        batch_size: Images at once.

    Raises:
        NonFiniteSamples: some sample is not finite.
    """
    was_training = generator.training
    model = GenerativeModelModuleWrapper(_Uint8Samples(generator, latent_std), latent_dim, "normal", 0)
    try:
        with torch.no_grad():
            return _calculate(model, protocol, extractor, data, cache, device, batch_size)
    finally:
        generator.train(was_training)


def _calculate(
    samples: Any,
    protocol: ScoreProtocol,
    extractor: Extractor,
    data: PreparedData,
    cache: Path,
    device: str,
    batch_size: int,
) -> dict[str, float]:
    seen = _register(extractor)
    seen.clear()
    has_logits = extractor.pretrained is None or bool(extractor.pretrained.logits)
    features_folder = cache_folder(cache, "features")
    reference_name = f"{protocol.reference_hash}-{protocol.num_reference}"
    reference = _Images(data.images("reference")[: protocol.num_reference])
    options: dict[str, Any] = {
        "input1": samples,
        "input1_model_num_samples": protocol.num_generated,
        "input2": reference,
        # The library's cache knows no content, only names.
        "input2_cache_name": reference_name,
        "feature_extractor": extractor.registered_name,
        "feature_extractor_weights_path": str(extractor.weights_path),
        "cache_root": str(features_folder),
        "isc": has_logits,
        "fid": True,
        "kid": True,
        "prc": True,
        "isc_splits": protocol.inception_splits,
        "kid_subsets": protocol.kid_subsets,
        "kid_subset_size": protocol.kid_subset_size,
        "kid_kernel_poly_gamma": protocol.kid_gamma,
        "prc_neighborhood": protocol.nearest_neighbours,
        "rng_seed": protocol.latent_seed,
        "batch_size": batch_size,
        "save_cpu_ram": True,
        "cuda": device != "cpu",
        "verbose": False,
    }
    unknown = sorted(options.keys() - DEFAULTS.keys())
    if unknown:
        raise AssertionError(f"torch-fidelity knows no {', '.join(unknown)}, and would ignore it")
    prefix = f"{reference_name}-{extractor.registered_name}-"
    with torch.random.fork_rng(), _files_run_nothing():
        _drop_damaged(features_folder, prefix)
        found = calculate_metrics(**options)
        _seal(features_folder, prefix)
        statistics_file = features_folder / f"{prefix}stat-fid-{_layer(extractor)}.pt"
        reference_statistics = torch.load(statistics_file, map_location="cpu")
    scores = {ours: float(found[theirs]) for theirs, ours in SCORES.items() if theirs in found}
    number = len(samples) if isinstance(samples, _Images) else protocol.num_generated
    features = torch.cat(seen)[:number]  # the library looks at the samples before the reference
    seen.clear()
    for part in (number // 4, number // 2):
        if part > 1:
            statistics = fid_features_to_statistics(features[:part])
            found = fid_statistics_to_metric(statistics, reference_statistics, False)
            scores[f"fid_at_{part}"] = float(found[KEY_METRIC_FID])
    return scores


_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@contextmanager
def _files_run_nothing() -> Iterator[None]:
    """Let torch.load give tensors and arrays alone, whatever its caller asks for.

    The library loads what it cached with weights_only=False, as pickles that may run anything; this overrules it.
    """
    before = os.environ.get(_WEIGHTS_ONLY)
    os.environ[_WEIGHTS_ONLY] = "1"
    arrays = [np.ndarray, np.dtype, type(np.dtype(np.float64)), np.array(0.0).__reduce__()[0]]
    try:
        with torch.serialization.safe_globals(arrays):
            yield
    finally:
        os.environ.pop(_WEIGHTS_ONLY)
        if before is not None:
            os.environ[_WEIGHTS_ONLY] = before


def _drop_damaged(features: Path, prefix: str) -> None:
    """Delete what is not as it was written, so that the library makes it again; what has no seal must be readable."""
    for path in features.glob(f"{prefix}*.pt"):
        seal = path.with_suffix(".sha256")
        try:
            if seal.exists():
                sound = seal.read_text() == file_checksum(path)
            else:
                sound = torch.load(path, map_location="cpu", mmap=True) is not None
        except Exception:  # noqa: BLE001  whatever is wrong with it
            sound = False
        if not sound:
            seal.unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _seal(features: Path, prefix: str) -> None:
    """Note the checksums of what the library has just kept: the library has none, and would take any bits."""
    for path in features.glob(f"{prefix}*.pt"):
        seal = path.with_suffix(".sha256")
        if not seal.exists():
            write_file(seal, file_checksum(path).encode())


def _layer(extractor: Extractor) -> str:
    return extractor.pretrained.layer if extractor.pretrained else "pool"


class _Uint8Samples(nn.Module):
    """latents from N(0, 1) -> uint8 images, scaled and checked."""

    def __init__(self, generator: nn.Module, latent_std: float) -> None:
        super().__init__()
        self.generator, self.latent_std = generator, latent_std

    def forward(self, latents: Tensor) -> Tensor:
        images = self.generator(latents * self.latent_std)
        if not torch.isfinite(images).all():  # as uint8 a NaN could pass for black
            raise NonFiniteSamples("the generator's samples are not finite")
        return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


class _Images(Dataset):
    """uint8 images (N, C, H, W) as the library wants them."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self.images[index]))


def _register(extractor: Extractor) -> list[Tensor]:
    """Make the extractor known to torch-fidelity in this process, once; returns where its features are noted."""
    name, pretrained = extractor.registered_name, extractor.pretrained
    if name in FEATURE_EXTRACTORS_REGISTRY:
        return FEATURE_EXTRACTORS_REGISTRY[name].seen
    layer = _layer(extractor)
    logits = pretrained.logits if pretrained else "logits"

    class Features(FeatureExtractorBase):
        """Ours or the library's own network behind the library's interface, for images of any size and channels.

        Features leave as doubles, because the library takes means in the features' own precision.
        """

        seen: ClassVar[list[Tensor]] = []

        def __init__(self, name: str, features_list: list[str], **options: Any) -> None:
            super().__init__(name, features_list)
            self.network = extractor.load() if pretrained is None else _load(extractor, pretrained, features_list)

        def forward(self, input: Tensor) -> tuple[Tensor, ...]:
            if pretrained is None:
                found = dict(zip((layer, logits), self.network(input), strict=True))
            else:
                values = self.network(_fitted(input, pretrained.side))
                found = {key: value.double() for key, value in zip(self.features_list, values, strict=True)}
            self.seen.append(found[layer].cpu())
            return tuple(found[key] for key in self.features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return (layer, logits) if logits else (layer,)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return logits if metric == "isc" else layer

        @staticmethod
        def can_be_compiled() -> bool:
            return False

    register_feature_extractor(name, Features)
    return Features.seen


def _load(extractor: Extractor, pretrained: Pretrained, layers: list[str]) -> nn.Module:
    path = None if pretrained.hub else str(extractor.weights_path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript, the format of CLIP's weights, is deprecated
            kind = FEATURE_EXTRACTORS_REGISTRY[pretrained.served_as]
            return kind(pretrained.served_as, layers, feature_extractor_weights_path=path, verbose=False)
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{extractor.weights_path} does not hold the weights of {pretrained.served_as}: {reason}"
        ) from None


def _fitted(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W) uint8 -> (N, 3, H', W') uint8 of at most `side`: the library shrinks with aliasing."""
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    if images.shape[2] > side:
        shrunk = interpolate(images.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
        images = shrunk.round().clamp(0, 255).to(torch.uint8)
    return images
