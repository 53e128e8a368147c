"""The classifier that comes with the package is the one that was published, and scores the digits everywhere."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data import PreparedData, prepare
from harness.errors import UserError
from harness.files import file_checksum
from harness.scoring import classifier, yardstick
from harness.scoring.classifier import learned_from, load_classifier, read_card
from harness.scoring.extractors import Extractor
from harness.scoring.features import modes_and_kl
from harness.scoring.fidelity import make_protocol
from harness.scoring.yardstick import (
    SHIPPED,
    deviation,
    golden_scores,
    prepare_extractor,
    refuse_unusable,
    seconds_to_learn,
)

FILE = SHIPPED / "mnist-5k.safetensors"
HASH = "37a8049c399696f3"
PROTOCOL = "c8f4ffeefc24"
"""Every table that was published with the digits' own yardstick carries this."""


def part(data: PreparedData, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(np.array(data.images(name))), torch.from_numpy(data.labels(name))


def test_its_bytes_are_those_published() -> None:
    assert file_checksum(FILE)[:16] == HASH
    assert FILE.stat().st_size <= 400_000


def test_it_learned_from_its_own_part(digits: PreparedData) -> None:
    card = read_card(FILE)
    assert card.learned_from == learned_from(*part(digits, "extractor"))
    assert card.training == classifier.TRAINING


def test_it_knows_digits_it_never_saw(digits: PreparedData) -> None:
    card, (images, labels) = read_card(FILE), part(digits, "reference")
    guesses = load_classifier(FILE, card.channels, card.num_classes)(images)[1].argmax(1)
    assert (guesses == labels).double().mean().item() == pytest.approx(card.accuracy, abs=5e-4)  # one digit of 2,000
    assert card.accuracy > 0.97


def test_every_feature_tells_digits_apart(digits: PreparedData) -> None:
    features = load_classifier(FILE, 1, 10)(part(digits, "reference")[0])[0].numpy()
    assert features.std(0).min() > 2.5  # 5 on its own images
    assert np.linalg.eigvalsh(np.cov(features.T)).min() > 1e-4  # and none is a mixture of the others


def test_it_measures_here_what_is_recorded(digits: PreparedData, tmp_path: Path) -> None:
    extractor = prepare_extractor("classifier", digits, tmp_path)
    protocol = make_protocol(extractor, digits, num_generated=2000)
    assert len(extractor.golden) == 4
    assert deviation(golden_scores(extractor, protocol, digits, tmp_path), extractor.golden) == ""


def test_nobody_trains_another(digits: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not seconds_to_learn(digits, tmp_path)
    monkeypatch.setattr(yardstick, "train_classifier", None)
    extractor = prepare_extractor("classifier", digits, tmp_path)
    assert extractor.weights_hash == HASH
    assert make_protocol(extractor, digits, num_generated=2000).protocol_id == PROTOCOL


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare("stacked-mnist", resolution=28, channels=3, cache=tmp_path_factory.mktemp("stacked"))


@pytest.fixture(scope="module")
def by_channel(stacked: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yardstick, "train_classifier", None)
        patch.setattr(yardstick, "describe_classifier", None)
        return prepare_extractor("classifier", stacked, tmp_path_factory.mktemp("extractor"))


def test_the_stacked_yardstick_is_that_published(by_channel: Extractor) -> None:
    """On every processor: nothing of it is measured here."""
    assert by_channel.weights_hash == "93dbb8e645f0d424"


@pytest.mark.parametrize(
    ("changed", "how"),
    [
        ({"weights": "0" * 16}, "other"),
        ({"card": {"training": 1}}, "other"),
        ({"card": {"learned_from": "0" * 16}}, "other"),
        ({"card": {"more": 1}}, "damaged"),
        ({"card": None}, "damaged"),
        (None, "damaged"),
    ],
)
def test_another_card_is_not_taken(
    changed: dict | None, how: str, stacked: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, path = json.loads(yardstick.STACKED_CARD.read_text()), tmp_path / "card.json"
    for key, value in (changed or {}).items():
        recorded[key] = recorded[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(recorded) if changed else '{"card"')
    monkeypatch.setattr(yardstick, "STACKED_CARD", path)
    monkeypatch.setattr(yardstick, "describe_classifier", lambda *_: (_ for _ in ()).throw(LookupError("measured")))
    refused = pytest.raises(LookupError) if how == "other" else pytest.raises(UserError, match=r"card\.json is damaged")
    with refused:
        prepare_extractor("classifier", stacked, tmp_path)


@pytest.mark.slow
def test_its_card_is_what_is_measured(stacked: PreparedData) -> None:
    recorded = json.loads(yardstick.STACKED_CARD.read_text())["card"]
    network = yardstick.by_channel(FILE)
    measured = asdict(yardstick.describe_classifier(network, stacked, learned_from(*part(stacked, "extractor"))))
    assert deviation(measured.pop("golden"), recorded.pop("golden")) == ""
    assert measured.pop("feature_rms") == pytest.approx(recorded.pop("feature_rms"), rel=1e-6)
    assert measured == recorded


@pytest.mark.slow
def test_at_another_size_it_is_measured(tmp_path: Path) -> None:
    smaller = prepare("stacked-mnist", resolution=20, channels=3, cache=tmp_path)
    found = prepare_extractor("classifier", smaller, tmp_path)
    assert found.weights_hash != "93dbb8e645f0d424" and found.accuracy > 0.8


def test_stacked_digits_are_known_by_channel(stacked: PreparedData, by_channel: Extractor, tmp_path: Path) -> None:
    """Metz et al. 2017: three digits are the three digits of the mode, hundreds red; nothing is trained for it."""
    assert not seconds_to_learn(stacked, tmp_path)
    extractor = by_channel
    assert (extractor.num_classes, extractor.dim, extractor.accuracy) == (1000, 192, pytest.approx(0.92025, abs=1e-3))
    images, labels = (values[::40] for values in part(stacked, "reference"))
    features, logits = extractor.load()(images)
    each, of_each = load_classifier(FILE, 1, 10)(images.reshape(-1, 1, 28, 28))
    torch.testing.assert_close(features, each.view(100, 192), rtol=1e-3, atol=1e-4)
    red, green, blue = of_each.argmax(1).view(100, 3).T
    assert (logits.argmax(1) == 100 * red + 10 * green + blue).all()
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(100, dtype=torch.float64))
    assert (logits.argmax(1) == labels).double().mean() > 0.8


def test_stacked_digits_count_their_modes(stacked: PreparedData, by_channel: Extractor) -> None:
    """Of real pictures nearly all of 1,000; of those whose red digit is a 7 some hundred, and a divergence of ln 10."""
    network, (images, labels) = by_channel.load(), part(stacked, "train")
    logits = network(images[::2])[1]
    counts = torch.bincount(network(part(stacked, "reference")[0])[1].argmax(1), minlength=1000)
    modes, kl = modes_and_kl(logits.argmax(1), counts)
    assert modes >= 999 and kl < 0.1
    sevens = logits[labels[::2] // 100 == 7].argmax(1)
    modes, kl = modes_and_kl(sevens, counts)
    assert 100 <= modes < 200 and kl == pytest.approx(np.log(10), abs=0.3)


def test_the_stacked_yardstick_measures_here_too(stacked: PreparedData, by_channel: Extractor, tmp_path: Path) -> None:
    extractor = by_channel
    protocol = make_protocol(extractor, stacked, num_generated=2000)
    assert deviation(golden_scores(extractor, protocol, stacked, tmp_path), extractor.golden) == ""
    assert refuse_unusable(extractor, extractor.load()(part(stacked, "reference")[0][:8])[0]) is None
