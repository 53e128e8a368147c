"""Statistics of arrays. Knows nothing of stores, studies or GANs. The replicate is always the training seed."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

CONFIDENCE = 0.95
ALPHA = 0.05
"""Two-sided: a test in one direction errs in at most half of it."""
TYPICAL = 2 * ALPHA
"""Two-sided, of the sign test that must pass beside a t test: in one direction it errs in at most ALPHA."""
MOST_SEEDS = 100
"""Beyond this many, how many seeds a question needs is no longer said."""
FEWEST_FOR_A_CLAIM = 6
"""Below this many seeds an exact two-sided sign-flip test cannot reach p = 0.05, and results are exploratory."""
FEWEST_FOR_AN_INTERVAL = 3
"""Below this many seeds no interval is given: with two, Student's t makes it 9 standard deviations either way."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval. The ends are NaN where there is none, as with too few values."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: ArrayLike, *, lowest: float = -math.inf, highest: float = math.inf) -> Estimate:
    """Mean with an interval that holds only values that a mean can have; docs/statistics.md has its coverage.

    Without limits this is Student's t interval. With them it is that interval of the mean's logarithm (of its distance
    from `lowest`) or, between two limits, of its log odds, taken back by the delta method. The mean is transformed and
    not each value, so that single values may lie at a limit. Above one limit, where none does, the interval is at least
    as wide as Cox's for the mean of lognormal values (Zhou & Gao 1997): a few seeds seldom show a long tail.

    Args:
        values: (n,) one finite value a seed, independent.
        lowest: What no value can be below; -inf for no such limit.
        highest: What no value can be above; inf for none. Only together with `lowest`.

    Returns:
        Ends are NaN below FEWEST_FOR_AN_INTERVAL values, and where the mean lies at a limit or, by rounding, beyond.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    mean = float(x.mean())
    if x.size < FEWEST_FOR_AN_INTERVAL or not (mean > lowest or math.isinf(lowest)) or not mean < highest:
        return Estimate(mean, np.nan, np.nan, x.size)
    t = _t_quantile(x.size - 1)
    half = t * float(x.std(ddof=1)) / math.sqrt(x.size)
    if math.isinf(lowest):
        return Estimate(mean, mean - half, mean + half, x.size)
    above = mean - lowest
    if math.isinf(highest):
        wide = half / above
        if (x > lowest).all():
            of_logs = float(np.log(x - lowest).var(ddof=1))
            wide = max(wide, t * math.sqrt(of_logs / x.size + of_logs**2 / (2 * (x.size - 1))))
        stretch = np.exp(min(wide, 300.0))
        return Estimate(mean, float(lowest + above / stretch), float(lowest + above * stretch), x.size)
    span = highest - lowest
    share = above / span
    ends = special.expit(special.logit(share) + np.array([-1, 1]) * half / (span * share * (1 - share)))
    return Estimate(mean, float(lowest + span * ends[0]), float(lowest + span * ends[1]), x.size)


@lru_cache(typed=True)
def failure_rate(failures: int, trials: int) -> Estimate:
    """Share of failures with the exact interval of Clopper and Pearson (1934)."""
    if trials == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    low = special.betaincinv(failures, trials - failures + 1, (1 - CONFIDENCE) / 2) if failures else 0
    high = special.betaincinv(failures + 1, trials - failures, (1 + CONFIDENCE) / 2) if failures < trials else 1
    return Estimate(failures / trials, float(low), float(high), trials)


def seed_correlation(treated: ArrayLike, baseline: ArrayLike) -> float:
    """Pearson correlation of two arms over their seeds; NaN below 3 seeds or without spread."""
    a, b = np.asarray(treated, dtype=float), np.asarray(baseline, dtype=float)
    if a.size < 3 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def pairing_pays_above(n: int) -> float:
    """The correlation r above which n pairs give a narrower t interval than two unpaired samples of n would.

    Pairing scales the variance by 1 - r and halves the degrees of freedom: r > 1 - (t_{2n-2} / t_{n-1})²; 0.25 at 6
    seeds, 0.11 at 12. NaN below 2.
    """
    if n < 2:
        return float("nan")
    return 1 - (_t_quantile(2 * n - 2) / _t_quantile(n - 1)) ** 2


# ---- tests of paired differences ----
# x: (..., n) differences in the order of their seeds; NaN is not counted, ±inf is further than any number.
# margin: What they are held against.


def paired_differences(treated: ArrayLike, baseline: ArrayLike) -> np.ndarray:
    """Treated - baseline, seed by seed, of (..., n) scores on the scale on which they are compared.

    Scores may be ±inf (a diverged trial) or NaN (a missing one). ±inf where one of the two is infinite; NaN where one
    is missing, or both are infinite and tied.
    """
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.asarray(treated, dtype=float) - np.asarray(baseline, dtype=float)


def p_greater(x: ArrayLike, margin: float = 0.0) -> np.ndarray:
    """Evidence that the differences lie above a margin, from a fixed number of seeds: their mean, and their median.

    Student's t test of their mean (Student 1908), which assumes that they are independent and roughly normal: two arms
    that do not differ give symmetric ones, which is nearly enough. Where a difference is infinite, or all are equal and
    t has no scale, the exact sign test of their median (Arbuthnott 1710; Conover 1999, 3.4). A mean may be made by few
    seeds, as where one arm collapses now and then, and so the sign test must show the same at TYPICAL besides
    (intersection-union, Berger 1982): the margin is passed at most seeds, whatever the differences' shape. One at the
    margin does not pass it: left out, as is usual, a few signs would speak for seeds that all tie.

    Returns:
        (...) one-sided p values, doubled and at most 1: at 0.05 each direction errs in at most 2.5% where the t test
        holds, and of the median in at most 5% wherever seeds are independent. 1 with fewer than two differences.
    """
    y = np.asarray(x, dtype=float) - margin
    n, mean, squares = _moments(y)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / np.sqrt(squares / (n - 1) / n)
        p = special.stdtr(n - 1, -t)
    signs = _sign_p((y > 0).sum(-1), (~np.isnan(y)).sum(-1))
    p = np.where(np.isinf(y).any(-1) | _without_spread(x, squares), signs, p)
    return np.where(n < 2, 1.0, _if_typical(np.minimum(2 * p, 1), np.minimum(2 * signs, 1)))


def anytime_p_greater(x: ArrayLike, margin: float = 0.0) -> np.ndarray:
    """Evidence that the differences lie above a margin, valid over any number of interim analyses.

    1 / (the largest value so far of an e-process): by Ville's inequality it falls below a in at most a share a of
    studies, ever. The e-process is the scale-invariant t test of Wang & Ramdas (2024) with effect variance g = 1,

        e_n = (1 + ng)^(-1/2) · [(1 + t²/ν) / (1 + t²/(ν(1 + ng)))]^(n/2),   ν = n - 1.

    From the first infinite difference on it is multiplied by what a bettor on signs wins, who bets by the
    Beta(1/2, 1/2) mixture (Krichevsky & Trofimov 1981): under the null, that the differences are symmetric about the
    margin, both factors have mean 1, given the past. While all differences are equal, the smaller of the two counts.
    As for `p_greater`, the bettor on signs alone must win as much as TYPICAL takes besides, at any analysis so far.

    Returns:
        (...) p values, at most 1, that only fall as seeds are added: 0.05 means here what it means for `p_greater`.
    """
    y = np.asarray(x, dtype=float) - margin
    if not y.shape[-1]:
        return np.ones(y.shape[:-1])
    known, finite = ~np.isnan(y), np.isfinite(y)
    n, t_log, mean, squares = _t_process(y, finite)
    above, decided = np.cumsum(y > 0, -1), np.cumsum(known, -1)
    sign_log = _sign_process(above, decided)
    t_log = np.where(_without_spread(x, squares, axis=None), np.minimum(t_log, sign_log), t_log)

    infinite = np.cumsum(known & ~finite, -1) > 0
    # What t hands over speaks for this direction only: what it had won in the other counts as no effect at all.
    t_upward = np.where(mean > 0, t_log, np.minimum(t_log, -np.log1p(n * _EFFECT_VARIANCE) / 2))
    before = np.where(infinite, 0.0, t_upward - sign_log)  # at each prefix without an infinite difference
    last = infinite.shape[-1] - infinite.sum(-1, keepdims=True) - 1  # the last of them; -1 where there is none
    handed_over = np.where(last < 0, 0.0, np.take_along_axis(before, np.maximum(last, 0), -1))
    log_e = np.where(infinite, handed_over + sign_log, t_log)
    upward = np.where(infinite, 2 * above > decided, (mean > 0) & (n > 1))
    p = np.exp(-np.max(np.where(upward, np.maximum(log_e, 0), 0), -1))
    return _if_typical(p, np.exp(-np.max(np.where(2 * above > decided, np.maximum(sign_log, 0), 0), -1)))


def sign_flip_p_greater(x: ArrayLike, margin: float = 0.0) -> float:
    """The exact test that stands beside `p_greater`: under symmetry about the margin signs are coins (Fisher 1935).

    Returns:
        The share of sign patterns of (n,) differences whose sum is at least the one seen, doubled and at most 1. All
        2^n patterns up to n = 16; beyond, 2^16 drawn ones and that seen (Phipson & Smyth 2010), the same at every call.
        With an infinite difference the sign test.
    """
    y = np.asarray(x, dtype=float) - margin
    y = y[~np.isnan(y)]
    if not np.isfinite(y).all():
        return float(p_greater(y))
    if y.size <= _ENUMERATED:
        sums = np.zeros(1)
        for size in np.abs(y):
            sums = np.concatenate([sums + size, sums - size])
        extra = 0
    else:
        signs = np.random.default_rng(0).integers(0, 2, (2**_ENUMERATED, y.size), dtype=np.int8) * 2 - 1
        sums, extra = signs @ np.abs(y), 1
    hits = np.count_nonzero(sums >= y.sum() - 1e-12 * np.abs(y).sum())
    return min(1.0, 2 * (hits + extra) / (sums.size + extra))


def smallest_p(n: int) -> float:
    """The smallest two-sided p that the exact tests of n pairs can reach, 2^(1 - n): 0.031 at 6, 0.0078 at 8."""
    return min(1.0, 2.0 ** (1 - n))


def location(x: ArrayLike, *, anytime: bool = False) -> Estimate:
    """Where (n,) differences lie: the interval holds the margins that neither direction's test refuses.

    Args:
        x: The differences.
        anytime: With the confidence sequence that goes with `anytime_p_greater`, over all interim analyses so far,
            instead of the interval that goes with `p_greater`.

    Returns:
        The mean with its t interval, made to hold what the sign test at TYPICAL does not refuse, if it can refuse any;
        with an infinite difference the median, with the order statistics that the sign test does not refuse (Thompson
        1936). Ends may be infinite; NaN where there are too few seeds, and below FEWEST_FOR_AN_INTERVAL.
    """
    x = np.asarray(x, dtype=float)
    x = x[~np.isnan(x)]
    if not np.isinf(x).any():
        return _confidence_sequence(x) if anytime else _sign_bounds(x, mean_interval(x))
    ordered = np.sort(x)
    with np.errstate(invalid="ignore"):  # between -inf and inf there is no median
        middle = float(np.median(ordered))
    if anytime and x.size >= FEWEST_FOR_AN_INTERVAL:
        low, high = _anytime_bound(x, 1 - CONFIDENCE), -_anytime_bound(-x, 1 - CONFIDENCE)
        return Estimate(middle, low, high, x.size)
    rank = int((special.bdtr(np.arange(x.size), x.size, 0.5) < (1 - CONFIDENCE) / 2).sum())
    if rank == 0:
        return Estimate(middle, np.nan, np.nan, x.size)
    return Estimate(middle, float(ordered[rank - 1]), float(ordered[-rank]), x.size)


def holm(p: ArrayLike) -> np.ndarray:
    """Correct (..., m) p values within a family by Holm's (1979) step-down, valid whatever their dependence.

    Of anytime-valid ones, which only fall, the result is anytime-valid, too.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, -1, kind="stable")
    steps = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(np.maximum.accumulate(steps, -1), 1), -1)
    return corrected


