"""Ray runs the trials: Tune those to train, plain workers those whose stored weights are to be scored.

Beside process_group.py and ray_session.py, where Ray is started, this is the only module that imports ray. What makes a
trial exact is elsewhere. A run is given the specs that the store lacks, and each time starts Tune anew: Tune's own
checkpoints and restore are not used. Results travel to this process through Ray's object store, and this process alone
writes them down, so that workers need not see the disk of the store.
"""

import contextlib
import logging
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from harness.errors import UserError
from harness.execution import ahead
from harness.execution.assets import Shared, share
from harness.execution.cluster import HERE, Cluster
from harness.execution.environment import sanitise
from harness.execution.process_group import LOST, first_line, run_ranks
from harness.execution.progress import Progress
from harness.execution.trial import TrialContext, run_trial, score_stored
from harness.execution.trial_queue import TrialQueue
from harness.spec import TrialSpec
from harness.storage.result import TrialResult
from harness.storage.store import Store

# ruff: noqa: E402
sanitise()  # before ray is imported, which reads the environment at once; also in workers on other machines

import ray
import ray.exceptions
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.search import Searcher

logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a page of traceback for each worker that died

LOW_ON_MEMORY = "low on memory"
"""In what Ray says of a worker that it ended because memory ran short."""

TRIALS_A_TUNER = 1000
"""Trials in one Tuner, or 20 times those that run at once if that is more. Tune keeps some 50 KB of each finished
trial until its end; the next Tuner starts when all trials of the last one have ended."""

Run: TypeAlias = Callable[[TrialSpec, TrialContext, Path | None], TrialResult]


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
    """Run every trial, in order, and put each result into the store.

    A trial that the store holds as finished is only scored, from its stored weights. One that another live process
    runs in the same store is left to it: this call waits, and takes over what that process leaves undone.

    Args:
        specs: What to run.
        contexts: What trials share, by the fingerprint of their data.
        store: Where results go.
        progress: Told of every trial that starts or ends.
        workers: Trials at once; None on a cluster for as many as it has room for, now or later.
        cluster: Where they run.
        run: What a worker does with a spec to train; benchmarks and tests put something quick here.

    Raises:
        UserError: the store cannot be written, stored weights are damaged, or the cluster cannot be joined.
        KeyboardInterrupt: the workers are gone when it arrives. Finished trials stay in either case.
    """
    specs = list(specs)
    stored = {spec.trial_id for spec in specs if store.status(spec.trial_id) == "ok"}
    protocols = {fingerprint: context.protocol.protocol_id for fingerprint, context in contexts.items()}
    to_score = TrialQueue([spec for spec in specs if spec.trial_id in stored], protocols, store, progress)
    to_train = TrialQueue([spec for spec in specs if spec.trial_id not in stored], protocols, store, progress)
    try:
        with _ray(cluster, workers, progress) as scratch:
            require_room(max((spec.world_size for spec in to_train.waiting), default=1), cluster, progress)
            shared = share(contexts, cluster)
            if to_score.waiting:
                _score_all(to_score, shared, workers, cluster)
            _train_all(to_train, shared, workers, cluster, run, scratch)
    finally:
        to_score.close()
        to_train.close()


def _score_all(queue: TrialQueue, shared: Shared, workers: int | None, cluster: Cluster) -> None:
    """Score stored weights in workers that each keep their share of a GPU from one trial to the next."""
    tasks: dict[Any, tuple[TrialSpec, Any]] = {}
    idle: list[Any] = []
    reference, rank = ray.put(shared), _rank(cluster)
    scorers = _Scorer.options(num_cpus=rank["CPU"], num_gpus=rank.get("GPU", 0))
    while queue.waiting or tasks:
        while len(tasks) < (workers or places(cluster)) and (spec := queue.next()):
            weights = queue.store.read_weights(spec.trial_id)
            scorer = idle.pop() if idle else scorers.remote()
            tasks[scorer.score.remote(spec, weights, reference)] = spec, scorer
            queue.started(spec)
        if not tasks:
            time.sleep(0.2)  # other processes have the rest, or memory is short
            continue
        for task in ray.wait(list(tasks), timeout=1.0)[0]:
            spec, scorer = tasks.pop(task)
            try:
                result = ray.get(task)
            except LOST as error:
                queue.lost(spec, out_of_memory=LOW_ON_MEMORY in str(error))
            else:
                idle.append(scorer)
                queue.accept(result)


