"""A store with four trials that were really trained, for a few steps, and what is known of them."""

from pathlib import Path

import pytest

from harness.data import PreparedData
from harness.execution.trial import TrialContext, run_trial
from harness.scoring.extractors import Extractor
from harness.scoring.fidelity import make_protocol
from harness.spec import TrialSpec
from harness.storage.result import TrialResult
from harness.storage.store import Store
from studies.baselines import DC, FC
from tests.unit.test_spec import VALUES

ARMS = {"fc": FC, "dc": {**DC, "latent_std": 0.5}}


def small(base, digits: PreparedData, **changes) -> TrialSpec:
    sizes = {"kimg": 0.3, "generator_width": 8, "discriminator_width": 8, "latent_dim": 16}
    return TrialSpec(**{**VALUES, **base, **sizes, "data_fingerprint": digits.fingerprint, **changes})


@pytest.fixture(scope="session")
def context(digits: PreparedData, extractor: Extractor, cache: Path) -> TrialContext:
    protocol = make_protocol(extractor, digits, num_generated=250)
    return TrialContext(data=digits, extractor=extractor, protocol=protocol, cache=cache, provenance={"commit": "abc"})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, context: TrialContext, digits: PreparedData) -> Store:
    """Two arms, two seeds each, and one trial more that diverged. Tests read it only."""
    store = Store(tmp_path_factory.mktemp("using") / "runs", create=True)
    cells = []
    for arm, base in ARMS.items():
        for seed in (0, 1):
            spec = small(base, digits, seed=seed)
            store.write(run_trial(spec, context))
            cells.append({"arm": arm, "seed": seed, "trial_id": spec.trial_id})
    spec = small(FC, digits, seed=2)
    store.write(TrialResult(spec=spec, status="diverged", error="d_loss is nan at step 3", cost={"seconds": 1.0}))
    cells.append({"arm": "fc", "seed": 2, "trial_id": spec.trial_id})
    store.write_plan("tiny", "smoke", {"protocol_id": context.protocol.protocol_id, "cells": cells})
    return store


@pytest.fixture(scope="session")
def trial_ids(trained: Store) -> dict[tuple[str, int], str]:
    """(arm, seed) -> trial_id."""
    plan = trained.read_plan("tiny", "smoke") or {}
    return {(cell["arm"], cell["seed"]): cell["trial_id"] for cell in plan["cells"]}
