"""Does tuning make false verdicts? Thousands of made-up A/A studies whose two arms are one network, each tuned.

    python benchmarks/tuning.py [--studies 4000] [--seed 0]

Both arms answer to a learning rate alike: log FID is `curvature` times the square of its distance from the best rate,
in decades; the declared candidate has the best one. A search sees its candidates, the same for both arms, through noise
of its own or partly shared, as trials at the same seed have. Verdicts are taken from further seeds at what was chosen,
by the code that answers questions from a store. Any verdict that the arms differ is false. Power is how many studies
that call the second arm worse where it is, by half.

A search for each arm, as is usual, is compared with a search for each arm and seed, which `Tuning` does.
"""

import argparse
import itertools

import numpy as np
from tabulate import tabulate

from harness.analysis.verdicts import judge
from harness.questions import Contrast, Expected, Factor

SEEDS = 6
CURVATURES, SPREADS, SHARED = (0.2, 0.7, 2.0), (0.1, 0.2, 0.4), (0.0, 0.7)
SEARCHES = ((1, 1, False), (8, 2, False), (24, 1, False), (4, 1, True), (8, 1, True))
"""Candidates, trials of each, whether every seed has a search of its own. One candidate is no tuning."""

SHARED_BY_A_SEED = 0.75
"""Of the spread, what a seed does to both arms."""

DECADES = 1.0  # from the best rate to either end of the range


def question(expected: Expected) -> Contrast:
    """Of the second arm against the first."""
    factor = Factor.of_field("latent_std", (1.0, 2.0), label="arm")
    return Contrast("aa", "fc", factor, text="", hypothesis="", expected=expected)


def chosen(
    rng: np.random.Generator,
    studies: int,
    search: tuple[int, int, bool],
    curvature: float,
    spread: float,
    shared: float,
) -> np.ndarray:
    """(studies, arms, seeds) true log FID of what the searches chose."""
    candidates, trials, each_seed = search
    searches = SEEDS if each_seed else 1
    rates = rng.uniform(-DECADES, DECADES, (studies, 1, searches, candidates))
    rates[..., 0] = 0
    truth = np.broadcast_to(curvature * rates**2, (studies, 2, searches, candidates))
    noise = np.sqrt(shared) * rng.normal(0, spread, (studies, 1, searches, candidates, trials))
    noise = noise + np.sqrt(1 - shared) * rng.normal(0, spread, (studies, 2, searches, candidates, trials))
    best = (truth + noise.mean(-1)).argmin(-1)
    found = np.take_along_axis(truth, best[..., None], -1)[..., 0]
    return np.broadcast_to(found, (studies, 2, SEEDS))


def verdicts(rng: np.random.Generator, truth: np.ndarray, spread: float, worse: float) -> tuple[float, float]:
    """Per cent of studies that call the second arm lower, and higher, where `worse` is added to its log FID."""
    seeds = SHARED_BY_A_SEED * rng.normal(0, spread, (len(truth), 1, SEEDS))
    scores = truth + seeds + np.sqrt(1 - SHARED_BY_A_SEED**2) * rng.normal(0, spread, truth.shape)
    scores[:, 1] += worse
    found = [judge(question(expected), 0, scores)[1][:, 0] == "supported" for expected in ("lower", "higher")]
    return 100 * float(found[0].mean()), 100 * float(found[1].mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=4000, help="made-up studies a case")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"{options.studies} studies a case, {SEEDS} seeds; false verdicts in per cent (power in brackets)\n")
    rows = []
    for shared, spread, curvature in itertools.product(SHARED, SPREADS, CURVATURES):
        row = [f"{shared:g}", f"{spread:g}", f"{curvature:g}"]
        for search in SEARCHES:
            truth = chosen(rng, options.studies, search, curvature, spread, shared)
            false = sum(verdicts(rng, truth, spread, worse=0.0))
            power = verdicts(rng, truth, spread, worse=np.log(1.5))[1]
            row.append(f"{false:.1f} ({power:.0f})")
        rows.append(row)
    heads = [
        "no tuning" if c == 1 else f"{c} × {n}, {'each seed' if each_seed else 'once'}" for c, n, each_seed in SEARCHES
    ]
    print(tabulate(rows, ["shared noise", "spread", "curvature", *heads], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