def probability_of_improvement(treated: ArrayLike, baseline: ArrayLike) -> float:
    """Chance that a random run of one arm scores lower than one of the other: Mann & Whitney's (1947) U, scaled.

    P(treated < baseline) + P(tie) / 2 over all n·m pairs of (n,) and (m,) scores; ±inf allowed, NaN not counted. NaN
    where an arm is empty. Agarwal et al. (2021) recommend it.
    """
    a, b = np.asarray(treated, dtype=float), np.asarray(baseline, dtype=float)
    a, b = a[~np.isnan(a), None], b[~np.isnan(b)]
    if not a.size or not b.size:
        return float("nan")
    return float(((a < b) + (a == b) / 2).mean())


def seeds_needed(
    x: ArrayLike, margin: float = 0.0, *, claims: int = 1, power: float = 0.8, anytime: bool = False
) -> int | None:
    """How many seeds in all would show, with that power, that (n,) differences like these lie above the margin.

    The effect seen is taken for the true one, so this is a rough guide. By the noncentral t distribution; of interim
    analyses, the n at which the process crosses its line when t is at the matching quantile of its rough spread; and
    by the binomial of their signs. With an infinite difference, or where all are equal, by the latter alone, with the
    share of signs shrunk by half a pair each way.

    Args:
        x: The differences.
        margin: What they are held against.
        claims: Open claims that share the error rate (the first step of Holm).
        power: Wanted chance of showing it.
        anytime: For `anytime_p_greater` instead of `p_greater`.

    Returns:
        At least FEWEST_FOR_A_CLAIM; None where it would take more than MOST_SEEDS, or x has fewer than three
        differences, or does not lie above the margin.
    """
    y = np.asarray(x, dtype=float) - margin
    y = y[~np.isnan(y)]
    if y.size < 3:
        return None
    alpha = ALPHA / claims
    n = np.arange(FEWEST_FOR_A_CLAIM, MOST_SEEDS + 1)
    without_spread = bool(_without_spread(y, _moments(y)[2])) and bool((y > 0).all())
    if np.isinf(y).any() or without_spread:  # which the sign test decides
        share = ((y > 0).sum() + 0.5) / (y.size + 1)
        if share <= 0.5:
            return None
        reached = _signs_reach(n, share, alpha, anytime) >= power
    else:
        spread = y.std(ddof=1)
        if spread == 0 or y.mean() <= 0:
            return None
        shift = np.sqrt(n) * y.mean() / spread
        if anytime:
            t = shift - special.ndtri(power)
            reached = (t > 0) & (_t_log_e(n, t**2 / (n - 1)) >= -np.log(alpha))
        else:
            reached = 1 - special.nctdtr(n - 1, shift, -special.stdtrit(n - 1, alpha / 2)) >= power
        reached &= _signs_reach(n, special.ndtr(y.mean() / spread), TYPICAL, anytime) >= power
    return int(n[reached.argmax()]) if reached.any() else None


