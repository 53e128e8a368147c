"""What one arm does to a metric against another, over seeds. Every effect that is shown anywhere is computed here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from harness.analysis.statistics import Estimate, location, mean_interval, paired_differences, seed_correlation
from harness.errors import UserError
from harness.metrics import METRICS
from harness.questions import Question
from harness.study import Design

Scale = Literal["ratio", "difference"]

WIDEST = 10.0
"""Of a metric where higher is better: no interval whose upper end is more than so many times as far out as the mean."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One metric at some arms and seeds, as arms are compared by it, and what else is known of these trials."""

    scale: Scale
    seeds: tuple[int, ...]
    values: np.ndarray
    """(arms, seeds): logarithms where the scale is "ratio". ±inf, the worst there is, where a trial diverged or never
    reached a level of FID; NaN where a trial is missing, failed or has no score, or has one of 0 that has no ratio."""
    trials: np.ndarray  # (arms, seeds) what tells trials apart; "" where one is missing
    diverged: np.ndarray  # (arms,) trials that diverged
    without_ratio: np.ndarray  # (arms,) trials with a score of 0 or, by rounding, below, where ratios are compared
    seconds: np.ndarray  # (arms,) what the trials have cost, failed ones too
    others: np.ndarray | None = None  # of an interaction: (2, arms, seeds), what `values` is the difference of


@dataclass(frozen=True, kw_only=True)
class Effect(Estimate):
    """What one arm's runs score against another's, paired by seed: a ratio or a difference, and its 95% interval.

    A diverged trial is an outcome: where a pair is infinite, `mean` is the median over pairs, and ends of the interval
    may be infinite (`statistics.location`). Else it is the mean, geometric of ratios. `n` counts the seeds that say
    something: both arms have a score there, and did not both diverge, which is a tie.
    """

    scale: Scale
    failures: int  # diverged trials of the two
    seed_correlation: float  # of the scores that are compared, where both are finite
    by_seed: pd.Series  # seed -> the effect there; infinite, or a ratio of 0, where one of the two is; ties left out


def level_arms(design: Design, question: Question, *, versus: bool = False) -> dict[str, str]:
    """Level label -> arm name, in the factor's order; of the other network of an interaction, empty without one."""
    arms = design.arms_versus(question) if versus else design.arms(question)
    return {label: arm.name for label, arm in arms.items()}


def scores_of(rows: pd.DataFrame, arms: Sequence[str], metric: str, scale: Scale | None = None) -> Scores:
    """A metric of these arms at every seed of a results table.

    Args:
        rows: A results table of one study at one profile (`harness.analysis.results.load`), in any order.
        arms: By name, those without any trial too.
        metric: A key of METRICS.
        scale: How arms are compared, where not as is usual for the metric.

    Raises:
        UserError: the table has several trials for one arm and seed.
    """
    how = METRICS[metric]
    scale = scale or how.scale
    worst = {"lower": math.inf, "higher": -math.inf, "neither": math.nan}[how.better]
    found = rows[metric] if metric in rows else [math.nan] * len(rows)
    seeds, places = tuple(sorted(set(rows.seed))), {arm: i for i, arm in enumerate(arms)}
    columns = {seed: i for i, seed in enumerate(seeds)}
    values = np.full((len(arms), len(seeds)), np.nan)
    trials = np.full(values.shape, "", dtype=object)
    diverged, without_ratio = np.zeros((2, len(arms)), dtype=int)
    seconds, seen = np.zeros(len(arms)), set()
    ids = _told_apart(rows)
    columns_of_rows = (rows.arm, rows.seed, ids, rows.status, found, rows.seconds)
    for arm, seed, trial_id, status, value, cost in zip(*columns_of_rows, strict=True):
        if arm not in places:
            continue
        if (arm, seed) in seen:
            raise UserError(
                f"several trials of arm {arm!r} at seed {seed}; answers need the results of one study at one "
                f"profile: name both where they are loaded"
            )
        seen.add((arm, seed))
        i, at = places[arm], columns[seed]
        trials[i, at] = trial_id
        seconds[i] += cost if math.isfinite(cost) else 0
        if status == "diverged":
            diverged[i] += 1
            values[i, at] = worst
        elif status == "ok" and scale == "difference":
            values[i, at] = value
        elif status == "ok" and value > 0:
            values[i, at] = math.log(value)
        elif status == "ok" and value <= 0:
            without_ratio[i] += 1
    return Scores(
        scale=scale,
        seeds=seeds,
        values=values,
        trials=trials,
        diverged=diverged,
        without_ratio=without_ratio,
        seconds=seconds,
    )


def _told_apart(rows: pd.DataFrame) -> list[str]:
    """What tells trials apart: their measurements where these are known, to the last digit, else their ids.

    Two specs may be one training under two names: a half-life beyond what the budget lets it reach, a schedule that
    never begins. To call these "the same" would be a verdict about nothing.
    """
    ids = rows["trial_id"] if "trial_id" in rows else pd.Series("", rows.index)
    if not {"fid", "kid", "g_loss_late"} <= set(rows):
        return list(ids)
    measured = rows[["fid", "kid", "g_loss_late"]].to_numpy(float)
    return [repr(m.tolist()) if np.isfinite(m).all() else i for m, i in zip(measured, ids, strict=True)]


