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

from architectures.contract import GanPair, NetworkSpec, Refusals, idle_dropout, require_choice, too_deep


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


def refusals(network: NetworkSpec) -> Refusals:
    """What a trial may not ask for: what is too large, or would be equal networks under two names."""
    yield from too_deep("fc", network)
    yield from idle_dropout("fc", network, "generator", 1)
    yield from idle_dropout("fc", network, "discriminator", 1)
    if network.generator_depth == 0 and network.generator_norm != "none":
        reason = "normalises hidden layers, and fc has none at generator_depth=0; allowed there: none"
        yield "generator_norm", reason


def build(**choices: Any) -> GanPair:
    """The pair; the arguments are the fields of NetworkSpec. torch is imported here, so that reports do without it."""
    from torch import nn

    from architectures.layers import LEAKY_SLOPE, initialised, spectrally_normalised

    network = NetworkSpec(**choices)
    require_choice("discriminator_norm", network.discriminator_norm, ("none", "spectral"))
    image_shape = (network.channels, network.resolution, network.resolution)

    layers: list[nn.Module] = []
    size = network.latent_dim
    for i in range(network.generator_depth):
        wider = network.generator_width * 2**i
        layers.append(nn.Linear(size, wider))
        if network.generator_norm == "batch":
            layers.append(nn.BatchNorm1d(wider))
        layers.append(nn.LeakyReLU(LEAKY_SLOPE, inplace=True))
        if network.generator_dropout:
            layers.append(nn.Dropout(network.generator_dropout))
        size = wider
    generator = nn.Sequential(*layers, nn.Linear(size, prod(image_shape)), nn.Tanh(), nn.Unflatten(1, image_shape))

    layers = [nn.Flatten()]
    size = prod(image_shape)
    for i in reversed(range(network.discriminator_depth)):
        narrower = network.discriminator_width * 2**i
        layers += [nn.Linear(size, narrower), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]
        if network.discriminator_dropout:
            layers.append(nn.Dropout(network.discriminator_dropout))
        size = narrower
    discriminator = nn.Sequential(*layers, nn.Linear(size, 1))
    return GanPair(
        initialised(generator), spectrally_normalised(initialised(discriminator), network.discriminator_norm)
    )