# ---- what the tests are made of ----

_ENUMERATED = 16
_EFFECT_VARIANCE = 1.0  # g of the t process: between 1 and 4 hardly matters for effects of 1 to 3 standard deviations


@lru_cache
def _t_quantile(freedom: int) -> float:
    """Standard errors that an interval of Student's t reaches on either side."""
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _moments(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count of all, and mean and sum of squared deviations of the finite ones, along the last axis."""
    finite = np.isfinite(y)
    n = np.maximum(finite.sum(-1), 1)
    mean = np.where(finite, y, 0).sum(-1) / n
    squares = (np.where(finite, y - mean[..., None], 0) ** 2).sum(-1)
    return (~np.isnan(y)).sum(-1), mean, squares


def _without_spread(x: ArrayLike, squares: np.ndarray, axis: int | None = -1) -> np.ndarray:
    """Whether deviations are rounding only: against the size of x over its last axis, or of each prefix (None)."""
    size = np.where(np.isfinite(x), x, 0) ** 2
    total = size.sum(-1) if axis is not None else np.cumsum(size, -1)
    return squares <= 1e-20 * total


def _sign_p(above: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """P(at least `above` heads in `decided` tosses of a fair coin)."""
    return np.where(above <= 0, 1.0, special.betainc(np.maximum(above, 1), np.maximum(decided - above + 1, 1e-9), 0.5))


def _if_typical(p: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """A p value, and where that of the signs beside it does not pass, the larger of the two."""
    return np.where(signs > TYPICAL, np.maximum(p, signs), p)


def _sign_bounds(x: np.ndarray, found: Estimate) -> Estimate:
    """The interval, made to hold what signs do not refuse at TYPICAL; below 5 differences they can refuse nothing."""
    rank = int((special.bdtr(np.arange(x.size), x.size, 0.5) < TYPICAL / 2).sum())
    y = np.sort(x)
    return replace(found, low=min(found.low, y[rank - 1]), high=max(found.high, y[-rank])) if rank else found


def _signs_reach(n: np.ndarray, share: float, alpha: float, anytime: bool) -> np.ndarray:
    """The chance that the signs of n differences, of which such a share lies above 0, show it at alpha."""
    counts = np.arange(MOST_SEEDS + 1)[:, None]
    if anytime:
        enough = (_sign_process(counts, n) >= -np.log(alpha)) & (2 * counts > n)
    else:
        enough = 2 * _sign_p(counts, n) <= alpha
    least = np.where((enough & (counts <= n)).any(0), (enough & (counts <= n)).argmax(0), n + 1)
    return special.bdtrc(least - 1, n, share)


def _sign_process(above: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Log wealth of the bettor on signs after `above` heads in `decided` tosses."""
    return (
        decided * math.log(2)
        + special.betaln(above + 0.5, np.maximum(decided - above, 0) + 0.5)
        - special.betaln(0.5, 0.5)
    )


def _t_log_e(n: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Log of the t e-value of n differences, where u = t² / (n - 1)."""
    a = 1 + n * _EFFECT_VARIANCE
    return -np.log(a) / 2 + n / 2 * (np.log1p(u) - np.log1p(u / a))


def _t_process(y: np.ndarray, finite: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(n, log e, mean, squared deviations) of the finite differences at every prefix; log e is 0 below two.

    Each prefix is computed from itself alone (Welford 1962): no later difference changes it, not even by rounding.
    """
    n = np.cumsum(finite, -1)
    count = np.maximum(n, 1)
    mean, squares = np.zeros(y.shape), np.zeros(y.shape)
    m = s = np.zeros(y.shape[:-1])
    for i in range(y.shape[-1]):
        z = np.where(finite[..., i], y[..., i], m)  # what is not finite moves nothing
        off = z - m
        m = m + off / count[..., i]
        s = s + off * (z - m)
        mean[..., i], squares[..., i] = m, s
    a = 1 + count * _EFFECT_VARIANCE
    signal = count * mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(signal > 0, np.log((squares + signal) / (squares + signal / a)), 0)
    return n, np.where(n < 2, 0.0, -np.log(a) / 2 + count / 2 * gain), mean, squares


def _confidence_sequence(x: np.ndarray) -> Estimate:
    """The running intersection over seeds of mean ± the half-width at which the t process crosses its line."""
    if x.size < FEWEST_FOR_AN_INTERVAL:
        return mean_interval(x)
    n, _, mean, squares = (v[1:] for v in _t_process(x, np.isfinite(x)))
    a = 1 + n * _EFFECT_VARIANCE
    line = (np.sqrt(a) / (1 - CONFIDENCE)) ** (2 / n)
    with np.errstate(divide="ignore"):
        u = np.where(line < a, (line - 1) / np.maximum(1 - line / a, 1e-300), np.inf)
    with np.errstate(invalid="ignore"):
        half = np.where(np.isinf(u), np.inf, np.sqrt(u * squares / n))
    # While all are equal, t has no scale: only where as many signs would show it is any margin refused.
    tied = _without_spread(x, np.insert(squares, 0, 0.0), axis=None)[1:]
    half = np.where(tied & (_sign_process(n, n) < -math.log(1 - CONFIDENCE)), np.inf, half)
    low, high = np.max(mean - half), np.min(mean + half)
    if low > high:  # interim analyses that contradict each other: the last one's interval
        low, high = mean[-1] - half[-1], mean[-1] + half[-1]
    low, high = np.fmin(low, _anytime_sign_bound(x)), np.fmax(high, -_anytime_sign_bound(-x))
    return Estimate(float(mean[-1]), float(low), float(high), x.size)


def _anytime_sign_bound(x: np.ndarray) -> float:
    """The largest margin above which the bettor on signs shows x to lie at TYPICAL, at any prefix; NaN for none."""
    found = np.nan
    for n in range(2, x.size + 1):
        against = np.arange(n // 2 + 1)  # so many signs the other way
        shown = (_sign_process(n - against, np.full_like(against, n)) >= -math.log(TYPICAL)) & (2 * against < n)
        if shown.any():
            found = np.fmax(found, np.sort(x[:n])[np.flatnonzero(shown)[-1]])
    return float(found)


def _anytime_bound(x: np.ndarray, alpha: float) -> float:
    """The largest margin above which `anytime_p_greater` shows x to lie, by ever finer grids."""
    finite = x[np.isfinite(x)] if np.isfinite(x).any() else np.zeros(1)
    reach = np.ptp(finite) + np.abs(finite).max() + 1
    low, high = finite.min() - reach, finite.max() + reach
    if anytime_p_greater(x, low) > alpha:
        return -np.inf
    if anytime_p_greater(x, high) <= alpha:
        return np.inf
    for _ in range(6):
        grid = np.linspace(low, high, 40)
        shown = anytime_p_greater(x[None, :] - grid[:, None]) <= alpha
        at = int(np.flatnonzero(shown)[-1])
        low, high = grid[at], grid[at + 1]
    return float(low)
