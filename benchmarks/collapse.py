"""How often verdicts are wrong where arms collapse now and then: made-up studies, and the published runs drawn again.

    python benchmarks/collapse.py [--studies 2000] [--seed 0]

Prints the tables of docs/statistics.md on arms of which some trials score ×3 to ×10 without diverging. What is true of
a made-up study is known of the median paired difference, about which verdicts are. Each case lies at the edge at which
a verdict is most easily false: for example where the median is 0, and "lower" must not be supported. Judged by the real
code, beside what else was tried: the t test alone (as before), signs alone, a trimmed mean, and the t test until an
outlier is seen.
"""

import argparse
import csv
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from calibration import CLASSES, DELTA, SHARED, SMALLEST, SPREAD
from scipy import special
from tabulate import tabulate

from harness.analysis import statistics
from harness.analysis.statistics import FEWEST_FOR_A_CLAIM, p_greater
from harness.analysis.verdicts import Test, Tested, decide, judge, run_tests
from harness.questions import KINDS, Expected, Factor, Question

RATES, FACTORS, FIXED, MOST = (0.05, 0.1, 0.2, 0.3), (3, 10), (6, 8, 12), 24
PUBLISHED = Path(__file__).parents[1] / "reports" / "published"
Draw = Callable[[np.random.Generator, int, int], np.ndarray]
"""(generator, studies, seeds) -> (studies, levels, seeds) log FIDs."""


@dataclass(frozen=True)
class Edge:
    """A claim at the edge of what is true of it, and the verdicts that are false there."""

    name: str
    expected: Expected
    medians: tuple[float, ...]  # of the paired differences of each level to the baseline's
    false: tuple[str, ...]
    baseline: int = 0
    interaction: bool = False


EDGES = (
    Edge("lower, but ×1", "lower", (0, 0), ("supported",)),
    Edge("not lower, but ×0.8", "lower", (0, -DELTA), ("refuted",)),
    Edge("higher, but ×1", "higher", (0, 0), ("supported",)),
    Edge("not higher, but ×1.25", "higher", (0, DELTA), ("refuted",)),
    Edge("the same, but ×1.25", "equal", (0, DELTA), ("supported",)),
    Edge("the same, but ×0.8", "equal", (0, -DELTA), ("supported",)),
    Edge("×1.25, either verdict", "equal", (0, DELTA), ("supported", "refuted")),
    Edge("rising, but ×1 in the end", "rising", (0, 0, 0), ("supported",)),
    Edge("not rising, but to ×1.25", "rising", (0, DELTA / 2, DELTA), ("refuted",)),
    Edge("sweet spot, but one end ×1", "worse outside", (0.5, 0, 0), ("supported",), baseline=1),
    Edge("no sweet spot, but ends ×1.25", "worse outside", (DELTA, 0, DELTA), ("refuted",), baseline=1),
    Edge("interaction, but ×1", "higher", (0, 0), ("supported",), interaction=True),
    Edge("no interaction, but ×1.25", "higher", (0, DELTA), ("refuted",), interaction=True),
)


def question_of(edge: Edge) -> Question:
    """What is asked."""
    factor = Factor.of_field("latent_std", [float(i) for i in range(len(edge.medians))], label="")
    words = {"text": "", "hypothesis": "", "expected": edge.expected, "smallest_effect": SMALLEST}
    return CLASSES[KINDS[edge.expected]]("q", "b", factor, **words)


def collapsing(means: tuple[float, ...], rates: tuple[float, ...], factor: float, interaction: bool) -> Draw:
    """Normal log FIDs, of which a share `rates` of each level is `factor` times as high; less those of other arms."""

    def draw(rng: np.random.Generator, studies: int, seeds: int) -> np.ndarray:
        shape = (studies, len(means), seeds)
        scores = (
            np.reshape(means, (1, -1, 1)) + rng.normal(0, SPREAD, shape) + rng.normal(0, SHARED, (studies, 1, seeds))
        )
        scores[rng.random(shape) < np.reshape(rates, (1, -1, 1))] += math.log(factor)
        return scores - rng.normal(0, SPREAD, shape) if interaction else scores

    return draw


