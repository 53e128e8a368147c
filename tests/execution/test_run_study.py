"""What a plan promises: disk and workers; and what it refuses."""

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision

import architectures
from architectures import fc
from architectures.contract import require
from harness.analysis.evidence import load_evidence
from harness.analysis.results import load
from harness.errors import UserError
from harness.execution import plan as planning
from harness.execution import run_study as running
from harness.execution.cluster import Cluster
from harness.execution.plan import SMALL_FILES, Plan, default_workers, describe, go_on, make_plan
from harness.execution.resources import on_sharing_a_gpu
from harness.execution.run_study import is_sequential, run_study
from harness.execution.sequential import run_until_answered
from harness.plugins import UserCode
from harness.reporting import provenance
from harness.spec import TrialSpec
from harness.storage.integrity import quarantine_damaged
from harness.storage.plans import remove_plan
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.training.loop import build_networks
from studies.baselines import FC
from studies.noise import NOISE
from tests.data.test_inspection import put_digits


def weights_of(spec: TrialSpec) -> int:
    gan = build_networks(spec)
    state = {f"g.{k}": v for k, v in gan.generator.state_dict().items()}
    state |= {f"e.{k}": v.clone() for k, v in gan.generator.state_dict().items()}
    state |= {f"d.{k}": v for k, v in gan.discriminator.state_dict().items()}
    return len(safetensors.torch.save(state))


def test_a_plan_tells_the_disk_it_needs(tmp_path) -> None:
    plan = make_plan(NOISE, "smoke", 2, None)
    for arm in ("dc", "fc"):
        spec = next(run.spec for run in plan.runs if run.arm == arm)
        rest = plan.bytes_of[arm] - weights_of(spec)
        assert 0 < rest < 4 * SMALL_FILES, "beside the weights: a picture and small files"
    untrained = sum(plan.bytes_of[arm] for arm in plan.untrained)
    assert plan.untrained.keys() == {"dc", "fc", "fc-bn"}
    trials = 2 * sum(plan.bytes_of.values()) + untrained
    assert plan.bytes_left() > trials + 5000 * 28 * 28, "the data, too, where there is no store that has them"
    assert replace(plan, bytes_of_data=0).bytes_left() == trials


def test_longest_trials_of_a_seed_run_first() -> None:
    plan = make_plan(NOISE, "laptop", 2, None)
    order = sorted(plan.trials, key=plan.turn)
    turns = [plan.trials[i] for i in order]
    seconds = [plan.core_seconds.seconds.get(run.arm, 0.0) for run in turns]
    assert [run.seed for run in turns[:36]] == [0] * 18 + [1] * 18
    assert seconds[:18] == sorted(seconds[:18], reverse=True) and seconds[0] > 1.5 * seconds[17]
    assert [i in plan.trained for i in order] == [True] * 36 + [False] * 3, "untrained baselines come last"


def test_workers_by_default(monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(planning, "trials_in_memory", lambda: 100)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert default_workers() == 8
    with monkeypatch.context() as patch:
        patch.setattr(planning, "trials_in_memory", lambda: 3)
        assert default_workers() == 3
    assert default_workers(Cluster(address="host:1")) is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert default_workers() == 2
    assert default_workers(Cluster(gpus_per_trial=0.25)) == 8
    assert default_workers(Cluster(gpus_per_trial=2)) == 1
    assert default_workers(Cluster(gpus_per_trial=0)) == 8


def test_a_plan_without_a_store_downloads_nothing(tmp_path, monkeypatch) -> None:
    asked = []
    for name in ("STL10", "CIFAR10"):
        monkeypatch.setattr(torchvision.datasets, name, lambda *_, root, **__: asked.append(root))
    assert len(make_plan(NOISE, "paper", 1, None).pending()) == 18
    assert len(make_plan(NOISE, "smoke@cifar10@40", 1, None).pending()) == 18
    assert not asked
    store = Store(tmp_path / "store", create=True)
    with pytest.raises(TypeError, match="NoneType"):
        make_plan(NOISE, "smoke@cifar10", 1, store)
    assert asked == [store.cache / "downloads"]


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ({"changes": {"resolution": 2000}}, "arm 'dc': resolution=2000 is out of range; allowed: from 4 to 1024"),
        ({"changes": {"resolution": "abc"}}, "arm 'dc': resolution='abc' must be of type int"),
        ({"changes": {"dataset": "folder:"}}, "'folder:' names no folder"),
        ({"num_generated": 1}, "num_generated=1 is out of range; allowed: 20 to 1,000,000"),
        ({"seeds": 0}, "seeds=0 is out of range"),
    ],
)
def test_a_profile_is_refused_before_data_preparation(tmp_path, of: dict, message: str) -> None:
    smoke = NOISE.profile("smoke")
    changed = replace(smoke, **{**of, "changes": {**smoke.changes, **of.get("changes", {})}})
    store = Store(tmp_path / "store", create=True)
    with pytest.raises(UserError) as caught:
        make_plan(replace(NOISE, profiles=(changed,)), "smoke", None, store)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (store.cache / "data").exists()


