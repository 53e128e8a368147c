"""The fully connected family.

Depth by example, at width 256 (the reference: depth 3, 56×56×1, latent 100):

    generator      depth 0: z → pixels
                   depth 1: z → 256 → pixels
                   depth 3: z → 256 → 512 → 1024 → pixels
    discriminator  depth 0: pixels → logit
                   depth 1: pixels → 256 → logit
                   depth 3: pixels → 1024 → 512 → 256 → logit

Every hidden layer is dense, LeakyReLU; after it the discriminator drops units out, and before it the generator
normalises where norm is "batch". The founding document gives no dropout rate: 0.3 is ours.
"""

from math import prod
from typing import Any

from torch import nn

from architectures.contract import GanPair, require_choice
from architectures.layers import LEAKY_SLOPE, initialised, spectrally_normalised


def defaults(resolution: int) -> dict[str, Any]:
    """The reference network's choices; the same at every resolution."""
    return {
        "generator_depth": 3,
        "generator_width": 256,
        "generator_norm": "none",
        "generator_dropout": 0.0,
        "discriminator_depth": 3,
        "discriminator_width": 256,
        "discriminator_norm": "none",
        "discriminator_dropout": 0.3,
    }


def build(
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
) -> GanPair:
    """The pair; arguments as in `architectures.build`."""
    require_choice("discriminator_norm", discriminator_norm, ("none", "spectral"))
    image_shape = (channels, resolution, resolution)

    layers: list[nn.Module] = []
    size = latent_dim
    for i in range(generator_depth):
        wider = generator_width * 2**i
        layers.append(nn.Linear(size, wider))
        if generator_norm == "batch":
            layers.append(nn.BatchNorm1d(wider))
        layers.append(nn.LeakyReLU(LEAKY_SLOPE, inplace=True))
        if generator_dropout:
            layers.append(nn.Dropout(generator_dropout))
        size = wider
    generator = nn.Sequential(*layers, nn.Linear(size, prod(image_shape)), nn.Tanh(), nn.Unflatten(1, image_shape))

    layers = [nn.Flatten()]
    size = prod(image_shape)
    for i in reversed(range(discriminator_depth)):
        narrower = discriminator_width * 2**i
        layers += [nn.Linear(size, narrower), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
        if discriminator_dropout:
            layers.append(nn.Dropout(discriminator_dropout))
        size = narrower
    discriminator = nn.Sequential(*layers, nn.Linear(size, 1))
    return GanPair(initialised(generator), spectrally_normalised(initialised(discriminator), discriminator_norm))
