"""What is written is whole or absent."""

import errno
from pathlib import Path

import pytest

from harness import files
from harness.files import file_checksum, staged_folder, with_checksum, without_checksum, write_file


def test_a_checksum_guards_its_content(tmp_path: Path) -> None:
    for content in (b"", b"x", b"\n\n", bytes(range(256))):
        assert without_checksum(with_checksum(content)) == content
    kept = with_checksum(b"content")
    for harmed in (b"", kept[:-1], kept + b"x", kept.replace(b"t", b"s", 1), b"\xff\n[]", b"content"):
        assert without_checksum(harmed) is None
    (tmp_path / "file").write_bytes(b"content")
    assert file_checksum(tmp_path / "file") == files.checksum(b"content") == kept.partition(b"\n")[0].decode()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    write_file(path, b"old")

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_is_whole_or_absent(tmp_path: Path, replace: bool) -> None:
    target = tmp_path / "there" / "folder"
    with pytest.raises(KeyError), staged_folder(target, replace=replace) as staging:
        (staging / "file").touch()
        raise KeyError
    assert list(target.parent.iterdir()) == []
    for content in ("first", "second"):
        try:
            with staged_folder(target, replace=replace) as staging:
                (staging / content).touch()
                assert not (target / content).exists()
        except OSError:
            assert content == "second" and not replace
        assert [path.name for path in target.iterdir()] == [content if replace else "first"]
        assert list(target.parent.iterdir()) == [target]
