"""The driver's side of a run, without Ray around it: what goes out, what comes back, what comes back once more."""

import io
import os
import pickle
import pty
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import cloudpickle, tune
from ray.tune.search import Searcher

import harness.execution.ray_backend as tune_module
from harness.errors import UserError
from harness.execution.cluster import Cluster
from harness.execution.progress import Progress
from harness.execution.ray_backend import (
    MEMORY_PAUSES,
    MEMORY_RECOVERY,
    WORKER_DEATHS,
    _Desk,
    _Queue,
    _require_room,
    run_trials,
)
from harness.storage.store import Store
from tests.faults.sleepers import PROTOCOL_ID, specs
from tests.storage.test_store import result


@pytest.fixture
def desk(tmp_path: Path) -> _Desk:
    wanted = specs(3)
    arms = {spec.trial_id: ("dc", spec.seed) for spec in wanted}
    progress = Progress(title="t", total=3, already_done=0, arms=arms, workers=1, stream=io.StringIO())
    protocols = dict.fromkeys((spec.data_fingerprint for spec in wanted), PROTOCOL_ID)
    return _Desk(wanted, protocols, Store(tmp_path / "store", create=True), progress)


def test_a_trial_whose_worker_died_is_next_and_the_end_is_not_told_before_it_is_in(desk: _Desk) -> None:
    queue, (first, second, third) = _Queue(desk, 100), specs(3)
    assert [queue.suggest(str(n))["spec"] for n in range(3)] == [first, second, third]
    assert queue.suggest("3") is None, "all are out, and may come back"
    desk.lost(second)
    assert second.trial_id not in desk.out
    assert queue.suggest("4") == {"spec": second}
    for spec in (first, second, third):
        assert queue.suggest("5") is None
        desk.accept(result(spec=spec))
    assert queue.suggest("6") == Searcher.FINISHED
    assert all(desk.store.status(spec.trial_id) == "ok" for spec in (first, second, third))


def test_a_worker_that_dies_after_its_result_is_in_has_lost_nothing(desk: _Desk) -> None:
    first, second, _ = specs(3)
    assert desk.next() == first
    desk.accept(result(spec=first))
    desk.lost(first)
    assert desk.next() == second and desk.progress.done == 1


def test_a_trial_whose_worker_dies_again_and_again_has_failed(desk: _Desk) -> None:
    spec = specs(1)[0]
    for _ in range(WORKER_DEATHS + 1):
        assert desk.next() == spec
        desk.lost(spec)
    assert desk.store.read_result(spec.trial_id)["error"] == f"its worker died {WORKER_DEATHS + 1} times"
    assert desk.progress.failed == 1 and desk.next() != spec


def test_trials_that_die_for_memory_run_fewer_at_once(desk: _Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_module, "MEMORY_PAUSES", (0.0, 0.0, 0.0))
    first, second, third = (desk.next() for _ in range(3))
    assert first and second and third
    desk.lost(first, for_memory=True)
    assert desk.at_once == 2 and not desk.deaths.total(), "it had company: others may have taken the memory"
    assert desk.next() is None, "two are out"
    desk.lost(second, for_memory=True)
    assert desk.at_once == 1 and desk.next() is None
    desk.accept(result(spec=third))
    for _ in range(WORKER_DEATHS + 1):
        assert desk.next() == second and desk.next() is None
        desk.lost(second, for_memory=True)
    error = desk.store.read_result(second.trial_id)["error"]
    assert error == "not enough memory: its worker died 3 times for want of it, with no other trial beside it"
    assert desk.next() == first, "what does not fit alone is no reason to give up the others"


