"""How deep should G be, and how deep D? Depth is defined by example in architectures/fc.py and dc.py.

A deeper network is also a larger one. So each sweep is asked a second time with widths chosen such that all levels
have about the parameters of the baseline (within 4%; a test counts them).
"""

from dataclasses import replace
from typing import Literal

from harness.study import Factor, Level, Question, Study
from studies.baselines import DC, FC
from studies.profiles import LAPTOP, PAPER, SMOKE


def _same_size(player: Literal["generator", "discriminator"], widths: dict[int, int]) -> Factor:
    return Factor(
        label=f"depth of {player[0].upper()}, at the same number of parameters",
        levels=tuple(
            Level(label=str(depth), changes={f"{player}_depth": depth, f"{player}_width": width})
            for depth, width in widths.items()
        ),
    )


DC_DEPTH = Factor.of_field("generator_depth", (2, 3, 4), label="depth of G (transposed-convolution blocks)")
FC_DEPTH = Factor.of_field("generator_depth", (1, 2, 3, 4), label="depth of G (hidden layers)")
DC_DEPTH_SAME_SIZE = _same_size("generator", {2: 16, 3: 12, 4: 8})
FC_DEPTH_SAME_SIZE = _same_size("generator", {1: 676, 2: 265, 3: 128, 4: 64})
D_DEPTH_SAME_SIZE = _same_size("discriminator", {1: 62, 2: 27, 3: 16})  # at depth 4 no width comes within 10%
D_DEPTH = Factor.of_field("discriminator_depth", (1, 2, 3, 4), label="depth of D (convolutions)")

# At the reference networks' sizes: a 96×96 generator needs four blocks, and the reference has five.
DEEP = Factor.of_field("generator_depth", (4, 5, 6), label=DC_DEPTH.label)
DEEP_D = Factor.of_field("discriminator_depth", (2, 3, 4, 5), label=D_DEPTH.label)

QUALITY = "Image quality falls with fewer layers, so FID falls along depth (the founding document)."
SPEED = "Fewer layers learn faster, so this point comes later along depth (the founding document)."
BALANCE = (
    "With fewer layers D no longer outruns G: early on, D is right more often the deeper G (the founding document)."
)
LOSS = "Fewer layers lower G's loss while D is still learning: it rises along depth (the founding document)."

DEPTH = Study(
    name="depth",
    title="How deep should a GAN be?",
    baselines={"dc": DC, "fc": FC},
    questions=(
        Question(
            key="quality-dc",
            text="Do fewer layers in a DC generator lower the quality of its images?",
            hypothesis=QUALITY,
            baseline="dc",
            factor=DC_DEPTH,
            kind="trend",
            expected="falling",
        ),
        Question(
            key="quality-fc",
            text="Do fewer layers in an FC generator lower the quality of its images?",
            hypothesis=QUALITY,
            baseline="fc",
            factor=FC_DEPTH,
            kind="trend",
            expected="falling",
        ),
        Question(
            key="quality-dc-same-size",
            text="Is it depth, or only size, in a DC generator?",
            hypothesis="Depth: FID falls along depth at the same number of parameters too.",
            baseline="dc",
            factor=DC_DEPTH_SAME_SIZE,
            kind="trend",
            expected="falling",
        ),
        Question(
            key="quality-fc-same-size",
            text="Is it depth, or only size, in an FC generator?",
            hypothesis="Depth: FID falls along depth at the same number of parameters too.",
            baseline="fc",
            factor=FC_DEPTH_SAME_SIZE,
            kind="trend",
            expected="falling",
        ),
        Question(
            key="speed-dc",
            text="Does a DC generator with fewer layers learn faster?",
            hypothesis=SPEED,
            baseline="dc",
            factor=DC_DEPTH,
            kind="trend",
            expected="rising",
            metric="kimg_to_fid_300",
        ),
        Question(
            key="speed-fc",
            text="Does an FC generator with fewer layers learn faster?",
            hypothesis=SPEED,
            baseline="fc",
            factor=FC_DEPTH,
            kind="trend",
            expected="rising",
            metric="kimg_to_fid_1000",
        ),
        Question(
            key="loss-dc",
            text="Does a DC generator with fewer layers lower its loss while D is still learning?",
            hypothesis=LOSS,
            baseline="dc",
            factor=DC_DEPTH,
            kind="trend",
            expected="rising",
            metric="g_loss_early",
            smallest_effect=0.1,
        ),
        Question(
            key="loss-fc",
            text="Does an FC generator with fewer layers lower its loss while D is still learning?",
            hypothesis=LOSS,
            baseline="fc",
            factor=FC_DEPTH,
            kind="trend",
            expected="rising",
            metric="g_loss_early",
            smallest_effect=0.1,
        ),
        Question(
            key="balance-dc",
            text="Does D outrun a DC generator the less, the fewer layers it has?",
            hypothesis=BALANCE,
            baseline="dc",
            factor=DC_DEPTH,
            kind="trend",
            expected="rising",
            metric="d_accuracy_early",
            smallest_effect=0.02,
        ),
        Question(
            key="balance-fc",
            text="Does D outrun an FC generator the less, the fewer layers it has?",
            hypothesis=BALANCE,
            baseline="fc",
            factor=FC_DEPTH,
            kind="trend",
            expected="rising",
            metric="d_accuracy_early",
            smallest_effect=0.02,
        ),
        Question(
            key="d-depth-balance",
            text="Do more layers slow D down?",
            hypothesis="Yes, so early on D is less often right along its depth (the founding document's remedy c).",
            baseline="dc",
            factor=D_DEPTH,
            kind="trend",
            expected="falling",
            metric="d_accuracy_early",
            smallest_effect=0.02,
        ),
        Question(
            key="d-depth-quality",
            text="Does a deeper D give better images?",
            hypothesis="Yes, if slowing D down is a remedy (the founding document's remedy c).",
            baseline="dc",
            factor=D_DEPTH,
            kind="trend",
            expected="falling",
        ),
        Question(
            key="d-depth-quality-same-size",
            text="Is it depth, or only size, in D?",
            hypothesis="Depth: FID falls along D's depth at the same number of parameters too.",
            baseline="dc",
            factor=D_DEPTH_SAME_SIZE,
            kind="trend",
            expected="falling",
        ),
    ),
    profiles=(
        SMOKE,
        LAPTOP,
        replace(
            PAPER,
            factors={
                **dict.fromkeys(("quality-dc", "speed-dc", "loss-dc", "balance-dc"), DEEP),
                **dict.fromkeys(("d-depth-balance", "d-depth-quality"), DEEP_D),
                "quality-dc-same-size": _same_size("generator", {4: 58, 5: 32, 6: 17}),
                "quality-fc-same-size": _same_size("generator", {1: 1203, 2: 525, 3: 256, 4: 127}),
                "d-depth-quality-same-size": _same_size("discriminator", {2: 195, 3: 120, 4: 64, 5: 33}),
            },
        ),
    ),
)