def test_a_budget_too_short_is_refused(tmp_path) -> None:
    store = Store(tmp_path / "store", create=True)
    with pytest.raises(UserError, match="budget=1 s is too short for the first 6 seeds, which take about"):
        run_until_answered(NOISE, "smoke", store, 2, print, budget_seconds=1)


def test_a_lost_plan_may_have_been_sequential(tmp_path) -> None:
    store = Store(tmp_path / "store", create=True)
    for name in ("noise", "noise-2"):
        for sequential in (True, False):
            store.write_plan(name, "smoke", {"sequential": sequential, "cells": []})
            assert is_sequential(store, name, "smoke") is sequential
    assert not is_sequential(store, "depth", "smoke")
    plan = store.root / "plans" / "noise-smoke.json"
    plan.write_bytes(plan.read_bytes()[:-9])
    assert len(quarantine_damaged(store, ())) == 1
    assert is_sequential(store, "noise", "smoke") and not is_sequential(store, "noise-2", "smoke")
    store.write_plan("noise", "smoke", {"sequential": False, "cells": []})
    assert not is_sequential(store, "noise", "smoke")


def test_anothers_study_of_one_name_is_said(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path / "store", create=True)
    mine, theirs = (replace(NOISE, own_code=UserCode(str(tmp_path / name), "")) for name in ("a.py", "b.py"))
    plan = make_plan(mine, "smoke", 1, store)
    protocols = dict.fromkeys((run.spec.data_fingerprint for run in plan.runs), "0" * 12)
    record = plan.record(protocols, store.stored_name, sequential=False)
    monkeypatch.setattr(running, "scoring_contexts", stop)
    for study, plan_of, said in ((theirs, record, True), (mine, record, False), (theirs, without(record), False)):
        store.write_plan("noise", "smoke", plan_of)
        lines: list[str] = []
        with pytest.raises(UserError, match="no further"):
            run_study(study, "smoke", 1, store, 1, lines.append)
        assert (
            any(f"noise was run here from another file, {tmp_path / 'a.py'}, whose" in line for line in lines) is said
        )
        assert (
            any("another file" in line for line in describe(make_plan(study, "smoke", 1, store), 1, tmp_path)) is said
        )
        warned = provenance.warnings(load_evidence(store, study, "smoke"))
        assert any("was of another study called noise." in line for line in warned) is said


def stop(*_: object) -> None:
    raise UserError("no further")


def without(record: dict) -> dict:
    """The plan as stores have it that were made before it named a file."""
    return {key: value for key, value in record.items() if key != "file"}


def test_a_plan_refuses_impossible_batches_and_networks(monkeypatch) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(NOISE, "smoke@mnist-5k@20", 1, None)
    allowed = "batch_size=32 is out of range; allowed: at most 20, the training images of mnist-5k@20"
    assert allowed in str(caught.value) and "\n" not in str(caught.value)

    def shallow(**choices) -> architectures.GanPair:
        require(choices["generator_depth"] < 2, "generator_depth", choices["generator_depth"], "at most 1")
        return fc.build(**choices)

    monkeypatch.setitem(architectures.ARCHITECTURES, "shallow", architectures.Architecture(shallow, fc.defaults))
    own = replace(
        NOISE,
        baselines={**NOISE.baselines, "shallow": {**FC, "architecture": "shallow"}},
        own_code=UserCode("mine.py", "ANYTHING = 1"),
    )
    with pytest.raises(
        UserError, match="arm 'shallow' cannot be built: generator_depth=3 is not possible; allowed: at most 1"
    ):
        make_plan(own, "smoke", 1, None)


def test_fewer_workers_than_ranks_are_refused(tmp_path) -> None:
    two = replace(NOISE, baselines={name: {**base, "world_size": 2} for name, base in NOISE.baselines.items()})
    with pytest.raises(UserError, match="workers=1 is out of range; allowed: at least 2, the ranks of one trial"):
        run_study(two, "smoke", 1, Store(tmp_path / "s", create=True), 1, print)


