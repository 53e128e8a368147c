"""The driver's side of a run, without Ray around it: what goes out, what comes back, what comes back once more."""

import io
import os
import pickle
import pty
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import threadpoolctl
from ray import cloudpickle, tune
from ray.tune.search import Searcher

from harness.errors import UserError
from harness.execution import ray_session, trial_queue
from harness.execution.cluster import Cluster
from harness.execution.progress import Progress
from harness.execution.ray_backend import TuneSearch, require_room, run_trials
from harness.execution.trial_queue import MEMORY_PAUSES, MEMORY_RECOVERY, WORKER_DEATHS, TrialQueue, fids_from_before
from harness.storage.store import Store
from tests.faults.sleepers import PROTOCOL_ID, specs
from tests.storage.test_store import result


@pytest.fixture
def queue(tmp_path: Path) -> TrialQueue:
    wanted = specs(3)
    arms = {spec.trial_id: ("dc", spec.seed) for spec in wanted}
    progress = Progress(title="t", total=3, already_done=0, arms=arms, stream=io.StringIO())
    protocols = dict.fromkeys((spec.data_fingerprint for spec in wanted), PROTOCOL_ID)
    return TrialQueue(wanted, protocols, Store(tmp_path / "store", create=True), progress)


def test_a_trial_whose_worker_died_is_next(queue: TrialQueue) -> None:
    search, (first, second, third) = TuneSearch(queue, 100), specs(3)
    assert [search.suggest(str(n))["spec"] for n in range(3)] == [first, second, third]
    assert search.suggest("3") is None, "all are out, and may come back"
    queue.lost(second)
    assert second.trial_id not in queue.running
    assert search.suggest("4") == {"spec": second}
    for spec in (first, second, third):
        assert search.suggest("5") is None
        queue.accept(result(spec=spec))
    assert search.suggest("6") == Searcher.FINISHED
    assert all(queue.store.status(spec.trial_id) == "ok" for spec in (first, second, third))


def test_a_worker_dead_after_its_result_is_nothing(queue: TrialQueue) -> None:
    first, second, _ = specs(3)
    assert queue.next() == first
    queue.accept(result(spec=first))
    queue.lost(first)
    assert queue.next() == second and queue.progress.done == 1


def test_a_trial_that_keeps_losing_workers_failed(queue: TrialQueue) -> None:
    spec = specs(1)[0]
    for _ in range(WORKER_DEATHS + 1):
        assert queue.next() == spec
        queue.lost(spec)
    assert queue.store.read_result(spec.trial_id)["error"] == f"its worker died {WORKER_DEATHS + 1} times"
    assert queue.progress.failed == 1 and queue.next() != spec


def test_deaths_for_memory_mean_fewer_at_once(queue: TrialQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_queue, "MEMORY_PAUSES", (0.0, 0.0, 0.0))
    first, second, third = (queue.next() for _ in range(3))
    assert first and second and third
    queue.lost(first, out_of_memory=True)
    assert queue.at_once == 2 and not queue.deaths.total(), "it had company: others may have taken the memory"
    assert queue.next() is None, "two are out"
    queue.lost(second, out_of_memory=True)
    assert queue.at_once == 1 and queue.next() is None
    queue.accept(result(spec=third))
    for _ in range(WORKER_DEATHS + 1):
        assert queue.next() == second and queue.next() is None
        queue.lost(second, out_of_memory=True)
    error = queue.store.read_result(second.trial_id)["error"]
    assert error == "not enough memory: its worker died 3 times for want of it, with no other trial beside it"
    assert queue.next() == first, "what does not fit alone is no reason to give up the others"