def test_after_a_death_for_memory_all_wait(desk: _Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(tune_module.time, "monotonic", lambda: now)
    first, others = desk.next(), specs(3)[1:]
    assert first
    for death, pause in enumerate(MEMORY_PAUSES[1:], 1):
        desk.lost(first, for_memory=True)
        now += pause - 1
        assert desk.next() is None, f"after death {death} somebody else may still have it"
        now += 1
        assert desk.next() == first
    desk.lost(first, for_memory=True)
    assert desk.store.status(first.trial_id) == "failed"
    assert desk.next() == others[0]
    desk.lost(others[0], for_memory=True)
    now += MEMORY_PAUSES[0]
    assert desk.next() == others[0] and desk.next() is None, "waiting did not help the first one"
    now += MEMORY_RECOVERY
    assert desk.next() == others[1], "after a while one more at once is tried again"


def test_a_tuner_ends_after_its_share_and_the_next_takes_what_is_left(desk: _Desk) -> None:
    queue, (first, second, third) = _Queue(desk, 2), specs(3)
    assert [queue.suggest(str(n))["spec"] for n in range(2)] == [first, second]
    assert queue.suggest("2") == Searcher.FINISHED
    desk.accept(result(spec=first))
    desk.lost(second)
    assert list(desk.waiting) == [second, third]
    queue = _Queue(desk, 2)
    assert [queue.suggest(str(n))["spec"] for n in range(2)] == [second, third]


def test_ranks_without_room_are_refused_here_and_waited_for_on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would wait for ever, and say nothing."""
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    progress = Progress(title="t", total=1, already_done=0, arms={}, workers=1, stream=io.StringIO())
    with pytest.raises(UserError, match="a trial of 2 ranks asks for 1 CPU and 1 GPU a rank, and there is room for 1"):
        _require_room(2, Cluster(), progress)
    _require_room(2, Cluster(gpus_per_trial=0.5), progress)
    _require_room(4, Cluster(gpus_per_trial=0), progress)
    with pytest.raises(UserError, match="5 ranks asks for 1 CPU a rank, and there is room for 4"):
        _require_room(5, Cluster(gpus_per_trial=0), progress)
    assert not progress.stream.getvalue()
    monkeypatch.setattr(ray, "cluster_resources", lambda: {})
    _require_room(1, Cluster(address="host:1"), progress)
    assert "waiting for nodes: a trial of 1 rank asks for 1 CPU a rank" in progress.stream.getvalue()


def test_what_is_over_may_be_claimed_again(desk: _Desk) -> None:
    """A trial that failed, say, and that this or another process tries again."""
    first, second, _ = specs(3)
    for _ in range(2):
        desk.next()
    assert not desk.store.locks.acquire(first.trial_id)
    desk.accept(result(spec=first, status="failed"))
    assert desk.store.locks.acquire(first.trial_id)
    desk.close()
    assert desk.store.locks.acquire(second.trial_id), "what did not finish is given back in the end"
    desk.store.locks.release(first.trial_id, second.trial_id)


def test_what_another_process_finished_is_counted_and_not_claimed(desk: _Desk) -> None:
    first, second, _ = specs(3)
    desk.store.write(result(spec=first))
    assert desk.next() == second and desk.progress.done == 1
    assert desk.store.locks.acquire(first.trial_id)
    desk.store.locks.release(first.trial_id)


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
            self.queue, (self.watcher,) = kwargs["tune_config"].search_alg, kwargs["run_config"].callbacks

        def fit(self) -> None:
            while (config := self.queue.suggest("")) != Searcher.FINISHED:
                trial = SimpleNamespace(config=config)
                self.watcher.on_trial_start(0, [], trial)
                self.watcher.on_trial_result(0, [], trial, {"result": result(spec=config["spec"])})

    monkeypatch.setattr("harness.execution.ray_backend._start_ray", lambda *_: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(tune, "with_parameters", lambda function, **kwargs: handed.append(kwargs) or function)
    monkeypatch.setattr(tune, "Tuner", Tuner)
    arms = {spec.trial_id: ("dc", spec.seed) for spec in wanted}
    context: Any = SimpleNamespace(cache=tmp_path, protocol=SimpleNamespace(protocol_id=PROTOCOL_ID))
    contexts = {spec.data_fingerprint: context for spec in wanted}
    store = Store(tmp_path / "store", create=True)
    with Progress(title="t", total=2, already_done=0, arms=arms, workers=2, stream=terminal) as progress:
        with pytest.raises(pickle.PicklingError, match="tty"):
            cloudpickle.dumps(progress)
        run_trials(wanted, contexts, store, progress, 2)
    assert progress.done == 2 and len(handed) == 2
    for thing in handed:
        cloudpickle.dumps(thing)
