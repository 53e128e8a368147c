"""How much noise should a GAN be given? Three meanings of "noise", each a factor of its own."""

from harness.study import Factor, Profile, Question, Study
from studies.baselines import DC, FC, FC_BATCH_NORM

LATENT_STD = Factor.of_field("latent_std", (0.1, 0.3, 1.0, 3.0, 10.0), label="latent standard deviation σ")
LATENT_DIM = Factor.of_field("latent_dim", (2, 8, 64, 256), label="latent dimension")
INSTANCE_NOISE = Factor.of_field("instance_noise", (0.0, 0.05, 0.1, 0.2, 0.5), label="instance noise on D's input, std")

NOISE = Study(
    name="noise",
    title="How much noise does a GAN need?",
    baselines={"dc": DC, "fc": FC, "fc-bn": FC_BATCH_NORM},
    questions=(
        Question(
            key="latent-std-dc",
            text="Does the scale of the latent noise matter to a DC GAN?",
            hypothesis="No: batch norm after the first layers can cancel the scale, so all levels give the same FID.",
            baseline="dc",
            factor=LATENT_STD,
            kind="contrast",
            expected="equal",
        ),
        Question(
            key="latent-std-fc",
            text="Does the scale of the latent noise matter to an FC GAN?",
            hypothesis="Too little or too much noise is worse than the middle (the founding document's claim).",
            baseline="fc",
            factor=LATENT_STD,
            kind="sweet-spot",
            expected="worse outside",
        ),
        Question(
            key="latent-dim-dc",
            text="How many latent dimensions does a DC GAN need?",
            hypothesis="Too few cannot tell ten digits apart; too many are worse again (the founding document).",
            baseline="dc",
            factor=LATENT_DIM,
            kind="sweet-spot",
            expected="worse outside",
        ),
        Question(
            key="instance-noise-dc",
            text="Does noise on the images that D sees help a DC GAN?",
            hypothesis="A little slows D down and helps; much leaves visible noise in the images and a higher FID.",
            baseline="dc",
            factor=INSTANCE_NOISE,
            kind="sweet-spot",
            expected="worse outside",
        ),
    ),
    profiles=(
        Profile(
            name="smoke",
            description="every code path in two minutes; its numbers mean nothing",
            changes={"dataset": "mnist-5k", "resolution": 28, "channels": 1, "kimg": 0.5},
            seeds=2,
            num_generated=500,
            core_seconds_per_trial=1.5,
        ),
        Profile(
            name="laptop",
            description="real digits, six seeds, half an hour on two cores",
            changes={"dataset": "mnist-5k", "resolution": 28, "channels": 1, "kimg": 50.0},
            seeds=6,
            num_generated=2000,
            core_seconds_per_trial=24.0,
        ),
    ),
)
