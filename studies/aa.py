"""Does the harness find differences where there are none? Each baseline against itself at other seeds: an A/A test.

A difference shown here is a false alarm. benchmarks/calibration.py asks the same of thousands of simulated studies.
"""

from harness.study import Expected, Factor, Level, Question, Study
from studies.baselines import DC, FC
from studies.profiles import LAPTOP, SMOKE

SEEDS = Factor(label="seeds", levels=(Level(label="0…"), Level(label="1000…", changes={"seed": 1000})))


def _asked(baseline: str, key: str, expected: Expected, metric: str, smallest_effect: float) -> Question:
    same = expected == "equal"
    return Question(
        key=f"{key}-{baseline}",
        text=f"{baseline.upper()} at other seeds: is {key} {'the same' if same else expected}?",
        hypothesis="Yes: it is the same network." if same else "No, the same network: no difference may be shown.",
        baseline=baseline,
        factor=SEEDS,
        kind="contrast",
        expected=expected,
        metric=metric,
        smallest_effect=smallest_effect,
    )


AA = Study(
    name="aa",
    title="Does the harness find differences where there are none?",
    baselines={"dc": DC, "fc": FC},
    questions=tuple(
        question
        for baseline in ("dc", "fc")
        for question in (
            _asked(baseline, "quality", "equal", "fid", 1.25),
            _asked(baseline, "fid", "lower", "fid", 1.25),
            _asked(baseline, "balance", "equal", "d_accuracy_early", 0.02),
            _asked(baseline, "loss", "equal", "g_loss_early", 0.1),
        )
    ),
    profiles=(SMOKE, LAPTOP),
)
