"""Each tracker's own package reads back what was written: every point, score and picture, and nothing twice."""

import importlib.util
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness
from harness.cli import app
from harness.commands import using
from harness.errors import UserError
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.using import trackers
from harness.using.trackers import TRACKERS, export

pytestmark = pytest.mark.filterwarnings("ignore")  # of the trackers' own
SCALARS = ("kimg", "seconds", "d_loss", "g_loss", "d_real", "d_fake", "d_accuracy")


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def expected(store: Store, trial_id: str) -> Iterator[tuple[str, int, float]]:
    """(name, step, value) of all scalars of a trial."""
    trial = harness.open_trial(store, trial_id)
    curves = trial.curves
    for name in (*SCALARS, "fid_online"):
        for kimg, value in zip(curves.kimg, curves[name], strict=True):
            if np.isfinite(value):
                yield f"train/{name}", round(kimg * 1000), value
    for name in ("fid", "kid", "precision"):
        yield f"score/{name}", round(curves.kimg.max() * 1000), trial.scores[name]


def check(store: Store, trial_id: str, found: dict[str, dict[int, float]], picture: np.ndarray) -> None:
    wanted = list(expected(store, trial_id))
    assert len(wanted) > 70
    for name, step, value in wanted:
        assert found[name][step] == pytest.approx(value, rel=1e-5), (name, step)
    assert picture.shape[:2] == (238, 238)
    assert picture[:28, :28].astype(int).reshape(28, 28, -1)[..., 0].tolist() == samples(store, trial_id)


def samples(store: Store, trial_id: str) -> list:
    return harness.open_trial(store, trial_id).samples[0].tolist()


def test_nothing_is_lost_on_the_way(trained: Store, trial_ids) -> None:
    runs = {run.trial_id: run for run in trackers.runs_of(trained, None, None)}
    assert len(runs) == 5 and len({run.key for run in runs.values()}) == 5
    diverged = runs[trial_ids["fc", 2]]
    assert diverged.status == "diverged" and diverged.scores == {} and diverged.points == [] and diverged.last == 0
    run = runs[trial_ids["dc", 1]]
    assert (run.project, run.name) == ("tiny-smoke", "dc, seed 1") and run.config["latent_std"] == 0.5


def test_what_cannot_be_exported_is_refused(trained: Store, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UserError, match="unknown tracker 'neptune'; valid: tensorboard, mlflow, wandb, trackio"):
        export(trained, "neptune", tmp_path / "t")
    with pytest.raises(UserError, match=r"other never ran in .*; there: tiny \(smoke\)"):
        export(trained, "tensorboard", tmp_path / "t", "other")
    monkeypatch.setitem(TRACKERS, "wandb", ("no_such_package", TRACKERS["wandb"][1]))
    with pytest.raises(UserError, match=r"needs the package no_such_package; `pip install 'gan-ablation\[wandb\]'`"):
        export(trained, "wandb", tmp_path / "t")
    assert not (tmp_path / "t").exists()
    words = ["export", "--store", str(trained.root), "--study", "tiny"]
    with pytest.raises(UserError, match="--study, --profile and --watch are for --to a tracker"):
        app(words, standalone_mode=False)
    with pytest.raises(UserError, match="unknown form 'tensorbord' .*; valid: table, tensorboard"):
        app([*words, "--to", "tensorbord"], standalone_mode=False)
    app(["export", str(trained.root), "--out", str(tmp_path / "named")], standalone_mode=False)
    assert len(pd.read_csv(tmp_path / "named" / "results.csv")) > 2, "the store may be named as other commands have it"


def test_a_run_is_followed_trial_by_trial(trained: Store, trial_ids, tmp_path: Path, monkeypatch, capsys) -> None:
    """`--watch` gives each trial once, as it ends, and stops when nothing is left; a failed one is none."""
    store = Store(tmp_path / "runs", create=True)
    store.write_plan("tiny", "smoke", trained.read_plan("tiny", "smoke") or {})
    names = [trained.layout.trial(trial_id) for trial_id in trial_ids.values()]
    spec = trained.read_spec(trial_ids["fc", 2])
    store.write(TrialResult(spec=spec, status="failed", error="its worker died"))

    def next_trial(seconds: float) -> None:
        source = names.pop()
        shutil.rmtree(store.layout.trial(source.name), ignore_errors=True)
        shutil.copytree(source, store.layout.trial(source.name))

    monkeypatch.setattr(using.time, "sleep", next_trial)
    words = ["export", "--store", str(store.root), "--to", "tensorboard", "--watch", "--out", str(tmp_path / "t")]
    app(words, standalone_mode=False)
    told = capsys.readouterr().out
    assert told.startswith("wrote 0 runs to") and told.count("wrote 1 run more") == 5 and not names
    assert len(list((tmp_path / "t").rglob("events.*"))) == 5


