"""Arms that collapse now and then: what is recognised, its rate, and what verdicts and sentences make of it."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis.collapse import far_worse, rates
from tests.analysis.test_answers import ask, make_study

LEAST = 3 * math.log(1.25)
WELL = np.array([0.0, 0.1, -0.1, 0.05, -0.05, 0.02, -0.02, 0.08])


def test_collapsed_trials_by_hand() -> None:
    fids = np.log([90.0, 100, 110, 95, 105, 480, 520, math.inf])
    np.testing.assert_array_equal(far_worse(fids, LEAST), [False] * 5 + [True] * 3)
    assert not far_worse(-fids, LEAST).any()  # better than the rest is no collapse
    assert not far_worse(fids[:5], LEAST).any()  # too few to tell
    assert not far_worse(np.log([90.0, 100, 110, 95, 105, 170]), LEAST).any()  # below three effects of interest
    wide = np.log([20.0, 100, 110, 400, 90, 450])  # as far from the median on the other side
    assert not far_worse(wide, LEAST).any()
    np.testing.assert_array_equal(far_worse(np.array([0.0] * 3 + [math.inf] * 4), LEAST), [False] * 3 + [True] * 4)
    np.testing.assert_array_equal(far_worse(np.append(fids, math.nan), LEAST), [False] * 5 + [True] * 3 + [False])


@pytest.mark.parametrize("n", [6, 8, 12])
def test_well_behaved_arms_seldom_count_as_collapsed(n: int) -> None:
    rng = np.random.default_rng(n)
    flagged = [far_worse(x, LEAST).any() for x in rng.normal(0, LEAST / 3, (4000, n))]
    assert 0.005 < np.mean(flagged) < 0.025
    wide = [far_worse(x, LEAST).any() for x in rng.normal(0, 0.5, (4000, n))]
    assert 0.03 < np.mean(wide) < 0.12


def test_rates_are_exact_and_paired() -> None:
    treated, baseline = WELL.copy(), WELL.copy()
    treated[:3] = 2.0
    baseline[2] = 2.0
    one, other, p = rates(treated, baseline, LEAST)
    expected = stats.binomtest(3, 8).proportion_ci(method="exact")
    assert (one.mean, one.low, one.high) == pytest.approx((3 / 8, expected.low, expected.high))
    assert other.mean == 1 / 8 and p == pytest.approx(stats.binomtest(2, 2).pvalue)  # two seeds tell them apart
    assert rates(WELL, WELL, LEAST)[2] == 1


def test_no_verdict_rests_on_few_seeds() -> None:
    """Five of twelve trials collapse: by t alone the arm is worse, though at few more than half of the seeds."""
    base = np.tile(WELL, 2)[:12]
    treated = base + np.where(np.isin(np.arange(12), [1, 3, 5, 7, 9]), 2.3, 0.01 * (-1) ** (np.arange(12) // 2))
    (found,) = ask(make_study("contrast", "higher", 2), [np.exp(treated), np.exp(base)])
    assert stats.ttest_1samp(treated - base, 0).pvalue < 0.02 and found.verdict == "unresolved"
    assert "Few seeds make the mean: the median is ×" in found.sentence


def test_collapse_is_told_with_its_rate() -> None:
    base = np.tile(WELL, 2)[:12]
    treated = base - 1 + np.where(np.arange(12) < 2, 2.5, 0.01 * np.arange(12))
    (found,) = ask(make_study("contrast", "lower", 2), [np.exp(treated), np.exp(base)])
    assert "Far worse than the rest of their arm, or diverged: 2 of 12 trials (2% to 48%)" in found.sentence
    assert "0 of 12 trials (0% to 26%)" in found.sentence and "(exact p = 0.5 that" in found.sentence
    (quiet,) = ask(make_study("contrast", "lower", 2), [np.exp(base - 1), np.exp(base)])
    assert "Far worse" not in quiet.sentence and "Few seeds" not in quiet.sentence
