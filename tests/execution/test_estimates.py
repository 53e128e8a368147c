"""A plan's guess knows what networks cost that are slow on a processor, for each trial and before the first one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.execution.contexts import scoring_contexts
from harness.execution.estimates import feature_seconds
from harness.execution.plan import Plan, describe, make_plan
from harness.storage.store import Store
from studies import STUDIES
from studies.noise import NOISE
from tests.data.test_inspection import put_digits


def plan_by(store: Store, extractor: str, also: tuple[str, ...] = ()) -> Plan:
    study = STUDIES["architecture"]
    profiles = [replace(profile, extractor=extractor) for profile in study.profiles]
    questions = [replace(study.questions[0], also=also), *study.questions[1:]]
    return make_plan(replace(study, profiles=tuple(profiles), questions=tuple(questions)), "smoke", 1, store)


def takes(plan: Plan) -> float:
    return plan.core_seconds.seconds["fc"]


def test_plans_know_slow_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, number = Store(tmp_path / "runs", create=True), 500
    quick, slow = plan_by(store, ""), plan_by(store, "inception-v3")
    assert takes(slow) - takes(quick) == pytest.approx(number / 6.0), "six images a second"
    beside = plan_by(store, "", ("fid@inception-v3",))
    assert takes(beside) == pytest.approx(takes(slow))
    scoring = "inception-v3 scores the real images"
    assert sum(quick.beforehand.values()) == 0 and beside.beforehand[scoring] == pytest.approx(2 * number / 6.0)
    lines = [line.strip() for line in describe(beside, 1, tmp_path)]
    assert "about 3 min of that before the first trial: inception-v3 scores the real images" in lines
    assert not any("before the first" in line for line in describe(quick, 1, tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert feature_seconds("inception-v3", 500) == 0, "on a GPU nobody knows"


def test_plans_know_that_classifiers_learn_first(tmp_path: Path) -> None:
    """Of pictures whose classifier neither ships nor is in the store; each size has its own."""
    put_digits(tmp_path / "digits", {0: "a", 1: "b"})
    study, store = STUDIES["architecture"], Store(tmp_path / "runs", create=True)
    shape, name = {"resolution": 64, "channels": 1}, f"folder:{tmp_path / 'digits'}"
    large = [profile.fitted(shape, 4, study.baselines, name) for profile in study.profiles]
    learning = "a classifier learns folder:"
    lines = describe(make_plan(replace(study, profiles=tuple(large)), "smoke", 1, store), 1, tmp_path)
    assert sum(learning in line and "64×64" in line for line in lines) == 1
    assert not any(learning in line for line in describe(plan_by(store, ""), 1, tmp_path)), "that of digits ships"


@pytest.mark.parametrize(
    ("extractor", "said"),
    [
        ("classifier", "that scores "),
        ("imagenet-lite0", "that follows the curves on "),
    ],
)
def test_the_last_line_is_what_goes_on(
    extractor: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_digits(tmp_path / "pictures")
    store, lines = Store(tmp_path / "store", create=True), list[str]()
    specs = make_plan(NOISE, f"smoke@folder:{tmp_path / 'pictures'}", 1, store).specs.values()

    def learn(*_: object) -> None:
        assert lines[-1].startswith(f"training the classifier {said}")
        raise InterruptedError

    monkeypatch.setattr("harness.scoring.yardstick.train_classifier", learn)
    with pytest.raises(InterruptedError):
        scoring_contexts(NOISE, specs, extractor, 40, store, lines.append)
