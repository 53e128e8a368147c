"""Whole studies, from the command line to the report: interrupted, in reused processes, of several ranks."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from harness.execution.contexts import scoring_contexts
from harness.execution.plan import make_plan
from harness.execution.trial import run_trial
from harness.storage.store import Store
from studies.catalog import find
from tests.faults.conftest import (
    PATIENCE,
    TRAINERS,
    Launch,
    MakeStore,
    Program,
    descendants,
    kill,
    outcome,
    wait_for_trials,
    whole_trials,
)
from tests.storage.test_store import everything

TINY = Path(__file__).with_name("tiny.py")
RUN = ["studies", "run", TINY, "--profile", "smoke", "--workers"]
TRIALS, UNTRAINED = 8, 2  # 4 arms, 2 seeds; 2 baselines


def test_ctrl_c_keeps_finished_trials(knowing_store: MakeStore, launch: Launch) -> None:
    place = knowing_store("store")
    first = launch(*RUN, "2", "--store", place)
    wait_for_trials(place, 3, first)
    children = psutil.Process(first.pid).children(recursive=True)
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=PATIENCE)
    assert first.returncode == 130
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "Ctrl-C left processes behind"
    kept = whole_trials(Store(place))
    assert 3 <= len(kept) < TRIALS
    assert f"interrupted: {len(kept)} finished trials kept in" in errors and "Traceback" not in errors
    before = {k: v for k, v in everything(place / "trials").items() if not k.startswith(".")}

    second = launch(*RUN, "2", "--store", place)
    output, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, errors
    assert f"{TRIALS - len(kept)} of {TRIALS} trials to run" in errors
    assert len(whole_trials(Store(place))) == TRIALS + UNTRAINED
    after = everything(place / "trials")
    assert all(after[name] == content for name, content in before.items()), "a finished trial was run again"
    assert not list((place / "trials").glob(".*"))
    assert (place / "reports" / "tiny-smoke" / "tiny.html").exists() and "FID" in output

    score = ["studies", "score", TINY, "--profile", "smoke", "--num-generated", "40", "--workers", "1", "--store"]
    third = launch(*score, place)
    wait_until(lambda: number_of_scores(place) > 1, third)
    kill(wait_until(lambda: descendants(third, "ray::_Scorer"), third))
    wait_until(lambda: number_of_scores(place) > 3, third)
    os.killpg(third.pid, signal.SIGINT)
    _, errors = third.communicate(timeout=PATIENCE)
    assert third.returncode == 130 and "interrupted: scores so far kept" in errors
    assert "its worker died; started again" in errors and "Traceback" not in errors and "(raylet)" not in errors
    kept = number_of_scores(place)
    assert 4 <= kept < TRIALS + UNTRAINED
    fourth = launch(*score, place)
    _, errors = fourth.communicate(timeout=PATIENCE)
    assert fourth.returncode == 0, errors
    assert f"{TRIALS + UNTRAINED - kept} of {TRIALS + UNTRAINED} finished trials to score" in errors
    assert number_of_scores(place) == TRIALS + UNTRAINED and whole_trials(Store(place))


def number_of_scores(place: Path) -> int:
    """How many trials have scores under a second protocol."""
    return sum(len(list(folder.glob("[!.]*.json"))) == 2 for folder in place.glob("trials/[!.]*/scores"))


def wait_until(met: Callable[[], Any], process: Program) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := met()):
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.01)
    return found


def test_a_reused_process_gives_what_another_gives(knowing_store: MakeStore, launch: Launch) -> None:
    """One worker's process runs all trials, one after the other; this process runs them the other way round."""
    place = knowing_store("store")
    process = launch(TRAINERS, place, 1, 1, TINY.name)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    store, study = Store(place), find(str(TINY))
    assert len(whole_trials(store)) == TRIALS // 2 + UNTRAINED
    profile, specs = study.profile("smoke"), list(make_plan(study, "smoke", 1, store).specs.values())
    contexts = scoring_contexts(study, specs, profile.extractor, profile.num_generated, store, print)
    there, here = store, Store(place.with_name("here"), create=True)
    for spec in reversed(specs):
        here.write(run_trial(spec, contexts[spec.data_fingerprint]))
        assert outcome(here, spec.trial_id) == outcome(there, spec.trial_id)


def test_one_and_two_ranks_side_by_side(knowing_store: MakeStore, launch: Launch) -> None:
    place = knowing_store("store")
    process = launch(TRAINERS, place, 1, 3, "small.py")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    store = Store(place)
    specs = [spec for spec in map(store.read_spec, whole_trials(store)) if spec.architecture == "dc" and spec.kimg > 0]
    curves = {spec.world_size: store.read_curves(spec.trial_id) for spec in specs}
    assert curves.keys() == {1, 2}
    first = [curves[ranks].loc[0, ["d_loss", "g_loss"]] for ranks in (1, 2)]
    np.testing.assert_allclose(*first, rtol=1e-4)  # later steps amplify the last digits
