"""The networks that studies start from. Every value is explicit: a baseline is what it says, whatever defaults become.

DC and FC fit digits and a laptop; REFERENCE_DC and REFERENCE_FC are the founding document's own, at their own sizes.
Learning rates and batch size were chosen on one seed each, before any study ran (docs/log.md has the tries); they
are the same for all arms of a study, whatever its factor.
"""

from harness.study import Changes

DC: Changes = {
    "architecture": "dc",
    "latent_dim": 64,
    "generator_depth": 2,
    "generator_width": 16,
    "generator_norm": "batch",
    "generator_dropout": 0.0,
    "discriminator_depth": 3,
    "discriminator_width": 16,
    "discriminator_dropout": 0.0,
    "loss": "nonsaturating",
    "batch_size": 32,
    "generator_lr": 2e-3,
    "discriminator_lr": 2e-3,
    "adam_beta1": 0.5,
    "adam_beta2": 0.999,
    "ema_kimg": 2.0,
}

# As in the founding document: no batch norm, so that nothing cancels the latent's scale.
FC: Changes = {
    "architecture": "fc",
    "latent_dim": 64,
    "generator_depth": 3,
    "generator_width": 128,
    "generator_norm": "none",
    "generator_dropout": 0.0,
    "discriminator_depth": 3,
    "discriminator_width": 128,
    "discriminator_dropout": 0.3,
    "loss": "nonsaturating",
    "batch_size": 32,
    "generator_lr": 1e-3,
    "discriminator_lr": 1e-3,
    "adam_beta1": 0.5,
    "adam_beta2": 0.999,
    "ema_kimg": 2.0,
}

# Residual networks without normalisation. Trained as R3GAN trains (Huang et al. 2024): Adam without momentum.
RESNET: Changes = {
    "architecture": "resnet",
    "latent_dim": 64,
    "generator_depth": 2,
    "generator_width": 16,
    "generator_norm": "none",
    "generator_dropout": 0.0,
    "discriminator_depth": 2,
    "discriminator_width": 16,
    "discriminator_dropout": 0.0,
    "loss": "nonsaturating",
    "batch_size": 32,
    "generator_lr": 1e-3,
    "discriminator_lr": 1e-3,
    "adam_beta1": 0.0,
    "adam_beta2": 0.99,
    "ema_kimg": 2.0,
}

FC_BATCH_NORM: Changes = {**FC, "generator_norm": "batch"}
FC_SMALL: Changes = {**FC, "generator_width": 39}  # at 28×28, G has as many parameters as DC's, within 1%
DC_PLAIN_D: Changes = {**DC, "discriminator_norm": "none"}

# The founding document's networks, layer by layer (tests hold them to its tables). It gives no learning rates, dropout
# rates or decay of the optimizer: rate and decay are DCGAN's (Radford et al. 2015), dropout is ours.
REFERENCE_FC: Changes = {
    "resolution": 56,
    "channels": 1,
    "architecture": "fc",
    "latent_dim": 100,
    "generator_depth": 3,
    "generator_width": 256,
    "generator_norm": "none",
    "generator_dropout": 0.0,
    "discriminator_depth": 3,
    "discriminator_width": 256,
    "discriminator_dropout": 0.3,
    "loss": "nonsaturating",
    "batch_size": 256,
    "generator_lr": 2e-4,
    "discriminator_lr": 2e-4,
    "adam_beta1": 0.5,
    "adam_beta2": 0.999,
    "ema_kimg": 10.0,
}

REFERENCE_DC: Changes = {
    "resolution": 96,
    "channels": 3,
    "architecture": "dc",
    "latent_dim": 128,
    "generator_depth": 5,
    "generator_width": 32,
    "generator_norm": "batch",
    "generator_dropout": 0.3,
    "discriminator_depth": 4,
    "discriminator_width": 64,
    "discriminator_dropout": 0.0,
    "loss": "nonsaturating",
    "batch_size": 128,
    "generator_lr": 2e-4,
    "discriminator_lr": 2e-4,
    "adam_beta1": 0.5,
    "adam_beta2": 0.999,
    "ema_kimg": 10.0,
}

# To be compared, both must make the same images: the reference FC network at the reference DC network's size.
FC_AT_96: Changes = {**REFERENCE_FC, "resolution": 96, "channels": 3, "latent_dim": 128, "batch_size": 128}
