"""Estimates against numbers worked out by hand, against scipy, and against simulated truth."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis.statistics import (
    failure_rate,
    mean_interval,
    paired_difference,
    paired_ratio,
    seed_correlation,
)


def test_mean_interval_by_hand() -> None:
    found = mean_interval([1.0, 2.0, 3.0])  # s = 1, t(0.975, 2) = 4.30265
    assert (found.mean, found.n) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - 4.30265 / math.sqrt(3), 2 + 4.30265 / math.sqrt(3)), rel=1e-5)


def test_mean_interval_is_that_of_scipy() -> None:
    x = np.random.default_rng(0).lognormal(3, 0.5, 9)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.9)
    found = mean_interval(x, 0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_too_few_values_have_no_interval() -> None:
    none, one = mean_interval([]), mean_interval([5.0])
    assert none.n == 0 and math.isnan(none.mean)
    assert (one.n, one.mean) == (1, 5.0) and math.isnan(one.low) and math.isnan(one.high)


def test_paired_difference_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    block = rng.normal(50, 10, 8)
    a, b = block + rng.normal(3, 1, 8), block + rng.normal(0, 1, 8)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = paired_difference(a, b)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b))


def test_paired_ratio_by_hand_and_symmetric() -> None:
    a, b = np.array([20.0, 80.0]), np.array([10.0, 20.0])
    found, swapped = paired_ratio(a, b), paired_ratio(b, a)
    assert found.mean == pytest.approx(math.sqrt(2 * 4))  # the geometric mean, not 3
    assert (swapped.mean, swapped.low, swapped.high) == pytest.approx((1 / found.mean, 1 / found.high, 1 / found.low))


@pytest.mark.parametrize(
    ("failures", "n", "low", "high"),
    [(0, 10, 0, 0.30850), (1, 10, 0.0025286, 0.445016), (10, 10, 0.69150, 1)],  # tables of Clopper and Pearson
)
def test_failure_rate_is_exact(failures: int, n: int, low: float, high: float) -> None:
    found = failure_rate(failures, n)
    assert (found.mean, found.n) == (failures / n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)


def test_failure_rate_of_nothing_is_unknown() -> None:
    assert math.isnan(failure_rate(0, 0).mean)


def test_seed_correlation() -> None:
    assert seed_correlation([1, 2, 3, 5], [2, 1, 4, 5]) == pytest.approx(stats.pearsonr([1, 2, 3, 5], [2, 1, 4, 5])[0])
    assert math.isnan(seed_correlation([1, 2], [2, 5]))  # two points always correlate
    assert math.isnan(seed_correlation([1, 2, 3], [4, 4, 4]))


@pytest.mark.parametrize("n", [3, 6, 10])
def test_intervals_cover_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(n)
    num = 2000
    covered = ratio_covered = 0
    for _ in range(num):
        block = rng.normal(0, 1, n)
        a, b = 2 + block + rng.normal(0, 0.5, n), block + rng.normal(0, 0.5, n)
        difference, ratio = paired_difference(a, b), paired_ratio(np.exp(a), np.exp(b))
        covered += difference.low <= 2 <= difference.high
        ratio_covered += ratio.low <= math.exp(2) <= ratio.high
    error = 4 * math.sqrt(0.95 * 0.05 / num)
    assert covered / num == pytest.approx(0.95, abs=error)
    assert ratio_covered / num == pytest.approx(0.95, abs=error)
