"""Estimates against numbers worked out by hand, against scipy, and against simulated truth."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from harness.analysis.statistics import (
    ALPHA,
    anytime_p_greater,
    failure_rate,
    holm,
    location,
    mean_interval,
    p_greater,
    paired_differences,
    pairing_pays_above,
    probability_of_improvement,
    seed_correlation,
    seeds_needed,
    sign_flip_p_greater,
    smallest_p,
)
from harness.analysis.trends import order_differences, page_p_rising

INF, NAN = math.inf, math.nan


def test_mean_interval_by_hand() -> None:
    found = mean_interval([1.0, 2.0, 3.0])  # s = 1, t(0.975, 2) = 4.30265
    assert (found.mean, found.n) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - 4.30265 / math.sqrt(3), 2 + 4.30265 / math.sqrt(3)), rel=1e-5)


def test_mean_interval_is_that_of_scipy() -> None:
    x = np.random.default_rng(0).lognormal(3, 0.5, 9)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    found = mean_interval(x)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_too_few_values_have_no_interval() -> None:
    none, one, two = mean_interval([]), mean_interval([5.0]), mean_interval([1.0, 2.0])
    assert none.n == 0 and math.isnan(none.mean)
    assert (one.n, one.mean) == (1, 5.0) and math.isnan(one.low) and math.isnan(one.high)
    assert (two.n, two.mean) == (2, 1.5) and math.isnan(two.low) and math.isnan(two.high)
    for anytime in (False, True):
        for pairs in ([1.0, 2.0], [1.0, INF], [INF, INF]):
            assert math.isnan(location(pairs, anytime=anytime).low)


def test_interval_above_a_limit_by_hand() -> None:
    found = mean_interval([1.0, 3.0, 5.0], lowest=1.0)  # of the mean's distance from 1, which is 2
    stretch = math.exp(4.30265 * 2 / math.sqrt(3) / 2)
    assert found.mean == 3
    assert (found.low, found.high) == pytest.approx((1 + 2 / stretch, 1 + 2 * stretch), rel=1e-5)


def test_interval_of_skewed_values_by_hand() -> None:
    """By Cox's variance of a lognormal mean where that is the larger, which it is of all values above the limit."""
    found = mean_interval([math.exp(-1), 1.0, math.exp(1)], lowest=0.0)  # the variance of their logarithms is 1
    mean, half = (math.exp(-1) + 1 + math.exp(1)) / 3, 4.30265 * math.sqrt(1 / 3 + 1 / 4)
    assert (found.low, found.high) == pytest.approx((mean * math.exp(-half), mean * math.exp(half)), rel=1e-5)
    x = np.random.default_rng(1).lognormal(0, 1, (3000, 6))
    covers = np.mean([e.low <= math.exp(0.5) <= e.high for e in (mean_interval(v, lowest=0.0) for v in x)])
    assert covers > 0.915  # 0.88 by the delta method alone


def test_interval_between_limits_by_hand() -> None:
    found = mean_interval([0.1, 0.2, 0.3], lowest=0.0, highest=1.0)  # of the log odds
    half = 4.30265 * 0.1 / math.sqrt(3) / 0.16
    odds = math.log(0.2 / 0.8) - half, math.log(0.2 / 0.8) + half
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx([1 / (1 + math.exp(-z)) for z in odds], rel=1e-5)


@given(st.lists(st.just(0.0) | st.floats(1e-9, 1), min_size=3, max_size=8))
def test_intervals_never_leave_their_limits(x: list[float]) -> None:
    for scale, highest in ((1.0, 1.0), (5000.0, INF)):
        found = mean_interval(scale * np.array(x), lowest=0.0, highest=highest)
        if math.isnan(found.low):
            assert not 0 < found.mean < highest
        else:
            assert 0 <= found.low <= found.mean * (1 + 1e-12) <= found.high * (1 + 1e-9) and found.high <= highest


def test_a_mean_at_its_limit_has_no_interval() -> None:
    for x in ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-5e-9, -5e-9, 0.0]):
        assert math.isnan(mean_interval(x, lowest=0.0, highest=1.0).low)