@cache
def at_the_edge(edge: Edge, rates: tuple[float, ...], factor: float, *, mean: bool = False) -> Draw:
    """Made-up studies whose median differences, or mean ones, are the edge's."""
    draw = collapsing((0.0,) * len(rates), rates, factor, edge.interaction)
    many = draw(np.random.default_rng(0), 200_000, 1)[..., 0]
    differences = many - many[:, [edge.baseline]]
    seen = differences.mean(0) if mean else np.median(differences, 0)
    return collapsing(tuple(np.subtract(edge.medians, seen)), rates, factor, edge.interaction)


def arms_that_collapse(edge: Edge) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Which levels collapse: one alone, or all."""
    for level in range(len(edge.medians)):
        yield f"level {level}", tuple(int(i == level) for i in range(len(edge.medians)))
    yield "all levels", (1,) * len(edge.medians)


@contextmanager
def without_signs() -> Iterator[None]:
    """The t test alone decides, as it did before."""
    kept, statistics.TYPICAL = statistics.TYPICAL, 2.0
    try:
        yield
    finally:
        statistics.TYPICAL = kept


def false_verdicts(edge: Edge, scores: np.ndarray, sequential: bool) -> float:
    """Per cent of studies with a false verdict, of interim analyses the first one."""
    question, found = question_of(edge), np.full((len(scores), 1), "unresolved", dtype="<U20")
    for n in range(FEWEST_FOR_A_CLAIM, MOST + 1) if sequential else (scores.shape[-1],):
        _, now = judge(question, edge.baseline, scores[..., :n], sequential=sequential)
        found = np.where(found == "unresolved", now, found)
    return 100 * float(np.isin(found, edge.false).any(-1).mean())


def worst(edge: Edge, seeds: int | None, studies: int, seed: int, mean: bool = False) -> tuple[float, float, str]:
    """(per cent false before, now, where now) in the worst of all cases of collapse."""
    before, now, where = 0.0, 0.0, ""
    for name, which in arms_that_collapse(edge):
        for rate in RATES:
            for factor in FACTORS:
                draw = at_the_edge(edge, tuple(rate * i for i in which), factor, mean=mean)
                scores = draw(np.random.default_rng([seed, int(100 * rate), factor]), studies, seeds or MOST)
                with without_signs():
                    before = max(before, false_verdicts(edge, scores, not seeds))
                if (found := false_verdicts(edge, scores, not seeds)) > now:
                    now, where = found, f"{name}, {rate:.0%} ×{factor}"
    return before, now, where


# ---- what else was tried ----


def by_signs(x: np.ndarray, margin: float) -> np.ndarray:
    """The exact sign test alone."""
    y = np.asarray(x) - margin
    return p_greater(np.where(y > 0, np.inf, np.where(y < 0, -np.inf, 0.0)))


def by_t(x: np.ndarray, margin: float) -> np.ndarray:
    """The t test alone."""
    with without_signs():
        return p_greater(x, margin)


def by_trimmed_mean(x: np.ndarray, margin: float) -> np.ndarray:
    """The t test of the mean without the lowest and highest fifth (Tukey & McLaughlin 1963)."""
    y = np.sort(np.asarray(x) - margin, -1)
    n = y.shape[-1]
    cut = n // 5
    low, high = y[..., cut : cut + 1], y[..., n - cut - 1 : n - cut]
    spread = np.clip(y, low, high).std(-1, ddof=1) / ((1 - 2 * cut / n) * math.sqrt(n))
    return np.minimum(2 * special.stdtr(n - 2 * cut - 1, -y[..., cut : n - cut].mean(-1) / spread), 1)


def until_an_outlier(x: np.ndarray, margin: float) -> np.ndarray:
    """The t test, but the sign test where a difference is ×2 and 3.5 robust standard deviations off the median."""
    off = abs(x - np.median(x, -1, keepdims=True))
    far = off > np.maximum(3.5 * 1.4826 * np.median(off, -1, keepdims=True), math.log(2))
    return np.where(far.any(-1), by_signs(x, margin), by_t(x, margin))


TRIED: dict[str, Test] = {
    "t alone (before)": by_t,
    "signs alone": by_signs,
    "trimmed mean": by_trimmed_mean,
    "t until an outlier, then signs": until_an_outlier,
    "t and signs (now)": p_greater,
}


def tried(seeds: int, studies: int, seed: int) -> list[list[str]]:
    """Lines: a procedure's worst false verdicts on contrasts, and its right ones on ×1.5 alone, and among 8 and 28."""
    lines = []
    for name, test in TRIED.items():
        most = 0.0
        for edge in EDGES[:6]:
            for _, which in arms_that_collapse(edge):
                for rate in RATES:
                    for factor in FACTORS:
                        draw = at_the_edge(edge, tuple(rate * i for i in which), factor)
                        scores = draw(np.random.default_rng([seed, int(100 * rate), factor]), studies, seeds)
                        found = run_tests(question_of(edge), 0, scores, test)
                        verdicts = decide(found, np.ones(found.p.shape, dtype=bool))
                        most = max(most, 100 * float(np.isin(verdicts, edge.false).mean()))
        right = []
        for effect, edge in ((0.4, EDGES[2]), (0.7, EDGES[2]), (0.0, EDGES[4])):
            scores = collapsing((0, effect), (0, 0), 1, False)(np.random.default_rng(seed), studies, seeds)
            found = run_tests(question_of(edge), 0, scores, test)
            for claims in (1, 8, 28):  # the first step of Holm
                p, against = np.minimum(found.p * claims, 1), np.minimum(found.against * claims, 1)
                one = replace(found, p=p, against=against)
                verdicts = decide(one, np.ones(p.shape, dtype=bool))
                right.append(f"{100 * (verdicts == 'supported').mean():.0f}")
        lines.append([name, f"{most:.1f}", *right])
    return lines


