"""A plan's guess knows what networks cost that are slow on a processor, for each trial and before the first one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.execution.estimates import feature_seconds
from harness.execution.plan import Plan, describe, make_plan
from harness.storage.store import Store
from studies import STUDIES


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
    assert quick.beforehand["classifier"] == 0 and beside.beforehand["inception-v3"] == pytest.approx(2 * number / 6.0)
    lines = [line.strip() for line in describe(beside, 1, tmp_path)]
    assert "about 3 min of these before the first trial: inception-v3 scores the real images" in lines
    assert not any("before the first" in line for line in describe(quick, 1, tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert feature_seconds("inception-v3", 500) == 0, "on a GPU nobody knows"
