"""One trial end to end, in this process, on the real digits."""

import contextlib
import io
import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from harness.errors import UserError
from harness.execution.cluster import snapshot_folder
from harness.execution.plan import make_plan
from harness.execution.trial import TrialContext, run_trial, sample_latents, score_stored, train_rank
from harness.execution.watching import ONLINE_FID_AT, online_fid, shared_images
from harness.scoring.fidelity import make_protocol
from harness.spec import TrialSpec
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.study import Factor, Study, Trend
from harness.training import loop
from harness.training.distributed import join
from harness.training.loop import build_networks, report_points
from studies.baselines import DC, FC
from studies.catalog import STUDIES
from studies.noise import NOISE
from studies.profiles import SMOKE
from tests.unit.test_spec import VALUES


@pytest.fixture(scope="module")
def context(digits, extractor, cache) -> TrialContext:
    protocol = make_protocol(extractor, digits, num_generated=500)
    return TrialContext(data=digits, extractor=extractor, protocol=protocol, cache=cache, provenance={"commit": "abc"})


def spec(base=FC, **changes) -> TrialSpec:
    return TrialSpec(**{**VALUES, **base, "kimg": 0.3, "generator_width": 8, "discriminator_width": 8, **changes})


def test_a_trial_leaves_all_it_should(context: TrialContext) -> None:
    s = spec(DC)
    result = run_trial(s, context)
    assert result.status == "ok" and result.protocol == context.protocol
    assert {"fid", "is_mean", "kid", "precision", "recall"} <= result.scores.keys()
    assert result.cost["d_steps"] == s.num_steps == 10
    assert result.cost["generator_parameters"] == sum(p.numel() for p in build_networks(s).generator.parameters())
    assert 0 < result.cost["train_seconds"] < result.cost["seconds"]
    assert result.cost["cpu_seconds"] > 0
    assert result.provenance["commit"] == "abc" and result.provenance["cpu"] and result.provenance["threads"] == 1
    assert list(result.curves.columns) == [
        "step",
        "kimg",
        "seconds",
        "d_loss",
        "g_loss",
        "d_real",
        "d_fake",
        "d_accuracy",
        "fid_online",
    ]
    assert result.curves.fid_online.notna().sum() == 9, "of ten steps one passes none of the online FID's points"
    assert result.curves.fid_online.iloc[-1] > 0

    weights = safetensors.torch.load(result.weights)
    assert {name.split(".")[0] for name in weights} == {"generator", "ema", "discriminator"}
    generator = build_networks(s).generator.eval()
    generator.load_state_dict({k.removeprefix("ema."): v for k, v in weights.items() if k.startswith("ema.")})
    picture = np.asarray(Image.open(io.BytesIO(result.samples_png)))
    assert picture.shape == (8 * 30 - 2, 8 * 30 - 2)
    with torch.no_grad():
        first = generator(sample_latents(64))[0, 0]
    expected = first.clamp(-1, 1).add(1).mul(127.5).round().numpy()
    assert np.abs(picture[:28, :28] - expected).max() <= 1, "the picture is of the scored weights"


def test_a_diverged_trial_is_an_outcome(context: TrialContext) -> None:
    result = run_trial(spec(generator_lr=1e30, discriminator_lr=1e30), context)
    assert result.status == "diverged" and "not finite" in result.error and not result.scores


def test_earlier_trials_in_the_process_do_not_matter(context: TrialContext) -> None:
    first = run_trial(spec(), context)
    run_trial(spec(DC, seed=3), context)
    torch.set_num_threads(2)
    again = run_trial(spec(), context)
    assert first.weights == again.weights and first.scores == again.scores and first.samples_png == again.samples_png


def same(a: TrialResult, b: TrialResult) -> bool:
    curves = [result.curves.drop(columns="seconds") for result in (a, b)]
    return (
        a.weights == b.weights
        and curves[0].equals(curves[1])
        and a.scores == b.scores
        and a.samples_png == b.samples_png
        and a.status == b.status
    )


def run_keeping_snapshots(s: TrialSpec, context: TrialContext, snapshots: Path) -> None:
    loop.CHECKPOINT_SECONDS = 0.0  # one at each report point
    run_trial(s, context, snapshots)


