"""How often the verdicts are wrong: thousands of made-up studies whose truth is known, judged by the real code.

    python benchmarks/calibration.py [--studies 2000] [--seed 0]

Prints the Markdown tables of docs/statistics.md, in per cent: studies with a wrong verdict on any claim, claims with
the right one, and 95% intervals that hold the truth; for 6 seeds, 8 seeds, and interim analyses up to 24 with the mean
number used. A study is an array of scores; `judge` of harness.analysis.verdicts judges it, which also answers questions
from a store. With interim analyses, a study is judged after every seed from 6 to 24, and each claim stops at its first
verdict.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
from tabulate import tabulate

from harness.analysis.statistics import FEWEST_FOR_A_CLAIM, location, paired_differences
from harness.analysis.verdicts import judge, together
from harness.questions import KINDS, Contrast, Expected, Factor, Kind, Question, SweetSpot, Trend

SMALLEST = 1.25  # effect of interest, a ratio of FIDs
DELTA = math.log(SMALLEST)
SPREAD, SHARED = 0.2, 0.15  # standard deviations of log FID: of a run, and of what a seed does to all arms
FIXED, MOST = (6, 8), 24  # seeds: fixed numbers, and the most with interim analyses
NUM_INTERVALS = 300  # studies whose interval is held against the truth

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """As the t test would like it."""
    return rng.normal(0, SPREAD, shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A long tail of bad runs in every arm alike: exponential, skewness 2."""
    return SPREAD * (rng.exponential(1, shape) - 1)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Outliers both ways: Student's t with 3 degrees of freedom."""
    return SPREAD * rng.standard_t(3, shape) / math.sqrt(3)


