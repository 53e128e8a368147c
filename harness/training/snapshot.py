"""What training leaves behind, and the named random streams it draws from."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The whole state of a trial after `step` updates, on the CPU. Training resumed from it goes on bit for bit.

    Taken at report points alone, where no partial sum of a curve row is pending.
    """

    step: int
    generator: dict[str, Tensor]
    generator_ema: dict[str, Tensor]  # at the end of the budget with batch-norm statistics re-estimated for it
    discriminator: dict[str, Tensor]
    g_optimizer: dict[str, Tensor]  # "0.exp_avg" is the first parameter's running mean of gradients
    d_optimizer: dict[str, Tensor]
    streams: dict[str, Tensor]  # name -> uint8 state of a random generator
    batches_taken: int  # of the epoch whose order the stream "data" is about to draw
    curves: list[dict[str, float]]  # one row a report point
    train_seconds: float  # without the time spent in observers


def stream(seed: int, name: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A random generator for one purpose of one seed.

    Streams of different names are independent, so that a trick that draws more numbers never shifts the
    data order or the latents: two arms that share a seed share both.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
