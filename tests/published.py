"""The published studies, replayed: a store of made-up trials that have the published scores, costs and curve metrics.

`published_store(folder, "noise")` makes it, in about a second a study. Scores, costs, specs, dates and statuses are
those of reports/published/earlier/<study>/results.csv; protocol, versions, machine and the real images' scores are made
up, and there are neither weights nor samples. The curves are the shortest that give the published curve metrics.
"""

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from harness.spec import ScoreProtocol, TrialSpec
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.study import Design
from studies.catalog import STUDIES

PUBLISHED = Path(__file__).parents[1] / "reports" / "published" / "earlier"
STUDIES_PUBLISHED = ("aa", "architecture", "combined", "depth", "modern", "noise", "stabilization")
PROFILE = "laptop"
FINGERPRINT = "d0ad13113b8bfbc2"
SCORES = ("fid", "is_mean", "is_std", "kid", "kid_subset_std", "precision", "recall")
COSTS = (
    "seconds", "cpu_seconds", "d_steps", "discriminator_flops_per_image", "discriminator_parameters", "g_steps",
    "generator_flops_per_image", "generator_parameters", "peak_memory_bytes", "score_seconds", "train_seconds",
)  # fmt: skip
THRESHOLDS = (1000, 300, 100)
PROTOCOL = ScoreProtocol(
    extractor="classifier",
    extractor_hash="5e17a11c5e17a11c",
    reference="mnist-5k/reference",
    reference_hash="0ddba110ddba1100",
    num_reference=2000,
    num_generated=2000,
    resolution=28,
    channels=1,
    kid_subset_size=1000,
    kid_gamma=0.01,
    versions=(("torch-fidelity", "0.4.0"),),
)
REAL = {
    "fid": 1.25, "is_mean": 7.7, "is_std": 0.1, "kid": -0.0002, "kid_subset_std": 0.001, "precision": 0.91,
    "recall": 0.92, "num_images": 2000.0, "extractor_accuracy": 0.95, "extractor_chance": 0.12,
    "extractor_unseen": 2000.0,
}  # fmt: skip
UNTRAINED = {
    "fid": 2000.0, "is_mean": 1.0, "is_std": 0.0, "kid": 5.0, "kid_subset_std": 0.1, "precision": 0.0, "recall": 0.0,
}  # fmt: skip


def published_store(folder: Path, *names: str, sequential: bool = False) -> Store:
    """A store at `folder` that holds these published studies, whole.

    Args:
        folder: Empty, or a store that others were written to before.
        names: Of STUDIES_PUBLISHED.
        sequential: What the plans say of it; the published ones are not.
    """
    store = Store(folder, create=True)
    store.write_reference(PROTOCOL, REAL)
    for name in names:
        _write_study(store, STUDIES[name].at(PROFILE), published_rows(name), sequential)
    return store


def add_profile(store: Store, name: str, profile: str, fid: Callable[[float], float]) -> None:
    """Add a published study at another profile, made up: each trial's scores, with `fid` of its FID."""
    rows = published_rows(name)
    of_place = {(run.arm, run.seed): rows[run.spec.trial_id] for run in STUDIES[name].at(PROFILE).runs(None, _data)}
    other = STUDIES[name].at(profile)
    times = float(other.profile.changes["kimg"]) / float(STUDIES[name].at(PROFILE).profile.changes["kimg"])
    made = {}
    for run in other.runs(None, _data):
        row = of_place[run.arm, run.seed]
        at = {name: str(times * float(value)) for name, value in row.items() if name.startswith("kimg_to") and value}
        made[run.spec.trial_id] = {**row, **at, "fid": str(fid(float(row["fid"])))}
    _write_study(store, other, made, sequential=False)


def published_rows(study: str) -> dict[str, dict[str, str]]:
    """trial_id -> the row of the study's published results.csv, as text."""
    with (PUBLISHED / study / "results.csv").open(newline="") as file:
        return {row["trial_id"]: row for row in csv.DictReader(file)}


