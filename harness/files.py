"""Files and folders that are whole or absent, and checksums.

Everything is first written under a hidden name beside its place and then moved there in one step: a reader, or a
process that was killed at any moment, finds the old content, the new content or nothing.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system answers where a disk, or a user's share of it, has no room left."""


def checksum(content: bytes) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def file_checksum(path: Path) -> str:
    """The same for a file, which is read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_checksum(content: bytes) -> bytes:
    """The content below a line that holds its checksum."""
    return checksum(content).encode() + b"\n" + content


def without_checksum(data: bytes) -> bytes | None:
    """What `with_checksum` was given; None if the data are not what it returned."""
    line, _, content = data.partition(b"\n")
    return content if line == checksum(content).encode() else None


def hidden_name(path: Path) -> Path:
    """A new name beside the path for something half-written or damaged: `.NAME-` and eight hex digits."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")


def sync(file: IO[bytes]) -> None:
    """Make everything written so far reach the disk. Some file systems say only now that they are full."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: Path) -> bool:
    """Make a folder's list of names reach the disk; False if its file system cannot do that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def write_synced(path: Path, content: bytes) -> None:
    """Write a file in place, with the folders above it, and wait until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        if isinstance(path, Path):  # and not a `UPath` on a remote file system, which has nothing to sync
            sync(file)


def write_file(path: Path, content: bytes) -> None:
    """Create or replace a file, whole or not at all."""
    staging = hidden_name(path)
    try:
        write_synced(staging, content)
        staging.rename(path)
    finally:
        with contextlib.suppress(OSError):
            staging.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder that is moved to `target` when the block ends; if the block raises, nothing is left of it.

    With `replace`, a folder that is there by then is removed; without, OSError is raised if it holds something.
    """
    staging, replaced = hidden_name(target), hidden_name(target)
    try:
        staging.mkdir(parents=True)
        yield staging
        if replace and target.exists():
            target.rename(replaced)
        staging.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
