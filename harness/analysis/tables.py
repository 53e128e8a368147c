"""The tables of a report: numbers as data frames (for CSV), and the same formatted for people."""

import math
from typing import Any

import pandas as pd
from tabulate import tabulate

from harness.analysis import results
from harness.analysis.statistics import (
    FEWEST_FOR_A_CLAIM,
    Estimate,
    failure_rate,
    mean_interval,
    paired_difference,
    paired_ratio,
    seed_correlation,
)
from harness.errors import UserError
from harness.spec import ScoreProtocol
from harness.store import Store
from harness.study import Question, Study

METRICS = ("fid", "is_mean", "kid", "precision", "recall")


def arm_row(rows: pd.DataFrame, arm: str, baseline: str | None) -> dict[str, float | int | str]:
    """One arm's numbers: counts, each metric's mean and 95% t interval over seeds, and against the baseline by seed.

    Diverged seeds have no score: they are counted, and left out of means and pairs.

    Args:
        rows: A results table.
        arm: Whose row.
        baseline: The arm to pair with; None for none.
    """
    mine = rows[rows.arm == arm]
    finished = scored(mine).set_index("seed").sort_index()
    ended = int((mine.status != "failed").sum())
    diverged = int((mine.status == "diverged").sum())
    rate = failure_rate(diverged, ended)
    row: dict[str, float | int | str] = {
        "arm": arm,
        "n": len(finished),
        "ended": ended,
        "diverged": diverged,
        "diverged_low": rate.low,
        "diverged_high": rate.high,
        "failed": int((mine.status == "failed").sum()),
    }
    for metric in METRICS:
        row |= _columns(metric, mean_interval(finished[metric].dropna()))
    row["seconds"] = float(finished.seconds.mean()) if len(finished) else math.nan
    for cost in ("generator_parameters", "generator_flops_per_image"):
        if cost in finished:
            row[cost] = float(finished[cost].iloc[0]) if len(finished) else math.nan
    if baseline is not None and baseline != arm:
        theirs = scored(rows[rows.arm == baseline]).set_index("seed")
        pairs = finished.index.intersection(theirs.index).sort_values()
        a, b = finished.loc[pairs, "fid"], theirs.loc[pairs, "fid"]
        row["pairs"] = len(pairs)
        row |= _columns("fid_difference", paired_difference(a, b)) | _columns("fid_ratio", paired_ratio(a, b))
        row["seed_correlation"] = seed_correlation(a, b)
    return row


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """The trials that finished and have scores: not diverged, not failed, not still to be scored."""
    return rows[(rows.status == "ok") & rows.fid.notna()]


def question_table(study: Study, question: Question, rows: pd.DataFrame) -> pd.DataFrame:
    """One row a level, in the factor's order; columns as in `arm_row`, with `level` and `is_baseline` first."""
    arms = study.arms(question)
    return pd.DataFrame(
        {"level": level, "is_baseline": arm == question.baseline, **arm_row(rows, arm, question.baseline)}
        for level, arm in arms.items()
    )


def overview_table(rows: pd.DataFrame, arms: list[str]) -> pd.DataFrame:
    """One row an arm, in the given order; columns as in `arm_row`, without pairs."""
    return pd.DataFrame(arm_row(rows, arm, None) for arm in arms)


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """A question's or overview table for people: means ± half the 95% interval, arrows towards better."""
    questions = "level" in table
    shown = pd.DataFrame()
    if questions:
        shown["level"] = [f"{r.level} (baseline)" if r.is_baseline else r.level for r in table.itertuples()]
    else:
        shown["arm"] = table.arm
    shown["seeds"] = table.n.astype(str)
    shown["diverged [95%]"] = [_failures(r) for r in table.itertuples()]
    if table.failed.any():
        shown["failed"] = table.failed.astype(str)
    shown["FID ↓ [95%]"] = [_mean_and_interval(r, "fid") for r in table.itertuples()]
    if questions:
        shown["ΔFID [95%]"] = [_difference(r) for r in table.itertuples()]
        shown["FID ratio [95%]"] = [_ratio(r) for r in table.itertuples()]
    shown["KID×10³ ↓"] = [_plus_minus(r, "kid", 1000) for r in table.itertuples()]
    shown["IS ↑"] = [_plus_minus(r, "is_mean") for r in table.itertuples()]
    shown["precision ↑"] = [_plus_minus(r, "precision") for r in table.itertuples()]
    shown["recall ↑"] = [_plus_minus(r, "recall") for r in table.itertuples()]
    shown["s/trial"] = [_number(s) for s in table.seconds]
    if not questions and "generator_parameters" in table:
        shown["G parameters"] = [_number(p, 0) for p in table.generator_parameters]
        shown["G MFLOPs/image"] = [_number(f / 1e6) for f in table.generator_flops_per_image]
    return shown


