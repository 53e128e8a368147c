"""From a question and the results table to answers: supported, refuted or unresolved, and why.

docs/statistics.md explains every rule; benchmarks/calibration.py simulates how often a verdict is wrong.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from harness.analysis.statistics import (
    ALPHA,
    FEWEST_FOR_A_CLAIM,
    MOST_SEEDS,
    anytime_p_greater,
    holm,
    location,
    order_differences,
    p_greater,
    page_p_rising,
    paired_differences,
    probability_of_improvement,
    seed_correlation,
    seeds_needed,
    sign_flip_p_greater,
    smallest_p,
)
from harness.analysis.wording import count, effect, p_value
from harness.errors import UserError
from harness.metrics import METRICS
from harness.study import Question, Study

Verdict = Literal["supported", "refuted", "unresolved"]
Test = Callable[[np.ndarray, float], np.ndarray]
"""(differences (..., n), margin) -> (...) p values that they lie above it: one of statistics' p_greater functions."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one claim of a question; a contrast makes one claim a level, other kinds make one.

    Where a score is infinite (a diverged trial, a level of FID that was not reached), `effect` is the median over the
    pairs instead of the mean, and an end of its interval may be infinite.
    """

    question: str  # the question's key
    claim: str  # in words, for example "FID is lower at 0.1 than at 0 (dc, instance noise on D's input, std)"
    level: str  # the level compared with the baseline; "" for a claim about all levels
    verdict: Verdict
    effect: float  # ratio or difference to the baseline (sweet spot: the smaller side's; trend: last level to first)
    low: float  # of its 95% interval, not corrected for the other claims; NaN where there is none
    high: float
    scale: Literal["ratio", "difference"]
    p: float  # raw, of the verdict: of what refutes the claim where it is refuted, else two-sided of the claim itself
    p_holm: float  # corrected within the question
    smallest_p: float  # that so many seeds can reach, by the exact test that stands beside
    p_exact: float  # as p, by sign-flip tests in place of t tests
    n: int  # seeds in the comparison
    failures: int  # diverged trials among the arms compared
    seed_correlation: float
    probability_of_improvement: float  # that a random run scores better than one of the baseline (trend: first level)
    seeds_needed: int | None  # in all, for an answer; None where settled, with a problem, or above MOST_SEEDS
    seconds: float  # what the trials compared have cost
    method: str  # the tests used, in a few words
    problem: str  # why it cannot be judged, whatever the seeds; "" where it can
    sentence: str  # the answer in one plain sentence


def answer_study(study: Study, rows: pd.DataFrame, sequential: bool = False) -> list[Answer]:
    """The answers to all questions of a study, in their order; see `answer`."""
    return [found for question in study.questions for found in answer(study, question, rows, sequential)]


def answer(study: Study, question: Question, rows: pd.DataFrame, sequential: bool = False) -> list[Answer]:
    """The answers to a question's claims, in the order of its levels.

    Arms are paired by seed. Failed trials are missing; diverged ones have the worst score there is. What is not there
    makes an unresolved answer that says so.

    Args:
        study: Names the arms of the levels.
        question: One of its questions.
        rows: A results table of this study at one profile (`harness.analysis.results.load`).
        sequential: For a study that is looked at again and again while seeds are added: p values, intervals and
            verdicts stay valid over looks after every seed.

    Raises:
        UserError: the table has several trials for one arm and seed.
    """
    return [found for found, _ in _answers(study, question, rows, sequential)]


def arms_open(study: Study, rows: pd.DataFrame) -> set[str]:
    """The arms, baselines included, that more seeds are needed of: those compared in claims still unresolved.

    Verdicts are those of `answer` over looks. A sweet spot needs its ends and its peak, not the levels between.
    """
    found: set[str] = set()
    for question in study.questions:
        sweeps = [list(arms.values()) for arms in (study.arms(question), study.arms_versus(question)) if arms]
        for one, claim in _answers(study, question, rows, sequential=True):
            if one.verdict == "unresolved" and not claim.problem:
                found |= {arms[i] for arms in sweeps for i in claim.levels}
    return found


# ---- verdicts: on arrays of any number of studies, so that the calibration runs the same code ----


@dataclass(frozen=True)
class Evidence:
    """What the tests say of a question's claims: three arrays (..., claims)."""

    p: np.ndarray  # of the claim; two-sided, but for equality
    toward: np.ndarray  # whether p speaks for the claim rather than for its opposite
    against: np.ndarray  # p of the claim's refutation


