"""The residual family: a plain modern baseline, as R3GAN argues for (Huang et al. 2024, config D; He et al. 2016).

A player is a ladder of maps, each half the side of the next and twice as wide, with residual blocks on all but the
full picture. Depth is the number of blocks in all, spread evenly, the coarsest maps first. By example, at width 16:

    28, depth 2:  z → 7×7×32, block → 14×14×16, block → 28×28×16 → 3×3 → pixels       pixels → 14×16, ... the same back
    28, depth 3:  z → 7×7×32, 2 blocks → 14×14×16, block → 28×28×16 → 3×3 → pixels
    32, depth 3:  z → 4×4×64, block → 8×8×32, block → 16×16×16, block → 32×32×16 → 3×3 → pixels
    96, depth 4:  z → 6×6×128, block → 12×64, block → 24×32, block → 48×16, block → 96×16 → 3×3 → pixels

The coarsest side is the resolution halved while it stays even and at least 4, as in dc; a resolution that is odd has
one map. By default each map has one block. A block adds to its input what three convolutions make of it: 1×1, 3×3 and
1×1, all as wide as the map, with LeakyReLU between them. Between maps lies a 1×1 convolution with bilinear
upsampling in the generator, and behind the mean over 2×2 in the discriminator, which begins with a 4×4 stride-2
convolution of the pixels and ends with one dense logit.

Without normalisation, weights start as in fix-up (Zhang et al. 2019): the last convolution of each block at 0, so that
every block begins as the identity, and the two before it smaller by the fourth root of the number of blocks. Batch
norm in G and spectral norm in D are there to be compared; the norm of a convolution that is 0 is none, so that with
spectral norm the last ones start like the others.

As in R3GAN the last convolution makes the pixels, and no tanh follows: a G that is pushed to all black is not caught
there by slopes of 0 (a relativistic loss with R1 and R2 did not leave one picture of stacked digits with tanh, at two
learning rates). Pixels beyond black and white are cut off where images are shown and scored.

Two things differ from R3GAN for the sake of a CPU: the full picture has no blocks (four times as fast at 32×32), and
convolutions are not grouped (which was slower at these widths).
"""

from typing import Any

from architectures.contract import GanPair, NetworkSpec, Refusals, halvings, refuse, require_choice

MOST_BLOCKS = 100


def defaults(resolution: int) -> dict[str, Any]:
    """One block a map, at a width at which a CPU trains them about as fast as dc of as many parameters."""
    depth = max(1, halvings(resolution)[1])
    return {
        "generator_depth": depth,
        "generator_width": 16,
        "generator_norm": "none",
        "generator_dropout": 0.0,
        "discriminator_depth": depth,
        "discriminator_width": 16,
        "discriminator_norm": "none",
        "discriminator_dropout": 0.0,
    }


def impossible(network: NetworkSpec) -> Refusals:
    """What cannot be built."""
    for name in ("generator_depth", "discriminator_depth"):
        if not 1 <= getattr(network, name) <= MOST_BLOCKS:
            yield name, f"is out of range; allowed: from 1 to {MOST_BLOCKS} residual blocks for resnet"
    for name in ("generator_dropout", "discriminator_dropout"):
        if getattr(network, name):
            yield name, "is not in resnet, whose residual blocks have none; allowed: 0"


def build(**choices: Any) -> GanPair:
    """The pair; the arguments are the fields of NetworkSpec. torch is imported here, so that reports do without it."""
    from torch import nn

    from architectures.layers import LEAKY_SLOPE, Residual, fixed_up, spectrally_normalised

    network = NetworkSpec(**choices)
    require_choice("discriminator_norm", network.discriminator_norm, ("none", "spectral"))
    refuse(network, impossible(network))
    base, doublings = halvings(network.resolution)
    maps = max(1, doublings)

    def blocks(wide: int, number: int, norm: str) -> list[nn.Module]:
        def layer(kernel: int) -> list[nn.Module]:
            normed = norm == "batch"
            convolution = nn.Conv2d(wide, wide, kernel, padding=kernel // 2, bias=not normed)
            return [convolution, *[nn.BatchNorm2d(wide)] * normed, nn.LeakyReLU(LEAKY_SLOPE, inplace=True)]

        return [Residual(*layer(1), *layer(3), nn.Conv2d(wide, wide, 1, bias=False)) for _ in range(number)]

    def spread(depth: int) -> list[int]:
        return [depth // maps + (i < depth % maps) for i in range(maps)]  # of each map, from the coarsest on

    wide = network.generator_width * 2 ** (maps - 1)
    layers: list[nn.Module] = [nn.Linear(network.latent_dim, wide * base**2), nn.Unflatten(1, (wide, base, base))]
    for i, number in enumerate(spread(network.generator_depth)):
        if i:
            layers += [nn.Conv2d(wide, wide // 2, 1, bias=False), nn.Upsample(scale_factor=2, mode="bilinear")]
            wide //= 2
        layers += blocks(wide, number, network.generator_norm)
    if doublings:
        layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
    generator = nn.Sequential(*layers, nn.Conv2d(wide, network.channels, 3, padding=1))

    wide = network.discriminator_width
    kernel, stride = (4, 2) if doublings else (3, 1)
    layers = [nn.Conv2d(network.channels, wide, kernel, stride, padding=1)]
    for i, number in enumerate(reversed(spread(network.discriminator_depth))):
        if i:
            layers += [nn.AvgPool2d(2), nn.Conv2d(wide, 2 * wide, 1, bias=False)]
            wide *= 2
        layers += blocks(wide, number, "none")
    discriminator = nn.Sequential(*layers, nn.Flatten(), nn.Linear(wide * base**2, 1))
    return GanPair(
        fixed_up(generator),
        spectrally_normalised(
            fixed_up(discriminator, identity=network.discriminator_norm != "spectral"), network.discriminator_norm
        ),
    )
