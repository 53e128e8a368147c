"""How far studies are, seen from another process: what is said while one works, and after it was killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len

from harness.cli import app
from harness.errors import UserError
from harness.storage.locks import holders
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.using.status import Watcher, legend, lines
from studies.baselines import FC
from tests.cli.emulator import Emulator
from tests.storage.test_store import everything
from tests.using.conftest import small

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from harness.storage.store import Store
store = Store(sys.argv[1])
with store.locks.at_work():
    assert all(store.locks.acquire(trial_id) for trial_id in sys.argv[2:])
    print(flush=True)
    time.sleep(120)
"""


@contextmanager
def at_work(store: Store, *trial_ids: str) -> Iterator[subprocess.Popen]:
    """A process that has these trials for itself, as the driver of a run has."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, store.root, *trial_ids], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def half_done(tmp_path: Path, digits, context) -> tuple[Store, list[str]]:
    """A store with a plan of two arms of three seeds: one done, one diverged, one failed, three not begun."""
    store, cells = Store(tmp_path / "runs", create=True), []
    for arm in ("a", "b"):
        for seed in range(3):
            spec = small(FC, digits, seed=seed, generator_lr=0.001 if arm == "a" else 0.002)
            cells.append({"arm": arm, "seed": seed, "trial_id": spec.trial_id})
            if arm == "a":
                status = ("ok", "diverged", "failed")[seed]
                scores = {"fid": 5.0} if status == "ok" else {}
                error = "" if status == "ok" else f"it {status}"
                result = TrialResult(
                    spec=spec, status=status, error=error, protocol=context.protocol, scores=scores, cost={"seconds": 8}
                )
                store.write(result)
    store.write_plan("tiny", "smoke", {"protocol_id": context.protocol.protocol_id, "cells": cells})
    return store, [cell["trial_id"] for cell in cells]


def test_running_trials_are_those_that_are_locked(half_done: tuple[Store, list[str]], tmp_path: Path) -> None:
    store, ids = half_done
    watcher = Watcher(store=store)
    (before,) = watcher.look()
    assert dict(before.cells["a"]) == {0: "done", 1: "diverged", 2: "failed"} and watcher.at_work is None
    assert set(before.cells["b"].values()) == {"waiting"} and before.seconds_left is None
    with at_work(store, ids[3], ids[2]) as process:
        (now,) = watcher.look()
        assert watcher.at_work == process.pid
        assert dict(now.cells["b"]) == {0: "running", 1: "waiting", 2: "waiting"}
        assert now.cells["a"][2] == "running", "a failed trial that is tried again"
        assert now.seconds_left == 8 * (2 + 2 / 2) / 2, "none has ended since the plan was written: as others took"
        watcher = Watcher(store=store)
        watcher.look()
        ahead = time.time() + 3600
        os.utime(store.trial_folder(ids[0]), (ahead, ahead))
        store.trial_folder(ids[1]).rename(tmp_path / "quarantined")
        (now,) = watcher.look()
        assert now.seconds_left == 8 * (2 + 2 / 2) / 2, "of a clock that is ahead, and of a folder that is gone"
        (tmp_path / "quarantined").rename(store.trial_folder(ids[1]))
        for i, trial_id in enumerate(ids[:2]):  # of 8 s each, side by side, of which the second ended 5 s ago
            ended = time.time() - 5 - i
            os.utime(store.trial_folder(trial_id), (ended, ended))
        os.utime(store.layout.plan("tiny", "smoke"), (0, time.time() - 100))
        (now,) = Watcher(store=store).look()
        assert now.seconds_left == pytest.approx(14 / (2 + 1) * (2 + 1), abs=1)
        assert now.headline.startswith("tiny (smoke): 2 of 6 trials done, 2 running, 1 diverged, 2 waiting; about 1")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        (after,) = watcher.look()
    assert after == before and watcher.at_work is None, "the system dropped the locks"


def test_asking_takes_no_lock_and_writes_nothing(half_done: tuple[Store, list[str]]) -> None:
    store, ids = half_done
    files = everything(store.root)
    with at_work(store, ids[3]) as process:
        seen = everything(store.root)
        for _ in range(3):
            Watcher(store=store).look()
        assert everything(store.root) == seen and files.keys() <= seen.keys()
        assert holders(store.layout.locks, ids) == (process.pid, {ids[3]})
        with at_work(store, ids[4]):  # which nobody who only asks keeps from it
            assert holders(store.layout.locks, ids)[1] == {ids[3], ids[4]}
    assert holders(store.root / "absent", ids) == (None, set())


def test_trials_without_all_scores_are_not_done(half_done: tuple[Store, list[str]]) -> None:
    store, _ = half_done
    plan = store.read_plan("tiny", "smoke") or {}
    cells = [{**cell, "also": {"inception-v3": "0123456789ab"}} for cell in plan["cells"]]
    store.write_plan("tiny", "smoke", {**plan, "cells": cells, "ceilings": {"a": "f" * 16}})
    (found,) = Watcher(store=store).look()
    assert found.cells["a"][0] == "to score" and found.cells["a, untrained"] == {0: "waiting"}


def test_lines_fit_and_name_failures(half_done: tuple[Store, list[str]]) -> None:
    store, _ = half_done
    (found,) = Watcher(store=store).look()
    told = lines(found, 80)
    assert told[1:] == ["  a  ●◇✕", "  b  ···", "  failed: a, seed 2: it failed"]
    assert legend([found]) == "● done  ✕ failed  ◇ diverged  · waiting"
    many = {"b" * 70: {seed: "waiting" for seed in range(200)}}
    wide = lines(type(found)(**{**vars(found), "cells": many}), 80)
    assert all(cell_len(line) <= 80 for line in wide[1:]) and "0/200, 0 running" in wide[1]


def test_an_unknown_study_lists_those_there(half_done: tuple[Store, list[str]]) -> None:
    with pytest.raises(UserError, match=r"tinny never ran in .*; there: tiny \(smoke\)"):
        Watcher(store=half_done[0], study="tinny").look()


def test_watching_waits_for_a_run_that_begins(half_done: tuple[Store, list[str]], tmp_path: Path) -> None:
    """A run locks the store long before it knows its trials."""
    store = Store(tmp_path / "fresh", create=True)
    with at_work(store, half_done[1][0]):
        for study in (None, "tiny"):
            watcher = Watcher(store=store, study=study)
            assert watcher.look() == [] and not watcher.is_over([])
        seen = Emulator("status", store.root, "--watch", columns=80)
        seen.until(lambda: any("a run is at work here" in row for row in seen.rows), "who works")
    assert seen.end() == 0 and Watcher(store=store).is_over([])


def test_the_command_tells_it_in_a_terminal(half_done: tuple[Store, list[str]], capsys) -> None:
    store, ids = half_done
    with at_work(store, ids[3]):
        seen = Emulator("status", store.root, "--watch", columns=80)
        seen.until(lambda: any("1 running" in row for row in seen.rows), "a running trial")
        seen.until(lambda: any("a run is at work here" in row for row in seen.rows), "who works")
    seen.until(lambda: any("nobody is at work here" in row for row in seen.rows), "the end of the run")
    seen.process.send("\x03")
    assert seen.end() == 130 and seen.widest() <= 80 and "Traceback" not in "".join(seen.pages)
    app(["status", str(store.root)], standalone_mode=False)
    assert "2 of 6 trials done" in capsys.readouterr().out
