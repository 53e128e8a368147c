"""A copied image is found, whatever its place; a cache that is gone is no error."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.memorization import nearest, of_trial
from harness.analysis.results import load
from harness.storage.samples import from_png, to_png
from harness.storage.store import Store
from tests.analysis.conftest import made_up_grid


def test_the_nearest_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    among = rng.integers(0, 256, (4500, 1, 4, 4), dtype=np.uint8)  # more than one block
    images = rng.integers(0, 256, (7, 1, 4, 4), dtype=np.uint8)
    images[3] = among[4321]
    index, distance = nearest(images, among)
    full = np.sqrt(((images[:, None].astype(float) - among) ** 2).mean((2, 3, 4)))
    assert index.tolist() == full.argmin(1).tolist() and index[3] == 4321
    assert distance == pytest.approx(full.min(1), abs=0.05)


def test_a_generator_that_copies_is_found_out(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    trial_id = load(store).query("status == 'ok'").trial_id.iloc[0]
    honest = of_trial(store, trial_id)
    samples = from_png(made_up_grid(np.random.default_rng(1), 0), 28)[:, None].copy()
    train = np.load(store.cache / "data" / "made-up" / "train.npy")
    samples[10] = train[17]
    monkeypatch.setattr(Store, "read_samples", lambda *_: to_png(samples))
    caught = of_trial(store, trial_id)
    assert honest is not None and caught is not None
    assert (caught.samples[0] == train[17, 0]).all() and (caught.nearest[0] == train[17, 0]).all()
    assert not (honest.samples[0] == honest.nearest[0]).all() and honest.ratio > 0.5


def test_without_the_cache_there_is_nothing_to_compare(store: Store, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    trial_id = load(store).query("status == 'ok'").trial_id.iloc[0]
    assert of_trial(store, trial_id) is not None
    shutil.rmtree(store.root / "cache")
    assert of_trial(store, trial_id) is None
