"""One yardstick for a data set, on every machine: where a classifier comes from, and whether it measures alike."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from harness.data import PreparedData, prepare
from harness.errors import UserError
from harness.execution.contexts import scoring_contexts
from harness.scoring import classifier, yardstick
from harness.scoring.classifier import read_card
from harness.scoring.extractors import Extractor
from harness.scoring.fidelity import make_protocol
from harness.scoring.yardstick import deviation, golden_scores, prepare_classifier, seconds_to_learn
from harness.storage.store import Store
from studies.noise import NOISE


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Pictures of one's own: stripes, upright and level, 200 of each."""
    root, cache = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("cache")
    numbers = np.random.RandomState(0)
    for label in ("level", "upright"):
        (root / label).mkdir()
        for i in range(200):
            stripes = numbers.randint(0, 256, (16, 1)).repeat(16, 1) + numbers.randint(-20, 20, (16, 16))
            pixels = stripes.clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels if label == "level" else pixels.T).save(root / label / f"{i}.png")
    return prepare(f"folder:{root}", resolution=16, channels=1, cache=cache)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "EPOCHS", 20)


def test_training_is_a_function_of_the_data(own: PreparedData, tmp_path: Path) -> None:
    torch.rand(5)
    state = torch.get_rng_state()
    first, second = (prepare_classifier(own, tmp_path / name) for name in ("a", "b"))
    assert first.weights_hash == second.weights_hash and first.weights_path != second.weights_path
    assert torch.equal(torch.get_rng_state(), state)
    assert first.feature_rms == second.feature_rms > 0 and first.accuracy > 0.9


