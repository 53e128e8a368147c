"""The founding document's tables, layer by layer."""

import pytest
import torch
from torch import nn

import architectures
from architectures import ARCHITECTURES, build, count_parameters, defaults, flops_per_image

WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d)


def table(network: nn.Module, example: torch.Tensor) -> list[tuple[str, tuple[int, ...], int]]:
    """(kind, output shape without the batch, parameters with running statistics) of every layer with weights."""
    rows, hooks = [], []
    for module in network.modules():
        if isinstance(module, WEIGHTED):
            hooks.append(
                module.register_forward_hook(
                    lambda m, _, out: rows.append(
                        (type(m).__name__, tuple(out.shape[1:]), count_parameters(m, with_statistics=True))
                    )
                )
            )
    with torch.no_grad():
        network.eval()(example)
    for hook in hooks:
        hook.remove()
    return rows


def kinds(network: nn.Sequential) -> str:
    """The layers by name, in order."""
    return " ".join(type(m).__name__ for m in network)


@pytest.fixture(scope="module")
def fc():
    torch.manual_seed(0)  # else its weights depend on which tests ran before
    return build("fc", resolution=56, channels=1, latent_dim=100)


@pytest.fixture(scope="module")
def dc():
    torch.manual_seed(0)  # else its weights depend on which tests ran before
    return build("dc", resolution=96, channels=3, latent_dim=128)


def test_fc_generator(fc) -> None:
    assert table(fc.generator, torch.zeros(1, 100)) == [
        ("Linear", (256,), 25_856),
        ("Linear", (512,), 131_584),
        ("Linear", (1024,), 525_312),
        ("Linear", (3136,), 3_214_400),
    ]
    assert count_parameters(fc.generator) == count_parameters(fc.generator, with_statistics=True) == 3_897_152
    assert kinds(fc.generator) == "Linear LeakyReLU " * 3 + "Linear Tanh Unflatten"


def test_fc_discriminator(fc) -> None:
    assert table(fc.discriminator, torch.zeros(1, 1, 56, 56)) == [
        ("Linear", (1024,), 3_212_288),
        ("Linear", (512,), 524_800),
        ("Linear", (256,), 131_328),
        ("Linear", (1,), 257),
    ]
    assert count_parameters(fc.discriminator) == count_parameters(fc.discriminator, with_statistics=True) == 3_868_673
    assert kinds(fc.discriminator) == "Flatten " + "Linear LeakyReLU Dropout " * 3 + "Linear"


def test_dc_generator(dc) -> None:
    assert table(dc.generator, torch.zeros(1, 128)) == [
        ("Linear", (2304,), 297_216),
        ("ConvTranspose2d", (512, 6, 6), 819_200),
        ("BatchNorm2d", (512, 6, 6), 2_048),
        ("ConvTranspose2d", (256, 12, 12), 3_276_800),
        ("BatchNorm2d", (256, 12, 12), 1_024),
        ("ConvTranspose2d", (128, 24, 24), 819_200),
        ("BatchNorm2d", (128, 24, 24), 512),
        ("ConvTranspose2d", (64, 48, 48), 204_800),
        ("BatchNorm2d", (64, 48, 48), 256),
        ("ConvTranspose2d", (32, 96, 96), 51_200),
        ("BatchNorm2d", (32, 96, 96), 128),
        ("Conv2d", (3, 96, 96), 99),
    ]
    assert count_parameters(dc.generator, with_statistics=True) == 5_472_483
    assert count_parameters(dc.generator) == 5_472_483 - 2 * (512 + 256 + 128 + 64 + 32)
    block = "ConvTranspose2d BatchNorm2d ReLU "
    assert kinds(dc.generator) == "Linear Unflatten " + 2 * (block + "Dropout ") + 3 * block + "Conv2d Tanh"
    kernels = {m.kernel_size for m in dc.generator if isinstance(m, nn.ConvTranspose2d)}
    assert kernels == {(5, 5)} and [m.stride[0] for m in dc.generator if isinstance(m, nn.ConvTranspose2d)] == [
        1,
        2,
        2,
        2,
        2,
    ]


def test_dc_discriminator(dc) -> None:
    rows = table(dc.discriminator, torch.zeros(1, 3, 96, 96))
    assert rows == [
        ("Conv2d", (64, 48, 48), 3_072),
        ("Conv2d", (64, 24, 24), 65_536),
        ("BatchNorm2d", (64, 24, 24), 256),
        ("Conv2d", (128, 12, 12), 131_072),
        ("BatchNorm2d", (128, 12, 12), 512),
        ("Conv2d", (256, 6, 6), 524_288),
        ("BatchNorm2d", (256, 6, 6), 1_024),
        ("Linear", (1,), 9_217),
    ]
    assert count_parameters(dc.discriminator, with_statistics=True) == 734_977
    assert count_parameters(dc.discriminator) == 734_081
    assert count_parameters(dc.discriminator, with_statistics=True) - count_parameters(dc.discriminator) == 896
    assert kinds(dc.discriminator) == "Conv2d LeakyReLU " + "Conv2d BatchNorm2d LeakyReLU " * 3 + "Flatten Linear"


