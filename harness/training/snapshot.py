"""What training leaves behind, and the named random streams it draws from."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state of a trial after `step` updates: weights on the CPU, and one curve row a report point."""

    step: int
    generator: dict[str, Tensor]
    generator_ema: dict[str, Tensor]  # batch-norm statistics re-estimated for these weights
    discriminator: dict[str, Tensor]
    curves: list[dict[str, float]]
    train_seconds: float  # without the time spent in observers


def stream(seed: int, name: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A random generator for one purpose of one seed.

    Streams of different names are independent, so that a trick that draws more numbers never shifts the
    data order or the latents: two arms that share a seed share both.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
