"""Scores under a further protocol, from stored weights, in other processes."""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from harness.analysis import results
from harness.errors import UserError
from harness.execution.contexts import scoring_contexts
from harness.execution.plan import make_plan
from harness.execution.progress import Progress
from harness.execution.rescore import rescore
from harness.execution.run_study import run_study
from harness.execution.trial import TrialContext, run_trial, score_stored
from harness.scoring.extractors import Extractor
from harness.spec import TrialSpec
from harness.storage.integrity import check
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.study import Contrast, Factor, Study
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


def test_stored_weights_give_the_same_scores(store: Store, context: TrialContext) -> None:
    for trial_id in finished(store):
        ((_, own),) = [v for k, v in store.read_scores(trial_id).items() if k == context.protocol.protocol_id]
        again = score_stored(store.read_spec(trial_id), store.read_weights(trial_id), context)
        assert (
            again.status == "ok" and again.scores == own and own["fid"] > 0 and {"fid_at_25", "fid_at_50"} <= own.keys()
        )


def in_this_process(
    specs: Iterable[TrialSpec], contexts: Mapping[str, TrialContext], store: Store, progress: Progress, *_: object
) -> None:
    """Stands in for Ray."""
    for spec in specs:
        result = score_stored(spec, store.read_weights(spec.trial_id), contexts[spec.data_fingerprint])
        store.write(result)
        progress.finished(spec.trial_id, result.status, result.scores["fid"], 0.0)


def test_another_protocol_is_added_and_nothing_changes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def content() -> dict[Path, str]:
        files = [p for p in (store.root / "trials").rglob("*") if p.is_file()]
        return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    monkeypatch.setattr("harness.execution.ray_backend.run_trials", in_this_process)
    before, lines = content(), []
    found = rescore(STUDY, "smoke", store, 2, lines.append, extractor="classifier", num_generated=60)
    assert "2 of 2 finished trials to score, 2 at once" in lines
    after = content()
    new = set(after) - set(before)
    assert len(new) == 2 and {p.parent.name for p in new} == {"scores"}
    assert {p: after[p] for p in before} == before, "weights and scores that were there are as they were"
    (protocol_id,) = {p.stem for p in new}
    assert found == (protocol_id, True)
    assert store.read_reference(protocol_id)["fid"] > 0, "the real-vs-real reference is there, too"
    assert list(check(store)) == []

    lines.clear()
    monkeypatch.setitem(sys.modules, "harness.execution.ray_backend", None)  # which raises where it is imported
    rescore(STUDY, "smoke", store, 2, lines.append, extractor="classifier", num_generated=60)
    assert "0 of 2 finished trials to score, 2 at once" in lines and content() == after


