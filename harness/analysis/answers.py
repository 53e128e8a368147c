"""From a question and the results table to its answers: a verdict each claim, with the effect that it rests on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harness.analysis import budget, sentences
from harness.analysis.effects import Effect, Scores, level_arms, paired_effect, question_scores
from harness.analysis.statistics import (
    ALPHA,
    FEWEST_FOR_A_CLAIM,
    holm,
    location,
    paired_differences,
    probability_of_improvement,
    seeds_needed,
    smallest_p,
)
from harness.analysis.verdicts import (
    Answer,
    Claim,
    Tested,
    Verdict,
    claims_of,
    contradict,
    decide,
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


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A claim by one metric, and what the tests say of it alone."""

    question: Question  # as it is asked by this metric
    claim: Claim
    scores: Scores
    effect: Effect
    found: Tested  # of this claim, no axis
    exact: Tested  # the same by sign-flip tests
    n: int
    problem: str
    sequential: bool
    pair: tuple[int, int]  # (treated, baseline) levels of the effect
    settling: tuple[budget.Settling, ...]  # of each level
    final: bool  # whether the claim is about quality once training has settled

    def unsettled(self, verdict: Verdict) -> tuple[int, ...]:
        """The levels that had to settle for this verdict, and have not; see `budget.still_open`."""
        if not self.enough or not budget.is_quality(self.question):
            return ()
        x = paired_differences(*self.scores.values[list(self.pair)])
        with np.errstate(invalid="ignore"):
            higher = bool(np.nansum(np.sign(x)) > 0) if np.isinf(x).any() else bool(np.nanmean(x) > 0)
        return budget.still_open(self.question, self.claim, self.pair, verdict, self.settling, higher=higher)

    def held_back(self, verdict: Verdict) -> Verdict:
        """The verdict, but where it is about final quality and speaks against an arm that has not settled."""
        return budget.NOT_TESTABLE if self.final and self.unsettled(verdict) else verdict

    @property
    def enough(self) -> bool:
        """Whether it may have a verdict."""
        return self.n >= FEWEST_FOR_A_CLAIM and not self.problem


@dataclass(frozen=True)
class ClaimTests:
    """A claim by all its metrics, the question's own first; those beyond `also` of the question decide nothing."""

    question: Question
    by: tuple[Asked, ...]

    @property
    def deciding(self) -> tuple[Asked, ...]:
        """By the metrics that must agree."""
        return self.by[: 1 + len(self.question.also)]


def answer_study(
    design: Design, rows: pd.DataFrame, sequential: bool = False, beside: Sequence[str] = ()
) -> list[Answer]:
    """The answers to all questions of a study, in their order; see `ask_study` and `settle`."""
    return settle(ask_study(design, rows, sequential, beside))


def ask_study(
    design: Design, rows: pd.DataFrame, sequential: bool = False, beside: Sequence[str] = ()
) -> list[ClaimTests]:
    """What the tests say of a study's claims, in their order, each by all its metrics.

    Arms are paired by seed. Failed trials are missing; diverged ones have the worst score there is.

    Args:
        design: Names the arms of the levels.
        rows: A results table of this study at one profile (`harness.analysis.results.load`).
        sequential: For a study whose number of seeds depends on interim analyses: p values, intervals and verdicts
            stay valid over one after every seed.
        beside: Extractors by which each question's own metric is shown, too, and decides nothing.

    Raises:
        UserError: the table has several trials for one arm and seed.
    """
    found = []
    for question in design.questions:
        deciding = (question.metric, *question.also)
        shown = [name for extractor in beside if (name := question.by_extractor(extractor)) and name not in deciding]
        final = budget.is_about_final_quality(question, design.questions)
        each = [_ask(design, question.by(metric), rows, sequential, final) for metric in (*deciding, *shown)]
        found += [ClaimTests(question, by) for by in zip(*each, strict=True)]
    return found