def judge(
    question: Question, baseline: int, scores: np.ndarray, *, sequential: bool = False
) -> tuple[Evidence, np.ndarray]:
    """The evidence on a question's claims, and their verdicts.

    All after Holm's correction. Refuted: the opposite, or an effect below the smallest of interest, is shown.
    Supported: not that, and the claim is shown. Unresolved: neither, or fewer than FEWEST_FOR_A_CLAIM seeds.

    Args:
        question: What is claimed.
        baseline: Which level is the baseline's.
        scores: (..., levels, seeds) on the metric's scale of comparison, seeds in their order; ±inf where a trial
            diverged, NaN where one is missing. Seeds that lack a level are left out of a trend.
        sequential: Whether to stay valid over looks after every seed.

    Returns:
        The evidence, and "supported", "refuted" or "unresolved" as an array (..., claims).
    """
    claims = _claims(question, baseline)
    found = _evidence(question, baseline, scores, anytime_p_greater if sequential else p_greater)
    enough = np.stack([_num_seeds(scores, claim) for claim in claims], -1) >= FEWEST_FOR_A_CLAIM
    shown, refuted = holm(found.p) <= ALPHA, holm(found.against) <= ALPHA
    if question.kind == "contrast":  # each family has steps of its own: the opposite may be shown in the first alone
        refuted |= shown & ~found.toward
    supported = enough & shown & found.toward
    refuted &= enough
    return found, np.where(refuted, "refuted", np.where(supported, "supported", "unresolved"))


@dataclass(frozen=True)
class _Claim:
    level: str  # "" for all
    words: str
    levels: tuple[int, ...]  # that it compares
    pairs: tuple[tuple[int, int], ...]  # (treated, baseline) levels of its paired differences
    problem: str = ""  # why it cannot be judged, whatever the seeds


def _claims(question: Question, baseline: int) -> list[_Claim]:
    """A question's claims, in the order of its levels."""
    labels = [level.label for level in question.factor.levels]
    metric, last = METRICS[question.metric].label, len(labels) - 1
    if question.kind == "contrast":
        than = {
            "lower": "lower at {} than at {}",
            "higher": "higher at {} than at {}",
            "equal": "the same at {} as at {}",
        }
        words = f"{metric} is {than[question.expected]}"
        return [
            _Claim(label, words.format(label, labels[baseline]), (i, baseline), ((i, baseline),))
            for i, label in enumerate(labels)
            if i != baseline
        ]
    if question.kind == "trend":
        verb = {"rising": "rises", "falling": "falls"}[question.expected]
        problem = "" if last > 0 else "a trend needs at least two levels"
        words = f"{metric} {verb} along {', '.join(labels)}"
        return [_Claim("", words, tuple(range(last + 1)), ((last, 0),), problem)]
    # The declared peak; where the baseline is at an end, every level between may be it, and pays for the choice.
    peaks = (baseline,) if 0 < baseline < last else tuple(range(1, last))
    peak = labels[baseline] if peaks == (baseline,) else "some level between"
    problem = "" if peaks else "a sweet spot needs at least three levels"
    words = f"{metric} is worse at both {labels[0]} and {labels[-1]} than at {peak}"
    pairs = tuple((end, peak) for peak in peaks or (baseline,) for end in (0, last))
    return [_Claim("", words, tuple(sorted({0, baseline, *peaks, last})), pairs, problem)]


def _num_seeds(scores: np.ndarray, claim: _Claim) -> np.ndarray:
    """(...) seeds that have all the levels of the claim."""
    return (~np.isnan(scores[..., claim.levels, :])).all(-2).sum(-1)


def _toward(question: Question, scores: np.ndarray, claim: _Claim) -> np.ndarray:
    """(..., pairs, n) differences of the claim's pairs, above 0 in the direction claimed (equal: upwards)."""
    up = question.expected in ("higher", "rising", "equal") or (
        question.expected == "worse outside" and METRICS[question.metric].better == "lower"
    )
    pairs = [paired_differences(scores[..., i, :], scores[..., j, :]) for i, j in claim.pairs]
    return np.stack(pairs, -2) * (1 if up else -1)


