"""The classifier that comes with the package is the one that was published, and scores the digits everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data import PreparedData
from harness.files import file_checksum
from harness.scoring import classifier, yardstick
from harness.scoring.classifier import learned_from, load_classifier, read_card
from harness.scoring.fidelity import make_protocol
from harness.scoring.yardstick import SHIPPED, deviation, golden_scores, needs_training, prepare_extractor

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
    assert not needs_training("classifier", digits, tmp_path)
    monkeypatch.setattr(yardstick, "train_classifier", None)
    extractor = prepare_extractor("classifier", digits, tmp_path)
    assert extractor.weights_hash == HASH
    assert make_protocol(extractor, digits, num_generated=2000).protocol_id == PROTOCOL
