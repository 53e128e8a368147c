"""Prepared data on disks as they are: full, damaged, with what killed processes left."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from harness.data import PreparedData, prepare
from harness.errors import UserError
from tests.faults.test_faults import small_disk

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """40 pictures of two classes."""
    for n in range(40):
        folder = tmp_path / "pictures" / ("odd" if n % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), n, np.uint8)).save(folder / f"{n}.png")
    return f"folder:{tmp_path / 'pictures'}"


def small(pictures: str, cache: Path, *, check: bool = False) -> PreparedData:
    return prepare(pictures, resolution=8, channels=1, cache=cache, check=check)


def test_a_disk_that_fills_ends_in_one_line(tmp_path: Path) -> None:
    """In a process of its own: through a memory map it would be killed by SIGBUS."""
    for size in ("3m", "6m"):  # while pictures are read, and while the parts are written
        with small_disk(tmp_path / size, f"size={size}") as disk:
            code = f"prepare('mnist-5k', resolution=28, channels=1, cache=Path({str(disk)!r}))"
            words = [sys.executable, "-c", f"from pathlib import Path; from harness.data import prepare; {code}"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=120)
            assert done.returncode == 1
            last = done.stderr.splitlines()[-1]
            assert last.startswith("harness.errors.UserError: cannot keep prepared data in ")
            assert last.endswith("No space left on device; free some space, or name another place with --store")
            left = [path.name for path in (disk / "data").iterdir()]
            assert all(name.endswith(".lock") for name in left), "something half-written was left"


def test_pictures_that_have_no_room_are_refused(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, 2 * 40 * 3 * 64 * 64 - 1))
    with pytest.raises(UserError, match=r"only 1 MiB are free at .*, and preparing the 40 pictures of .* needs 1 MiB"):
        prepare(pictures, resolution=64, channels=3, cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "data").iterdir() if path.suffix != ".lock"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, 2 * 40 * 3 * 64 * 64))
    prepare(pictures, resolution=64, channels=3, cache=tmp_path / "cache")


def test_what_a_killed_process_left_is_swept(pictures: str, tmp_path: Path) -> None:
    data = small(pictures, tmp_path)
    other, live = "a" * 16, "b" * 16
    left = [data.folder.with_name(f".{key}-12345678") for key in (data.folder.name, other, live)]
    for folder in left:
        folder.mkdir()
        (folder / "pixels").write_bytes(bytes(100))
    shutil.rmtree(data.folder)
    with FileLock(data.folder.with_name(f"{live}.lock")):  # of a process that is writing
        assert small(pictures, tmp_path) == data
    assert [folder.exists() for folder in left] == [False, False, True]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "harm", "reason"),
    [
        ("train.npy", flip, "its checksum differs"),
        ("extractor_labels.npy", flip, "its checksum differs"),
        ("reference.npy", cut, "mmap length is greater"),
        ("train_labels.npy", cut, "Failed to read all data"),
        ("extractor.npy", os.unlink, "No such file"),
        ("meta.json", cut, "line 1 column"),
        ("meta.json", os.unlink, "No such file"),
    ],
)
def test_damaged_data_are_made_again(pictures: str, tmp_path: Path, name: str, harm, reason: str) -> None:
    data = small(pictures, tmp_path)
    before = {path.name: path.read_bytes() for path in data.folder.iterdir()}
    harm(data.folder / name)
    with pytest.warns(UserWarning, match=f"the prepared data of folder:.* were damaged .*{reason}.*: made again"):
        assert small(pictures, tmp_path, check=True) == data
    assert {path.name: path.read_bytes() for path in data.folder.iterdir()} == before
    assert {path.name for path in data.folder.parent.iterdir()} == {data.folder.name, f"{data.folder.name}.lock"}


def test_whole_data_are_left_alone(pictures: str, tmp_path: Path) -> None:
    """Those of earlier versions, too: the fingerprint has always been the checksum."""
    data = small(pictures, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in data.folder.iterdir()}
    assert small(pictures, tmp_path, check=True) == data
    assert {path: path.stat().st_mtime_ns for path in data.folder.iterdir()} == times