@pytest.mark.parametrize("n", [3, 6])
def test_bounded_intervals_cover_better_than_plain(n: int) -> None:
    rng = np.random.default_rng(n)
    shares = rng.beta(0.9, 17.1, (2000, n))  # recall near 0: mean 0.05, SD 0.05
    fids = rng.lognormal(-0.18, 0.6, (2000, n))  # mean 1
    for x, truth, limits in ((shares, 0.05, (0.0, 1.0)), (fids, 1.0, (0.0, INF))):
        plain = [mean_interval(v) for v in x]
        bounded = [mean_interval(v, lowest=limits[0], highest=limits[1]) for v in x]
        covers = [np.mean([e.low <= truth <= e.high for e in found]) for found in (plain, bounded)]
        assert covers[1] > covers[0] + 0.01 and covers[1] > 0.91
        assert min(e.low for e in plain) < 0 < min(e.low for e in bounded)


@pytest.mark.parametrize(
    ("failures", "n", "low", "high"),
    [(0, 10, 0, 0.30850), (1, 10, 0.0025286, 0.445016), (10, 10, 0.69150, 1)],  # tables of Clopper and Pearson
)
def test_failure_rate_is_exact(failures: int, n: int, low: float, high: float) -> None:
    found = failure_rate(failures, n)
    assert (found.mean, found.n) == (failures / n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)


def test_failure_rate_is_that_of_scipy() -> None:
    for failures, n in ((f, trials) for trials in range(1, 21) for f in range(trials + 1)):
        found, expected = failure_rate(failures, n), stats.binomtest(failures, n).proportion_ci(method="exact")
        assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-11)


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
    covered = 0
    for _ in range(num):
        block = rng.normal(0, 1, n)
        a, b = 2 + block + rng.normal(0, 0.5, n), block + rng.normal(0, 0.5, n)
        x = paired_differences(a, b)
        difference, t = location(x), mean_interval(x)
        covered += t.low <= 2 <= t.high
        assert difference.low <= t.low and difference.high >= t.high  # wider where the seeds' signs leave more open
    assert covered / num == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / num))


# ---- tests of paired differences ----

reals = st.floats(-100, 100).map(lambda v: round(v, 3))
differences = st.lists(reals, min_size=2, max_size=12)
any_differences = st.lists(reals | st.sampled_from([INF, -INF, NAN]), min_size=0, max_size=12)


def test_differences_of_infinite_and_missing_scores() -> None:
    found = paired_differences([3, INF, 1, INF, NAN], [1, 1, INF, INF, 1])
    np.testing.assert_array_equal(found, [2, INF, -INF, NAN, NAN])  # two diverged trials are tied: they say nothing


@given(differences, st.floats(-5, 5))
@example([0.0, 1.0, 1.0], 0.0)  # a difference at the margin does not pass it
def test_p_greater_is_t_if_signs_agree(x: list[float], margin: float) -> None:
    if np.ptp(x) == 0:
        return
    y = np.array(x) - margin
    expected = min(1, 2 * stats.ttest_1samp(x, margin, alternative="greater").pvalue)
    signs = min(1, 2 * stats.binom.sf(int((y > 0).sum()) - 1, len(y), 0.5))
    assert p_greater(x, margin) == pytest.approx(expected if signs <= 0.1 else max(signs, expected), abs=1e-9)


def test_a_mean_made_by_few_seeds_shows_nothing() -> None:
    x = [0.02, -0.03, 0.01, -0.02, 0.03, 2.3, 2.2, 2.4, 2.3, 2.2, -0.01, 2.1]  # collapsed at six of twelve
    assert stats.ttest_1samp(x, 0).pvalue < 0.01 and p_greater(x) > 0.1 and anytime_p_greater(x) > 0.1
    found = location(x)
    assert found.low < 0 < found.high and found.mean == pytest.approx(np.mean(x))


