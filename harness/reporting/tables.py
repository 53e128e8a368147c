"""The tables of a report: numbers as data frames (for CSV), and the same formatted for people."""

import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from harness.analysis.budget import NOT_TESTABLE
from harness.analysis.effects import WIDEST, arm_mean, arm_values, level_arms, level_effects
from harness.analysis.evidence import Evidence
from harness.analysis.published import compare_with_published
from harness.analysis.statistics import (
    FEWEST_FOR_A_CLAIM,
    FEWEST_FOR_AN_INTERVAL,
    MOST_SEEDS,
    Estimate,
    failure_rate,
    pairing_pays_above,
)
from harness.analysis.verdicts import Answer
from harness.analysis.wording import effect, number, p_value, with_interval
from harness.metrics import METRICS, split
from harness.questions import Question
from harness.study import Design

WORDS = (
    "arm",
    "level",
    "claim",
    "by",
    "decides",
    "verdict",
    "in its study",
    "status",
    "error",
    "study",
    "effects [95%]",
    "",
    " ",
)
"""Columns of words, which stand to the left; numbers stand to the right."""
SCORES = ("fid", "is_mean", "kid", "precision", "recall")
FURTHER = ("fid_raw", "density", "coverage", "memorization", "modes", "mode_kl")
COSTS = ("seconds", "cpu_seconds", "train_seconds", "score_seconds")  # of a trial; these vary from seed to seed
SIZES = (  # these do not
    "kimg",
    "d_steps",
    "g_steps",
    "generator_parameters",
    "discriminator_parameters",
    "generator_flops_per_image",
    "discriminator_flops_per_image",
)

FEW_SEEDS = (
    f"[–]: fewer than {FEWEST_FOR_AN_INTERVAL} seeds give no interval. They say too little of how much seeds differ: "
    "a 95% interval from two would be 9 standard deviations wide on either side."
)
NOT_FINITE = (
    f"[–]: where trials have no finite value, fewer than {FEWEST_FOR_A_CLAIM} seeds give no interval. Such a trial "
    "diverged, or never reached what is asked for. A seed at which neither of the two compared has a finite value is a "
    "tie: it says nothing and is not counted."
)
AT_A_BOUND = (
    "[–]: a mean at a bound of its metric has no interval. A recall of 0 at every seed, for example, says that recall "
    "is too small to be measured, and not how small."
)
TOO_WIDE = (
    f"[–]: seeds so far apart that the interval's end would lie over {WIDEST:.0f} times as far out as the mean give "
    "no interval. Most samples of some seeds may be alike, or some seeds have failed: look at each."
)


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """The trials that finished and have scores: not diverged, not failed, not still to be scored."""
    return rows[(rows.status == "ok") & rows.fid.notna()]


def arm_row(rows: pd.DataFrame, arm: str, metric: str = "fid") -> dict[str, float | int | str]:
    """One arm's numbers: counts, and each score's mean and 95% interval over seeds.

    Diverged seeds have no score: they are counted, and left out of an arm's own means.

    Args:
        rows: A results table.
        arm: Whose row.
        metric: The one that comes first.
    """
    mine = rows[rows.arm == arm]
    done = scored(mine)
    ended, diverged = int((mine.status != "failed").sum()), int((mine.status == "diverged").sum())
    rate = failure_rate(diverged, ended)
    row: dict[str, float | int | str] = {
        "arm": arm,
        "n": len(done),
        "ended": ended,
        "diverged": diverged,
        "diverged_low": rate.low,
        "diverged_high": rate.high,
        "failed": len(mine) - ended,
    }
    for name in dict.fromkeys((metric, *SCORES)):
        found = arm_values(mine, arm, name)
        row |= _columns(name, arm_mean(found, name))
        if never := int(np.isinf(found).sum()):
            row[f"{name}_not_reached"] = never
    row["seconds"] = float(done.seconds.mean())
    return row


def question_table(evidence: Evidence, question: Question) -> pd.DataFrame:
    """One row a level, in the factor's order: `level`, `is_baseline`, `arm_row`, and the level's effect.

    An effect against the baseline is the difference and, where the metric is compared so, the ratio; of an interaction,
    what it is beyond the same against `versus`. `pairs` is the number of seeds that it is over.
    """
    differences = level_effects(
        evidence.design, question, evidence.rows, sequential=evidence.sequential, scale="difference"
    )
    published = {one.arm: one for one in evidence.design.published if one.metric == question.metric}
    table = []
    for level, arm in level_arms(evidence.design, question).items():
        row = {"level": level, "is_baseline": arm == question.baseline, **arm_row(evidence.rows, arm, question.metric)}
        if level in differences:
            found = evidence.effects[question.key][level]
            row["pairs"] = found.n
            row |= _columns(f"{question.metric}_difference", differences[level])
            row |= _columns(f"{question.metric}_{found.scale}", found)
            row["seed_correlation"] = found.seed_correlation
            row["pairing_pays_above"] = pairing_pays_above(found.n)
        if arm in published:
            row["published"] = "diverged" if published[arm].diverged else number(published[arm].value)
        table.append(row)
    return pd.DataFrame(table)