def test_resnet_layer_by_layer() -> None:
    """At 32×32 as its docstring has it; the numbers of parameters by hand."""
    with torch.random.fork_rng():
        pair = build("resnet", resolution=32, channels=3, latent_dim=64)

    def block(wide: int, side: int) -> list[tuple[str, tuple[int, ...], int]]:
        parameters = (wide**2 + wide, 9 * wide**2 + wide, wide**2)
        return [("Conv2d", (wide, side, side), number) for number in parameters]

    assert table(pair.generator, torch.zeros(1, 64)) == [
        ("Linear", (1024,), 66_560),
        *block(64, 4),
        ("Conv2d", (32, 4, 4), 2_048),
        *block(32, 8),
        ("Conv2d", (16, 8, 8), 512),
        *block(16, 16),
        ("Conv2d", (3, 32, 32), 435),
    ]
    assert table(pair.discriminator, torch.zeros(1, 3, 32, 32)) == [
        ("Conv2d", (16, 16, 16), 784),
        *block(16, 16),
        ("Conv2d", (32, 8, 8), 512),
        *block(32, 8),
        ("Conv2d", (64, 4, 4), 2_048),
        *block(64, 4),
        ("Linear", (1,), 1_025),
    ]
    assert (count_parameters(pair.generator), count_parameters(pair.discriminator)) == (128_915, 63_729)
    up, ends = "Conv2d Upsample Residual ", "Upsample Conv2d"
    assert kinds(pair.generator) == "Linear Unflatten Residual " + 2 * up + ends
    assert kinds(pair.discriminator) == "Conv2d Residual " + 2 * "AvgPool2d Conv2d Residual " + "Flatten Linear"
    assert kinds(pair.generator[2]) == "Conv2d LeakyReLU Conv2d LeakyReLU Conv2d"
    normed = build("resnet", resolution=32, channels=3, latent_dim=64, generator_norm="batch").generator
    assert kinds(normed[2]) == "Conv2d BatchNorm2d LeakyReLU Conv2d BatchNorm2d LeakyReLU Conv2d"