def test_sharing_a_gpu_is_hinted(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert "--gpus-per-trial 0.125" in on_sharing_a_gpu(None, 28)
    assert "mps" in on_sharing_a_gpu(0.25, 96)
    assert {on_sharing_a_gpu(None, 96), on_sharing_a_gpu(1, 28), on_sharing_a_gpu(0, 28)} == {""}
    (tmp_path / "control").touch()
    assert on_sharing_a_gpu(0.25, 28) == ""


def test_an_address_without_listener_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"nothing answers at 127.0.0.1:{port}: Connection refused"):
            Cluster(address=f"127.0.0.1:{port}").require_reachable()
        taken.listen()
        Cluster(address=f"127.0.0.1:{port}").require_reachable()
    for wrong in ("auto", "head", ":6379", "head:", "head:x", "ray://", "head:99999"):
        with pytest.raises(UserError, match="allowed: host:port"):
            Cluster(address=wrong).require_reachable()
    Cluster().require_reachable()


def test_a_moved_folder_keeps_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels name data: the plan of the same pictures is found elsewhere, and gives way where its folder is gone."""
    put_digits(tmp_path / "before")
    store, told = Store(tmp_path / "store", create=True), []
    first = make_plan(NOISE, f"smoke@folder:{tmp_path}/before", 2, store)
    for run in first.pending()[:3]:
        store.write(TrialResult(spec=run.spec, status="ok", cost={"seconds": 1.0}, provenance={}))
    names = dict.fromkeys((run.spec.data_fingerprint for run in first.runs), "0" * 12)
    recorded = first.record(names, store.stored_name, sequential=True)
    store.write_plan("noise", first.design.profile.name, recorded)
    assert make_plan(NOISE, f"smoke@folder:{tmp_path}/before/", 2, store).moved_from == ""

    def moved() -> Plan:
        return make_plan(NOISE, f"smoke@folder:{tmp_path}/after", 2, store)

    def plans() -> list[tuple[str, bool, bool]]:
        """Folder, whether it keeps the seeds, and that they were added because of results."""
        found = ((p["profile"].rpartition("/")[2], p["cells"] == recorded["cells"], p) for p in store.read_plans())
        return sorted((name, same, plan["sequential"]) for name, same, plan in found)

    shutil.copytree(tmp_path / "before", tmp_path / "after")
    line = f"these pictures were run here as smoke@folder:{tmp_path}/before: a run goes on from there"
    assert any(line in told for told in describe(moved(), 2, tmp_path))
    go_on(moved(), store, told.append)
    assert line in told[0]
    assert plans() == [("after", True, True), ("before", True, True)], "both folders are there"
    remove_plan(store.layout, "noise", moved().design.profile.name)
    shutil.rmtree(tmp_path / "before")
    go_on(moved(), store, told.append)
    assert plans() == [("after", True, True)] and moved().moved_from == ""
    monkeypatch.chdir(tmp_path / "store")
    (tmp_path / "link").symlink_to(tmp_path / "after")
    for typed in ("../after/", "../link"):
        assert len(load(store, study="noise", profile=f"smoke@folder:{typed}")) == 3
    with pytest.raises(UserError, match=r"never ran in .*; a run finds the same pictures in another folder$"):
        load(store, study="noise", profile="smoke@folder:nowhere")
    for n, picture in enumerate(sorted((tmp_path / "after").rglob("*.png"))):  # others in its place
        if n % 2:
            picture.write_bytes(sorted((tmp_path / "after").rglob("*.png"))[n - 1].read_bytes())
    (tmp_path / "after").rename(tmp_path / "others")
    assert make_plan(NOISE, f"smoke@folder:{tmp_path}/others", 2, store).moved_from == ""


def test_seeds_that_are_left_out_are_told(tmp_path) -> None:
    store = Store(tmp_path / "store", create=True)
    three = make_plan(NOISE, "smoke", 3, store)
    cells = [{"arm": run.arm, "seed": run.seed, "trial_id": run.spec.trial_id} for run in three.runs]
    store.write_plan("noise", "smoke", {"protocol_id": "0" * 12, "cells": cells})
    assert make_plan(NOISE, "smoke", None, store).seeds_before == 0, "none of them was finished"
    last = next(run for run in three.runs if run.seed == 2)
    store.write(TrialResult(spec=last.spec, status="ok", cost={"seconds": 1.0}, provenance={}))
    told: list[str] = []
    go_on(make_plan(NOISE, "smoke", None, store), store, told.append)
    assert told == [
        "the last run had 3 seeds an arm: those beyond 2 are kept, and left out of the report from now on; `--seeds 3` "
        "takes them in again"
    ]
    assert make_plan(NOISE, "smoke", 3, store).seeds_before == 0
