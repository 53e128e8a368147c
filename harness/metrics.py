"""What is measured of a trial: each metric's name, unit, better direction, and the scale it is compared on.

Imports nothing of the project.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

THRESHOLDS = (1000, 300, 100)
"""Levels of the online FID whose first crossing is recorded, in the results table's kimg_to_fid_<level>."""

SETTLED = 0.1
"""So near to its last value, as a share of it, the online FID counts as settled."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One column of the results table."""

    label: str  # as on an axis or in a table's head, with its unit
    better: Literal["lower", "higher", "neither"]
    scale: Literal["ratio", "difference"]  # how two arms are compared: treated / baseline, or treated - baseline
    smallest_effect: float  # of interest, unless a question says otherwise: less than that counts as none
    bounds: tuple[float, ...] = ()  # where it can go no further; all arms near one, it cannot tell them apart
    meaning: str  # what it is
    source: str = ""

    @property
    def arrow(self) -> str:
        """↓ or ↑ towards better; empty where neither is."""
        return {"lower": "↓", "higher": "↑", "neither": ""}[self.better]

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value that there can be, ±inf for none; what caps IS depends on the extractor."""
        if self.scale == "ratio":
            return (0.0, math.inf)
        lowest, highest = (*self.bounds, *(-math.inf, math.inf)[len(self.bounds) :])
        return (lowest, highest)


COLLAPSED_IS = 1.1
"""Below this IS, of 1 at the least, nearly all samples look the same to the extractor's classes: mode collapse."""

LEAST_SKILL, GOOD_SKILL = 0.25, 0.5
"""How far a classifier must have come from guessing (0) to knowing every picture (1) for its features to be used at
all, and for its scores to need no warning."""


def collapsed_below(real: float) -> float:
    """The IS below which samples count as collapsed: COLLAPSED_IS, or less where the real images' own IS is low.

    A tenth of the way from 1 to `real`, the IS of real images, at most; NaN where that is not known.
    """
    return COLLAPSED_IS if math.isnan(real) else min(COLLAPSED_IS, 1 + max(real - 1, 0.0) / 10)


def least_accuracy(chance: float, number: int, skill: float = LEAST_SKILL) -> float:
    """The accuracy from which a classifier can be believed to know something of its classes.

    It must have come `skill` of the way from always guessing the largest class to knowing every picture, and be two
    standard errors above guessing: of 10 equal classes 0.325, of two 0.625 (0.75 where only 16 pictures tell).

    Args:
        chance: Share of the largest class among the pictures that it is judged by.
        number: How many these are, at least 1.
        skill: From 0 to 1.
    """
    return min(1.0, chance + max(skill * (1 - chance), 2 * math.sqrt(chance * (1 - chance) / number)))


def is_well_proven(reference: Mapping[str, float]) -> bool:
    """Whether nothing speaks against scores by this extractor: a published network, or a classifier that does well.

    Args:
        reference: As `proof_in_words` takes it.
    """
    if "extractor_accuracy" not in reference:
        return True
    least = least_accuracy(reference["extractor_chance"], int(reference["extractor_unseen"]), GOOD_SKILL)
    return reference["extractor_accuracy"] >= least


def proof_in_words(reference: Mapping[str, float]) -> str:
    """What the classifier behind the scores gets right of pictures that it has not seen, and whether that is enough.

    Args:
        reference: What is stored of real images under a protocol, of which the keys extractor_... are looked at.

    Returns:
        A sentence without its full stop; empty where nothing is known, as of published networks.
    """
    if "extractor_accuracy" not in reference:
        return ""
    accuracy, chance = reference["extractor_accuracy"], reference["extractor_chance"]
    number = int(reference["extractor_unseen"])
    found = f"The classifier gets {accuracy:.1%} of {number:,} unseen real pictures right (guessing: {chance:.1%})"
    if accuracy < (least := least_accuracy(chance, number)):
        return f"{found}: too little to score by, {least:.1%} are the least"
    if is_well_proven(reference):
        return found
    return f"{found}: its features tell these pictures poorly apart, and its scores are coarse"