def _margin(question: Question) -> float:
    """The smallest effect of interest on the scale of the differences."""
    ratio = METRICS[question.metric].scale == "ratio"
    return math.log(question.smallest_effect) if ratio else question.smallest_effect


def _evidence(question: Question, baseline: int, scores: np.ndarray, test: Test) -> Evidence:
    claims, margin = _claims(question, baseline), _margin(question)
    if question.kind == "trend":
        scores = scores[..., ~np.isnan(scores).any(tuple(range(scores.ndim - 1)))]
    x = np.concatenate([_toward(question, scores, claim) for claim in claims], -2)
    if question.expected == "equal":
        inside = np.maximum(test(x, -margin), test(-x, -margin))  # two one-sided tests (Schuirmann 1987)
        outside = np.minimum(test(x, margin), test(-x, margin))
        return Evidence(inside, np.ones_like(inside, dtype=bool), outside)
    above, below, small = test(x, 0.0), test(-x, 0.0), test(-x, -margin)
    p, toward = np.minimum(above, below), above < below
    if question.kind == "contrast":
        return Evidence(p, toward, small)
    if question.kind == "sweet-spot":
        return _sweet_spot(p, toward, small)
    rising, falling = _order(scores if question.expected == "rising" else -scores, test)
    return Evidence(np.maximum(p, np.minimum(rising, falling)), toward & (rising < falling), np.minimum(small, falling))


def _sweet_spot(p: np.ndarray, toward: np.ndarray, small: np.ndarray) -> Evidence:
    """From what each side shows, (..., peaks · 2), to the one claim.

    A peak needs both sides (intersection-union, Berger 1982), and either side refutes it; one of several peaks is
    enough, and all must be refuted. Bonferroni's correction wherever one of several is enough.
    """
    sides = (*p.shape[:-1], -1, 2)
    p, toward, small = p.reshape(sides).max(-1), toward.reshape(sides).all(-1), small.reshape(sides).min(-1)
    best = np.where(toward, p, p + 1).argmin(-1)[..., None]
    return Evidence(
        np.minimum(p.shape[-1] * np.take_along_axis(p, best, -1), 1),
        np.take_along_axis(toward, best, -1),
        np.minimum(2 * small.max(-1, keepdims=True), 1),
    )


def _order(scores: np.ndarray, test: Test) -> tuple[np.ndarray, np.ndarray]:
    """Two p values (..., 1): that scores rise and that they fall along their levels: Page's test, or one over looks."""
    if test is anytime_p_greater:
        steps = order_differences(scores)
        return test(steps, 0.0)[..., None], test(-steps, 0.0)[..., None]
    return page_p_rising(scores)[..., None], page_p_rising(-scores)[..., None]


# ---- one study's answers ----