@pytest.fixture(params=["on this machine", "by FTP"])
def places(request, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A folder for snapshots, and the same as a trial is given it: by its path, or by the URL of a server of it."""
    folder = tmp_path / "snapshots"
    if request.param == "on this machine":
        yield folder, folder
        return
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"-i": "127.0.0.1", "-p": port, "-d": folder, "-u": "lab", "-P": "secret"}
    words = [str(word) for pair in options.items() for word in pair]
    server = subprocess.Popen([sys.executable, "-m", "pyftpdlib", "-w", *words], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield folder, snapshot_folder(f"ftp://lab:secret@127.0.0.1:{port}/")
    finally:
        server.kill()
        server.wait()


def test_a_killed_trial_resumes_with_the_same_result(context: TrialContext, places: tuple[Path, Path]) -> None:
    """SIGKILL twice at some snapshot; curves, the online FID in them, weights, scores and picture are the same."""
    s = spec(FC, kimg=2.0)
    undisturbed = run_trial(s, context)
    folder, snapshots = places
    path = folder / f"{s.trial_id}.snapshot"
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(["tests.execution.test_trial"])
    for _ in range(2):
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = fork.Process(target=run_keeping_snapshots, args=(s, context, snapshots))
        process.start()
        while not path.exists() or path.stat().st_mtime_ns == before:
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(0.05)
        process.kill()
        process.join()
        assert process.exitcode == -9 and path.exists()
    resumed = run_trial(s, context, snapshots)
    assert same(resumed, undisturbed)
    assert 0 < resumed.provenance["resumed_at_step"] < s.num_steps and "resumed_at_step" not in undisturbed.provenance
    assert resumed.cost["train_seconds"] < resumed.cost["seconds"]
    assert list(folder.iterdir()) == [], "the snapshot of a finished trial is removed"
    assert same(run_trial(s, context, snapshots), undisturbed)


@pytest.mark.parametrize("base", [FC, DC])
def test_raw_weights_are_scored_beside_the_average(base: dict[str, object], context: TrialContext) -> None:
    """As a protocol of raw weights would, with batch norm recalibrated for them; from stored weights too."""
    s = spec(base, kimg=1.0, ema_kimg=0.1)
    result = run_trial(s, context)
    of_raw = replace(context, protocol=replace(context.protocol, weights="raw"))
    (raw, again) = (score_stored(s, result.weights, where).scores for where in (of_raw, context))
    assert result.scores["fid_raw"] == raw["fid"] == raw["fid_raw"] and again == result.scores
    assert abs(result.scores["fid_raw"] / result.scores["fid"] - 1) > 1e-5
    unaveraged = run_trial(replace(s, ema_kimg=1e-6), context).scores
    assert unaveraged["fid"] == pytest.approx(unaveraged["fid_raw"], rel=1e-5) == pytest.approx(raw["fid"], rel=1e-5)


def test_online_fid_depends_on_the_point_alone(context: TrialContext) -> None:
    """So a resumed trial, whose observer is new, takes it where an undisturbed one does."""
    reference = shared_images(context.data, "reference")
    for steps in (20, 64, 100):
        s = spec(FC, kimg=steps * 0.032)
        generator, points = build_networks(s).generator, report_points(s).values()
        observe = online_fid(s, context.watching, reference)
        taken = [point for point in points if observe(point, generator)]
        assert taken == ([3, 6, 9, 12, 16, 25, 32, 41, 48, 57, 64] if steps == 20 else list(ONLINE_FID_AT))
        resumed = online_fid(s, context.watching, reference)
        assert [p for p in points if p > 13 and resumed(p, generator)] == [p for p in taken if p > 13]


class Killed(Exception):
    pass


def interrupted(s: TrialSpec, context: TrialContext, snapshots: Path, monkeypatch) -> Path:
    """The snapshot of a trial that stopped in the middle."""

    def dies(*observed) -> dict[str, float]:
        if observed[0] > 32:
            raise Killed
        return {}

    with monkeypatch.context() as patch:
        patch.setattr("harness.execution.trial.online_fid", lambda *_: dies)
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(Killed):
            run_trial(s, context, snapshots)
    (path,) = snapshots.iterdir()
    return path


@pytest.mark.parametrize("harm", ["damaged", "of another trial", "of another extractor"])
def test_an_unusable_snapshot_is_set_aside(harm: str, context: TrialContext, tmp_path, monkeypatch) -> None:
    s = spec(FC, kimg=0.5)
    path = interrupted(s, context, tmp_path, monkeypatch)
    if harm == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "of another trial":
        path.unlink()
        path = interrupted(spec(FC, kimg=0.5, seed=5), context, tmp_path, monkeypatch).rename(path)
    else:
        path.unlink()
        other = replace(context, protocol=replace(context.protocol, extractor_hash="f" * 16))
        path = interrupted(s, other, tmp_path, monkeypatch)
    result = run_trial(s, context, tmp_path)
    assert same(result, run_trial(s, context))
    assert f"{path.name}.unusable" in result.provenance["snapshot_set_aside"]
    assert "resumed_at_step" not in result.provenance
    assert [p.name for p in tmp_path.iterdir()] == [f"{path.name}.unusable"]


def test_a_trial_can_do_without_checkpoints(context, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    (tmp_path / "file").write_text("not a folder")
    result = run_trial(spec(), context, tmp_path / "file" / "snapshots")
    assert result.status == "ok" and "Not a directory" in result.provenance["snapshot_not_written"]


def run_rank(rank: int, s: TrialSpec, context: TrialContext, folder: Path, rendezvous: str) -> None:
    loop.CHECKPOINT_SECONDS = 0.0
    with join(rank, s.world_size, rendezvous, "cpu") as ranks:
        if rank == 0:
            result = run_trial(s, context, folder / "snapshots", ranks)
            Store(folder / "store", create=True).write(result)
        else:
            train_rank(s, context, ranks)


def start_ranks(s: TrialSpec, context: TrialContext, folder: Path, attempt: int) -> list[Any]:
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(["tests.execution.test_trial"])
    rendezvous = f"file://{folder}/rendezvous-{attempt}"
    group = [fork.Process(target=run_rank, args=(rank, s, context, folder, rendezvous)) for rank in range(s.world_size)]
    for process in group:
        process.start()
    return group


def test_two_ranks_survive_a_killed_rank(context: TrialContext, tmp_path) -> None:
    s = spec(DC, kimg=0.64, world_size=2, sync_batch_norm=True)
    stores = {}
    for name, kills in (("undisturbed", False), ("killed", True)):
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "snapshots" / f"{s.trial_id}.snapshot"
        if kills:
            group = start_ranks(s, context, folder, attempt=0)
            while not path.exists():
                assert group[1].is_alive()
                time.sleep(0.001)
            group[1].kill()
            group[0].join(60)
            assert group[0].exitcode == 1, "rank 0 notices that the other has gone, and ends with an exception"
            assert path.exists() and not (folder / "store").exists()
        group = start_ranks(s, context, folder, attempt=1)
        for process in group:
            process.join(120)
        assert [process.exitcode for process in group] == [0, 0] and not path.exists()
        stores[name] = Store(folder / "store")
    a, b = stores.values()
    assert ("resumed_at_step" in a.read_result(s.trial_id)["provenance"]) is False
    assert 0 < b.read_result(s.trial_id)["provenance"]["resumed_at_step"] < s.num_steps
    weights = [(store.trial_folder(s.trial_id) / "weights.safetensors").read_bytes() for store in (a, b)]
    assert weights[0] == weights[1] and a.read_scores(s.trial_id) == b.read_scores(s.trial_id) != {}
    curves = [store.read_curves(s.trial_id).drop(columns="seconds") for store in (a, b)]
    assert curves[0].equals(curves[1])
    alone = run_trial(spec(DC, kimg=0.64), context).curves
    assert curves[0].d_loss[:3].tolist() == pytest.approx(alone.d_loss[:3].tolist(), rel=5e-3)


def one_question(**changes) -> Study:
    factor = Factor.of_field(changes.pop("field"), changes.pop("values"), label="f")
    question = Trend("k", "dc", factor, text="?", hypothesis="!", expected="rising")
    return Study(name="s", title="t", baselines={"dc": DC}, questions=(question,), profiles=(NOISE.profile("smoke"),))


def on_data(dataset: str) -> Study:
    study = one_question(field="latent_dim", values=(32, 64))
    profile = study.profile("smoke")
    return replace(study, profiles=(replace(profile, changes={**profile.changes, "dataset": dataset}),))


def test_an_impossible_level_is_refused_before_work(tmp_path) -> None:
    from harness.execution.run_study import run_study

    store = Store(tmp_path / "store", create=True)
    for study, message in (
        (
            one_question(field="generator_depth", values=(1, 2)),
            "arm 'dc generator_depth=1': generator_depth=1 is out of range; allowed: at least 2 for dc",
        ),
        (one_question(field="generator_norm", values=("batch", "layer")), "unknown generator_norm 'layer'"),
        (on_data("mnist5k"), "unknown dataset 'mnist5k'"),
        (on_data(f"folder:{tmp_path}"), "has no readable image"),
        (one_question(field="latent_dim", values=(64, 0)), "latent_dim=0 is out of range"),
    ):
        with pytest.raises(UserError) as caught:
            run_study(study, "smoke", 1, store, 1, print)
        assert message in str(caught.value)
    assert store.trial_ids() == [] and not (store.root / "plans").exists()


def test_a_guess_is_of_the_trial_alone(tmp_path: Path) -> None:
    """Not of what else its study has: arms that are shared take equally long in both, measured ones or none."""

    def guesses(study: Study, store: Store | None) -> dict[str, float]:
        return dict(make_plan(study, "laptop", 1, store).core_seconds.seconds)

    depth, noise = guesses(STUDIES["depth"], None), guesses(NOISE, None)
    assert (depth["fc"], depth["dc"]) == (noise["fc"], noise["dc"])
    assert 10 <= noise["fc"] <= 15 and 20 <= noise["dc"] <= 28, "as the published trials took"

    store = Store(tmp_path / "store", create=True)
    slow = next(
        run.spec for run in make_plan(STUDIES["depth"], "laptop", 1, store).runs if run.arm == "dc generator_depth=3"
    )
    store.write(TrialResult(spec=slow, status="ok", cost={"seconds": 2 * depth["dc generator_depth=3"]}, provenance={}))
    assert guesses(NOISE, store)["dc"] == pytest.approx(2 * noise["dc"]), "this machine is half as fast"
    assert guesses(NOISE, store)["dc"] == guesses(STUDIES["depth"], store)["dc"]
    smoke = make_plan(NOISE, "smoke", 1, store).core_seconds.seconds
    assert smoke == make_plan(NOISE, "smoke", 1, None).core_seconds.seconds, "which says nothing of so short trials"


def test_on_a_gpu_the_profile_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    seconds = make_plan(NOISE, "smoke", 1, None).core_seconds.seconds
    assert set(seconds.values()) == {SMOKE.core_seconds_per_trial}


def test_a_plan_counts_what_the_store_holds(tmp_path, context: TrialContext) -> None:
    store = Store(tmp_path / "store", create=True)
    plan = make_plan(NOISE, "smoke", 2, store)
    assert len(plan.trained) == len(plan.pending()) == 36 and not plan.core_seconds.measured
    guessed = plan.core_seconds.seconds
    assert guessed["dc"] > guessed["fc"], "a convolution costs more"

    done = plan.pending()[0].spec
    store.write(TrialResult(spec=done, status="ok", cost={"seconds": 7.0}, provenance={}))
    plan = make_plan(NOISE, "smoke", 2, store)
    assert done.trial_id in plan.done and len(plan.pending()) == 35
    seconds, arm = plan.core_seconds.seconds, plan.runs[0].arm
    assert plan.core_seconds.measured >= 1 and seconds[arm] == seconds[f"{arm} latent_std=0.1"] == 7.0
    assert seconds["dc"] / seconds["fc"] == pytest.approx(guessed["dc"] / guessed["fc"]), "the others keep their share"
    left = sum(seconds[cell.arm] for cell in plan.runs if cell.spec.trial_id != done.trial_id)
    assert plan.seconds_left(workers=5) == pytest.approx(left / 5)

    (store.trial_folder(done.trial_id) / "result.json").write_text("{")
    plan = make_plan(NOISE, "smoke", 2, store)
    assert len(plan.pending()) == 36 and not plan.core_seconds.measured, "damage is no reason not to plan what mends it"
