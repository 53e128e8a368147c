"""Looking at the machine: what is found, what is mended, and what is refused in one line."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from functools import partial
from pathlib import Path

import psutil
import pytest

from harness.errors import UserError
from harness.execution import machine, resources
from harness.execution.machine import findings, require_fit
from harness.execution.resources import (
    BELOW_RAY,
    OBJECT_STORE,
    OWNER,
    SOCKET_PATH,
    cpu_quota,
    folder_for_ray,
    gpu_is_shared_in_turns,
    memory_kills,
    memory_left,
    processors,
    ray_folder,
    ray_options,
    thread_limit,
    trials_in_memory,
    unfit_for_ray,
)

Usage = namedtuple("Usage", "total used free")


def found(store: Path) -> dict[str, machine.Finding]:
    return {finding.what: finding for finding in findings(store)}


def control_groups(root: Path, lines: str, files: dict[str, str]) -> Path:
    """A machine's files below `root`: the process's control groups, and what is in them."""
    files = {"proc/self/cgroup": lines, **{f"sys/fs/cgroup/{name}": content for name, content in files.items()}}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        # As in a container that shows the path outside of it.
        ("0::/docker/123\n", {"cpu.max": "100000 100000\n"}, 1.0),
        ("4:memory:/\n", {"memory/cpu.max": "100000 100000\n"}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path: Path, lines: str, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(control_groups(tmp_path, lines, files)) == quota


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None and memory_kills(tmp_path) == 0


@pytest.mark.parametrize(("quota", "number"), [(None, 8), (2.0, 2), (1.5, 2), (0.1, 1), (20.0, 8)])
def test_a_quota_limits_the_processors(monkeypatch: pytest.MonkeyPatch, quota: float | None, number: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(resources, "cpu_quota", lambda: quota)
    assert processors() == number


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        ("0::/\n", {"memory.max": "3000", "memory.current": "2500", "memory.stat": "anon 7\ninactive_file 500\n"}),
        (
            "4:memory:/a\n",
            {
                "memory/a/memory.limit_in_bytes": "3000",
                "memory/a/memory.usage_in_bytes": "2500",
                "memory/a/memory.stat": "cache 9\ntotal_inactive_file 500\n",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "5000",
            },
        ),
    ],
)
def test_memory_is_what_the_container_leaves(tmp_path: Path, lines: str, files: dict[str, str]) -> None:
    assert memory_left(control_groups(tmp_path, lines, files)) == 1000
    assert memory_left(tmp_path / "absent") > 1000


def test_kills_for_memory_are_counted(tmp_path: Path) -> None:
    root = control_groups(tmp_path, "0::/a\n3:memory:/b\n", {"a/memory.events": "low 0\noom 3\noom_kill 2\n"})
    assert memory_kills(root) == 2
    control_groups(tmp_path, "0::/a\n3:memory:/b\n", {"memory/b/memory.oom_control": "under_oom 0\noom_kill 5\n"})
    assert memory_kills(root) == 7


def test_less_memory_means_fewer_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, number in ((2**40, 1400), (3 * 2**30, 3), (2**30, 1), (0, 1)):
        monkeypatch.setattr(resources, "memory_left", lambda free=free: free)
        assert trials_in_memory() >= number if number > 3 else trials_in_memory() == number


def test_rays_sockets_lie_where_they_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert folder_for_ray() == Path("/var/tmp")
    assert SOCKET_PATH - BELOW_RAY < len(str(tmp_path)) < SOCKET_PATH, "sockets would fit, Ray's would not"
    for unfit, reason in (
        (tmp_path, "is too long"),
        (Path("/absent"), "is not there"),
        (Path("relative"), "is not there"),
    ):
        monkeypatch.setenv("TMPDIR", str(unfit))
        assert folder_for_ray() != unfit
        finding = found(tmp_path)["Ray's sockets"]
        assert finding.verdict == "mended" and reason in finding.found
    monkeypatch.setenv("RAY_TMPDIR", "/var/tmp")
    assert folder_for_ray() == Path("/var/tmp")
    with ray_folder() as place:
        assert place.parent == Path("/var/tmp") and place.stat().st_mode & 0o777 == 0o700
        assert len(str(place)) + len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store") <= SOCKET_PATH
        assert len(str(place)) - len("/var/tmp") < BELOW_RAY
    assert not place.exists()


def test_folders_of_killed_runs_are_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of live runs are not, nor what others keep beside them."""
    code = "from harness.execution.resources import ray_folder as f; import time\n"
    code += "with f() as place: print(place, flush=True); time.sleep(30)"
    run = partial(subprocess.Popen, [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with tempfile.TemporaryDirectory(prefix="g", dir="/var/tmp") as home:
        monkeypatch.setenv("RAY_TMPDIR", home)
        others = [Path(home) / name for name in ("gan-others", "gan-host", "gan-pipe", "gan-folder")]
        for folder in others:
            folder.mkdir()
        (others[0] / "owner").touch()
        (others[1] / OWNER).write_bytes(b"another host \xff")
        os.mkfifo(others[2] / OWNER)
        (others[3] / OWNER).mkdir()
        with run() as one, run() as another:
            live, killed = (Path(process.stdout.readline().strip()) for process in (one, another))
            another.kill()
            another.wait()
            with ray_folder() as own:
                assert {*Path(home).iterdir()} == {*others, live, own} and killed not in (live, own)
                with ray_folder():
                    assert own.exists()
            one.kill()


def test_a_folder_with_a_space_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    with ray_folder() as place:
        spaced = place / "a b"
        spaced.mkdir()
        monkeypatch.setattr(resources, "BELOW_RAY", 0)
        assert "space" in unfit_for_ray(spaced)
        assert not unfit_for_ray(place)


def test_no_place_for_sockets_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "candidates_for_ray", lambda: [Path("/absent"), Path("/proc")])
    with pytest.raises(UserError, match="no folder for Ray's sockets: /absent is not there; .*set RAY_TMPDIR to"):
        folder_for_ray()
    with pytest.raises(UserError, match="Ray's sockets: no folder takes them; set RAY_TMPDIR to"):
        require_fit(tmp_path, print)


@pytest.mark.parametrize(
    ("free", "size", "shared"),
    [(2**40, OBJECT_STORE, True), (200 * 2**20, 160 * 2**20, True), (64 * 2**20, 80 * 2**20, False), (0, None, False)],
)
def test_small_shared_memory_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, size: int | None, shared: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free, 0, free))
    options = ray_options(tmp_path)
    assert options["object_store_memory"] == (size or 80 * 2**20)
    assert ("_plasma_directory" in options) is not shared
    verdict = found(tmp_path)["shared memory"].verdict
    assert verdict == ("ok" if free > 2 * OBJECT_STORE else "mended")


