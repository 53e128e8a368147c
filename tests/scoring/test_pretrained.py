"""Published feature networks, with made weights in the right format: nothing is downloaded."""

import hashlib
import math
import pickle
import socket
import time
import urllib.request
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from torch import nn
from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS, VisionTransformer
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

import architectures
from harness.data import PreparedData, prepare
from harness.errors import UserError
from harness.execution.others import require_weights
from harness.execution.plan import describe, make_plan
from harness.scoring.extractors import (
    PRETRAINED,
    WEIGHTS_OPTION,
    WEIGHTS_VARIABLE,
    Extractor,
)
from harness.scoring.fidelity import make_protocol, prepare_reference, score_generator
from harness.scoring.networks import feature_network, fitted
from harness.scoring.yardstick import prepare_extractor, prepare_online_extractor
from harness.storage.store import Store
from studies.noise import NOISE
from tests.scoring.test_scoring import Images


@pytest.fixture(autouse=True)
def any_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made weights have other hashes than the published ones."""
    for name, pretrained in PRETRAINED.items():
        monkeypatch.setitem(PRETRAINED, name, replace(pretrained, sha256=""))


@pytest.fixture(autouse=True)
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights on this machine, and a network that refuses."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    for scheme in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, f"http://{address[0]}:{address[1]}")
    return tmp_path / "torch" / "hub"


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the names and shapes of the published ones, scaled so that signals neither die nor grow."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__):  # what it would do with a file
            return None

    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save({}, path)
        network = Unloaded("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def inception(digits: PreparedData, cache: Path, inception_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Extractor:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(inception_weights))
    return prepare_extractor("inception-v3", digits, cache)


def test_inception_features_are_the_librarys_own(inception: Extractor, digits, inception_weights: Path) -> None:
    grey = torch.from_numpy(np.array(digits.images("reference")[:3]))
    direct = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(inception_weights)
    )
    with torch.no_grad():
        expected = direct(grey.repeat(1, 3, 1, 1))[0]
        found, logits = feature_network(inception, "cpu")(grey)
    assert found.dtype == logits.dtype == torch.float64 and logits.shape == (3, 1008)
    assert torch.equal(found.float(), expected) and expected.std() > 0


def test_a_protocol_says_what_it_is(inception: Extractor, digits, extractor, cache: Path) -> None:
    protocol = make_protocol(inception, digits, num_generated=20)
    assert protocol.feature_layer == "2048" and protocol.extractor_hash == inception.weights_hash
    assert protocol.preparation == "grey tiled to RGB, bilinear as in TensorFlow 1 to 299"
    assert protocol.kid_gamma == 1 / 2048
    assert "layer 2048; grey tiled" in protocol.describe()
    plain = make_protocol(extractor, digits, num_generated=20)
    assert plain.feature_layer == plain.preparation == "" and "layer" not in plain.describe()
    assert protocol == type(protocol).from_dict(protocol.to_dict())


def test_larger_images_are_shrunk_without_aliasing() -> None:
    """A checkerboard of single pixels becomes grey: the library's own resizing would pick pixels."""
    board = (np.indices((640, 640)).sum(0) % 2 * 255).astype(np.uint8)[None, None]
    shrunk = fitted(torch.from_numpy(board), 299)
    assert shrunk.shape == (1, 3, 299, 299) and shrunk.dtype == torch.uint8
    inside = shrunk[..., 3:-3, 3:-3]
    assert inside.min() > 100 and inside.max() < 155
    small = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(fitted(small, 299), small), "enlarging is the network's own business"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_inception_scores_are_the_librarys_own(inception: Extractor, digits, inception_weights, cache: Path) -> None:
    """End to end at a size that means nothing, against torch-fidelity called directly."""
    protocol = make_protocol(inception, digits, num_generated=20)
    real = prepare_reference(protocol, inception, digits, cache)
    generator = architectures.build("dc", resolution=28, channels=1, latent_dim=8, generator_width=4).generator
    options = {"protocol": protocol, "extractor": inception, "data": digits, "cache": cache}
    scores = score_generator(generator, latent_dim=8, latent_std=1.0, batch_size=10, **options)

    def tiled(part: str) -> Images:
        return Images(np.repeat(digits.images(part)[:20], 3, 1))

    direct = torch_fidelity.calculate_metrics(
        input1=tiled("train"),
        input2=tiled("reference"),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(inception_weights),
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=10,
        kid_subsets=10,
        rng_seed=0,
        batch_size=10,
        save_cpu_ram=True,
        cuda=False,
        verbose=False,
    )
    assert real["fid"] == pytest.approx(direct["frechet_inception_distance"], rel=1e-3)
    assert real["is_mean"] == pytest.approx(direct["inception_score_mean"], rel=1e-6)
    # Called directly it takes KID in single precision, whose error at kernel values near 1 is as large as this KID.
    assert real["kid"] == pytest.approx(direct["kernel_inception_distance_mean"], abs=2e-6)
    assert (real["precision"], real["recall"]) == (direct["precision"], direct["recall"])
    assert scores["fid"] > real["fid"]
    assert scores.keys() >= {"fid_at_5", "fid_at_10"}


