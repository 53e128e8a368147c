"""Only one process has a trial, and a dead one has none."""

import multiprocessing
import time
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.storage.integrity import prune, remove_if_unused, sweep
from harness.storage.store import Store
from tests.storage.test_store import OTHER, SPEC


def _make(root: Path, start) -> None:
    start.wait()
    Store(root, create=True).locks.acquire(SPEC.trial_id)


def test_several_processes_may_make_one_store(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for attempt in range(20):
        start = fork.Event()
        makers = [fork.Process(target=_make, args=(tmp_path / str(attempt), start)) for _ in range(4)]
        for process in makers:
            process.start()
        start.set()
        for process in makers:
            process.join()
        assert [process.exitcode for process in makers] == [0] * 4


def _lock_and_wait(root: Path, ready) -> None:
    assert Store(root).locks.acquire(SPEC.trial_id)
    ready.set()
    time.sleep(60)


def _prepare_and_wait(root: Path, ready) -> None:
    with Store(root).locks.at_work(), Store(root).locks.at_work():
        ready.set()
        time.sleep(60)


def test_a_lock_ends_with_its_process(store: Store) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=_lock_and_wait, args=(store.root, ready))
    process.start()
    assert ready.wait(60)
    assert not store.locks.acquire(SPEC.trial_id)
    assert store.locks.acquire(OTHER.trial_id), "another trial is free"
    assert not Store(store.root).locks.acquire(OTHER.trial_id), "not twice in one process"
    staging = store.root / "trials" / f".{SPEC.trial_id}-1-x"
    staging.mkdir(parents=True)
    sweep(store)
    assert staging.exists(), "what a live process writes is not swept"
    process.kill()
    process.join()
    assert store.locks.acquire(SPEC.trial_id), "a dead process's lock is gone"
    store.locks.release(SPEC.trial_id, OTHER.trial_id)
    sweep(store)
    assert not staging.exists()


@pytest.mark.parametrize("work", [_lock_and_wait, _prepare_and_wait])
def test_prune_waits_for_those_at_work(work, store: Store) -> None:
    """Those that run a trial, and those that make ready for one: both need what is in the cache."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=work, args=(store.root, ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match="a live process is at work"):
        prune(store)
    with store.locks.at_work(), store.locks.at_work():
        pass  # any number may be at work
    remove_if_unused(store)
    assert (store.root / "store.json").exists(), "it was taken away under somebody's hands"
    process.kill()
    process.join()
    with store.locks.at_work(), pytest.raises(UserError, match="a live process is at work"):
        prune(store)
    prune(store)
    assert store.locks.acquire(SPEC.trial_id)
    store.locks.release(SPEC.trial_id)
    remove_if_unused(store)
    assert not store.root.exists()
