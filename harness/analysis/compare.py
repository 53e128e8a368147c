"""Two stores side by side: which arms differ beyond what seeds explain. And a whole store as one table."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import results
from harness.analysis.effects import paired_effect, scores_of
from harness.analysis.statistics import (
    ALPHA,
    FEWEST_FOR_A_CLAIM,
    anytime_p_greater,
    holm,
    p_greater,
    paired_differences,
)
from harness.analysis.tidy import typed
from harness.analysis.wording import count, effect, p_value
from harness.errors import UserError, unknown_name
from harness.files import write_file
from harness.metrics import METRICS
from harness.spec import ScoreProtocol
from harness.storage.store import Store

COLUMNS = ("study", "profile", "arm", "metric", "outcome", "n", "ratio", "low", "high", "p", "p_holm", "sentence")


def compare(a: Store, b: Store, profile: str | None = None) -> pd.DataFrame:
    """Every arm that two stores share, by its FID paired by seed: one row an arm, with the columns COLUMNS.

    And one by the FID of each further network that questions of both name ("fid@inception-v3").

    Made for two versions of the code: where a change is neutral every score is identical; where it is not, the same
    seeds need not give the same luck, and the difference is tested like that of any two arms.

    Args:
        a: The store to compare with.
        b: The store that may differ.
        profile: Compare studies at this profile only; None for all.

    Returns:
        `ratio` is that of B's FID to A's with its 95% interval over `n` seeds (`effects.paired_effect`), which holds
        over interim analyses where one of the two plans had any. Where the plans' protocols differ, the scores are
        those of the one protocol under which both stores have scored all their trials. `outcome` is "identical",
        "differs" (p at most 0.05 after Holm's correction over all rows), "not shown to differ", "too few seeds",
        "not comparable" (no such protocol, or an FID of 0) or "in one store only".

    Raises:
        UserError: the stores share no study at that profile.
    """
    known = sorted({p["profile"] for store in (a, b) for p in store.read_plans()})
    if profile is not None and profile not in known:
        raise unknown_name("profile", profile, known)
    plans_a, plans_b = (_plans(store, profile) for store in (a, b))
    shared = sorted(plans_a.keys() & plans_b.keys())
    if not shared:
        there = ["; ".join(f"{s} ({p})" for s, p in sorted(plans)) or "nothing" for plans in (plans_a, plans_b)]
        raise UserError(f"the stores share no study and profile to compare; A holds {there[0]}, B holds {there[1]}")
    rows: list[dict[str, Any]] = []
    for study, at in shared:
        plan_a, plan_b = plans_a[study, at], plans_b[study, at]
        if plan_a["protocol_id"] != plan_b["protocol_id"]:
            protocols_a, protocols_b = _protocols(a, plan_a), _protocols(b, plan_b)
            both = sorted(protocols_a.keys() & protocols_b.keys())
            if len(both) != 1:
                why = f"scored under other protocols ({plan_a['protocol_id']} and {plan_b['protocol_id']})"
                why += _remedy(protocols_a.get(plan_a["protocol_id"]), protocols_b.get(plan_b["protocol_id"]))
                rows.append(
                    {
                        "study": study,
                        "profile": at,
                        "arm": "",
                        "metric": "fid",
                        "outcome": "not comparable",
                        "sentence": why,
                    }
                )
                continue
            plan_a, plan_b = (_under(both[0], plan) for plan in (plan_a, plan_b))
        arms = list(dict.fromkeys(cell["arm"] for plan in (plan_a, plan_b) for cell in plan["cells"]))
        tables = [results.of_plan(store, plan) for store, plan in ((a, plan_a), (b, plan_b))]
        sequential = any(plan.get("sequential") for plan in (plan_a, plan_b))
        for arm in arms:
            for metric in ("fid", *(f"fid@{name}" for name in _shared(plan_a, plan_b, arm))):
                row = _row(tables, arm, sequential, metric)
                rows.append({"study": study, "profile": at, "arm": arm, "metric": metric, **row})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    tested = table.outcome == "tested"
    table.loc[tested, "p_holm"] = holm(table.p[tested].to_numpy(float))
    table.loc[tested, "outcome"] = np.where(table.p_holm[tested] <= ALPHA, "differs", "not shown to differ")
    table["sentence"] = [
        row.sentence if row.outcome == "not comparable" else _sentence(row) for row in table.itertuples()
    ]
    return table


def _protocols(store: Store, plan: Mapping[str, Any]) -> dict[str, ScoreProtocol]:
    """Under which all finished trials of a plan have scores; none for arms on several data sets."""
    finished = {c["trial_id"] for c in plan["cells"] if store.status(c["trial_id"]) == "ok"}
    found = [{key: protocol for key, (protocol, _) in store.read_scores(i).items()} for i in sorted(finished)]
    return {key: found[0][key] for key in found[0] if all(key in one for one in found)} if found else {}


def _under(protocol_id: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    cells = [{**cell, "protocol_id": protocol_id} for cell in plan["cells"]]
    return {**plan, "protocol_id": protocol_id, "cells": cells}


def _remedy(a: ScoreProtocol | None, b: ScoreProtocol | None) -> str:
    """What to do about two protocols that only their classifier tells apart."""
    if a is None or b is None or replace(a, extractor_hash="", kid_gamma=b.kid_gamma) != replace(b, extractor_hash=""):
        return ""
    return (
        "; each store has trained a classifier of its own: `score` B's trials with --extractor-weights and the file in "
        "A's folder `extractors`, or in an export of A, and compare again"
    )


def whole_table(store: Store) -> pd.DataFrame:
    """Everything in a store as one table: one row a trial and protocol, trials without scores once.

    Columns as in `results.load`, untrained baselines among its rows (arm "NAME, untrained"); `trial_id` and
    `protocol_id` together name a row. Scores of different protocols stand in the same columns and must not be compared.
    """
    protocols = sorted({p for trial_id in store.trial_ids() for p in store.read_scores(trial_id)})
    tables = [results.load(store, protocol_id=p, untrained=True) for p in protocols] or [
        results.load(store, untrained=True)
    ]
    scored = [table[table.protocol_id == p] for p, table in zip(protocols, tables, strict=False)]
    anywhere = {trial_id for table in scored for trial_id in table.trial_id}
    never = tables[0][~tables[0].trial_id.isin(anywhere)]
    table = pd.concat([*scored, never], ignore_index=True)
    return table.sort_values(["trial_id", "protocol_id"], ignore_index=True) if len(table) else table


def write_whole_table(store: Store, folder: Path) -> int:
    """Write `whole_table` as results.parquet and results.csv, and the store's own classifiers; the number of its rows.

    Columns are those that harness/analysis/tidy.py documents.

    Raises:
        UserError: the folder cannot be written.
    """
    table = typed(whole_table(store))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / "results.parquet", table.to_parquet(index=False))
        write_file(folder / "results.csv", table.to_csv(index=False).encode())
        if (kept := store.layout.extractors).is_dir():
            shutil.copytree(kept, folder / kept.name, dirs_exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; name another folder with --out"
        ) from None
    return len(table)


def _plans(store: Store, profile: str | None) -> dict[tuple[str, str], dict[str, Any]]:
    return {(p["study"], p["profile"]): p for p in store.read_plans() if profile is None or p["profile"] == profile}


def _shared(plan_a: Mapping[str, Any], plan_b: Mapping[str, Any], arm: str) -> list[str]:
    """Further extractors that questions of both plans name, which gave an arm scores under one protocol."""
    also = [{c["arm"]: c.get("also", {}) for c in plan["cells"]}.get(arm, {}) for plan in (plan_a, plan_b)]
    own = {cell.get("protocol_id", plan["protocol_id"]) for plan in (plan_a, plan_b) for cell in plan["cells"]}
    return [name for name, key in also[0].items() if also[1].get(name) == key and key not in own]


def _row(tables: Sequence[pd.DataFrame], arm: str, sequential: bool, metric: str) -> dict[str, Any]:
    """One arm in the tables of A and of B, by one kind of FID."""
    both = pd.concat([table[table.arm == arm].assign(arm=name) for table, name in zip(tables, "AB", strict=True)])
    fid = scores_of(both, "AB", metric, "difference").values
    shared = ~np.isnan(fid).any(0)
    if np.isnan(fid).all(1).any():
        return {"outcome": "in one store only", "n": 0}
    if shared.any() and (fid[0] == fid[1])[shared].all():
        return {"outcome": "identical", "n": int(shared.sum()), "ratio": 1.0}
    scores = scores_of(both, "AB", metric)
    found = paired_effect(scores, 1, 0, sequential=sequential)
    if shared.any() and not found.n:
        why = f"{METRICS[metric].label} is 0 in one of the stores at every shared seed, which has no ratio"
        return {"outcome": "not comparable", "n": 0, "sentence": why}
    seen = {"n": found.n, "ratio": found.mean, "low": found.low, "high": found.high}
    if found.n < FEWEST_FOR_A_CLAIM:
        return {"outcome": "too few seeds", **seen}
    x, test = paired_differences(scores.values[1], scores.values[0]), anytime_p_greater if sequential else p_greater
    return {"outcome": "tested", **seen, "p": float(min(test(x), test(-x)))}


def _sentence(row: Any) -> str:
    by = "" if row.metric == "fid" else f", by {METRICS[row.metric].label}"
    if row.outcome == "identical":
        return f"identical over {count(row.n, 'seed')}{by}"
    if row.outcome == "in one store only":
        return f"scored in one of the stores only{by}"
    ratio = effect(row.ratio, row.low, row.high, "ratio")
    seen = f"{METRICS[row.metric].label} of B is {ratio} that of A over {count(row.n, 'shared seed')}"
    if row.outcome == "too few seeds":
        return f"{seen}; fewer than {FEWEST_FOR_A_CLAIM} seeds can show nothing"
    verb = "differs beyond seed noise" if row.outcome == "differs" else "not shown to differ"
    return f"{seen}: {verb} (p = {p_value(row.p)}, {p_value(row.p_holm)} after Holm)"
