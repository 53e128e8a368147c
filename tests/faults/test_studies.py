"""Whole studies: scored while processes die, in reused processes, of several ranks."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
    whole_trials,
)

TINY = Path(__file__).with_name("tiny.py")
TRIALS, UNTRAINED = 8, 2  # 4 arms, 2 seeds; 2 baselines


@pytest.fixture(scope="module")
def finished(cache: Path, extractor: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the whole study, all of whose trials one worker's process has run, one after the other."""
    place = Store(tmp_path_factory.mktemp("finished") / "store", create=True).root
    shutil.copytree(cache, place / "cache", dirs_exist_ok=True)
    words = [sys.executable, "-m", TRAINERS, place, 2, 1, TINY.name]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert len(whole_trials(Store(place))) == TRIALS + UNTRAINED
    return place


def test_scoring_survives_a_kill_and_ctrl_c(finished: Path, launch: Launch, tmp_path: Path) -> None:
    place = Path(shutil.copytree(finished, tmp_path / "store"))
    score = ["studies", "score", TINY, "--profile", "smoke", "--num-generated", "40", "--workers", "1", "--store"]
    first = launch(*score, place)
    wait_until(lambda: number_of_scores(place) > 1, first)
    kill(wait_until(lambda: descendants(first, "ray::_Scorer"), first))
    wait_until(lambda: number_of_scores(place) > 3, first)
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=PATIENCE)
    assert first.returncode == 130 and "interrupted: scores so far kept" in errors
    assert "its worker died; started again" in errors and "Traceback" not in errors and "(raylet)" not in errors
    kept = number_of_scores(place)
    assert 4 <= kept < TRIALS + UNTRAINED
    second = launch(*score, place)
    _, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, errors
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


def test_a_reused_process_gives_what_another_gives(finished: Path, tmp_path: Path) -> None:
    """This process runs the first seed's trials the other way round."""
    store, study = Store(finished), find(str(TINY))
    profile, specs = study.profile("smoke"), list(make_plan(study, "smoke", 1, store).specs.values())
    assert len(specs) == TRIALS // 2 + UNTRAINED
    contexts = scoring_contexts(study, specs, profile.extractor, profile.num_generated, store, print)
    here = Store(tmp_path / "here", create=True)
    for spec in reversed(specs):
        here.write(run_trial(spec, contexts[spec.data_fingerprint]))
        assert outcome(here, spec.trial_id) == outcome(store, spec.trial_id)


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
