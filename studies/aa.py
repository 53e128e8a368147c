"""Does the harness find differences where there are none? Each baseline against itself at other seeds: an A/A test.

A difference shown here is a false alarm. benchmarks/calibration.py asks the same of thousands of simulated studies.
"""

from harness.study import Contrast, Expected, Factor, Level, Study
from studies.baselines import DC, FC
from studies.profiles import LAPTOP, SMOKE

SEEDS = Factor(label="seeds", levels=(Level(label="0…"), Level(label="1000…", changes={"seed": 1000})))


QUESTIONS: tuple[tuple[str, Expected, str], ...] = (  # key, what is expected, metric
    ("quality", "equal", "fid"),
    ("fid", "lower", "fid"),
    ("balance", "equal", "d_accuracy_early"),
    ("loss", "equal", "g_loss_early"),
)


def _asked(baseline: str, key: str, expected: Expected, metric: str) -> Contrast:
    same = expected == "equal"
    return Contrast(
        f"{key}-{baseline}",
        baseline,
        SEEDS,
        text=f"{baseline.upper()} at other seeds: is {key} {'the same' if same else expected}?",
        hypothesis="Yes: it is the same network." if same else "No, the same network: no difference may be shown.",
        expected=expected,
        metric=metric,
    )


AA = Study(
    name="aa",
    title="Does the harness find differences where there are none?",
    baselines={"dc": DC, "fc": FC},
    questions=tuple(_asked(baseline, *question) for baseline in ("dc", "fc") for question in QUESTIONS),
    profiles=(SMOKE, LAPTOP),
)
