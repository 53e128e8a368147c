"""Programs under fault, and what is looked at while they run."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import psutil
import pytest

from harness.storage.integrity import check
from harness.storage.store import Store

SLEEPERS = "tests.faults.sleepers"  # trials that only sleep: for faults that do not care what happens inside one
TRAINERS = "tests.faults.trainers"  # short real trials
PATIENCE = 300  # seconds; a busy machine takes a minute to start Ray

Program: TypeAlias = subprocess.Popen[str]
Launch: TypeAlias = Callable[..., Program]
MakeStore: TypeAlias = Callable[[str], Path]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start a program in a process group of its own, as a terminal gives; whatever is left is killed in the end."""
    started: list[Program] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # if it was ignored, programs would inherit that

    def popen(*command: object) -> Program:
        words = [sys.executable, "-m", *map(str, command)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        started.append(process)
        return process

    yield popen
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def knowing_store(cache: Path, extractor: object, tmp_path: Path) -> MakeStore:
    """Makes a store that knows data and extractor already, which takes its first study a while."""

    def make(name: str) -> Path:
        place = Store(tmp_path / name, create=True).root
        return Path(shutil.copytree(cache, place / "cache")).parent

    return make


def new_snapshot(path: Path, process: Program) -> None:
    """Wait until there is a snapshot at this path, other than the one there now."""
    before, deadline = _when(path), time.monotonic() + PATIENCE
    while _when(path) in (0, before):
        assert time.monotonic() < deadline, f"no new snapshot in {PATIENCE} s"
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def _when(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def wait_for_trials(store: Path, number: int, process: Program) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [p for p in (store / "trials").glob("*") if not p.name.startswith(".")]
        if len(found) >= number:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"no {number} trials in {PATIENCE} s")


def whole_trials(store: Store) -> set[str]:
    """The trials of the store, every file of them checked."""
    assert not list(check(store))
    assert all(store.status(trial_id) == "ok" for trial_id in store.trial_ids())
    return set(store.trial_ids())


def outcome(store: Store, trial_id: str) -> tuple[bytes, str, str, bytes]:
    """All of a trial's result but what it cost: weights, curves, scores and picture."""
    curves = store.read_curves(trial_id).drop(columns="seconds").to_json(double_precision=15)
    scores = {protocol_id: scores for protocol_id, (_, scores) in store.read_scores(trial_id).items()}
    return store.read_weights(trial_id), curves, repr(scores), store.read_samples(trial_id)


def starts(store: Path) -> list[tuple[str, str, str]]:
    """(trial_id, node, its GPUs) of every start of a sleeper so far."""
    log = Path(f"{store}.log")
    lines = log.read_text().splitlines() if log.exists() else []
    return [(trial_id, node, gpus) for trial_id, node, gpus in (line.split(" ") for line in lines)]


def executions(store: Path) -> Counter[str]:
    """How often each trial was started."""
    return Counter(trial_id for trial_id, *_ in starts(store))


def descendants(process: Program, name: str = "") -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if name in " ".join(child.cmdline()):
                found.append(child)
    return found


def kill(processes: list[psutil.Process]) -> None:
    assert processes
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
