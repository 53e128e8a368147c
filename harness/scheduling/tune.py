"""Ray Tune runs the trials. The only importer of ray; everything that makes a trial exact is elsewhere.

The store is the only truth: a run is given the specs that the store lacks and starts a fresh Tuner over
them. Tune's own checkpoints and restore are not used.
"""

import logging
import os
import tempfile
import traceback
from collections.abc import Iterable
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
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
)

import ray
from ray import tune

WORKER_DEATHS = 2
"""How often a trial is started again after its worker died."""


def run_trials(
    specs: Iterable[TrialSpec], context: TrialContext, store: Store, progress: Progress, workers: int
) -> None:
    """Run every spec as a Tune trial, in order, `workers` at a time, and put each result into the store.

    Raises:
        UserError: the store could not be written. Finished trials stay.
        KeyboardInterrupt: likewise; the workers are gone when it arrives.
    """
    gpus = _gpus_per_trial()
    trainable = tune.with_resources(
        tune.with_parameters(_trainable, context=context, store=store),
        {"cpu": 1, **({"gpu": gpus} if gpus else {})},
    )
    watcher = _Watcher(progress)
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
                param_space={"spec": tune.grid_search([spec.to_dict() for spec in specs])},
                tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
                run_config=tune.RunConfig(
                    storage_path=scratch,
                    name="trials",
                    verbose=0,
                    callbacks=[watcher],
                    failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS),
                ),
            ).fit()
        except tune.TuneError:
            if not watcher.store_error:
                raise
            raise UserError(watcher.store_error) from None  # what the watcher stopped the run with
        finally:
            ray.shutdown()


def _trainable(config: dict[str, Any], context: TrialContext, store: Store) -> None:
    spec = TrialSpec.from_dict(config["spec"])
    try:
        result = run_trial(spec, context)
    except Exception as error:  # noqa: BLE001  whatever a trial dies of is its result, and is tried again next time
        result = TrialResult(
            spec=spec,
            status="failed",
            error=f"{type(error).__name__}: {error}".splitlines()[0],
            provenance={**context.provenance, "traceback": traceback.format_exc()},
        )
    report = {
        "trial": spec.trial_id,
        "status": result.status,
        "error": result.error,
        "fid": result.scores.get("fid"),
        "seconds": result.cost.get("seconds", 0.0),
        "store_error": "",
    }
    try:
        store.write(result)
    except UserError as error:
        report["store_error"] = str(error)
    tune.report(report)


class _Watcher(tune.Callback):
    """Passes what Tune sees to the progress display, and stops the run where the store cannot be written."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.store_error = ""

    def __getstate__(self) -> dict[str, Any]:
        return {"progress": None, "store_error": ""}  # Tune pickles its callbacks; a terminal cannot be

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.started(TrialSpec.from_dict(trial.config["spec"]).trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result["store_error"]:
            self.store_error = result["store_error"]
            raise UserError(self.store_error)
        self.progress.finished(result["trial"], result["status"], result["fid"], result["seconds"], result["error"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial_id = TrialSpec.from_dict(trial.config["spec"]).trial_id
        self.progress.finished(trial_id, "failed", None, 0.0, f"its worker died {WORKER_DEATHS + 1} times")


def _gpus_per_trial() -> float:
    import torch

    return 1.0 if torch.cuda.is_available() else 0.0
