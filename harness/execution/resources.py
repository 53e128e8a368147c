"""What the machine gives a run, as far as a container lets it: processors, memory, and a place for Ray's sockets.

Nothing here imports torch or Ray.
"""

import fcntl
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import psutil

from harness.errors import UserError

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

OWNER = ".gan-ablation-run"
"""A file in each run's folder, with the host's name, that the run has locked for as long as it lives."""


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


def thread_limit(root: Path = Path("/")) -> int | None:
    """Processes and threads that the control groups of this process allow; None without a limit."""
    limits = [_words(folder / "pids.max") for folder in _control_groups("pids", root)]
    return min((int(words[0]) for words in limits if words and words[0] != "max"), default=None)


def trials_in_memory() -> int:
    """Trials that memory has room for at once, at least 1."""
    return max(1, (memory_left() - MEMORY_BESIDE) // MEMORY_A_TRIAL)


def gpu_is_shared_in_turns() -> bool:
    """Whether processes on one GPU take turns: NVIDIA's MPS, under which their kernels run at once, is not started."""
    return not (Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")) / "control").exists()


def on_sharing_a_gpu(share: float | None, resolution: int) -> str:
    """What to do for more trials at once on a GPU; "" where nothing is known to help (docs/performance.md).

    Args:
        share: Of a GPU that a trial is given; None: it has one for itself.
        resolution: Of the largest images. What fills a GPU is not known of other networks than the founding document's.
    """
    if share is None and resolution <= 64:
        return (
            "each trial has a GPU for itself; small networks leave it idle: --gpus-per-trial 0.125 packs eight on one"
        )
    if share and share < 1 and gpu_is_shared_in_turns():
        return "trials that share a GPU take turns on it; after `nvidia-cuda-mps-control -d` they run at once"
    return ""


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
    for folder in candidates_for_ray():
        reason = unfit_for_ray(folder)
        if not reason:
            return folder
        reasons.append(f"{folder} {reason}")
    raise UserError(f"no folder for Ray's sockets: {'; '.join(reasons)}; set RAY_TMPDIR to a short folder of your own")


def candidates_for_ray() -> list[Path]:
    """Where Ray's sockets may lie, best first."""
    named = [os.environ.get(name) for name in ("RAY_TMPDIR", "TMPDIR", "XDG_RUNTIME_DIR")]
    return list(dict.fromkeys(Path(name) for name in (*named, "/tmp", "/var/tmp", "/dev/shm") if name))


def unfit_for_ray(folder: Path) -> str:
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

    Those of runs that were killed are taken away, too: the system drops a dead process's lock on the file in it.

    Raises:
        UserError: there is no place for it.
    """
    home = folder_for_ray()
    for owner in home.glob(f"gan-*/{OWNER}"):
        with suppress(OSError):
            _remove_if_dead(owner)
    # Ray's last processes may still write their logs while it is taken away.
    with (
        tempfile.TemporaryDirectory(prefix="gan-", dir=home, ignore_cleanup_errors=True) as place,
        tempfile.NamedTemporaryFile("w", dir=place, delete=False) as file,
    ):
        file.write(socket.gethostname())
        file.flush()
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
            os.rename(file.name, Path(place) / OWNER)  # only now, so that nobody finds it without its lock
        yield Path(place)


def _remove_if_dead(owner: Path) -> None:
    """Remove the folder of this file, unless its run lives, or is another user's or another host's."""
    descriptor = os.open(owner, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        is_mine = os.fstat(descriptor).st_uid == os.getuid()
        if is_mine and os.read(descriptor, 256) == socket.gethostname().encode():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where it lives
            shutil.rmtree(owner.parent, ignore_errors=True)
    finally:
        os.close(descriptor)


def ray_options(folder: Path) -> dict[str, Any]:
    """What a Ray on this machine alone is started with, beside its processors.

    Args:
        folder: For its sockets and logs.
    """
    size, shared = object_store()
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


def object_store() -> tuple[int, bool]:
    """(Bytes of Ray's object store, whether in shared memory). Containers often have 64 MiB of that, or none."""
    try:
        free = shutil.disk_usage("/dev/shm").free if os.access("/dev/shm", os.W_OK | os.X_OK) else 0
    except OSError:
        free = 0
    size = min(OBJECT_STORE, int(0.8 * free))
    return (size, True) if size >= SMALLEST_OBJECT_STORE else (SMALLEST_OBJECT_STORE, False)
