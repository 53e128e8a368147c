"""Ray Tune runs the trials. The only importer of ray; everything that makes a trial exact is elsewhere.

The store is the only truth: a run is given the specs that the store lacks and starts a fresh Tuner over
them. Tune's own checkpoints and restore are not used. Finished trials travel to this process through Ray's object
store, and this process alone writes them down: workers need not see the disk that the store is on.

Ray runs on this machine alone, started and stopped here, unless a Cluster names the address of one that is up.
"""

import contextlib
import logging
import os
import socket
import time
import traceback
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from harness import interrupts
from harness.errors import UserError
from harness.execution.assets import Luggage, at_home, content_key, node_folder, pack, unpack
from harness.execution.cluster import HERE, Cluster
from harness.execution.environment import seal
from harness.execution.machine import memory_kills, memory_left, ray_folder, ray_options, token
from harness.execution.progress import Progress
from harness.execution.trial import TrialContext, help_trial, run_trial
from harness.spec import TrialSpec
from harness.storage.layout import cache_folder
from harness.storage.store import Store, TrialResult
from harness.training.distributed import join

# ruff: noqa: E402
seal()  # before ray is imported, which looks at once; in its workers, too, which may be on other machines

import psutil
import ray
import ray.exceptions
import ray.util
from ray import tune
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a page of traceback for each worker that died

WORKER_DEATHS = 2
"""How often a trial is started again after its worker died; of want of memory, how often with no other beside it."""

MEMORY_PAUSES = (5.0, 15.0, 120.0)
"""Seconds without a new trial after one died for want of memory: beside others, alone, and alone once more.

Somebody else may have it. As soon as a trial has failed for it, the others do not wait so long again.
"""

MEMORY_RECOVERY = 1800.0
"""Seconds after such a death until one more trial at once is tried again."""

LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.TaskPlacementGroupRemoved,
    ray.exceptions.OutOfMemoryError,
)
"""What Ray says of a task whose process or node is gone."""

NODE_LOSS = 60.0
"""Seconds until Ray surely knows that a node is gone; the ranks that talked to it know at once."""

TRIALS_A_TUNER = 1000
"""Trials in one Tuner, or 20 times those that run at once where that is more. Tune keeps some 50 KB of each finished
trial until its end; the next Tuner starts when all trials of the last one have ended."""

Run: TypeAlias = Callable[[TrialSpec, TrialContext, Path | None], TrialResult]

PACKAGES = ("architectures", "harness", "studies")
"""What is sent to the nodes of a cluster as code."""


def run_trials(
    specs: Iterable[TrialSpec],
    contexts: Mapping[str, TrialContext],
    store: Store,
    progress: Progress,
    workers: int | None,
    cluster: Cluster = HERE,
    *,
    run: Run = run_trial,
) -> None:
    """Run every spec as a Tune trial, in order, and put each result into the store.

    A trial that another live process runs in the same store is left to it: this call waits, and takes over what that
    process leaves undone.

    Args:
        specs: What to run.
        contexts: What trials share, by the fingerprint of their data.
        store: Where results go.
        progress: Told of every trial that starts or ends.
        workers: Trials at once; None on a cluster for as many as it has room for, now or later.
        cluster: Where they run.
        run: What a worker does with a spec; benchmarks and tests put something quick here.

    Raises:
        UserError: the store could not be written, or the cluster not be joined. Finished trials stay.
        KeyboardInterrupt: likewise; the workers are gone when it arrives.
    """
    protocols = {fingerprint: context.protocol.protocol_id for fingerprint, context in contexts.items()}
    desk = _Desk(specs, protocols, store, progress)
    others = psutil.Process().children(recursive=True)
    with ray_folder() as scratch:
        try:
            with interrupts.starting_processes():
                _start_ray(cluster, workers, scratch)
            _require_room(max((spec.world_size for spec in desk.waiting), default=1), cluster, progress)
            trainable = tune.with_parameters(
                _trainable, run=run, **_parcels(contexts, cluster.snapshots, travels=bool(cluster.address))
            )
            while desk.waiting:
                tune.Tuner(
                    tune.with_resources(trainable, _shape_of(cluster)),
                    tune_config=tune.TuneConfig(
                        search_alg=_Queue(desk, max(TRIALS_A_TUNER, 20 * _places(cluster))),
                        num_samples=-1,  # until the queue says that it is finished
                        reuse_actors=True,
                        max_concurrent_trials=workers or None,
                        trial_dirname_creator=lambda trial: trial.trial_id,
                    ),
                    run_config=tune.RunConfig(
                        storage_path=str(scratch),
                        name=f"trials-{uuid.uuid4().hex[:8]}",
                        verbose=0,
                        callbacks=[_Watcher(desk)],  # a lost worker is the desk's to deal with: Tune's way misses some
                    ),
                ).fit()
                if desk.out:  # Tune ends early at SIGUSR1, by which batch systems tell that time is up
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            progress.stop()
            raise
        except tune.TuneError:
            if not desk.store_error:
                raise
            raise UserError(desk.store_error) from None  # what the desk stopped the run with
        finally:
            started = [process for process in psutil.Process().children(recursive=True) if process not in others]
            ray.shutdown()
            desk.close()
            _end(started)


