"""Answers in words: one plain sentence each, and what a reader needs beside it."""

import math
import re

import numpy as np

from harness.analysis.budget import NOT_TESTABLE
from harness.analysis.collapse import rates
from harness.analysis.effects import Scores
from harness.analysis.statistics import FEWEST_FOR_A_CLAIM, MOST_SEEDS, location, paired_differences
from harness.analysis.verdicts import Answer, margin
from harness.analysis.wording import agreeing, count, effect, p_value
from harness.metrics import METRICS
from harness.questions import Question


def whose(question: Question) -> str:
    """The network that a question is about: dc; of an interaction, dc relative to fc."""
    return f"{question.baseline} relative to {question.versus}" if question.versus else question.baseline


def about(question: Question) -> str:
    """What a claim of the question ends with: the network and the factor that it is about."""
    return f" ({whose(question)}, {question.factor.label})"


def in_brief(claim: str, question: Question) -> str:
    """An answer's claim without the network and the factor that it is about: "FID is lower at 3 than at 1"."""
    return claim.removesuffix(about(question))


def level_in_words(label: str, question: Question) -> str:
    """A level as a reader knows it again far from the others: "latent standard deviation σ = 1", "DC"."""
    return (
        f"{question.factor.label}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{label}"
        if re.fullmatch(r"[-+.\de]*\d", label)
        else label
    )


def method(question: Question, x: np.ndarray, sequential: bool) -> str:
    """The tests that a claim's differences have, (pairs, n) as `verdicts.toward` gives them, in a few words."""
    known = [pair[~np.isnan(pair)] for pair in x if not np.isnan(pair).all()] or [np.zeros(1)]
    by_signs = [bool(np.isinf(pair).any() or np.ptp(pair) <= 1e-10 * abs(pair).max()) for pair in known]
    infinite = any(by_signs)
    pairs = "log ratios" if METRICS[question.metric].scale == "ratio" else "differences"
    if sequential:
        signs = ", then of signs from the first infinite one" if infinite else ""
        test = f"anytime-valid t test of paired {pairs}{signs}, and of their signs"
    else:
        sides = [f"exact sign test of paired {pairs}", f"paired t test of {pairs}, and their sign test"]
        test = sides[not infinite] if all(by_signs) or not infinite else f"{sides[1]}; of one side: {sides[0]}"
    if question.expected == "equal":
        return f"two one-sided tests: {test}"
    if question.kind == "trend":
        order = "order of levels over interim analyses" if sequential else "Page's test"
        return f"{order}, and last against first level: {test}"
    return f"both sides: {test}" if question.kind == "sweet-spot" else test


