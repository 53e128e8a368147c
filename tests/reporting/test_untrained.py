"""A page says in words where training has made an arm no better than a generator that was never trained."""

from dataclasses import replace
from pathlib import Path

from harness.analysis.evidence import load_evidence
from harness.reporting.provenance import warnings
from harness.storage.result import TrialResult
from harness.storage.store import Store
from tests.site.conftest import PROTOCOL, STUDY, lab, trial_at


def untrained(store: Store, fid: float) -> None:
    """Give the baseline "fc" an untrained generator with this FID, and "dc" one that is worse than all."""
    plan = store.read_plan(STUDY.name, "laptop") or {}
    ceilings = {}
    for name, its in (("fc", fid), ("dc", 1e9)):
        spec = replace(store.read_spec(trial_at(store, name, 0)), kimg=0.0)
        store.write(TrialResult(spec=spec, status="ok", protocol=PROTOCOL, scores={"fid": its, "is_mean": 1.0}))
        ceilings[name] = spec.trial_id
    store.write_plan(STUDY.name, "laptop", {**plan, "ceilings": ceilings})


def said(store: Store) -> list[str]:
    return [line for line in warnings(load_evidence(store, STUDY, "laptop")) if "untrained" in line]


def test_arms_worse_than_untrained_are_named(tmp_path: Path) -> None:
    store = lab(tmp_path / "runs", range(2))
    assert said(store) == []
    untrained(store, 1000.0)
    assert said(store) == [], "every arm is better"


def test_it_names_the_arm_alone(tmp_path: Path) -> None:
    store = lab(tmp_path / "runs", range(2))
    untrained(store, 50.0)
    (line,) = said(store)
    assert line.startswith("No better than an untrained generator: 1 of 4 arms. Either training has failed")
    assert "training: fc (" in line and line.endswith(", untrained 50.0).") and "dc" not in line