def published_table(evidence: Evidence) -> pd.DataFrame:
    """One row a published value or effect; the columns are the fields of `analysis.published.Comparison`."""
    return pd.DataFrame([dataclasses.asdict(one) for one in compare_with_published(evidence)])


def formatted_published(table: pd.DataFrame) -> pd.DataFrame:
    """The same for people; sources and protocols stand below it."""
    names = {
        "what": "arm",
        "metric": "by",
        "published": "published",
        "ours": "ours [95%]",
        "n": "n",
        "verdict": "verdict",
    }
    return table[list(names)].rename(columns=names).astype(str)


def overview_table(evidence: Evidence) -> pd.DataFrame:
    """One row a planned arm, in the study's order; columns as in `arm_row`."""
    return pd.DataFrame(arm_row(evidence.rows, arm) for arm in evidence.arms)


def further_table(evidence: Evidence) -> pd.DataFrame:
    """Mean and 95% interval of the FURTHER scores, one row a planned arm; of those that some trial has.

    Scores by further networks, too: FID, modes and mode KL, as "fid@imagenet-lite0".
    """
    rows = evidence.rows
    there = [name for name in _further_names(evidence) if name in rows and rows[name].notna().any()]
    table = [
        {"arm": arm} | {k: v for m in there for k, v in _columns(m, arm_mean(arm_values(rows, arm, m), m)).items()}
        for arm in evidence.arms * bool(there)
    ]
    return pd.DataFrame(table)


def cost_table(evidence: Evidence) -> pd.DataFrame:
    """What one trial of each arm costs: one row an arm; times are means over its scored trials, sizes are the same.

    A column that no trial recorded is left out.
    """
    finished = scored(evidence.rows)
    table = finished.groupby("arm")[[c for c in (*SIZES, *COSTS) if c in finished]].mean().reindex(evidence.arms)
    return table.dropna(axis=1, how="all").rename_axis("arm").reset_index()


def failure_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Every trial that diverged or failed: arm, seed, status, error."""
    lost = rows[rows.status != "ok"].reindex(columns=["arm", "seed", "status", "error"])
    return lost.sort_values(["status", "arm", "seed"], ignore_index=True)


def verdict_table(answers: Sequence[Answer]) -> pd.DataFrame:
    """One row a claim; the columns are the fields of `Answer`, but for those of `metrics_table`."""
    columns = [f.name for f in dataclasses.fields(Answer) if f.name not in ("metric", "by")]
    return pd.DataFrame([[getattr(one, name) for name in columns] for one in answers], columns=columns)


def metrics_table(answers: Sequence[Answer], design: Design) -> pd.DataFrame:
    """Of claims that have several metrics, one row a metric: what it says, and whether it decides with the others."""
    columns = ("question", "claim", "level", "metric", "decides", "verdict", "effect", "low", "high", "scale")
    columns += ("p", "p_holm", "n", "failures", "problem")
    table = []
    for one in answers:
        deciding = 1 + len(design.question(one.question).also)
        for i, by in enumerate(one.by):
            row = dataclasses.asdict(dataclasses.replace(by, by=())) | {"decides": i < deciding}
            table.append({name: row[name] for name in columns})
    return pd.DataFrame(table, columns=list(columns))


def formatted_metrics(answers: Sequence[Answer], design: Design) -> pd.DataFrame:
    """The same for people: a line a claim and metric, the claim said once."""
    lines = []
    for one in answers:
        deciding = 1 + len(design.question(one.question).also)
        for i, by in enumerate(one.by):
            lines.append(
                {
                    "claim": one.claim if i == 0 else "",
                    "by": METRICS[by.metric].label,
                    "verdict": by.verdict,
                    "effect [95%]": effect_of(by),
                    "p of the verdict (Holm)": f"{p_value(by.p)} ({p_value(by.p_holm)})",
                    "n": str(by.n),
                    "decides": "yes" if i < deciding else "no",
                }
            )
    return pd.DataFrame(lines)


def by_metrics(one: Answer, also: int) -> list[tuple[str, str, str, str]]:
    """What each further metric says: which, verdict, effect, seeds. All but the first `also` decide nothing."""
    names = [
        f"by {METRICS[by.metric].label}" + ", which does not decide" * (i >= also) for i, by in enumerate(one.by[1:])
    ]
    return [(name, by.verdict, effect_of(by), str(by.n)) for name, by in zip(names, one.by[1:], strict=True)]


def formatted_verdicts(answers: Sequence[Answer]) -> pd.DataFrame:
    """The verdicts for people: what was claimed, what came out, and what it rests on."""
    return pd.DataFrame(
        {
            "claim": [a.claim for a in answers],
            "verdict": [a.verdict for a in answers],
            "effect [95%]": [f"{compared(a)}\n{effect_of(a)}".strip() for a in answers],
            "p of the verdict (Holm)": [f"{p_value(a.p)} ({p_value(a.p_holm)})" for a in answers],
            "exact p": [p_value(a.p_exact) for a in answers],
            "n": [str(a.n) for a in answers],
            "diverged": [str(a.failures) for a in answers],
            "seeds needed": [_needed(a) for a in answers],
        }
    )


def effect_of(answer: Answer) -> str:
    """An answer's effect with its interval; a dash where no seed says anything."""
    return effect(answer.effect, answer.low, answer.high, answer.scale) if answer.n else "–"