def _start_ray(cluster: Cluster, workers: int | None, folder: Path) -> None:
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if not cluster.address:
        os.environ.setdefault("RAY_AUTH_TOKEN", token())
        ray.init("local", num_cpus=workers, **ray_options(folder), **options)
        return
    del options["include_dashboard"]  # the cluster's own affair, like the number of its CPUs
    root = Path(__file__).parents[2]
    try:
        ray.init(cluster.address, runtime_env={"py_modules": [str(root / name) for name in PACKAGES]}, **options)
    except ray.exceptions.AuthenticationError:
        raise UserError(
            f"cannot join the Ray cluster at {cluster.address}: it has another token, or none was found here; give the "
            f"cluster's own in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from None
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(
            f"cannot join the Ray cluster at {cluster.address}: {str(error).strip().splitlines()[0]}; it must be up, "
            f"of the same Ray and Python versions, and its token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from None


def _end(processes: list[psutil.Process]) -> None:
    """End what Ray leaves: of a start that was interrupted, say, or agents that outlive their raylet by a minute."""
    _, left = psutil.wait_procs(processes, timeout=3)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _rank(cluster: Cluster) -> dict[str, float]:
    """What one rank of a trial asks for."""
    gpus = cluster.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
    return {"CPU": 1.0, **({"GPU": gpus} if gpus else {})}


def _shape_of(cluster: Cluster) -> Callable[[dict[str, Any]], tune.PlacementGroupFactory]:
    """What a trial asks for, from its config; trials of one shape take over each other's processes."""
    rank = _rank(cluster)
    return lambda config: tune.PlacementGroupFactory([rank] * config["spec"].world_size)


def _places(cluster: Cluster) -> int:
    """How many ranks the nodes that are there now have room for."""
    there = ray.cluster_resources()
    return min(int(there.get(what, 0) / share) for what, share in _rank(cluster).items())


def _require_room(ranks: int, cluster: Cluster, progress: Progress) -> None:
    """Refuse, or say on a cluster, which may grow, that a trial of so many ranks has no room."""
    if (places := _places(cluster)) < ranks:
        asked = " and ".join(f"{share:g} {what}" for what, share in _rank(cluster).items())
        room = f"a trial of {ranks} rank{'s' * (ranks > 1)} asks for {asked} a rank, and there is room for {places}"
        if not cluster.address:
            raise UserError(f"{room}; allowed: fewer ranks, or a smaller --gpus-per-trial")
        progress.say(f"waiting for nodes: {room}")


def _parcels(contexts: Mapping[str, TrialContext], snapshots: Path | None, *, travels: bool) -> dict[str, Any]:
    """What the trainable is given beside its spec: with luggage, where the workers may be on other machines."""
    if not travels:
        cache = next(iter(contexts.values())).cache
        return {
            "contexts": contexts,
            "luggage": None,
            "key": "",
            "snapshots": snapshots or cache_folder(cache, "snapshots"),
        }
    luggage = pack(contexts.values())
    return {"contexts": contexts, "luggage": luggage, "key": content_key(luggage), "snapshots": snapshots}


def _trainable(
    config: dict[str, Any],
    contexts: Mapping[str, TrialContext],
    run: Run,
    luggage: Luggage | None,
    key: str,
    snapshots: Path | None,
) -> None:
    spec: TrialSpec = config["spec"]
    context = contexts[spec.data_fingerprint]
    try:
        here = _settle(context, luggage, key)
        snapshots = snapshots or cache_folder(node_folder(), "snapshots")
        if spec.world_size == 1:
            result = run(spec, here, snapshots)
        else:
            result = _run_gang(spec, here, snapshots, lambda: (context, ray.put(luggage), key))
    except LOST:
        raise  # a rank died: the trial is started again, as it is when its own process dies
    except Exception as error:  # noqa: BLE001  whatever a trial dies of is its result, and is tried again next time
        result = TrialResult(
            spec=spec,
            status="failed",
            error=_first_line(error),
            provenance={**context.provenance, "traceback": traceback.format_exc()},
        )
    tune.report({"trial": spec.trial_id, "result": result})


def _settle(context: TrialContext, luggage: Luggage | None, key: str) -> TrialContext:
    """The context with its files on this node."""
    return context if luggage is None else at_home(context, unpack(luggage, key, node_folder()))


def _run_gang(
    spec: TrialSpec, context: TrialContext, snapshots: Path, parcel: Callable[[], tuple[TrialContext, Any, str]]
) -> TrialResult:
    """Run a trial of several ranks: this process is rank 0, the others are tasks in the trial's own placement group."""
    group = ray.util.get_current_placement_group()
    assert group is not None
    with socket.socket() as free:
        free.bind(("", 0))
        rendezvous = f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"
    helpers = [
        _help.options(
            num_cpus=group.bundle_specs[rank]["CPU"],
            num_gpus=group.bundle_specs[rank].get("GPU", 0),
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
        ).remote(spec, *parcel(), rank, rendezvous)
        for rank in range(1, spec.world_size)
    ]
    try:
        with join(0, spec.world_size, rendezvous, _device()) as ranks:
            result = run_trial(spec, context, snapshots, ranks)
        ray.wait(helpers, num_returns=len(helpers), timeout=5)  # they part; what is left is ended below
        return result
    except Exception as error:
        raise RuntimeError(_reasons(error, helpers)) from error
    finally:
        for helper in helpers:
            ray.cancel(helper, force=True)


def _reasons(error: Exception, helpers: list[Any]) -> str:
    """Why a gang failed, rank by rank: what one rank dies of makes the others lose their connection to it.

    Raises:
        one of LOST: a rank's process or node is gone.
    """
    reasons = [f"rank 0: {_first_line(error)}"]
    ended, _ = ray.wait(helpers, num_returns=len(helpers), timeout=NODE_LOSS)
    for rank, helper in enumerate(helpers, 1):
        if helper in ended:
            try:
                ray.get(helper)
            except ray.exceptions.RayTaskError as theirs:
                error.add_note(str(theirs))  # its traceback
                reasons.append(f"rank {rank}: {_first_line(theirs.cause)}")
    return "; ".join(reasons)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


@ray.remote(max_retries=0, max_calls=1)
def _help(
    spec: TrialSpec, context: TrialContext, luggage: Luggage | None, key: str, rank: int, rendezvous: str
) -> None:
    with join(rank, spec.world_size, rendezvous, _device()) as ranks:
        help_trial(spec, _settle(context, luggage, key), ranks)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class _Desk:
    """Where trials go out and results come in: the driver's side, and the only writer of the store.

    The one way from what Tune is handed to what must stay in this process: the store with its locks, the progress
    with its terminal. Tune pickles its searcher and its callbacks; a desk in a pickle is None.
    """

    def __init__(
        self, specs: Iterable[TrialSpec], protocols: Mapping[str, str], store: Store, progress: Progress
    ) -> None:
        self.waiting = deque(specs)
        self.out: set[str] = set()  # trial_ids that this process has claimed
        self.deaths: Counter[str] = Counter()  # trial_id -> workers that it lost
        self.beside: set[str] = set()  # those of `out` that had others beside them
        self.at_once: int | None = None  # trials, where memory has run short
        self.short_at = self.pause_ends = float("-inf")  # when a trial last died for it; when the next may start
        self.is_patient = True  # until a trial has failed for want of memory
        self.protocols, self.store, self.progress = protocols, store, progress  # protocol_id by the data's fingerprint
        self.store_error = ""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()

    def next(self) -> TrialSpec | None:
        """Claim the next trial; None where all that is left is run by other processes, or has to wait for memory."""
        if not self._memory_allows():
            return None
        for _ in range(len(self.waiting)):
            spec = self.waiting.popleft()
            if not self.store.locks.acquire(spec.trial_id):
                self.waiting.append(spec)
            elif self.store.is_done(spec.trial_id, self.protocols[spec.data_fingerprint]):  # another process was faster
                self.store.locks.release(spec.trial_id)
                self._found(spec)
            else:
                self.beside |= {*self.out, spec.trial_id} if self.out else set()
                self.out.add(spec.trial_id)
                return spec
        return None

    def started(self, spec: TrialSpec) -> None:
        self.progress.started(spec.trial_id)

    def accept(self, result: TrialResult) -> None:
        """Put a result into the store."""
        trial_id = result.spec.trial_id
        try:
            self.store.write(result)
        except UserError as error:
            self.store_error = str(error)
            raise
        self._is_in(trial_id)
        self.progress.finished(
            trial_id, result.status, result.scores.get("fid"), result.cost.get("seconds", 0.0), result.error
        )

    def lost(self, spec: TrialSpec, *, for_memory: bool = False) -> None:
        """Put a trial whose worker died back in front of the others, unless that happened too often.

        Of those that died for want of memory, only deaths with no other trial beside them count: until then, fewer run.
        """
        trial_id = spec.trial_id
        if trial_id not in self.out:
            return  # its result was in before the worker died
        alone = trial_id not in self.beside
        self.deaths[trial_id] += alone or not for_memory
        if self.deaths[trial_id] > WORKER_DEATHS:
            died = f"its worker died {self.deaths[trial_id]} times"
            if for_memory:
                self.is_patient = False
                died = f"not enough memory: {died} for want of it, with no other trial beside it"
            self.accept(TrialResult(spec=spec, status="failed", error=died))
            return
        if for_memory:
            self.progress.lost(trial_id, self._run_fewer(self.deaths[trial_id] if alone else 0))
        else:
            self.progress.lost(trial_id)
        self._is_in(trial_id)
        self.waiting.appendleft(spec)

    def _run_fewer(self, deaths_alone: int) -> str:
        """Take one trial less at once, and wait a little; says so."""
        pause = MEMORY_PAUSES[deaths_alone if self.is_patient else 0]
        self.short_at = time.monotonic()
        self.pause_ends = self.short_at + pause
        self.at_once = max(1, min(len(self.out) - 1, self.at_once or len(self.out)))
        then = f"tried again alone in {pause:.0f} s" if deaths_alone else f"from now on {self.at_once} at once"
        return f"memory ran short ({memory_left() / 2**20:,.0f} MiB free), and its worker died; {then}"

    def _memory_allows(self) -> bool:
        """Whether one more may be started, after trials have died for want of memory."""
        now = time.monotonic()
        if self.at_once is None:
            return True
        if now > self.short_at + MEMORY_RECOVERY:
            self.at_once, self.short_at = self.at_once + 1, now
        return len(self.out) < self.at_once and now >= self.pause_ends

    def _is_in(self, trial_id: str) -> None:
        self.store.locks.release(trial_id)
        self.out.discard(trial_id)
        self.beside.discard(trial_id)

    def _found(self, spec: TrialSpec) -> None:
        """Count a trial that another process finished."""
        trial_id, protocol_id = spec.trial_id, self.protocols[spec.data_fingerprint]
        result, scores = self.store.read_result(trial_id), self.store.read_scores(trial_id)
        fid = scores[protocol_id][1].get("fid") if protocol_id in scores else None
        self.progress.finished(trial_id, result["status"], fid, result["cost"].get("seconds", 0.0), result["error"])

    def close(self) -> None:
        """Give back what did not finish."""
        self.store.locks.release(*self.out)


class _Queue(Searcher):
    """Hands Tune one trial after the other, when there is room for it rather than all at once; `most` in all."""

    def __init__(self, desk: _Desk, most: int) -> None:
        super().__init__()
        self.desk, self.left = desk, most

    def suggest(self, trial_id: str) -> Any:
        if not self.left:
            return Searcher.FINISHED
        spec = self.desk.next()
        if spec is not None:
            self.left -= 1
            return {"spec": spec}
        # As long as one is out, it may come back: its worker may die. Tune does not ask again once it is told the end.
        return None if self.desk.waiting or self.desk.out else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        pass

    def save_to_dir(self, *_: Any, **__: Any) -> None:
        pass  # Tune's own state is never read again

    save = restore = save_to_dir


class _Watcher(tune.Callback):
    """Passes what Tune sees to the desk."""

    def __init__(self, desk: _Desk) -> None:
        self.desk, self.kills = desk, memory_kills()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.desk.started(trial.config["spec"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.desk.accept(result.pop("result"))  # Tune keeps what is left, for ever

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # What is raised inside a trial is a result, so its worker must have died.
        before, self.kills = self.kills, memory_kills()
        self.desk.lost(trial.config["spec"], for_memory=self.kills > before or _died_for_memory(trial.error_file))


def _died_for_memory(error_file: str | None) -> bool:
    """Whether Ray ended the worker for want of memory; Tune keeps what Ray says of it as text alone."""
    return error_file is not None and "low on memory" in Path(error_file).read_text(errors="replace")
