"""The rules: from scores to supported, refuted or unresolved, for any number of studies at once.

docs/statistics.md explains every rule; benchmarks/calibration.py runs this code to see how often a verdict is wrong.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.analysis.effects import Scale, levels_together, peaks_of
from harness.analysis.statistics import (
    ALPHA,
    FEWEST_FOR_A_CLAIM,
    anytime_p_greater,
    holm,
    p_greater,
    paired_differences,
    sign_flip_p_greater,
)
from harness.analysis.trends import order_differences, page_p_rising
from harness.metrics import METRICS
from harness.questions import Question

Verdict = Literal["supported", "refuted", "depends on the metric", "unresolved", "not testable at this budget"]
Test = Callable[[np.ndarray, float], np.ndarray]
"""(differences (..., n), margin) -> (...) p values that they lie above it: one of statistics' p_greater functions."""


@dataclass(frozen=True)
class Claim:
    """One claim of a question; a contrast makes one a level, other kinds make one."""

    level: str  # by its label; "" for a claim about all levels
    words: str  # for example "FID is lower at 0.1 than at 0"
    levels: tuple[int, ...]  # that it compares, by their places
    pairs: tuple[tuple[int, int], ...]  # (treated, baseline) levels of its paired differences
    problem: str = ""  # why it cannot be judged, whatever the scores