def test_a_file_system_without_locks_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    assert found(tmp_path)["locks"].verdict == "ok"
    for name in ("lockf", "flock"):
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, name, refuse)
            finding = found(tmp_path)["locks"]
        assert finding.verdict == "refused" and "No locks available" in finding.found
        assert "needs a file system with locks" in finding.advice
    assert not list(tmp_path.iterdir())


def test_refused_folder_sync_is_mended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert found(tmp_path)["folder sync"].verdict == "ok"

    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    assert found(tmp_path)["folder sync"].verdict == "mended"


def test_what_would_stop_a_run_stops_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setattr(machine, "memory_left", lambda: 2**20)
    require_fit(tmp_path / "not" / "there" / "yet", said.append)
    assert len(said) == 1 and said[0].startswith("note: memory: 1 MiB free") and "close other programs" in said[0]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 0, 2**20))
    with pytest.raises(UserError, match="^store: 1 MiB are free at .*; a run needs 200 MiB or more: free some"):
        require_fit(tmp_path, said.append)
    assert not list(tmp_path.iterdir())


def test_an_absent_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", "/absent")
    finding = found(tmp_path)["temporary folder"]
    assert finding.verdict == "mended" and finding.found.startswith("TMPDIR cannot be written: ")


def test_few_processes_or_files_are_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = control_groups(tmp_path, "0::/a\n", {"a/pids.max": "100\n", "pids.max": "max\n"})
    assert thread_limit(root) == 100
    assert thread_limit(control_groups(root, "0::/a\n", {"a/pids.max": "max\n"})) is None
    monkeypatch.setattr(machine, "thread_limit", lambda: 100)
    finding = found(tmp_path)["processes"]
    assert finding.verdict == "warning" and finding.found == "at most 100 threads are allowed"
    monkeypatch.setattr(machine, "thread_limit", lambda: None)
    assert found(tmp_path)["open files"].verdict in ("ok", "mended")


def test_psutil_agrees_on_memory() -> None:
    assert 0 < memory_left() <= psutil.virtual_memory().total


def test_a_started_mps_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert gpu_is_shared_in_turns()
    (tmp_path / "control").touch()
    assert not gpu_is_shared_in_turns()