def pages(rate: float, seeds: int, studies: int, seed: int, often: int) -> tuple[float, float]:
    """Per cent of pages of 28 claims with any false verdict, before and now, at the worst edge and factor.

    `often`: in every claim (1) or one of so many the treated arm collapses.
    """
    before = now = 0.0
    for edge in EDGES[:4]:
        for factor in FACTORS:
            rng = np.random.default_rng([seed, int(100 * rate), factor])
            scores = at_the_edge(edge, (0, 0.0), factor)(rng, studies * 28, seeds)
            scores[::often] = at_the_edge(edge, (0, rate), factor)(rng, studies * 28 // often, seeds)
            for test in (by_t, p_greater):
                found = run_tests(question_of(edge), 0, scores, test)
                page = Tested(*(x.reshape(studies, 28) for x in (found.p, found.toward, found.against, found.opposite)))
                verdicts = decide(page, np.ones(page.p.shape, dtype=bool))
                share = 100 * float(np.isin(verdicts, edge.false).any(-1).mean())
                before, now = (max(before, share), now) if test is by_t else (before, max(now, share))
    return before, now


# ---- the published runs, drawn again ----


def published_arms() -> dict[str, np.ndarray]:
    """Study and arm -> log FIDs of its trials, of every published arm of six seeds and more."""
    arms: dict[str, dict[str, float]] = {}
    for path in sorted(PUBLISHED.glob("*/results.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["status"] == "ok" and row["fid"]:
                    arms.setdefault(f"{row['study']}: {row['arm']}", {})[row["trial_id"]] = math.log(float(row["fid"]))
    return {name: np.array(list(fids.values())) for name, fids in arms.items() if len(fids) >= FEWEST_FOR_A_CLAIM}


def drawn_again(studies: int, seed: int, *, mean: bool) -> dict[str, tuple[float, float]]:
    """Arm -> worst per cent false, before and now, at 6, 8 and 12 seeds drawn from it, against a well-behaved arm."""
    found = {}
    for name, fids in published_arms().items():
        before = now = 0.0
        rng = np.random.default_rng(seed)
        many = rng.choice(fids, 200_000) - rng.normal(0, SPREAD, 200_000)
        centre = many.mean() if mean else np.median(many)
        for edge in EDGES[:6]:
            for seeds in FIXED:
                treated = rng.choice(fids, (studies, seeds)) - centre + edge.medians[1]
                scores = np.stack([rng.normal(0, SPREAD, (studies, seeds)), treated], 1)
                with without_signs():
                    before = max(before, false_verdicts(edge, scores, False))
                now = max(now, false_verdicts(edge, scores, False))
        found[name] = before, now
    return found


def print_edges(studies: int, seed: int) -> None:
    """Print how often verdicts are false of the median, and of the mean."""
    for mean in (False, True):
        rows = []
        for edge in EDGES if not mean else EDGES[:6]:
            cells = [edge.name]
            for seeds in (*FIXED, None) if not mean else FIXED:
                before, now, where = worst(edge, seeds, studies if seeds else studies // 4, seed, mean)
                cells += [f"{before:.1f}", f"{now:.1f}"]
            rows.append([*cells, where])
        head = [f"{n}: {when}" for n in (*FIXED, f"≤{MOST}")[: 3 if mean else 4] for when in ("before", "now")]
        print(f"\nFalse of the {'mean' if mean else 'median'}, worst of all rates, factors and arms, per cent\n")
        print(tabulate(rows, ["truth", *head, "worst of the last"], "pipe", disable_numparse=True), flush=True)


def print_tried(studies: int, seed: int) -> None:
    """Print what else was tried."""
    for seeds in (6, 12):
        head = ["decides", "worst false", *(f"{e}: {c}" for e in ("×1.5", "×2", "the same") for c in (1, 8, 28))]
        print(f"\nWhat was tried, {seeds} seeds: false where an arm collapses, and right where none does\n")
        print(tabulate(tried(seeds, studies, seed), head, "pipe", disable_numparse=True), flush=True)


def print_pages(studies: int, seed: int) -> None:
    """Print the pages of 28 claims."""
    rows = []
    for rate in RATES:
        for often in (4, 1):
            cells = [pages(rate, seeds, studies, seed, often) for seeds in FIXED]
            rows.append([f"{rate:.0%} in {'every arm' if often == 1 else 'one arm of four'}", *np.ravel(cells)])
    head = [f"{n}: {when}" for n in FIXED for when in ("before", "now")]
    print("\nPages of 28 claims with any false verdict, per cent\n")
    print(tabulate(rows, ["treated arms collapse", *head], "pipe", floatfmt=".1f"), flush=True)


def print_published(studies: int, seed: int) -> None:
    """Print the published arms, drawn again."""
    for mean in (False, True):
        found = drawn_again(studies, seed, mean=mean)
        counts = [sum(one[i] > 5 for one in found.values()) for i in range(2)]
        print(f"\n{len(found)} published arms drawn again, by the {'mean' if mean else 'median'}: beyond 5% somewhere")
        print(f"before {counts[0]} ({counts[0] / len(found):.0%}), now {counts[1]} ({counts[1] / len(found):.0%})")
        for name, (before, now) in sorted(found.items(), key=lambda item: -item[1][0])[:8]:
            print(f"  {before:5.1f} {now:5.1f}  {name}")


TABLES = {"edges": print_edges, "tried": print_tried, "pages": print_pages, "published": print_published}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=2000, help="made-up studies a case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(TABLES), help="one of the tables")
    args = parser.parse_args()
    for name, table in TABLES.items():
        if args.only in (None, name):
            table(args.studies, args.seed)


if __name__ == "__main__":
    main()