@dataclass(frozen=True)
class Tested:
    """What the tests say of a question's claims: three arrays (..., claims)."""

    p: np.ndarray  # of the claim; two-sided, but for equality
    toward: np.ndarray  # whether p speaks for the claim rather than for its opposite
    against: np.ndarray  # p of the claim's refutation
    opposite: np.ndarray  # whether p, where it does not speak for the claim, speaks for what refutes it


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one claim of a question; a contrast makes one claim a level, other kinds make one.

    Effect and interval are those of `harness.analysis.effects.Effect`: medians where a trial diverged.
    """

    question: str  # the question's key
    claim: str  # in words, for example "FID is lower at 0.1 than at 0 (dc, instance noise on D's input, std)"
    level: str  # the level compared with the baseline; "" for a claim about all levels
    verdict: Verdict
    effect: float  # ratio or difference to the baseline (sweet spot: the smaller side's; trend: last level to first)
    low: float  # of its 95% interval, not corrected for the other claims; NaN where there is none
    high: float
    scale: Scale
    p: float  # raw, of the verdict: of what refutes the claim where it is refuted, else two-sided of the claim itself
    p_holm: float  # by Holm's method, for all claims of the study or page
    smallest_p: float  # that so many seeds can reach, by the exact test that stands beside
    p_exact: float  # as p, by sign-flip tests in place of t tests
    n: int  # seeds that say something of the claim; see `num_seeds`
    failures: int  # diverged trials among the arms compared
    seed_correlation: float
    probability_of_improvement: float  # that a random run scores better than one of the baseline (trend: first level)
    seeds_needed: int | None  # in all, for an answer; None where settled, with a problem, or above MOST_SEEDS
    seconds: float  # what the trials compared have cost
    method: str  # the tests used, in a few words
    problem: str  # why it cannot be judged, whatever the seeds; "" where it can
    sentence: str  # the answer in one plain sentence
    metric: str = ""  # by which the effect is; verdict and p are those of all metrics that must agree
    by: tuple["Answer", ...] = ()  # the same claim by each metric, this one first; empty where there is one alone


def judge(
    question: Question, baseline: int, scores: np.ndarray, *, sequential: bool = False
) -> tuple[Tested, np.ndarray]:
    """What the tests say of a question's claims, and their verdicts, as if nothing else were asked; see `decide`.

    Args:
        question: What is claimed.
        baseline: Which level is the baseline's.
        scores: (..., levels, seeds) on the metric's scale of comparison, seeds in their order; ±inf where a trial
            diverged, NaN where one is missing. Seeds that lack a level are left out of a trend and a sweet spot.
        sequential: Whether to stay valid over interim analyses after every seed.

    Returns:
        The tests, and "supported", "refuted" or "unresolved" as an array (..., claims).
    """
    found = run_tests(question, baseline, scores, anytime_p_greater if sequential else p_greater)
    seeds = [num_seeds(scores, claim) for claim in claims_of(question, baseline)]
    return found, decide(found, np.stack(seeds, -1) >= FEWEST_FOR_A_CLAIM)


def decide(found: Tested, enough: np.ndarray) -> np.ndarray:
    """The verdicts on claims that share an error rate: of a question, a study, a page.

    After Holm's correction over the last axis, of what supports them and of what refutes them: in each of the two at
    most 2.5% of pages err, 5% in all. Refuted: the opposite, or an effect below the smallest of interest, is shown.
    Supported: not that, and the claim is shown. Unresolved: neither, or not enough seeds.

    Args:
        found: Of all these claims, (..., claims).
        enough: Whether a claim has FEWEST_FOR_A_CLAIM seeds, and nothing else keeps it from being judged.
    """
    shown, refuted = holm(found.p) <= ALPHA, holm(found.against) <= ALPHA
    refuted |= shown & found.opposite  # each family has steps of its own: it may be shown in the first alone
    return np.where(enough & refuted, "refuted", np.where(enough & shown & found.toward, "supported", "unresolved"))


def together(each: Sequence[Tested]) -> tuple[Tested, Tested]:
    """What several metrics say of the same claims: all of them, and any of them.

    That all support a claim needs no correction for their number, as all must err for it to be wrong (Berger 1982).
    That some do is one of so many tries (Bonferroni).
    """
    p, toward, against, opposite = (
        np.stack([getattr(one, name) for one in each]) for name in ("p", "toward", "against", "opposite")
    )
    same = (toward == toward[0]).all(0)
    every = Tested(np.where(same, p.max(0), 1.0), toward.all(0), against.max(0), opposite.all(0))
    tries = len(each)
    some, others = np.where(toward, p, 1.0).min(0), against.min(0)
    none = np.zeros_like(same)
    return every, Tested(np.minimum(tries * some, 1), ~none, np.minimum(tries * others, 1), none)


def contradict(some: Tested, enough: np.ndarray) -> np.ndarray:
    """Whether some metric supports a claim and some refutes it, of claims that share an error rate; see `together`."""
    return enough & (holm(some.p) <= ALPHA) & (holm(some.against) <= ALPHA)


def claims_of(question: Question, baseline: int) -> list[Claim]:
    """A question's claims, in the order of its levels; `baseline` is the place of the baseline's."""
    labels = [level.label for level in question.factor.levels]
    metric, last = METRICS[question.metric].label, len(labels) - 1
    if question.kind == "contrast":
        how = {"lower": "lower", "higher": "higher", "equal": "the same"}[question.expected]
        than = f"{'as' if question.expected == 'equal' else 'than'} at {labels[baseline]}"
        return [
            Claim(label, f"{metric} is {how} at {label} {than}", (i, baseline), ((i, baseline),))
            for i, label in enumerate(labels)
            if i != baseline
        ]
    if question.kind == "trend":
        verb = {"rising": "rises", "falling": "falls"}[question.expected]
        problem = "" if last > 0 else "a trend needs at least two levels"
        words = f"{metric} {verb} along {', '.join(labels)}"
        return [Claim("", words, tuple(range(last + 1)), ((last, 0),), problem)]
    peaks = peaks_of(question, baseline)  # of several, each pays for the choice
    peak = labels[baseline] if peaks == (baseline,) else "some level between"
    problem = "" if peaks else "a sweet spot needs at least three levels"
    words = f"{metric} is worse at both {labels[0]} and {labels[-1]} than at {peak}"
    pairs = tuple((end, peak) for peak in peaks or (baseline,) for end in (0, last))
    return [Claim("", words, tuple(sorted({0, baseline, *peaks, last})), pairs, problem)]


def num_seeds(scores: np.ndarray, claim: Claim) -> np.ndarray:
    """(...) seeds that say something of the claim: both levels of a pair have a score, and did not both diverge.

    Of a sweet spot: at the smaller side of the peak that has most.
    """
    pairs = [paired_differences(scores[..., i, :], scores[..., j, :]) for i, j in claim.pairs]
    told = (~np.isnan(np.stack(pairs, -2))).sum(-1)
    return told.reshape(*told.shape[:-1], -1, min(2, told.shape[-1])).min(-1).max(-1)


def toward(question: Question, scores: np.ndarray, claim: Claim) -> np.ndarray:
    """(..., pairs, n) differences of the claim's pairs, above 0 in the direction claimed (equal: upwards)."""
    up = question.expected in ("higher", "rising", "equal") or (
        question.expected == "worse outside" and METRICS[question.metric].better == "lower"
    )
    pairs = [paired_differences(scores[..., i, :], scores[..., j, :]) for i, j in claim.pairs]
    return np.stack(pairs, -2) * (1 if up else -1)