def test_it_learns_from_its_own_part_alone(own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    train = yardstick.train_classifier
    monkeypatch.setattr(yardstick, "train_classifier", lambda *words: seen.append(words[0]) or train(*words))
    prepare_classifier(own, tmp_path)
    assert len(seen) == 1 and np.array_equal(seen[0].numpy(), own.images("extractor"))


def test_a_data_set_comes_in_batches(digits: PreparedData) -> None:
    """Of 20,000 pictures of stacked digits in one the layers took 6 GB."""
    network, seen = classifier.Classifier(1, 10), []
    network.register_forward_hook(lambda _, shown, __: seen.append(len(shown[0])))
    yardstick.describe_classifier(network, digits, "")
    assert max(seen) <= 500 < len(digits.images("extractor")) < sum(seen)


def test_the_store_keeps_its_classifier_for_good(own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "extractors"
    assert seconds_to_learn(own, kept)
    first = prepare_classifier(own, tmp_path / "cache", kept=kept)
    assert not seconds_to_learn(own, kept)
    monkeypatch.setattr(yardstick, "train_classifier", None)  # neither a new cache nor new code trains it again
    assert prepare_classifier(own, tmp_path / "new", kept=kept).weights_hash == first.weights_hash
    (file,) = kept.iterdir()
    assert file.read_bytes() == first.weights_path.read_bytes()
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(UserError, match="its checksum differs"):
        prepare_classifier(own, tmp_path / "new", kept=kept)


def test_a_classifier_from_elsewhere_scores(own, digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = prepare_classifier(own, tmp_path / "theirs")
    monkeypatch.setattr(classifier, "EPOCHS", 21)
    here = prepare_classifier(own, tmp_path / "ours")
    assert here.weights_hash != theirs.weights_hash
    taken = prepare_classifier(own, tmp_path / "ours", theirs.weights_path)
    assert replace(taken, weights_path=theirs.weights_path) == theirs
    assert prepare_classifier(own, tmp_path / "ours").weights_hash == here.weights_hash, "its own stays its own"
    with pytest.raises(UserError, match="was trained on other pictures than mnist-5k at 28×28×1"):
        prepare_classifier(digits, tmp_path, theirs.weights_path)
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(UserError, match="does not hold a classifier that this program has trained"):
        prepare_classifier(own, tmp_path, other)
    with pytest.raises(UserError, match="is not a file"):
        prepare_classifier(own, tmp_path, tmp_path / "nowhere")


def test_golden_images_score_the_same_every_time(digits, extractor: Extractor, tmp_path: Path) -> None:
    protocol = make_protocol(extractor, digits, num_generated=1000)
    found = golden_scores(extractor, protocol, digits, tmp_path)
    assert found.keys() == extractor.golden.keys() and not deviation(found, extractor.golden)
    assert 0 < found["golden_fid_real"] < found["golden_fid_noisy"]
    assert abs(found["golden_kid_real"]) < found["golden_kid_noisy"]


@pytest.mark.parametrize("instructions", ["default", "avx2"])
def test_other_instructions_measure_the_same(digits, extractor, cache: Path, instructions: str) -> None:
    """The nearest to another processor that one processor can give: torch's and oneDNN's slower code paths."""
    code = (
        "import json, sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from harness.data import prepare; from harness.scoring.yardstick import *\n"
        "from harness.scoring.fidelity import make_protocol\n"
        "digits = prepare('mnist-5k', resolution=28, channels=1, cache=Path(sys.argv[1]))\n"
        "extractor = prepare_extractor('classifier', digits, Path(sys.argv[1]))\n"
        "protocol = make_protocol(extractor, digits, num_generated=1000)\n"
        "found = golden_scores(extractor, protocol, digits, Path(sys.argv[2]))\n"
        "print(json.dumps([machine('cpu')['instructions'], protocol.protocol_id, found]))"
    )
    names = {"ATEN_CPU_CAPABILITY": instructions, "ONEDNN_MAX_CPU_ISA": "AVX2" if instructions == "avx2" else "SSE41"}
    words = [sys.executable, "-c", code, str(cache), str(cache / instructions)]
    done = subprocess.run(words, env={**os.environ, **names}, capture_output=True, text=True, check=True)
    capability, protocol_id, found = json.loads(done.stdout)
    assert capability.lower().startswith(instructions) and not deviation(found, extractor.golden)
    assert protocol_id == make_protocol(extractor, digits, num_generated=1000).protocol_id


def test_what_measures_otherwise_is_told() -> None:
    recorded = {"golden_fid_real": 2.0, "golden_kid_real": -1e-6, "golden_fid_noisy": 50.0, "golden_kid_noisy": 0.1}
    assert deviation(recorded, recorded) == deviation({}, {}) == ""
    assert not deviation({**recorded, "golden_fid_real": 2.0 + 1e-6, "golden_kid_real": -1.05e-6}, recorded)
    told = deviation({**recorded, "golden_fid_noisy": 50.001}, recorded)
    assert told == "FID of the noisy golden images is 50.001 here, and 50 on record"
    assert deviation({**recorded, "golden_kid_real": 1e-6}, recorded).startswith("KID of the real golden images")
    easy = {**recorded, "golden_kid_noisy": -0.020061448}  # of 400 shapes, measured twice by one machine
    assert not deviation({**easy, "golden_kid_noisy": -0.020061475}, easy)
    assert deviation({**easy, "golden_kid_noisy": -0.0200617}, easy).startswith("KID of the noisy golden images")
    assert deviation({}, recorded) and deviation({**recorded, "golden_fid_real": float("nan")}, recorded)


def test_a_machine_that_deviates_has_its_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def protocol(store: Store) -> tuple[str, list[str]]:
        design, said = NOISE.at("smoke"), []
        data = prepare("mnist-5k", resolution=28, channels=1, cache=store.cache)
        spec = design.runs(1, lambda *_: data.fingerprint)[0].spec
        context = scoring_contexts(NOISE, [spec], "classifier", 500, store, said.append)[data.fingerprint]
        assert store.read_reference(context.protocol.protocol_id)["golden_fid_noisy"] > 0
        return context.protocol.protocol_id, said

    store = Store(tmp_path / "store", create=True)
    usual, said = protocol(store)
    measure, off = yardstick.score_images, 1 + 1e-5
    monkeypatch.setattr(yardstick, "score_images", lambda *w: [{k: off * v for k, v in m.items()} for m in measure(*w)])
    monkeypatch.setattr(yardstick, "machine", lambda device: {"torch": "another"})
    other, told = protocol(store)
    assert other != usual and not any("measures otherwise" in line for line in said)
    (line,) = [line for line in told if "measures otherwise" in line]
    assert other in line and usual in line and "\n" not in line
    monkeypatch.undo()
    assert protocol(store)[0] == usual


def test_a_card_says_where_it_comes_from(extractor: Extractor, digits: PreparedData) -> None:
    card = read_card(extractor.weights_path)
    assert card.num_classes == 10 and card.channels == 1 and card.training == classifier.TRAINING
    assert card.accuracy == extractor.accuracy and card.feature_rms == extractor.feature_rms
