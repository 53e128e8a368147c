"""Samples and seconds until a metric sees a fault with 80% power, for every metric and extractor that works offline.

    python benchmarks/metrics.py [--cache FOLDER] [--every-size] [--write]

Real images of three data sets (digits, Fashion-MNIST, openclipart; the latter two from Debian's packages) are given
faults of five kinds in three degrees each. Of each set, N images are drawn again and again (with replacement, from a
pool of 2,000) and scored against 1,500 others. A metric *sees* a fault at N if at least 80% of 100 such scores are
worse than 95% of 200 scores of N faultless images: a one-sided test at 5%, in the metric's worse direction. With
--write, the tables go into docs/metrics.md between the marks.

THE RULE that picks the stage and the input size of `imagenet-lite0`, declared before the test was run:

1.  Judged by FID, over noise, blur, contrast and dropped classes (FID is not meant to see copies) on the three data
    sets: 12 cases. A case is *ordered* if the mean score at N = 2,000 rises from faultless images over the three
    degrees, and *told* if FID sees the mildest degree at N = 2,000.
2.  Candidates that fail fewest of the 24 requirements are admissible; that is, all that fail none, if there are any.
3.  Of these the one is picked with the least geometric mean over the 12 cases of the seconds until FID sees the mildest
    degree: N, the first of the ladder 125, 250, 500, 1000, 2000, times the seconds per image in one thread. What is not
    seen at 2,000 counts as 4,000.
4.  Sizes are tried from the smallest. A larger one is left out if the best so far fails nothing and even 125 images a
    case would take the larger one longer: nothing that it could show would change the pick.
"""

import argparse
import hashlib
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import geometric_mean

import numpy as np
import torch
from drawn_scores import ALL_METRICS, Population, Reference  # the script beside this one
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from harness.data import PreparedData, prepare
from harness.errors import UserError
from harness.metrics import METRICS
from harness.scoring.extractors import package_weights
from harness.scoring.networks import LITE0_STAGES, Lite0
from harness.scoring.yardstick import prepare_extractor

DATA = {"mnist-5k": (28, 1), "fashion-mnist": (28, 1), "openclipart": (32, 3)}
POOL, REFERENCE, MEMORIZED = 2000, 1500, 500
LADDER, DRAWS, FLOOR_DRAWS, POWER, ALPHA = (125, 250, 500, 1000, 2000), 100, 200, 0.8, 0.05
WIDE, WIDE_DRAWS, WIDE_FLOOR_DRAWS = 512, 25, 50
"""Wider features than this are drawn less often: a FID of 1,280 features takes a second."""

NOISES, BLURS, CONTRASTS = (5, 15, 45), (0.4, 0.7, 1.2), (0.95, 0.85, 0.7)  # sd of 255; sigma in pixels; factor
DROPPED, COPIES = (0.1, 0.25, 0.5), (0.1, 0.3, 1.0)  # at least this share of the pictures; share of the samples
PIXEL_FAULTS = tuple(
    f"{kind} {degree}"
    for kind, degrees in (("noise", NOISES), ("blur", BLURS), ("contrast", CONTRASTS))
    for degree in degrees
)
KINDS = {
    "noise": NOISES,
    "blur": BLURS,
    "contrast": CONTRASTS,
    "dropped": DROPPED,
    "copies": COPIES,
}
JUDGED = ("noise", "blur", "contrast", "dropped")  # by FID, in the rule
SIZES = (64, 96, 128, 224)
DOCUMENT, MARKS = Path(__file__).parents[1] / "docs" / "metrics.md", ("<!-- measured -->", "<!-- end of measured -->")
PICKED = "Picked:"

Features = dict[str, tuple[np.ndarray, ...]]
"""Name of a set of images -> features (N, D) and logits (N, classes)."""


def with_faults(data: PreparedData) -> dict[str, Tensor]:
    """The pool, the same under each fault of its pixels, the reference, and what a generator might have memorized."""
    pool, others = (torch.from_numpy(np.array(data.images(part))) for part in ("train", "reference"))
    pool, numbers = pool[:POOL], np.random.RandomState(1)
    sets = {"pool": pool, "reference": others[:REFERENCE], "memorized": others[REFERENCE : REFERENCE + MEMORIZED]}
    real = pool.float()
    for std in NOISES:
        sets[f"noise {std}"] = real + torch.from_numpy(numbers.normal(0, std, real.shape)).float()
    for sigma in BLURS:
        sets[f"blur {sigma}"] = gaussian_blur(real, [13, 13], [sigma, sigma])
    means = real.mean((1, 2, 3), keepdim=True)
    for factor in CONTRASTS:
        sets[f"contrast {factor}"] = means + factor * (real - means)
    return {name: images.round().clamp(0, 255).to(torch.uint8) for name, images in sets.items()}