def margin(question: Question) -> float:
    """The smallest effect of interest on the scale of the differences."""
    ratio = METRICS[question.metric].scale == "ratio"
    return math.log(question.smallest_effect) if ratio else question.smallest_effect


def run_tests(question: Question, baseline: int, scores: np.ndarray, test: Test) -> Tested:
    """All tests of a question's claims, each direction by this one; arguments as for `judge`."""
    if together := levels_together(question, baseline):
        lacking = np.isnan(scores[..., together, :]).any(tuple(range(scores.ndim - 1)))
        scores = scores[..., ~lacking]
    x = np.concatenate([toward(question, scores, claim) for claim in claims_of(question, baseline)], -2)
    least = margin(question)
    if question.expected == "equal":
        inside = np.maximum(test(x, -least), test(-x, -least))  # two one-sided tests (Schuirmann 1987)
        outside = np.minimum(test(x, least), test(-x, least))
        yes = np.ones_like(inside, dtype=bool)
        return Tested(inside, yes, outside, ~yes)
    above, below, small = test(x, 0.0), test(-x, 0.0), test(-x, -least)
    p, upwards = np.minimum(above, below), above < below
    if question.kind == "contrast":
        return Tested(p, upwards, small, ~upwards)
    if question.kind == "sweet-spot":
        return _sweet_spot(p, upwards, small)
    rising, falling = _order(scores if question.expected == "rising" else -scores, test)
    ordered = upwards & (rising < falling)
    both = np.maximum(p, np.minimum(rising, falling))
    return Tested(both, ordered, np.minimum(small, falling), np.zeros_like(ordered))


def sign_flips(x: np.ndarray, margin: float) -> np.ndarray:
    """The exact test in the form of `Test`, for the one study of (pairs, n) differences."""
    return np.array([sign_flip_p_greater(pair, margin) for pair in x])


def _sweet_spot(p: np.ndarray, upwards: np.ndarray, small: np.ndarray) -> Tested:
    """From what each side shows, (..., peaks · 2), to the one claim.

    A peak needs both sides (intersection-union, Berger 1982), and either side refutes it; one of several peaks is
    enough, and all must be refuted. Bonferroni's correction wherever one of several is enough.
    """
    sides = (*p.shape[:-1], -1, 2)
    p, upwards, small = p.reshape(sides).max(-1), upwards.reshape(sides).all(-1), small.reshape(sides).min(-1)
    best = np.where(upwards, p, p + 1).argmin(-1)[..., None]
    worse = np.take_along_axis(upwards, best, -1)
    return Tested(
        np.minimum(p.shape[-1] * np.take_along_axis(p, best, -1), 1),
        worse,
        np.minimum(2 * small.max(-1, keepdims=True), 1),
        np.zeros_like(worse),
    )


def _order(scores: np.ndarray, test: Test) -> tuple[np.ndarray, np.ndarray]:
    """Two p values (..., 1): that scores rise and that they fall along their levels."""
    if test is anytime_p_greater:  # Page's statistic is discrete, and has no test over interim analyses
        steps = order_differences(scores)
        return test(steps, 0.0)[..., None], test(-steps, 0.0)[..., None]
    return page_p_rising(scores)[..., None], page_p_rising(-scores)[..., None]
