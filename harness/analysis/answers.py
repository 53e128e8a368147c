"""From a question and the results table to its answers: a verdict each claim, with the effect that it rests on."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from harness.analysis import sentences
from harness.analysis.effects import Scores, level_arms, paired_effect, question_scores
from harness.analysis.statistics import (
    ALPHA,
    FEWEST_FOR_A_CLAIM,
    holm,
    location,
    probability_of_improvement,
    seeds_needed,
    smallest_p,
)
from harness.analysis.verdicts import (
    Answer,
    Claim,
    Verdict,
    claims_of,
    judge,
    margin,
    num_seeds,
    run_tests,
    sign_flips,
    together,
    toward,
)
from harness.analysis.wording import count
from harness.metrics import METRICS
from harness.questions import Question
from harness.study import Design


def answer_study(
    design: Design, rows: pd.DataFrame, sequential: bool = False, beside: Sequence[str] = ()
) -> list[Answer]:
    """The answers to all questions of a study, in their order; see `answer`."""
    return [found for question in design.questions for found in answer(design, question, rows, sequential, beside)]


def answer(
    design: Design, question: Question, rows: pd.DataFrame, sequential: bool = False, beside: Sequence[str] = ()
) -> list[Answer]:
    """The answers to a question's claims, in the order of its levels: by all metrics that must agree.

    Args:
        design: Names the arms of the levels.
        question: One of its questions.
        rows: A results table of this study at one profile (`harness.analysis.results.load`).
        sequential: For a study whose number of seeds depends on interim analyses: p values, intervals and verdicts
            stay valid over one after every seed.
        beside: Extractors by which the question's own metric is shown, too, and decides nothing.

    Raises:
        UserError: the table has several trials for one arm and seed.
    """
    deciding = (question.metric, *question.also)
    shown = [name for extractor in beside if (name := question.by_extractor(extractor)) and name not in deciding]
    found = [_by_one(design, question.by(metric), rows, sequential) for metric in (*deciding, *shown)]
    if len(found) == 1:
        return found[0]
    times, apart = len(deciding), found
    if question.also:
        apart = [_by_one(design, question.by(metric), rows, sequential, times) for metric in deciding]
    pairs = zip(zip(*found, strict=True), zip(*apart, strict=True), strict=True)
    return [_together(question, by, [one.verdict for one in differing[:times]]) for by, differing in pairs]


def _together(question: Question, by: tuple[Answer, ...], apart: Sequence[Verdict]) -> Answer:
    """One answer from those by each metric, the question's own first; those beyond `apart` decide nothing.

    Args:
        question: With all metrics that must agree.
        by: The answer by each.
        apart: The verdicts of the deciding ones, where each metric counts as a try (`verdicts.together`).
    """
    deciding = by[: len(apart)]
    verdict = together([np.array(one.verdict) for one in deciding], [np.array(one) for one in apart]).item()
    problems = [f"by {METRICS[one.metric].label}, {one.problem}" for one in deciding if one.problem]
    needed: list[int | None] = [None]
    if verdict == "unresolved" and not problems:  # one that is settled may have to say more plainly that it differs
        needed = [one.seeds_needed if one.verdict == "unresolved" else one.n + 1 for one in deciding]
    told = replace(
        by[0],
        verdict=verdict,
        seeds_needed=None if None in needed else max(filter(None, needed)),
        problem=by[0].problem or next(iter(problems), ""),
        by=by,
    )
    return replace(told, sentence=sentences.by_each(told, question))


def _by_one(design: Design, question: Question, rows: pd.DataFrame, sequential: bool, times: int = 1) -> list[Answer]:
    """The answers by the question's own metric.

    Arms are paired by seed. Failed trials are missing; diverged ones have the worst score there is. What is not there
    makes an unresolved answer that says so. Arguments as for `answer` and `verdicts.judge`.
    """
    scores, names = question_scores(design, question, rows), list(level_arms(design, question).values())
    baseline = names.index(question.baseline)
    found, verdicts = judge(question, baseline, scores.values, sequential=sequential, times=times)
    exact = run_tests(question, baseline, scores.values, sign_flips)
    num_open = int((verdicts == "unresolved").sum())
    better = -1 if METRICS[question.metric].better == "higher" else 1
    answers = []
    for c, claim in enumerate(claims_of(question, baseline)):
        levels = list(claim.levels)
        x, n = toward(question, scores.values, claim), int(num_seeds(scores.values, claim))
        treated, reference = claim.pairs[_pair_shown(x)]
        effect = paired_effect(scores, treated, reference, sequential=sequential)
        problem = claim.problem or _problem(question, scores, claim, names)
        verdict: Verdict = "unresolved" if problem else verdicts[c].item()
        opposite = question.expected != "equal" and not found.toward[c] and bool(holm(found.p)[c] <= ALPHA)
        told = [t.against if verdict == "refuted" and not opposite else t.p for t in (found, exact)]
        one = Answer(
            question=question.key,
            claim=claim.words + sentences.about(question),
            level=claim.level,
            verdict=verdict,
            effect=effect.mean,
            low=effect.low,
            high=effect.high,
            scale=effect.scale,
            p=float(told[0][c]),
            p_holm=float(holm(told[0])[c]),
            smallest_p=smallest_p(n),
            p_exact=float(told[1][c]),
            n=n,
            failures=int(scores.diverged[levels].sum()),
            seed_correlation=effect.seed_correlation,
            probability_of_improvement=probability_of_improvement(
                better * scores.values[treated], better * scores.values[reference]
            ),
            seeds_needed=None
            if problem or verdict != "unresolved"
            else _seeds_needed(question, x, n, num_open, sequential),
            seconds=float(scores.seconds[levels].sum()),
            method=sentences.method(question, scores.values[levels], sequential),
            problem=problem,
            sentence="",
            metric=question.metric,
        )
        told_in_words = sentences.sentence(one, question, effect.n, opposite=opposite)
        answers.append(replace(one, sentence=told_in_words + sentences.beside(one, question, scores, levels)))
    return answers


def arms_open(design: Design, answers: Sequence[Answer]) -> set[str]:
    """The arms, baselines included, that more seeds are needed of: those compared in claims still unresolved.

    Args:
        design: As it is asked at a profile.
        answers: To its questions, valid over interim analyses. A sweet spot needs its ends and its peak, not the
            levels between.
    """
    found: set[str] = set()
    for question in design.questions:
        arms = list(level_arms(design, question).values())
        others = list(level_arms(design, question, versus=True).values())
        claims = claims_of(question, arms.index(question.baseline))
        for one, claim in zip([a for a in answers if a.question == question.key], claims, strict=True):
            if one.verdict == "unresolved" and not claim.problem:
                found |= {names[i] for names in (arms, others) if names for i in claim.levels}
    return found


def _problem(question: Question, scores: Scores, claim: Claim, names: list[str]) -> str:
    """Why a claim cannot be judged, whatever the seeds; "" where it can."""
    levels = list(claim.levels)
    metric, values = METRICS[question.metric], scores.values[levels]
    lacking = [i for i in levels if np.isnan(scores.values[i]).all()]
    if zeros := [names[i] for i in lacking if scores.without_ratio[i]]:
        return f"{metric.label} is 0 in every trial of {', '.join(zeros)}, and 0 has no ratio"
    if lacking:
        return f"no trial has a score yet of {', '.join(names[i] for i in lacking)}"
    for one, other in claim.pairs:
        both = (scores.trials[one] != "") & (scores.trials[other] != "")
        if both.any() and (scores.trials[one] == scores.trials[other])[both].all():
            return f"{names[one]} and {names[other]} are the same trials, as nothing tells the two apart"
    if (diverged := int(scores.diverged[levels].sum())) and metric.better == "neither":
        return f"{count(diverged, 'trial')} diverged without {metric.label}, and leaving them out may mislead"
    if question.versus or np.isinf(values).any():  # a trial that diverged is told apart from those that did not
        return ""
    means = np.ma.masked_invalid(values).mean(-1).compressed()
    for bound in metric.bounds:
        if means.size and (abs(means - bound) < question.smallest_effect).all():
            return (
                f"{metric.label} lies within {question.smallest_effect:g} of {bound:g} at every level, where it cannot "
                "tell them apart"
            )
    return ""


def _pair_shown(x: np.ndarray) -> int:
    """Which of a claim's pairs is shown: the smaller side of the best peak; the only one where there are no sides."""
    if len(x) == 1:
        return 0
    sides = np.nan_to_num([location(pair).mean for pair in x], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    peak = int(sides.reshape(-1, 2).min(-1).argmax())
    return 2 * peak + int(sides.reshape(-1, 2)[peak].argmin())


def _seeds_needed(question: Question, x: np.ndarray, n: int, num_open: int, sequential: bool) -> int | None:
    """Seeds in all for a verdict either way, by the effect seen; of x as `toward` gives it."""
    least = margin(question)

    def needed(side: np.ndarray, above: float, claims: int = num_open, power: float = 0.8) -> float:
        return seeds_needed(side, above, claims=claims, power=power, anytime=sequential) or math.inf

    if question.expected == "equal":  # both bounds, so each may fail half as often
        supporting = max(needed(side, -least, power=0.9) for side in (x[0], -x[0]))
        refuting = min(needed(side, least) for side in (x[0], -x[0]))
    else:
        num_sides = min(len(x), 2)  # of each peak of a sweet spot
        claims = max(num_open, len(x) // 2)
        shown = np.reshape([needed(side, 0.0, claims, 1 - 0.2 / num_sides) for side in x], (-1, num_sides))
        small = np.reshape([needed(-side, -least, max(num_open, num_sides)) for side in x], (-1, num_sides))
        supporting, refuting = shown.max(1).min(), small.min(1).max()
    fewest = min(supporting, refuting)
    if math.isinf(fewest):
        return FEWEST_FOR_A_CLAIM if n < 3 else None
    return int(max(fewest, n + 1))