def test_verdicts_on_medians_hold_for_any_shape() -> None:
    rng = np.random.default_rng(3)
    for n in (6, 8, 12):
        x = rng.normal(0, 0.28, (4000, n)) + math.log(10) * (rng.random((4000, n)) < 0.3)
        x -= np.median(rng.normal(0, 0.28, 10**6) + math.log(10) * (rng.random(10**6) < 0.3))
        for side in (x, -x):
            assert (p_greater(side) <= ALPHA).mean() < 0.05


@pytest.mark.parametrize(
    ("x", "p"),
    [
        ([INF, 1, 2, 3, 4, 5], 2 / 64),  # all six above
        ([INF, 1, 2, 3, 4, -5], 2 * 7 / 64),  # one below: (1 + 6) / 64
        ([INF, 1, 2, 3, 4, 5, -INF], 2 * 8 / 128),
        ([INF, 1, 2, 3, 4, 5, NAN, 0.0], 2 * 8 / 128),  # what says nothing is not counted; what is tied is not above
        ([-INF, -1, -2], 1),
        ([0.3] * 6, 2 / 64),  # no spread: t would be infinite
        ([0.0] * 6, 1),
        ([1.0], 1),
        ([], 1),
        ([NAN, NAN], 1),
    ],
)
def test_p_greater_by_hand_where_t_fails(x: list[float], p: float) -> None:
    assert p_greater(x) == pytest.approx(p)


def test_margin_of_a_sign_test() -> None:
    assert p_greater([INF, 1, 2, 3, 4, 5], 0.5) == pytest.approx(2 / 64)
    assert p_greater([INF, 1, 2, 3, 4, 5], 2.5) == pytest.approx(2 * (15 + 6 + 1) / 64)  # four of six


@pytest.mark.parametrize(("x", "p"), [([1, 2, 3], 2 / 8), ([3, 2, -1], 2 * 2 / 8), ([1, 1, 1, -1], 2 * 5 / 16)])
def test_sign_flip_by_hand(x: list[float], p: float) -> None:
    assert sign_flip_p_greater(x) == pytest.approx(p)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=7))
@settings(max_examples=30)
def test_sign_flip_is_scipys_permutation_test(x: list[int]) -> None:
    expected = stats.permutation_test(
        (np.array(x, dtype=float),), np.sum, permutation_type="samples", n_resamples=1_000, alternative="greater"
    ).pvalue
    assert sign_flip_p_greater(x) == pytest.approx(min(1, 2 * expected))


def test_sign_flip_of_many_seeds_repeats() -> None:
    x = np.random.default_rng(5).normal(0.4, 1, 30)
    assert sign_flip_p_greater(x) == pytest.approx(float(stats.ttest_1samp(x, 0).pvalue), abs=0.01)
    assert sign_flip_p_greater(x) == sign_flip_p_greater(x)


def test_smallest_p_is_reached_by_all_signs_alike() -> None:
    for n in (1, 5, 6, 8):
        assert smallest_p(n) == pytest.approx(sign_flip_p_greater(np.arange(1, n + 1)))
    assert smallest_p(5) > ALPHA > smallest_p(6)


@given(any_differences, st.floats(-5, 5))
def test_opposite_directions_are_never_both_shown(x: list[float], margin: float) -> None:
    for test in (p_greater, anytime_p_greater, sign_flip_p_greater):
        up, down = float(test(x, margin)), float(test(-np.array(x), -margin))
        assert 0 <= up <= 1 and 0 <= down <= 1
        if test is not anytime_p_greater:  # interim analyses can contradict each other
            assert max(up, down) == pytest.approx(1, abs=1e-9) or not x


@given(any_differences)
def test_larger_margins_are_harder(x: list[float]) -> None:
    p = [float(anytime_p_greater(x, margin)) for margin in (-50.0, -5.0, 0.0, 5.0, 50.0)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(p))
    assert p_greater(x, -1000) <= p_greater(x, 1000)


@given(any_differences)
def test_batches_are_tested_row_by_row(x: list[float]) -> None:
    rows = np.array([x, -np.array(x), np.roll(x, 1)])
    for test in (p_greater, anytime_p_greater):
        np.testing.assert_allclose(test(rows, 0.3), [test(row, 0.3) for row in rows])