_BY_NAME: dict[str, Metric] = {
    "fid": Metric(
        label="FID",
        better="lower",
        scale="ratio",
        smallest_effect=1.25,
        meaning="distance of two normal distributions with the means and covariances of both sides' features",
        source="Heusel et al. 2017",
    ),
    "fid_raw": Metric(
        label="FID of raw weights",
        better="lower",
        scale="ratio",
        smallest_effect=1.25,
        meaning="FID of the weights at the end of the budget themselves; all other scores are of their moving average",
    ),
    "is_mean": Metric(
        label="IS",
        better="higher",
        scale="difference",
        smallest_effect=0.5,
        bounds=(1,),
        meaning="how sure and how varied the classes of the samples are; at most the number of classes",
        source="Salimans et al. 2016",
    ),
    "kid": Metric(
        label="KID",
        better="lower",
        scale="difference",
        smallest_effect=0.01,
        meaning="squared maximum mean discrepancy with the kernel (γ·x·y + 1)³; about 0 for what is alike",
        source="Bińkowski et al. 2018",
    ),
    "precision": Metric(
        label="precision",
        better="higher",
        scale="difference",
        smallest_effect=0.05,
        bounds=(0, 1),
        meaning="share of samples within the real images' neighbourhoods (k = 3)",
        source="Kynkäänniemi et al. 2019",
    ),
    "recall": Metric(
        label="recall",
        better="higher",
        scale="difference",
        smallest_effect=0.05,
        bounds=(0, 1),
        meaning="share of real images within the samples' neighbourhoods (k = 3)",
        source="Kynkäänniemi et al. 2019",
    ),
    "density": Metric(
        label="density",
        better="higher",
        scale="difference",
        smallest_effect=0.05,
        bounds=(0,),
        meaning="in how many real images' neighbourhoods (k = 5) a sample lies; 1 for what is alike",
        source="Naeem et al. 2020",
    ),
    "coverage": Metric(
        label="coverage",
        better="higher",
        scale="difference",
        smallest_effect=0.05,
        bounds=(0, 1),
        meaning="share of real images with a sample in their neighbourhood (k = 5)",
        source="Naeem et al. 2020",
    ),
    "memorization": Metric(
        label="memorization",
        better="neither",
        scale="difference",
        smallest_effect=0.05,
        bounds=(0, 1),
        meaning="chance that a sample is nearer to a training image than an unseen real image is; 0.5 is alike",
        source="Meehan et al. 2020",
    ),
    "modes": Metric(
        label="number of modes",
        better="higher",
        scale="difference",
        smallest_effect=0.5,
        bounds=(1,),
        meaning="classes that the classifier sees among the samples; of stacked digits one of 1,000",
        source="Metz et al. 2017",
    ),
    "mode_kl": Metric(
        label="mode KL",
        better="lower",
        scale="difference",
        smallest_effect=0.05,
        bounds=(0,),
        meaning="divergence of the samples' classes from those of real images, in nats",
        source="Srivastava et al. 2017",
    ),
    # What the device was busy for: CPU time on a CPU, else wall-clock time. Busy neighbours lengthen both, CPU time
    # less (by a fifth where wall-clock time doubled): compare arms that ran side by side.
    "compute_seconds": Metric(
        label="compute time per trial",
        better="lower",
        scale="ratio",
        smallest_effect=1.25,
        meaning="CPU time of a trial on a CPU, else wall-clock time",
    ),
    # From the curves. "early" is the first quarter of the budget, "late" the last: means over its report points.
    **{
        f"g_loss_{part}": Metric(
            label=f"G loss in the {quarter} quarter",
            meaning=f"mean of G's loss over the {quarter} quarter of the budget",
            better="neither",
            scale="difference",
            smallest_effect=0.1,
        )
        for part, quarter in (("early", "first"), ("late", "last"))
    },
    **{
        f"d_accuracy_{part}": Metric(
            label=f"D's accuracy in the {quarter} quarter",
            meaning=f"share of images that D puts on the right side, mean over the {quarter} quarter of the budget",
            better="neither",
            scale="difference",
            smallest_effect=0.02,
            bounds=(0, 1),
        )
        for part, quarter in (("early", "first"), ("late", "last"))
    },
    **{
        f"kimg_to_fid_{level}": Metric(
            label=f"kimg until online FID ≤ {level}",
            better="lower",
            scale="ratio",
            smallest_effect=1.25,
            meaning=f"real images until the FID of the curves was {level} or less; infinite where it never was",
        )
        for level in THRESHOLDS
    },  # +inf where it was not reached within the budget
    # Of convergence, whatever it is to: +inf where the last point alone is that near to itself.
    "kimg_to_settle": Metric(
        label=f"kimg until online FID stays within {SETTLED:.0%} of its last",
        better="lower",
        scale="ratio",
        smallest_effect=1.25,
        meaning="real images until the FID of the curves stayed near its last value; infinite where it never did",
    ),
}


BY_FEATURES = (
    *("fid", "fid_raw", "is_mean", "kid", "precision", "recall"),
    *("density", "coverage", "memorization", "modes", "mode_kl"),
)
"""Metrics of samples' features, which another network may see too: "fid@inception-v3" is the FID by its features."""


def split(name: str) -> tuple[str, str]:
    """A metric's name without the extractor, and the extractor that it names; "" where the protocol's own is meant."""
    metric, _, extractor = name.partition("@")
    return metric, extractor


def is_metric(name: str) -> bool:
    """Whether METRICS has that name, or it is one of BY_FEATURES with an extractor."""
    metric, extractor = split(name)
    return name in _BY_NAME or (metric in BY_FEATURES and extractor != "")


class _Metrics(dict[str, Metric]):
    """By name; under "fid@inception-v3" what FID is, with the extractor in its label."""

    def __missing__(self, name: str) -> Metric:
        metric, extractor = split(name)
        if not is_metric(name):
            raise KeyError(name)
        return replace(self[metric], label=f"{self[metric].label} ({extractor})")


METRICS: dict[str, Metric] = _Metrics(_BY_NAME)
"""Every metric that a question may be decided by."""
