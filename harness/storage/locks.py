"""One process a trial: locks on single bytes of the file `claims` in the store."""

import contextlib
import fcntl
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from harness.errors import UserError

AT_WORK = 1 << 62
"""The byte that everybody shares who works in the store; it lies behind those of all trials."""


class NoLocks(UserError):
    """The store's file system has no locks, so that no process can have a trial for itself."""


class Locks:
    """The trials that this process has locked: no other process can lock one until it is released or the holder dies.

    A trial's id gives the place of its byte. The system drops the locks of a dead process by itself. It also drops all
    locks of a process as soon as that closes the file anywhere, so this one never closes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._held: set[str] = set()
        self._at_work = 0  # blocks of `at_work` that are open in this process

    def acquire(self, trial_id: str) -> bool:
        """Lock the trial; False if this or another live process has locked it already."""
        if trial_id in self._held or not self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(trial_id)):
            return False
        self._held.add(trial_id)
        return True

    def release(self, *trial_ids: str) -> None:
        """Unlock those of these trials that this process has locked."""
        for trial_id in self._held.intersection(trial_ids):
            self._lock(fcntl.LOCK_UN, 1, _place(trial_id))
            self._held.remove(trial_id)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep others out of `everything` from now on, before any trial is locked."""
        self._lock(fcntl.LOCK_SH, 1, AT_WORK)
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._lock(fcntl.LOCK_UN, 1, AT_WORK)

    @contextlib.contextmanager
    def everything(self) -> Iterator[None]:
        """Lock the whole store, so that nobody starts a trial meanwhile.

        Raises:
            UserError: somebody works in it.
        """
        if self._held or self._at_work or not self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise UserError("a live process is at work in this store; wait for it, or stop it")
        try:
            yield
        finally:
            self._lock(fcntl.LOCK_UN)

    def _lock(self, how: int, length: int = 0, start: int = 0) -> bool:
        """Lock or unlock bytes of the file, all of them by default; False if another process has locked some.

        Raises:
            NoLocks: the file system has no locks.
        """
        try:
            fcntl.lockf(self._descriptor, how, length, start)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return False
        except OSError as error:
            raise NoLocks(
                f"{self._path.parent} lies on a file system without locks ({error.strerror}), and a store needs them: "
                f"name a place on a local disk with --store, or have this one mounted with locks (NFS: with lockd; "
                f"Lustre: with -o flock)"
            ) from None
        return True


def holders(path: Path, trial_ids: Iterable[str]) -> tuple[int | None, set[str]]:
    """Who works in a store, and on which of these trials, as far as other processes do: only asked, never locked.

    Args:
        path: Of the locks' file; where there is none, nobody works.
        trial_ids: Trials to ask about.

    Returns:
        The id of a process that is at work (of another machine perhaps), or None; and the trials that are locked.
    """
    try:
        descriptor = _reader(path)
    except OSError:
        return None, set()
    locked = {trial_id for trial_id in trial_ids if _holder(descriptor, _place(trial_id)) is not None}
    return _holder(descriptor, AT_WORK), locked


@cache
def _reader(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # never closed, as that would drop this process's own locks


_FLOCK = "hhqqi4x" if sys.platform != "darwin" else "qqihh"
"""How the system lays out a question about a lock."""


def _holder(descriptor: int, start: int) -> int | None:
    """Which other process has locked a byte; None for nobody, and where the file system cannot say."""
    kind, whence = fcntl.F_WRLCK, os.SEEK_SET
    question = (kind, whence, start, 1, 0) if sys.platform != "darwin" else (start, 1, 0, kind, whence)
    try:
        answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(_FLOCK, *question)))
    except OSError:
        return None
    kind, process = (answer[0], answer[4]) if sys.platform != "darwin" else (answer[3], answer[2])
    return None if kind == fcntl.F_UNLCK else process


def _place(trial_id: str) -> int:
    return int(trial_id, 16) >> 2  # a file's offsets have 63 bits


locks_at = cache(Locks)
"""The locks of this process in the file at a path: one object, however many stores are opened there."""
