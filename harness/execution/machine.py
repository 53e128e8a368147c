"""The machine as it is: what a run depends on there, looked at before work starts, and mended or said in one line.

`run` looks through CHECKS at its start, and `doctor` prints the same list. What is mended is mended by the functions
here that also say so: `ray_options` for Ray, `processors` for the number of trials at once, `seal` for the
environment. Nothing here imports torch or Ray.
"""

import errno
import fcntl
import os
import resource
import secrets
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psutil

from harness.errors import UserError
from harness.execution.environment import seal
from harness.execution.provenance import provenance
from harness.files import sync_folder
from harness.storage.integrity import MIN_FREE_BYTES

MEMORY_A_TRIAL = 700 * 2**20
"""What a trial's process takes of a machine's memory, in bytes: torch alone has some 400 MiB."""

MEMORY_BESIDE = 900 * 2**20
"""What the run's own process and Ray's take beside the trials, in bytes."""

OBJECT_STORE = 256 * 2**20
"""Bytes of Ray's object store, through which results travel."""

SMALLEST_OBJECT_STORE = 80 * 2**20
"""Ray itself asks for 75 MiB."""

RAY_FREE_BYTES = 20 * 2**20
"""Bytes that Ray's folder needs for sockets and logs."""

SOCKET_PATH = 107
"""The longest path of a socket, in bytes, on Linux."""

