"""From the store to rows: which trials, under which names, and never two protocols in one table."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.analysis.effects import arm_values, scores_of
from harness.analysis.results import FROM_CURVES, curve_metrics, load, load_curves, planned
from harness.errors import UserError
from harness.metrics import METRICS
from harness.spec import TrialSpec
from harness.storage.records import checked_json
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.study import Study
from tests.analysis.conftest import DIVERGED, EMPTY, FAILED, PROFILE, SINGLE, make_protocol, with_untrained
from tests.unit.test_spec import VALUES


def test_one_row_a_trial_as_stored(store: Store) -> None:
    rows = load(store.root)
    assert sorted(rows.trial_id) == store.trial_ids()
    row = rows[(rows.arm == "dc") & (rows.seed == 2)].iloc[0]
    ((protocol, scores),) = store.read_scores(row.trial_id).values()
    assert {name: row[name] for name in ("fid", "is_mean", "kid", "precision", "recall")} == {
        name: scores[name] for name in ("fid", "is_mean", "kid", "precision", "recall")
    }
    assert row.seconds == store.read_result(row.trial_id)["cost"]["seconds"]
    cost = store.read_result(row.trial_id)["cost"]
    assert row.compute_seconds == cost["cpu_seconds"] != row.seconds
    assert (row.protocol_id, row.status, row.study) == (protocol.protocol_id, "ok", "noise")
    spec = store.read_spec(row.trial_id).to_dict()
    assert {name: row[name] for name in spec} == spec


def test_ds_answers_are_missing_without_logits(store: Store, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    rows = load(store, study="noise").query("arm == 'dc' and status == 'ok'")
    assert rows.d_accuracy_late.notna().all() and load_curves(store, rows).d_accuracy.notna().any()
    trial_id = rows.trial_id.iloc[0]
    spec = TrialSpec.from_dict({**store.read_spec(trial_id).to_dict(), "loss": "least-squares"})
    result = TrialResult(spec=spec, status="ok", curves=store.read_curves(trial_id), scores={"fid": 1.0})
    store.write(replace(result, protocol=make_protocol()))
    row = load(store).query("loss == 'least-squares'")
    assert len(row) == 1 and row.d_accuracy_late.isna().all() and row.g_loss_late.notna().all()
    curves = load_curves(store, row)
    assert curves[["d_real", "d_fake", "d_accuracy"]].isna().all(axis=None) and curves.d_loss.notna().any()


def test_untrained_baselines_come_only_when_asked_for(store: Store, study: Study, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    before = load(store), load(store, study="noise", profile=PROFILE)
    trial_id = with_untrained(store, study)
    for rows, own in zip(before, (load(store), load(store, study="noise", profile=PROFILE)), strict=True):
        assert own.trial_id.tolist() == rows.trial_id.tolist() and own.arm.ne("").all()
    for words in ({}, {"study": "noise"}, {"study": "noise", "profile": PROFILE}):
        rows = load(store, untrained=True, **words)
        row = rows[rows.trial_id == trial_id].iloc[0]
        assert len(rows) == len(before[0]) + 1
        assert (row.study, row.arm, row.seed, row.kimg, row.fid) == ("noise", "dc, untrained", 0, 0, 2000)


def test_a_trial_of_no_study_has_no_arm(store: Store, study: Study, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    plan = store.read_plan(study.name, PROFILE) or {}
    cells = [cell for cell in plan["cells"] if cell["arm"] != "fc"]
    store.write_plan(study.name, PROFILE, {**plan, "cells": cells})
    left = load(store).query("arm == ''")
    assert len(left) == 6 and left.study.eq("").all() and load(store, study="noise").arm.ne("").all()


def test_failures_are_rows_without_scores(store: Store) -> None:
    rows = load(store)
    diverged, failed = rows[rows.status == "diverged"], rows[rows.status == "failed"]
    assert diverged[["arm", "seed"]].values.tolist() == [[DIVERGED, 3]]
    assert failed[["arm", "seed"]].values.tolist() == [[FAILED, 5]]
    assert diverged.fid.isna().all() and failed.fid.isna().all()
    assert diverged.error.item() == "d_loss is nan at step 120"


def test_what_is_planned_and_lacking_can_be_counted(store: Store, study: Study) -> None:
    plan = planned(store, study.name, PROFILE)
    lacking = plan[~plan.trial_id.isin(load(store).trial_id)]
    assert lacking.groupby("arm").size().to_dict() == {EMPTY: 6, SINGLE: 5}


def test_a_trial_of_several_studies_is_one_row(store: Store, study: Study, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    plan = store.read_plan(study.name, PROFILE)
    assert plan is not None
    shared = [{**cell, "arm": "start"} for cell in plan["cells"] if cell["arm"] == "dc"]
    store.write_plan("depth", PROFILE, {**plan, "study": "depth", "cells": shared})
    rows = load(store)
    assert rows.trial_id.is_unique and len(rows) == len(store.trial_ids())
    both = rows[rows.study.str.contains("depth")]
    assert len(both) == 6
    assert set(both.study) == {"depth | noise"} and set(both.arm) == {"start | dc"}
    assert set(load(store, study="depth").arm) == {"start"}
    assert len(load(store, study="depth")) == 6


def test_arms_that_share_a_trial_have_rows_each(store: Store, study: Study, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    plan = store.read_plan(study.name, PROFILE) or {}
    twins = [{**cell, "arm": "twin"} for cell in plan["cells"] if cell["arm"] == "dc"]
    store.write_plan(study.name, PROFILE, {**plan, "cells": [*plan["cells"], *twins]})
    for words in ({}, {"profile": PROFILE}):
        rows = load(store, study=study.name, **words)
        dc, twin = (arm_values(rows, arm, "fid") for arm in ("dc", "twin"))
        assert len(dc) == 6 and dc.equals(twin)
        assert scores_of(rows, ["dc", "twin"], "fid").values.std(axis=0).max() == 0
    assert load(store).trial_id.is_unique


def test_curves_of_two_classifiers_are_not_mixed(store: Store, study: Study, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    before = load(store, study=study.name, profile=PROFILE).set_index("trial_id")
    later = before[(before.arm == "dc") & (before.status == "ok")].index[0]
    result = store.layout.trial(later) / "result.json"
    content = {k: v for k, v in json.loads(result.read_text()).items() if k != "seal"}
    provenance = {**content["provenance"], "online_extractor": "e" * 16, "date": "2100-01-01T00:00:00Z"}
    result.write_bytes(checked_json({**content, "provenance": provenance}))
    rows = load(store, study=study.name, profile=PROFILE).set_index("trial_id")
    assert rows.loc[later, "kimg_to_settle"] == before.loc[later, "kimg_to_settle"]
    assert rows.drop(later).kimg_to_settle.isna().all() and before.drop(later).kimg_to_settle.notna().any()
    assert rows.fid.equals(before.fid) and rows.g_loss_late.equals(before.g_loss_late)


def test_compute_seconds_of_two_kinds_are_not_mixed(store: Store, study: Study, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    before = load(store, study=study.name, profile=PROFILE).set_index("trial_id")
    later = before[(before.arm == "dc") & (before.status == "ok")].index[0]
    result = store.layout.trial(later) / "result.json"
    content = {k: v for k, v in json.loads(result.read_text()).items() if k != "seal"}
    provenance = {**content["provenance"], "gpu": "Imaginary GPU", "date": "2100-01-01T00:00:00Z"}
    result.write_bytes(checked_json({**content, "provenance": provenance}))
    rows = load(store, study=study.name, profile=PROFILE).set_index("trial_id")
    assert rows.loc[later, "compute_seconds"] == before.loc[later, "seconds"]  # on a GPU by the clock
    assert rows.drop(later).compute_seconds.isna().all() and before.drop(later).compute_seconds.notna().all()
    assert rows.seconds.equals(before.seconds)


def test_a_failed_trial_watched_nothing(store: Store, study: Study, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    before = load(store, study=study.name, profile=PROFILE).set_index("trial_id")
    for trial_id, row in before[before.status != "diverged"].iterrows():
        result = store.layout.trial(str(trial_id)) / "result.json"
        content = {k: v for k, v in json.loads(result.read_text()).items() if k != "seal"}
        watched = {"online_extractor": "e" * 16} if row.status == "ok" else {"date": "2100-01-01T00:00:00Z"}
        result.write_bytes(checked_json({**content, "provenance": {**content["provenance"], **watched}}))
    lost = before.index[before.status == "diverged"]
    rows = load(store, study=study.name, profile=PROFILE).set_index("trial_id")
    assert rows.drop(lost).kimg_to_settle.equals(before.drop(lost).kimg_to_settle)


def test_protocols_are_not_mixed(store: Store, study: Study, tmp_path: Path) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store"))
    first, second = make_protocol(), make_protocol(num_generated=1000)
    trial_id = load(store).query("status == 'ok'").trial_id.iloc[0]
    store.add_scores(trial_id, second, {"fid": 99.0})
    with pytest.raises(UserError, match="several protocols") as refusal:
        load(store)
    assert first.protocol_id in str(refusal.value) and second.protocol_id in str(refusal.value)
    assert set(load(store, protocol_id=first.protocol_id).query("fid.notna()").protocol_id) == {first.protocol_id}
    rescored = load(store, protocol_id=second.protocol_id).query("fid.notna()")
    assert rescored[["trial_id", "fid"]].values.tolist() == [[trial_id, 99.0]]
    assert 99.0 not in set(load(store, study=study.name, profile=PROFILE).fid)  # the plan names its protocol


def test_what_is_not_there_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"depth never ran in .*there: noise \(laptop\)"):
        load(store, study="depth")
    with pytest.raises(UserError, match=r"noise \(smoke\) never ran"):
        load(store, study="noise", profile="smoke")
    with pytest.raises(UserError, match="needs a study"):
        load(store, profile="laptop")
    with pytest.raises(UserError, match="unknown protocol_id 'nonsense'"):
        load(store, protocol_id="nonsense")
    with pytest.raises(UserError, match="no store at"):
        load(tmp_path / "nowhere")


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    rows = load(Store(tmp_path / "store", create=True))
    assert rows.empty
    assert {"trial_id", "study", "arm", "seed", "status", "fid", "seconds"} <= set(rows.columns)


def test_curves_are_long_and_keep_their_gaps(store: Store) -> None:
    rows = load(store, study="noise")
    curves = load_curves(store, rows[rows.arm.isin(["dc", FAILED])])
    assert curves.groupby(["arm", "seed"]).size().eq(64).all()
    assert len(curves[["arm", "seed"]].drop_duplicates()) == 6 + 5  # the failed trial left none
    assert {"kimg", "d_loss", "g_loss", "d_real", "d_fake", "fid_online"} <= set(curves.columns)
    assert np.isfinite(curves.fid_online).sum() == 11 * 10
    assert load_curves(store, rows.iloc[:0]).empty


def write_curves(store: Store, curves: pd.DataFrame | None) -> str:
    """Store a trial with these curves; its id."""
    spec = TrialSpec(**{**VALUES, "seed": len(store.trial_ids())})
    store.write(TrialResult(spec=spec, status="ok", curves=curves))
    return spec.trial_id


def test_metrics_from_curves_by_hand(tmp_path: Path) -> None:
    store, nan = Store(tmp_path / "store", create=True), float("nan")
    curves = pd.DataFrame(
        {
            "kimg": np.arange(1.0, 9),
            "g_loss": [1.0, 3, 9, 9, 9, 9, 5, 7],
            "d_accuracy": [0.6, 0.8, 0, 0, 0, 0, 0.5, 0.6],
            "fid_online": [nan, 1200, nan, 300, nan, 90, nan, 250],
        }
    )
    whole = write_curves(store, curves)
    slow = write_curves(store, curves.assign(fid_online=500.0).drop(columns="d_accuracy"))
    unmeasured = write_curves(store, curves.assign(fid_online=nan))
    without = write_curves(store, None)
    assert curve_metrics(store, whole, "ok", kimg=8) == pytest.approx(
        {
            "g_loss_early": 2,  # of kimg 1 and 2
            "g_loss_late": 6,  # of kimg 7 and 8
            "d_accuracy_early": 0.7,
            "d_accuracy_late": 0.55,
            "kimg_to_fid_1000": 4,
            "kimg_to_fid_300": 4,
            "kimg_to_fid_100": 6,  # the first time, although it rises again
            "kimg_to_settle": np.inf,  # 90 is far from 250, and only that is near itself
        }
    )
    slow = curve_metrics(store, slow, "ok", kimg=8)
    assert [slow[f"kimg_to_fid_{level}"] for level in (1000, 300, 100)] == [1, np.inf, np.inf]
    assert slow["kimg_to_settle"] == 1
    wavers = write_curves(store, curves.assign(fid_online=[900, 250, 210, nan, 219, 200, nan, 200]))
    assert curve_metrics(store, wavers, "ok", kimg=8)["kimg_to_settle"] == 3  # 210 and 219 are within 10% of 200
    late = write_curves(store, curves.assign(fid_online=[200, 200, 221, nan, 221, 205, nan, 200]))
    assert curve_metrics(store, late, "ok", kimg=8)["kimg_to_settle"] == 6  # it was near before, and left again
    assert np.isnan(slow["d_accuracy_late"]) and slow["g_loss_late"] == 6
    assert np.isnan(curve_metrics(store, unmeasured, "ok", kimg=8)["kimg_to_fid_300"])
    assert np.isnan(list(curve_metrics(store, without, "ok", kimg=8).values())).all()


def test_every_metric_is_a_column(store: Store) -> None:
    rows = load(store)
    assert set(METRICS) <= set(rows.columns)
    levels = [name for name in FROM_CURVES if name.startswith("kimg_to")]
    assert np.isinf(rows[rows.status == "diverged"][levels].to_numpy()).all()
    assert rows[rows.status == "failed"][list(FROM_CURVES)].isna().all().all()
    assert rows[rows.status == "ok"].g_loss_late.notna().all()
    assert set(METRICS) <= set(load(store, study="noise").iloc[:0].columns)