def extract(network: nn.Module, images: Tensor) -> tuple[list[np.ndarray], float]:
    """What the network makes of the images, and the seconds an image, in one thread."""
    started = time.process_time()
    with torch.no_grad():
        parts = [network(batch) for batch in images.split(50)]
    found = [torch.cat(column).float().numpy() for column in zip(*parts, strict=True)]
    return found, (time.process_time() - started) / len(images)


class AllStages(nn.Module):
    """EfficientNet-Lite0's features at every stage and its logits, from one pass."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.network = Lite0(package_weights("imagenet-lite0"), "head", side).eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of each stage, and the logits."""
        found, logits = self.network.stages(images)
        return (*(found[stage] for stage in LITE0_STAGES), logits)


def lite0_features(side: int, name: str, sets: dict[str, Tensor], cache: Path) -> dict[str, Features]:
    """Stage -> features of all sets."""
    network, columns = AllStages(side), {stage: {} for stage in LITE0_STAGES}
    for key, images in sets.items():
        path = cache / f"{name}-lite0-{side}-{key}-{hashlib.sha256(images.numpy().tobytes()).hexdigest()[:12]}.npz"
        if not path.exists():
            np.savez(path, *extract(network, images)[0])
        with np.load(path) as file:
            *arrays, logits = file.values()
            for stage, array in zip(LITE0_STAGES, arrays, strict=True):
                columns[stage][key] = (array, logits)
    return columns


def seconds_an_image(network: nn.Module, images: Tensor) -> float:
    """The least of three tries with 100 images: others may be at work on the machine."""
    return min(extract(network, images[:100])[1] for _ in range(3))


@dataclass(frozen=True)
class Case:
    """One degree of a fault: which images of which sets are drawn."""

    kind: str
    label: str
    source: str  # the set of images; of copies and dropped classes the pool
    rows: np.ndarray | None = None  # of the source that are there; all if None
    copies: float = 0.0  # share of the samples that are memorized ones

    def draw(self, numbers: np.random.Generator, size: int) -> np.ndarray:
        """Rows of the source, and behind it of the memorized."""
        rows = np.arange(POOL) if self.rows is None else self.rows
        drawn, copied = numbers.choice(rows, size), POOL + numbers.integers(0, MEMORIZED, size)
        return np.where(numbers.random(size) < self.copies, copied, drawn)


def cases(labels: np.ndarray) -> dict[str, list[Case]]:
    """Kind of fault -> its degrees, mildest first."""
    found = {kind: [Case(kind, str(d), f"{kind} {d}") for d in KINDS[kind]] for kind in ("noise", "blur", "contrast")}
    counts, found["dropped"] = np.bincount(labels), []
    rarest = np.argsort(counts, kind="stable")  # the largest first would make two degrees one, where it has a third
    for share in DROPPED:
        gone = rarest[: int(np.searchsorted(np.cumsum(counts[rarest]), share * len(labels))) + 1]
        rows = np.flatnonzero(~np.isin(labels, gone))
        found["dropped"].append(Case("dropped", f"{1 - len(rows) / len(labels):.0%}", "pool", rows))
    found["copies"] = [Case("copies", f"{share:.0%}", "pool", copies=share) for share in COPIES]
    return found


@dataclass(frozen=True)
class Seen:
    """What a metric makes of one kind of fault."""

    first: list[int | None]  # for each degree, the first N of the ladder with enough power; None where 2,000 is too few
    means: list[float]  # at N = 2,000, of faultless images and then of each degree, mildest first
    worse: float  # 1 or -1: the direction

    @property
    def ordered(self) -> bool:
        """Whether a worse degree scores worse, from faultless images on."""
        return all(self.worse * (b - a) > 0 for a, b in pairwise(self.means))