BELOW_RAY = len("/gan-12345678/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
"""How long the paths of Ray's sockets are, counted from the folder that they lie in."""

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
    """What a run into the store at this path would find; changes nothing that lasts."""
    return (check(_nearest(store)) for check in CHECKS)


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


# ---- processors and memory, as far as a container may use them ----


def processors() -> int:
    """Processors that this process may use: its affinity, and the quota of its container, rounded up."""
    cores = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that the control groups of this process allow; None without a limit."""
    quotas = []
    for folder in _control_groups("cpu", root):
        words = _words(folder / "cpu.max")  # version 2: "200000 100000", or "max 100000"
        if not words:
            words = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0] != "max" and int(words[0]) > 0:
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def memory_left(root: Path = Path("/")) -> int:
    """Bytes of memory that this process and its children may still take: the machine's, and its container's."""
    left = [psutil.virtual_memory().available]
    for folder in _control_groups("memory", root):
        limit = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        used = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
        if limit and used and limit[0] != "max":
            stat = _table(folder / "memory.stat")
            cached = stat.get("total_inactive_file", stat.get("inactive_file", 0))  # the system takes it back
            left.append(max(0, int(limit[0]) - int(used[0]) + cached))
    return min(left)


def memory_kills(root: Path = Path("/")) -> int:
    """How often the system has killed a process for want of memory, as far as this process is told; only ever grows."""
    folders = _control_groups("memory", root)
    tables = [folder / name for folder in folders for name in ("memory.events", "memory.oom_control")]
    return sum(_table(path).get("oom_kill", 0) for path in (*tables, root / "proc" / "vmstat"))


def trials_in_memory() -> int:
    """Trials that memory has room for at once, at least 1."""
    return max(1, (memory_left() - MEMORY_BESIDE) // MEMORY_A_TRIAL)


def _control_groups(controller: str, root: Path) -> list[Path]:
    """The folders of the control groups that limit this process, from its own up, of version 2 and version 1."""
    mount, folders = root / "sys" / "fs" / "cgroup", []
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        tops = [mount / names, mount / controller] if names else [mount, mount / "unified"]
        for top in tops:
            # In a container the path is often that outside of it: then the top alone is there.
            below = Path(path.lstrip("/"))
            folders += [folder for part in (below, *below.parents) if (folder := top / part).is_dir()]
    return list(dict.fromkeys(folders))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _table(path: Path) -> dict[str, int]:
    """A file of names and numbers in turn; empty where it is not there."""
    words = _words(path)
    return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=False) if value.isdigit()}


# ---- Ray ----


def folder_for_ray() -> Path:
    """An existing folder in which Ray's sockets can lie: the temporary one, or where that is unfit, a short one.

    Raises:
        UserError: there is none.
    """
    reasons = []
    for folder in _candidates_for_ray():
        reason = _unfit_for_ray(folder)
        if not reason:
            return folder
        reasons.append(f"{folder} {reason}")
    raise UserError(f"no folder for Ray's sockets: {'; '.join(reasons)}; set RAY_TMPDIR to a short folder of your own")


def _candidates_for_ray() -> list[Path]:
    named = [os.environ.get(name) for name in ("RAY_TMPDIR", "TMPDIR", "XDG_RUNTIME_DIR")]
    return list(dict.fromkeys(Path(name) for name in (*named, "/tmp", "/var/tmp", "/dev/shm") if name))


def _unfit_for_ray(folder: Path) -> str:
    """Why Ray's sockets cannot lie there; empty where they can."""
    path = str(folder)
    if not folder.is_absolute() or not folder.is_dir():
        return "is not there"
    if len(os.fsencode(path)) + BELOW_RAY > SOCKET_PATH:
        return f"is too long ({len(os.fsencode(path))} of {SOCKET_PATH - BELOW_RAY} characters)"
    if not all(letter.isascii() and (letter.isalnum() or letter in "/._-+") for letter in path):
        return "has a space or sign in its name that Ray trips over"
    try:
        if shutil.disk_usage(folder).free < RAY_FREE_BYTES:
            return "is full"
        with tempfile.TemporaryDirectory(prefix="gan-", dir=folder) as place, socket.socket(socket.AF_UNIX) as probe:
            probe.bind(f"{place}/probe")
    except OSError as error:
        return f"takes no sockets ({error.strerror})"
    return ""


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder of this run's own for Ray's sockets and logs and Tune's scratch; gone afterwards.

    Raises:
        UserError: there is no place for it.
    """
    # Ray's last processes may still write their logs while it is taken away.
    with tempfile.TemporaryDirectory(prefix="gan-", dir=folder_for_ray(), ignore_cleanup_errors=True) as place:
        yield Path(place)


def ray_options(folder: Path) -> dict[str, Any]:
    """What a Ray on this machine alone is started with, beside its processors.

    Args:
        folder: For its sockets and logs.
    """
    size, shared = _object_store()
    return {
        "_temp_dir": str(folder),
        "object_store_memory": size,
        **({} if shared else {"_plasma_directory": str(folder)}),
        "_node_ip_address": "127.0.0.1",  # a laptop's own address changes with its network
    }


@cache
def token() -> str:
    """The token of a Ray of this process alone. It is in no file: the home may not take any, or be read by others."""
    return secrets.token_hex(32)


def _object_store() -> tuple[int, bool]:
    """(bytes of Ray's object store, whether in shared memory). Containers often have 64 MiB of that, or none."""
    try:
        free = shutil.disk_usage("/dev/shm").free if os.access("/dev/shm", os.W_OK | os.X_OK) else 0
    except OSError:
        free = 0
    size = min(OBJECT_STORE, int(0.8 * free))
    return (size, True) if size >= SMALLEST_OBJECT_STORE else (SMALLEST_OBJECT_STORE, False)


# ---- the list ----


def _look_at_processors(store: Path) -> Finding:
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
    if quota is None or quota >= cores:
        return Finding("processors", "ok", f"{cores}, all of which may be used")
    return Finding("processors", "mended", f"{cores}, a container's limit of {quota:g}: {processors()} trials at once")


def _look_at_memory(store: Path) -> Finding:
    left, fit = memory_left(), trials_in_memory()
    found = f"{_size(left)} free, room for {fit} trial{'s' * (fit > 1)} at once"
    if left < MEMORY_BESIDE + MEMORY_A_TRIAL:
        advice = (
            f"a run takes {_size(MEMORY_BESIDE + MEMORY_A_TRIAL)} or more: close other programs, or raise the limit"
        )
        return Finding("memory", "warning", found, advice)
    return Finding("memory", "ok" if fit >= processors() else "mended", found)


def _look_at_shared_memory(store: Path) -> Finding:
    size, shared = _object_store()
    if size == OBJECT_STORE and shared:
        return Finding("shared memory", "ok", f"{_size(shutil.disk_usage('/dev/shm').free)} free in /dev/shm")
    found = f"/dev/shm is small: {_size(size)} of it" if shared else "/dev/shm is too small: a file stands in for it"
    return Finding("shared memory", "mended", found)


def _look_at_threads(store: Path) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = THREADS_BESIDE + THREADS_A_TRIAL * processors()
    threads = min((int(w[0]) for w in map(_words, _pids_files()) if w and w[0] != "max"), default=None)
    if threads is not None and threads < wanted:
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


def _pids_files() -> list[Path]:
    return [folder / "pids.max" for folder in _control_groups("pids", Path("/"))]


def _look_at_disk(store: Path) -> Finding:
    if not os.access(store, os.W_OK | os.X_OK):
        return Finding("store", "refused", f"{_short(store)} cannot be written", "name another with --store")
    free = shutil.disk_usage(store).free
    found = f"{_size(free)} are free at {_short(store)}"
    if free < MIN_FREE_BYTES:
        advice = f"a run needs {_size(MIN_FREE_BYTES)} or more: free some, or name another place with --store"
        return Finding("store", "refused", found, advice)
    return Finding("store", "ok", found)


def _look_at_locks(store: Path) -> Finding:
    try:
        with _probe(store) as descriptor:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 << 62)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT):
            return Finding("locks", "warning", f"could not be tried ({error.strerror})")  # said of the store already
        advice = (
            "the store needs a file system with locks: name a place on a local disk with --store, or have this one "
            "mounted with locks (NFS: with lockd; Lustre: with -o flock)"
        )
        return Finding("locks", "refused", f"{_short(store)} keeps none ({error.strerror})", advice)
    return Finding("locks", "ok", "the store's file system keeps them")


