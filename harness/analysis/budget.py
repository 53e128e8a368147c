"""Whether the budget allows a verdict on final quality: the arm that it speaks against must have settled.

An arm that still improves when the budget ends may yet overtake. That it is worse shows that it learns more slowly, and
no more (docs/statistics.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.verdicts import Claim, Verdict
from harness.metrics import BY_FEATURES, METRICS, split
from harness.questions import Question

NOT_TESTABLE: Verdict = "not testable at this budget"


@dataclass(frozen=True)
class Settling:
    """How many of an arm's trials had settled when the budget ended, of those whose curve says so."""

    settled: int  # diverged ones too, which nothing will improve
    known: int

    @property
    def enough(self) -> bool:
        """Whether most had, so that the typical trial had; and where nothing is known, nothing speaks against it."""
        return self.known == 0 or 2 * self.settled > self.known


def settling(rows: pd.DataFrame, arm: str) -> Settling:
    """Of one arm of a results table: a trial has settled if `kimg_to_settle` is finite."""
    mine = rows[rows.arm == arm]
    if "kimg_to_settle" not in mine:
        return Settling(0, 0)
    diverged = int((mine.status == "diverged").sum())
    at = mine.loc[mine.status == "ok", "kimg_to_settle"].dropna().to_numpy(float)
    return Settling(int(np.isfinite(at).sum()) + diverged, at.size + diverged)


def is_quality(question: Question) -> bool:
    """Whether the question is about a trial's samples at its end."""
    return split(question.metric)[0] in BY_FEATURES


def is_about_final_quality(question: Question, questions: Sequence[Question]) -> bool:
    """Whether the question declares it, or another of the study asks how fast the same levels learn.

    "It learns faster" and "it ends lower" would otherwise rest on one observation: an early snapshot.
    """
    asked = (question.baseline, question.versus, question.factor)
    return question.final or (
        is_quality(question)
        and any(q.metric.startswith("kimg_to") and (q.baseline, q.versus, q.factor) == asked for q in questions)
    )


def still_open(
    question: Question,
    claim: Claim,
    pair: tuple[int, int],
    verdict: Verdict,
    by_level: Sequence[Settling],
    *,
    higher: bool,
) -> tuple[int, ...]:
    """The levels that had to settle for this verdict and have not; empty where it stands.

    Support for "worse than" speaks against the treated level, and so does refuting "better than": let it improve, and
    what was shown no longer holds. Where the other one improves, it holds all the more. Of a trend, the levels between
    must have settled, too. That two are the same, and an interaction, needs all. While neither verdict is shown, the
    levels are open that either would need.

    Args:
        question: What is claimed.
        claim: The claim.
        pair: (treated, baseline) levels of the effect that is shown.
        verdict: As if all had settled.
        by_level: Of each level; of an interaction, of the one of its two arms that had settled less.
        higher: Whether the treated level is seen to have the higher score.
    """
    treated, reference = pair
    lower_is_better = METRICS[question.metric].better == "lower"
    ends = {one for one, _ in claim.pairs} if question.kind == "sweet-spot" else {treated}
    between = set(claim.levels) - {treated, reference} if question.kind == "trend" else set()
    worse = question.kind == "sweet-spot" or ((question.expected in ("higher", "rising")) == lower_is_better)
    supported, refuted = (ends, {reference}) if worse else ({reference}, {treated})
    supported, refuted = supported | between, refuted | between
    if question.versus:
        supported = refuted = set(claim.levels)
    elif question.expected == "equal":
        supported, refuted = {treated, reference}, {treated if higher == lower_is_better else reference}
    needs = {"supported": [supported], "refuted": [refuted]}.get(verdict, [supported, refuted])
    missing = [tuple(sorted(i for i in levels if not by_level[i].enough)) for levels in needs]
    return () if () in missing else missing[0]


def in_words(levels: Sequence[int], labels: Sequence[str], by_level: Sequence[Settling]) -> str:
    """How many trials of these levels have settled: "2 of 6 at FC, 3 of 6 at DC"."""
    return ", ".join(f"{by_level[i].settled} of {by_level[i].known} at {labels[i]}" for i in levels)
