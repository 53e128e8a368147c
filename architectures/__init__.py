"""The networks. torch only: knows nothing of data, training or scores."""

import difflib
from dataclasses import dataclass
from typing import Any, Protocol

from architectures import dc, fc
from architectures.contract import GanPair, Registry, require, require_choice
from architectures.layers import count_parameters, flops_per_image

__all__ = ["ARCHITECTURES", "GanPair", "build", "count_parameters", "defaults", "flops_per_image"]


class Defaults(Protocol):
    """resolution -> the reference network's choices at that resolution."""

    def __call__(self, resolution: int) -> dict[str, Any]: ...


class Builder(Protocol):
    """Every choice spelled out -> the pair."""

    def __call__(
        self,
        *,
        resolution: int,
        channels: int,
        latent_dim: int,
        generator_depth: int,
        generator_width: int,
        generator_norm: str,
        generator_dropout: float,
        discriminator_depth: int,
        discriminator_width: int,
        discriminator_norm: str,
        discriminator_dropout: float,
    ) -> GanPair: ...


@dataclass(frozen=True)
class Architecture:
    """A family: how it is built, and what the reference network of the family is."""

    build: Builder
    defaults: Defaults


ARCHITECTURES: Registry[Architecture] = Registry(
    {"fc": Architecture(fc.build, fc.defaults), "dc": Architecture(dc.build, dc.defaults)}
)
"""One entry adds a family, generator and discriminator together."""

NORMS = ("none", "batch")


def defaults(name: str, *, resolution: int) -> dict[str, Any]:
    """What `build` takes for the arguments left out: the reference network at this resolution."""
    return _family(name).defaults(resolution)


def build(
    name: str,
    *,
    resolution: int,
    channels: int,
    latent_dim: int,
    generator_depth: int | None = None,
    generator_width: int | None = None,
    generator_norm: str | None = None,
    generator_dropout: float | None = None,
    discriminator_depth: int | None = None,
    discriminator_width: int | None = None,
    discriminator_norm: str | None = None,
    discriminator_dropout: float | None = None,
) -> GanPair:
    """A generator and a discriminator, initialised from torch's global generator (G first, then D).

    Depth and width are defined by example in fc.py and dc.py. None stands for the reference network's value, so
    that build("fc", resolution=56, channels=1, latent_dim=100) and build("dc", resolution=96, channels=3,
    latent_dim=128) are the two networks of the founding document.

    Args:
        name: A key of ARCHITECTURES.
        resolution: Side of the square images, in pixels, at least 4.
        channels: 1 for grey, 3 for RGB; any positive number works.
        latent_dim: Size of the latent vector.
        generator_depth: Hidden layers of G.
        generator_width: Units or channels of G's narrowest hidden layer.
        generator_norm: "none" or "batch".
        generator_dropout: Rate in [0, 1).
        discriminator_depth: Hidden layers of D.
        discriminator_width: Units or channels of D's narrowest hidden layer.
        discriminator_norm: "none", "spectral" (Miyato et al. 2018) or, for dc, "batch".
        discriminator_dropout: Rate in [0, 1).

    Raises:
        ValueError: in one line: which argument, its value, what is allowed.
    """
    family = _family(name)
    require(resolution >= 4, "resolution", resolution, "at least 4")
    require(channels >= 1, "channels", channels, "at least 1")
    require(latent_dim >= 1, "latent_dim", latent_dim, "at least 1")
    reference = family.defaults(resolution)
    given = {
        "generator_depth": generator_depth,
        "generator_width": generator_width,
        "generator_norm": generator_norm,
        "generator_dropout": generator_dropout,
        "discriminator_depth": discriminator_depth,
        "discriminator_width": discriminator_width,
        "discriminator_norm": discriminator_norm,
        "discriminator_dropout": discriminator_dropout,
    }
    chosen = {key: reference[key] if value is None else value for key, value in given.items()}
    for player in ("generator", "discriminator"):
        require(chosen[f"{player}_depth"] >= 0, f"{player}_depth", chosen[f"{player}_depth"], "at least 0")
        require(chosen[f"{player}_width"] >= 1, f"{player}_width", chosen[f"{player}_width"], "at least 1")
        require(
            0 <= chosen[f"{player}_dropout"] < 1,
            f"{player}_dropout",
            chosen[f"{player}_dropout"],
            "in [0, 1)",
        )
    require_choice("generator_norm", chosen["generator_norm"], NORMS)
    return family.build(resolution=resolution, channels=channels, latent_dim=latent_dim, **chosen)


def _family(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, ARCHITECTURES, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"unknown architecture {name!r}{hint}; valid: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
