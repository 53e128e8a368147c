"""From a store to trackers: TensorBoard, MLflow, Weights & Biases, trackio; one run a trial, from its curves.

The store stays the only truth: a tracker gets a copy, made anew or left as it is when the same is exported again. A
run's step is the number of real images that D has seen, which compares arms whose batches differ. Its last step has the
scores ("score/fid") and a picture of samples; its configuration is the trial's spec.
"""

import contextlib
import importlib
import importlib.util
import io
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from harness.analysis import results
from harness.analysis.tidy import CURVES, WHOSE
from harness.errors import UserError, unknown_name
from harness.files import checksum, staged_folder
from harness.storage.store import Store

SCALARS = tuple(name for name in CURVES if name not in (*WHOSE, "step"))
"""Columns of the curves that trackers get, under "train/"."""

SILENT = {"WANDB_ERROR_REPORTING": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
"""By which trackers are asked to tell nobody anything, unless the user has said otherwise."""

STAMP = ".exported"
"""Beside a run's event files: what they were made from."""


class Run(NamedTuple):
    """One trial, as trackers take it."""

    project: str  # study-profile
    arm: str
    seed: int
    trial_id: str
    status: str
    began: float  # Unix time, in seconds
    config: dict[str, Any]  # the spec's fields, the arm, the protocol
    points: list[tuple[int, float, dict[str, float]]]  # (images seen, seconds of training, scalars); finite alone
    scores: dict[str, float]  # "score/fid" and the like; finite alone
    samples: np.ndarray | None  # (height, width) or (height, width, 3) uint8

    @property
    def name(self) -> str:
        """Of its project's runs, this one."""
        return _name(self.arm, self.seed)

    @property
    def key(self) -> str:
        """Another for every trial and place of a trial: 24 hex digits."""
        return _key(self.project, self.arm, self.seed, self.trial_id)

    @property
    def stamp(self) -> str:
        """Another whenever anything of it is."""
        picture = b"" if self.samples is None else self.samples.tobytes()
        return checksum(repr(self[:-1]).encode() + picture)

    @property
    def last(self) -> int:
        """Its last step."""
        return self.points[-1][0] if self.points else 0


def _name(arm: str, seed: int) -> str:
    return f"{arm.replace('/', '-')}, seed {seed}"


def _key(project: str, arm: str, seed: int, trial_id: str) -> str:
    return trial_id + checksum(f"{project}/{_name(arm, seed)}".encode())[:8]


def export(
    store: Store,
    to: str,
    folder: Path,
    study: str | None = None,
    profile: str | None = None,
    *,
    known: set[str] | None = None,
) -> tuple[int, int]:
    """Give every trial that a study of the store names to a tracker.

    Args:
        store: From where.
        to: One of TRACKERS.
        folder: Where the tracker's files go.
        study: Only this study.
        profile: Only this profile.
        known: Trials that are left out, as an earlier call gave them; those of this call are added.

    Returns:
        How many runs were written, and how many were there already.

    Raises:
        UserError: an unknown tracker, one whose package is not installed, or a study that never ran here.
    """
    if to not in TRACKERS:
        raise unknown_name("tracker", to, TRACKERS)
    package, write = TRACKERS[to]
    if importlib.util.find_spec(package) is None:
        raise UserError(f"--to {to} needs the package {package}; `pip install 'gan-ablation[{to}]'`")
    known = set() if known is None else known
    runs = list(runs_of(store, study, profile, known))
    known |= {run.key for run in runs}
    folder.mkdir(parents=True, exist_ok=True)
    with _quietly():
        written = sum(write(folder.resolve(), runs))
    return written, len(runs) - written


def runs_of(
    store: Store, study: str | None, profile: str | None, known: Collection[str] = frozenset()
) -> Iterator[Run]:
    """Every trial that ended in a study of the store, once for each place; of one study and profile where given.

    Those whose keys are known are left out, and failed ones, which have nothing to show and will be run again.
    """
    plans = [p for p in store.read_plans() if study in (None, p["study"]) and profile in (None, p["profile"])]
    if not plans:
        there = ", ".join(sorted(f"{p['study']} ({p['profile']})" for p in store.read_plans())) or "nothing"
        raise UserError(
            f"{study or 'no study'}{f' ({profile})' if profile else ''} never ran in {store.root}; there: {there}"
        )
    for plan in plans:
        project = store.layout.plan(plan["study"], plan["profile"]).stem
        for row in results.of_plan(store, plan, untrained=True).to_dict("records"):
            key = _key(project, row["arm"], row["seed"], row["trial_id"])
            if row["status"] != "failed" and key not in known:
                yield _run(store, project, row)


def _run(store: Store, project: str, row: dict[str, Any]) -> Run:
    curves = results.curves_of(store, row)
    points = [
        (round(point["kimg"] * 1000), float(point["seconds"]), _finite("train", point, SCALARS))
        for point in curves.to_dict("records")
    ]
    spec = store.read_spec(row["trial_id"]).to_dict()
    picture = store.read_samples(row["trial_id"])
    began = row["date"] and time.mktime(time.strptime(row["date"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    return Run(
        project=project,
        arm=row["arm"],
        seed=int(row["seed"]),
        trial_id=row["trial_id"],
        status=row["status"],
        began=float(began or 0.0),
        config={**spec, "arm": row["arm"], "trial_id": row["trial_id"], "protocol_id": row["protocol_id"]},
        points=points,
        scores=_finite("score", row, results.SCORES),
        samples=np.asarray(Image.open(io.BytesIO(picture))) if picture else None,
    )


def _finite(prefix: str, values: dict[str, Any], names: tuple[str, ...]) -> dict[str, float]:
    found = {f"{prefix}/{name}": float(values[name]) for name in names if values.get(name) is not None}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _tensorboard(folder: Path, runs: list[Run]) -> Iterator[bool]:
    """A folder of event files a run, each whole or absent; replaced where the trial has other scores by now."""
    tensorboard, summary = importlib.import_module("tensorboardX"), importlib.import_module("tensorboardX.summary")
    for run in runs:
        place = folder / run.project / run.arm.replace("/", "-") / f"seed-{run.seed}"
        stamp = place / STAMP
        if stamp.is_file() and stamp.read_text() == run.stamp:
            yield False
            continue
        with staged_folder(place, replace=True) as staging:
            writer = tensorboard.SummaryWriter(str(staging))
            for images, seconds, scalars in run.points:
                for name, value in scalars.items():
                    writer.add_scalar(name, value, images, walltime=run.began + seconds)
            for name, value in run.scores.items():
                writer.add_scalar(name, value, run.last, walltime=run.began)
            if run.samples is not None:
                layout = "HW" if run.samples.ndim == 2 else "HWC"
                writer.add_image("samples", run.samples, run.last, walltime=run.began, dataformats=layout)
            for part in summary.hparams(run.config, run.scores):
                writer.file_writer.add_summary(part)
            writer.close()
            (staging / STAMP).write_text(run.stamp)
        yield True


def _mlflow(folder: Path, runs: list[Run]) -> Iterator[bool]:
    """MLflow's own folder of files: an experiment a study, a run a trial, known again by its tag."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the plain folder, which needs no database
    mlflow, entities = importlib.import_module("mlflow"), importlib.import_module("mlflow.entities")
    client = mlflow.MlflowClient(tracking_uri=folder.as_uri())
    experiments: dict[str, str] = {}
    there: dict[str, str] = {}  # key -> id of a run that is whole
    for name in dict.fromkeys(run.project for run in runs):
        known = client.get_experiment_by_name(name)
        experiments[name] = known.experiment_id if known else client.create_experiment(name)
        for found in mlflow_runs(client, experiments[name]):
            if found.info.status == "RUNNING":  # an export was interrupted
                client.delete_run(found.info.run_id)
            elif "key" in found.data.tags:
                there[found.data.tags["key"]] = found.info.run_id
    for run in runs:
        if run.key in there:
            yield False
            continue
        experiment = experiments[run.project]
        began = round(run.began * 1000)
        tags = {"key": run.key, "trial_id": run.trial_id, "status": run.status}
        made = client.create_run(experiment, start_time=began, tags=tags, run_name=run.name).info.run_id
        metrics = [
            entities.Metric(name, value, began + round(seconds * 1000), images)
            for images, seconds, scalars in run.points
            for name, value in scalars.items()
        ]
        metrics += [entities.Metric(name, value, began, run.last) for name, value in run.scores.items()]
        params = [entities.Param(name, str(value)) for name, value in run.config.items()]
        for start in range(0, len(metrics), 1000):  # as many as one call takes
            client.log_batch(made, metrics=metrics[start : start + 1000])
        client.log_batch(made, params=params)
        if run.samples is not None:
            client.log_image(made, run.samples, artifact_file="samples.png")
        client.set_terminated(made, "FINISHED", began + round((run.points[-1][1] if run.points else 0) * 1000))
        yield True


def mlflow_runs(client: Any, experiment: str) -> Iterator[Any]:
    """All runs of an experiment, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _wandb(folder: Path, runs: list[Run]) -> Iterator[bool]:
    """Runs of Weights & Biases, offline: `wandb sync` takes them to a server whenever somebody wants that."""
    wandb = importlib.import_module("wandb")
    for run in runs:
        if any((folder / "wandb").glob(f"offline-run-*-{run.key}/exported")):
            yield False
            continue
        settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True)
        with wandb.init(
            project=run.project,
            name=run.name,
            group=run.arm,
            id=run.key,
            dir=str(folder),
            mode="offline",
            config=run.config,
            settings=settings,
        ) as made:
            _log(run, made.log, wandb.Image)
            place = Path(made.dir).parent
        (place / "exported").touch()  # whole
        yield True


def _trackio(folder: Path, runs: list[Run]) -> Iterator[bool]:
    """Runs in trackio's own folder; TRACKIO_DIR names it to `trackio show`."""
    os.environ["TRACKIO_DIR"] = str(folder)
    trackio = importlib.import_module("trackio")
    for run in runs:
        done = folder / f".{run.key}.exported"
        if done.exists():
            yield False
            continue
        trackio.init(project=run.project, name=run.name, group=run.arm, config=run.config, embed=False)
        _log(run, trackio.log, trackio.Image)
        trackio.finish()
        done.touch()
        yield True


def _log(run: Run, log: Callable[..., None], picture: Callable[..., Any]) -> None:
    """For trackers that take a dictionary a step."""
    for images, _, scalars in run.points[:-1]:
        log(scalars, step=images)
    last = {**(run.points[-1][2] if run.points else {}), **run.scores}
    if run.samples is not None:
        last["samples"] = picture(Image.fromarray(run.samples).convert("RGB"))
    log(last, step=run.last)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Trackers greet and advise, and tell their makers that they are used."""
    for name, value in {
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


TRACKERS: dict[str, tuple[str, Callable[[Path, list[Run]], Iterator[bool]]]] = {
    "tensorboard": ("tensorboardX", _tensorboard),
    "mlflow": ("mlflow", _mlflow),
    "wandb": ("wandb", _wandb),
    "trackio": ("trackio", _trackio),
}
"""Name -> the package that it needs, and what writes runs: for each whether it was written, or was there already."""
