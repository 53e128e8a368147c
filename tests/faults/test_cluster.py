"""A study on a cluster of several raylets: it spreads, takes up a new node, and survives the loss of one."""

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.storage.store import Store
from tests.faults.conftest import (
    PATIENCE,
    SLEEPERS,
    Launch,
    MakeStore,
    Program,
    executions,
    new_snapshot,
    outcome,
    starts,
    whole_trials,
)
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


@pytest.fixture
def add_node(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Adds a node, until the end of the test."""
    nodes: list[Any] = []

    def add(**resources: int) -> Any:
        nodes.append(cluster.add_node(**resources))
        return nodes[-1]

    yield add
    for node in nodes:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node)


def lose(cluster: Any, node: Any) -> None:
    """Kill a node, and wait until its processes are gone."""
    workers = descendants_of(node)
    cluster.remove_node(node, allow_graceful=False)
    assert workers and not psutil.wait_procs(workers, timeout=60)[1]  # else a trial may finish before it dies


def descendants_of(node: Any) -> list[psutil.Process]:
    (raylet,) = node.all_processes["raylet"]
    return psutil.Process(raylet.process.pid).children(recursive=True)


def wait_for_nodes(store: Path, process: Program, number: int) -> set[str]:
    """Wait until trials have started on that many nodes."""
    deadline = time.monotonic() + PATIENCE
    while len(nodes := {node for _, node, _ in starts(store)}) < number:
        assert time.monotonic() < deadline, f"only {len(nodes)} nodes got work"
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    return nodes


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's own log files, in this process
def test_a_study_spreads_and_loses_a_node(
    cluster: Any, add_node: Callable[..., Any], tmp_path: Path, launch: Launch
) -> None:
    place, trials = tmp_path / "store", 12
    first = add_node(num_cpus=1)
    add_node(num_cpus=1)
    process = launch(SLEEPERS, place, trials, 1000, 0, cluster.address)
    assert first.node_id in wait_for_nodes(place, process, 2)
    new = add_node(num_cpus=1)
    assert new.node_id in wait_for_nodes(place, process, 3)
    (lost,) = [trial_id for trial_id, node, _ in starts(place) if node == first.node_id]
    lose(cluster, first)
    place.with_suffix(".hurry").touch()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    store = Store(place)
    assert whole_trials(store) == {spec.trial_id for spec in specs(trials)}
    started = executions(place)
    assert started[lost] == 2 and started.total() == trials + 1, "the lost node's trial ran again, and no other"
    caches = {store.read_result(i)["provenance"]["cache"] for i in store.trial_ids()}
    assert not any(cache.startswith(str(place)) for cache in caches), "a trial read the driver's disk"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ranks_resume_elsewhere_whichever_node_dies(
    cluster: Any, add_node: Callable[..., Any], tmp_path: Path, knowing_store: MakeStore, launch: Launch
) -> None:
    """Nodes of one CPU, so that a trial of two ranks needs two: first its other rank's node dies, then its own."""
    study = ("studies", "run", Path(__file__).with_name("small.py"), "--profile", "smoke", "--seeds", 1, "--store")
    undisturbed, killed = (Store(knowing_store(name)) for name in ("undisturbed", "killed"))
    process = launch(*study, undisturbed.root, "--workers", 2)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    specs = {trial_id: undisturbed.read_spec(trial_id) for trial_id in whole_trials(undisturbed)}
    (trial_of_two,) = [trial_id for trial_id, spec in specs.items() if spec.world_size == 2]

    nodes, shared = [add_node(num_cpus=1) for _ in range(2)], tmp_path / "snapshots"
    process = launch(*study, killed.root, "--address", cluster.address, "--snapshots", shared)
    for rank in ("_run_rank", "ImplicitFunc"):
        new_snapshot(shared / f"{trial_of_two}.snapshot", process)
        (node,) = [n for n in nodes if any(rank in " ".join(p.cmdline()) for p in descendants_of(n))]
        lose(cluster, node)
        nodes = [*(n for n in nodes if n is not node), add_node(num_cpus=1)]
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert whole_trials(killed) == specs.keys()
    assert 0 < killed.read_result(trial_of_two)["provenance"]["resumed_at_step"] < specs[trial_of_two].num_steps
    assert [outcome(killed, trial_id) for trial_id in specs] == [outcome(undisturbed, trial_id) for trial_id in specs]
    assert not list(shared.glob("*.snapshot")), "a finished trial's snapshot was left"

    score = ("studies", "score", Path(__file__).with_name("small.py"), "--profile", "smoke", "--num-generated", 40)
    process = launch(*score, "--store", killed.root, "--address", cluster.address)  # whose head has no room for it
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert all(len(killed.read_scores(trial_id)) == 2 for trial_id in specs)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_small_trials_share_a_gpu(add_node: Callable[..., Any], cluster: Any, tmp_path: Path, launch: Launch) -> None:
    """Ray takes our word that there is a GPU; what is tried here is who is put on it."""
    place = tmp_path / "store"
    add_node(num_cpus=6, num_gpus=1)
    process = launch(SLEEPERS, place, 6, 1000, 0, cluster.address, 0.25)
    deadline = time.monotonic() + PATIENCE
    while len(starts(place)) < 4:
        assert time.monotonic() < deadline and process.poll() is None, starts(place)
        time.sleep(0.2)
    time.sleep(5)  # a fifth would have had its time
    assert len(starts(place)) == 4
    place.with_suffix(".hurry").touch()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert executions(place).total() == 6 and {gpus for *_, gpus in starts(place)} == {"0"}


def test_a_cluster_without_the_right_token_is_refused(
    cluster: Any, tmp_path: Path, launch: Launch, monkeypatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    process = launch(SLEEPERS, tmp_path / "store", 1, 0, 0, cluster.address)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "error: cannot join the Ray cluster at" in errors and "token" in errors and "Traceback" not in errors
