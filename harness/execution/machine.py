"""The machine as it is: what a run depends on there, looked at before work starts, and mended or said in one line.

`run` looks through this list at its start, and `doctor` prints it. What is mended is mended elsewhere: in resources.py
for processors, memory and Ray, in environment.py for variables. Nothing here imports torch or Ray.
"""

import errno
import fcntl
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from harness.errors import UserError
from harness.execution.environment import sanitise
from harness.execution.provenance import provenance
from harness.execution.resources import (
    BELOW_RAY,
    MEMORY_A_TRIAL,
    MEMORY_BESIDE,
    OBJECT_STORE,
    SOCKET_PATH,
    candidates_for_ray,
    cpu_quota,
    folder_for_ray,
    memory_left,
    object_store,
    processors,
    thread_limit,
    trials_in_memory,
    unfit_for_ray,
)
from harness.files import sync_folder
from harness.storage.integrity import MIN_FREE_BYTES

THREADS_BESIDE, THREADS_A_TRIAL, OPEN_FILES = 300, 60, 1024
"""Threads of Ray and the run's own process; of each trial's; files and connections of the largest process."""

Verdict: TypeAlias = Literal["ok", "mended", "warning", "refused"]


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    what: str  # what was looked at, in a word or two
    verdict: Verdict
    found: str  # in a few words, so that it fits a line of `doctor`
    advice: str = ""  # of a warning or refusal: what to do, as the rest of the sentence

    @property
    def line(self) -> str:
        """The finding as one sentence."""
        return f"{self.what}: {self.found}" + (f"; {self.advice}" if self.advice else "")


def findings(store: Path) -> Iterator[Finding]:
    """What a run into the store at this path would find, in the order of the checks; changes nothing that lasts."""
    store = store.expanduser().absolute()
    store = next(folder for folder in (store, *store.parents) if folder.is_dir())
    yield _processors()
    yield _memory()
    yield _shared_memory()
    yield _limits()
    yield _disk(store)
    yield _locks(store)
    if sync_folder(store):
        yield Finding("folder sync", "ok", "the store's file system does it")
    else:
        yield Finding("folder sync", "mended", "refused here; only each file is synced")
    yield _temporary_folder()
    yield _ray_sockets()
    home = Path(os.environ.get("HOME", ""))
    if home != Path() and home.is_dir() and os.access(home, os.W_OK | os.X_OK):
        yield Finding("home", "ok", f"{_short(home)} can be written")
    else:
        yield Finding("home", "mended", f"HOME={_short(home)} takes no files: nothing is kept there")
    commit = provenance()["commit"]
    known = f"this code is commit {commit}"
    yield Finding("git", "ok", "no commit of this code is known, and results say so" if commit == "unknown" else known)
    if names := [change.name for change in sanitise()]:
        yield Finding("variables", "mended", f"ignored in the run: {', '.join(names)}")
    else:
        yield Finding("variables", "ok", "none that would change a result")


def require_fit(store: Path, say: Callable[[str], None]) -> None:
    """Look at the machine before a run into the store at this path.

    Args:
        store: The store's folder.
        say: Told of each warning, in one line.

    Raises:
        UserError: something would stop the run.
    """
    for finding in findings(store):
        if finding.verdict == "refused":
            raise UserError(finding.line)
        if finding.verdict == "warning":
            say(f"note: {finding.line}")


def _processors() -> Finding:
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
    if quota is None or quota >= cores:
        return Finding("processors", "ok", f"{cores}, all of which may be used")
    return Finding("processors", "mended", f"{cores}, a container's limit of {quota:g}: {processors()} trials at once")


def _memory() -> Finding:
    left, fit = memory_left(), trials_in_memory()
    found = f"{_size(left)} free, room for {fit} trial{'s' * (fit > 1)} at once"
    if left < MEMORY_BESIDE + MEMORY_A_TRIAL:
        advice = (
            f"a run takes {_size(MEMORY_BESIDE + MEMORY_A_TRIAL)} or more: close other programs, or raise the limit"
        )
        return Finding("memory", "warning", found, advice)
    return Finding("memory", "ok" if fit >= processors() else "mended", found)


def _shared_memory() -> Finding:
    size, shared = object_store()
    if size == OBJECT_STORE and shared:
        return Finding("shared memory", "ok", f"{_size(shutil.disk_usage('/dev/shm').free)} free in /dev/shm")
    found = f"/dev/shm is small: {_size(size)} of it" if shared else "/dev/shm is too small: a file stands in for it"
    return Finding("shared memory", "mended", found)


def _limits() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = THREADS_BESIDE + THREADS_A_TRIAL * processors()
    if (threads := thread_limit()) is not None and threads < wanted:
        advice = f"a run here has some {wanted}: raise the limit (docker run --pids-limit), or take fewer --workers"
        return Finding("processes", "warning", f"at most {threads} threads are allowed", advice)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        return Finding(
            "open files", "warning", f"at most {hard} are allowed", f"Ray wants {OPEN_FILES}: see `ulimit -n`"
        )
    if soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
        return Finding("open files", "mended", f"the limit was {soft} and is {OPEN_FILES} now")
    return Finding("open files", "ok", f"up to {soft}")


def _disk(store: Path) -> Finding:
    if not os.access(store, os.W_OK | os.X_OK):
        return Finding("store", "refused", f"{_short(store)} cannot be written", "name another with --store")
    free = shutil.disk_usage(store).free
    found = f"{_size(free)} are free at {_short(store)}"
    if free < MIN_FREE_BYTES:
        advice = f"a run needs {_size(MIN_FREE_BYTES)} or more: free some, or name another place with --store"
        return Finding("store", "refused", found, advice)
    return Finding("store", "ok", found)


def _locks(store: Path) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=store, prefix=".probe-") as probe:
            fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 << 62)
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT):
            return Finding("locks", "warning", f"could not be tried ({error.strerror})")  # said of the store already
        advice = (
            "the store needs a file system with locks: name a place on a local disk with --store, or have this one "
            "mounted with locks (NFS: with lockd; Lustre: with -o flock)"
        )
        return Finding("locks", "refused", f"{_short(store)} keeps none ({error.strerror})", advice)
    return Finding("locks", "ok", "the store's file system keeps them")


def _temporary_folder() -> Finding:
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Finding("temporary folder", "refused", "none can be written", "set TMPDIR to a folder of your own")
    wanted = os.environ.get("TMPDIR")
    if wanted and Path(wanted).absolute() != folder:
        return Finding("temporary folder", "mended", f"TMPDIR cannot be written: {_short(folder)} instead")
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        advice = "free some, or set TMPDIR to another folder"
        return Finding("temporary folder", "warning", f"only {_size(free)} free at {_short(folder)}", advice)
    return Finding("temporary folder", "ok", f"{_size(free)} free at {_short(folder)}")


def _ray_sockets() -> Finding:
    first = candidates_for_ray()[0]
    try:
        folder = folder_for_ray()
    except UserError:
        advice = f"set RAY_TMPDIR to a folder of your own, of at most {SOCKET_PATH - BELOW_RAY} characters"
        return Finding("Ray's sockets", "refused", "no folder takes them", advice)
    if folder != first:
        return Finding("Ray's sockets", "mended", f"in {_short(folder)}: {_short(first, 20)} {unfit_for_ray(first)}")
    return Finding("Ray's sockets", "ok", f"in {_short(folder)}")


def _short(path: Path, most: int = 30) -> str:
    """The path, its middle left out where it is long."""
    text = str(path)
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
