"""Folders of pictures as people have them: what is read, what its folders mean, and what is said of the rest."""

import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import pictures
from harness.data import PARTS, PreparedData, prepare
from harness.errors import UserError
from harness.pictures import HEIC_REASON, summary, walk
from harness.storage.store import Store
from tests.data.shipped_digits import shipped_digits

RNG = np.random.default_rng(0)


def put(folder: Path, number: int, ending: str = ".png", side: int = 12) -> None:
    """So many different pictures into a folder, beside what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(len(list(folder.iterdir())), len(list(folder.iterdir())) + number):
        Image.fromarray(RNG.integers(0, 256, (side, side), dtype=np.uint8)).save(folder / f"{i:03}{ending}")


def arranged(root: Path) -> tuple[dict[str, int], str]:
    """(class, with a * for the test split -> pictures, how the folders were understood)."""
    tree, counts = walk(root), {}
    for _, label, is_test in tree.pictures:
        key = f"{label}{'*' * is_test}"
        counts[key] = counts.get(key, 0) + 1
    return counts, tree.arrangement


def load(root: Path, cache: Path, **changes) -> PreparedData:
    return prepare(f"folder:{root}", **{"resolution": 12, "channels": 1, "cache": cache, **changes})


def test_service_folders_change_nothing_and_are_named(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for name in ("cats", "dogs"):
        put(root / name, 20)
    before = load(root, tmp_path / "cache")
    places = (".Trash-0/files", ".ipynb_checkpoints", "@eaDir", "__MACOSX/cats", "cats/.git", "lost+found", "#recycle")
    for place in places:
        put(root / place, 3)
    (root / "cats" / "Thumbs.db").write_bytes(b"x")
    (root / "dogs" / "._1.jpg").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"3 files in #recycle, 3 files in \.Trash-0 and 5 more \(a hidden or service"):
        after = load(root, tmp_path / "cache")
    assert (after.fingerprint, after.num_classes) == (before.fingerprint, 2)
    told = "\n".join(after.skipped)
    for place in places:
        assert f"3 files in {place.removesuffix('/files').removesuffix('/cats')}: a hidden or service folder" in told
    assert "cats/Thumbs.db: a hidden or service file" in told and "dogs/._1.jpg: a hidden or service file" in told


def test_a_store_among_the_pictures_is_left_out(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        put(tmp_path / name, 20)
    store = Store(tmp_path / "runs", create=True)
    put(store.root / "trials", 3)
    with pytest.warns(UserWarning, match=r"4 files in runs \(a store of results\)"):
        data = load(tmp_path, store.cache)
    assert data.num_classes == 2
    put(store.root / "trials", 3)
    assert load(tmp_path, store.cache).folder == data.folder, "results that come are no reason to prepare again"


def test_shards_have_no_classes_but_numbers_may(tmp_path: Path) -> None:
    def classes(name: str, sizes: dict[str, int]) -> int:
        for folder, number in sizes.items():
            put(tmp_path / name / folder, number)
        return len(arranged(tmp_path / name)[0])

    assert classes("ffhq", {"00000": 10, "01000": 10, "02000": 4}) == 1
    assert classes("parts", {f"part-{i}": 10 for i in (1, 2, 3, 10)}) == 1
    assert classes("digits", {str(i): 10 for i in range(10)}) == 10
    assert classes("signs", {"00000": 4, "00001": 10, "00002": 7}) == 3, "classes differ in size"
    assert classes("years", {"1998": 10, "1999": 10}) == 2, "no leading zeros"
    assert "2 numbered folders" not in arranged(tmp_path / "years")[1]
    assert "3 numbered folders of one size (00000, 01000, 02000) look like shards" in arranged(tmp_path / "ffhq")[1]
    with pytest.warns(UserWarning, match="look like shards of one set; if they are classes, rename them"):
        assert load(tmp_path / "ffhq", tmp_path / "cache").num_classes is None


def test_a_split_made_beforehand_is_kept(tmp_path: Path) -> None:
    for split, number in (("training_set", 20), ("val", 5), ("test", 8)):
        for name in ("cats", "dogs"):
            put(tmp_path / "three" / split / name, number)
    counts, words = arranged(tmp_path / "three")
    assert counts == {"cats": 25, "dogs": 25, "cats*": 8, "dogs*": 8}
    assert words.startswith("split beforehand (test 16, training_set 40, val 10; test is the reference), its folders")
    with pytest.warns(UserWarning, match="split beforehand"):
        data = load(tmp_path / "three", tmp_path / "cache")
    assert [len(data.images(part)) for part in PARTS] == [46, 16, 4] and data.survey.classes == ["cats", "dogs"]

    for split in ("seg_train/seg_train", "seg_test/seg_test"):  # a wrapper inside each, as unpacked
        for name in ("sea", "wood"):
            put(tmp_path / "wrapped" / "archive" / split / name, 10)
    assert arranged(tmp_path / "wrapped")[0] == {"sea": 10, "wood": 10, "sea*": 10, "wood*": 10}

    put(tmp_path / "flat" / "train", 20)
    put(tmp_path / "flat" / "test", 10)
    assert arranged(tmp_path / "flat")[0] == {"": 20, "*": 10}, "train and test are no classes"


def test_a_split_that_does_not_fit_is_said(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        put(tmp_path / "train" / name, 30)
    put(tmp_path / "test", 30)  # without labels, as in competitions
    assert arranged(tmp_path)[0] == {"cats": 30, "dogs": 30}
    assert sum("without a class, which the train split has" in line for line in walk(tmp_path).left_out) == 30
    put(tmp_path / "val" / "cats", 2)
    put(tmp_path / "val" / "cows", 1)
    counts, words = arranged(tmp_path)
    assert counts == {"cats": 32, "dogs": 30} and "too few in test: all are pooled and split anew" in words
    assert "val/cows/000.png: of a class that the train split lacks" in walk(tmp_path).left_out
    put(tmp_path / "extra", 3)
    with pytest.raises(UserError, match="was split beforehand .* that are no split: extra; move these away"):
        walk(tmp_path)


def test_loose_pictures_and_wrappers(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        put(tmp_path / "PetImages" / name / "deeper", 10)
    assert arranged(tmp_path) == (
        {"cats": 10, "dogs": 10},
        "its folders are the classes (cats, dogs), inside PetImages/",
    )
    put(tmp_path / "PetImages", 5)
    assert arranged(tmp_path)[0] == {"cats": 10, "dogs": 10}
    assert "PetImages/002.png: beside the class folders, in none of them" in walk(tmp_path).left_out
    put(tmp_path / "PetImages", 30)
    assert arranged(tmp_path)[0] == {"": 55}, "most are in no folder"
    put(tmp_path / "one" / "cats", 10)
    assert arranged(tmp_path / "one") == ({"": 10}, "no classes: all pictures lie in one folder, inside cats/")


@pytest.fixture
def no_heic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where pillow-heif is not installed."""
    Image.init()  # else what it loads meanwhile would be forgotten with the patch
    monkeypatch.setattr(Image, "OPEN", {name: known for name, known in Image.OPEN.items() if name != "HEIF"})
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    pictures.reads_heic.cache_clear()
    yield
    pictures.reads_heic.cache_clear()


