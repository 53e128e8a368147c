"""Ray Tune runs the trials. The only importer of ray; everything that makes a trial exact is elsewhere.

The store is the only truth: a run is given the specs that the store lacks and starts a fresh Tuner over
them. Tune's own checkpoints and restore are not used. Finished trials travel to this process through Ray's object
store, and this process alone writes them down: workers need not see the disk that the store is on.
"""

import logging
import os
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.errors import UserError
from harness.scheduling.progress import Progress
from harness.scheduling.trial import TrialContext, run_trial
from harness.spec import TrialSpec
from harness.store import Store, TrialResult

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",  # nothing is reported to anybody
    RAY_AIR_NEW_OUTPUT="0",  # with verbose=0: no tables of Ray's own
    RAY_CHDIR_TO_TRIAL_DIR="0",
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_STRICT_METRIC_CHECKING="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",  # Ctrl-C reaches us as KeyboardInterrupt
    TUNE_GLOBAL_CHECKPOINT_S="86400",  # Tune's own state is never read again
    TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
    TUNE_MAX_PENDING_TRIALS_PG="16",  # trials that wait for a place at once; the limit on running ones is ours
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
)

import ray
from ray import tune
from ray.tune.search import Searcher

WORKER_DEATHS = 2
"""How often a trial is started again after its worker died."""


Run = Callable[[TrialSpec, TrialContext], TrialResult]


def run_trials(
    specs: Iterable[TrialSpec],
    contexts: Mapping[str, TrialContext],
    store: Store,
    progress: Progress,
    workers: int,
    *,
    run: Run = run_trial,
) -> None:
    """Run every spec as a Tune trial, in order, `workers` at a time, and put each result into the store.

    A trial that another live process runs in the same store is left to it: this call waits, and takes over what that
    process leaves undone.

    Args:
        specs: What to run.
        contexts: What trials share, by the fingerprint of their data.
        store: Where results go.
        progress: Told of every trial that starts or ends.
        workers: Trials at once.
        run: What a worker does with a spec; benchmarks and tests put something quick here.

    Raises:
        UserError: the store could not be written. Finished trials stay.
        KeyboardInterrupt: likewise; the workers are gone when it arrives.
    """
    gpus = _gpus_per_trial()
    trainable = tune.with_resources(
        tune.with_parameters(_trainable, contexts=contexts, run=run), {"cpu": 1, **({"gpu": gpus} if gpus else {})}
    )
    protocols = {fingerprint: context.protocol.protocol_id for fingerprint, context in contexts.items()}
    desk = _Desk(specs, protocols, store, progress)
    with tempfile.TemporaryDirectory(prefix="gan-ablation-") as scratch:
        try:
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=256 * 2**20,
            )
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=_Queue(desk),
                    num_samples=-1,  # until the queue says that it is finished
                    reuse_actors=True,
                    max_concurrent_trials=workers,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    storage_path=scratch,
                    name="trials",
                    verbose=0,
                    callbacks=[_Watcher(desk)],
                    failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS),
                ),
            ).fit()
        except tune.TuneError:
            if not desk.store_error:
                raise
            raise UserError(desk.store_error) from None  # what the desk stopped the run with
        finally:
            ray.shutdown()
            desk.close()


def _trainable(config: dict[str, Any], contexts: Mapping[str, TrialContext], run: Run) -> None:
    spec: TrialSpec = config["spec"]
    context = contexts[spec.data_fingerprint]
    try:
        result = run(spec, context)
    except Exception as error:  # noqa: BLE001  whatever a trial dies of is its result, and is tried again next time
        result = TrialResult(
            spec=spec,
            status="failed",
            error=f"{type(error).__name__}: {error}".splitlines()[0],
            provenance={**context.provenance, "traceback": traceback.format_exc()},
        )
    tune.report({"trial": spec.trial_id, "result": result})


class _Desk:
    """Where trials go out and results come in: the driver's side, and the only writer of the store."""

    def __init__(
        self, specs: Iterable[TrialSpec], protocols: Mapping[str, str], store: Store, progress: Progress
    ) -> None:
        self.waiting = deque(specs)
        self.out: set[str] = set()  # trial_ids that this process has claimed
        self.protocols, self.store, self.progress = protocols, store, progress  # protocol_id by the data's fingerprint
        self.store_error = ""

    def next(self) -> TrialSpec | None:
        """Claim the next trial; None where all that is left is being run by other processes."""
        for _ in range(len(self.waiting)):
            spec = self.waiting.popleft()
            if not self.store.claims.take(spec.trial_id):
                self.waiting.append(spec)
            elif self.store.is_done(spec.trial_id, self.protocols[spec.data_fingerprint]):  # another process was faster
                self.store.claims.give_back(spec.trial_id)
                self._found(spec)
            else:
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
        self.store.claims.give_back(trial_id)
        self.out.discard(trial_id)
        self.progress.finished(
            trial_id, result.status, result.scores.get("fid"), result.cost.get("seconds", 0.0), result.error
        )

    def _found(self, spec: TrialSpec) -> None:
        """Count a trial that another process finished."""
        trial_id, protocol_id = spec.trial_id, self.protocols[spec.data_fingerprint]
        result, scores = self.store.read_result(trial_id), self.store.read_scores(trial_id)
        fid = scores[protocol_id][1].get("fid") if protocol_id in scores else None
        self.progress.finished(trial_id, result["status"], fid, result["cost"].get("seconds", 0.0), result["error"])

    def close(self) -> None:
        """Give back what did not finish."""
        self.store.claims.give_back(*self.out)


class _Queue(Searcher):
    """Hands Tune one trial after the other, when there is room for it rather than all at once."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__()
        self.desk = desk

    def suggest(self, trial_id: str) -> Any:
        spec = self.desk.next()
        if spec is not None:
            return {"spec": spec}
        return None if self.desk.waiting else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        pass

    def save_to_dir(self, *_: Any, **__: Any) -> None:
        pass  # Tune's own state is never read again

    save = restore = save_to_dir


class _Watcher(tune.Callback):
    """Passes what Tune sees to the desk."""

    def __init__(self, desk: _Desk) -> None:
        self.desk = desk

    def __getstate__(self) -> dict[str, Any]:
        return {"desk": None}  # Tune pickles its callbacks; a terminal cannot be

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.desk.started(trial.config["spec"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.desk.accept(result.pop("result"))  # Tune keeps what is left, for ever

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        spec = trial.config["spec"]
        self.desk.accept(TrialResult(spec=spec, status="failed", error=f"its worker died {WORKER_DEATHS + 1} times"))


def _gpus_per_trial() -> float:
    import torch

    return 1.0 if torch.cuda.is_available() else 0.0
