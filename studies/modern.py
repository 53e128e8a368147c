"""Does what the field uses beyond the founding document help? Tricks of ten years, at customary settings.

Judged as in stabilization.py: at the baseline's own learning rates and for the same number of images.
"""

from dataclasses import replace

from harness.study import Changes, Contrast, Factor, Level, Study
from studies.baselines import DC, DC_PLAIN_D, REFERENCE_DC
from studies.profiles import LAPTOP, LONG, PAPER, SMOKE


def _tricks(baseline: Changes) -> Factor:
    """One trick a level; G's rate is a fourth of the baseline's own."""
    return Factor(
        label="trick",
        levels=(
            Level(label="none"),
            Level(
                label="G learns 4× slower than D (TTUR)",
                changes={"generator_lr": float(baseline["generator_lr"]) / 4},
            ),
            Level(label="gradients clipped at 1", changes={"gradient_clip": 1.0}),
            Level(label="DiffAugment", changes={"augmentation": "brightness+translation+cutout"}),
            Level(label="hinge loss", changes={"loss": "hinge"}),
            Level(label="least-squares loss", changes={"loss": "least-squares"}),
            Level(label="spectral norm in D, no batch norm", changes={"discriminator_norm": "spectral"}),
        ),
    )


def _average(baseline: Changes) -> Factor:
    """Without a moving average, and with the baseline's own."""
    return Factor(
        label="half-life of G's moving average, kimg",
        levels=(Level(label="none", changes={"ema_kimg": 0.001}), Level(label=f"{baseline['ema_kimg']:g}")),
    )


SMOOTH_D = Factor(
    label="what keeps D smooth",
    levels=(
        Level(label="nothing"),
        Level(label="batch norm (for reference)", baseline="dc"),
        Level(label="spectral norm", baseline="dc", changes={"discriminator_norm": "spectral"}),
        Level(label="R1, γ = 1", changes={"r1_gamma": 1.0}),
        Level(label="Wasserstein, penalty 10", changes={"loss": "wasserstein", "gradient_penalty": 10.0}),
    ),
)

MODERN = Study(
    name="modern",
    title="Does what the field uses today help?",
    baselines={"dc": DC, "dc-plain-d": DC_PLAIN_D},
    questions=(
        Contrast(
            key="tricks",
            text="Does what the field uses beyond the document improve a DC GAN?",
            hypothesis="Each lowers FID, says its paper.",
            baseline="dc",
            factor=_tricks(DC),
            expected="lower",
        ),
        Contrast(
            key="moving-average",
            text="Is G better without its moving average?",
            hypothesis="No, worse: the average is nearer the centre of the orbit that the two players run on.",
            baseline="dc",
            factor=_average(DC),
            expected="higher",
        ),
        Contrast(
            key="smooth-d",
            text="Without batch norm in D, what makes up for it?",
            hypothesis="Each lowers FID: a D whose gradient is bounded is a better teacher.",
            baseline="dc-plain-d",
            factor=SMOOTH_D,
            expected="lower",
        ),
    ),
    note="No learning rate was tuned for a trick: some would do better with their own.",
    profiles=(
        SMOKE,
        LAPTOP,
        LONG,
        replace(
            PAPER,
            baselines={"dc": REFERENCE_DC, "dc-plain-d": {**REFERENCE_DC, "discriminator_norm": "none"}},
            factors={"tricks": _tricks(REFERENCE_DC), "moving-average": _average(REFERENCE_DC)},
        ),
    ),
)