# ---- over interim analyses ----


def test_anytime_p_by_hand() -> None:
    x = [1.0, 2.0, 3.0]  # t² = 12, ν = 2, u = 6; at n = 2: t² = 9, u = 9
    e2 = 3**-0.5 * ((1 + 9) / (1 + 9 / 3)) ** 1
    e3 = 4**-0.5 * ((1 + 6) / (1 + 6 / 4)) ** 1.5
    assert anytime_p_greater(x[:2]) == pytest.approx(1 / e2)
    assert anytime_p_greater(x) == pytest.approx(1 / max(e2, e3))
    assert anytime_p_greater(np.negative(x)) == 1


def test_anytime_signs_by_hand() -> None:
    def bets(heads: int) -> float:  # Krichevsky & Trofimov: after k heads in n, (k + 1/2) / (n + 1), against 1/2
        return math.prod(2 * (k + 0.5) / (k + 1) for k in range(heads))

    assert anytime_p_greater([INF] * 7) == pytest.approx(1 / bets(7))
    assert bets(6) < 20 < bets(7)
    e2 = 3**-0.5 * ((1 + 9) / (1 + 9 / 3)) ** 1
    continued = e2 * 2 * 2.5 / 3 * 2 * 3.5 / 4  # t for two, then the third and fourth sign
    assert anytime_p_greater([1.0, 2.0, INF, 0.5]) == pytest.approx(1 / continued)
    assert anytime_p_greater([0.5] * 9) == pytest.approx(1 / bets(9))  # no spread: signs, not an infinite t


@given(any_differences)
def test_anytime_p_only_falls(x: list[float]) -> None:
    p = [float(anytime_p_greater(x[:n])) for n in range(len(x) + 1)]
    assert all(a >= b for a, b in itertools.pairwise(p)), "exactly: an interim analysis is what it was"


def test_anytime_p_does_not_depend_on_units() -> None:
    x = np.random.default_rng(3).normal(1, 1, 12)
    assert anytime_p_greater(1000 * x) == pytest.approx(anytime_p_greater(x))


@pytest.mark.parametrize("diverging", [0.0, 0.15])
def test_interim_analyses_are_rarely_wrong(diverging: float) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, (2, 4000, 24))
    a[rng.random(a.shape) < diverging] = INF
    b[rng.random(b.shape) < diverging] = INF
    x = paired_differences(a, b)
    wrong = np.minimum(anytime_p_greater(x), anytime_p_greater(-x)) <= ALPHA
    assert wrong.mean() < 0.05
    peeking = np.min([np.minimum(p_greater(x[:, :n]), p_greater(-x[:, :n])) for n in range(3, 25)], axis=0) <= ALPHA
    assert peeking.mean() > 0.1  # the same interim analyses with an ordinary test


# ---- intervals ----


@given(st.lists(reals, min_size=6, max_size=12, unique=True))
def test_intervals_hold_the_margins_that_are_not_refused(x: list[float]) -> None:
    for test, anytime in ((p_greater, False), (anytime_p_greater, True)):
        found = location(x, anytime=anytime)
        for end, side in ((found.low, 1), (found.high, -1)):
            if math.isfinite(end):
                step = 1e-6 * (1 + abs(end))
                assert test(side * np.array(x), side * end - step) <= ALPHA + 1e-9
                if not anytime:
                    assert test(side * np.array(x), side * end + step) >= ALPHA - 1e-9


def test_interval_with_infinite_differences_by_hand() -> None:
    six = location([INF, 1, 2, 3, 4, 5])  # 1 - 2/64 = 97% between the least and the greatest
    assert (six.mean, six.low, six.high, six.n) == (3.5, 1, INF, 6)
    nine = location([INF, INF, 1, 2, 3, 4, 5, 6, NAN, 7])  # 1 - 2 · 10/512 = 96% between the second on either side
    assert (nine.mean, nine.low, nine.high) == (5, 2, INF)
    few = location([INF, 1, 2])
    assert few.mean == 2 and math.isnan(few.low)
    assert location([INF, INF]).mean == INF
    assert location([-INF, -INF, 3, INF]).mean == -INF and math.isnan(location([-INF, INF]).mean)


