"""Final scores through torch-fidelity; its only importer.

What the library leaves to its caller is done here: latents of another scale than 1, finiteness, rounding to uint8,
cache names that carry content, and the refusal of misspelt options, which it would ignore.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity import (
    FeatureExtractorBase,
    GenerativeModelModuleWrapper,
    calculate_metrics,
    register_feature_extractor,
)
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from harness.data import PreparedData, split_subset
from harness.scoring.extractors import FEATURE_DIM, Extractor
from harness.spec import ScoreProtocol

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
    """The protocol for scoring `num_generated` samples against as many reference images, or all there are."""
    reference = data.images("reference")[:num_generated]
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
        # Bińkowski et al. 2018 take 1 / dimension, for features of unit scale; a classifier's may have any.
        kid_gamma=1 / (FEATURE_DIM * extractor.feature_rms**2),
        versions=tuple((name, version(name)) for name in ("torch", "torch-fidelity", "numpy")),
    )


def prepare_reference(
    protocol: ScoreProtocol, extractor: Extractor, data: PreparedData, cache: Path
) -> dict[str, float]:
    """The floor: scores of real training images against the reference; keeps the reference's features on the way.

    The same keys as `score_generator`, and `num_images`, how many real images there were to score.
    """
    real = _Images(data.images("train")[: protocol.num_generated])
    scores = _calculate(real, protocol, extractor, data, cache, device="cpu", batch_size=250)
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
    _register(extractor)
    reference = _Images(data.images("reference")[: protocol.num_reference])
    options: dict[str, Any] = {
        "input1": samples,
        "input1_model_num_samples": protocol.num_generated,
        "input2": reference,
        # The library's cache knows no content, only names.
        "input2_cache_name": f"{protocol.reference_hash}-{protocol.num_reference}",
        "feature_extractor": extractor.registered_name,
        "feature_extractor_weights_path": str(extractor.weights_path),
        "cache_root": str(cache / "features"),
        "isc": True,
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
    with torch.random.fork_rng():
        found = calculate_metrics(**options)
    return {ours: float(found[theirs]) for theirs, ours in SCORES.items()}


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


def _register(extractor: Extractor) -> None:
    """Make the extractor known to torch-fidelity in this process, once."""
    if extractor.registered_name in FEATURE_EXTRACTORS_REGISTRY:
        return

    class Features(FeatureExtractorBase):
        """The classifier behind torch-fidelity's interface."""

        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)
            self.network = extractor.load()

        def forward(self, input: Tensor) -> tuple[Tensor, ...]:
            features, logits = self.network(input)
            found = {"pool": features, "logits": logits}
            return tuple(found[name] for name in self.features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "pool", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "pool"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

    register_feature_extractor(extractor.registered_name, Features)
