"""Two labs' stores as one: by content, without doubles, and with what contradicts said."""

from pathlib import Path

import pandas as pd
import pytest

from harness.analysis.evidence import load_evidence
from harness.site.build import build
from harness.site.merge import Merged, merged, opened
from harness.storage.result import TrialResult
from harness.storage.store import Store
from tests.site.conftest import OTHER, PROFILE, PROTOCOL, STUDY, UNKNOWN, lab, tree, trial_at


def together(tmp_path: Path, *stores: Store) -> Merged:
    folder = tmp_path / "merged"
    folder.mkdir()
    return merged(opened([store.root for store in stores], lambda line: None), folder)


def test_two_halves_make_the_whole(tmp_path: Path) -> None:
    whole = lab(tmp_path / "whole")
    halves = together(tmp_path, lab(tmp_path / "b", range(3, 6)), lab(tmp_path / "a", range(3)))
    (view,) = halves.views
    found, wanted = (load_evidence(store, STUDY, PROFILE) for store in (view.store, whole))
    assert repr(found.answers) == repr(wanted.answers) and found.num_seeds == 6 and any(a.n == 6 for a in found.answers)
    by = ["arm", "seed"]
    pd.testing.assert_frame_equal(
        found.rows.sort_values(by, ignore_index=True), wanted.rows.sort_values(by, ignore_index=True)
    )
    assert view.held_by == {(STUDY.name, PROFILE): ["a", "b"]} and not halves.others


def test_what_both_have_is_there_once(tmp_path: Path) -> None:
    a, b = lab(tmp_path / "a", day=1), lab(tmp_path / "b", day=2)
    assert a.read_result(trial_at(a, "dc", 0)) != b.read_result(trial_at(b, "dc", 0)), "dates and seconds differ"
    found = together(tmp_path, a, b)
    assert found.views[0].store.trial_ids() == a.trial_ids() and not found.others
    assert set(map(tuple, found.held_by.values())) == {("a", "b")}
    assert load_evidence(found.views[0].store, STUDY, PROFILE).num_seeds == 6


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_results_that_differ_are_kept_and_said(tmp_path: Path, quick: None, factor: float) -> None:
    """Shown is what was begun first, whether it is better or worse."""
    a, b = lab(tmp_path / "a", day=2), lab(tmp_path / "b", day=1, shift={("dc", 0): factor})
    trial_id = trial_at(a, "dc", 0)
    found = together(tmp_path, a, b)
    assert list(found.others) == [trial_id] and found.held_by[trial_id] == ["b"]
    fids = [dict(store.read_scores(trial_id)[PROTOCOL.protocol_id][1])["fid"] for store in (a, b)]
    shown = found.views[0].store.read_scores(trial_id)[PROTOCOL.protocol_id][1]["fid"]
    assert shown == fids[1] != fids[0]
    build([a.root, b.root], tmp_path / "site", UNKNOWN)
    page = (tmp_path / "site" / "trials" / f"{trial_id}.html").read_text()
    assert "Stores differ in the result of this trial. Shown is that of b" in page and f"FID {fids[0]:.1f}" in page
    assert "Processor 2" in page and "1 trial has results that differ" in (tmp_path / "site" / "index.html").read_text()


def test_the_order_of_stores_means_nothing(tmp_path: Path, quick: None) -> None:
    a, b = lab(tmp_path / "a", day=2), lab(tmp_path / "b", range(4), day=1, shift={("fc", 1): 1.5})
    for name, stores in (("one", (a, b)), ("other", (b, a))):
        build([store.root for store in stores], tmp_path / name, UNKNOWN)
    assert tree(tmp_path / "one") == tree(tmp_path / "other")


def test_further_protocols_are_joined(tmp_path: Path) -> None:
    a, b = lab(tmp_path / "a", day=1), lab(tmp_path / "b", day=2)
    trial_id = trial_at(a, "dc", 0)
    b.add_scores(trial_id, OTHER, {"fid": 3.0})
    found = together(tmp_path, a, b)
    scores = found.views[0].store.read_scores(trial_id)
    assert scores.keys() == {PROTOCOL.protocol_id, OTHER.protocol_id} and not found.others
    assert a.read_scores(trial_id).keys() == {PROTOCOL.protocol_id}, "the store itself is as it was"


def test_scores_of_other_weights_are_not_joined(tmp_path: Path) -> None:
    a, b = lab(tmp_path / "a", day=1), lab(tmp_path / "b", day=2, shift={("dc", 0): 1.1})
    trial_id = trial_at(a, "dc", 0)
    b.add_scores(trial_id, OTHER, {"fid": 3.0})
    found = together(tmp_path, a, b)
    assert found.views[0].store.read_scores(trial_id).keys() == {PROTOCOL.protocol_id}
    assert OTHER.protocol_id in found.others[trial_id][0].scores