@needs("tensorboard")
def test_tensorboard_reads_it_back(trained: Store, trial_ids, tmp_path: Path) -> None:
    import io

    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert export(trained, "tensorboard", tmp_path) == (5, 0)
    assert export(trained, "tensorboard", tmp_path) == (0, 5)
    files = sorted(path.parent.relative_to(tmp_path) for path in tmp_path.rglob("events.*"))
    assert [str(f) for f in files] == [f"tiny-smoke/{a}/seed-{s}" for a, s in sorted(trial_ids)], "each once"
    for arm, seed in (("dc", 0), ("fc", 1)):
        events = EventAccumulator(str(tmp_path / "tiny-smoke" / arm / f"seed-{seed}"), {"images": 0, "scalars": 0})
        events.Reload()
        tags = events.Tags()
        found = {name: {e.step: e.value for e in events.Scalars(name)} for name in tags["scalars"]}
        (image,) = events.Images("samples")
        picture = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
        check(trained, trial_ids[arm, seed], found, picture)
        assert "_hparams_/session_start_info" in tags["scalars"] or "_hparams_/session_start_info" in str(
            events.summary_metadata
        )


@needs("mlflow")
def test_mlflow_reads_it_back(trained: Store, trial_ids, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from PIL import Image

    assert export(trained, "mlflow", tmp_path / "m") == (5, 0)
    assert export(trained, "mlflow", tmp_path / "m", "tiny", "smoke") == (0, 5)
    client = MlflowClient(tracking_uri=(tmp_path / "m").as_uri())
    experiment = client.get_experiment_by_name("tiny-smoke")
    runs = {run.data.tags["trial_id"]: run for run in client.search_runs([experiment.experiment_id])}
    assert len(runs) == 5 and runs[trial_ids["fc", 2]].data.tags["status"] == "diverged"
    run = runs[trial_ids["dc", 0]]
    assert run.data.params["latent_std"] == "0.5" and run.info.run_name == "dc, seed 0"
    found = {
        name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)} for name in run.data.metrics
    }
    picture = np.asarray(Image.open(client.download_artifacts(run.info.run_id, "samples.png", str(tmp_path))))
    check(trained, trial_ids["dc", 0], found, picture)


def logged(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: a log of LevelDB, in blocks of 32 KiB, behind a head of seven bytes."""
    at, parts = 7, []
    while at + 7 <= len(content):
        if (room := -at % 32768) and room < 7:
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        parts.append(content[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


@needs("wandb")
def test_wandb_reads_it_back(trained: Store, trial_ids, tmp_path: Path, monkeypatch) -> None:
    from PIL import Image
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    assert export(trained, "wandb", tmp_path) == (5, 0)
    assert export(trained, "wandb", tmp_path) == (0, 5)
    key = next(r.key for r in trackers.runs_of(trained, None, None) if r.trial_id == trial_ids["dc", 0])
    (folder,) = (tmp_path / "wandb").glob(f"offline-run-*-{key}")
    (file,) = folder.glob("*.wandb")
    found, config = dict[str, dict[int, float]](), dict[str, Any]()
    for data in logged(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
        for name, value in values.items():
            found.setdefault(name, {})[values["_step"]] = value
    assert config["latent_std"] == 0.5 and config["arm"] == "dc"
    (picture,) = (folder / "files" / "media" / "images").glob("*.png")
    check(trained, trial_ids["dc", 0], found, np.asarray(Image.open(picture)))


@needs("trackio")
def test_trackio_reads_it_back(trained: Store, trial_ids, tmp_path: Path) -> None:
    assert export(trained, "trackio", tmp_path) == (5, 0)
    assert export(trained, "trackio", tmp_path) == (0, 5)
    from PIL import Image
    from trackio.sqlite_storage import SQLiteStorage

    assert set(SQLiteStorage.get_runs("tiny-smoke")) == {f"{arm}, seed {seed}" for arm, seed in trial_ids}
    found = dict[str, dict[int, float]]()
    for row in SQLiteStorage.get_logs("tiny-smoke", "dc, seed 0"):
        for name, value in row.items():
            found.setdefault(name, {})[row["step"]] = value
    picture = next(path for path in tmp_path.rglob("*.png") if "dc, seed 0" in str(path))
    check(trained, trial_ids["dc", 0], found, np.asarray(Image.open(picture)))
