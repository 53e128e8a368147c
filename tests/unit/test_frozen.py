"""Which trials every study is made of, written down: a change here renames results, and has to be meant."""

import hashlib
import json
from pathlib import Path

import pytest

from studies.catalog import STUDIES

FROZEN = Path(__file__).with_name("frozen_trials.json")
PLACES = [(study.name, profile.name) for study in STUDIES.values() for profile in study.profiles]


def trials(study: str, profile: str) -> dict[str, object]:
    """How many cells, and the SHA-256 over "arm, seed, trial_id" of all of them; on data whose fingerprint is 0."""
    runs = STUDIES[study].at(profile).runs(None, lambda *_: "0" * 16)
    lines = "".join(f"{run.arm}\t{run.seed}\t{run.spec.trial_id}\n" for run in runs)
    return {"cells": len(runs), "sha256": hashlib.sha256(lines.encode()).hexdigest()[:16]}


@pytest.mark.parametrize(("study", "profile"), PLACES)
def test_trials_keep_their_names(study: str, profile: str) -> None:
    assert trials(study, profile) == json.loads(FROZEN.read_text())[f"{study} {profile}"]
