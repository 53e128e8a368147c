"""Features of ImageNet from a package: the same bytes everywhere, for any picture, without a download."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import architectures
from harness.data import PreparedData, prepare
from harness.errors import UserError
from harness.execution.contexts import scoring_contexts
from harness.scoring import extractors
from harness.scoring.extractors import (
    PRETRAINED,
    WEIGHTS_VARIABLE,
    Extractor,
    default_extractor,
    package_weights,
    prepare_pretrained,
)
from harness.scoring.fidelity import make_protocol, prepare_reference, score_generator
from harness.scoring.networks import LITE0_STAGES, DinoV2, Lite0, built, by_pillow, feature_network, in_colour, resized
from harness.scoring.yardstick import golden_scores, prepare_extractor, refuse_unusable
from harness.storage.store import Store
from studies.noise import NOISE

NAME = "imagenet-lite0"


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """150 pictures without classes: discs in two colours."""
    root, numbers = tmp_path_factory.mktemp("flat"), np.random.RandomState(0)
    grid = np.indices((24, 24)).transpose(1, 2, 0)
    for i in range(150):
        disc = np.square(grid - numbers.uniform(8, 16, 2)).sum(2) < numbers.uniform(9, 49)
        colours = numbers.randint(0, 256, (2, 3))
        Image.fromarray(np.where(disc[..., None], *colours).astype(np.uint8)).save(root / f"{i:03d}.png")
    return prepare(f"folder:{root}", resolution=24, channels=3, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def lite0(flat: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    return prepare_extractor(NAME, flat, tmp_path_factory.mktemp("cache"))


def test_the_weights_are_the_packages_own(lite0: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lite0.weights_hash == PRETRAINED[NAME].sha256[:16] == "579344248a93e230"
    assert lite0.weights_path.read_bytes() == package_weights(NAME).read_bytes()
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "inception.pth"))  # is of other extractors
    assert prepare_pretrained(NAME, 3, tmp_path, None, built).weights_hash == lite0.weights_hash
    with pytest.raises(UserError, match="which a package ships; leave it out"):
        prepare_pretrained(NAME, 3, tmp_path, tmp_path / "x.pth", built)


def test_other_weights_or_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "weights.pth").write_bytes(b"others")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fake" / "__init__.py").write_text("raise SystemExit('package code was run')")
    monkeypatch.setitem(PRETRAINED, NAME, replace(PRETRAINED[NAME], package="fake", file="weights.pth"))
    with pytest.raises(
        UserError, match=r"published weights of imagenet-lite0: its SHA-256 begins with [0-9a-f]{8}, th"
    ):
        prepare_pretrained(NAME, 3, tmp_path / "cache", None, built)
    monkeypatch.setitem(PRETRAINED, NAME, replace(PRETRAINED[NAME], package="there_is_none"))
    with pytest.raises(UserError, match="needs the package there-is-none, which is not installed"):
        prepare_pretrained(NAME, 3, tmp_path / "cache", None, built)


def test_features_are_timms_own(lite0: Extractor) -> None:
    """Against timm called directly: its own names for the weights' tensors, pixels and stages."""
    import timm

    given = torch.load(package_weights(NAME), weights_only=True)
    names = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    network = timm.create_model("tf_efficientnet_lite0").eval()
    wanted, numbers, found = network.state_dict(), {}, {}
    for name in wanted:  # "blocks.1.0." is the second of the weights' blocks, and so on
        if name.startswith("blocks."):
            numbers.setdefault(name.rsplit(".", 3)[0] if "." in name else name, len(numbers))
    blocks = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in wanted if name.startswith("blocks.")))
    for name in wanted:
        parts = name.split(".")
        if parts[0] != "blocks":
            found[name] = given[next(k for k, v in names.items() if v == parts[0]) + "." + parts[1]]
            continue
        number, layer, tail = blocks.index(".".join(parts[:3])), parts[3], parts[4]
        first = number == 0  # has no expansion
        theirs = {
            "conv_dw": "_depthwise_conv",
            "conv_pw": "_project_conv" if first else "_expand_conv",
            "conv_pwl": "_project_conv",
            "bn1": "_bn1" if first else "_bn0",
            "bn2": "_bn2" if first else "_bn1",
            "bn3": "_bn2",
        }[layer]
        found[name] = given[f"_blocks.{number}.{theirs}.{tail}"]
    network.load_state_dict(found)
    images = torch.from_numpy(np.random.RandomState(1).randint(0, 256, (4, 3, 32, 32))).byte()
    side, layer = PRETRAINED[NAME].side, PRETRAINED[NAME].layer
    pixels = (resized(images, side) - 127) / 128
    with torch.no_grad():
        features, logits = feature_network(lite0, "cpu")(images)
        maps = network.forward_intermediates(pixels, indices=None, intermediates_only=True)
        x = network.bn1(network.conv_stem(pixels))
        for block in network.blocks[: int(layer.removeprefix("blocks.")) + 1]:
            x = block(x)
        expected = network(pixels)
    assert features.dtype == logits.dtype == torch.float64 and logits.shape == (4, 1000)
    assert features.shape == (4, PRETRAINED[NAME].dim) == (4, LITE0_STAGES[layer]) and maps
    assert torch.allclose(features, x.double().mean((2, 3)), rtol=1e-6)
    assert torch.allclose(logits.float(), expected, atol=1e-4)


