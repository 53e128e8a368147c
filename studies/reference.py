"""The founding document's two networks as they were: FC at 56×56 grey, DC at 96×96 colour.

They make different images, so that their scores cannot be compared with each other (the architecture study compares
the families at one size); each is compared with itself before training.
"""

from dataclasses import replace

from harness.study import Contrast, Factor, Level, Study
from studies.baselines import REFERENCE_DC, REFERENCE_FC
from studies.profiles import GPU, PAPER

TRAINING = Factor(label="training", levels=(Level(label="trained"), Level(label="untrained", changes={"kimg": 0.0})))

REFERENCE = Study(
    name="reference",
    title="Do the founding document's two networks learn?",
    baselines={"fc": {**REFERENCE_FC, "kimg": 2000.0}, "dc": {**REFERENCE_DC, "kimg": 2000.0}},
    questions=(
        Contrast(
            key="fc-learns",
            text="Does training make the FC reference network's images better than noise?",
            hypothesis="Yes: an untrained generator has a far higher FID.",
            baseline="fc",
            factor=TRAINING,
            expected="higher",
        ),
        Contrast(
            key="dc-learns",
            text="Does training make the DC reference network's images better than noise?",
            hypothesis="Yes: an untrained generator has a far higher FID.",
            baseline="dc",
            factor=TRAINING,
            expected="higher",
        ),
    ),
    profiles=(
        replace(
            PAPER,
            name="smoke",
            description="a few steps of each, on digits, in minutes: do they fit this machine?",
            changes={"dataset": "mnist-5k"},
            baselines={"fc": {"kimg": 5.0}, "dc": {"kimg": 0.5}},
            seeds=1,
            num_generated=500,
            extractor="classifier",
            core_seconds_per_trial=60.0,
        ),
        replace(PAPER, changes={"dataset": "stl10"}, baselines={}),
        replace(
            GPU,
            changes={key: value for key, value in GPU.changes.items() if key != "kimg"},
            baselines={name: {"kimg": GPU.changes["kimg"]} for name in ("fc", "dc")},
        ),
    ),
)
