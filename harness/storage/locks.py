"""One process a trial: locks on single bytes of the file `claims` in the store."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
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


def _place(trial_id: str) -> int:
    return int(trial_id, 16) >> 2  # a file's offsets have 63 bits


locks_at = cache(Locks)
"""The locks of this process in the file at a path: one object, however many stores are opened there."""
