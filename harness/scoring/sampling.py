"""Samples of a generator as they are scored: which latents they come from, and how they become pixels."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

AT_ONCE = 100
"""Samples that go through a generator together where a small classifier scores them: what fits a processor's cache."""


def latents(number: int, latent_dim: int, seed: int, at_once: int = AT_ONCE) -> Iterator[Tensor]:
    """Standard normal (N, latent_dim) in batches of `at_once`, as torch-fidelity draws them: the same in any batches.

    Args:
        number: How many in all.
        latent_dim: Size of each.
        seed: From 0 to 2³² − 1; a protocol's `latent_seed` gives the latents of its scores.
        at_once: So many in a batch; the last one may be smaller.
    """
    numbers = np.random.RandomState(seed)
    for start in range(0, number, at_once):
        yield torch.from_numpy(numbers.randn(min(at_once, number - start), latent_dim)).float()


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as they are scored and shown: 0 to 255, rounded, what is outside cut off."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
