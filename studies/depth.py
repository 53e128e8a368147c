"""How deep should G be, and how deep D? Depth is defined by example in architectures/fc.py and dc.py.

A deeper network is also a larger one. So each sweep is asked a second time with widths chosen such that all levels
have about the parameters of the baseline (within 4%; a test counts them).
"""

from dataclasses import replace
from typing import Literal

from harness.study import Expected, Factor, Level, Study, Trend
from studies.baselines import DC, FC
from studies.profiles import ALTERNATING, LAPTOP, LONG, PAPER, SMOKE


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

SAME_SIZE = "Depth: FID falls along {} at the same number of parameters too."
QUALITY = "Image quality falls with fewer layers, so FID falls along depth (the founding document)."
SPEED = "Fewer layers learn faster, so this point comes later along depth (the founding document)."
BALANCE = (
    "With fewer layers D no longer outruns G: early on, D is right more often the deeper G (the founding document)."
)
LOSS = "Fewer layers lower G's loss while D is still learning: it rises along depth (the founding document)."

# Key, baseline, factor, metric and how it is expected to go along the factor; the question in words, and why.
QUESTIONS: tuple[tuple[str, str, Factor, str, Expected, str, str], ...] = (
    ("quality-dc", "dc", DC_DEPTH, "fid", "falling",
     "Do fewer layers in a DC generator lower the quality of its images?", QUALITY),
    ("quality-fc", "fc", FC_DEPTH, "fid", "falling",
     "Do fewer layers in an FC generator lower the quality of its images?", QUALITY),
    ("quality-dc-same-size", "dc", DC_DEPTH_SAME_SIZE, "fid", "falling",
     "Is it depth, or only size, in a DC generator?", SAME_SIZE.format("depth")),
    ("quality-fc-same-size", "fc", FC_DEPTH_SAME_SIZE, "fid", "falling",
     "Is it depth, or only size, in an FC generator?", SAME_SIZE.format("depth")),
    ("speed-dc", "dc", DC_DEPTH, "kimg_to_fid_300", "rising",
     "Does a DC generator with fewer layers learn faster?", SPEED),
    ("speed-fc", "fc", FC_DEPTH, "kimg_to_fid_1000", "rising",
     "Does an FC generator with fewer layers learn faster?", SPEED),
    ("loss-dc", "dc", DC_DEPTH, "g_loss_early", "rising",
     "Does a DC generator with fewer layers lower its loss while D is still learning?", LOSS),
    ("loss-fc", "fc", FC_DEPTH, "g_loss_early", "rising",
     "Does an FC generator with fewer layers lower its loss while D is still learning?", LOSS),
    ("balance-dc", "dc", DC_DEPTH, "d_accuracy_early", "rising",
     "Does D outrun a DC generator the less, the fewer layers it has?", BALANCE),
    ("balance-fc", "fc", FC_DEPTH, "d_accuracy_early", "rising",
     "Does D outrun an FC generator the less, the fewer layers it has?", BALANCE),
    ("d-depth-balance", "dc", D_DEPTH, "d_accuracy_early", "falling",
     "Do more layers slow D down?",
     "Yes, so early on D is less often right along its depth (the founding document's remedy c)."),
    ("d-depth-quality", "dc", D_DEPTH, "fid", "falling",
     "Does a deeper D give better images?",
     "Yes, if slowing D down is a remedy (the founding document's remedy c)."),
    ("d-depth-quality-same-size", "dc", D_DEPTH_SAME_SIZE, "fid", "falling",
     "Is it depth, or only size, in D?", SAME_SIZE.format("D's depth")),
)  # fmt: skip

DEPTH = Study(
    name="depth",
    title="How deep should a GAN be?",
    baselines={"dc": DC, "fc": FC},
    questions=tuple(
        # Quality at G's depths means that of trials that have settled: how fast they learn is asked on its own.
        Trend(
            key,
            baseline,
            factor,
            metric=metric,
            expected=expected,
            text=text,
            hypothesis=hypothesis,
            final=key.startswith("quality"),
        )
        for key, baseline, factor, metric, expected, text, hypothesis in QUESTIONS
    ),
    profiles=(
        SMOKE,
        LAPTOP,
        ALTERNATING,
        LONG,
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
