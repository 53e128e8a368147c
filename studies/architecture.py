"""Are convolutions worth it? The founding document's first claim, and what else could explain it."""

from dataclasses import replace

from harness.study import Contrast, Factor, Level, Study
from studies.baselines import DC, FC, FC_AT_96, FC_BATCH_NORM, FC_SMALL, REFERENCE_DC
from studies.profiles import ALTERNATING, GPU, LAPTOP, LONG, PAPER, SMOKE

AGAINST_FC = Factor(label="architecture", levels=(Level(label="FC"), Level(label="DC", baseline="dc")))
AT_96 = {
    "dc": REFERENCE_DC,
    "fc": FC_AT_96,
    "fc-bn": {**FC_AT_96, "generator_norm": "batch"},
    "fc-small": {**FC_AT_96, "generator_width": 49},
}

ARCHITECTURE = Study(
    name="architecture",
    title="Fully connected or convolutional?",
    baselines={"fc": FC, "fc-bn": FC_BATCH_NORM, "fc-small": FC_SMALL, "dc": DC},
    questions=(
        Contrast(
            key="dc-or-fc",
            text="Are the images of a DC GAN better than those of an FC GAN?",
            hypothesis="Clearly better: convolutions find spatial correlations (the founding document).",
            baseline="fc",
            factor=AGAINST_FC,
            expected="lower",
        ),
        Contrast(
            key="batch-norm",
            text="Is it batch norm, rather than convolutions?",
            hypothesis="Not alone: DC is still better than an FC GAN whose generator has batch norm too.",
            baseline="fc-bn",
            factor=Factor(
                label="architecture",
                levels=(Level(label="FC with batch norm in G"), Level(label="DC", baseline="dc")),
            ),
            expected="lower",
        ),
        Contrast(
            key="size",
            text="Is it the number of parameters?",
            hypothesis="No: DC is better than an FC generator with as many parameters as its own.",
            baseline="fc-small",
            factor=Factor(
                label="architecture",
                levels=(Level(label="FC, G with DC's parameters"), Level(label="DC", baseline="dc")),
            ),
            expected="lower",
        ),
        Contrast(
            key="diversity",
            text="Does a DC GAN cover more of the real images?",
            hypothesis="Yes: recall is higher, not only precision.",
            baseline="fc",
            factor=AGAINST_FC,
            expected="higher",
            metric="recall",
        ),
        Contrast(
            key="cost",
            text="What does it cost?",
            hypothesis="More: a convolution does more work a parameter, so the same images take longer.",
            baseline="fc",
            factor=AGAINST_FC,
            expected="higher",
            metric="compute_seconds",
        ),
    ),
    profiles=(
        SMOKE,
        LAPTOP,
        ALTERNATING,
        LONG,
        replace(PAPER, baselines=AT_96),
        replace(GPU, baselines=AT_96),
    ),
)
