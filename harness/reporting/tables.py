"""The tables of a report: numbers as data frames (for CSV), and the same formatted for people."""

import dataclasses
import math
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from pylatexenc.latexencode import UnicodeToLatexEncoder
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from harness.analysis import results
from harness.analysis.answers import Answer, Verdict
from harness.analysis.statistics import (
    FEWEST_FOR_A_CLAIM,
    MOST_SEEDS,
    Estimate,
    failure_rate,
    location,
    mean_interval,
    paired_differences,
    pairing_pays_above,
    seed_correlation,
)
from harness.analysis.wording import count, effect, number, p_value, with_interval
from harness.errors import UserError
from harness.metrics import COLLAPSED_IS, METRICS, collapsed_below, proof_in_words
from harness.spec import ScoreProtocol
from harness.storage.store import Store
from harness.study import Question, Study

WORDS = ("arm", "level", "claim", "verdict", "status", "error", "study", "effects [95%]", "", " ")
"""Columns of words, which stand to the left; numbers stand to the right."""
SCORES = ("fid", "is_mean", "kid", "precision", "recall")
FEW_IMAGES = 1000
"""Fewer real images than this to score against, and a report warns of it."""
MOST_CAUTIONS = 5
"""Sentences of warning at the end of a run; all are on the page."""
LONGEST_CAUTION = 240
"""Characters of such a sentence."""
MOST_LISTED = 4
"""More values than this of one fact, over the trials of a study, are summarised."""
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


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """The trials that finished and have scores: not diverged, not failed, not still to be scored."""
    return rows[(rows.status == "ok") & rows.fid.notna()]


def values(rows: pd.DataFrame, arm: str, metric: str) -> pd.Series:
    """A metric of an arm's scored trials by seed, in the seeds' order; +inf where a threshold was not reached."""
    if metric not in rows:
        return pd.Series(dtype=float, index=pd.Index([], name="seed"))
    found = rows.loc[(rows.arm == arm) & (rows.status == "ok") & rows.fid.notna(), ["seed", metric]]
    return found.set_index("seed")[metric].dropna().sort_index()


def paired(rows: pd.DataFrame, arm: str, baseline: str, metric: str) -> pd.Series:
    """The arm's effect at each seed that both arms have: the ratio to the baseline or the difference from it.

    Infinite values stay: 0 or inf where one arm alone did not reach a threshold; seeds where neither did are left out,
    and so are those where a value is 0 or, by rounding, below, which has no ratio.
    """
    theirs = values(rows, baseline, metric)
    mine = values(rows, arm, metric).reindex(theirs.index).dropna()
    theirs = theirs.loc[mine.index]
    if METRICS[metric].scale != "ratio":
        return (mine - theirs).dropna()
    positive = (mine > 0) & (theirs > 0)
    return (mine[positive] / theirs[positive]).dropna()


