"""Trials that collapse without diverging: which of an arm's scores are far worse than the rest, and how often.

Arrays only. It decides no verdict: a collapsed trial enters a claim's tests with the score that it has
(docs/statistics.md). It is an outcome of its own, shown with its rate.
"""

import numpy as np
from scipy import special

from harness.analysis.statistics import FEWEST_FOR_A_CLAIM, Estimate, failure_rate

REACH = 2.5
"""How many times as far from the median as the best trial, on the other side: 2% of well-behaved arms have one."""


def far_worse(scores: np.ndarray, least: float) -> np.ndarray:
    """Which of an arm's scores lie far on the worse side of the rest; a diverged trial's does.

    By the distance of the best trial from the median, which trials that collapse do not stretch as they do a standard
    deviation. Of six to twelve normal scores, whose standard deviation is a third of `least`, 2% have such a trial; of
    wide ones, up to 12%.

    Args:
        scores: (n,), higher is worse; inf where a trial diverged, NaN where one is missing.
        least: So far from the median it lies at least.

    Returns:
        (n,) booleans, all False below FEWEST_FOR_A_CLAIM scores.
    """
    known = scores[~np.isnan(scores)]
    if known.size < FEWEST_FOR_A_CLAIM:
        return np.zeros(scores.shape, dtype=bool)
    median = np.median(known)
    if np.isinf(median):  # most diverged
        return np.isinf(scores) & (scores > 0)
    return scores - median > max(least, REACH * (median - known.min()))


def rates(treated: np.ndarray, baseline: np.ndarray, least: float) -> tuple[Estimate, Estimate, float]:
    """How often trials of two arms are `far_worse`, with exact intervals, and whether these rates differ.

    Args:
        treated: As for `far_worse`, paired by seed with
        baseline: the other arm's.
        least: As there.

    Returns:
        Both rates (Clopper & Pearson 1934), and the exact two-sided p of their difference, from the seeds at which one
        of the two is far worse (McNemar 1947).
    """
    known = ~np.isnan(treated) & ~np.isnan(baseline)
    one, other = far_worse(treated, least)[known], far_worse(baseline, least)[known]
    only, apart = int((one & ~other).sum()), int((one != other).sum())
    p = min(1.0, 2 * float(special.bdtr(min(only, apart - only), apart, 0.5)))
    return failure_rate(int(one.sum()), one.size), failure_rate(int(other.sum()), other.size), p