def sentence(one: Answer, question: Question, num_pairs: int, *, opposite: bool, unsettled: str = "") -> str:
    """The answer in one sentence.

    Args:
        one: The answer, but for its own sentence.
        question: Which it answers.
        num_pairs: Seeds over which its effect is.
        opposite: Whether the opposite of the claim is shown.
        unsettled: How many trials have settled of the arms that had to and have not; "" where all have.
    """
    about = {"sweet-spot": "smaller side ", "trend": "last to first level "}.get(question.kind, "")
    known = "no finite value to compare" if math.isnan(one.effect) else effect(one.effect, one.low, one.high, one.scale)
    seen, small = f"{about}{known} over {count(num_pairs, 'seed')}", _smallest(question)
    equal = question.expected == "equal"
    if one.problem:
        return f"Unresolved whether {one.claim}: {one.problem}."
    if one.n < FEWEST_FOR_A_CLAIM:
        return f"Exploratory, as a claim needs {FEWEST_FOR_A_CLAIM} seeds: whether {one.claim} is open; {seen}."
    if one.verdict == NOT_TESTABLE:
        return (
            f"Not testable at this budget whether {one.claim}: {seen}, {_p(one)}. It is about final quality, but "
            f"at the budget's end only {unsettled} had settled: what is worse may still improve."
        )
    if one.verdict in ("supported", "refuted") and unsettled:
        told = sentence(one, question, num_pairs, opposite=opposite)
        return f"{told} It is said of this budget, at whose end only {unsettled} had settled."
    if one.verdict == "supported" and equal:
        return f"Supported: {one.claim}, to within {small}: {seen}; a difference of less is shown, {_p(one)}."
    if one.verdict == "supported":
        less = f"; the effect seen is less than {small}, the smallest of interest" * _counts_as_none(one, question)
        return f"Supported: {one.claim}: {seen}, {_p(one)}{less}."
    if one.verdict == "refuted":
        if equal:
            why = f"a difference of more than {small} is shown"
        elif question.kind == "sweet-spot":
            why = f"one side at least is not worse by {small}"
        elif opposite:
            why = "the opposite is shown"
            why += f", though smaller than {small}, which counts as none" * _counts_as_none(one, question)
        else:
            where = " from the first level to the last" * (question.kind == "trend")
            why = f"any such effect{where} is smaller than {small}, which counts as none"
        return f"Refuted that {one.claim}: {seen}; {why}, {_p(one)}."
    takes = f"about {one.seeds_needed} seeds in all" if one.seeds_needed else f"more than {MOST_SEEDS} seeds"
    takes = f"at the effect seen, it takes {takes} to settle it"
    if equal:  # its p is of the equality: large where the difference is large, too
        neither = f"neither a smaller difference is shown ({_p(one)}) nor a larger one"
        return f"Unresolved whether {one.claim}, to within {small}: {seen}; {neither}; {takes}."
    return f"Unresolved whether {one.claim}: {seen}, {_p(one)}; {takes}."


def by_each(one: Answer, question: Question) -> str:
    """The sentence of an answer that has the claim by several metrics, of which the last ones may decide nothing."""
    deciding, beside = one.by[: 1 + len(question.also)], one.by[1 + len(question.also) :]
    each = "; ".join(f"{METRICS[a.metric].label}: {a.verdict}, {_seen(a)}" for a in deciding)
    if len(deciding) == 1:
        text = one.by[0].sentence
    elif one.problem:
        text = f"Unresolved whether {one.claim}: {one.problem}."
    elif one.verdict == NOT_TESTABLE:
        text = f"Not testable at this budget whether {one.claim}, as it is about final quality. {each}."
    elif one.verdict == "depends on the metric":
        text = f"Depends on the metric whether {one.claim}. {each}."
    elif one.verdict == "unresolved":
        takes = f"about {one.seeds_needed} seeds in all" if one.seeds_needed else f"more than {MOST_SEEDS} seeds"
        text = f"Unresolved whether {one.claim}, as not all {len(deciding)} metrics that must agree settle it. {each}."
        text += f" At the effects seen, it takes {takes}." * (one.n >= FEWEST_FOR_A_CLAIM)
    else:
        others = "; ".join(f"{METRICS[a.metric].label}, {_seen(a)}" for a in deciding[1:])
        text = f"{one.by[0].sentence} The same is shown by {others}."
    for other in beside:
        said = "cannot say" if other.problem else f"would say {other.verdict}, {_seen(other)}"
        text += f" {METRICS[other.metric].label}, which does not decide, {said}."
    return text