def test_pictures_are_resized_as_pillow_does() -> None:
    """To the byte where the published protocol is Pillow's; else by the same weights, unrounded."""
    numbers, grid = np.random.RandomState(0), np.indices((150, 150)).sum(0)
    for size in (24, 64, 150):
        noise = numbers.randint(0, 256, (size, size, 3)).astype(np.uint8)
        smooth = (128 + 90 * np.sin(grid[:size, :size] / 9)[..., None] * [1, 0.5, -1]).astype(np.uint8)
        for image in (noise, smooth):
            ours = torch.from_numpy(image).permute(2, 0, 1)[None]
            pillow = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
            found = by_pillow(ours, 64)[0].permute(1, 2, 0).numpy().astype(int)
            assert abs(found - pillow).max() <= 1 and (found == pillow).mean() > 0.99, size
        assert abs(resized(ours, 64)[0].permute(1, 2, 0).numpy() - pillow).max() <= 1.5, size


def test_grey_is_repeated_and_sizes_are_free(lite0: Extractor) -> None:
    network, numbers = feature_network(lite0, "cpu"), np.random.RandomState(0)
    for size in (8, 28, 200):
        grey = torch.from_numpy(numbers.randint(0, 256, (2, 1, size, size))).byte()
        assert torch.equal(network(grey)[0], network(grey.repeat(1, 3, 1, 1))[0]), size
    assert in_colour(grey).shape == (2, 3, 200, 200)


def test_threads_and_batches_change_no_bit(lite0: Extractor, flat: PreparedData) -> None:
    network, images = feature_network(lite0, "cpu"), torch.from_numpy(np.array(flat.images("reference")))
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(network(images)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)
    assert torch.allclose(torch.cat([network(part)[0] for part in images.split(7)]), found[0], atol=1e-4)  # of about 5


def test_building_it_draws_no_random_number(lite0: Extractor) -> None:
    state = torch.get_rng_state()
    feature_network(lite0, "cpu")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("instructions", ["default", "avx2"])
def test_other_instructions_measure_alike(digits, cache: Path, tmp_path: Path, instructions: str) -> None:
    code = (
        "import json, sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from harness.data import prepare; from harness.scoring.yardstick import *\n"
        "from harness.scoring.fidelity import make_protocol\n"
        "digits = prepare('mnist-5k', resolution=28, channels=1, cache=Path(sys.argv[1]))\n"
        f"extractor = prepare_extractor({NAME!r}, digits, Path(sys.argv[2]))\n"
        "protocol = make_protocol(extractor, digits, num_generated=1000)\n"
        "print(json.dumps(golden_scores(extractor, protocol, digits, Path(sys.argv[2]))))"
    )
    names = {"ATEN_CPU_CAPABILITY": instructions, "ONEDNN_MAX_CPU_ISA": "AVX2" if instructions == "avx2" else "SSE41"}
    words = [sys.executable, "-c", code, str(cache), str(tmp_path)]
    done = subprocess.run(words, env={**os.environ, **names}, capture_output=True, text=True, check=True)
    here = prepare_extractor(NAME, digits, tmp_path / "here")
    protocol = make_protocol(here, digits, num_generated=1000)
    ours = golden_scores(here, protocol, digits, tmp_path / "here")
    assert json.loads(done.stdout) == pytest.approx(ours, rel=1e-6, abs=1e-9)
    assert 0 < ours["golden_fid_real"] < ours["golden_fid_noisy"]


