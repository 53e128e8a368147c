"""The convolutional family (after DCGAN, Radford et al. 2015).

Generator depth is the number of transposed-convolution blocks. As many as the resolution needs have stride 2 and
come last; the others have stride 1 and come first. By example, at width 32 (the reference: depth 5 at 96×96×3):

    96, depth 4:  z →   6×6×64 → 12×256 → 24×128 → 48×64 → 96×32 → 1×1 → pixels
    96, depth 5:  z →   6×6×64 → 6×512 → 12×256 → 24×128 → 48×64 → 96×32 → 1×1 → pixels
    28, depth 2:  z →   7×7×64 → 14×64 → 28×32 → 1×1 → pixels
    28, depth 3:  z →   7×7×64 → 7×128 → 14×64 → 28×32 → 1×1 → pixels

The base size is the resolution halved while it stays even and at least 4: 96 → 6, 64 → 4, 32 → 4, 28 → 7. A block
is a 5×5 'same' transposed convolution without bias, batch norm, ReLU, and dropout in all but the last three blocks
(in the reference: in the first two). The founding document gives no dropout rate: 0.3 is ours.

Two details are torch's and not Keras', in which the founding document's networks were written; neither changes a
number of parameters. A stride-2 transposed convolution leaves out two rows and columns at the start and one at the
end, where 'same' in TensorFlow leaves out one and two. Batch norm has ε = 1e-5 and moves its statistics by 0.1 a step,
where Keras has 1e-3 and 0.01.

Discriminator depth is the number of 4×4 stride-2 'same' convolutions without bias, with width, width, 2·width,
4·width, ... channels, batch norm in all but the first, LeakyReLU; then one dense logit. 'Same' as in Keras: the
output is half the input, rounded up. By default as many as leave at least 4×4:

    96, depth 4:  pixels → 48×64 → 24×64 → 12×128 → 6×256 → logit      (the reference)
    28, depth 3:  pixels → 14×64 → 7×64 → 4×128 → logit
"""

from typing import Any

from architectures.contract import (
    SMALLEST_MAP,
    GanPair,
    NetworkSpec,
    Refusals,
    halvings,
    idle_dropout,
    refuse,
    require_choice,
    too_deep,
)

PLAIN_BLOCKS = 3
"""So many blocks at the generator's end have no dropout."""


def defaults(resolution: int) -> dict[str, Any]:
    """The reference network's choices, carried to this resolution."""
    depth, size = 0, resolution
    while -(-size // 2) >= SMALLEST_MAP:
        depth, size = depth + 1, -(-size // 2)
    return {
        "generator_depth": halvings(resolution)[1] + 1,
        "generator_width": 32,
        "generator_norm": "batch",
        "generator_dropout": 0.3,
        "discriminator_depth": min(depth, 4),
        "discriminator_width": 64,
        "discriminator_norm": "batch",
        "discriminator_dropout": 0.0,
    }


def impossible(network: NetworkSpec) -> Refusals:
    """What cannot be built."""
    (base, doublings), most = halvings(network.resolution), (network.resolution - 1).bit_length()
    at = f"for dc at resolution={network.resolution}"
    if network.generator_depth < doublings:
        allowed = f"at least {doublings} {at}, which takes {doublings} stride-2 blocks from {base}×{base}"
        yield "generator_depth", f"is out of range; allowed: {allowed}"
    if network.discriminator_depth > most:
        yield "discriminator_depth", f"is out of range; allowed: at most {most} {at}, where 1×1 is reached"


def refusals(network: NetworkSpec) -> Refusals:
    """What a trial may not ask for: what is impossible, too large, or would be equal networks under two names."""
    yield from too_deep("dc", network)
    yield from impossible(network)
    yield from idle_dropout("dc", network, "generator", PLAIN_BLOCKS + 1)
    yield from idle_dropout("dc", network, "discriminator", 1)


def build(**choices: Any) -> GanPair:
    """The pair; the arguments are the fields of NetworkSpec. torch is imported here, so that reports do without it."""
    from torch import nn

    from architectures.layers import LEAKY_SLOPE, initialised, same_convolution, spectrally_normalised

    network = NetworkSpec(**choices)
    require_choice("discriminator_norm", network.discriminator_norm, ("none", "batch", "spectral"))
    refuse(network, impossible(network))
    base, doublings = halvings(network.resolution)

    size = 2 * network.generator_width
    layers: list[nn.Module] = [nn.Linear(network.latent_dim, size * base * base), nn.Unflatten(1, (size, base, base))]
    for i in reversed(range(network.generator_depth)):
        wide, stride = network.generator_width * 2**i, 2 if i < doublings else 1
        layers.append(nn.ConvTranspose2d(size, wide, 5, stride, padding=2, output_padding=stride - 1, bias=False))
        if network.generator_norm == "batch":
            layers.append(nn.BatchNorm2d(wide))
        layers.append(nn.ReLU(inplace=True))
        if network.generator_dropout and i >= PLAIN_BLOCKS:
            layers.append(nn.Dropout(network.generator_dropout))
        size = wide
    generator = nn.Sequential(*layers, nn.Conv2d(size, network.channels, 1), nn.Tanh())

    layers, size, side = [], network.channels, network.resolution
    for i in range(network.discriminator_depth):
        wide = network.discriminator_width * 2 ** max(0, i - 1)
        layers.append(same_convolution(size, wide, side))
        if i > 0 and network.discriminator_norm == "batch":
            layers.append(nn.BatchNorm2d(wide))
        layers.append(nn.LeakyReLU(LEAKY_SLOPE, inplace=True))
        if network.discriminator_dropout:
            layers.append(nn.Dropout(network.discriminator_dropout))
        size, side = wide, -(-side // 2)
    discriminator = nn.Sequential(*layers, nn.Flatten(), nn.Linear(size * side * side, 1))
    return GanPair(
        initialised(generator), spectrally_normalised(initialised(discriminator), network.discriminator_norm)
    )