def settle(claims: Sequence[ClaimTests], unasked: int = 0) -> list[Answer]:
    """The answers to claims that share one error rate: of a study, or of a page.

    At most 5% of such studies get a false verdict on any of them; see `verdicts.decide`. What cannot be judged has an
    unresolved answer that says why.

    Args:
        claims: All of them.
        unasked: How many more share the rate, of which nothing is known yet.
    """
    joint = [together([one.found for one in claim.deciding]) for claim in claims]
    enough = np.array([all(one.enough for one in claim.deciding) for claim in claims], dtype=bool)
    every, some = (_family(found, enough, unasked) for found in zip(*joint, strict=True)) if joint else (None, None)
    if every is None or some is None:
        return []
    several = np.array([len(claim.deciding) > 1 for claim in claims])
    verdicts = decide(every, _padded(enough, unasked))[: len(claims)]
    apart = contradict(some, _padded(enough, unasked))[: len(claims)]
    verdicts = np.where(several & apart & (verdicts == "unresolved"), "depends on the metric", verdicts)
    told_of = [claim.by[0].held_back(verdict.item()) for claim, verdict in zip(claims, verdicts, strict=True)]
    num_open = told_of.count("unresolved")
    corrected = holm(every.p), holm(every.against)
    by_metric = [_by_one(claims, place, unasked) for place in range(max(len(claim.by) for claim in claims))]
    answers = []
    for i, claim in enumerate(claims):
        verdict, told = told_of[i], (float(corrected[0][i]), float(corrected[1][i]))
        if len(claim.by) == 1:
            answers.append(_answer(claim.by[0], verdicts[i].item(), told, num_open))
            continue
        by = tuple(answers_by[i] for answers_by, _ in zip(by_metric, claim.by, strict=False))
        p = [float(every.p[i]), float(every.against[i])]
        if verdict == "depends on the metric":  # both must be shown
            p = [max(float(some.p[i]), float(some.against[i]))] * 2
            told = (max(float(holm(some.p)[i]), float(holm(some.against)[i])),) * 2
        against = verdict == "refuted" and not (told[0] <= ALPHA and every.opposite[i])
        answers.append(_together(claim, by, verdict, p[against], told[against]))
    return answers


def _by_one(claims: Sequence[ClaimTests], place: int, unasked: int) -> list[Answer]:
    """The answers if each question were asked by the metric in that place of its own, or by its last one, alone."""
    asked = [claim.by[min(place, len(claim.by) - 1)] for claim in claims]
    enough = np.array([one.enough for one in asked], dtype=bool)
    family = _family([one.found for one in asked], enough, unasked)
    verdicts = decide(family, _padded(enough, unasked))[: len(asked)]
    told_of = [one.held_back(verdict.item()) for one, verdict in zip(asked, verdicts, strict=True)]
    num_open = told_of.count("unresolved")
    p, against = holm(family.p), holm(family.against)
    return [_answer(one, verdicts[i].item(), (float(p[i]), float(against[i])), num_open) for i, one in enumerate(asked)]


def _family(found: Sequence[Tested], enough: np.ndarray, unasked: int) -> Tested:
    """Claims that share an error rate as one array; what may have no verdict, or is not known, has p = 1."""
    p, toward, against, opposite = (
        np.array([getattr(one, name) for one in found]) for name in ("p", "toward", "against", "opposite")
    )
    ones = np.ones(unasked)
    return Tested(
        np.append(np.where(enough, p, 1.0), ones),
        _padded(toward, unasked),
        np.append(np.where(enough, against, 1.0), ones),
        _padded(opposite, unasked),
    )


def _padded(flags: np.ndarray, unasked: int) -> np.ndarray:
    return np.append(flags, np.zeros(unasked, dtype=bool))


def _together(claim: ClaimTests, by: tuple[Answer, ...], verdict: Verdict, p: float, corrected: float) -> Answer:
    """One answer from those by each metric, the question's own first."""
    deciding, question = by[: len(claim.deciding)], claim.question
    problems = [f"by {METRICS[one.metric].label}, {one.problem}" for one in deciding if one.problem]
    needed: list[int | None] = [None]
    if verdict == "unresolved" and not problems:  # one that is settled may have to say more plainly that it differs
        needed = [one.seeds_needed if one.verdict == "unresolved" else one.n + 1 for one in deciding]
    told = replace(
        by[0],
        verdict=verdict,
        p=p,
        p_holm=corrected,
        p_exact=max(one.p_exact for one in deciding),
        seeds_needed=None if None in needed else max(filter(None, needed)),
        problem=by[0].problem or next(iter(problems), ""),
        by=by,
    )
    return replace(told, sentence=sentences.by_each(told, question))


