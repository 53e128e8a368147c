"""How much to spend. Studies share these, and with them the trials of the baselines they share."""

from dataclasses import replace

from harness.study import Profile
from studies.baselines import REFERENCE_DC, REFERENCE_FC

DIGITS = {"dataset": "mnist-5k", "resolution": 28, "channels": 1}

SMOKE = Profile(
    name="smoke",
    description="every code path in a minute or two; its numbers mean nothing",
    changes={**DIGITS, "kimg": 0.16},
    seeds=2,
    num_generated=500,
    core_seconds_per_trial=3.0,
)
LAPTOP = Profile(
    name="laptop",
    description="real digits, six seeds, about a quarter of an hour on two quiet cores",
    changes={**DIGITS, "kimg": 25.0},
    seeds=6,
    num_generated=2000,
    core_seconds_per_trial=5.0,  # reckoned from what `long` took on an H200, a few trials at once
    beside=("alternating", "long"),
)
LONG = replace(
    LAPTOP,
    name="long",
    description="as laptop, with four times the budget: which verdicts survive it?",
    changes={**LAPTOP.changes, "kimg": 4 * 25.0},
    core_seconds_per_trial=12.0,  # on an H200 under MPS, sixteen at once: 10 of FC, 14 of DC (medians)
    beside=(),
)
ALTERNATING = replace(
    LAPTOP,
    name="alternating",
    description="as laptop, with D updated before G: which verdicts survive it?",
    changes={**LAPTOP.changes, "update_rule": "alternating"},
    beside=(),
)
"""Of the founding document's own studies: nearly everybody else updates D first and lets the new D judge G."""
PAPER = Profile(
    name="paper",
    description="the founding document's networks at their own sizes, ten seeds, on GPUs",
    changes={"dataset": "stl10", "kimg": 2000.0},
    baselines={"dc": REFERENCE_DC, "fc": REFERENCE_FC},
    seeds=10,
    num_generated=8000,
    extractor="inception-v3",
    core_seconds_per_trial=650.0,  # reckoned from an H200's images/s
)
"""Other studies add what their own baselines and factors become. `paper@folder:PATH` runs it on other images."""

GPU = replace(
    PAPER,
    name="gpu",
    description="the networks of `paper` on drawings, six seeds, a fifth of the images, in bfloat16, for a lent GPU",
    changes={"dataset": "openclipart", "kimg": 400.0, "number_format": "bfloat16"},
    seeds=6,
    num_generated=2000,
    extractor="imagenet-lite0",
    core_seconds_per_trial=20.0,  # on an H200 under MPS, eight at once: 15 of FC, 26 of DC (medians)
)
"""What `paper` asks, at a budget that a lent card can pay: a fifth of the images, in bfloat16."""
