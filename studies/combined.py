"""Do tricks add up, and do they do the same to both architectures? A small factorial: architecture × trick × trick."""

from dataclasses import replace

from harness.study import Contrast, Factor, Interaction, Level, Study
from studies.baselines import DC, FC, FC_AT_96, REFERENCE_DC
from studies.profiles import LAPTOP, LONG, PAPER, SMOKE
from studies.stabilization import MORE_G_STEPS, NONE, SOFT_LABELS

BOTH = Level(label="both", changes={**MORE_G_STEPS.changes, **SOFT_LABELS.changes})
TRICKS = Factor(label="tricks", levels=(NONE, MORE_G_STEPS, SOFT_LABELS, BOTH))

# The second trick on top of the first: against what it does alone, an interaction of the two.
SOFT_LABELS_ON_TOP = Factor(
    label="soft labels", levels=(Level(label="without"), Level(label="with", changes=SOFT_LABELS.changes))
)

COMBINED = Study(
    name="combined",
    title="Do tricks add up?",
    baselines={
        "dc": DC,
        "fc": FC,
        "dc-2g": {**DC, **MORE_G_STEPS.changes},
        "fc-2g": {**FC, **MORE_G_STEPS.changes},
    },
    questions=(
        Contrast(
            key="tricks-dc",
            text="Do the tricks, alone and together, improve a DC GAN?",
            hypothesis="Each does, and both together do.",
            baseline="dc",
            factor=TRICKS,
            expected="lower",
        ),
        Contrast(
            key="tricks-fc",
            text="Do the tricks, alone and together, improve an FC GAN?",
            hypothesis="Each does, and both together do.",
            baseline="fc",
            factor=TRICKS,
            expected="lower",
        ),
        Interaction(
            key="architecture-interaction",
            text="Do the tricks do the same to DC as to FC?",
            hypothesis="Yes: what keeps the players in balance does not depend on the layers they are made of.",
            baseline="dc",
            versus="fc",
            factor=TRICKS,
            expected="equal",
        ),
        Interaction(
            key="trick-interaction-dc",
            text="Do soft labels do as much in a DC GAN that has two G steps as in one that has not?",
            hypothesis="Yes: the two tricks add up.",
            baseline="dc-2g",
            versus="dc",
            factor=SOFT_LABELS_ON_TOP,
            expected="equal",
        ),
        Interaction(
            key="trick-interaction-fc",
            text="Do soft labels do as much in an FC GAN that has two G steps as in one that has not?",
            hypothesis="Yes: the two tricks add up.",
            baseline="fc-2g",
            versus="fc",
            factor=SOFT_LABELS_ON_TOP,
            expected="equal",
        ),
    ),
    profiles=(
        SMOKE,
        LAPTOP,
        LONG,
        replace(
            PAPER,
            baselines={
                "dc": REFERENCE_DC,
                "fc": FC_AT_96,
                "dc-2g": {**REFERENCE_DC, **MORE_G_STEPS.changes},
                "fc-2g": {**FC_AT_96, **MORE_G_STEPS.changes},
            },
        ),
    ),
)