def tiny_clip(path: Path) -> None:
    """A vision transformer in CLIP's own format, TorchScript, of one block."""

    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = VisionTransformer(224, 32, 64, 1, 1, 16)
            self.text_projection = nn.Parameter(torch.zeros(4, 16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.visual(x)

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is deprecated, and still CLIP's
        torch.manual_seed(0)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.jit.save(torch.jit.trace(Clip().eval(), torch.zeros(1, 3, 224, 224)), path)


def test_clip_is_scored_from_a_local_file(empty_hub: Path, digits, tmp_path: Path) -> None:
    tiny_clip(empty_hub / "checkpoints" / PRETRAINED["clip"].file)
    coloured = prepare("mnist-5k", resolution=32, channels=3, cache=tmp_path)
    clip = prepare_extractor("clip", coloured, tmp_path)
    protocol = make_protocol(clip, coloured, num_generated=40)
    assert protocol.preparation == "bilinear as in TensorFlow 1 to 224"
    real = prepare_reference(protocol, clip, coloured, tmp_path)
    assert "is_mean" not in real, "CLIP classifies nothing"
    assert math.isfinite(real["fid"]) and real["fid"] > 0 and real.keys() >= {"kid", "precision", "fid_at_20"}


def test_without_weights_there_is_one_line_at_once(digits, empty_hub: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    for name, wanted in (
        ("inception-v3", PRETRAINED["inception-v3"].file),
        ("clip", PRETRAINED["clip"].file),
        ("dinov2", "dinov2_vitb14_pretrain.pth"),
    ):
        with pytest.raises(UserError, match=f"cannot download the extractor '{name}'.*by hand") as caught:
            prepare_extractor(name, digits, tmp_path)
        line = str(caught.value)
        assert "\n" not in line and str(empty_hub / "checkpoints" / wanted) in line
        assert (f"or name a local copy with {WEIGHTS_OPTION}" in line) == (name != "dinov2")
    assert time.monotonic() - started < 20


def test_bad_weights_are_refused_before_anything_starts(
    digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    cases = {
        "absent.pth": None,
        "text.pth": b"these are no weights",
        "evil.pth": pickle.dumps(Evil()),
        "text.pt": b"nor these",
    }
    for name, content in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / name))
        with pytest.raises(UserError, match=name) as caught:
            prepare_extractor("clip" if name.endswith(".pt") else "inception-v3", digits, tmp_path / "cache")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists(), "a pickle was run"
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "x.pth"))
    with pytest.raises(UserError, match="torch.hub alone"):
        prepare_extractor("dinov2", digits, tmp_path / "cache")


