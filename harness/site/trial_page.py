"""What the page of a trial shows: its spec, scores under every protocol, curves, samples, cost, and how it was made."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from harness.analysis import results
from harness.analysis.tidy import CURVES, WHOSE, columns
from harness.analysis.wording import number
from harness.design import DEFAULTS
from harness.metrics import METRICS
from harness.site.lists import UNITS, data_name, short_heading
from harness.site.merge import Copy, Merged
from harness.spec import ScoreProtocol
from harness.storage.store import Store

SHOWN = tuple(name for name in CURVES if name not in WHOSE)
"""Columns of its curves."""

AT = "fid_at_"
BESIDE = {"is_std": "IS, spread over splits", "kid_subset_std": "KID×10³, spread over subsets"}
"""Scores that are no metrics -> what they are called."""

PROVENANCE = ("date", "commit", "cpu", "gpu", "threads", "python", "torch", "torch_fidelity", "torchmetrics", "ray")


class Line(NamedTuple):
    """One fact: its name, value, unit, meaning, and its value with all digits."""

    name: str
    value: str
    unit: str = ""
    meaning: str = ""
    exact: str = ""


class Scored(NamedTuple):
    """The scores under one protocol."""

    protocol_id: str
    described: str
    lines: Sequence[Line]


class Another(NamedTuple):
    """A result of the same trial that differs, of another store."""

    held_by: str
    status: str
    made: str  # when and on what
    scores: str


class TrialPage(NamedTuple):
    """All of it."""

    trial_id: str
    status: str
    error: str
    spec: Sequence[Line]
    defaults: Sequence[Line]  # the fields that are as they are where nobody sets them
    scores: Sequence[Scored]
    curves: str  # JSON: columns and rows; "" where it left none
    samples: bytes  # PNG
    side: int  # of a sample, in pixels
    cost: Sequence[Line]
    provenance: Sequence[Line]
    on_gpu: bool
    held_by: Sequence[str]
    others: Sequence[Another]


def trial_page(store: Store, trial_id: str, merged: Merged, protocols: Mapping[str, ScoreProtocol]) -> TrialPage:
    """The page of a trial of the merged store; every file is checked as it is read."""
    result, spec = store.read_result(trial_id), store.read_spec(trial_id)
    told = _meanings()
    values = {**spec.to_dict(), "dataset": data_name(spec.dataset)}
    spec_lines = {name: Line(name, _written(value), *told.get(name, ("", ""))) for name, value in values.items()}
    provenance = result["provenance"]
    return TrialPage(
        trial_id=trial_id,
        status=result["status"],
        error=result["error"],
        spec=[line for name, line in spec_lines.items() if values[name] != DEFAULTS.get(name)],
        defaults=[line for name, line in spec_lines.items() if values[name] == DEFAULTS.get(name)],
        scores=[
            Scored(key, protocols[key].describe(), [_score(name, found[name]) for name in sorted(found, key=_order)])
            for key, (_, found) in store.read_scores(trial_id).items()
        ],
        curves=_curves(store, trial_id, spec.loss),
        samples=store.read_samples(trial_id),
        side=spec.resolution,
        cost=[Line(name, number(value), *told.get(name, ("", ""))) for name, value in result["cost"].items()],
        provenance=[Line(name, str(provenance[name])) for name in PROVENANCE if provenance.get(name)],
        on_gpu=bool(provenance.get("gpu")),
        held_by=merged.held_by[trial_id],
        others=[_another(copy) for copy in merged.others.get(trial_id, ())],
    )


@cache
def _meanings() -> dict[str, tuple[str, str]]:
    """Column of the results table -> (unit, meaning)."""
    table = columns()
    mine = table[(table.table == "load") & (table.meaning != "a field of the spec")]
    return dict(zip(mine.column, zip(mine.unit, mine.meaning, strict=True), strict=True)) | {
        "seed": ("", "of every random stream of the trial")
    }


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value) or "–"


def _order(name: str) -> tuple[int, str]:
    """Scores in the order of the results table, then what else was kept."""
    return results.SCORES.index(name) if name in results.SCORES else len(results.SCORES), name


def _score(name: str, value: float) -> Line:
    shown = number(UNITS.get(name.removesuffix("_subset_std"), 1) * value)
    if name in METRICS:
        label = short_heading(name).strip()
        return Line(label, shown, meaning=METRICS[name].meaning, exact=repr(value))
    if name.startswith(AT):  # of a part of the samples
        label = f"FID of the first {int(name.removeprefix(AT)):,} samples"
        meaning = "the same by fewer samples: how much of the FID is their number's"
    else:
        label, meaning = BESIDE.get(name, name), _meanings().get(name, ("", ""))[1]
    return Line(label, shown, meaning=meaning, exact=repr(value))


def _curves(store: Store, trial_id: str, loss: str) -> str:
    """Its curves as JSON, by six digits."""
    found = results.curves_of(store, {"trial_id": trial_id, "loss": loss})
    if found.empty:
        return ""
    named = [name for name in SHOWN if name in found]
    rows = (
        ",".join(f"{x:.6g}" if math.isfinite(x) else "null" for x in row)
        for row in found[named].to_numpy(float).tolist()
    )
    return f'{{"columns":{json.dumps(named)},"rows":[{",".join(f"[{row}]" for row in rows)}]}}'


def _another(copy: Copy) -> Another:
    made = copy.result["provenance"]
    scores = "; ".join(
        f"{key}: " + ", ".join(f"{METRICS[n].label} {number(v)}" for n, v in found.items() if n in METRICS)
        for key, found in copy.scores.items()
    )
    at = ", ".join(str(made[name]) for name in ("date", "cpu", "gpu") if made.get(name))
    return Another(copy.held_by, copy.result["status"], at, scores or copy.result["error"])
