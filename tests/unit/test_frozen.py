"""Which trials and protocols every study is made of, written down: a change here renames results, and has to be meant.

`python -m tests.unit.test_frozen` writes what the code of today gives; do so only where the change is meant.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.scoring.extractors import Extractor, default_extractor
from harness.scoring.fidelity import make_protocol
from harness.spec import TrialSpec
from studies.catalog import STUDIES

FROZEN = Path(__file__).with_name("frozen_trials.json")
PLACES = [(study.name, profile.name) for study in STUDIES.values() for profile in study.profiles]


def expand(study: str, profile: str) -> list[tuple[str, int, TrialSpec]]:
    """(arm, seed, spec) of every cell of the study, on data whose fingerprint is 0."""
    runs = STUDIES[study].at(profile).runs(None, lambda *_: "0" * 16)
    return [(run.arm, run.seed, run.spec) for run in runs]


@dataclass(frozen=True, kw_only=True)
class MadeUpData:
    """Of prepared data what a protocol asks for; there are 2,400 reference images, all black."""

    dataset: str
    resolution: int
    channels: int
    num_classes: int = 10

    def images(self, part: str) -> np.ndarray:
        assert part == "reference"
        return np.zeros((2400, self.channels, self.resolution, self.resolution), dtype=np.uint8)


@cache
def protocol_id(extractor: str, num_generated: int, dataset: str, resolution: int, channels: int) -> str:
    """The protocol under a made-up extractor, on made-up images; the data's own extractor where none is named."""
    data: Any = MadeUpData(dataset=dataset, resolution=resolution, channels=channels)
    name = extractor or default_extractor(data)
    made_up = Extractor(name=name, weights_path=Path("made-up"), weights_hash="e" * 16, channels=channels)
    return make_protocol(made_up, data, num_generated=num_generated).protocol_id


def frozen(study: str, profile: str) -> dict[str, object]:
    """How many cells; the SHA-256 over "arm, seed, trial_id" of all of them; how many cells each protocol scores."""
    cells, chosen = expand(study, profile), STUDIES[study].profile(profile)
    lines = "".join(f"{arm}\t{seed}\t{spec.trial_id}\n" for arm, seed, spec in cells)
    protocols: dict[str, int] = {}
    for _, _, spec in cells:
        at = protocol_id(chosen.extractor, chosen.num_generated, spec.dataset, spec.resolution, spec.channels)
        protocols[at] = protocols.get(at, 0) + 1
    sha256 = hashlib.sha256(lines.encode()).hexdigest()[:16]
    return {"cells": len(cells), "sha256": sha256, "protocols": protocols}


@pytest.mark.parametrize(("study", "profile"), PLACES)
def test_trials_and_protocols_keep_their_names(study: str, profile: str) -> None:
    assert frozen(study, profile) == json.loads(FROZEN.read_text())[f"{study} {profile}"]


def test_every_study_and_profile_is_frozen() -> None:
    assert json.loads(FROZEN.read_text()).keys() == {f"{study} {profile}" for study, profile in PLACES}


if __name__ == "__main__":
    found = {f"{study} {profile}": frozen(study, profile) for study, profile in PLACES}
    FROZEN.write_text(json.dumps(found, indent=1) + "\n")