def beside(one: Answer, question: Question, scores: Scores, levels: list[int], pair: tuple[int, int]) -> str:
    """What a reader needs beside the sentence of a claim about these levels; "" where there is nothing.

    Trials without a number; trials of the pair shown that are far worse than the rest of their arm, and the median
    where few seeds make the mean; where a sweet spot was seen; what lies between the ends that decide a trend.
    """
    if one.problem:
        return ""
    metric, labels = METRICS[question.metric], [level.label for level in question.factor.levels]
    text, small = "", _smallest(question)
    unreached = int(np.isinf(scores.values[levels]).sum()) - one.failures
    without = int(scores.without_ratio[levels].sum())
    if one.failures:
        counts = agreeing(one.failures, "counts", "count")
        text += f" {count(one.failures, 'trial')} diverged and {counts} as the worst."
    if unreached and not question.versus:
        counts = agreeing(unreached, "counts", "count")
        text += f" {count(unreached, 'trial')} never reached it and {counts} as later than any that did."
    if ties := int((~np.isnan(scores.values[levels])).all(0).sum()) - one.n:
        text += f" At {count(ties, 'seed')} this holds for both that are compared: a tie says nothing and is left out."
    if without:
        have = agreeing(without, "has", "have")
        text += f" {count(without, 'trial')} {have} {metric.label} 0, which has no ratio: left out."
    text += _few_that_count(question, scores, pair)
    if question.kind == "contrast":
        return text
    means = [location(level).mean for level in scores.values]
    if question.kind == "sweet-spot" and not np.isnan(means).all():
        best = np.nanargmin(means) if metric.better == "lower" else np.nanargmax(means)
        text += f" The best of all levels, by its mean: {labels[int(best)]} (not tested)."
    if question.kind == "trend":
        first, *between, last = means
        for label, mean in zip(labels[1:-1], between, strict=True):
            below, above = min(first, last) - mean, mean - max(first, last)
            if max(below, above) > margin(question):
                side = "lower" if below > above else "higher"
                text += (
                    f" At {label}, between, its mean is {side} than at both ends, by more than {small} (not tested)."
                )
    return text


def _few_that_count(question: Question, scores: Scores, pair: tuple[int, int]) -> str:
    """What an arm does now and then, for the effect of a pair (treated, baseline): both its rate, and the median."""
    metric, labels = METRICS[question.metric], [level.label for level in question.factor.levels]
    treated, reference = (scores.values[i] for i in pair)
    x = paired_differences(treated, reference)
    x, text = x[~np.isnan(x)], ""
    if x.size >= FEWEST_FOR_A_CLAIM and np.isfinite(x).all() and abs(np.median(x) - x.mean()) > margin(question):
        median = float(np.exp(np.median(x)) if scores.scale == "ratio" else np.median(x))
        text += f" Few seeds make the mean: the median is {effect(median, math.nan, math.nan, scores.scale)[:-4]}."
    unreached = np.isinf(scores.values[list(pair)]).sum() > scores.diverged[list(pair)].sum()  # no failure of the trial
    if metric.better == "neither" or scores.others is not None or unreached:
        return text
    worse = 1 if metric.better == "lower" else -1
    *both, p = rates(worse * treated, worse * reference, 3 * margin(question))
    if any(rate.mean > 0 for rate in both):
        seen = [
            f"{rate.mean * rate.n:.0f} of {count(rate.n, 'trial')} ({rate.low:.0%} to {rate.high:.0%}) at {labels[i]}"
            for rate, i in zip(both, pair, strict=True)
        ]
        differ = f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"
        text += (
            f" Far worse than the rest of their arm, or diverged: {' and '.join(seen)} (exact {differ} that these "
            f"rates differ)."
        )
    return text


def _smallest(question: Question) -> str:
    """The smallest effect of interest in words: ×1.25, 0.05."""
    return "×" * (METRICS[question.metric].scale == "ratio") + f"{question.smallest_effect:g}"


def _counts_as_none(one: Answer, question: Question) -> bool:
    """Whether the effect seen is below the smallest of interest; a ratio of 0 is as far from it as one of ∞."""
    if one.scale == "difference":
        return abs(one.effect) < margin(question)
    return one.effect > 0 and abs(math.log(one.effect)) < margin(question)


def _seen(one: Answer) -> str:
    """The effect by one metric of several, and its p."""
    known = "no finite value to compare" if math.isnan(one.effect) else effect(one.effect, one.low, one.high, one.scale)
    return f"{known} ({_p(one)})"


def _p(one: Answer) -> str:
    raw, corrected = p_value(one.p), p_value(one.p_holm)
    said = f"p {raw}" if raw.startswith("<") else f"p = {raw}"
    return said if corrected == raw else f"{said}, {corrected} after Holm's correction"