def peaks_of(question: Question, baseline: int) -> tuple[int, ...]:
    """Where a sweet spot may have its peak: at the baseline, or where that is at an end, at every level between."""
    last = len(question.factor.levels) - 1
    return (baseline,) if 0 < baseline < last else tuple(range(1, last))


def levels_together(question: Question, baseline: int) -> list[int]:
    """The levels that a seed must have to say anything of a trend or a sweet spot; empty for the other kinds."""
    last = len(question.factor.levels) - 1
    if question.kind == "trend":
        return list(range(last + 1))
    return sorted({0, *peaks_of(question, baseline), last}) if question.kind == "sweet-spot" else []


def question_scores(design: Design, question: Question, rows: pd.DataFrame, scale: Scale | None = None) -> Scores:
    """The scores of a question's levels, in their order; of an interaction, what they are beyond those of `versus`.

    A trend and a sweet spot are about several levels at once: seeds that lack one of these are left out of all, so that
    everything that is said of the question rests on the same seeds. A level without any score is no reason.
    """
    names = list(level_arms(design, question).values())
    own = scores_of(rows, names, question.metric, scale)
    if not question.versus:
        together = own.values[levels_together(question, names.index(question.baseline))]
        lacking = np.isnan(together[~np.isnan(together).all(1)]).any(0)
        return replace(own, values=np.where(lacking, np.nan, own.values))
    other = scores_of(rows, list(level_arms(design, question, versus=True).values()), question.metric, scale)
    return replace(
        own,
        values=paired_differences(own.values, other.values),
        others=np.stack([own.values, other.values]),
        diverged=own.diverged + other.diverged,
        without_ratio=own.without_ratio + other.without_ratio,
        seconds=own.seconds + other.seconds,
    )


def paired_effect(scores: Scores, treated: int, baseline: int, *, sequential: bool) -> Effect:
    """The effect of one arm of `scores` against another, by their places in it.

    Args:
        scores: Of both.
        treated: Whose effect.
        baseline: Against whom.
        sequential: Whether the number of seeds depended on interim analyses: the interval then holds over all of them.
    """
    a, b = scores.values[treated], scores.values[baseline]
    x = paired_differences(a, b)
    where = location(x, anytime=sequential)
    finite = np.isfinite(a) & np.isfinite(b)
    told = pd.Series(x, index=pd.Index(scores.seeds, name="seed")).dropna()
    return Effect(
        mean=_natural(where.mean, scores.scale),
        low=_natural(where.low, scores.scale),
        high=_natural(where.high, scores.scale),
        scale=scores.scale,
        n=len(told),
        failures=int(scores.diverged[[treated, baseline]].sum()),
        seed_correlation=seed_correlation(a[finite], b[finite]),
        by_seed=told.map(lambda value: _natural(value, scores.scale)),
    )


def level_effects(
    design: Design, question: Question, rows: pd.DataFrame, *, sequential: bool, scale: Scale | None = None
) -> dict[str, Effect]:
    """Level label -> its effect against the baseline's level, which is left out.

    Of an interaction: what the level does to `baseline` beyond what it does to `versus`.
    """
    scores, arms = question_scores(design, question, rows, scale), level_arms(design, question)
    baseline = list(arms.values()).index(question.baseline)
    return {
        label: paired_effect(scores, i, baseline, sequential=sequential)
        for i, label in enumerate(arms)
        if i != baseline
    }


def arm_values(rows: pd.DataFrame, arm: str, metric: str) -> pd.Series:
    """A metric of an arm's finished trials by seed, in the seeds' order; +inf where a level of FID was not reached."""
    mine = (rows.arm.to_numpy() == arm) & (rows.status.to_numpy(object, na_value=None) == "ok")
    found = rows[metric].to_numpy(float) if metric in rows else np.full(len(rows), math.nan)
    seeds = rows.seed.to_numpy()
    places = np.flatnonzero(mine & ~np.isnan(found))
    places = places[seeds[places].argsort()]
    return pd.Series(found[places], pd.Index(seeds[places], name="seed"), name=metric)


def arm_mean(found: pd.Series, metric: str) -> Estimate:
    """The mean of `arm_values` with an interval that holds only values that the metric can have.

    Where some are infinite, of which a mean over the others would flatter the arm: the median with its interval. What
    caps IS depends on the extractor's classes, which are not at hand: an interval that ends at more than WIDEST times
    the mean's distance from 1 has no ends (NaN), as it tells no more than that seeds are far apart.
    """
    lowest, highest = METRICS[metric].limits
    if np.isinf(found).any():
        return location(found)
    mean = mean_interval(found, lowest=lowest, highest=highest)
    capped = METRICS[metric].better == "higher" and math.isinf(highest)
    if capped and math.isfinite(lowest) and mean.high - lowest > WIDEST * (mean.mean - lowest):
        return replace(mean, low=math.nan, high=math.nan)
    return mean


def _natural(value: float, scale: Scale) -> float:
    """From the scale of the differences to the one that people read."""
    if scale == "difference":
        return value
    return math.inf if value > 700 else math.exp(value)
