"""A study for the tests, given as a user's file: short trials that take a snapshot after every step.

Each process that runs a trial of it runs this file first (harness/plugins.py), and so takes snapshots that often.
"""

from dataclasses import replace

from harness.study import Contrast, Factor, Level, Study
from harness.training import loop
from studies.baselines import DC, FC
from studies.noise import NOISE

loop.CHECKPOINT_SECONDS = 0.0

SMOKE = NOISE.profile("smoke")
TWO = Level(label="2", changes={"world_size": 2, "sync_batch_norm": True})
STUDY = Study(
    name="small",
    title="What is left of a trial that is killed?",
    baselines={"dc": DC, "fc": {**FC, "discriminator_dropout": 0.3, "instance_noise": 0.1}},
    questions=(
        Contrast(
            key="ranks",
            text="Do ranks matter?",
            hypothesis="No.",
            baseline="dc",
            factor=Factor(label="ranks", levels=(Level(label="1"), TWO)),
            expected="equal",
        ),
    ),
    profiles=(replace(SMOKE, changes={**SMOKE.changes, "kimg": 1.5}),),
)
