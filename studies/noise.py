"""How much noise should a GAN be given? Three meanings of "noise", each a factor of its own."""

from dataclasses import replace

from harness.study import Contrast, Factor, Study, SweetSpot, Trend
from studies.baselines import DC, FC, FC_BATCH_NORM, REFERENCE_FC
from studies.profiles import ALTERNATING, LAPTOP, LONG, PAPER, SMOKE

LATENT_STD = Factor.of_field("latent_std", (0.1, 0.3, 1.0, 3.0, 10.0), label="latent standard deviation σ")
LATENT_DIM = Factor.of_field("latent_dim", (2, 8, 64, 256), label="latent dimension")
INSTANCE_NOISE = Factor.of_field("instance_noise", (0.0, 0.05, 0.1, 0.2, 0.5), label="instance noise on D's input, std")

LATENT_STD_LOW = Factor.of_field("latent_std", (0.1, 0.3, 1.0), label="latent standard deviation σ")

NOISE = Study(
    name="noise",
    title="How much noise does a GAN need?",
    baselines={"dc": DC, "fc": FC, "fc-bn": FC_BATCH_NORM},
    questions=(
        Contrast(
            key="latent-std-dc",
            text="Does the scale of the latent noise matter to a DC GAN?",
            hypothesis="No: batch norm after the first layers can cancel the scale, so all levels give the same FID.",
            baseline="dc",
            factor=LATENT_STD,
            expected="equal",
        ),
        SweetSpot(
            key="latent-std-fc",
            text="Does the scale of the latent noise matter to an FC GAN?",
            hypothesis="Too little or too much noise is worse than the middle (the founding document's claim).",
            baseline="fc",
            factor=LATENT_STD,
        ),
        SweetSpot(
            key="latent-dim-dc",
            text="How many latent dimensions does a DC GAN need?",
            hypothesis="Too few cannot tell ten digits apart; too many are worse again (the founding document).",
            baseline="dc",
            factor=LATENT_DIM,
        ),
        SweetSpot(
            key="instance-noise-dc",
            text="Does noise on the images that D sees help a DC GAN?",
            hypothesis="A little slows D down and helps; much leaves visible noise in the images and a higher FID.",
            baseline="dc",
            factor=INSTANCE_NOISE,
        ),
        Contrast(
            key="balance-fc",
            text="Does another scale of the latent break the balance of G and D?",
            hypothesis="Yes: G cannot follow, and D is right more often to the end (the founding document).",
            baseline="fc",
            factor=LATENT_STD,
            expected="higher",
            metric="d_accuracy_late",
        ),
        Trend(
            key="speed-fc",
            text="Does an FC GAN converge sooner with less latent noise?",
            hypothesis="Yes: it converges quickly, though without learning (the founding document).",
            baseline="fc",
            factor=LATENT_STD_LOW,
            expected="rising",
            metric="kimg_to_settle",
        ),
        Trend(
            key="variety-fc",
            text="Does too little latent noise cost an FC GAN variety?",
            hypothesis="Yes: without noise to tell images apart, recall is lower, and rises with the noise.",
            baseline="fc",
            factor=LATENT_STD_LOW,
            expected="rising",
            metric="recall",
        ),
        Trend(
            key="visible-noise-dc",
            text="Does noise on D's input leave visible noise in a DC GAN's images?",
            hypothesis="Yes: the more noise, the fewer images that pass for real, so precision falls.",
            baseline="dc",
            factor=INSTANCE_NOISE,
            expected="falling",
            metric="precision",
        ),
    ),
    profiles=(
        SMOKE,
        LAPTOP,
        ALTERNATING,
        LONG,
        replace(
            PAPER,
            baselines={**PAPER.baselines, "fc-bn": {**REFERENCE_FC, "generator_norm": "batch"}},
            factors={"latent-dim-dc": Factor.of_field("latent_dim", (2, 16, 128, 512), label="latent dimension")},
        ),
    ),
)
