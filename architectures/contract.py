"""What every architecture gives: a generator and a discriminator that fit each other."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class GanPair:
    """Two networks of one family.

    generator: latents (N, Z) float32 -> images (N, C, H, W) in [-1, 1].
    discriminator: images (N, C, H, W) -> logits (N, 1), above 0 for "real".
    """

    generator: nn.Module
    discriminator: nn.Module


def require(ok: bool, what: str, value: object, allowed: str) -> None:
    """Refuse an argument in one line: what, its value, what is allowed.

    Raises:
        ValueError: not `ok`.
    """
    if not ok:
        raise ValueError(f"{what}={value!r} is not possible; allowed: {allowed}")


def require_choice(what: str, value: str, valid: Iterable[str]) -> None:
    """Refuse a name that is not on the list, and list it.

    Raises:
        ValueError: `value` is not in `valid`.
    """
    valid = list(valid)
    require(value in valid, what, value, ", ".join(valid))