def _train_all(
    queue: TrialQueue, shared: Shared, workers: int | None, cluster: Cluster, run: Run, scratch: Path
) -> None:
    """Train and score, each as a trial of Tune."""
    trainable = tune.with_parameters(_trainable, run=run, shared=shared)
    if not cluster.address:  # variables of their own would want other workers than those that are there, and prepared
        class_cache.DEFAULT_ENV_VARS.clear()
        class_cache.ENV_VARS_TO_PROPAGATE.clear()
    try:
        while queue.waiting:
            tune.Tuner(
                tune.with_resources(trainable, _resources(cluster)),
                tune_config=tune.TuneConfig(
                    search_alg=TuneSearch(queue, max(TRIALS_A_TUNER, 20 * places(cluster))),
                    num_samples=-1,  # until the search says that it is finished
                    reuse_actors=True,
                    max_concurrent_trials=workers or None,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    storage_path=str(scratch),
                    name=f"trials-{uuid.uuid4().hex[:8]}",
                    verbose=0,
                    callbacks=[_TuneEvents(queue)],  # the queue restarts lost trials: Tune's own way misses some
                ),
            ).fit()
            if queue.running:  # Tune ends early at SIGUSR1, by which batch systems tell that time is up
                raise KeyboardInterrupt
    except tune.TuneError:
        if not queue.store_error:
            raise
        raise UserError(queue.store_error) from None  # with which the queue stopped the run


# ---- Ray itself ----


@contextlib.contextmanager
def _ray(cluster: Cluster, workers: int | None, progress: Progress) -> Iterator[Path]:
    """Ray, and a scratch folder: those that `ahead` began, else of this block alone."""
    with ahead.one_ray() as session:
        try:
            yield session.begin(cluster, workers).ready()
        except KeyboardInterrupt:
            progress.stop()
            raise


def _rank(cluster: Cluster) -> dict[str, float]:
    """What one rank of a trial asks for."""
    gpus = cluster.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
    return {"CPU": 1.0, **({"GPU": gpus} if gpus else {})}


def _resources(cluster: Cluster) -> Callable[[dict[str, Any]], tune.PlacementGroupFactory]:
    """What a trial asks for, from its config; trials that ask for the same take over each other's processes."""
    rank = _rank(cluster)
    return lambda config: tune.PlacementGroupFactory([rank] * config["spec"].world_size)


def places(cluster: Cluster) -> int:
    """How many ranks the nodes that are there now have room for."""
    there = ray.cluster_resources()
    return min(int(there.get(what, 0) / share) for what, share in _rank(cluster).items())


def require_room(ranks: int, cluster: Cluster, progress: Progress) -> None:
    """Refuse a trial of so many ranks if there is no room for it. A cluster may grow, so there it is only said."""
    if (room := places(cluster)) < ranks:
        asked = " and ".join(f"{share:g} {what}" for what, share in _rank(cluster).items())
        line = f"a trial of {ranks} rank{'s' * (ranks > 1)} asks for {asked} a rank, and there is room for {room}"
        if not cluster.address:
            raise UserError(f"{line}; allowed: fewer ranks, or a smaller --gpus-per-trial")
        progress.say(f"waiting for nodes: {line}")


# ---- in a worker ----


def _trainable(config: dict[str, Any], run: Run, shared: Shared) -> None:
    spec: TrialSpec = config["spec"]
    try:
        if spec.world_size > 1:
            result = run_ranks(spec, shared)
        else:
            result = run(spec, shared.context(spec), shared.checkpoint_folder())
    except LOST:
        raise  # a rank died: the trial is started again, as if its own process had died
    except Exception as error:  # noqa: BLE001  whatever ends a trial is its result, and is tried again next time
        result = _failed(spec, error, shared)
    tune.report({"trial": spec.trial_id, "result": result})


@ray.remote
class _Scorer:
    def score(self, spec: TrialSpec, weights: bytes, shared: Shared) -> TrialResult:
        try:
            return score_stored(spec, weights, shared.context(spec))
        except Exception as error:  # noqa: BLE001  likewise
            return _failed(spec, error, shared)


def _failed(spec: TrialSpec, error: Exception, shared: Shared) -> TrialResult:
    provenance = {**shared.contexts[spec.data_fingerprint].provenance, "traceback": traceback.format_exc()}
    return TrialResult(spec=spec, status="failed", error=first_line(error), provenance=provenance)


# ---- between Tune and the queue ----


class TuneSearch(Searcher):
    """Gives Tune one trial of the queue after another, each when there is room for it; `most` in all."""

    def __init__(self, queue: TrialQueue, most: int) -> None:
        super().__init__()
        self.queue, self.left = queue, most

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config; None if there is none now, FINISHED if there will be none."""
        if not self.left:
            return Searcher.FINISHED
        spec = self.queue.next()
        if spec is not None:
            self.left -= 1
            return {"spec": spec}
        # A running trial may come back, if its worker dies, and Tune does not ask again after FINISHED.
        return None if self.queue.waiting or self.queue.running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing: the queue knows."""

    def save_to_dir(self, *_: Any, **__: Any) -> None:
        """Nothing: Tune's own state is never read again."""

    save = restore = save_to_dir


class _TuneEvents(tune.Callback):
    """Tells the queue what Tune sees."""

    def __init__(self, queue: TrialQueue) -> None:
        self.queue = queue

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.queue.started(trial.config["spec"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.queue.accept(result.pop("result"))  # Tune keeps what is left until its end

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # An exception inside a trial is a result, so its worker must have died. What Ray says of it is kept as text.
        file = trial.error_file
        text = Path(file).read_text(errors="replace") if file is not None else ""
        self.queue.lost(trial.config["spec"], out_of_memory=LOW_ON_MEMORY in text)
