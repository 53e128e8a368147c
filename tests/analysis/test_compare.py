"""Two stores that should be the same are told to be; a planted difference is found, and only that one."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.analysis.compare import compare, whole_table, write_whole_table
from harness.analysis.results import load
from harness.errors import UserError
from harness.storage.store import Store
from harness.study import Study
from tests.analysis.conftest import DIVERGED, EMPTY, FAILED, PROFILE, SINGLE, make_protocol, with_untrained


@pytest.fixture
def other(store: Store, tmp_path: Path) -> Store:
    return Store(shutil.copytree(store.root, tmp_path / "other"))


def rescore(store: Store, arm: str, change: Callable[[float, int], float]) -> None:
    """Replace the FIDs of an arm, as another version of the code would have made them: change(fid, seed)."""
    for row in load(store, study="noise", profile=PROFILE).itertuples():
        if row.arm == arm and row.status == "ok":
            ((protocol, scores),) = store.read_scores(row.trial_id).values()
            shutil.rmtree(store.trial_folder(row.trial_id) / "scores")
            (store.trial_folder(row.trial_id) / "scores").mkdir()
            store.add_scores(row.trial_id, protocol, {**scores, "fid": change(row.fid, row.seed)})


def test_a_store_is_identical_with_its_copy(store: Store, other: Store) -> None:
    table = compare(store, other).set_index("arm")
    assert len(table) == 18
    assert set(table.drop(EMPTY).outcome) == {"identical"} and table.loc[EMPTY, "outcome"] == "in one store only"
    assert table.loc[DIVERGED, "n"] == 6  # diverged in both: the same outcome
    assert table.loc[FAILED, "n"] == 5 and table.loc[SINGLE, "n"] == 1


def test_a_planted_difference_is_found_noise_not(store: Store, other: Store) -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.1, 6)
    rescore(other, "dc", lambda fid, seed: fid * 1.3 * noise[seed] ** 0.2)
    rescore(other, "fc", lambda fid, seed: fid * noise[seed])
    rescore(other, SINGLE, lambda fid, seed: fid * 2)
    table = compare(store, other, PROFILE).set_index("arm")
    assert table.loc["dc", "outcome"] == "differs" and table.loc["dc", "ratio"] == pytest.approx(1.3, rel=0.05)
    assert "differs beyond seed noise" in table.loc["dc", "sentence"]
    assert table.loc["fc", "outcome"] == "not shown to differ"
    assert table.loc[SINGLE, "outcome"] == "too few seeds" and "×2.00 [–] that of A" in table.loc[SINGLE, "sentence"]
    assert (table.outcome == "identical").sum() == 14
    assert table.loc["dc", "p_holm"] == pytest.approx(2 * table.loc["dc", "p"])  # two rows were tested


def test_fids_of_nothing_have_no_ratio(store: Store, other: Store) -> None:
    rescore(other, "dc", lambda fid, seed: -5e-9)
    rescore(other, "fc", lambda fid, seed: 0.0 if seed == 0 else fid * 1.1)
    table = compare(store, other).set_index("arm")
    assert table.loc["dc", "outcome"] == "not comparable" and "has no ratio" in table.loc["dc", "sentence"]
    assert table.loc["fc", "n"] == 5 and table.loc["fc", "ratio"] == pytest.approx(1.1)


def test_what_cannot_be_compared_is_said(store: Store, other: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"share no study .* B holds nothing"):
        compare(store, Store(tmp_path / "empty", create=True))
    with pytest.raises(UserError, match=rf"unknown profile 'smoke'; valid: {PROFILE}"):
        compare(store, other, "smoke")


def test_a_protocol_that_both_have_is_taken(store: Store, other: Store, study: Study) -> None:
    theirs = replace(make_protocol(), extractor_hash="a" * 16)
    for row in load(other).query("status == 'ok'").itertuples():
        other.add_scores(row.trial_id, theirs, {"fid": 2 * row.fid})
    plan = other.read_plan(study.name, PROFILE)
    other.write_plan(study.name, PROFILE, {**(plan or {}), "protocol_id": theirs.protocol_id})
    assert set(compare(store, other).outcome) == set(compare(store, store).outcome)
    for trial_id in other.trial_ids():
        (other.layout.trial(trial_id) / "scores" / f"{make_protocol().protocol_id}.json").unlink(missing_ok=True)
    (sentence,) = compare(store, other).sentence
    assert "other protocols" in sentence and "`score` B's trials with --extractor-weights" in sentence


def test_whole_table_has_every_trial_and_protocol(store: Store, other: Store, tmp_path: Path) -> None:
    rows = load(store)
    table = whole_table(store)
    assert sorted(table.trial_id) == sorted(rows.trial_id)
    trial_id = rows[rows.status == "ok"].trial_id.iloc[0]
    second = make_protocol(num_generated=1000)
    other.add_scores(trial_id, second, {"fid": 99.0})
    both = whole_table(other)
    assert len(both) == len(rows) + 1 and not both.duplicated(["trial_id", "protocol_id"]).any()
    mine = both[both.trial_id == trial_id].set_index("protocol_id").fid
    assert mine[second.protocol_id] == 99.0 and len(mine) == 2
    assert set(both[both.status != "ok"].trial_id) == set(rows[rows.status != "ok"].trial_id)
    assert write_whole_table(other, tmp_path / "all") == len(both)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["results.csv", "results.parquet"]
    written = pd.read_parquet(tmp_path / "all" / "results.parquet")
    assert set(written) == set(both) and written.fid.equals(both.fid) and written.arm.tolist() == both.arm.tolist()
    assert len(pd.read_csv(tmp_path / "all" / "results.csv")) == len(both)
    with pytest.raises(UserError, match="cannot write to .*results.csv.* name another folder with --out"):
        write_whole_table(other, tmp_path / "all" / "results.csv")
    assert whole_table(Store(tmp_path / "empty", create=True)).empty


def test_the_whole_table_names_untrained_baselines(store: Store, other: Store, study: Study) -> None:
    trial_id = with_untrained(other, study)
    row = whole_table(other).set_index("trial_id").loc[trial_id]
    assert (row.study, row.arm, row.kimg) == ("noise", "dc, untrained", 0)
    assert whole_table(other).arm.ne("").all()