def test_blocks_are_spread_over_maps() -> None:
    def blocks(player: str, depth: int) -> list[tuple[int, int]]:
        pair = build("resnet", resolution=96, channels=1, latent_dim=2, **{f"{player}_depth": depth})
        example = torch.zeros(1, 2) if player == "generator" else torch.zeros(1, 1, 96, 96)
        rows = table(getattr(pair, player), example)
        places = [(shape[1], shape[0]) for kind, shape, _ in rows if kind == "Conv2d"]
        return [place for place in dict.fromkeys(places) for _ in range(places.count(place) // 3)]

    maps = [(6, 128), (12, 64), (24, 32), (48, 16)]
    assert blocks("generator", 4) == maps
    assert blocks("generator", 6) == [maps[0], *maps[:1], maps[1], *maps[1:]]
    assert blocks("discriminator", 6) == [maps[3], maps[2], maps[1], maps[1], maps[0], maps[0]]


def test_a_block_begins_as_the_identity() -> None:
    """Fix-up: whatever the depth; the other weights have the variance that the paper gives them."""
    torch.manual_seed(0)
    pair = build("resnet", resolution=32, channels=3, latent_dim=64, generator_width=64, generator_depth=12)
    blocks = [module for module in pair.generator if type(module).__name__ == "Residual"]
    assert len(blocks) == 12
    features = torch.randn(2, 256, 4, 4)
    torch.testing.assert_close(blocks[0](features), features, rtol=0, atol=0)
    first, second = blocks[0][0].weight, blocks[0][2].weight
    for weight, inputs in ((first, 256), (second, 9 * 256)):
        assert weight.std().item() == pytest.approx((2 / 1.04 / inputs) ** 0.5 * 12**-0.25, rel=0.02)
    assert pair.generator[0].weight.std().item() == pytest.approx(1 / 8, rel=0.02)


@pytest.mark.parametrize(("name", "latent_dim", "nearly"), [("fc", 100, 0.5), ("dc", 128, 0.001)])
def test_an_untrained_discriminator_is_undecided(name, latent_dim, nearly, request) -> None:
    """The founding document shows a logit of -0.005 (FC) and a probability of 0.49999946 (DC), one image each."""
    pair = request.getfixturevalue(name)
    latents = torch.randn(8, latent_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = pair.generator.eval()(latents)
        logits = pair.discriminator.eval()(images)
    assert images.abs().max() <= 1
    assert logits.shape == (8, 1) and 0 < logits.abs().max() < nearly


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("resolution", [28, 32, 56, 64, 96])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_shapes_and_range(name: str, resolution: int, channels: int, norm: str) -> None:
    depth = defaults(name, resolution=resolution)["generator_depth"]
    for generator_depth in (depth, depth + 1):
        pair = build(
            name,
            resolution=resolution,
            channels=channels,
            latent_dim=5,
            generator_depth=generator_depth,
            generator_width=2,
            generator_norm=norm,
            discriminator_width=2,
        )
        images = pair.generator(10 * torch.randn(2, 5))
        assert images.shape == (2, channels, resolution, resolution)
        assert images.isfinite().all() and (name == "resnet" or images.abs().max() <= 1)
        assert pair.discriminator(images).shape == (2, 1)
        has_norm = any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in pair.generator.modules())
        assert has_norm == (norm == "batch")


def test_depth_is_what_the_docstrings_say() -> None:
    def channels(depth: int, resolution: int) -> list[tuple[int, int]]:
        network = build("dc", resolution=resolution, channels=1, latent_dim=2, generator_depth=depth).generator
        return [(s[1], s[0]) for kind, s, _ in table(network, torch.zeros(1, 2)) if kind == "ConvTranspose2d"]

    assert channels(4, 96) == [(12, 256), (24, 128), (48, 64), (96, 32)]
    assert channels(5, 96) == [(6, 512), (12, 256), (24, 128), (48, 64), (96, 32)]
    assert channels(2, 28) == [(14, 64), (28, 32)]
    assert channels(3, 28) == [(7, 128), (14, 64), (28, 32)]
    flat = build("fc", resolution=8, channels=1, latent_dim=3, generator_depth=0, discriminator_depth=0)
    assert count_parameters(flat.generator) == 4 * 64 and count_parameters(flat.discriminator) == 65


def test_same_padding_rounds_up() -> None:
    network = build("dc", resolution=28, channels=1, latent_dim=2, discriminator_width=4).discriminator
    sides = [s[1] for kind, s, _ in table(network, torch.zeros(1, 1, 28, 28)) if "Conv" in kind]
    assert sides == [14, 7, 4]


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        pair = build("dc", resolution=28, channels=1, latent_dim=4, generator_width=2, discriminator_width=2)
        return {**pair.generator.state_dict(), **{f"d{k}": v for k, v in pair.discriminator.state_dict().items()}}

    with torch.random.fork_rng():
        a, b, c = weights(0), weights(0), weights(1)
    assert all(torch.equal(a[k], b[k]) for k in a) and not all(torch.equal(a[k], c[k]) for k in a)


def test_flops_are_counted_and_the_mode_kept(fc) -> None:
    fc.generator.train()
    assert flops_per_image(fc.generator, (100,)) == 2 * (100 * 256 + 256 * 512 + 512 * 1024 + 1024 * 3136)
    assert fc.generator.training
    hidden = 3136 * 1024 + 1024 * 512 + 512 * 256 + 256
    assert flops_per_image(fc.discriminator, (1, 56, 56)) == 2 * hidden


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "dcc"}, "unknown architecture 'dcc' (did you mean 'dc'?); valid: fc, dc, resnet"),
        ({"generator_depth": 1}, "generator_depth=1 is out of range; allowed: at least 2 for dc at resolution=28"),
        (
            {"discriminator_depth": 6},
            "discriminator_depth=6 is out of range; allowed: at most 5 for dc at resolution=28",
        ),
        ({"discriminator_norm": "layer"}, "discriminator_norm='layer' is not possible; allowed: none, batch, spectral"),
        ({"generator_norm": "layer"}, "generator_norm='layer' is not possible; allowed: none, batch"),
        ({"latent_dim": 0}, "latent_dim=0 is not possible; allowed: at least 1"),
        ({"generator_width": 0}, "generator_width=0"),
        ({"discriminator_depth": -1}, "discriminator_depth=-1"),
        ({"generator_dropout": 1.0}, "generator_dropout=1.0 is not possible; allowed: in [0, 1)"),
        ({"resolution": 3}, "resolution=3"),
        ({"channels": 0}, "channels=0"),
        (
            {"name": "resnet", "generator_depth": 0},
            "generator_depth=0 is out of range; allowed: from 1 to 100 residual blocks for resnet",
        ),
        ({"name": "resnet", "discriminator_depth": 101}, "discriminator_depth=101 is out of range; allowed: from 1"),
        (
            {"name": "resnet", "discriminator_dropout": 0.3},
            "discriminator_dropout=0.3 is not in resnet, whose residual blocks have none; allowed: 0",
        ),
        (
            {"name": "resnet", "discriminator_norm": "batch"},
            "discriminator_norm='batch' is not possible; allowed: none, spectral",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message) -> None:
    values = {"name": "dc", "resolution": 28, "channels": 1, "latent_dim": 4, **changes}
    with pytest.raises(ValueError) as caught:
        architectures.build(**values)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", range(6))
def test_discriminator_depths_up_to_the_last_possible(depth: int) -> None:
    network = build(
        "dc", resolution=28, channels=1, latent_dim=4, discriminator_depth=depth, discriminator_width=2
    ).discriminator
    assert network(torch.randn(3, 1, 28, 28)).shape == (3, 1)
