"""Published values and effects against ours: does a paper's number lie inside the interval that our seeds give?"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.analysis.effects import arm_mean, arm_values, level_arms
from harness.analysis.evidence import Evidence
from harness.analysis.statistics import FEWEST_FOR_A_CLAIM, failure_rate
from harness.analysis.wording import effect, number, with_interval
from harness.metrics import METRICS
from harness.published import Published
from harness.questions import Question

Verdict = Literal["inside our interval", "outside", "unresolved"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A published value, or the effect that two of them make, beside ours."""

    what: str  # the arm, or the two that are compared
    metric: str
    published: str
    ours: str  # with the 95% interval over seeds
    n: int  # seeds that ours is from
    verdict: Verdict
    source: str
    protocol: str


def compare_with_published(evidence: Evidence) -> list[Comparison]:
    """First every published value, then every effect that a question asks for and both of whose arms were published.

    Of fewer seeds than a claim needs, nothing is resolved; and of a value, where a trial of ours has none.
    """
    return [*(_value(evidence, one) for one in evidence.design.published), *_effects(evidence)]


def _value(evidence: Evidence, one: Published) -> Comparison:
    rows = evidence.rows[(evidence.rows.arm == one.arm) & (evidence.rows.status != "failed")]
    diverged, n = int((rows.status == "diverged").sum()), len(rows)
    rate = failure_rate(diverged, n)
    lost = f"{diverged} of {n} diverged [{100 * rate.low:.0f}, {100 * rate.high:.0f}%]" if n else "–"
    if one.diverged:
        verdict = _verdict(1.0, rate.low, rate.high, n)
        return _comparison(one, one.arm, "diverged", lost, n, verdict)
    values = arm_values(evidence.rows, one.arm, one.metric)
    mean = arm_mean(values, one.metric)
    ours = with_interval(mean.mean, mean.low, mean.high) + f", {lost}" * (diverged > 0)
    # What all trials agree on has no interval, and is a value.
    low, high = (mean.low, mean.high) if values.nunique() > 1 else (mean.mean, mean.mean)
    verdict = _verdict(one.value, low, high, 0 if diverged else len(values))
    return _comparison(one, one.arm, number(one.value), ours, len(values), verdict)


def _effects(evidence: Evidence) -> Iterable[Comparison]:
    values = {(one.arm, one.metric): one for one in evidence.design.published if not one.diverged}
    seen = set()
    for question in evidence.design.questions:
        base = values.get((question.baseline, question.metric))
        for level, arm in level_arms(evidence.design, question).items():
            one, pair = values.get((arm, question.metric)), (arm, question.baseline, question.metric)
            if question.versus or base is None or one is None or arm == question.baseline or pair in seen:
                continue
            seen.add(pair)
            yield _effect(evidence, question, level, one, base)


def _effect(evidence: Evidence, question: Question, level: str, one: Published, base: Published) -> Comparison:
    ours = evidence.effects[question.key][level]
    theirs = one.value - base.value
    if ours.scale == "ratio":
        theirs = one.value / base.value if base.value else math.nan
    return _comparison(
        one,
        f"{one.arm} against {base.arm}",
        effect(theirs, math.nan, math.nan, ours.scale).removesuffix(" [–]"),
        effect(ours.mean, ours.low, ours.high, ours.scale),
        ours.n,
        _verdict(theirs, ours.low, ours.high, ours.n),
    )


def _verdict(value: float, low: float, high: float, n: int) -> Verdict:
    if n < FEWEST_FOR_A_CLAIM or math.isnan(low + high) or math.isnan(value):
        return "unresolved"
    return "inside our interval" if low <= value <= high else "outside"


def _comparison(one: Published, what: str, published: str, ours: str, n: int, verdict: Verdict) -> Comparison:
    return Comparison(
        what=what,
        metric=METRICS[one.metric].label,
        published=published,
        ours=ours,
        n=n,
        verdict=verdict,
        source=one.source,
        protocol=one.protocol,
    )