def test_after_a_death_for_memory_all_wait(queue: TrialQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(trial_queue.time, "monotonic", lambda: now)
    first, others = queue.next(), specs(3)[1:]
    assert first
    for death, pause in enumerate(MEMORY_PAUSES[1:], 1):
        queue.lost(first, out_of_memory=True)
        now += pause - 1
        assert queue.next() is None, f"after death {death} somebody else may still have it"
        now += 1
        assert queue.next() == first
    queue.lost(first, out_of_memory=True)
    assert queue.store.status(first.trial_id) == "failed"
    assert queue.next() == others[0]
    queue.lost(others[0], out_of_memory=True)
    now += MEMORY_PAUSES[0]
    assert queue.next() == others[0] and queue.next() is None, "waiting did not help the first one"
    now += MEMORY_RECOVERY
    assert queue.next() == others[1], "after a while one more at once is tried again"


def test_a_tuner_ends_after_its_share(queue: TrialQueue) -> None:
    search, (first, second, third) = TuneSearch(queue, 2), specs(3)
    assert [search.suggest(str(n))["spec"] for n in range(2)] == [first, second]
    assert search.suggest("2") == Searcher.FINISHED
    queue.accept(result(spec=first))
    queue.lost(second)
    assert list(queue.waiting) == [second, third]
    search = TuneSearch(queue, 2)
    assert [search.suggest(str(n))["spec"] for n in range(2)] == [second, third]


def test_ranks_without_room_are_refused_or_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would wait for ever, and say nothing."""
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    progress = Progress(title="t", total=1, already_done=0, arms={}, stream=io.StringIO())
    with pytest.raises(UserError, match="a trial of 2 ranks asks for 1 CPU and 1 GPU a rank, and there is room for 1"):
        require_room(2, Cluster(), progress)
    require_room(2, Cluster(gpus_per_trial=0.5), progress)
    require_room(4, Cluster(gpus_per_trial=0), progress)
    with pytest.raises(UserError, match="5 ranks asks for 1 CPU a rank, and there is room for 4"):
        require_room(5, Cluster(gpus_per_trial=0), progress)
    assert not progress.stream.getvalue()
    monkeypatch.setattr(ray, "cluster_resources", lambda: {})
    require_room(1, Cluster(address="host:1"), progress)
    assert "waiting for nodes: a trial of 1 rank asks for 1 CPU a rank" in progress.stream.getvalue()


def test_what_is_over_may_be_locked_again(queue: TrialQueue) -> None:
    """A trial that failed, say, and that this or another process tries again."""
    first, second, _ = specs(3)
    for _ in range(2):
        queue.next()
    assert not queue.store.locks.acquire(first.trial_id)
    queue.accept(result(spec=first, status="failed"))
    assert queue.store.locks.acquire(first.trial_id)
    queue.close()
    assert queue.store.locks.acquire(second.trial_id), "what did not finish is given back in the end"
    queue.store.locks.release(first.trial_id, second.trial_id)


def test_fids_from_before_are_those_of_the_store(queue: TrialQueue) -> None:
    first, second, third = specs(3)
    for spec in (first, second):
        queue.store.write(result(spec=spec))
    places = {spec.trial_id: ("dc" if spec is not second else "fc", spec.seed) for spec in (first, second, third)}
    found = fids_from_before(queue.store, places, dict.fromkeys(places, PROTOCOL_ID))
    fid = result(spec=first).scores["fid"]
    assert found == {"dc": [fid], "fc": [fid]}
    assert not fids_from_before(queue.store, places, dict.fromkeys(places, "0" * 12)), "under another protocol"


def test_what_another_process_finished_is_counted(queue: TrialQueue) -> None:
    first, second, _ = specs(3)
    queue.store.write(result(spec=first))
    assert queue.next() == second and queue.progress.done == 1
    assert queue.store.locks.acquire(first.trial_id)
    queue.store.locks.release(first.trial_id)


@pytest.fixture
def terminal() -> Iterator[io.TextIOWrapper]:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        yield stream
    os.close(master)


def test_all_that_ray_is_handed_can_be_pickled(
    tmp_path: Path, terminal: io.TextIOWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a terminal as stderr, which nothing can pickle; Ray itself does not start."""
    wanted, handed = specs(2), []

    class Tuner:
        def __init__(self, trainable: Any, **kwargs: Any) -> None:
            handed.append((trainable, kwargs))
            self.search, (self.events,) = kwargs["tune_config"].search_alg, kwargs["run_config"].callbacks

        def fit(self) -> None:
            while (config := self.search.suggest("")) != Searcher.FINISHED:
                trial = SimpleNamespace(config=config)
                self.events.on_trial_start(0, [], trial)
                self.events.on_trial_result(0, [], trial, {"result": result(spec=config["spec"])})

    monkeypatch.setattr(ray_session, "start_ray", lambda *_: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(tune, "with_parameters", lambda function, **kwargs: handed.append(kwargs) or function)
    monkeypatch.setattr(tune, "Tuner", Tuner)
    arms = {spec.trial_id: ("dc", spec.seed) for spec in wanted}
    context: Any = SimpleNamespace(cache=tmp_path, protocol=SimpleNamespace(protocol_id=PROTOCOL_ID))
    contexts = {spec.data_fingerprint: context for spec in wanted}
    store = Store(tmp_path / "store", create=True)
    with Progress(title="t", total=2, already_done=0, arms=arms, stream=terminal) as progress:
        with pytest.raises(pickle.PicklingError, match="tty"):
            cloudpickle.dumps(progress)
        run_trials(wanted, contexts, store, progress, 2)
    assert progress.done == 2 and len(handed) == 2
    for thing in handed:
        cloudpickle.dumps(thing)


def test_blas_has_one_thread_while_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray forks, which ends OpenBLAS's threads: a product of matrices that had some would wait for them for ever."""
    blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
    before, meanwhile = [pool["num_threads"] for pool in blas.info()], Event()

    def start(*_: Any) -> None:
        assert meanwhile.wait(60)

    monkeypatch.setattr(ray_session, "start_ray", start)
    session = ray_session.RaySession(Cluster(), 1)
    try:
        assert len(before) >= 2 and {pool["num_threads"] for pool in blas.info()} == {1}, "numpy's and scipy's"
        meanwhile.set()
        session.ready()
        assert [pool["num_threads"] for pool in blas.info()] == before
    finally:
        meanwhile.set()
        session.close()
