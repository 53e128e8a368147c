"""Pictures kept in one piece: a zip file and a set of `datasets` are the same data as the folder of their pictures."""

import importlib.util
import os
import shutil
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from harness.data import PreparedData, prepare
from harness.errors import UserError
from harness.sources import is_downloaded

has_datasets = pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")


def prepared(source: Path | str, cache: Path) -> PreparedData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = f"folder:{source}" if isinstance(source, Path) else source
        return prepare(name, resolution=16, channels=3, cache=cache)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twelve pictures in four formats, a turned photo, and files that are not read."""
    root = tmp_path_factory.mktemp("pictures") / "pets"
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i, ending in enumerate(("png", "jpg", "webp", "bmp") * 3):
            picture = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
            exif = Image.Exif()
            exif[0x0112] = 6 if ending == "jpg" else 1
            picture.save(root / name / f"{i}.{ending}", exif=exif)
    (root / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    (root / "cat" / "notes.txt").write_text("of the vet")
    return root


def zipped(folder: Path, archive: Path, wrapper: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, wrapper + str(path.relative_to(folder)))
    return archive


@pytest.mark.parametrize("wrapper", ["", "pets-v2/"])
def test_a_zip_is_its_folder(folder: Path, tmp_path: Path, wrapper: str) -> None:
    plain, packed = (
        prepared(folder, tmp_path / "a"),
        prepared(zipped(folder, tmp_path / "z.zip", wrapper), tmp_path / "b"),
    )
    assert packed.fingerprint == plain.fingerprint and packed.num_classes == 2
    assert [line.removeprefix(wrapper) for line in packed.skipped] == list(plain.skipped) and len(plain.skipped) == 2
    assert packed.survey == plain.survey and packed.survey.endings[".webp"] == 6
    assert not list((tmp_path / "b").rglob("unpacked-*")), "what was unpacked is gone"
    assert not [path for path in packed.folder.iterdir() if path.is_dir()]


def test_a_zip_is_read_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(folder, tmp_path / "z.zip")
    first = prepared(archive, tmp_path / "c")
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extract", None)
        assert prepared(archive, tmp_path / "c") == first
    os.utime(archive, (1, 1))
    again = prepared(archive, tmp_path / "c")
    assert again.fingerprint == first.fingerprint and again.folder != first.folder


def test_what_a_zip_hides_is_named(folder: Path, tmp_path: Path) -> None:
    archive = zipped(folder, tmp_path / "z.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../outside.png", b"no picture")
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "0.png")
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:  # one whose content no longer fits its checksum
        info = file.getinfo("dog/0.png")
    content[info.header_offset + 30 + len("dog/0.png") + 200] ^= 0xFF
    archive.write_bytes(content)
    skipped = prepared(archive, tmp_path / "c").skipped
    assert "cat/link.png: a link" in skipped and any(line.startswith("dog/0.png: ") for line in skipped)
    assert not list(tmp_path.glob("outside.png")) and not list((tmp_path / "c").rglob("outside.png"))


def test_bad_zips_are_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(folder, tmp_path / "z.zip")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive.read_bytes()[:-30])
    (tmp_path / "words.zip").write_text("no zip file")
    zipped(folder / "nothing", tmp_path / "empty.zip")
    with zipfile.ZipFile(tmp_path / "words-only.zip", "w") as file:
        file.writestr("a/readme.txt", "words")
    for name, message in (
        ("cut", "cut.zip is neither a folder nor a whole zip file; give folder:PATH"),
        ("words", "words.zip is neither a folder nor a whole zip file"),
        ("empty", r"empty.zip has no readable image \(it is empty\)"),
        ("words-only", r"words-only.zip has no readable image \(it holds a/readme.txt \(no picture\)\)"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            prepared(tmp_path / f"{name}.zip", tmp_path / "c")
        assert "unpacked-" not in str(refused.value) and "\n" not in str(refused.value)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"z.zip holds .* MiB, and only 0 MiB are free"):
        prepared(archive, tmp_path / "d")
    assert not [path for path in (tmp_path / "c" / "data").iterdir() if path.is_dir()], "nothing half-made stays"


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="pillow-heif is not installed")
def test_heic_is_read_by_its_plugin(folder: Path, tmp_path: Path) -> None:
    import pillow_heif

    shutil.copytree(folder, tmp_path / "pets")
    for path in sorted((tmp_path / "pets" / "dog").glob("*.png")):
        pillow_heif.from_pillow(Image.open(path).resize((64, 64))).save(path.with_suffix(".heic"), quality=-1)
        path.unlink()
    plain = prepared(tmp_path / "pets", tmp_path / "a")
    assert plain.survey.endings[".heic"] == 3 and len(plain.skipped) == 2
    assert prepared(zipped(tmp_path / "pets", tmp_path / "z.zip"), tmp_path / "b").fingerprint == plain.fingerprint


def rows_of(folder: Path, datasets):
    """The pictures of the folder as rows, with the broken one among them."""
    names = [path for path in sorted(folder.glob("*/*")) if path.suffix != ".txt"]
    features = datasets.Features(
        {"photo": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "id": datasets.Value("int64")}
    )
    rows = {
        "photo": [{"bytes": path.read_bytes(), "path": None} for path in names],
        "label": [path.parent.name for path in names],
        "id": list(range(len(names))),
    }
    return datasets.Dataset.from_dict(rows, features=features)


@has_datasets
@pytest.mark.filterwarnings("ignore")
def test_a_saved_set_is_its_folder(folder: Path, tmp_path: Path) -> None:
    import datasets

    rows_of(folder, datasets).save_to_disk(tmp_path / "saved")
    plain, saved = prepared(folder, tmp_path / "a"), prepared(tmp_path / "saved", tmp_path / "b")
    assert saved.fingerprint == plain.fingerprint and saved.num_classes == 2
    assert saved.survey.classes == ["cat", "dog"] and len(saved.skipped) == 1
    rows = rows_of(folder, datasets)
    splits = {"train": rows.select(range(0, 25, 2)), "test": rows.select(range(1, 25, 2))}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "splits")
    split = prepared(tmp_path / "splits", tmp_path / "c")
    assert "split beforehand (test 12, train 12; test is the reference)" in split.arrangement


@has_datasets
@pytest.mark.filterwarnings("ignore")
def test_a_set_without_pictures_is_refused(folder: Path, tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "words")
    with pytest.raises(UserError, match=r"words has 0 columns of pictures \(text\); allowed: one, of the kind Image"):
        prepared(tmp_path / "words", tmp_path / "c")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="`datasets` cannot read .*broken: ") as refused:
        prepared(tmp_path / "broken", tmp_path / "c")
    assert "\n" not in str(refused.value)


@has_datasets
@pytest.mark.filterwarnings("ignore")
def test_a_set_on_the_hub_has_its_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the library's own loading, of a repository that lies on this disk."""
    import datasets

    place = tmp_path / "lab" / "pets" / "data"
    place.mkdir(parents=True)
    rows_of(folder, datasets).to_parquet(place / "train-00000-of-00001.parquet")
    monkeypatch.chdir(tmp_path)
    assert is_downloaded("hf:lab/pets") and is_downloaded("hf:lab/pets@5")
    found = prepared("hf:lab/pets", tmp_path / "b")
    assert found.fingerprint == prepared(folder, tmp_path / "a").fingerprint and found.dataset == "hf:lab/pets"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read when it is imported
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"cannot get hf:lab/none \(.*\); where there is no network, save it"
    ) as refused:
        prepared("hf:lab/none", tmp_path / "b")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="'hf:' names no set; give hf:NAME"):
        prepared("hf:", tmp_path / "b")


def test_without_the_package_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package datasets; `pip install 'gan-ablation\[datasets\]'`"):
        prepared("hf:lab/pets", tmp_path / "b")
