"""A study for the tests, given as a user's file: few arms, of both architectures, run in a minute."""

from harness.study import Contrast, Factor, Level, Study
from studies.baselines import DC, FC
from studies.noise import NOISE

NOISE_ON_INPUT = Factor(
    label="instance noise", levels=(Level(label="0"), Level(label="0.2", changes={"instance_noise": 0.2}))
)
STUDY = Study(
    name="tiny",
    title="Is all of it still there?",
    baselines={"dc": DC, "fc": FC},
    questions=tuple(
        Contrast(
            key=f"noise-{baseline}",
            text="Does noise on D's input matter?",
            hypothesis="Yes: lower FID with it.",
            baseline=baseline,
            factor=NOISE_ON_INPUT,
            expected="lower",
        )
        for baseline in ("dc", "fc")
    ),
    profiles=(NOISE.profile("smoke"),),
)
