"""The networks. They know nothing of data, training or scores, and torch is imported only where one is built.

An architecture is one file like fc.py or dc.py and its entry in ARCHITECTURES: a trial's spec takes its name and its
limits from there.
"""

import difflib
from typing import TYPE_CHECKING, Any

from architectures import dc, fc, resnet
from architectures.contract import Architecture, GanPair, NetworkSpec, Registry

if TYPE_CHECKING:
    from architectures.layers import count_parameters, flops_per_image

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "GanPair",
    "NetworkSpec",
    "build",
    "count_parameters",
    "defaults",
    "describe",
    "flops_per_image",
]

ARCHITECTURES: Registry[Architecture] = Registry(
    {
        "fc": Architecture(fc.build, fc.defaults, fc.refusals),
        "dc": Architecture(dc.build, dc.defaults, dc.refusals),
        "resnet": Architecture(resnet.build, resnet.defaults, resnet.impossible),
    },
    "architecture",
)
"""Name -> family. One entry adds a generator and a discriminator together."""


def defaults(name: str, *, resolution: int) -> dict[str, Any]:
    """What `build` takes for the arguments left out: the reference network at this resolution."""
    return _family(name).defaults(resolution)


def describe(
    name: str, *, resolution: int, channels: int, latent_dim: int, **choices: int | float | str | None
) -> NetworkSpec:
    """All that `build` would build with these arguments, with the reference network's values filled in."""
    given = {key: value for key, value in choices.items() if value is not None}
    reference = _family(name).defaults(resolution)
    return NetworkSpec(resolution=resolution, channels=channels, latent_dim=latent_dim, **{**reference, **given})


def build(
    name: str, *, resolution: int, channels: int, latent_dim: int, **choices: int | float | str | None
) -> GanPair:
    """A generator and a discriminator, initialised from torch's global generator (G first, then D).

    build("fc", resolution=56, channels=1, latent_dim=100) and build("dc", resolution=96, channels=3, latent_dim=128)
    are the two networks of the founding document.

    Args:
        name: A key of ARCHITECTURES.
        resolution: Side of the square images, in pixels, at least 4.
        channels: 1 for grey, 3 for RGB; any positive number works.
        latent_dim: Size of the latent vector.
        **choices: The other fields of NetworkSpec; what is None or left out is the reference network's.

    Raises:
        ValueError: in one line: which argument, its value, what is allowed.
    """
    network = describe(name, resolution=resolution, channels=channels, latent_dim=latent_dim, **choices)
    return ARCHITECTURES[name].build(**vars(network))


def _family(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, ARCHITECTURES, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"unknown architecture {name!r}{hint}; valid: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def __getattr__(name: str) -> Any:  # what needs torch is imported when it is asked for
    if name in ("count_parameters", "flops_per_image"):
        from architectures import layers

        return getattr(layers, name)
    raise AttributeError(f"module 'architectures' has no attribute {name!r}")
