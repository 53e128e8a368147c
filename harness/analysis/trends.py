"""Tests that scores follow the order of their levels. As in statistics.py, arrays only."""

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

_MOST_PERMUTED = 8


def page_p_rising(scores: ArrayLike) -> np.ndarray:
    """Page's (1963) test that the scores rise along ordered levels, a plateau allowed: ranks within each seed.

    Args:
        scores: (..., k, n) of k levels in their order and n seeds; ±inf allowed and NaN not. Ties get mid-ranks. Under
            the null every order of a seed's scores is equally likely.

    Returns:
        (...) one-sided p values, doubled and at most 1; exact, given the ties, up to 8 levels, and by Page's normal
        approximation beyond.

    Raises:
        ValueError: a score is NaN.
    """
    scores = np.asarray(scores, dtype=float)
    if np.isnan(scores).any():
        raise ValueError("a score is NaN, which has no rank")
    k, n = scores.shape[-2:]
    if n == 0:
        return np.ones(scores.shape[:-2])
    ranks = np.rint(2 * _ranks(scores)).astype(int)  # doubled, so that mid-ranks are whole
    statistic = np.tensordot(np.arange(1, k + 1), ranks, axes=(0, -2)).sum(-1)
    found = np.empty(statistic.shape)
    for at in np.ndindex(statistic.shape):
        seeds = np.sort(ranks[at], axis=0).T
        if k > _MOST_PERMUTED:
            mean, variance = _page_moments(seeds)
            found[at] = special.ndtr((mean - statistic[at]) / math.sqrt(variance)) if variance else 1.0
        else:
            tail = _page_tail(tuple(sorted(map(tuple, seeds.tolist()))))
            found[at] = tail[statistic[at]]
    return np.minimum(2 * found, 1)


def order_differences(scores: ArrayLike) -> np.ndarray:
    """(..., n): one number a seed that is above 0 where its (..., k, n) scores rise along their k levels.

    The linear contrast of the levels; where a score is infinite, ±inf by the sign of its rank version, and 0 for a tie;
    NaN where one is missing. Symmetric about 0 where every order of a seed's scores is equally likely: for interim
    analyses, as Page's statistic is discrete.
    """
    scores = np.asarray(scores, dtype=float)
    weights = np.arange(scores.shape[-2]) - (scores.shape[-2] - 1) / 2
    finite = np.isfinite(scores).all(-2)
    linear = np.tensordot(weights, np.where(np.isfinite(scores), scores, 0), axes=(0, -2))
    ranked = np.sign(np.tensordot(weights, _ranks(scores), axes=(0, -2)))
    extreme = np.where(ranked == 0, 0.0, np.copysign(np.inf, ranked))
    return np.where(np.isnan(scores).any(-2), np.nan, np.where(finite, linear, extreme))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Mid-ranks from 1 along the levels of (..., k, n) scores."""
    mine, others = scores[..., :, None, :], scores[..., None, :, :]
    return (mine > others).sum(-2) + ((mine == others).sum(-2) + 1) / 2


def _page_moments(seeds: np.ndarray) -> tuple[float, float]:
    """Mean and variance of Page's statistic on doubled ranks, (n, k), under the null."""
    k = seeds.shape[1]
    levels = np.arange(1, k + 1)
    mean = seeds.mean(1).sum() * levels.sum()
    return float(mean), float((seeds.var(1) * k).sum() * (levels.var() * k) / (k - 1))


@lru_cache(maxsize=4096)
def _page_tail(seeds: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """P(statistic >= s) at index s, for seeds with these sorted doubled ranks: one distribution a seed, convolved."""
    pmf = np.ones(1)
    for ranks in seeds:
        pmf = np.convolve(pmf, _page_one_seed(ranks))
    return np.minimum(pmf[::-1].cumsum()[::-1], 1)


@lru_cache(maxsize=256)
def _page_one_seed(ranks: tuple[int, ...]) -> np.ndarray:
    orders = np.array(list(itertools.permutations(range(1, len(ranks) + 1))))
    sums = np.bincount(orders @ np.array(ranks))
    return sums / sums.sum()