def test_confidence_sequence_covers_at_every_seed() -> None:
    rng = np.random.default_rng(2)
    missed = sum(not (e := location(rng.normal(2, 1, 24), anytime=True)).low <= 2 <= e.high for _ in range(1000))
    assert missed < 50
    infinite = location([1.0, 1.2, 0.9, 1.1, INF, 1.05, INF, 1.3, 0.8, 1.0], anytime=True)
    assert -INF < infinite.low < 1.075 == pytest.approx(infinite.mean)
    x = rng.normal(2, 1, 24)
    found = [location(x[:n], anytime=True) for n in range(6, 25)]
    assert all(a.low <= b.low <= b.high <= a.high for a, b in itertools.pairwise(found)), "what is ruled out stays so"


# ---- families, trends, power ----


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=15)  # multipletests collects garbage at every call, which takes a quarter of a second
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_allclose(holm([p, p[::-1]])[1], holm(p[::-1]))


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


@pytest.mark.parametrize(("k", "n"), [(3, 4), (4, 6), (5, 8)])
def test_pages_test_is_that_of_scipy(k: int, n: int) -> None:
    scores = np.random.default_rng(k).normal(size=(k, n)) + 0.4 * np.arange(k)[:, None]
    for signed in (scores, -scores):
        expected = stats.page_trend_test(signed.T, method="exact").pvalue
        assert page_p_rising(signed) == pytest.approx(min(1, 2 * expected))


def test_pages_test_with_many_levels_is_scipys_approximation() -> None:
    scores = np.random.default_rng(0).normal(size=(9, 8)) + 0.1 * np.arange(9)[:, None]
    expected = stats.page_trend_test(scores.T, method="asymptotic").pvalue
    assert page_p_rising(scores) == pytest.approx(2 * expected)


def test_pages_test_takes_mid_ranks_of_ties() -> None:
    scores = np.array([[3.0, 2.0, 2.0], [1.0, INF, 2.0], [3.0, INF, 3.0]])
    ranks = stats.rankdata(scores, axis=0).T
    orders = [list(itertools.permutations(seed)) for seed in ranks]
    under_null = [np.dot([1, 2, 3], np.sum(one, axis=0)) for one in itertools.product(*orders)]
    share = np.mean(np.array(under_null) >= np.dot([1, 2, 3], ranks.sum(0)))
    assert page_p_rising(scores) == pytest.approx(2 * share)


def test_pages_test_by_hand_with_ties() -> None:
    assert page_p_rising([[1.0], [2.0], [3.0]]) == pytest.approx(2 / 6)
    assert page_p_rising([[1.0], [INF], [INF]]) == pytest.approx(2 / 3)  # the low one is first in a third of orders
    assert page_p_rising([[INF], [INF], [INF]]) == 1
    assert page_p_rising(np.empty((3, 0))) == 1
    with pytest.raises(ValueError, match="NaN, which has no rank"):
        page_p_rising([[1.0], [NAN], [3.0]])


def test_order_differences_by_hand() -> None:
    scores = np.array([[1.0, 5, 1, INF, 1], [2, 4, INF, INF, NAN], [4, 3, INF, 0, 2]])
    np.testing.assert_array_equal(order_differences(scores), [3, -2, INF, -INF, NAN])


def test_probability_of_improvement_by_hand() -> None:
    assert probability_of_improvement([1, 3], [2, 3]) == (1 + 1 + 0 + 0.5) / 4
    assert probability_of_improvement([INF, 1], [INF, 2]) == (0.5 + 0 + 1 + 1) / 4
    assert math.isnan(probability_of_improvement([NAN], [1]))
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    assert probability_of_improvement(a, b) == pytest.approx(stats.mannwhitneyu(b, a).statistic / 81)


