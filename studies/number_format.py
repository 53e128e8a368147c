"""Does the number format decide? bfloat16 is faster where the hardware multiplies in it; is it the same experiment?"""

from dataclasses import replace

from harness.study import Contrast, Factor, Study
from studies.baselines import DC, FC, FC_AT_96, REFERENCE_DC
from studies.profiles import LAPTOP, PAPER, SMOKE

FORMAT = Factor.of_field("number_format", ("float32", "bfloat16"), label="number format")

NUMBER_FORMAT = Study(
    name="number-format",
    title="Is bfloat16 the same experiment?",
    baselines={"dc": DC, "fc": FC},
    questions=(
        *(
            Contrast(
                key=f"quality-{family}",
                text=f"Are the images of {family.upper()} as good when it trains in bfloat16?",
                hypothesis="Yes: rounding is small beside a batch's own noise, and weights and optimizer stay float32.",
                baseline=family,
                factor=FORMAT,
                expected="equal",
            )
            for family in ("dc", "fc")
        ),
        *(
            Contrast(
                key=f"cost-{family}",
                text=f"Does {family.upper()} train faster in bfloat16?",
                hypothesis="Yes, where the machine multiplies bfloat16 in hardware.",
                baseline=family,
                factor=FORMAT,
                expected="lower",
                metric="compute_seconds",
            )
            for family in ("dc", "fc")
        ),
    ),
    profiles=(SMOKE, LAPTOP, replace(PAPER, baselines={"dc": REFERENCE_DC, "fc": FC_AT_96})),
    note="Both formats are scored in float32, from float32 weights.",
)