def test_a_failed_copy_says_nothing(tmp_path: Path) -> None:
    a, b = lab(tmp_path / "a", day=1, status={("dc", 0): "failed"}), lab(tmp_path / "b", day=2)
    found = together(tmp_path, a, b)
    assert found.views[0].store.status(trial_at(a, "dc", 0)) == "ok" and not found.others


def test_a_diverged_copy_is_another_result(tmp_path: Path) -> None:
    a, b = lab(tmp_path / "a", day=1, status={("dc", 0): "diverged"}), lab(tmp_path / "b", day=2)
    found = together(tmp_path, a, b)
    assert found.views[0].store.status(trial_at(a, "dc", 0)) == "diverged", "the first, though the other has a score"
    assert list(found.others) == [trial_at(a, "dc", 0)]


def test_plans_that_contradict_stay_apart(tmp_path: Path) -> None:
    a, b = lab(tmp_path / "a"), lab(tmp_path / "b", range(6, 9), protocol=OTHER)
    found = together(tmp_path, a, b)
    assert [view.held_by for view in found.views] == [{(STUDY.name, PROFILE): [name]} for name in "ab"]
    for view, protocol in zip(found.views, (PROTOCOL, OTHER), strict=True):
        rows = load_evidence(view.store, STUDY, PROFILE).rows
        assert (
            set(rows.protocol_id) == {protocol.protocol_id}
            and view.store.trial_ids() == found.views[0].store.trial_ids()
        )


def test_other_trials_in_a_place_stay_apart(tmp_path: Path, quick: None) -> None:
    """As where the two labs' code, or what their searches chose, differed; nothing is ranked or judged twice."""
    a, b = lab(tmp_path / "a"), lab(tmp_path / "b", range(6, 9))
    plan = b.read_plan(STUDY.name, PROFILE) or {}
    moved = [{**cell, "seed": cell["seed"] - 6} for cell in plan["cells"]]
    b.write_plan(STUDY.name, PROFILE, {**plan, "cells": moved})
    whose = [view.held_by for view in together(tmp_path, a, b).views]
    assert whose == [{(STUDY.name, PROFILE): [name]} for name in "ab"]
    build([a.root, b.root], tmp_path / "site", UNKNOWN)
    index = (tmp_path / "site" / "index.html").read_text()
    assert "<br>a" in index and "<br>b" in index, "each is said to be of its store"


def test_one_look_at_seeds_makes_all_sequential(tmp_path: Path) -> None:
    a, b = lab(tmp_path / "a", range(3)), lab(tmp_path / "b", range(3, 6))
    plan = b.read_plan(STUDY.name, PROFILE) or {}
    b.write_plan(STUDY.name, PROFILE, {**plan, "sequential": True})
    (view,) = together(tmp_path, a, b).views
    assert load_evidence(view.store, STUDY, PROFILE).sequential


def test_references_that_differ_are_said(tmp_path: Path) -> None:
    a, b = lab(tmp_path / "a"), Store(tmp_path / "b", create=True)
    b.write(again(a, trial_at(a, "dc", 0)))
    b.write_reference(PROTOCOL, {"fid": 1.5})
    (line,) = together(tmp_path, a, b).said
    assert "differ in the scores of real images" in line


def again(store: Store, trial_id: str) -> TrialResult:
    """The trial, as a run would write it."""
    protocol, scores = store.read_scores(trial_id)[PROTOCOL.protocol_id]
    weights = store.read_weights(trial_id)
    return TrialResult(spec=store.read_spec(trial_id), status="ok", protocol=protocol, scores=scores, weights=weights)


def test_stores_of_one_name_are_told_apart(tmp_path: Path) -> None:
    stores = [lab(tmp_path / name / "runs", range(1)) for name in ("oslo", "lima")]
    assert list(together(tmp_path, *stores).names) == ["lima/runs", "oslo/runs"]
    assert len(opened([stores[0].root, stores[0].root], lambda line: None)) == 1


def test_nothing_is_written_into_stores(tmp_path: Path, quick: None) -> None:
    a, b = lab(tmp_path / "a"), lab(tmp_path / "b", day=2)
    before = [tree(store.root) for store in (a, b)]
    build([a.root, b.root], tmp_path / "site", UNKNOWN)
    assert [tree(store.root) for store in (a, b)] == before
