"""Scores under a further protocol, from stored weights, in other processes."""

import hashlib
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from harness.analysis import results
from harness.errors import UserError
from harness.execution.plan import make_plan
from harness.execution.rescore import choose_protocol, rescore
from harness.execution.run_study import run_study, scoring_contexts
from harness.execution.scoring_pool import _take_gpu
from harness.execution.trial import TrialContext, run_trial, score_weights
from harness.scoring.extractors import Extractor
from harness.spec import TrialSpec
from harness.storage.integrity import check
from harness.storage.store import Store, TrialResult
from harness.study import Study
from studies.noise import NOISE

SMOKE = NOISE.profile("smoke")
STUDY: Study = replace(
    NOISE, questions=(), profiles=(replace(SMOKE, changes={**SMOKE.changes, "kimg": 0.2}, num_generated=100),)
)
"""Three baselines, six steps each."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, cache: Path, extractor: Extractor) -> Store:
    """A store as a run leaves it, with two trials that finished and one that diverged."""
    store = Store(tmp_path_factory.mktemp("rescoring") / "store", create=True)
    (store.root / "cache").symlink_to(cache)  # the digits and the classifier are there
    plan = make_plan(STUDY, "smoke", 1, store)
    contexts = scoring_contexts(STUDY, [run.spec for run in plan.runs], "classifier", 100, store, lambda line: None)
    (context,) = contexts.values()
    first, second, third = (run.spec for run in plan.pending())
    store.write(run_trial(first, context))
    store.write(run_trial(second, context))
    store.write(TrialResult(spec=third, status="diverged", error="D's loss"))
    cells = [{"arm": c.arm, "seed": c.seed, "trial_id": c.spec.trial_id} for c in plan.runs]
    own = context.protocol.protocol_id
    store.write_plan("noise", "smoke", {"study": "noise", "profile": "smoke", "protocol_id": own, "cells": cells})
    return store


@pytest.fixture(scope="module")
def context(store: Store) -> TrialContext:
    plan = make_plan(STUDY, "smoke", 1, store)
    (found,) = scoring_contexts(
        STUDY, [run.spec for run in plan.runs], "classifier", 100, store, lambda line: None
    ).values()
    return found


def finished(store: Store) -> list[str]:
    return [trial_id for trial_id in store.trial_ids() if store.status(trial_id) == "ok"]


def test_several_processes_share_out_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none here: which one each would take."""
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    turn = multiprocessing.Value("i")
    for _ in range(3):
        _take_gpu(turn)
    assert taken == [0, 1, 0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    _take_gpu(turn)
    assert taken == [0, 1, 0]


def test_stored_weights_give_exactly_the_scores_of_the_trial(store: Store, context: TrialContext) -> None:
    for trial_id in finished(store):
        ((_, own),) = [v for k, v in store.read_scores(trial_id).items() if k == context.protocol.protocol_id]
        again = score_weights(store.read_spec(trial_id), store.read_weights(trial_id), context)
        assert again == own and own["fid"] > 0 and {"fid_at_25", "fid_at_50"} <= own.keys()


def test_another_protocol_is_added_once_and_nothing_else_changes(store: Store) -> None:
    def content() -> dict[Path, str]:
        files = [p for p in (store.root / "trials").rglob("*") if p.is_file()]
        return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    before, lines = content(), []
    rescore(STUDY, "smoke", store, extractor="classifier", num_generated=60, workers=2, say=lines.append)
    assert "2 of 2 finished trials to score, 2 at once" in lines
    after = content()
    new = set(after) - set(before)
    assert len(new) == 2 and {p.parent.name for p in new} == {"scores"}
    assert {p: after[p] for p in before} == before, "weights and scores that were there are as they were"
    (protocol_id,) = {p.stem for p in new}
    assert store.read_reference(protocol_id)["fid"] > 0, "the floor is there, too"
    assert list(check(store)) == []

    lines.clear()
    rescore(STUDY, "smoke", store, extractor="classifier", num_generated=60, workers=2, say=lines.append)
    assert "0 of 2 finished trials to score, 2 at once" in lines and content() == after

    own = results.load(store, study="noise", profile="smoke")
    choose_protocol(STUDY, "smoke", store, protocol_id)
    chosen = results.load(store, study="noise", profile="smoke")
    assert set(chosen.protocol_id) == {protocol_id, ""} and len(chosen) == 3
    assert (chosen.fid.dropna() != own.fid.dropna()).all()
    with pytest.raises(UserError, match="'classifier' names several: take an id; there: .*60 generated"):
        choose_protocol(STUDY, "smoke", store, "classifier")
    with pytest.raises(UserError, match="'clip' has no scores"):
        choose_protocol(STUDY, "smoke", store, "clip")


def test_an_untrained_generator_is_a_trial_of_no_budget(store: Store, context: TrialContext) -> None:
    for trial_id in finished(store):
        ceiling = run_trial(replace(store.read_spec(trial_id), kimg=0.0), context)
        own = score_weights(store.read_spec(trial_id), store.read_weights(trial_id), context)
        assert ceiling.status == "ok" and ceiling.scores.keys() == own.keys() and ceiling.scores["fid"] != own["fid"]
        assert ceiling.scores["fid"] > store.read_reference(context.protocol.protocol_id)["fid"]
        assert ceiling.curves is not None and ceiling.curves.empty and ceiling.samples_png


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extractor": "inceptoin-v3"}, "unknown extractor 'inceptoin-v3' (did you mean 'inception-v3'?)"),
        ({"num_generated": 3}, "num_generated=3 is out of range; allowed: at least 20"),
        ({"workers": 0}, "workers=0 is out of range"),
    ],
)
def test_bad_requests_are_refused_before_work(store: Store, options: dict, message: str) -> None:
    values = {"extractor": "classifier", "num_generated": None, "workers": 1, "say": lambda line: None, **options}
    with pytest.raises(UserError) as caught:
        rescore(STUDY, "smoke", store, **values)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_store_without_the_study_says_so(tmp_path: Path) -> None:
    from harness.cli import app
    from studies.catalog import CATALOG

    Store(tmp_path / "store", create=True)
    words = ["score", "noise", "--profile", "smoke", "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(app, words, obj=CATALOG)
    assert isinstance(done.exception, UserError) and "has no finished trial" in str(done.exception)


def test_a_run_under_another_protocol_scores_what_is_there_and_trains_nothing_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade of a library that computes scores."""
    trained: list[TrialSpec] = []
    monkeypatch.setattr("harness.execution.ray_backend.run_trials", lambda specs, *_: trained.extend(specs))
    study = replace(STUDY, profiles=(replace(STUDY.profiles[0], num_generated=80),))
    weights = {trial_id: store.read_weights(trial_id) for trial_id in finished(store)}
    lines: list[str] = []
    run_study(study, "smoke", 1, store, 2, lines.append)
    assert len(weights) == 2 and "2 finished trials have no scores under this protocol" in "".join(lines)
    assert [spec.kimg for spec in trained] == [0.0] * 3, "the untrained generators are all that is missing"
    for trial_id, content in weights.items():
        assert 80 in {protocol.num_generated for protocol, _ in store.read_scores(trial_id).values()}
        assert store.read_weights(trial_id) == content
