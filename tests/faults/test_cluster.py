"""A study on a cluster of several raylets: it spreads, takes up a new node, and survives the loss of one."""

import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.store import Store
from tests.faults.conftest import PATIENCE, SLEEPERS, Launch, Program, executions, starts, whole_trials
from tests.faults.sleepers import specs

pytestmark = pytest.mark.slow  # several raylets on one small machine


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without room for trials; nodes are added by the test. Ray reads the token once in a process's life."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="gan-", ignore_cleanup_errors=True) as place,
    ):
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("TMPDIR", place)  # where nodes keep what has travelled to them; short, for sockets lie in it
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        yield cluster
        cluster.shutdown()


def wait_for_nodes(store: Path, process: Program, number: int) -> set[str]:
    """Wait until trials have started on that many nodes."""
    deadline = time.monotonic() + PATIENCE
    while len(nodes := {node for _, node in starts(store)}) < number:
        assert time.monotonic() < deadline, f"only {len(nodes)} nodes got work"
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    return nodes


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's own log files, in this process
def test_a_study_spreads_takes_up_a_new_node_and_loses_one(cluster: Any, tmp_path: Path, launch: Launch) -> None:
    place, trials = tmp_path / "store", 12
    first = cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    process = launch(SLEEPERS, place, trials, 1000, 0, cluster.address)
    assert first.node_id in wait_for_nodes(place, process, 2)
    new = cluster.add_node(num_cpus=1)
    assert new.node_id in wait_for_nodes(place, process, 3)
    (lost,) = [trial_id for trial_id, node in starts(place) if node == first.node_id]
    (raylet,) = first.all_processes["raylet"]
    workers = psutil.Process(raylet.process.pid).children(recursive=True)
    cluster.remove_node(first, allow_graceful=False)
    assert workers and not psutil.wait_procs(workers, timeout=60)[1]  # else it may finish before it dies
    place.with_suffix(".hurry").touch()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    store = Store(place)
    assert whole_trials(store) == {spec.trial_id for spec in specs(trials)}
    started = executions(place)
    assert started[lost] == 2 and started.total() == trials + 1, "the lost node's trial ran again, and no other"
    caches = {store.read_result(i)["provenance"]["cache"] for i in store.trial_ids()}
    assert not any(cache.startswith(str(place)) for cache in caches), "a trial read the driver's disk"


def test_a_cluster_without_the_right_token_is_refused(
    cluster: Any, tmp_path: Path, launch: Launch, monkeypatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    process = launch(SLEEPERS, tmp_path / "store", 1, 0, 0, cluster.address)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "error: cannot join the Ray cluster at" in errors and "token" in errors and "Traceback" not in errors