def _ask(design: Design, question: Question, rows: pd.DataFrame, sequential: bool, final: bool) -> list[Asked]:
    """A question's claims by its own metric; `final` where they are about quality once training has settled."""
    scores, names = question_scores(design, question, rows), list(level_arms(design, question).values())
    baseline = names.index(question.baseline)
    found, _ = judge(question, baseline, scores.values, sequential=sequential)
    exact = run_tests(question, baseline, scores.values, sign_flips)
    others = list(level_arms(design, question, versus=True).values()) or names
    pairs_of_arms = [(budget.settling(rows, a), budget.settling(rows, b)) for a, b in zip(names, others, strict=True)]
    settled = tuple(min(pair, key=lambda one: (one.enough, one.settled)) for pair in pairs_of_arms)
    asked = []
    for c, claim in enumerate(claims_of(question, baseline)):
        treated, reference = claim.pairs[_pair_shown(toward(question, scores.values, claim))]
        asked.append(
            Asked(
                question=question,
                claim=claim,
                scores=scores,
                effect=paired_effect(scores, treated, reference, sequential=sequential),
                found=_at(found, c),
                exact=_at(exact, c),
                n=int(num_seeds(scores.values, claim)),
                problem=claim.problem or _problem(question, scores, claim, names),
                sequential=sequential,
                pair=(treated, reference),
                settling=settled,
                final=final,
            )
        )
    return asked


def _at(found: Tested, place: int) -> Tested:
    return Tested(found.p[place], found.toward[place], found.against[place], found.opposite[place])


def _answer(asked: Asked, shown: Verdict, corrected: tuple[float, float], num_open: int) -> Answer:
    """The answer by one metric.

    Args:
        asked: The claim.
        shown: The verdict on it, as if all trials had settled.
        corrected: p of the claim and of its refutation, after correction.
        num_open: Claims still open of those that share the error rate.
    """
    question, claim, scores, effect = asked.question, asked.claim, asked.scores, asked.effect
    levels, better = list(claim.levels), -1 if METRICS[question.metric].better == "higher" else 1
    verdict = asked.held_back(shown)
    x, (treated, reference) = toward(question, scores.values, claim), asked.pair
    opposite = question.expected != "equal" and not asked.found.toward and corrected[0] <= ALPHA
    against = verdict == "refuted" and not opposite
    p, p_exact = (float(found.against if against else found.p) for found in (asked.found, asked.exact))
    one = Answer(
        question=question.key,
        claim=claim.words + sentences.about(question),
        level=claim.level,
        verdict=verdict,
        effect=effect.mean,
        low=effect.low,
        high=effect.high,
        scale=effect.scale,
        p=p,
        p_holm=corrected[against],
        smallest_p=smallest_p(asked.n),
        p_exact=p_exact,
        n=asked.n,
        failures=int(scores.diverged[levels].sum()),
        seed_correlation=effect.seed_correlation,
        probability_of_improvement=probability_of_improvement(
            better * scores.values[treated], better * scores.values[reference]
        ),
        seeds_needed=None
        if asked.problem or verdict != "unresolved"
        else _seeds_needed(question, x, asked.n, num_open, asked.sequential),
        seconds=float(scores.seconds[levels].sum()),
        method=sentences.method(question, x, asked.sequential),
        problem=asked.problem,
        sentence="",
        metric=question.metric,
    )
    labels = [level.label for level in question.factor.levels]
    unsettled = budget.in_words(asked.unsettled(shown), labels, asked.settling)
    told_in_words = sentences.sentence(one, question, effect.n, opposite=opposite, unsettled=unsettled)
    return replace(one, sentence=told_in_words + sentences.beside(one, question, scores, levels, (treated, reference)))


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
    if scores.others is not None:  # an interaction is of differences: what lies at a bound is what they are of
        values = scores.others[:, levels].reshape(-1, values.shape[-1])
    if np.isinf(values).any():  # a trial that diverged is told apart from those that did not
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
