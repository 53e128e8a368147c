"""What is measured of a trial: each metric's name, unit, better direction, and the scale it is compared on.

Imports nothing of the project.
"""

import math
from dataclasses import dataclass
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
    bounds: tuple[float, ...] = ()  # where it can go no further; all arms near one, it cannot tell them apart

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

METRICS: dict[str, Metric] = {
    "fid": Metric(label="FID", better="lower", scale="ratio"),
    "is_mean": Metric(label="IS", better="higher", scale="difference", bounds=(1,)),
    "kid": Metric(label="KID", better="lower", scale="difference"),
    "precision": Metric(label="precision", better="higher", scale="difference", bounds=(0, 1)),
    "recall": Metric(label="recall", better="higher", scale="difference", bounds=(0, 1)),
    # What the device was busy for: CPU time on a CPU, else wall-clock time. Busy neighbours lengthen both, CPU time
    # less (by a fifth where wall-clock time doubled): compare arms that ran side by side.
    "compute_seconds": Metric(label="compute seconds a trial", better="lower", scale="ratio"),
    # From the curves. "early" is the first quarter of the budget, "late" the last: means over its report points.
    "g_loss_early": Metric(label="G loss, first quarter", better="neither", scale="difference"),
    "g_loss_late": Metric(label="G loss, last quarter", better="neither", scale="difference"),
    **{
        f"d_accuracy_{part}": Metric(
            label=f"D's accuracy, {quarter} quarter", better="neither", scale="difference", bounds=(0, 1)
        )
        for part, quarter in (("early", "first"), ("late", "last"))
    },
    **{
        f"kimg_to_fid_{level}": Metric(label=f"kimg until online FID ≤ {level}", better="lower", scale="ratio")
        for level in THRESHOLDS
    },  # +inf where it was not reached within the budget
    # Of convergence, whatever it is to: +inf where the last point alone is that near to itself.
    "kimg_to_settle": Metric(
        label=f"kimg until online FID stays within {SETTLED:.0%} of its last", better="lower", scale="ratio"
    ),
}
"""Every metric that a question may be decided by."""