def markdown(table: pd.DataFrame) -> str:
    """A formatted table in Markdown; its first column to the left, the others to the right."""
    return tabulate(
        table.values.tolist(),
        headers=list(table.columns),
        tablefmt="pipe",
        disable_numparse=True,
        colalign=("left",) + ("right",) * (table.shape[1] - 1),
    )


def summary_table(study: Study, profile: str, store: Store) -> str:
    """The FID tables of all questions as plain text, for the end of a run."""
    rows = results.load(store, study=study.name, profile=profile)
    parts = []
    for question in study.questions:
        table = formatted(question_table(study, question, rows))
        short = table[["level", "seeds", "diverged [95%]", "FID ↓ [95%]", "ΔFID [95%]", "IS ↑", "s/trial"]]
        align = ("left",) + ("right",) * (short.shape[1] - 1)
        text = tabulate(short.values.tolist(), list(short.columns), "simple", disable_numparse=True, colalign=align)
        parts.append(f"{question.text}\n{question.factor.label}, baseline arm {question.baseline}\n{text}")
    parts += cautions(study, profile, store, rows)
    return "\n\n".join(parts)


def cautions(study: Study, profile: str, store: Store, rows: pd.DataFrame) -> list[str]:
    """What a reader must know before believing the tables: too few seeds, missing, failed or diverged trials."""
    plan = results.planned(store, study.name, profile)
    found = []
    seeds = plan.seed.nunique()
    why = f"No claim can rest on fewer than {FEWEST_FOR_A_CLAIM}: an exact paired test could not reach p = 0.05."
    counts = scored(rows).groupby("arm").size().reindex(plan.arm.unique(), fill_value=0)
    few = counts[(counts > 0) & (counts < FEWEST_FOR_A_CLAIM)]
    if seeds < FEWEST_FOR_A_CLAIM:
        found.append(f"Exploratory: {_count(seeds, 'seed')} an arm. {why}")
    elif len(few) == len(counts):
        found.append(f"Exploratory: at most {_count(int(few.max()), 'scored seed')} an arm. {why}")
    elif len(few):
        found.append(
            f"Exploratory where few seeds are scored: {'; '.join(f'{a} ({n})' for a, n in few.items())}. {why}"
        )
    missing = len(set(plan.trial_id) - set(rows.trial_id))
    if missing:
        found.append(f"{missing} of {len(plan)} planned trials have not been run yet; the same command runs them.")
    failed = int((rows.status == "failed").sum())
    if failed:
        found.append(
            f"{_count(failed, 'trial')} failed for reasons outside the model, not in the means; run again to retry."
        )
    diverged = int((rows.status == "diverged").sum())
    if diverged:
        found.append(
            f"{_count(diverged, 'trial')} diverged: an outcome, but without a score, so that the means are over the "
            "surviving seeds and flatter the arm. Read them beside the column 'diverged'; ranks count it as +∞."
        )
    unscored = int((rows.status == "ok").sum()) - len(scored(rows))
    if unscored:
        found.append(f"{_count(unscored, 'trial')} finished but not scored under this protocol; run again to score.")
    if scored(rows).empty:
        found.append("No trial has finished: there is nothing to compare.")
    return found