def paired_question(study: Study, question: Question, rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Level label -> `paired` against the baseline; of an interaction, what that is beyond the same against `versus`.

    The baseline's own level is left out.
    """
    found = {}
    arms, others = study.arms(question), study.arms_versus(question)
    for label, arm in arms.items():
        if arm == question.baseline:
            continue
        mine = paired(rows, arm, question.baseline, question.metric)
        if question.versus:
            theirs = paired(rows, others[label], question.versus, question.metric).reindex(mine.index).dropna()
            mine = mine.loc[theirs.index]
            mine = mine / theirs if METRICS[question.metric].scale == "ratio" else mine - theirs
        found[label] = mine.dropna()
    return found


def arm_interval(found: pd.Series, metric: str) -> Estimate:
    """The mean of an arm's finite values of a metric, with an interval inside the metric's limits."""
    lowest, highest = METRICS[metric].limits
    return mean_interval(found, lowest=lowest, highest=highest)


def arm_row(rows: pd.DataFrame, arm: str, baseline: str | None, metric: str = "fid") -> dict[str, float | int | str]:
    """One arm's numbers: counts, each score's mean and 95% interval over seeds, and against the baseline by seed.

    Diverged seeds have no score: they are counted, and left out of means and pairs.

    Args:
        rows: A results table.
        arm: Whose row.
        baseline: The arm to pair with; None for none.
        metric: What is paired, by its difference and, where it is compared so, its ratio.
    """
    mine = rows[rows.arm == arm]
    finished = scored(mine)
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
    for name in dict.fromkeys((metric, *SCORES)):
        found = values(rows, arm, name)
        never = int((found == math.inf).sum())  # of these a mean over the others would flatter the arm
        row |= _columns(name, location(found) if never else arm_interval(found, name))
        if never:
            row[f"{name}_not_reached"] = never
    row["seconds"] = float(finished.seconds.mean()) if len(finished) else math.nan
    if baseline is not None and baseline != arm:
        theirs = values(rows, baseline, metric)
        a = values(rows, arm, metric).reindex(theirs.index).dropna()
        b = theirs.loc[a.index]
        finite = (a != math.inf) & (b != math.inf)
        row["pairs"] = len(a)
        row |= _columns(f"{metric}_difference", location(paired_differences(a, b)))
        if METRICS[metric].scale == "ratio":
            positive = (a > 0) & (b > 0)
            finite = finite[positive]
            a, b = np.log(a[positive]), np.log(b[positive])  # as they are compared
            logs = location(paired_differences(a, b))
            row |= {name: float(np.exp(value)) for name, value in _columns(f"{metric}_ratio", logs).items()}
        row["seed_correlation"] = seed_correlation(a[finite], b[finite])
        row["pairing_pays_above"] = pairing_pays_above(len(a))
    return row


def question_table(study: Study, question: Question, rows: pd.DataFrame) -> pd.DataFrame:
    """One row a level, in the factor's order; columns as in `arm_row`, with `level` and `is_baseline` first."""
    arms = study.arms(question)
    return pd.DataFrame(
        {
            "level": level,
            "is_baseline": arm == question.baseline,
            **arm_row(rows, arm, question.baseline, question.metric),
        }
        for level, arm in arms.items()
    )


def overview_table(rows: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """One row an arm, in the given order; columns as in `arm_row`, without pairs."""
    return pd.DataFrame(arm_row(rows, arm, None) for arm in arms)


def cost_table(rows: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """What one trial of each arm costs: one row an arm; times are means over its scored trials, sizes are the same.

    A column that no trial recorded is left out.
    """
    finished = scored(rows)
    table = finished.groupby("arm")[[c for c in (*SIZES, *COSTS) if c in finished]].mean().reindex(arms)
    return table.dropna(axis=1, how="all").rename_axis("arm").reset_index()


def failure_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Every trial that diverged or failed: arm, seed, status, error."""
    lost = rows[rows.status != "ok"].reindex(columns=["arm", "seed", "status", "error"])
    return lost.sort_values(["status", "arm", "seed"], ignore_index=True)


def verdict_table(answers: Sequence[Answer]) -> pd.DataFrame:
    """One row a claim; the columns are the fields of `Answer`."""
    return pd.DataFrame(map(dataclasses.asdict, answers), columns=[f.name for f in dataclasses.fields(Answer)])


def formatted_verdicts(answers: Sequence[Answer]) -> pd.DataFrame:
    """The verdicts for people: what was claimed, what came out, and what it rests on."""
    return pd.DataFrame(
        {
            "claim": [a.claim for a in answers],
            "verdict": [a.verdict for a in answers],
            "effect [95%]": [effect(a.effect, a.low, a.high, a.scale) if a.n else "–" for a in answers],
            "p of the verdict (Holm)": [f"{p_value(a.p)} ({p_value(a.p_holm)})" for a in answers],
            "exact p": [p_value(a.p_exact) for a in answers],
            "n": [str(a.n) for a in answers],
            "diverged": [str(a.failures) for a in answers],
            "seeds needed": [_needed(a) for a in answers],
        }
    )


def formatted(table: pd.DataFrame, metric: str = "fid") -> pd.DataFrame:
    """A question's or overview table for people: means with 95% intervals, arrows towards better.

    Args:
        table: What `question_table` or `overview_table` gave.
        metric: The question's own: it comes first, with its effect.
    """
    shown = pd.DataFrame()
    lines = list(table.itertuples())
    if "level" in table:
        shown["level"] = [f"{r.level} (baseline)" if r.is_baseline else r.level for r in lines]
    else:
        shown["arm"] = table.arm
    shown["seeds"] = table.n.astype(str)
    shown["diverged [95%]"] = [_failures(r) for r in lines]
    if table.failed.any():
        shown["failed"] = table.failed.astype(str)
    shown[f"{heading(metric)} [95%]"] = [_mean_and_interval(r, metric) for r in lines]
    if "level" in table:
        scale = METRICS[metric].scale
        ends = [f"{metric}_{scale}{end}" for end in ("", "_low", "_high")]
        shown[f"{scale} [95%]"] = [
            "" if r.is_baseline else effect(*(getattr(r, e, math.nan) for e in ends), scale) for r in lines
        ]
    if metric != "fid":
        shown["FID ↓ [95%]"] = [_mean_and_interval(r, "fid") for r in lines]
    shown["KID×10³ ↓"] = [_mean_and_interval(r, "kid", 1000) for r in lines]
    shown["IS ↑"] = [_mean_and_interval(r, "is_mean") for r in lines]
    shown["precision ↑"] = [_mean_and_interval(r, "precision") for r in lines]
    shown["recall ↑"] = [_mean_and_interval(r, "recall") for r in lines]
    shown["s/trial"] = [number(s) for s in table.seconds]
    return shown


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


def latex(table: pd.DataFrame) -> str:
    """A formatted table as LaTeX's tabular; its document needs the package booktabs and no other."""
    columns = "".join("l" if column in WORDS else "r" for column in table.columns)
    encode = UnicodeToLatexEncoder(unknown_char_policy="keep", unknown_char_warning=False).unicode_to_latex
    shown = table.map(lambda cell: encode(str(cell))).rename(columns=encode)
    return "% needs \\usepackage{booktabs}\n" + shown.to_latex(index=False, escape=False, column_format=columns)


def study_for_terminal(
    study: Study, profile: str, store: Store, answers: Sequence[Answer], *, full: bool = False
) -> list[RenderableType]:
    """The end of a run: counts of verdicts, a line each claim, and what weakens them most; the page has the rest.

    Args:
        study: Whose answers.
        profile: At which profile.
        store: Where its results are.
        answers: To its claims.
        full: Whether to add the arms' scores, every answer's sentence and all that a reader must know.
    """
    rows = results.load(store, study=study.name, profile=profile)
    verdicts = formatted_verdicts(answers)[["claim", "verdict", "effect [95%]", "n"]]
    told: list[RenderableType] = [Text(study.title, style="bold"), _counted(list(verdicts.verdict))]
    told += ["", _terminal_table(verdicts)] if answers else []
    found = [*extractor_proof(study, profile, store), *cautions(study, profile, store, rows)]
    if full:
        arms = list(results.planned(store, study.name, profile).arm.unique())
        scores = formatted(overview_table(rows, arms))
        scores = scores.drop(columns=[c for c in scores if c.startswith(("KID", "precision", "recall"))])
        sentences = [f"- {answer.sentence}" for answer in answers]
        return [*told, "", _terminal_table(scores), *(f"\n{line}" for line in (*sentences, *found)), ""]
    return [*told, "", *_in_short(found), ""]


def claims_for_terminal(table: pd.DataFrame, *, full: bool = False) -> list[RenderableType]:
    """The summary: counts of verdicts and a line each claim of the summary's table; with effects where full."""
    shown = table if full else table[["claim", "verdict", "n"]]
    return [_counted(list(table.verdict)), "", _terminal_table(shown)]


def _counted(verdicts: Sequence[str]) -> str:
    """12 claims: 1 supported, 0 refuted, 11 unresolved."""
    counts = {verdict: 0 for verdict in get_args(Verdict)} | Counter(verdicts)
    return f"{count(len(verdicts), 'claim')}: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}"


def _terminal_table(shown: pd.DataFrame) -> Table:
    """A formatted table that fits any terminal: words are wrapped, and numbers only where they must be."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in shown:
        words = column in ("arm", "claim")
        table.add_column(column, justify="left" if words or column == "verdict" else "right", overflow="fold")
    colours = {"supported": "green", "refuted": "red", "unresolved": "dim"}
    for row in shown.itertuples(index=False):
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    return table


def _in_short(found: Sequence[str]) -> list[str]:
    """The first sentence of each caution; no more than MOST_CAUTIONS sentences, and none is long."""
    shown = found if len(found) <= MOST_CAUTIONS else found[: MOST_CAUTIONS - 1]
    short = [
        textwrap.shorten(re.split(r"(?<=[.!?])\s", caution)[0], LONGEST_CAUTION, placeholder=" …") for caution in shown
    ]
    return short + [f"{len(found) - len(shown)} more warnings stand on the page."] * (len(shown) < len(found))


def extractor_proof(study: Study, profile: str, store: Store) -> list[str]:
    """What each classifier that scored gets right of real pictures that it has not seen; none where none scored."""
    plan = store.read_plan(study.name, profile) or {"cells": []}
    protocols = dict.fromkeys(cell.get("protocol_id", plan.get("protocol_id")) for cell in plan["cells"])
    found = {protocol_id: proof_in_words(store.read_reference(protocol_id)) for protocol_id in protocols}
    several = len(found) > 1
    return [f"{f'Protocol {key}: ' if several else ''}{words}." for key, words in found.items() if words]


def cautions(study: Study, profile: str, store: Store, rows: pd.DataFrame) -> list[str]:
    """What a reader must know before believing the tables: too few seeds, missing, failed or diverged trials."""
    plan = results.planned(store, study.name, profile)
    found = []
    seeds = plan.seed.nunique()
    why = f"no claim can rest on fewer than {FEWEST_FOR_A_CLAIM}: an exact paired test could not reach p = 0.05."
    ended = rows[(rows.status == "diverged") | rows.index.isin(scored(rows).index)]
    counts = ended.groupby("arm").size().reindex(plan.arm.unique(), fill_value=0)
    few = counts[(counts > 0) & (counts < FEWEST_FOR_A_CLAIM)]
    if seeds < FEWEST_FOR_A_CLAIM:
        found.append(f"Exploratory: {count(seeds, 'seed')} an arm, and {why}")
    elif len(few) and len(few) == (counts > 0).sum():
        found.append(f"Exploratory: at most {count(int(few.max()), 'finished seed')} an arm, and {why}")
    elif len(few):
        found.append(
            f"Exploratory where few seeds have finished: {'; '.join(f'{a} ({n})' for a, n in few.items())}; {why}"
        )
    protocol_id = (store.read_plan(study.name, profile) or {}).get("protocol_id", "")
    protocol = _protocol(store, protocol_id, list(rows.trial_id))
    if protocol is not None and protocol.num_reference < FEW_IMAGES:
        found.append(
            f"Scored against {protocol.num_reference} real images: of so few, FID and the others say little; "
            f"at least {FEW_IMAGES:,} should be left that no GAN is trained on."
        )
    unknown = [arm for q in study.questions for arm in study.arms(q).values() if arm not in set(plan.arm)]
    if unknown:
        found.append(
            f"The study has since gained arms that were never planned here: {'; '.join(dict.fromkeys(unknown))}. "
            "The same command runs them."
        )
    missing = len(set(plan.trial_id) - set(rows.trial_id))
    if missing:
        found.append(f"{missing} of {len(plan)} planned trials have not been run yet; the same command runs them.")
    failed = int((rows.status == "failed").sum())
    if failed:
        found.append(
            f"{count(failed, 'trial')} failed for reasons outside the model, not in the means; run again to retry."
        )
    diverged = int((rows.status == "diverged").sum())
    if diverged:
        found.append(
            f"{count(diverged, 'trial')} diverged: an outcome, but without a score, so that the means are over the "
            "surviving seeds and flatter the arm. Read them beside the column 'diverged'; ranks count it as +∞."
        )
    collapsed = _collapsed(scored(rows), store).groupby("arm").size()
    if len(collapsed):
        found.append(
            f"Collapsed, though they did not diverge: samples of one kind only (IS below {COLLAPSED_IS}, and not a "
            "tenth of the way from 1, the least, to that of real images) in "
            f"{'; '.join(f'{arm} ({n} of {counts[arm]})' for arm, n in collapsed.items())}."
        )
    unscored = int((rows.status == "ok").sum()) - len(scored(rows))
    if unscored:
        found.append(f"{count(unscored, 'trial')} finished but not scored under this protocol; run again to score.")
    if scored(rows).empty:
        found.append("No trial has finished: there is nothing to compare.")
    return found


def _collapsed(rows: pd.DataFrame, store: Store) -> pd.DataFrame:
    """Those of scored trials whose IS says mode collapse, judged by the real images' own under the same protocol."""
    if rows.empty:
        return rows
    real = {key: store.read_reference(key).get("is_mean", math.nan) for key in rows.protocol_id.unique()}
    return rows[rows.is_mean < rows.protocol_id.map(real).map(collapsed_below)]


def provenance(study: Study, profile: str, store: Store, rows: pd.DataFrame) -> pd.DataFrame:
    """The box that says how the numbers were made: one line a subject."""
    plan = store.read_plan(study.name, profile)
    if plan is None:
        raise UserError(f"{study.name} ({profile}) never ran in {store.root}; run it first")
    made = [store.read_result(trial_id)["provenance"] for trial_id in rows.trial_id]
    protocol = _protocol(store, plan["protocol_id"], list(rows.trial_id))

    made.sort(key=lambda p: str(p.get("date", "")))

    def distinct(key: str) -> str:
        """What trials have here, the earliest first; of many, the ends."""
        there = list(dict.fromkeys(str(p[key]) for p in made if p.get(key)))
        if len(there) > MOST_LISTED:
            return f"{len(there)} in all, from {there[0]} to {there[-1]}"
        return ", ".join(there) or "–"

    dates = sorted(p["date"] for p in made if p.get("date"))
    seeds = results.planned(store, study.name, profile).seed.nunique()
    lines = {
        "command": f"`python -m studies run {Path(study.file).name} --profile {profile} --seeds {seeds}"
        f"{store_words(store, '--store ')}`"
        if study.file
        else f"`make study-{study.name} PROFILE={profile} SEEDS={seeds}{store_words(store, 'STORE=')}`",
        "trials": f"{len(rows)} of {len(plan['cells'])} planned, {len(scored(rows))} scored",
        "protocol": f"{plan['protocol_id']}: {protocol.describe() if protocol else 'no scored trial'}",
        "extractor": " ".join(extractor_proof(study, profile, store)) or "–",
        "real against real": _scores(store.read_reference(plan["protocol_id"])),
        **{
            f"untrained {name}": _scores(store.read_scores(trial_id)[plan["protocol_id"]][1])
            for name, trial_id in plan.get("ceilings", {}).items()
            if store.status(trial_id) == "ok" and plan["protocol_id"] in store.read_scores(trial_id)
        },
        "commit": distinct("commit") + (" (+ marks a changed working tree)" if "+" in distinct("commit") else ""),
        "dates": f"{dates[0]} to {dates[-1]}" if dates else "–",
        "hardware": f"{distinct('cpu')}; GPU: {distinct('gpu')}; {distinct('threads')} thread a trial",
        "software": ", ".join(
            f"{k} {distinct(k)}" for k in ("python", "torch", "torch_fidelity", "torchmetrics", "ray")
        ),
        "compute": f"{rows.seconds.sum() / 3600:.2f} hours of trials",
    }
    return pd.DataFrame({"": lines.keys(), " ": lines.values()})


def heading(metric: str) -> str:
    """The metric's label with its arrow: "FID ↓"."""
    return f"{METRICS[metric].label} {METRICS[metric].arrow}".strip()


def plain(markdown_text: str) -> str:
    """A cell without Markdown's marks."""
    return re.sub(r"[`*]", "", markdown_text)


def _protocol(store: Store, protocol_id: str, trial_ids: list[str]) -> ScoreProtocol | None:
    for trial_id in trial_ids:
        scored = store.read_scores(trial_id)
        if protocol_id in scored:
            return scored[protocol_id][0]
    return None


def store_words(store: Store, option: str) -> str:
    """What a command needs to name the store: nothing where it is the folder that commands take by themselves."""
    return "" if store.root.name == "runs" else f" {option}{store.root.name}"


def _scores(scores: Mapping[str, float]) -> str:
    if not scores:
        return "not computed"
    return (
        f"FID {scores['fid']:.2f}, KID×10³ {1000 * scores['kid']:.2f}, IS {scores['is_mean']:.2f}, "
        f"precision {scores['precision']:.3f}, recall {scores['recall']:.3f}"
    ).replace("-", "−")


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _needed(answer: Answer) -> str:
    if answer.verdict != "unresolved":
        return "settled"
    if answer.problem:
        return "–"
    return f"> {MOST_SEEDS}" if answer.seeds_needed is None else str(answer.seeds_needed)


def _failures(row: Any) -> str:
    if row.ended == 0:
        return "–"
    return f"{row.diverged} of {row.ended} [{100 * row.diverged_low:.0f}, {100 * row.diverged_high:.0f}%]"


def _mean_and_interval(row: Any, name: str, scale: float = 1) -> str:
    mean, low, high = (scale * getattr(row, name + end) for end in ("", "_low", "_high"))
    missed = getattr(row, f"{name}_not_reached", 0)
    if missed and not math.isnan(missed):
        return "never" if missed == row.n else f"median {number(mean)}; {missed:.0f} never"
    return with_interval(mean, low, high)
