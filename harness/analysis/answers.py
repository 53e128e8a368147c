"""From a question and the results table to answers: supported, refuted or unresolved, and why."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["supported", "refuted", "unresolved"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one claim of a question; a contrast makes one claim a level, other kinds make one."""

    question: str  # the question's key
    claim: str  # in words, for example "DC, instance noise 0.1: FID is lower than at 0"
    level: str  # the level compared with the baseline; "" for a claim about all levels
    verdict: Verdict
    effect: float  # ratio or difference to the baseline (sweet spot: the smaller side's; trend: last level to first)
    low: float  # of its 95% interval; NaN where there is none
    high: float
    scale: Literal["ratio", "difference"]
    p: float  # raw
    p_holm: float  # corrected within the question
    smallest_p: float  # that so many seeds can reach, by the exact test that stands beside
    p_exact: float  # sign-flip
    n: int  # seeds in the comparison
    failures: int  # diverged trials among the arms compared
    seed_correlation: float
    probability_of_improvement: float
    seeds_needed: int | None  # in all, for an answer; None where settled or where no number is in reach
    seconds: float  # what the trials compared have cost
    method: str  # the tests used, in a few words
    sentence: str  # the answer in one plain sentence
