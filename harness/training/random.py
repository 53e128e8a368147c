"""Named random streams: a trial draws every number for one purpose from a generator of that purpose alone."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from harness.training.distributed import ALONE, Ranks


def stream(seed: int, name: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A random generator for one purpose of one seed.

    Streams of different names are independent, so that a trick that draws more numbers never shifts the
    data order or the latents: two arms that share a seed share both.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Draws:
    """A random stream for the images of a batch: drawn for the global batch, this rank's part given."""

    def __init__(self, generator: torch.Generator, ranks: Ranks = ALONE) -> None:
        self.generator, self.ranks = generator, ranks

    def rand(self, *shape: int, dim: int = 0) -> Tensor:
        """Uniform in [0, 1). `shape` is of this rank's part, `dim` the dimension of images in it."""
        return self._mine(torch.rand, shape, dim)

    def randn(self, *shape: int, dim: int = 0) -> Tensor:
        """Standard normal; arguments as for `rand`."""
        return self._mine(torch.randn, shape, dim)

    def randint(self, low: int, high: int, shape: tuple[int, ...], dim: int = 0) -> Tensor:
        """Integers in [low, high); other arguments as for `rand`."""
        return self._mine(lambda whole, **options: torch.randint(low, high, whole, **options), shape, dim)

    def _mine(self, draw: Callable[..., Tensor], shape: tuple[int, ...], dim: int) -> Tensor:
        whole = (*shape[:dim], shape[dim] * self.ranks.world_size, *shape[dim + 1 :])
        return self.ranks.mine(draw(whole, generator=self.generator, device=self.generator.device), dim)