def compared(answer: Answer) -> str:
    """What the effect of a trend compares, as figures and tables of levels compare others: each with the baseline."""
    if "last against first level" not in answer.method or effect_of(answer) == "–":
        return ""
    return f"last {':' if answer.scale == 'ratio' else '−'} first level"


def why_no_interval(answers: Sequence[Answer] = (), table: pd.DataFrame | None = None) -> list[str]:
    """Why "[–]" stands in place of intervals, a note each reason; the first sentence of each says it in short.

    Args:
        answers: Whose effects are shown.
        table: What `question_table` or `overview_table` gave.
    """
    found = {
        FEW_SEEDS if answer.n < FEWEST_FOR_AN_INTERVAL else NOT_FINITE
        for answer in answers
        if "[–]" in effect_of(answer)
    }
    for row in [] if table is None else table.to_dict("records"):
        for name in (low.removesuffix("_low") for low in row if low.endswith("_low") and math.isnan(row[low])):
            if math.isfinite(row[name]) and name != "diverged" and not row.get(f"{name}_not_reached", 0) > 0:
                against = name.endswith(("_ratio", "_difference"))
                few = row["pairs" if against else "n"] < FEWEST_FOR_AN_INTERVAL
                inside = not against and METRICS[name].limits[0] < row[name] < METRICS[name].limits[1]
                found.add(FEW_SEEDS if few else NOT_FINITE if against else TOO_WIDE if inside else AT_A_BOUND)
    return [reason for reason in (FEW_SEEDS, NOT_FINITE, AT_A_BOUND, TOO_WIDE) if reason in found]


def formatted(table: pd.DataFrame, question: Question | None = None) -> pd.DataFrame:
    """A question's or the overview table for people: means with 95% intervals, arrows towards better.

    Args:
        table: What `question_table` or `overview_table` gave.
        question: Whose table; its own metric comes first, with its effect. None for the overview.
    """
    metric, lines = question.metric if question else "fid", table.to_dict("records")
    shown = pd.DataFrame()
    if question is None:
        shown["arm"] = table.arm
    else:
        shown["level"] = [f"{row['level']} (baseline)" if row["is_baseline"] else row["level"] for row in lines]
    shown["seeds"] = table.n.astype(str)
    shown[f"{heading(metric)} [95%]"] = [_mean_and_interval(row, metric) for row in lines]
    if question is not None:
        scale = METRICS[metric].scale
        against = {"ratio": "ratio to the baseline", "difference": "difference from the baseline"}[scale]
        against += f", relative to {question.versus}" * bool(question.versus)
        ends = [f"{metric}_{scale}{end}" for end in ("", "_low", "_high")]
        shown[f"{against} [95%]"] = [
            "" if row["is_baseline"] else effect(*(row.get(end, math.nan) for end in ends), scale) for row in lines
        ]
    if "published" in table:
        shown["published"] = table.published.fillna("–")
    shown["diverged [95%]"] = [_failures(row) for row in lines]
    if table.failed.any():
        shown["failed"] = table.failed.astype(str)
    for name, head, unit in (
        ("fid", "FID ↓ [95%]", 1),
        ("kid", "KID×10³ ↓", 1000),
        ("is_mean", "IS ↑", 1),
        ("precision", "precision ↑", 1),
        ("recall", "recall ↑", 1),
    ):
        if unit != 1 or name != metric:  # the question's own stands before
            shown[head] = [_mean_and_interval(row, name, unit) for row in lines]
    shown["s/trial"] = [number(s) for s in table.seconds]
    return shown


