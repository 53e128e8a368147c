"""Real faults on real runs: Ctrl-C, killed workers, a full disk, a read-only file system. Each runs Ray."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.spec import TrialSpec
from harness.store import Store
from tests.unit.test_store import everything

RUN = [sys.executable, "-m", "studies", "run", "noise", "--profile", "smoke", "--seeds", "1", "--workers", "2"]


def start(store: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RUN, "--store", str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal gives
    )


def wait_for_trials(store: Path, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = [p for p in (store / "trials").glob("*") if not p.name.startswith(".")]
        if len(found) >= number:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"no {number} trials in two minutes")


def whole_trials(store: Store) -> set[str]:
    """The trials of the store, each of them checked."""
    import hashlib

    for trial_id in store.trial_ids():
        assert store.read_spec(trial_id).trial_id == trial_id
        result = store.read_result(trial_id)
        assert result["status"] == "ok", result
        for name, digest in result["sha256"].items():
            assert hashlib.sha256((store.trial_folder(trial_id) / name).read_bytes()).hexdigest() == digest
    return set(store.trial_ids())


def test_ctrl_c_keeps_finished_trials_and_the_next_run_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "store"
    first = start(place)
    wait_for_trials(place, 3, first)
    children = psutil.Process(first.pid).children(recursive=True)
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "interrupted: finished trials are kept" in errors and "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "Ctrl-C left processes behind"
    kept = whole_trials(Store(place))
    assert 3 <= len(kept) < 18
    before = {k: v for k, v in everything(place / "trials").items() if not k.startswith(".")}

    second = start(place)
    output, errors = second.communicate(timeout=240)
    assert second.returncode == 0, errors
    assert f"{18 - len(kept)} of 18 trials to run" in errors
    assert len(whole_trials(Store(place))) == 18
    after = everything(place / "trials")
    assert all(after[name] == content for name, content in before.items()), "a finished trial was run again"
    assert not list((place / "trials").glob(".*"))
    assert (place / "reports" / "noise-smoke" / "noise.html").exists() and "FID" in output


def test_killed_workers_cost_their_trials_time_only(tmp_path: Path) -> None:
    place = tmp_path / "store"
    process = start(place)
    wait_for_trials(place, 2, process)
    killed = 0
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "ImplicitFunc" in " ".join(child.cmdline()):
                child.kill()
                killed += 1
    assert killed
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert len(whole_trials(Store(place))) == 18


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a small file system: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path, leave: int = 100_000) -> None:
    """Take all the room there is, whatever others write meanwhile, but for a little."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(50_000))
    os.truncate(path, path.stat().st_size - leave)


def test_a_disk_too_small_is_refused_before_work(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=64m") as disk:
        done = subprocess.run([*RUN, "--store", str(disk / "store")], capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert "MiB are free" in done.stderr and "Traceback" not in done.stderr
        assert Store(disk / "store").trial_ids() == []


def test_a_disk_that_fills_in_mid_study_costs_nothing_finished(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=420m") as disk:
        process = start(disk / "store")
        wait_for_trials(disk / "store", 2, process)
        fill(disk / "other-peoples-data")
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2, errors
        assert errors.count("error: ") == 1 and "is full; finished trials are intact" in errors
        assert "Traceback" not in errors
        kept = whole_trials(Store(disk / "store"))
        assert len(kept) >= 2
        assert not list((disk / "store" / "trials").glob(".*")), "something half-written was left"
        (disk / "other-peoples-data").unlink()
        process = start(disk / "store")
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        assert len(whole_trials(Store(disk / "store"))) == 18


def test_a_read_only_store_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=420m") as disk:
        Store(disk / "store", create=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = subprocess.run([*RUN, "--store", str(disk / "store")], capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert "is not writable" in done.stderr and "Traceback" not in done.stderr


def test_a_reused_process_gives_what_a_fresh_one_gives(tmp_path: Path) -> None:
    """One worker runs all trials in one process; two share them out otherwise. Every weight is the same."""
    weights = []
    for workers in ("1", "2"):
        place = tmp_path / workers
        subprocess.run(
            [*RUN, "--store", str(place), "--workers", workers], check=True, capture_output=True, timeout=240
        )
        store = Store(place)
        assert all(isinstance(store.read_spec(i), TrialSpec) for i in store.trial_ids())
        weights.append(
            {i: (store.trial_folder(i) / "weights.safetensors").read_bytes() for i in store.trial_ids()}
            | {f"{i} scores": str(store.read_scores(i)) for i in store.trial_ids()}
        )
    assert len(weights[0]) == 36
    assert weights[0] == weights[1]
