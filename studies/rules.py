"""What the harness itself chooses: in which order the players move, and which weights of G are scored.

The founding document updates both players at once; nearly everybody else updates D first and lets the new D judge G.
Every other study here follows the document and scores G's moving average, so this one says what both choices do.
"""

from dataclasses import replace

from harness.study import Contrast, Factor, Interaction, Level, Study, Trend
from studies.baselines import DC, FC, FC_AT_96, REFERENCE_DC
from studies.profiles import LAPTOP, LONG, PAPER, SMOKE

RULE = Factor(
    label="update rule",
    levels=(
        Level(label="simultaneous"),
        Level(label="alternating", changes={"update_rule": "alternating"}),
        Level(label="alternating, fresh latents", changes={"update_rule": "alternating", "fresh_latents": True}),
    ),
)
ORDER = Factor(label="update rule", levels=RULE.levels[::2])
# A half-life is at most 5% of what was seen so far (ema_ramp): after 25 kimg 1.25, so that 2 and 8 would be one trial.
HALF_LIFE = Factor.of_field("ema_kimg", (0.001, 0.1, 0.5, 2.0), label="half-life of G's moving average, kimg")
PAPER_HALF_LIFE = Factor.of_field("ema_kimg", (0.001, 2.5, 10.0, 40.0), label=HALF_LIFE.label)

RULES = Study(
    name="rules",
    title="What do the update rule and the moving average decide?",
    baselines={"dc": DC, "fc": FC},
    questions=(
        *(
            Contrast(
                key=f"rule-{family}",
                text=f"Is {family.upper()} better when G is judged by the D that was just updated?",
                hypothesis="Yes: G follows a D that has answered its last move, and the two circle each other less.",
                baseline=family,
                factor=RULE,
                expected="lower",
            )
            for family in ("fc", "dc")
        ),
        *(
            Contrast(
                key=f"rule-raw-{family}",
                text=f"And without the moving average, does {family.upper()} gain by it?",
                hypothesis="Yes: the rule acts on the weights themselves.",
                baseline=family,
                factor=RULE,
                expected="lower",
                metric="fid_raw",
            )
            for family in ("fc", "dc")
        ),
        Interaction(
            key="rule-interaction",
            text="Does the update rule do the same to FC as to DC?",
            hypothesis="Yes: then no comparison of the two depends on it.",
            baseline="fc",
            versus="dc",
            factor=ORDER,
            expected="equal",
        ),
        Trend(
            key="average-fc",
            text="Is FC's average worse, the longer its half-life?",
            hypothesis="Yes: FC still improves at the end of the budget, and the average remembers worse weights.",
            baseline="fc",
            factor=HALF_LIFE,
            expected="rising",
        ),
        Trend(
            key="average-dc",
            text="Is DC's average better, the longer its half-life?",
            hypothesis="Yes: DC hardly improves any more, and what is averaged out is the orbit of the two players.",
            baseline="dc",
            factor=HALF_LIFE,
            expected="falling",
        ),
    ),
    profiles=(
        SMOKE,
        LAPTOP,
        LONG,
        replace(
            PAPER,
            baselines={"dc": REFERENCE_DC, "fc": FC_AT_96},
            factors={"average-fc": PAPER_HALF_LIFE, "average-dc": PAPER_HALF_LIFE},
        ),
    ),
)