def test_networks_that_questions_name_score_too(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run trains and scores by the profile's own, then scores by the others; both are in the plan and the table."""
    calls: list[int] = []

    def trained_here(specs: Iterable[TrialSpec], contexts: Mapping[str, TrialContext], *rest: Any) -> None:
        specs = list(specs)
        calls.append(len(specs))
        for spec in specs if rest[0].status(specs[0].trial_id) is None else ():
            rest[0].write(run_trial(spec, contexts[spec.data_fingerprint]))
        in_this_process([s for s in specs if len(calls) > 1], contexts, *rest)

    monkeypatch.setattr("harness.execution.ray_backend.run_trials", trained_here)
    store = Store(tmp_path / "store", create=True)
    (store.root / "cache").symlink_to(cache)
    factor = Factor.of_field("latent_std", (1.0, 2.0), label="σ")
    words = {"text": "", "hypothesis": "", "expected": "lower"}
    asked = Contrast("q", "fc", factor, also=("fid@imagenet-lite0", "fid@classifier"), **words)
    profile = replace(STUDY.profiles[0], changes={**STUDY.profiles[0].changes, "kimg": 0.1}, num_generated=20)
    study = replace(STUDY, questions=(asked,), baselines={"fc": STUDY.baselines["fc"]}, profiles=(profile,))
    lines: list[str] = []
    assert run_study(study, "smoke", 1, store, 1, lines.append)
    assert (
        calls == [3, 3] and "3 trials to score by imagenet-lite0, which questions name" in lines
    )  # an untrained one, too
    plan = store.read_plan(study.name, "smoke")
    assert plan is not None
    for cell in plan["cells"]:
        scored = store.read_scores(cell["trial_id"])
        assert scored.keys() == {cell["protocol_id"], cell["also"]["imagenet-lite0"]}
        assert scored[cell["also"]["imagenet-lite0"]][0].extractor == "imagenet-lite0"
        assert cell["also"]["classifier"] == cell["protocol_id"]
    rows = results.load(store, study=study.name, profile="smoke")
    pd.testing.assert_frame_equal(results.load(store, study=study.name), rows)
    assert (
        (rows["fid@classifier"] == rows.fid).all() and (rows["fid@imagenet-lite0"] != rows.fid).all() and len(rows) == 2
    )
    assert run_study(study, "smoke", 1, store, 1, lines.append) and calls == [3, 3], "nothing is scored again"


def test_unknown_networks_in_metrics_are_refused(tmp_path: Path) -> None:
    factor = Factor.of_field("latent_std", (1.0, 2.0), label="σ")
    asked = Contrast("q", "fc", factor, text="", hypothesis="", expected="lower", also=("fid@inception",))
    with pytest.raises(UserError, match="unknown extractor in the metrics of study 'noise': 'inception'"):
        make_plan(replace(STUDY, questions=(asked,)), "smoke", 1, None)
    by_it = tuple(replace(profile, extractor="inception") for profile in STUDY.profiles)
    with pytest.raises(
        UserError, match="unknown extractor in profile 'smoke': 'inception' .did you mean 'inception-v3'"
    ):
        make_plan(replace(STUDY, profiles=by_it), "smoke", 1, None)


def test_samples_that_are_not_finite_have_no_score(store: Store, context: TrialContext) -> None:
    spec = store.read_spec(finished(store)[0])
    weights = safetensors.torch.load(store.read_weights(spec.trial_id))
    broken = {name: value * torch.nan if value.is_floating_point() else value for name, value in weights.items()}
    result = score_stored(spec, safetensors.torch.save(broken), context)
    assert result.status == "diverged" and not result.scores and "there is no score" in result.error
    store.write(result)
    assert store.status(spec.trial_id) == "ok", "a finished trial stays as it is"


def test_an_untrained_generator_has_no_budget(store: Store, context: TrialContext) -> None:
    for trial_id in finished(store):
        untrained = run_trial(replace(store.read_spec(trial_id), kimg=0.0), context)
        own = score_stored(store.read_spec(trial_id), store.read_weights(trial_id), context).scores
        assert (
            untrained.status == "ok" and untrained.scores.keys() == own.keys() and untrained.scores["fid"] != own["fid"]
        )
        assert untrained.scores["fid"] > store.read_reference(context.protocol.protocol_id)["fid"]
        assert untrained.curves is not None and untrained.curves.empty and untrained.samples_png


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extractor": "inceptoin-v3"}, "unknown extractor 'inceptoin-v3' (did you mean 'inception-v3'?)"),
        ({"num_generated": 3}, "num_generated=3 is out of range; allowed: 20 to 1,000,000"),
        ({"workers": 0}, "workers=0 is out of range"),
    ],
)
def test_bad_requests_are_refused_before_work(store: Store, options: dict, message: str) -> None:
    values = {"extractor": "classifier", "num_generated": None, "workers": 1, **options}
    with pytest.raises(UserError) as caught:
        rescore(STUDY, "smoke", store, say=lambda line: None, **values)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_store_without_the_study_says_so(tmp_path: Path) -> None:
    from harness.cli import app
    from studies.catalog import CATALOG

    Store(tmp_path / "store", create=True)
    words = ["score", "noise", "--profile", "smoke", "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(app, words, obj=CATALOG)
    assert isinstance(done.exception, UserError) and "has no finished trial" in str(done.exception)


OTHER: Study = replace(STUDY, profiles=(replace(STUDY.profiles[0], num_generated=80),))
"""As after an upgrade of a library that computes scores: under another protocol."""

RUN = """
import sys
from harness.execution.run_study import run_study
from harness.storage.store import Store
from tests.execution.test_rescore import OTHER
print(run_study(OTHER, "smoke", 1, Store(sys.argv[1]), 2, print))
"""


def test_a_run_scores_stored_weights_beside_training(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real Ray, in a process of its own; which a finished study does not import."""
    weights = {trial_id: store.read_weights(trial_id) for trial_id in finished(store)}
    before = set(store.trial_ids())
    command = [sys.executable, "-c", RUN, str(store.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and done.stdout.endswith("True\n"), done.stderr
    assert len(weights) == 2 and "2 finished trials have no scores under this protocol" in done.stdout
    new = [store.read_spec(trial_id) for trial_id in set(store.trial_ids()) - before]
    assert [spec.kimg for spec in new] == [0.0] * 3, "the untrained generators are all that was missing"
    for trial_id, content in weights.items():
        (scores,) = [s for protocol, s in store.read_scores(trial_id).values() if protocol.num_generated == 80]
        assert scores["fid"] > 0 and store.read_weights(trial_id) == content
    assert done.stderr.count(": FID ") == 5 and len(done.stderr.splitlines()) == 5

    lines: list[str] = []
    monkeypatch.setitem(sys.modules, "harness.execution.ray_backend", None)
    assert run_study(OTHER, "smoke", 1, store, 2, lines.append)
    assert "nothing to run" in lines[-1]