@pytest.mark.usefixtures("no_heic")
def test_a_picture_is_known_by_its_content(tmp_path: Path) -> None:
    endings = {
        **{".png": "PNG", ".JPG": "JPEG", ".bmp": "BMP", ".tga": "TGA", ".jp2": "JPEG2000", ".pnm": "PPM"},
        **{".ico": "ICO", ".pcx": "PCX", ".dib": "DIB", "": "PNG", ".jpg_large": "JPEG", ".png~": "PNG"},
    }
    for n, (ending, kind) in enumerate(endings.items()):
        Image.new("L", (24, 24), 10 * n).save(tmp_path / f"{n}{ending}", format=kind)
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    Image.new("RGB", (24, 24)).save(tmp_path / "photo.nef", format="TIFF")  # of raw files Pillow reads the thumbnail
    (tmp_path / "data.zip").write_bytes(b"PK")
    (tmp_path / "README").write_text("no picture")
    (tmp_path / "drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    tree = walk(tmp_path)
    assert len(tree.pictures) == len(endings)
    assert {line.partition(": ")[0]: line.partition(": ")[2] for line in tree.left_out} == {
        "phone.heic": HEIC_REASON,
        "photo.nef": "a camera's raw file, convert it to PNG",
        "data.zip": "an archive, unpack it",
        "README": "no picture",
        "drawing.eps": "a drawing without pixels, convert it to PNG",
    }
    with pytest.warns(UserWarning):
        data = load(tmp_path, tmp_path / ".cache")
    assert sum(len(data.images(part)) for part in PARTS) == len(endings)
    assert data.survey.endings[".png"] == 1 and data.survey.endings["none"] == 1


@pytest.mark.usefixtures("no_heic")
def test_heic_is_read_where_the_package_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for pillow-heif that registers the format, as that does."""

    def register() -> None:
        Image.register_open("HEIF", lambda file, name: Image.new("L", (24, 24), 9), lambda head: head[4:8] == b"ftyp")

    put(tmp_path, 5)
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    assert len(walk(tmp_path).pictures) == 5
    module = types.ModuleType("pillow_heif")
    module.__spec__, module.register_heif_opener = types.SimpleNamespace(), register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: module.__spec__)
    pictures.reads_heic.cache_clear()
    try:
        assert len(walk(tmp_path).pictures) == 6 and "HEIC is read" in walk(tmp_path).stamps
    finally:
        pictures.reads_heic.cache_clear()


def test_small_pictures_are_counted_or_left_out(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    put(root / "a", 20)
    put(root / "b", 10, side=9)
    put(root / "b", 2, side=7)
    with pytest.warns(UserWarning, match=r"b/010\.png, b/011\.png \(smaller than 8 pixels a side\)"):
        data = load(root, tmp_path / "cache")
    survey = data.survey
    assert (survey.pictures, survey.enlarged, survey.smallest, survey.largest) == (30, 10, "9×9", "12×12")
    assert survey.sizes == {"12×12": 20, "9×9": 10} and survey.modes == {"L": 30}
    assert len(load(root, tmp_path / "cache", resolution=7).skipped) == 0, "none is enlarged then"


def test_copies_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / "few" / name, 10)
    for name in ("x.png", "y.png"):
        (tmp_path / "few" / "a" / name).write_bytes((tmp_path / "few" / "a" / "001.png").read_bytes())
    (tmp_path / "few" / "b" / "z.png").write_bytes((tmp_path / "few" / "a" / "001.png").read_bytes())
    survey = load(tmp_path / "few", tmp_path / "cache").survey
    assert (survey.pictures, survey.copies, survey.contradictions) == (23, 3, 1)
    for i in range(30):
        (tmp_path / "few" / "a" / f"more{i}.png").write_bytes((tmp_path / "few" / "a" / "002.png").read_bytes())
    refused = r"33 of 53 pictures are copies of the other 20 \(equal at 12×12\), more copies than pictures; take"
    for _ in range(2):  # from what was prepared, too
        with pytest.raises(UserError, match=refused):
            load(tmp_path / "few", tmp_path / "cache")
    for i in range(5):
        (tmp_path / "same").mkdir(exist_ok=True)
        Image.new("L", (12, 12)).save(tmp_path / "same" / f"{i}.png")
    with pytest.raises(UserError, match="has 5 images, 1 of them distinct at 12×12: too few"):
        load(tmp_path / "same", tmp_path / "cache")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    old = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    put(old, 10)
    with pytest.raises(UserError, match=r"the dataset folder:.*/caf\\xe9 has a name that is not UTF-8; rename"):
        load(old, tmp_path / "cache")
    link = tmp_path / "link"
    link.symlink_to(old)
    put(old / os.fsdecode(b"gar\xe7on"), 10)
    put(old / "fille", 10)
    (old / os.fsdecode(b"gar\xe7on") / os.fsdecode(b"\xe9.txt")).write_text("x")
    with pytest.warns(UserWarning, match=r"gar\\xe7on/\\xe9\.txt \(no picture\)"):
        data = load(link, tmp_path / "cache")
    assert data.survey.classes == ["fille", r"gar\xe7on"]


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "train.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"no readable image \(it holds train\.zip \(an archive, unpack it\)\)"):
        walk(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"no image that can be read \(.*a\.png \(no picture by its content\)"):
        load(tmp_path, tmp_path / ".cache")


def test_a_summary_is_always_short() -> None:
    assert summary(["a: x", "b: y", "c: y", "d: y"]) == "b, c and 1 more (y); a (x)"
    assert summary([f"{i}: reason {i}" for i in range(9)]).endswith("5 (reason 5); others for 3 more reasons")


def test_ordinary_folders_keep_their_fingerprint(tmp_path: Path) -> None:
    """As prepared by the code before folders were looked at more closely."""
    x, y = shipped_digits()
    for n, i in enumerate(np.random.default_rng(0).permutation(len(x))[:2000]):
        (tmp_path / str(y[i])).mkdir(exist_ok=True)
        Image.fromarray(x[i]).save(tmp_path / str(y[i]) / f"{n:05d}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load(tmp_path, tmp_path / ".cache", resolution=28)
    assert data.fingerprint == "114b85450a2b1536" and data.num_classes == 10