def _look_at_sync(store: Path) -> Finding:
    if not sync_folder(store):
        return Finding("folder sync", "mended", "refused here; only each file is synced")
    return Finding("folder sync", "ok", "the store's file system does it")


def _look_at_temporary_folder(store: Path) -> Finding:
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


def _look_at_folder_for_ray(store: Path) -> Finding:
    first = _candidates_for_ray()[0]
    try:
        folder = folder_for_ray()
    except UserError:
        advice = f"set RAY_TMPDIR to a folder of your own, of at most {SOCKET_PATH - BELOW_RAY} characters"
        return Finding("Ray's sockets", "refused", "no folder takes them", advice)
    if folder != first:
        return Finding("Ray's sockets", "mended", f"in {_short(folder)}: {_short(first, 20)} {_unfit_for_ray(first)}")
    return Finding("Ray's sockets", "ok", f"in {_short(folder)}")


def _look_at_home(store: Path) -> Finding:
    home = os.environ.get("HOME", "")
    if not home or not Path(home).is_dir() or not os.access(home, os.W_OK | os.X_OK):
        return Finding("home", "mended", f"HOME={_short(Path(home))} takes no files: nothing is kept there")
    return Finding("home", "ok", f"{_short(Path(home))} can be written")


def _look_at_commit(store: Path) -> Finding:
    commit = provenance()["commit"]
    if commit == "unknown":
        return Finding("git", "ok", "no commit of this code is known, and results say so")
    return Finding("git", "ok", f"this code is commit {commit}")


def _look_at_variables(store: Path) -> Finding:
    names = [change.name for change in seal()]
    if not names:
        return Finding("variables", "ok", "none that would change a result")
    return Finding("variables", "mended", f"set aside for the run: {', '.join(names)}")


CHECKS: tuple[Callable[[Path], Finding], ...] = (
    _look_at_processors,
    _look_at_memory,
    _look_at_shared_memory,
    _look_at_threads,
    _look_at_disk,
    _look_at_locks,
    _look_at_sync,
    _look_at_temporary_folder,
    _look_at_folder_for_ray,
    _look_at_home,
    _look_at_commit,
    _look_at_variables,
)
"""What is looked at, in the order in which it is told; each is given the store's folder, or the nearest above it."""


def _nearest(path: Path) -> Path:
    """The folder, or where it is not there yet, the nearest one above it."""
    path = path.expanduser().absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


@contextmanager
def _probe(folder: Path) -> Iterator[int]:
    """The descriptor of an empty file there, gone afterwards."""
    path = folder / f".probe-{uuid.uuid4().hex}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        path.unlink()


def _short(path: Path, most: int = 30) -> str:
    """The path, its middle left out where it is long."""
    text = str(path)
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 :]}"


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
