"""Real faults on real runs: killed processes, damaged files, a full disk. Nearly each starts Ray."""

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

from harness.storage.store import Store
from tests.faults.conftest import (
    PATIENCE,
    SLEEPERS,
    Launch,
    descendants,
    executions,
    kill,
    wait_for_trials,
    whole_trials,
)
from tests.faults.sleepers import specs
from tests.storage.test_store import everything

RUN = ["studies", "run", "noise", "--profile", "smoke", "--seeds", "1", "--workers"]


def test_killed_workers_cost_their_trials_time_only(tmp_path: Path, launch: Launch) -> None:
    place = tmp_path / "store"
    process = launch(SLEEPERS, place, 8, 2, 2)
    wait_for_trials(place, 2, process)
    kill(descendants(process, "ImplicitFunc"))
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert whole_trials(Store(place)) == {spec.trial_id for spec in specs(8)}
    started = executions(place)
    assert started.total() <= 10 and max(started.values()) <= 2, "two workers died, so two trials ran again at most"


def test_two_studies_on_one_store_share_trials(tmp_path: Path, launch: Launch) -> None:
    place = tmp_path / "store"
    both = [launch(SLEEPERS, place, 30, 1, 1) for _ in range(2)]
    drivers: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while len(drivers) < 2:  # both are at work
        assert time.monotonic() < deadline and all(process.poll() is None for process in both)
        store = Store(place) if (place / "store.json").exists() else None
        drivers = {store.read_result(i)["provenance"]["driver"] for i in store.trial_ids()} if store else set()
        time.sleep(0.2)
    assert drivers == {process.pid for process in both}
    assert max(executions(place).values()) == 1
    orphans = descendants(both[0], "ImplicitFunc")
    both[0].kill()
    Path(f"{place}.hurry").touch()  # two at work are what is looked at; the rest need not take its time
    _, errors = both[1].communicate(timeout=PATIENCE)
    assert both[1].returncode == 0, errors
    assert whole_trials(Store(place)) == {spec.trial_id for spec in specs(30)}
    started = executions(place)
    assert started.total() <= 31 and max(started.values()) <= 2, "the dead one's trial at most ran again"
    _, alive = psutil.wait_procs(orphans, timeout=30)
    assert orphans and not alive, "a dead driver left workers behind"


def test_a_killed_raylet_and_damaged_files(tmp_path: Path, launch: Launch) -> None:
    place = tmp_path / "store"
    first = launch(SLEEPERS, place, 8, 2, 2)
    wait_for_trials(place, 4, first)
    kill([p for p in descendants(first) if p.name() == "raylet"])
    first.communicate(timeout=PATIENCE)  # Ray ends the driver by itself, and says more than enough
    assert first.returncode != 0
    store = Store(place)
    kept = sorted(whole_trials(store))
    assert 4 <= len(kept) < 8
    os.truncate(store.trial_folder(kept[0]) / "weights.safetensors", 50_000)
    (store.trial_folder(kept[1]) / "spec.json").write_text("{}")
    (store.trial_folder(kept[2]) / "thesis.tex").write_text("precious")
    before = everything(store.trial_folder(kept[3]))
    checked = subprocess.run(
        [sys.executable, "-m", "studies", "check", str(place)], capture_output=True, text=True, timeout=120
    )
    assert checked.returncode == 1
    for name in ("weights.safetensors: its checksum differs", "spec.json: ", "thesis.tex: it is not among"):
        assert name in checked.stdout

    second = launch(SLEEPERS, place, 8, 0.1, 2)
    _, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, errors
    assert errors.count("was damaged and moved to") == 3
    assert whole_trials(store) == {spec.trial_id for spec in specs(8)}
    assert everything(store.trial_folder(kept[3])) == before, "a whole trial was touched"
    started = executions(place)
    assert {i for i in kept if started[i] > 1} == set(kept[:3]), "the damaged trials alone are run again"
    assert len(list((place / "quarantine").iterdir())) == 3


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
        done = subprocess.run(
            [sys.executable, "-m", *RUN, "2", "--store", str(disk / "store")],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 2
        assert "MiB are free" in done.stderr and "Traceback" not in done.stderr
        assert not list(disk.iterdir()), "a store made for nothing was left"


def test_a_disk_that_fills_costs_nothing_finished(tmp_path: Path, launch: Launch) -> None:
    with small_disk(tmp_path / "disk", "size=20m") as disk:
        process = launch(SLEEPERS, disk / "store", 8, 1, 2)
        wait_for_trials(disk / "store", 2, process)
        fill(disk / "other-peoples-data", leave=50_000)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1, errors
        assert errors.count("error: ") == 1 and "is full; finished trials are intact" in errors
        assert "Traceback" not in errors
        kept = whole_trials(Store(disk / "store"))
        assert 2 <= len(kept) < 8
        assert not list((disk / "store" / "trials").glob(".*")), "something half-written was left"
        (disk / "other-peoples-data").unlink()
        process = launch(SLEEPERS, disk / "store", 8, 0.1, 2)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert len(whole_trials(Store(disk / "store"))) == 8


def test_a_read_only_store_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=420m") as disk:
        Store(disk / "store", create=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = subprocess.run(
            [sys.executable, "-m", *RUN, "2", "--store", str(disk / "store")],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 2
        assert "is not writable" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_batch_systems_warning_interrupts(tmp_path: Path, launch: Launch) -> None:
    """Slurm's warning can be SIGUSR1, which Tune takes as a wish to end early."""
    process = launch(SLEEPERS, tmp_path / "store", 6, 2, 2)
    wait_for_trials(tmp_path / "store", 2, process)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    kept = whole_trials(Store(tmp_path / "store"))
    assert 2 <= len(kept) < 6
    process = launch(SLEEPERS, tmp_path / "store", 6, 0.1, 2)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert len(whole_trials(Store(tmp_path / "store"))) == 6
    assert max(executions(tmp_path / "store")[trial_id] for trial_id in kept) == 1
