"""How often the interval of an arm's mean holds the true mean, and how often Student's t leaves the metric's bounds.

Prints the Markdown table of docs/statistics.md: python benchmarks/intervals.py
"""

import math
from collections.abc import Callable

import numpy as np
from tabulate import tabulate

from harness.analysis.statistics import mean_interval

NUM_ARMS = 20_000
SEEDS = (3, 6, 10)
SHARE, POSITIVE = (0.0, 1.0), (0.0, math.inf)


def lognormal(spread: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Arms of n values with mean 1, whose logarithms have this standard deviation."""
    return lambda rng, n: rng.lognormal(-(spread**2) / 2, spread, (NUM_ARMS, n))


def beta(mean: float, spread: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Arms of n values between 0 and 1 with this mean and standard deviation."""
    weight = mean * (1 - mean) / spread**2 - 1
    return lambda rng, n: rng.beta(mean * weight, (1 - mean) * weight, (NUM_ARMS, n))


CASES = (
    *((f"FID, lognormal, SD of log {s:g}", lognormal(s), 1.0, POSITIVE) for s in (0.1, 0.3, 0.6, 1.0)),
    *(
        (f"{metric}, beta, mean {m:g}, SD {s:g}", beta(m, s), m, SHARE)
        for metric, m, s in (
            ("precision", 0.8, 0.05),
            ("precision", 0.9, 0.08),
            ("recall", 0.05, 0.05),
            ("recall", 0.01, 0.02),
        )
    ),
)


def main() -> None:
    """Simulate and print."""
    lines = []
    for words, draw, truth, (lowest, highest) in CASES:
        line = [words]
        for n in SEEDS:
            arms = draw(np.random.default_rng(n), n)
            plain = [mean_interval(x) for x in arms]
            bounded = [mean_interval(x, lowest=lowest, highest=highest) for x in arms]
            covers = [100 * np.mean([e.low <= truth <= e.high for e in found]) for found in (plain, bounded)]
            outside = 100 * np.mean([e.low < lowest or e.high > highest for e in plain])
            line += [f"{covers[0]:.1f} ({outside:.0f})", f"{covers[1]:.1f}"]
        lines.append(line)
    head = ["values", *(title for n in SEEDS for title in (f"{n} seeds: t", f"{n}: bounded"))]
    print(tabulate(lines, head, "pipe", colalign=["left"] + ["right"] * 2 * len(SEEDS), disable_numparse=True))


if __name__ == "__main__":
    main()