@pytest.mark.parametrize("d", [0.5, 1.0, 1.4])
def test_seeds_needed_is_that_of_statsmodels(d: float) -> None:
    x = np.random.default_rng(0).normal(size=12)
    x = (x - x.mean()) / x.std(ddof=1) + d
    by_t = math.ceil(TTestPower().solve_power(d, alpha=0.05, power=0.8, alternative="two-sided"))
    passing = {
        n: next(k for k in range(n + 2) if stats.binom.sf(k - 1, n, 0.5) <= ALPHA) for n in range(max(by_t, 6), 60)
    }
    expected = min(n for n, k in passing.items() if stats.binom.sf(k - 1, n, stats.norm.cdf(d)) >= 0.8)
    assert seeds_needed(x) == expected >= by_t
    assert seeds_needed(x, -0.5) <= seeds_needed(x) <= seeds_needed(x, claims=4)
    assert seeds_needed(x) <= seeds_needed(x, anytime=True)


def test_seeds_needed_has_limits() -> None:
    assert seeds_needed([1.0, 1.1, 0.9]) == 6
    assert seeds_needed([-1.0, -1.1, -0.9]) is None  # not above
    assert seeds_needed([5.0, -5, 0.1, 0]) is None  # beyond 100
    assert seeds_needed([1.0, 1.0, 1.0]) == 12 and seeds_needed([1.0, 2.0]) is None
    found = seeds_needed([INF, 1, 2, 3, 4, -1])  # signs: 5 of 6, shrunk
    share = 5.5 / 7
    power = {
        n: stats.binom.sf(next(k for k in range(n + 1) if 2 * stats.binom.sf(k - 1, n, 0.5) <= ALPHA) - 1, n, share)
        for n in range(6, 40)
    }
    assert found == min(n for n, has in power.items() if has >= 0.8)
    assert seeds_needed([INF, 1, 2, 3, 4, -1], anytime=True) > found


@pytest.mark.parametrize("n", [6, 12])
def test_pairing_pays_where_its_interval_is_the_narrower(n: int) -> None:
    rng = np.random.default_rng(n)
    for excess in (-0.02, 0.02):
        r = pairing_pays_above(n) + excess
        a, b = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, 2))]))[0][:, 1:].T  # no correlation
        b = r * a + math.sqrt(1 - r**2) * b  # just this one, and equal spreads
        paired = stats.ttest_rel(a, b).confidence_interval(0.95)
        unpaired = stats.ttest_ind(a, b).confidence_interval(0.95)
        assert (paired.high - paired.low < unpaired.high - unpaired.low) == (excess > 0)


def test_a_confidence_sequence_survives_ties() -> None:
    """Equal differences have no spread: they say no more than as many signs, of which seven are enough."""
    found = location([0, 0, 0, 0, 0, 0.31], anytime=True)
    assert found.low < 0 < found.mean < found.high
    assert location(np.full(6, 0.7), anytime=True).high == math.inf
    assert location(np.full(7, 0.7), anytime=True).low == 0.7
    for n in (6, 7):  # as the test that it belongs to
        assert (anytime_p_greater(np.full(n, 0.7)) <= 0.05) == (n == 7)


def test_seeds_needed_of_a_constant_effect() -> None:
    """A ×2 at every seed: the sign test decides, and more claims need more seeds."""
    always = np.full(6, math.log(2))
    one, many = seeds_needed(always), seeds_needed(always, claims=28)
    assert one is not None and many is not None and 6 <= one < many < 30
    assert seeds_needed(np.zeros(6)) is None and seeds_needed(-always) is None


@pytest.mark.parametrize("test", [p_greater, anytime_p_greater])
def test_ties_do_not_pass_the_margin(test) -> None:
    """Counts of modes tie: where most seeds show no difference, the median is 0 and nothing is higher."""
    rng = np.random.default_rng(0)
    counts = (rng.random((2000, 24)) < 0.45) * rng.integers(1, 4, (2000, 24)).astype(float)
    assert (test(counts) <= 0.05).mean() <= 0.05
    few = np.array([0.0] * 7 + [1.0] * 5)
    assert location(few).low <= 0 and test(few) > 0.05