def test_pictures_without_labels_are_scored(flat: PreparedData, lite0: Extractor, tmp_path: Path) -> None:
    assert flat.num_classes is None
    protocol = make_protocol(lite0, flat, num_generated=60)
    side = PRETRAINED[NAME].side
    assert protocol.preparation == f"antialiased bicubic to {side}" and protocol.feature_layer == PRETRAINED[NAME].layer
    real = prepare_reference(protocol, lite0, flat, tmp_path)
    generator = architectures.build("dc", resolution=24, channels=3, latent_dim=8, generator_width=4).generator
    options = {"protocol": protocol, "extractor": lite0, "data": flat, "cache": tmp_path}
    scores = score_generator(generator, latent_dim=8, latent_std=1.0, **options)
    assert abs(real["kid"]) < 0.05 < scores["kid"] < 100, "KID's kernel is of features of unit scale"
    assert scores["fid"] > 5 * real["fid"] > 0 and 1 <= scores["is_mean"] <= real["is_mean"]
    assert scores.keys() >= {"kid", "precision", "recall", "density", "coverage", "memorization"}
    assert "modes" not in scores, "its classes are not the data's"


def test_the_data_decide_who_scores(flat: PreparedData, digits: PreparedData) -> None:
    assert default_extractor(digits) == "classifier" and default_extractor(flat) == NAME
    assert default_extractor(replace(digits, num_classes=None)) == NAME
    assert default_extractor(replace(digits, channels=3)) == NAME


def test_a_run_takes_the_datas_own(flat: PreparedData, tmp_path: Path) -> None:
    said: list[str] = []
    store = Store(tmp_path / "store", create=True)
    profile = f"smoke@{flat.dataset}"
    assert not NOISE.profile(profile).extractor, "the profile leaves it open"
    fingerprints = lambda *_: flat.fingerprint  # noqa: E731
    spec = NOISE.at(profile).runs(1, fingerprints)[0].spec
    spec = replace(spec, dataset=flat.dataset, resolution=24, channels=3)
    context = scoring_contexts(NOISE, [spec], "", 50, store, said.append)[flat.fingerprint]
    assert context.extractor.name == context.protocol.extractor == NAME and context.online is None
    assert store.read_reference(context.protocol.protocol_id)["golden_fid_noisy"] > 0


def broken(kind: str) -> torch.Tensor:
    found = torch.from_numpy(np.random.RandomState(0).standard_normal((16, PRETRAINED[NAME].dim)))
    if kind == "nan":
        found[3, 5] = torch.nan
    return {"wide": found[:, :-1], "same": found[:1].expand(16, -1)}.get(kind, found)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", "are not finite"),
        ("same", "are the same for 16 images"),
        ("wide", r"are of shape \d+ an image, and \d+ a"),
    ],
)
def test_an_extractor_of_no_use_is_refused(
    lite0, flat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    refuse_unusable(lite0, broken("none"))
    monkeypatch.setattr("harness.scoring.yardstick.feature_network", lambda *_: lambda images: (broken(kind),))
    with pytest.raises(UserError, match=f"features of the extractor 'imagenet-lite0' {words}") as caught:
        golden_scores(lite0, make_protocol(lite0, flat, num_generated=40), flat, tmp_path)
    assert "\n" not in str(caught.value) and str(lite0.weights_path) in str(caught.value)


SMALL = {"model": "vit_small_patch14_dinov2", "dim": 384, "heads": 6}


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the names and shapes of the authors' files: ViT-S/14 of 12 blocks, trained at 518 pixels."""
    path, dim = tmp_path_factory.mktemp("dino") / "dinov2_vits14_pretrain.pth", SMALL["dim"]
    stream = torch.Generator().manual_seed(0)
    shapes = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1 + 37 * 37, dim),
        "mask_token": (1, dim),
        "patch_embed.proj.weight": (dim, 3, 14, 14),
        "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
    }
    for n in range(12):
        parts = {
            **{f"{norm}.{what}": (dim,) for norm in ("norm1", "norm2") for what in ("weight", "bias")},
            **{f"{scale}.gamma": (dim,) for scale in ("ls1", "ls2")},
            **{"attn.qkv.weight": (3 * dim, dim), "attn.qkv.bias": (3 * dim,)},
            **{"attn.proj.weight": (dim, dim), "attn.proj.bias": (dim,)},
            **{"mlp.fc1.weight": (4 * dim, dim), "mlp.fc1.bias": (4 * dim,)},
            **{"mlp.fc2.weight": (dim, 4 * dim), "mlp.fc2.bias": (dim,)},
        }
        shapes |= {f"blocks.{n}.{name}": shape for name, shape in parts.items()}
    large = ("pos_embed", "gamma")  # so that it shows in the class token how positions are resampled
    made = {k: torch.randn(v, generator=stream) * (1 if k.endswith(large) else 0.05) for k, v in shapes.items()}
    torch.save(made, path)
    return path