def formatted_further(table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """The table of further scores for people, with those of real images below, where these have them."""
    there, lines = [name for name in _further_names(evidence) if name in table], table.to_dict("records")
    real = {name: of_real_images(evidence, name, evidence.arms) for name in there}
    if all(math.isnan(value) for value in real.values()):
        real = {}
    shown = pd.DataFrame({"arm": [row["arm"] for row in lines]})
    for name in there:
        shown[heading(name)] = [_mean_and_interval(row, name) for row in lines]
    if real:
        shown.loc[len(shown)] = ["real images", *map(number, real.values())]
    return shown


def _further_names(evidence: Evidence) -> list[str]:
    """The columns of the table of further scores, in its order: the protocol's own, and those by further networks."""
    others = dict.fromkeys(name for cell in evidence.plan["cells"] for name in cell.get("also", {}))
    return [*FURTHER, *(f"{metric}@{name}" for name in others for metric in ("fid", "modes", "mode_kl"))]


def of_real_images(evidence: Evidence, name: str, arms: Collection[str]) -> float:
    """What real images score where these arms are scored; NaN where nobody scored them, or they are of several data."""
    metric, network = split(name)
    cells = [cell for cell in evidence.plan["cells"] if cell["arm"] in arms]
    own = [cell.get("protocol_id", evidence.plan["protocol_id"]) for cell in cells]
    keys = {cell["also"][network] for cell in cells if network in cell.get("also", {})} if network else set(own)
    return float(evidence.store.read_reference(keys.pop()).get(metric, math.nan)) if len(keys) == 1 else math.nan


def formatted_costs(table: pd.DataFrame) -> pd.DataFrame:
    """The cost table for people."""
    shown = pd.DataFrame({"arm": table.arm})
    for column, title, scale in (
        ("kimg", "kimg", 1),
        ("d_steps", "D steps", 1),
        ("g_steps", "G steps", 1),
        ("seconds", "seconds", 1),
        ("cpu_seconds", "CPU seconds", 1),
        ("generator_parameters", "G parameters", 1),
        ("discriminator_parameters", "D parameters", 1),
        ("generator_flops_per_image", "G MFLOPs / image", 1e-6),
        ("discriminator_flops_per_image", "D MFLOPs / image", 1e-6),
    ):
        if column in table:
            whole = column.endswith(("steps", "parameters"))
            shown[title] = [number(scale * x, 0 if whole else None) for x in table[column]]
    return shown


def markdown(table: pd.DataFrame) -> str:
    """A formatted table in Markdown; words to the left, numbers to the right."""
    return tabulate(
        [[str(cell).replace("|", "\\|").replace("\n", "<br>") for cell in row] for row in table.values.tolist()],
        headers=list(table.columns),
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left" if column in WORDS else "right" for column in table.columns],
    )


def heading(metric: str) -> str:
    """The metric's label with its arrow: "FID ↓"."""
    return f"{METRICS[metric].label} {METRICS[metric].arrow}".strip()


def plain(markdown_text: str) -> str:
    """A cell without Markdown's marks."""
    return re.sub(r"[`*]", "", markdown_text)


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _needed(answer: Answer) -> str:
    if answer.verdict != "unresolved":
        return "–" if answer.verdict == NOT_TESTABLE else "settled"
    if answer.problem:
        return "–"
    return f"> {MOST_SEEDS}" if answer.seeds_needed is None else str(answer.seeds_needed)


def _failures(row: Mapping[str, Any]) -> str:
    if row["ended"] == 0:
        return "–"
    low, high = 100 * row["diverged_low"], 100 * row["diverged_high"]
    return f"{row['diverged']} of {row['ended']} [{low:.0f}, {high:.0f}%]"


def _mean_and_interval(row: Mapping[str, Any], name: str, scale: float = 1) -> str:
    mean, low, high = (scale * row[name + end] for end in ("", "_low", "_high"))
    missed = row.get(f"{name}_not_reached", 0)
    if missed and not math.isnan(missed):
        never = f"never in {missed:.0f} of {row['n']}"
        return "never" if missed == row["n"] else never if math.isinf(mean) else f"median {number(mean)}, {never}"
    return with_interval(mean, low, high)