def test_published_weights_are_known_by_hash(
    digits, inception_weights: Path, empty_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the hashes are back
    monkeypatch.setenv("TORCH_HOME", str(empty_hub.parent))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    wrong = r"inception\.pth does not hold the published weights of inception-v3: .* with 6726825d; name another"
    with pytest.raises(UserError, match=wrong) as caught:
        prepare_extractor("inception-v3", digits, tmp_path, inception_weights)
    assert "\n" not in str(caught.value) and URL_INCEPTION_V3 in str(caught.value)
    tiny_clip(lying := empty_hub / "checkpoints" / PRETRAINED["clip"].file)
    with pytest.raises(UserError, match=f"{lying} does not hold .*; remove it, or fetch"):
        prepare_extractor("clip", digits, tmp_path)
    asked = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **words: asked.append(words["hash_prefix"]))
    with pytest.raises(FileNotFoundError):  # nothing came, and the check is torch's
        prepare_extractor("inception-v3", digits, tmp_path)
    assert asked == ["6726825d"] and Path(URL_INCEPTION_V3).stem.endswith(asked[0])


def test_a_named_file_precedes_the_variable(
    digits, inception_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "absent.pth"))
    named = prepare_extractor("inception-v3", digits, tmp_path, inception_weights)
    assert named.weights_hash == hashlib.sha256(inception_weights.read_bytes()).hexdigest()[:16]
    for name, weights, message in (
        ("inception-v3", tmp_path / "lost.pth", f"--extractor-weights={tmp_path}/lost.pth is not a file"),
        ("inception-v3", None, f"GAN_EXTRACTOR_WEIGHTS={tmp_path}/absent.pth is not a file"),
        (
            "classifier",
            inception_weights,
            "inception.pth does not hold a classifier that this program has trained; name one",
        ),
    ):
        with pytest.raises(UserError, match=message):
            prepare_extractor(name, digits, tmp_path, weights)


def test_weights_of_another_network_are_refused(digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "other.pth"))
    with pytest.raises(UserError, match="the weights of inception-v3-compat: its tensors are another network's"):
        prepare_extractor("inception-v3", digits, tmp_path)


def test_the_curves_take_the_classifier(inception: Extractor, extractor: Extractor, digits, cache: Path) -> None:
    assert prepare_online_extractor(extractor, digits, cache) == extractor
    assert prepare_online_extractor(inception, digits, cache) == extractor
    assert prepare_online_extractor(inception, replace(digits, num_classes=None), cache) is None


def test_a_plan_names_what_a_run_would_fetch(empty_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = replace(NOISE.questions[0], also=("fid@inception-v3", "fid@dinov2"))
    study = replace(NOISE, questions=(question,), profiles=(NOISE.profile("smoke"),))
    plan = make_plan(study, "smoke", 1, None)
    told = describe(plan, 1, tmp_path)
    assert f"  inception-v3 is downloaded once, from {URL_INCEPTION_V3}" in told
    assert f"  dinov2 is downloaded once, from github.com/facebookresearch/dinov2, by torch.hub, to {empty_hub}" in told
    with pytest.raises(UserError, match="cannot download the extractor 'inception-v3'"):
        require_weights(plan, Store(tmp_path / "store", create=True))
    profile = replace(plan.design.profile, extractor="inception-v3")  # whose weights the user may name to the run
    question = replace(question, also=("fid@inception-v3",))
    own = replace(plan, design=replace(plan.design, profile=profile, questions=(question,)))
    require_weights(own, Store(tmp_path / "store"))
    monkeypatch.setenv(WEIGHTS_VARIABLE, "absent.pth")
    (line,) = [line for line in describe(own, 1, tmp_path) if "cannot be had" in line]
    assert "GAN_EXTRACTOR_WEIGHTS=absent.pth is not a file" in line


def test_addresses_are_the_librarys() -> None:
    assert PRETRAINED["inception-v3"].url == URL_INCEPTION_V3
    clip = PRETRAINED["clip"]
    assert clip.url == MODEL_URLS[clip.served_as]
    assert clip.file == f"{clip.served_as}-{MODEL_METADATA[clip.served_as]['hash']}.pt"
