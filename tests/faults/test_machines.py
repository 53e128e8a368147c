"""Machines as they are: the real program where much of what a run depends on is odd, and one start of Ray for all."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.storage.store import Store
from tests.faults.conftest import PATIENCE, SLEEPERS, whole_trials

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ODD = {
    "HOME": "/dev/null",
    "MPLBACKEND": "qtagg",
    "OMP_NUM_THREADS": "64",
    "PYTHONSTARTUP": "/absent.py",
    "RAY_RUNTIME_ENV_HOOK": "nowhere.hook",
    "RAY_ADDRESS": "192.0.2.1:6379",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    "TUNE_RESULT_DIR": "/absent",
    "UV_OFFLINE": "1",
    "WORLD_SIZE": "4",
}


def program(*words: object, environment: Mapping[str, str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *map(str, words)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, cwd=ROOT)


@pytest.fixture(scope="module")
def nolock(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that stands in for a file system without locks, or without folder sync."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("nolock") / "nolock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, HERE / "nolock.c", "-ldl"], check=True)
    return str(library)


def test_ray_starts_on_an_odd_machine(tmp_path: Path) -> None:
    """An odd temporary folder, no home, little shared memory, others' variables, all under `uv run`."""
    place, uvs = tmp_path / ("a long folder of the batch system " * 3).strip(), tmp_path / "uv"
    place.mkdir()
    words: list[object] = [sys.executable, "-m", SLEEPERS, tmp_path / "store", 2, 0.1, 2]
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        words = [uv, "run", "--no-project", "--python", sys.executable, "python", *words[1:]]
    script = " ".join(f"'{word}'" for word in words)
    if os.getuid() == 0 and shutil.which("unshare"):
        small = "mount -t tmpfs -o size=16m tmpfs /dev/shm"
        if subprocess.run(["unshare", "-m", "sh", "-c", small], capture_output=True).returncode == 0:
            script = f"{small} && {script}"
            words = ["unshare", "-m", "sh", "-c", script]
    places = {"TMPDIR": str(place), "UV_CACHE_DIR": str(uvs), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory(prefix="odd-", dir="/tmp") as short:  # where it can see what Ray leaves
        done = subprocess.run(
            [str(word) for word in words],
            env={**os.environ, **ODD, **places, "XDG_RUNTIME_DIR": short},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        assert not list(Path(short).iterdir()), "Ray's folder was left"
    assert "2 done, 0 failed" in done.stderr
    assert len(whole_trials(Store(tmp_path / "store"))) == 2
    assert not [p for p in place.iterdir() if not p.name.startswith("torchinductor_")]  # torch's own cache stays


def test_a_death_for_memory_is_called_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", SLEEPERS, str(tmp_path / "store"), "2", "60", "2"]
    environment = {**os.environ, "RAY_memory_usage_threshold": "0.01"}
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment, cwd=ROOT)
    assert process.stderr is not None
    lines: list[str] = []
    deadline = time.monotonic() + PATIENCE
    try:
        for line in process.stderr:
            lines.append(line)
            if "tried again alone" in line:
                break
            assert time.monotonic() < deadline, lines
        assert any("memory ran short" in line and "from now on 1 at once" in line for line in lines), lines
        assert "tried again alone" in lines[-1], lines
        assert all("memory ran short" in line for line in lines), "Ray's own paragraphs are not shown"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
        assert not output, "nor elsewhere"
    finally:
        process.kill()
        process.wait()
    assert not Store(tmp_path / "store").trial_ids(), "none was given up within seconds"


def test_a_store_without_locks_is_refused(nolock: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    environment = {"LD_PRELOAD": nolock, "NOLOCK": str(store), "LOCKERR": "1"}
    done = program("studies", "run", "noise", "--profile", "smoke", "--store", store, environment=environment)
    assert done.returncode == 2
    planning, line = done.stderr.splitlines()
    assert planning == "planning noise (smoke)"
    assert line.startswith("error: locks: ") and "the store needs a file system with locks" in line
    assert not store.exists(), "a store made for nothing was left"


def test_doctor_tells_what_was_found(nolock: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    Store(store, create=True)
    odd = {**ODD, "LD_PRELOAD": nolock, "NOLOCK": str(store), "TMPDIR": "/absent", "COLUMNS": "200"}
    done = program("studies", "doctor", "--store", store, environment={**odd, "NODIRSYNC": "1"})
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    verdicts = {line[9:25].strip(): line.split(" ")[0] for line in done.stdout.splitlines() if line[0] != " "}
    mended = {"folder sync", "temporary folder", "home", "variables"}
    assert {what for what, verdict in verdicts.items() if verdict == "mended"} >= mended
    for name in ODD.keys() - {"HOME", "UV_OFFLINE"}:
        assert name in done.stdout
    again = program("studies", "check", "--machine", store, environment={**odd, "NODIRSYNC": "1"})
    looked_at = [[line[:25] for line in d.stdout.splitlines() if line[0] != " "] for d in (done, again)]
    assert looked_at[0] == looked_at[1]
    done = program("studies", "doctor", "--store", store, environment={**odd, "LOCKERR": "1"})
    assert done.returncode == 1 and "\nrefused  locks  " in done.stdout


def test_trials_are_kept_without_folder_sync(nolock: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    code = (
        "from harness.storage.store import Store; from tests.storage.test_store import result; "
        f"store = Store({str(store)!r}, create=True); store.write(result()); print(*store.trial_ids())"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "LD_PRELOAD": nolock, "NOLOCK": str(store), "NODIRSYNC": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert whole_trials(Store(store)) == set(done.stdout.split())