def by_hand(path: Path, images: torch.Tensor) -> torch.Tensor:
    """The class token of DINOv2 at 224 pixels, from the papers and the authors' way with positions."""
    w, heads = torch.load(path, weights_only=True), SMALL["heads"]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    shown = [Image.fromarray(i.permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BICUBIC) for i in images]
    pixels = torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255 for i in shown])
    x = torch.nn.functional.conv2d((pixels - mean) / std, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], 14)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
    grid = w["pos_embed"][:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
    x = x + torch.cat([w["pos_embed"][:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    for n in range(12):
        block = f"blocks.{n}"
        q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2)
                   for t in linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, 2))  # fmt: skip
        seen = ((q @ k.transpose(2, 3)) / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + w[f"{block}.ls1.gamma"] * linear(seen.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        inside = torch.nn.functional.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + w[f"{block}.ls2.gamma"] * linear(inside, f"{block}.mlp.fc2")
    return norm(x, "norm")[:, 0]


def test_dinov2_is_the_authors_by_hand(dino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 40 pixels and grey, by the small network: the large one differs in numbers alone."""
    small = replace(PRETRAINED["dinov2-vit-l"], served_as=SMALL["model"], dim=SMALL["dim"])
    monkeypatch.setitem(PRETRAINED, "dinov2-vit-l", small)
    extractor = prepare_pretrained("dinov2-vit-l", 1, tmp_path, dino, built)
    grey = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (2, 1, 40, 40))).byte()
    with torch.no_grad():
        (found,) = feature_network(extractor, "cpu")(grey)
        expected = by_hand(dino, grey.repeat(1, 3, 1, 1))
    assert found.shape == (2, 384) and found.dtype == torch.float64 and expected.std() > 0.01
    assert torch.allclose(found.float(), expected, atol=5e-3 * float(expected.std()))
    assert not torch.allclose(found[0], found[1])


def test_weights_of_another_network_leave_nothing(dino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(PRETRAINED["dinov2-vit-l"], served_as=SMALL["model"], dim=SMALL["dim"])
    monkeypatch.setitem(PRETRAINED, "dinov2-vit-l", small)
    given = torch.load(dino, weights_only=True)
    for held, why in (
        ({"x": torch.zeros(2)}, "it lacks 'blocks.0.attn.proj.bias'"),
        ({**given, "register_tokens": torch.zeros(1, 4, 384)}, "it holds 'register_tokens', which that network lacks"),
        ({**given, "norm.bias": torch.zeros(7)}, "its 'norm.bias' is of shape 7, and 384 is that network's"),
        ({**given, "pos_embed": torch.zeros(1, 1370, 8)}, "its 'pos_embed' is of shape 1×257×8, and 1×257×384"),
        ({**given, "pos_embed": torch.zeros(5)}, "its 'pos_embed' is of shape 5, and holds no grid"),
        ([torch.zeros(2)], "it does not hold tensors by name"),
    ):
        file = tmp_path / "other.pth"
        torch.save(held, file)
        with pytest.raises(UserError) as caught:
            prepare_pretrained("dinov2-vit-l", 1, tmp_path / "cache", file, built)
        assert f"{file} does not hold the weights of vit_small_patch14_dinov2: {why}" in str(caught.value)
        assert [path.suffix for path in (tmp_path / "cache" / "extractors").iterdir()] == [".lock"]


def test_the_large_dinov2_has_its_shapes() -> None:
    """timm knows the network by this name, with the width that the protocol says."""
    import timm

    large = PRETRAINED["dinov2-vit-l"]
    with torch.device("meta"):
        network = timm.create_model(large.served_as, pretrained=False, img_size=large.side, num_classes=0)
    assert network.num_features == large.dim == 1024 and len(network.blocks) == 24
    assert network.pos_embed.shape == (1, 257, 1024) and DinoV2.__init__.__defaults__ == (large.served_as, large.side)


def test_every_extractor_has_a_way_in() -> None:
    for name, pretrained in PRETRAINED.items():
        assert pretrained.package or pretrained.url or pretrained.hub, name
        assert not (pretrained.package and not pretrained.sha256), name
    assert Lite0.architecture == PRETRAINED[NAME].served_as and NAME in extractors.EXTRACTORS
