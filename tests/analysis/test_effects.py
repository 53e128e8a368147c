"""Effects worked out by hand and by scipy, with diverged, missing and zero scores among them."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis.effects import Effect, arm_mean, arm_values, paired_effect, scores_of
from harness.analysis.statistics import location

INF, NAN = math.inf, math.nan


def table(**arms: Sequence[float]) -> pd.DataFrame:
    """FIDs by arm, seeds counted from 0; an infinite one is a diverged trial, a missing one failed."""
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": seed,
            "status": "failed" if math.isnan(fid) else "diverged" if math.isinf(fid) else "ok",
            "fid": fid if math.isfinite(fid) else NAN,
            "recall": fid / 100,
            "seconds": 2.0,
        }
        for arm, scores in arms.items()
        for seed, fid in enumerate(scores)
    )


def effect(a: Sequence[float], b: Sequence[float], metric: str = "fid", *, sequential: bool = False) -> Effect:
    return paired_effect(scores_of(table(a=a, b=b), ["a", "b"], metric), 0, 1, sequential=sequential)


def ends(found: Effect) -> tuple[float, float, float]:
    return found.mean, found.low, found.high


def test_difference_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    block = rng.normal(50, 10, 8)
    a, b = block + rng.normal(3, 1, 8), block + rng.normal(0, 1, 8)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = effect(a, b, "recall")
    assert found.scale == "difference" and found.n == 8
    signs = np.sort(a - b)[[1, 6]]  # which the sign test beside it does not refuse
    low, high = min(expected.low, signs[0]), max(expected.high, signs[1])
    assert ends(found) == pytest.approx(tuple(np.array([np.mean(a - b), low, high]) / 100))
    assert found.seed_correlation == pytest.approx(stats.pearsonr(a, b)[0])


def test_ratio_by_hand_and_symmetric() -> None:
    a, b = [20.0, 80.0, 80.0], [10.0, 20.0, 10.0]
    found, swapped = effect(a, b), effect(b, a)
    assert found.mean == pytest.approx(4)  # the geometric mean of 2, 4 and 8, not 14/3
    assert ends(swapped) == pytest.approx((1 / found.mean, 1 / found.high, 1 / found.low))
    assert found.by_seed.to_dict() == pytest.approx({0: 2, 1: 4, 2: 8})


def test_a_diverged_trial_is_worse_than_any() -> None:
    found = effect([20.0, INF, 40.0, 80.0, 160.0, 320.0], [10.0] * 6)
    assert (found.n, found.failures) == (6, 1)
    assert ends(found) == pytest.approx((math.sqrt(8 * 16), 2, INF))  # the median; the sign test refuses no end less
    assert found.by_seed[1] == INF
    higher = effect([20.0, INF, 40.0, 80.0, 160.0, 320.0], [10.0] * 6, "recall")
    assert higher.by_seed[1] == -INF and higher.mean == pytest.approx(0.5)


def test_pairs_that_say_nothing_are_left_out() -> None:
    found = effect([INF, NAN, 0.0, 20.0, 40.0, 80.0], [INF, 10.0, 10.0, 10.0, 10.0, 10.0])
    assert found.by_seed.to_dict() == pytest.approx({3: 2, 4: 4, 5: 8})
    assert (found.n, found.failures) == (3, 2)  # two that diverged are a tie, and counted as failures alone
    assert found.mean == pytest.approx(4)


def test_interim_analyses_widen_the_interval() -> None:
    a, b = np.exp(np.random.default_rng(2).normal(0.3, 0.2, (2, 8)) * [[1], [0.5]])
    fixed, sequential = effect(a, b), effect(a, b, sequential=True)
    expected = location(np.log(a) - np.log(b), anytime=True)
    assert ends(sequential) == pytest.approx((math.exp(expected.mean), math.exp(expected.low), math.exp(expected.high)))
    assert sequential.low < fixed.low < fixed.high < sequential.high and fixed.mean == sequential.mean


def test_seeds_orders_apart_give_no_interval() -> None:
    """IS of six seeds of the published study of noise, of which most collapsed: the interval ended at 10³⁰."""
    rows = table(a=[1.00000000002, 1.0076, 1.0000126, 1.28, 1.0000001, 1.444], b=[1.5, 1.6, 1.4, 1.5, 1.7, 1.3])
    rows = rows.assign(is_mean=rows.fid)
    wide, narrow = (arm_mean(arm_values(rows, arm, "is_mean"), "is_mean") for arm in "ab")
    assert wide.mean == pytest.approx(1.1219, abs=1e-3) and math.isnan(wide.low) and math.isnan(wide.high)
    assert 1.3 < narrow.low < 1.5 < narrow.high < 1.7


def test_an_arms_mean_is_not_flattered() -> None:
    rows = table(a=[10.0, 20.0, 30.0, 40.0]).assign(kimg_to_fid_300=[1.0, 2.0, INF, INF])
    assert arm_mean(arm_values(rows, "a", "fid"), "fid").mean == 25
    assert arm_mean(arm_values(rows, "a", "kimg_to_fid_300"), "kimg_to_fid_300").mean == INF