def provenance(study: Study, profile: str, store: Store, rows: pd.DataFrame) -> str:
    """The box that says how the numbers were made, in Markdown."""
    plan = store.read_plan(study.name, profile)
    if plan is None:
        raise UserError(f"{study.name} ({profile}) never ran in {store.root}; run it first")
    made = [store.read_result(trial_id)["provenance"] for trial_id in rows.trial_id]
    protocol = _protocol(store, plan["protocol_id"], list(rows.trial_id))
    floor = store.read_reference(plan["protocol_id"])

    def distinct(key: str) -> str:
        return ", ".join(sorted({str(p[key]) for p in made if p.get(key)})) or "–"

    seeds = results.planned(store, study.name, profile).seed.nunique()
    lines = [
        ("command", f"`make study-{study.name} PROFILE={profile} SEEDS={seeds}`"),
        ("trials", f"{len(rows)} of {len(plan['cells'])} planned, {int((rows.status == 'ok').sum())} scored"),
        ("protocol", f"{plan['protocol_id']}: {protocol.describe() if protocol else 'no scored trial'}"),
        (
            "floor",
            f"real training images score FID {floor['fid']:.2f}, KID×10³ {1000 * floor['kid']:.2f}, "
            f"IS {floor['is_mean']:.2f}, precision {floor['precision']:.3f}, recall {floor['recall']:.3f}"
            if floor
            else "not computed",
        ),
        ("commit", distinct("commit") + " (+ marks a changed working tree)"),
        (
            "dates",
            f"{min((p['date'] for p in made if p.get('date')), default='–')} to "
            f"{max((p['date'] for p in made if p.get('date')), default='–')}",
        ),
        ("hardware", f"{distinct('cpu')}; GPU: {distinct('gpu')}; {distinct('threads')} thread a trial"),
        (
            "software",
            ", ".join(f"{k} {distinct(k)}" for k in ("python", "torch", "torch_fidelity", "torchmetrics", "ray")),
        ),
        ("compute", f"{rows.seconds.sum() / 3600:.2f} hours of trials"),
    ]
    return tabulate(lines, headers=["", ""], tablefmt="pipe", disable_numparse=True)


def _protocol(store: Store, protocol_id: str, trial_ids: list[str]) -> ScoreProtocol | None:
    for trial_id in trial_ids:
        scored = store.read_scores(trial_id)
        if protocol_id in scored:
            return scored[protocol_id][0]
    return None


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _failures(row: object) -> str:
    if row.ended == 0:
        return "–"
    return f"{row.diverged} of {row.ended} [{100 * row.diverged_low:.0f}, {100 * row.diverged_high:.0f}%]"


def _number(x: float, decimals: int | None = None) -> str:
    """About three digits: 1,234 · 123 · 12.3 · 1.23; a dash for nothing."""
    if math.isnan(x):
        return "–"
    if decimals is None:
        decimals = 0 if abs(x) >= 100 else 1 if abs(x) >= 10 else 2
    return f"{x:,.{decimals}f}".replace("-", "−")


def _mean_and_interval(row: Any, name: str) -> str:
    mean, low, high = (getattr(row, name + end) for end in ("", "_low", "_high"))
    if math.isnan(low):
        return _number(mean)
    decimals = 0 if abs(mean) >= 100 else 1 if abs(mean) >= 10 else 2
    return f"{_number(mean, decimals)} [{_number(low, decimals)}, {_number(high, decimals)}]"


def _plus_minus(row: Any, name: str, scale: float = 1) -> str:
    mean, low, high = (scale * getattr(row, name + end) for end in ("", "_low", "_high"))
    decimals = 0 if abs(mean) >= 100 else 1 if abs(mean) >= 10 else 2 if abs(mean) >= 1 else 3
    if math.isnan(low):
        return _number(mean, None if math.isnan(mean) else decimals)
    return f"{_number(mean, decimals)} ± {_number((high - low) / 2, decimals)}"


def _difference(row: Any) -> str:
    if row.is_baseline:
        return ""
    mean, low, high = row.fid_difference, row.fid_difference_low, row.fid_difference_high
    signed = [("+" if x > 0 else "") + _number(x, 0 if abs(mean) >= 100 else 1) for x in (mean, low, high)]
    return "–" if math.isnan(mean) else signed[0] if math.isnan(low) else f"{signed[0]} [{signed[1]}, {signed[2]}]"


def _ratio(row: Any) -> str:
    if row.is_baseline:
        return "1"
    if math.isnan(row.fid_ratio):
        return "–"
    mean, low, high = (
        f"{x:.2f}" if x < 1000 else f"{x:.1e}" for x in (row.fid_ratio, row.fid_ratio_low, row.fid_ratio_high)
    )
    return f"×{mean}" if math.isnan(row.fid_ratio_low) else f"×{mean} [{low}, {high}]"
