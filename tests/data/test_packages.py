"""Data sets that come with packages: Debian's, where they are installed and as small ones made here; stacked digits."""

import gzip
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import architectures
from harness.data import PARTS, PreparedData, prepare
from harness.errors import UserError
from harness.execution.plan import make_plan
from harness.inspection import full_lines, short_lines
from harness.sources import NATURAL_SHAPES, PACKAGES, Package, is_downloaded, natural_shape
from studies.noise import NOISE
from tests.data.test_data import put_idx


def put_package(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this folder be where Debian's package has its data."""
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setitem(PACKAGES, name, Package(PACKAGES[name].name, folder))
    return folder


def put_fashion(folder: Path, *, packed: bool) -> None:
    rng = np.random.default_rng(0)
    for split, n in (("train", 200), ("t10k", 50)):
        for what, values in (
            ("images-idx3", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)),
            ("labels-idx1", np.arange(n) % 10),
        ):
            path = folder / f"{split}-{what}-ubyte"
            put_idx(path, values)
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()


def put_cliparts(folder: Path) -> None:
    """Three folders as in openclipart: some pictures deeper, transparent, and one in two folders."""
    rng = np.random.default_rng(0)
    for n in range(120):
        where = folder / ("animals", "buildings", "food/fruit")[n % 3]
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 32, 4), np.uint8), "RGBA").save(where / f"{n:03}.png")
    clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 8, 8))
    for where in ("animals", "buildings", "food/fruit"):
        clear.save(folder / where / "same.png")


def fashion(cache: Path) -> PreparedData:
    return prepare("fashion-mnist", resolution=28, channels=1, cache=cache)


def parts_of(data: PreparedData) -> dict[bytes, set[str]]:
    """Pixels -> the parts that they lie in."""
    found: dict[bytes, set[str]] = {}
    for part in PARTS:
        for image in data.images(part):
            found.setdefault(image.tobytes(), set()).add(part)
    return found


def test_a_package_is_as_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = put_package("fashion-mnist", tmp_path / "package", monkeypatch)
    assert is_downloaded("fashion-mnist") and is_downloaded("mnist")
    put_fashion(package, packed=True)
    assert not is_downloaded("fashion-mnist") and not is_downloaded("fashion-mnist@5") and is_downloaded("mnist")
    put_fashion(tmp_path / "b" / "downloads" / "FashionMNIST" / "raw", packed=False)
    found, by_hand = fashion(tmp_path / "a"), fashion(tmp_path / "b")
    assert found.fingerprint == by_hand.fingerprint and [len(found.images(p)) for p in PARTS] == [180, 50, 20]
    (package / "t10k-images-idx3-ubyte.gz").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"cannot read .*t10k-images.* package dataset-fashion-mnist .*again") as caught:
        fashion(tmp_path / "c")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(is_downloaded("fashion-mnist"), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_installed_fashion_mnist(tmp_path: Path) -> None:
    data = fashion(tmp_path)
    assert data.fingerprint == "6ccc187ef6b35423" and data.survey.copies == 0
    assert [len(data.images(p)) for p in PARTS] == [54_000, 10_000, 6_000]


def test_cliparts_are_a_named_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for name in ("a", "b"):
        package = put_package("openclipart", tmp_path / name, monkeypatch)
        put_cliparts(package)
        data = prepare("openclipart", resolution=32, channels=3, cache=tmp_path / "cache")
        found.add(data.fingerprint)
    assert len(found) == 1, "the path is no part of it"
    assert data.survey.classes == ["animals", "buildings", "food"]
    assert (data.survey.pictures, data.survey.copies, data.survey.contradictions) == (123, 2, 2)
    (same,) = [image for image in parts_of(data) if image[:3] == b"\0\0\0" and image[-3:] == b"\xff\xff\xff"]
    assert len(parts_of(data)[same]) == 1, "transparency over white, and all of it in one part"
    for lines in (short_lines(data), full_lines(data)):
        assert "2 are copies of others (equal at 32×32), 2 of them in another class" in " ".join(
            " ".join(lines).split()
        )
    put_package("openclipart", tmp_path / "a", monkeypatch)
    (tmp_path / "a" / "animals" / "same.png").unlink()
    assert prepare("openclipart", resolution=32, channels=3, cache=tmp_path / "cache").survey.pictures == 122


def test_a_package_that_is_absent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put_package("openclipart", tmp_path / "absent", monkeypatch)
    folder.rmdir()
    with pytest.raises(UserError, match="`apt install openclipart-png`") as caught:
        prepare("openclipart", resolution=32, channels=3, cache=tmp_path / "cache")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("beforehand", [False, True])
def test_equal_pictures_share_a_part(tmp_path: Path, beforehand: bool) -> None:
    """Whatever their classes, and in a test split of somebody's own, too."""
    rng = np.random.default_rng(0)
    for n in range(120):
        picture = Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8))
        for copy in range(1 + (n % 3 == 0)):
            split = ("test" if (n + copy) % 5 == 0 else "train") if beforehand else "."
            folder = tmp_path / "p" / split / f"class {(n + copy) % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{n}-{copy}.png")
    with pytest.warns(UserWarning) if beforehand else nullcontext():
        data = prepare(f"folder:{tmp_path / 'p'}", resolution=12, channels=1, cache=tmp_path / "cache")
    assert data.survey.copies == 40 and len(parts_of(data)) == 120
    assert all(len(parts) == 1 for parts in parts_of(data).values())


def test_stacked_digits_have_every_mode(digits: PreparedData, tmp_path: Path) -> None:
    data = prepare("stacked-mnist", resolution=28, channels=3, cache=tmp_path)
    assert data.fingerprint == "2bcd426702369cfa" and data.survey.copies == 0 and data.num_classes == 1000
    for part, size in (("train", 20), ("reference", 4), ("extractor", 20)):
        images, labels = data.images(part), data.labels(part)
        assert np.bincount(labels).tolist() == [size] * 1000
        own = {image.tobytes(): label for image, label in zip(digits.images(part), digits.labels(part), strict=True)}
        for image, label in zip(images[:200], labels[:200], strict=True):
            assert [own[channel.tobytes()] for channel in image] == [label // 100, label // 10 % 10, label % 10]
    with pytest.raises(UserError, match="channels=1 would mix them; allowed: 3"):
        prepare("stacked-mnist", resolution=28, channels=1, cache=tmp_path)


def test_a_profile_takes_its_datas_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_cliparts(put_package("openclipart", tmp_path / "c", monkeypatch))
    put_fashion(put_package("fashion-mnist", tmp_path / "f", monkeypatch), packed=True)
    for dataset, shape in (("openclipart", (32, 3)), ("fashion-mnist", (28, 1)), ("stacked-mnist@500", (28, 3))):
        made = make_plan(NOISE, f"laptop@{dataset}", 1, None)
        assert {(run.spec.resolution, run.spec.channels) for run in made.runs} == {shape}
        assert made.data_lines[0].startswith(f"{dataset}: ")
    assert natural_shape("mnist") == ({}, 0) == natural_shape("folder:openclipart")
    for resolution, _, stages in NATURAL_SHAPES.values():
        assert architectures.defaults("dc", resolution=resolution)["generator_depth"] == stages + 1, (
            "doublings, and one"
        )
    assert NOISE.profile("paper@openclipart").changes == {"dataset": "openclipart", "kimg": 2000.0}