class Judge:
    """One extractor's features of one data set."""

    def __init__(self, found: Features, labels: np.ndarray, *, own: bool) -> None:
        (reference, logits), (memorized, shown) = found["reference"], found["memorized"]
        self.own = own  # whether the classes are the data's
        gamma = 1 / (reference.shape[1] * np.square(reference).mean(dtype=float))
        self.reference = Reference(reference, memorized, logits, gamma)
        self.draws = (WIDE_DRAWS, WIDE_FLOOR_DRAWS) if reference.shape[1] > WIDE else (DRAWS, FLOOR_DRAWS)
        self.populations = {}
        for name in ("pool", *PIXEL_FAULTS):
            x, y = found[name]
            both = (np.concatenate(pair) for pair in ((x, memorized), (y, shown)))
            self.populations[name] = Population(*both, self.reference)
        self.cases = cases(labels)
        self.floors: dict[tuple[str, int], np.ndarray] = {}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that these features give."""
        return tuple(m for m in ALL_METRICS if self.own or m not in ("modes", "mode_kl"))

    def scores(self, metric: str, case: Case, size: int, draws: int) -> np.ndarray:
        """Of many draws."""
        numbers = np.random.default_rng(size)
        rows = np.stack([case.draw(numbers, size) for _ in range(draws)])
        return getattr(self.populations[case.source], metric)(rows)

    def floor(self, metric: str, size: int) -> np.ndarray:
        """Scores of faultless images."""
        if (metric, size) not in self.floors:
            faultless = Case("none", "", "pool")
            self.floors[metric, size] = self.scores(metric, faultless, size, self.draws[1])
        return self.floors[metric, size]

    def sees(self, metric: str, kind: str) -> Seen:
        """From which N on the metric tells each degree from faultless images."""
        worse = {"lower": 1, "higher": -1, "neither": 1}[METRICS[metric].better]
        first, means = [], [float(self.floor(metric, LADDER[-1]).mean())]
        for case in self.cases[kind]:
            last = self.scores(metric, case, LADDER[-1], self.draws[0])
            means.append(float(last.mean()))
            for size in LADDER:
                found = last if size == LADDER[-1] else self.scores(metric, case, size, self.draws[0])
                bar = np.quantile(worse * self.floor(metric, size), 1 - ALPHA)
                if (worse * found > bar).mean() >= POWER:
                    first.append(size)
                    break
            else:
                first.append(None)
        return Seen(first, means, worse)


@dataclass(frozen=True)
class Candidate:
    """A stage at a size, as the rule judges it."""

    stage: str
    side: int
    seconds_an_image: float
    seen: dict[tuple[str, str], Seen]  # data set, kind

    @property
    def failures(self) -> int:
        """How many of the 24 requirements are not met."""
        return sum((not seen.ordered) + (seen.first[0] is None) for seen in self.seen.values())

    @property
    def seconds(self) -> float:
        """Geometric mean until the mildest degree is seen."""
        return geometric_mean((seen.first[0] or 2 * LADDER[-1]) * self.seconds_an_image for seen in self.seen.values())


def pick(candidates: list[Candidate]) -> Candidate:
    """The rule's."""
    fewest = min(c.failures for c in candidates)
    return min((c for c in candidates if c.failures == fewest), key=lambda c: c.seconds)


def choose(
    sets: dict[str, dict[str, Tensor]],
    labels: dict[str, np.ndarray],
    cache: Path,
    every: bool,
    say: Callable[[str], None],
) -> Candidate:
    """The candidate that the rule picks; a table of all is said."""
    say("| input | stage (width) | img/s | not ordered | mildest not told | N until the mildest is seen | s, mean |\n")
    say("|--:|:--|--:|--:|--:|:--|--:|\n")
    candidates: list[Candidate] = []
    shown = sets["openclipart"]["pool"]
    for side in SIZES:
        speed = seconds_an_image(Lite0(package_weights("imagenet-lite0"), "head", side).eval(), shown)
        if candidates and not every:
            best = pick(candidates)
            if best.failures == 0 and (bound := LADDER[0] * speed) > best.seconds:
                say(f"| {side} | all | {1 / speed:.0f} | | | not tried: 125 images a case take {bound:.2f} s | |\n")
                continue
        found = {name: lite0_features(side, name, each, cache) for name, each in sets.items()}
        for stage, width in LITE0_STAGES.items():
            judges = {name: Judge(found[name][stage], labels[name], own=False) for name in sets}
            seen = {(name, kind): judges[name].sees("fid", kind) for name in sets for kind in JUDGED}
            candidates.append(c := Candidate(stage, side, speed, seen))
            each = "; ".join(
                f"{kind} " + " ".join(str(seen[name, kind].first[0] or "–") for name in sets) for kind in JUDGED
            )
            bad = [sum(not s.ordered for s in seen.values()), sum(s.first[0] is None for s in seen.values())]
            head = f"| {side} | {stage} ({width}) | {1 / speed:.0f} | {bad[0]} | {bad[1]} "
            say(f"{head}| {each} | {c.seconds:.2f} |\n")
    return pick(candidates)