def _answers(study: Study, question: Question, rows: pd.DataFrame, sequential: bool) -> list[tuple[Answer, _Claim]]:
    arms, metric = study.arms(question), METRICS[question.metric]
    names, baseline = list(arms.values()), list(arms.values()).index(question.baseline)
    scores, diverged_of, zero_of, seconds_of = _tabulated(rows, names, question.metric)
    if question.versus:
        others, diverged_there, zero_there, seconds_there = _tabulated(
            rows, list(study.arms_versus(question).values()), question.metric
        )
        with np.errstate(invalid="ignore"):  # both diverged: no interaction to be seen
            scores = scores - others
        diverged_of, seconds_of = diverged_of + diverged_there, seconds_of + seconds_there
        zero_of = zero_of + zero_there
    found, verdicts = judge(question, baseline, scores, sequential=sequential)
    exact = _evidence(question, baseline, scores, _sign_flip)
    answers = []
    for c, claim in enumerate(_claims(question, baseline)):
        levels = list(claim.levels)
        diverged = int(diverged_of[levels].sum())
        lacking = [i for i in claim.levels if np.isnan(scores[i]).all()]
        problem = claim.problem
        if zeros := [names[i] for i in lacking if zero_of[i]]:
            problem = f"{metric.label} is 0 in every trial of {', '.join(zeros)}, and 0 has no ratio"
        elif lacking:
            problem = f"no trial has a score yet of {', '.join(names[i] for i in lacking)}"
        if not problem and diverged and metric.better == "neither":
            problem = f"{count(diverged, 'trial')} diverged without {metric.label}, and leaving them out may mislead"
        if not problem and not question.versus:
            problem = _at_its_bound(question, scores[levels])
        x = _toward(question, scores, claim)
        i, j = claim.pairs[_shown(x)]
        estimate = location(paired_differences(scores[i], scores[j]), anytime=sequential)
        verdict: Verdict = "unresolved" if problem else verdicts[c].item()
        n, better = int(_num_seeds(scores, claim)), -1 if metric.better == "higher" else 1
        opposite = question.expected != "equal" and not found.toward[c] and bool(holm(found.p)[c] <= ALPHA)
        told = [e.against if verdict == "refuted" and not opposite else e.p for e in (found, exact)]
        one = Answer(
            question=question.key,
            claim=f"{claim.words} ({_whose(question)}, {question.factor.label})",
            level=claim.level,
            verdict=verdict,
            effect=_natural(estimate.mean, metric.scale),
            low=_natural(estimate.low, metric.scale),
            high=_natural(estimate.high, metric.scale),
            scale=metric.scale,
            p=float(told[0][c]),
            p_holm=float(holm(told[0])[c]),
            smallest_p=smallest_p(n),
            p_exact=float(told[1][c]),
            n=n,
            failures=diverged,
            seed_correlation=seed_correlation(*_both_finite(scores[i], scores[j])),
            probability_of_improvement=probability_of_improvement(better * scores[i], better * scores[j]),
            seeds_needed=None
            if problem or verdict != "unresolved"
            else _seeds_needed(question, x, n, int((verdicts == "unresolved").sum()), sequential),
            seconds=float(seconds_of[levels].sum()),
            method=_method(question, scores[levels], sequential),
            problem=problem,
            sentence="",
        )
        zero = 0 if problem else int(zero_of[levels].sum())
        sentence = _sentence(one, question, opposite) + _beside(one, question, scores, levels, zero)
        answers.append((replace(one, sentence=sentence), claim))
    return answers


def _at_its_bound(question: Question, scores: np.ndarray) -> str:
    """Whether all levels, (levels, seeds), lie so near one bound of the metric that it cannot tell them apart.

    A trial that diverged is told apart from those that did not.
    """
    if np.isinf(scores).any():
        return ""
    means = np.ma.masked_invalid(scores).mean(-1).compressed()
    for bound in METRICS[question.metric].bounds:
        if means.size and (abs(means - bound) < question.smallest_effect).all():
            return (
                f"{METRICS[question.metric].label} lies within {question.smallest_effect:g} of {bound:g} at every "
                "level, where it cannot tell them apart"
            )
    return ""


def _whose(question: Question) -> str:
    return f"{question.baseline} relative to {question.versus}" if question.versus else question.baseline


