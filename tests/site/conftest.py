"""Stores of made-up results that labs may have, and a site of them. No number in them is a measurement."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.catalog import Catalog
from harness.site import build as building
from harness.site.build import build
from harness.spec import ScoreProtocol, TrialSpec
from harness.storage.result import TrialResult
from harness.storage.store import Store
from studies import STUDIES
from studies.catalog import CATALOG
from tests.analysis.conftest import FINGERPRINT, fill, made_up_curves, made_up_grid, make_protocol
from tests.unit.test_spec import VALUES

STUDY = STUDIES["architecture"]
PROFILE = "laptop"
PROTOCOL, OTHER = make_protocol(), make_protocol(1000)
UNKNOWN = Catalog({}, {})
"""Of nothing: a site of it has no study's page, and is made at once."""
LONG = "x" * 300
"""A name without a space, as a hash, a path or an error may have."""
HOME = "/home/somebody/pictures/faces"


def lab(
    folder: Path,
    seeds: Iterable[int] = range(6),
    *,
    day: int = 1,
    shift: Mapping[tuple[str, int], float] | None = None,
    status: Mapping[tuple[str, int], str] | None = None,
    protocol: ScoreProtocol = PROTOCOL,
) -> Store:
    """A store with these seeds of a study, all arms.

    Args:
        folder: Where.
        seeds: The same seed has the same result in every lab, but for dates and seconds.
        day: Of the month, on which its trials began.
        shift: (arm, seed) -> by what factor its FID is another one's, as on another processor; its weights, too.
        status: (arm, seed) -> how it ended, if not well.
        protocol: Of its scores.
    """
    store, cells = Store(folder, create=True), []
    for run in STUDY.at(PROFILE).runs(max(seeds) + 1, lambda *_: FINGERPRINT):
        if run.seed not in seeds:
            continue
        cells.append({"arm": run.arm, "seed": run.seed, "trial_id": run.spec.trial_id})
        rng = np.random.default_rng([len(run.arm), run.seed])
        factor = (shift or {}).get((run.arm, run.seed), 1.0)
        fid = float(rng.lognormal(4, 0.1)) * (3 if run.arm.startswith("fc") else 1) * factor
        scores = {"fid": fid, "is_mean": 6.5, "kid": fid / 1000, "precision": 0.6, "recall": 0.5}
        made = {"date": f"2026-01-{day:02d}T00:00:00Z", "cpu": f"Processor {day}", "commit": "0123456789ab"}
        ended = (status or {}).get((run.arm, run.seed), "ok")
        store.write(
            TrialResult(
                spec=run.spec,
                status=ended,
                error="" if ended == "ok" else "the worker was lost",
                protocol=protocol,
                scores=scores if ended == "ok" else {},
                cost={"kimg": run.spec.kimg, "seconds": 20.0 + day, "cpu_seconds": 20.0},
                provenance=made,
                curves=made_up_curves(rng, run.spec.kimg, fid),
                weights=f"{run.spec.trial_id} {factor}".encode() if ended == "ok" else b"",
            )
        )  # fmt: skip
    store.write_reference(protocol, {"fid": 1.25, "is_mean": 7.7})
    store.write_plan(STUDY.name, PROFILE, {"protocol_id": protocol.protocol_id, "cells": cells})
    return store


def trial_at(store: Store, arm: str, seed: int) -> str:
    """The trial that fills this place."""
    plan = store.read_plan(STUDY.name, PROFILE) or {}
    return next(cell["trial_id"] for cell in plan["cells"] if (cell["arm"], cell["seed"]) == (arm, seed))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites without Vega, which takes seconds to bring."""
    monkeypatch.setattr(building, "scripts", lambda: ("", "SITE.figures = {};\n"))


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The noise study: a diverged trial, a failed one, some under a second protocol, one of somebody's folder."""
    store = Store(tmp_path_factory.mktemp("noise") / "runs", create=True)
    fill(store, STUDIES["noise"])
    plan = store.read_plan("noise", PROFILE) or {}
    for cell in plan["cells"]:
        if cell["arm"] in ("fc", "dc") and store.status(cell["trial_id"]) == "ok":
            store.add_scores(cell["trial_id"], OTHER, {"fid": 1000.0 + cell["seed"], "is_mean": 1.0})
    spec = TrialSpec(**{**VALUES, "dataset": f"folder:{HOME}", "data_fingerprint": "f" * 16})
    long = replace(PROTOCOL, reference=LONG)
    lost = TrialSpec(**{**VALUES, "dataset": f"folder:{HOME}/{LONG[:90]}", "data_fingerprint": "e" * 16})
    store.write(TrialResult(spec=lost, status="failed", error=LONG, protocol=long, scores={}, cost={"seconds": 1.0}))
    store.write(
        TrialResult(
            spec=spec, status="ok", protocol=replace(PROTOCOL, reference="faces"), scores={"fid": 7.0},
            cost={"seconds": 1.0}, samples_png=made_up_grid(np.random.default_rng(0), 1),
        )
    )  # fmt: skip
    return store


@pytest.fixture(scope="session")
def site(noise: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of that store; tests read it only."""
    out = tmp_path_factory.mktemp("site") / "site"
    build([noise.root], out, CATALOG, processes=2)
    return out