def diverge(store: Store, study: str, arm: str, seed: int) -> None:
    """Have one trial of a study's plan be a diverged one; its trial_id stays."""
    plan = store.read_plan(study, PROFILE) or {"cells": []}
    (trial_id,) = (cell["trial_id"] for cell in plan["cells"] if (cell["arm"], cell["seed"]) == (arm, seed))
    spec, stored = store.read_spec(trial_id), store.read_result(trial_id)
    for path in sorted(store.trial_folder(trial_id).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.trial_folder(trial_id).rmdir()
    store.write(
        TrialResult(
            spec=spec,
            status="diverged",
            error="a loss was not finite by step 120 of 782 (3.84 kimg)",
            cost=stored["cost"],
            provenance=stored["provenance"],
        )
    )


def _write_study(store: Store, design: Design, rows: Mapping[str, Mapping[str, str]], sequential: bool) -> None:
    cells = design.runs(None, _data)
    assert {cell.spec.trial_id for cell in cells} == rows.keys(), "the published trials are those of the study"
    for spec in {cell.spec.trial_id: cell.spec for cell in cells}.values():
        store.write(_result(spec, rows[spec.trial_id]))
    untrained = {cell.arm: replace(cell.spec, kimg=0.0) for cell in reversed(cells) if cell.arm in design.baselines}
    for spec in untrained.values():
        store.write(
            TrialResult(
                spec=spec,
                status="ok",
                protocol=PROTOCOL,
                scores=UNTRAINED,
                cost={"seconds": 3.0, "cpu_seconds": 3.0},
                provenance=_provenance({"commit": "6e5d7e387f30", "date": "2026-11-24T19:00:00Z"}),
            )
        )
    store.write_plan(
        design.name,
        design.profile.name,
        {
            "protocol_id": PROTOCOL.protocol_id,
            "sequential": sequential,
            "cells": [
                {
                    "arm": cell.arm,
                    "seed": cell.seed,
                    "trial_id": cell.spec.trial_id,
                    "protocol_id": PROTOCOL.protocol_id,
                }
                for cell in cells
            ],
            "ceilings": {name: spec.trial_id for name, spec in untrained.items()},
        },
    )


def _data(*_: object) -> str:
    return FINGERPRINT


def _result(spec: TrialSpec, row: Mapping[str, str]) -> TrialResult:
    assert row["status"] == "ok", "no published trial diverged or failed"
    return TrialResult(
        spec=spec,
        status="ok",
        protocol=PROTOCOL,
        scores={name: float(row[name]) for name in SCORES},
        cost={"kimg": spec.kimg, **{name: json.loads(row[name]) for name in COSTS}},
        provenance=_provenance(row),
        curves=_curves(spec.kimg, {name: float(value) for name, value in row.items() if _is_curve_metric(name, value)}),
    )


def _provenance(row: Mapping[str, str]) -> dict[str, str | int]:
    return {
        "commit": row["commit"],
        "date": row["date"],
        "python": "3.11.0",
        "torch": "2.14.1",
        "ray": "2.60.0",
        "torch_fidelity": "0.4.0",
        "torchmetrics": "1.9.0",
        "numpy": "2.3.0",
        "platform": "Made-up-OS 1.0",
        "cpu": "Imaginary CPU",
        "gpu": "",
        "threads": 1,
    }


def _is_curve_metric(name: str, value: str) -> bool:
    return bool(value) and name.startswith(("g_loss", "d_accuracy", "kimg_to"))


def _curves(kimg: float, metrics: Mapping[str, float]) -> pd.DataFrame:
    """The shortest curves of a trial of so many kimg that have these metrics (a missing one is not known).

    Each quarter of the budget that a mean is taken over has one, two or four rows, all with that mean: of so many equal
    numbers the mean is exact.
    """
    online = _online(kimg, metrics)
    early = kimg / 8
    at = sorted({early, *online})
    # A second row at the same place changes neither the first crossing nor, without a FID, anything else.
    for quarter in ([x for x in at if x <= kimg / 4], [x for x in at if x > 3 * kimg / 4]):
        at += [quarter[0]] * ({1: 1, 2: 2, 3: 4, 4: 4}[len(quarter)] - len(quarter))
    at.sort()
    first = [i == 0 or x != at[i - 1] for i, x in enumerate(at)]

    def of_quarters(name: str) -> list[float]:
        ends = (metrics.get(f"{name}_early", math.nan), metrics.get(f"{name}_late", math.nan))
        return [ends[0] if x <= kimg / 4 else ends[1] if x > 3 * kimg / 4 else sum(ends) / 2 for x in at]

    return pd.DataFrame(
        {
            "step": [math.ceil(x * 1000 / 32) for x in at],
            "kimg": at,
            "seconds": [2 * x for x in at],
            "d_loss": 1.2,
            "g_loss": of_quarters("g_loss"),
            "d_real": 0.6,
            "d_fake": 0.4,
            "d_accuracy": of_quarters("d_accuracy"),
            "fid_online": [
                online.get(x, math.nan) if is_first else math.nan for x, is_first in zip(at, first, strict=True)
            ],
        }
    )


def _online(kimg: float, metrics: Mapping[str, float]) -> dict[float, float]:
    """kimg -> online FID, such that the thresholds are first crossed where they were, and it settles where it did."""
    crossed = {level: metrics[f"kimg_to_fid_{level}"] for level in THRESHOLDS}
    settled = metrics["kimg_to_settle"]
    points = sorted({x for x in (*crossed.values(), settled) if math.isfinite(x)} | {kimg})
    reached = [level for level, x in crossed.items() if x < math.inf]
    late = [level for level, x in crossed.items() if settled < x < math.inf]  # crossed while it was settled
    found: dict[float, float] = {}
    for x in points:
        here = [level for level in reached if crossed[level] == x]
        if x < settled:  # far from the last value, whatever that is
            found[x] = 0.4 * min(here) if here else 5000.0
        elif late:
            found[x] = (0.97 if x >= crossed[late[0]] else 1.04) * late[0]
        else:
            found[x] = 0.9 * min(reached, default=5000)
    return found