def _tabulated(
    rows: pd.DataFrame, names: list[str], metric: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores (arms, seeds) as `judge` takes them, and three counts or sums an arm.

    They are: trials that diverged; trials whose metric, though compared by ratios, is 0 or by rounding below, so that
    they have no score here; seconds that all have cost.
    """
    how = METRICS[metric]
    worst = {"lower": math.inf, "higher": -math.inf, "neither": math.nan}[how.better]
    values = rows[metric] if metric in rows else [math.nan] * len(rows)
    seeds = {seed: column for column, seed in enumerate(sorted(set(rows.seed)))}
    scores = np.full((len(names), len(seeds)), np.nan)
    diverged, zero = np.zeros((2, len(names)), dtype=int)
    seconds, seen = np.zeros(len(names)), set()
    for arms, seed, status, value, cost in zip(rows.arm, rows.seed, rows.status, values, rows.seconds, strict=True):
        for arm in set(arms.split(" | ")).intersection(names):  # several arms may share a trial
            if (arm, seed) in seen:
                raise UserError(
                    f"several trials of arm {arm!r} at seed {seed}; answers need the results of one study at one "
                    f"profile: name both where they are loaded"
                )
            seen.add((arm, seed))
            i = names.index(arm)
            seconds[i] += cost if math.isfinite(cost) else 0
            if status == "diverged":
                diverged[i] += 1
                scores[i, seeds[seed]] = worst
            elif status == "ok" and how.scale == "difference":
                scores[i, seeds[seed]] = value
            elif status == "ok" and value > 0:
                scores[i, seeds[seed]] = math.log(value)
            elif status == "ok" and value <= 0:
                zero[i] += 1
    return scores, diverged, zero, seconds


def _sign_flip(x: np.ndarray, margin: float) -> np.ndarray:
    return np.array([sign_flip_p_greater(pair, margin) for pair in x])


def _natural(value: float, scale: str) -> float:
    """From the scale of the differences to the one that people read."""
    if scale == "difference":
        return value
    return math.inf if value > 700 else math.exp(value)


def _shown(x: np.ndarray) -> int:
    """Which of a claim's pairs is shown: the smaller side of the best peak; the only one where there are no sides."""
    if len(x) == 1:
        return 0
    sides = np.nan_to_num([location(pair).mean for pair in x], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    peak = int(sides.reshape(-1, 2).min(-1).argmax())
    return 2 * peak + int(sides.reshape(-1, 2)[peak].argmin())


def _both_finite(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = np.isfinite(a) & np.isfinite(b)
    return a[both], b[both]


def _seeds_needed(question: Question, x: np.ndarray, n: int, num_open: int, sequential: bool) -> int | None:
    """Seeds in all for a verdict either way, by the effect seen; of x as `_toward` gives it."""
    margin = _margin(question)

    def needed(side: np.ndarray, margin: float, claims: int = num_open, power: float = 0.8) -> float:
        return seeds_needed(side, margin, claims=claims, power=power, anytime=sequential) or math.inf

    if question.expected == "equal":
        supporting = max(
            needed(x[0], -margin, power=0.9), needed(-x[0], -margin, power=0.9)
        )  # both, so each rarely fails
        refuting = min(needed(x[0], margin), needed(-x[0], margin))
    else:
        num_sides = min(len(x), 2)  # of each peak of a sweet spot
        found = [
            (
                needed(side, 0.0, max(num_open, len(x) // 2), 1 - 0.2 / num_sides),
                needed(-side, -margin, max(num_open, num_sides)),
            )
            for side in x
        ]
        sides = np.reshape(found, (-1, num_sides, 2))
        supporting, refuting = sides[..., 0].max(1).min(), sides[..., 1].min(1).max()
    least = min(supporting, refuting)
    if math.isinf(least):
        return FEWEST_FOR_A_CLAIM if n < 3 else None
    return int(max(least, n + 1))


def _method(question: Question, scores: np.ndarray, sequential: bool) -> str:
    infinite = bool(np.isinf(scores).any())
    pairs = "log ratios" if METRICS[question.metric].scale == "ratio" else "differences"
    if sequential:
        test = f"anytime-valid t test of paired {pairs}" + (
            ", then of signs from the first infinite one" if infinite else ""
        )
    else:
        test = f"exact sign test of paired {pairs}" if infinite else f"paired t test of {pairs}"
    if question.expected == "equal":
        return f"two one-sided tests: {test}"
    if question.kind == "trend":
        order = "order of levels over looks" if sequential else "Page's test"
        return f"{order}, and last against first level: {test}"
    return f"both sides: {test}" if question.kind == "sweet-spot" else test


def _sentence(one: Answer, question: Question, opposite: bool) -> str:
    about = (
        "smaller side " if question.kind == "sweet-spot" else "last to first level " if question.kind == "trend" else ""
    )
    known = "no finite value to compare" if math.isnan(one.effect) else effect(one.effect, one.low, one.high, one.scale)
    seen = f"{about}{known} over {count(one.n, 'seed')}"
    small = _smallest(question)
    if one.problem:
        return f"Unresolved whether {one.claim}: {one.problem}."
    if one.n < FEWEST_FOR_A_CLAIM:
        text = f"Exploratory, as a claim needs {FEWEST_FOR_A_CLAIM} seeds: whether {one.claim} is open; {seen}."
    elif one.verdict == "supported" and question.expected == "equal":
        text = f"Supported: {one.claim}, to within {small}: {seen}; a difference of less is shown, {_p(one)}."
    elif one.verdict == "supported":
        less = (
            f"; the effect seen is less than {small}, the smallest of interest"
            if _counts_as_none(one, question)
            else ""
        )
        text = f"Supported: {one.claim}: {seen}, {_p(one)}{less}."
    elif one.verdict == "refuted" and question.expected == "equal":
        text = f"Refuted that {one.claim}: {seen}; a difference of more than {small} is shown, {_p(one)}."
    elif one.verdict == "refuted" and question.kind == "sweet-spot":
        text = f"Refuted that {one.claim}: {seen}; one side at least is not worse by {small}, {_p(one)}."
    elif one.verdict == "refuted":
        where = " from the first level to the last" if question.kind == "trend" else ""
        none = f"any such effect{where} is smaller than {small}, which counts as none"
        why = "the opposite is shown" if opposite else none
        if opposite and _counts_as_none(one, question):
            why += f", though smaller than {small}, which counts as none"
        text = f"Refuted that {one.claim}: {seen}; {why}, {_p(one)}."
    else:
        needed = f"about {one.seeds_needed} seeds in all" if one.seeds_needed else f"more than {MOST_SEEDS} seeds"
        if question.expected == "equal":  # its p is of the equality: large where the difference is large, too
            text = (
                f"Unresolved whether {one.claim}, to within {small}: {seen}; neither a smaller difference is shown "
                f"({_p(one)}) nor a larger one; at the effect seen, it takes {needed} to settle it."
            )
        else:
            text = f"Unresolved whether {one.claim}: {seen}, {_p(one)}; "
            text += f"at the effect seen, it takes {needed} to settle it."
    return text


def _smallest(question: Question) -> str:
    """The smallest effect of interest in words: ×1.25, 0.05."""
    return ("×" if METRICS[question.metric].scale == "ratio" else "") + f"{question.smallest_effect:g}"


def _counts_as_none(one: Answer, question: Question) -> bool:
    """Whether the effect seen is below the smallest of interest; a ratio of 0 is as far from it as one of ∞."""
    if one.scale == "difference":
        return abs(one.effect) < _margin(question)
    return one.effect > 0 and abs(math.log(one.effect)) < _margin(question)


def _beside(one: Answer, question: Question, scores: np.ndarray, levels: list[int], zero: int) -> str:
    """What a reader needs beside the sentence.

    Trials without a number, `zero` of them for want of a ratio; where a sweet spot was seen; what lies between the
    ends that decide a trend.
    """
    if one.problem:
        return ""
    text, small = "", _smallest(question)
    if one.failures:
        verb = "counts" if one.failures == 1 else "count"
        text += f" {count(one.failures, 'trial')} diverged and {verb} as the worst."
    unreached = int(np.isinf(scores[levels]).sum()) - one.failures
    if unreached and not question.versus:
        verb = "counts" if unreached == 1 else "count"
        text += f" {count(unreached, 'trial')} never reached it and {verb} as later than any that did."
    if zero:
        verb = "has" if zero == 1 else "have"
        text += f" {count(zero, 'trial')} {verb} {METRICS[question.metric].label} 0, which has no ratio: left out."
    if question.kind == "sweet-spot":
        sign = 1 if METRICS[question.metric].better == "lower" else -1
        means = [sign * location(level).mean for level in scores]
        if not np.isnan(means).all():
            best = question.factor.levels[int(np.nanargmin(means))].label
            text += f" The best of all levels, by its mean: {best} (not tested)."
    if question.kind == "trend":
        first, *between, last = (location(level).mean for level in scores)
        for label, mean in zip((level.label for level in question.factor.levels[1:-1]), between, strict=True):
            below, above = min(first, last) - mean, mean - max(first, last)
            if max(below, above) > _margin(question):
                side = "lower" if below > above else "higher"
                text += (
                    f" At {label}, between, its mean is {side} than at both ends, by more than {small} (not tested)."
                )
    return text


def _p(one: Answer) -> str:
    raw, corrected = p_value(one.p), p_value(one.p_holm)
    said = f"p {raw}" if raw.startswith("<") else f"p = {raw}"
    return said if corrected == raw else f"{said}, {corrected} after Holm's correction"