def tail_in_treated(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The exponential tail in all arms but the first, which is normal: not what the t test assumes."""
    return np.concatenate([normal(rng, (shape[0], 1, shape[2])), skewed(rng, shape)[:, 1:]], 1)


@dataclass(frozen=True)
class Case:
    """Made-up studies, and what of their claims is true."""

    name: str
    means: tuple[float, ...]  # of log FID at each level
    wrong: Literal["supported", "refuted", ""]  # the verdict that would be false
    right: Literal["supported", "refuted", ""] = ""  # the verdict to be hoped for
    noise: Noise = normal
    diverging: tuple[float, ...] = (0.0,)  # a run's chance to diverge, at each level or at all
    baseline: int = 0
    covered: bool = True  # whether the mean, or with divergence the median, of the first difference is known


CLASSES: dict[Kind, type[Question]] = {"contrast": Contrast, "trend": Trend, "sweet-spot": SweetSpot}

Kinds = dict[tuple[Kind, Expected], list[Case]]
UP, RISE, BOWL = (0, 0.4), (0, 0.2, 0.4, 0.6), (0.5, 0.2, 0, 0.2, 0.5)
CASES: Kinds = {
    ("contrast", "higher"): [
        Case("no effect", (0, 0), "supported", "refuted"),
        Case("no effect, 4 claims", (0,) * 5, "supported", "refuted"),
        Case("no effect, skewed", (0, 0), "supported", "refuted", skewed),
        Case("no effect, heavy tails", (0, 0), "supported", "refuted", heavy),
        Case("no effect, 15% diverge", (0, 0), "supported", "refuted", diverging=(0.15,)),
        Case("no effect, 40% diverge, 4 claims", (0,) * 5, "supported", "refuted", diverging=(0.4,)),
        Case("×1.1", (0, math.log(1.1)), "", ""),
        Case("×1.25, the smallest of interest", (0, DELTA), "refuted", "supported"),
        Case("×1.25, 4 claims", (0, *(DELTA,) * 4), "refuted", "supported"),
        Case("×1.25, skewed", (0, DELTA), "refuted", "supported", skewed),
        Case("×1.25, heavy tails", (0, DELTA), "refuted", "supported", heavy),
        Case("×1.25, 15% diverge", (0, DELTA), "refuted", "supported", diverging=(0.15,)),
        Case("×1.5", UP, "refuted", "supported"),
        Case("×1.5, 4 claims", (0, *(0.4,) * 4), "refuted", "supported"),
        Case("×1.5, 15% diverge", UP, "refuted", "supported", diverging=(0.15,)),
        Case("×2", (0, 0.7), "refuted", "supported"),
        Case("×1, and 40% of treated diverge", (0, 0), "refuted", "supported", diverging=(0, 0.4), covered=False),
        Case("×0.67, the opposite", (0, -0.4), "supported", "refuted"),
        Case("no effect, tail in treated", (0, 0), "supported", "refuted", tail_in_treated),
        Case("×1.25, tail in treated", (0, DELTA), "refuted", "supported", tail_in_treated),
    ],
    ("contrast", "lower"): [
        Case("no effect, tail in treated", (0, 0), "supported", "refuted", tail_in_treated),
        Case("×0.8, tail in treated", (0, -DELTA), "refuted", "supported", tail_in_treated),
    ],
    ("contrast", "equal"): [
        Case("no effect", (0, 0), "refuted", "supported"),
        Case("no effect, 4 claims", (0,) * 5, "refuted", "supported"),
        Case("×1.25: not less than the smallest", (0, DELTA), "supported"),
        Case("×1.25: not more than the smallest", (0, DELTA), "refuted"),
        Case("×1.25, 4 claims: not less", (0, *(DELTA,) * 4), "supported"),
        Case("×1.25, 4 claims: not more", (0, *(DELTA,) * 4), "refuted"),
        Case("×1.25, skewed: not less", (0, DELTA), "supported", noise=skewed),
        Case("×1.25, skewed: not more", (0, DELTA), "refuted", noise=skewed),
        Case("×1.25, 15% diverge: not less", (0, DELTA), "supported", diverging=(0.15,)),
        Case("×1.25, 15% diverge: not more", (0, DELTA), "refuted", diverging=(0.15,)),
        Case("×1.25, tail in treated: not less", (0, DELTA), "supported", noise=tail_in_treated),
        Case("×0.8, tail in treated: not less", (0, -DELTA), "supported", noise=tail_in_treated),
        Case("×1.5", UP, "supported", "refuted"),
        Case("×2", (0, 0.7), "supported", "refuted"),
        Case("×1, and 60% of treated diverge", (0, 0), "supported", "refuted", diverging=(0, 0.6), covered=False),
    ],
    ("trend", "rising"): [
        Case("no effect", (0,) * 4, "supported", "refuted"),
        Case("no effect, skewed", (0,) * 4, "supported", "refuted", skewed),
        Case("no effect, heavy tails", (0,) * 4, "supported", "refuted", heavy),
        Case("no effect, 15% diverge", (0,) * 4, "supported", "refuted", diverging=(0.15,)),
        Case("up and down again", (0, 0.4, 0.4, 0), "supported", "refuted"),
        Case("falling", (0.6, 0.4, 0.2, 0), "supported", "refuted"),
        Case("to ×1.25", (0, DELTA / 3, DELTA * 2 / 3, DELTA), "refuted", "supported"),
        Case("to ×1.25, skewed", (0, DELTA / 3, DELTA * 2 / 3, DELTA), "refuted", "supported", skewed),
        Case("to ×1.8", RISE, "refuted", "supported"),
        Case("to ×1.8, 15% diverge", RISE, "refuted", "supported", diverging=(0.15,)),
        Case("to ×1.8, a plateau after the first", (0, 0.6, 0.6, 0.6), "refuted", "supported"),
        Case("no effect, tail in all but the first", (0,) * 4, "supported", "refuted", tail_in_treated),
    ],
    ("sweet-spot", "worse outside"): [
        Case("no effect", (0,) * 5, "supported", "refuted", baseline=2),
        Case("no effect, skewed", (0,) * 5, "supported", "refuted", skewed, baseline=2),
        Case("one side only, then a plateau", (0.5, 0.2, 0, 0, 0), "supported", "refuted", baseline=2),
        Case("rising all along", (-0.5, -0.2, 0, 0.2, 0.5), "supported", "refuted", baseline=2),
        Case("both ends ×1.25", (DELTA, 0, 0, 0, DELTA), "refuted", "supported", baseline=2),
        Case("both ends ×1.25, skewed", (DELTA, 0, 0, 0, DELTA), "refuted", "supported", skewed, baseline=2),
        Case("both ends ×1.65", BOWL, "refuted", "supported", baseline=2),
        Case("both ends ×1.65, 15% diverge", BOWL, "refuted", "supported", diverging=(0.15,), baseline=2),
        Case("sought: no effect", (0,) * 5, "supported", "refuted"),
        Case("sought: one side only, then a plateau", (0.5, 0, 0, 0, 0), "supported", "refuted"),
        Case("sought: one peak, ends ×1.25", (DELTA, DELTA, 0, DELTA, DELTA), "refuted", "supported"),
        Case("sought: both ends ×1.65", BOWL, "refuted", "supported"),
    ],
}


def draw(case: Case, rng: np.random.Generator, studies: int, seeds: int) -> np.ndarray:
    """(studies, levels, seeds) log FIDs, infinite where a run diverged."""
    shape = (studies, len(case.means), seeds)
    scores = np.reshape(case.means, (1, -1, 1)) + case.noise(rng, shape) + rng.normal(0, SHARED, (studies, 1, seeds))
    scores[rng.random(shape) < np.reshape(case.diverging, (1, -1, 1))] = np.inf
    return scores


def first_verdicts(question: Question, case: Case, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With interim analyses: each claim's first verdict, and the seeds it took; both (studies, claims)."""
    for n in range(FEWEST_FOR_A_CLAIM, MOST + 1):
        _, now = judge(question, case.baseline, scores[..., :n], sequential=True)
        if n == FEWEST_FOR_A_CLAIM:
            verdicts, took = now, np.full(now.shape, n)
        else:
            still = verdicts == "unresolved"
            verdicts, took = np.where(still, now, verdicts), np.where(still, n, took)
    return verdicts, took


def coverage(case: Case, scores: np.ndarray, anytime: bool) -> float:
    """Share of 95% intervals of last level against baseline that hold the truth; at all interim analyses, if any."""
    truth = case.means[-1] - case.means[case.baseline]
    differences = paired_differences(scores[:NUM_INTERVALS, -1], scores[:NUM_INTERVALS, case.baseline])
    found = [location(x, anytime=anytime) for x in differences]
    return float(np.mean([not (e.low > truth or e.high < truth) for e in found]))


def row(kind: Kind, expected: Expected, case: Case, rng: np.random.Generator, studies: int) -> tuple[list[str], float]:
    """A line of the table, and its largest share of wrong verdicts."""
    factor = Factor.of_field("latent_std", [float(i) for i in range(len(case.means))], label="")
    words = {"text": "", "hypothesis": "", "expected": expected, "smallest_effect": SMALLEST}
    question = CLASSES[KINDS[expected]]("q", "b", factor, **words)
    cells, worst = [case.name, case.wrong or "–"], 0.0
    for seeds in (*FIXED, None):
        scores = draw(case, rng, studies, seeds or MOST)
        if seeds:
            _, verdicts = judge(question, case.baseline, scores)
        else:
            verdicts, took = first_verdicts(question, case, scores)
        wrong = (verdicts == case.wrong).any(-1).mean() if case.wrong else 0
        worst = max(worst, wrong)
        cells += [
            f"{100 * wrong:.1f}" if case.wrong else "–",
            f"{100 * (verdicts == case.right).mean():.0f}" if case.right else "–",
            f"{100 * coverage(case, scores, not seeds):.0f}" if case.covered else "–",
        ]
    return [*cells, f"{took.mean():.1f}"], worst


# ---- several metrics that must agree ----

IMAGE, FEATURES, SAMPLES = 32, 12, 400  # numbers of an "image", of its features, images scored a run
AGREE = {  # log ratios by each of two metrics, how their runs correlate -> the verdicts that are false
    (0.0, 0.0, 0.0): ("supported", "depends on the metric"),
    (0.0, 0.0, 0.9): ("supported", "depends on the metric"),
    (0.0, -0.7, 0.0): ("supported", "refuted"),
    (-0.7, -DELTA, 0.0): ("refuted", "depends on the metric"),
    (-DELTA, -DELTA, 0.0): ("refuted", "depends on the metric"),
    (-0.7, -0.7, 0.5): ("refuted", "depends on the metric"),
    (-0.7, 0.7, 0.0): ("supported", "refuted"),
}


def agreement(effects: tuple[float, float, float], rng: np.random.Generator, studies: int, seeds: int) -> np.ndarray:
    """(studies,) verdicts on "lower" of two metrics that must agree."""
    first, second, r = effects
    shared, *own = rng.normal(0, SPREAD, (3, studies, 2, seeds))
    scores = [math.sqrt(r) * shared + math.sqrt(1 - r) * one for one in own]
    for one, effect in zip(scores, (first, second), strict=True):
        one[:, 1] += effect
    return agreed(scores)


def agreed(scores: list[np.ndarray]) -> np.ndarray:
    """(studies,) verdicts on "lower is the second arm" by log scores (studies, 2 arms, seeds) of several metrics."""
    question = Contrast(
        "q", "b", Factor.of_field("latent_std", (0.0, 1.0), label=""), text="", hypothesis="", expected="lower"
    )
    each, apart = ([judge(question, 0, one, times=n)[1] for one in scores] for n in (1, len(scores)))
    return together(each, apart)[:, 0]


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of (n, d) features, as FID has it."""
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root))


def cheating(rng: np.random.Generator, studies: int, seeds: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Log FIDs by two extractors, (studies, 2 arms, seeds) each, of an honest arm and of one that cheats on the first.

    Real images are drawn from ten clusters; honest samples are real ones with noise of 0.3, and their clusters' shares
    are a little off. The cheat draws features from a normal distribution with the moments of the reference's, solves
    the first extractor (leaky rectified linear units on FEATURES random projections) for images that have them, and
    fills what that extractor does not see with noise of 3 standard deviations: junk with a perfect first FID.
    """
    found = np.empty((2, studies, 2, seeds))
    for study in range(studies):
        centres, looks = rng.normal(0, 1.5, (10, IMAGE)), rng.normal(0, IMAGE**-0.5, (2, FEATURES, IMAGE))

        def real(n: int, shares: np.ndarray, centres: np.ndarray = centres) -> np.ndarray:
            return centres[rng.choice(10, n, p=shares)] + rng.normal(0, 0.5, (n, IMAGE))

        def seen(images: np.ndarray, by: int, looks: np.ndarray = looks) -> np.ndarray:
            found = images @ looks[by].T
            return np.where(found > 0, found, 0.2 * found)

        reference = real(SAMPLES, np.full(10, 0.1))
        moments = seen(reference, 0)
        inverse = np.linalg.pinv(looks[0])
        for seed in range(seeds):
            honest = real(SAMPLES, rng.dirichlet(np.full(10, 50.0))) + rng.normal(0, 0.3, (SAMPLES, IMAGE))
            wanted = rng.multivariate_normal(moments.mean(0), np.cov(moments.T), SAMPLES)
            junk = rng.normal(0, 3, (SAMPLES, IMAGE))
            junk += (np.where(wanted > 0, wanted, wanted / 0.2) - junk @ looks[0].T) @ inverse.T
            for by in range(2):
                for arm, images in enumerate((honest, junk)):
                    found[by, study, arm, seed] = math.log(frechet(seen(images, by), seen(reference, by)))
    return found[0], found[1]


def several_metrics(rng: np.random.Generator, studies: int) -> list[list[str]]:
    """Lines of the table of metrics that must agree: what is true, and the share of each verdict."""
    lines = []
    for effects, wrong in AGREE.items():
        cells = []
        for seeds in FIXED:
            verdicts = agreement(effects, rng, studies, seeds)
            cells += [f"{100 * np.isin(verdicts, wrong).mean():.1f}"]
            cells += [f"{100 * (verdicts == v).mean():.0f}" for v in ("supported", "refuted", "depends on the metric")]
        lines.append([f"×{math.exp(effects[0]):.2f} and ×{math.exp(effects[1]):.2f}, r = {effects[2]:g}", *cells])
    return lines


def cheats(rng: np.random.Generator, studies: int = 200) -> list[list[str]]:
    """How often a cheat is called better: by the metric that it cheats on, by another, by both together."""
    first, second = cheating(rng, studies)
    seen = {"the first extractor alone": agreed([first]), "the second alone": agreed([second])}
    seen["both must agree"] = agreed([first, second])
    kinds = ("supported", "refuted", "depends on the metric", "unresolved")
    return [[name, *(f"{100 * (found == kind).mean():.1f}" for kind in kinds)] for name, found in seen.items()]


def main() -> None:
    """Print the tables, then what went beyond 5%."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=2000, help="made-up studies a case")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started, beyond = time.perf_counter(), []
    designs = [*map(str, FIXED), f"≤{MOST}"]
    head = ["truth", "false", *(f"{d}: {what}" for d in designs for what in ("wrong", "right", "covers")), "seeds"]
    for table, ((kind, expected), cases) in enumerate(CASES.items()):
        rows = []
        for i, case in enumerate(cases):
            cells, worst = row(kind, expected, case, np.random.default_rng([args.seed, table, i]), args.studies)
            rows.append(cells)
            if worst > 0.05:
                beyond.append(f"{kind}, {expected}: {case.name} ({100 * worst:.1f}%)")
        print(f"\n{kind}, expected {expected!r}\n")
        align = ("left", "left") + ("right",) * (len(head) - 2)
        print(tabulate(rows, head, "pipe", disable_numparse=True, colalign=align), flush=True)
    print("\nTwo metrics that must agree, expected 'lower'\n")
    head = [f"{n}: {what}" for n in FIXED for what in ("wrong", "supported", "refuted", "depends")]
    print(tabulate(several_metrics(np.random.default_rng([args.seed, 90]), args.studies), ["truth", *head], "pipe"))
    print("\nA cheat on the first extractor, called lower by ... (200 studies of 6 seeds)\n")
    head = ["by", "better", "not better", "depends on the metric", "unresolved"]
    print(tabulate(cheats(np.random.default_rng([args.seed, 91])), head, "pipe"), flush=True)
    error = 2 * math.sqrt(0.05 * 0.95 / args.studies)
    print(
        f"\n{args.studies} studies a case and design: 5% is known to ± {100 * error:.1f} points, two standard errors. "
        f"Wrong in more than 5%: {'; '.join(beyond) or 'none'}. {time.perf_counter() - started:.0f} s."
    )


if __name__ == "__main__":
    main()