def seconds_of(metric: str, judge: Judge, size: int) -> float:
    """Of the metric itself, once, with features there; the reference's part is not counted."""
    rows = np.arange(size)[None]
    population = judge.populations["pool"]
    judge.floor(metric, size)
    started = time.process_time()
    fresh = Population(population.features[:size], population.logits[:size], judge.reference)
    getattr(fresh, metric)(rows)
    return time.process_time() - started


def table(judge: Judge, speed: float) -> Iterator[str]:
    """Rows of one extractor and data set: a metric each."""
    kinds = [f"{kind} {', '.join(case.label for case in judge.cases[kind])}" for kind in KINDS]
    yield f"| metric | faultless | {' | '.join(kinds)} |\n|:--|--:|" + ":--|" * len(KINDS) + "\n"
    for metric in judge.metrics:
        cells = []
        for kind in KINDS:
            seen = judge.sees(metric, kind)
            cells.append(" / ".join(str(n or "–") for n in seen.first))
            if size := seen.first[0]:
                cells[-1] += f" ({size * speed + seconds_of(metric, judge, size):.1f} s)"
            cells[-1] += "" if seen.ordered else " ✕"
        yield f"| {METRICS[metric].label} | {judge.floor(metric, LADDER[-1]).mean():.4g} | {' | '.join(cells)} |\n"


def write(text: str, keep_choice: bool) -> None:
    """Put the text between the marks of the document, after the choice that stands there if that is to stay."""
    before, _, rest = DOCUMENT.read_text().partition(MARKS[0])
    there, _, after = rest.partition(MARKS[1])
    choice = there[: there.index("\n", there.index(PICKED)) + 1] if keep_choice else "\n"
    DOCUMENT.write_text(f"{before}{MARKS[0]}{choice}{text}{MARKS[1]}{after}")


def processor() -> str:
    """What Linux calls it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.processor())


def main() -> None:
    """Choose, then measure everything with what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="keeps prepared data and features")
    parser.add_argument("--every-size", action="store_true", help="try the sizes that the rule leaves out, too")
    parser.add_argument("--picked", help="STAGE@SIZE: leave the choice out, and measure with this one")
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    warnings.simplefilter("ignore")
    cache, text = options.cache, ""
    (cache / "features").mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        nonlocal text
        print(line, end="", flush=True)
        text += line

    data = {name: prepare(name, resolution=r, channels=c, cache=cache) for name, (r, c) in DATA.items()}
    sets = {name: with_faults(each) for name, each in data.items()}
    labels = {name: each.labels("train")[:POOL] for name, each in data.items()}
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "numpy", "scipy"))
    say(f"\nMeasured on {time.strftime('%Y-%m-%d', time.gmtime())}, in one thread of {processor()} "
        f"({torch.backends.cpu.get_cpu_capability()}), {versions}.\n\n")  # fmt: skip
    if options.picked:
        stage, _, side = options.picked.partition("@")
        network = Lite0(package_weights("imagenet-lite0"), stage, int(side)).eval()
        picked = Candidate(stage, int(side), seconds_an_image(network, sets["openclipart"]["pool"]), {})
    else:
        say("### Which stage, which size\n\n")
        picked = choose(sets, labels, cache / "features", options.every_size, say)
        say(f"\n{PICKED} **{picked.stage}** at {picked.side} pixels.\n")
    for name, each in data.items():
        speeds: dict[str, tuple[Features, float]] = {}
        try:
            extractor = prepare_extractor("classifier", each, cache)
            network = extractor.load()
            found = {key: tuple(extract(network, images)[0]) for key, images in sets[name].items()}
            speeds["classifier"] = (found, seconds_an_image(network, sets[name]["pool"]))
        except UserError as error:
            say(f"\n### {name}, classifier\n\nRefused: {error}.\n")
        stages = lite0_features(picked.side, name, sets[name], cache / "features")
        speeds["imagenet-lite0"] = (stages[picked.stage], picked.seconds_an_image)
        for kind, (found, speed) in speeds.items():
            say(f"\n### {name}, {kind}\n\n{1 / speed:,.0f} images a second.\n\n")
            for line in table(Judge(found, labels[name], own=kind == "classifier"), speed):
                say(line)
    if options.write:
        write(text, keep_choice=bool(options.picked))


if __name__ == "__main__":
    main()
