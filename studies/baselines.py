"""The networks that studies start from. Every value is explicit: a baseline is what it says, whatever defaults become.

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

FC_BATCH_NORM: Changes = {**FC, "generator_norm": "batch"}
FC_SMALL: Changes = {**FC, "generator_width": 39}  # at 28×28, G has as many parameters as DC's, within 1%
DC_PLAIN_D: Changes = {**DC, "discriminator_norm": "none"}
