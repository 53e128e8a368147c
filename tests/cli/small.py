"""A study for the tests of the terminal: two arms, one with a long name, a few steps, and more claims than fit."""

from dataclasses import replace

from harness.study import Contrast, Factor, Level, Study
from studies.baselines import FC
from studies.profiles import SMOKE

RATE = Factor(
    label="learning rate of the generator",
    levels=(
        Level(label="0.001"),
        Level(label="twice as much 学習率", changes={"generator_lr": 2e-3, "discriminator_lr": 2e-3}),
    ),
)
ALSO = ("is_mean", "kid", "precision", "recall", "g_loss_early", "g_loss_late")  # of the same trials

STUDY = Study(
    name="small",
    title="Does it fit?",
    baselines={"fc": FC},
    questions=(
        Contrast(
            key="rate",
            text="Does G's rate matter?",
            hypothesis="No.",
            baseline="fc",
            factor=RATE,
            expected="equal",
        ),
        *(
            Contrast(
                key=f"rate-{metric.replace('_', '-')}",
                text=f"Does G's rate matter to {metric}?",
                hypothesis="No.",
                baseline="fc",
                factor=RATE,
                expected="equal",
                metric=metric,
                smallest_effect=0.1,
            )
            for metric in ALSO
        ),
    ),
    profiles=(replace(SMOKE, seeds=3, num_generated=200, changes={**SMOKE.changes, "kimg": 4.0}),),
)
