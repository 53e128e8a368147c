"""What changes over the budget, each along a cosine: learning rates, weights of penalties, Adam's second decay."""

import math

import torch

from harness.spec import TrialSpec


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end` (Loshchilov & Hutter 2017, eq. 5, without restarts).

    Args:
        start: Where progress is 0.
        end: Where it is 1.
        progress: Share of the budget spent, in [0, 1].
    """
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def is_penalised(spec: TrialSpec, step: int) -> bool:
    """Whether this step, counted from 1, has the spec's penalties: the first of each interval."""
    return (step - 1) % spec.penalty_interval == 0


def penalty_weight(spec: TrialSpec, step: int) -> float:
    """By how much the penalties of this step, counted from 1, are multiplied.

    At an interval above 1 as many times as much, since only the first of so many steps is penalised (lazy
    regularisation: Karras et al. 2020, section 3.1); and as much less as the cosine has come down (R3GAN, Huang et al.
    2024, whose weight ends at a tenth).
    """
    return spec.penalty_interval * cosine(1, spec.penalty_end, (step - 1) / spec.num_steps)


def set_optimizer(optimizer: torch.optim.Optimizer, spec: TrialSpec, rate: float, progress: float) -> None:
    """Take a player's Adam to where its schedules are; off, it is left alone.

    Args:
        optimizer: Of one player.
        spec: R3GAN ends at a fourth of the learning rate and goes from a second decay of 0.9 to 0.99, over the first
            four fifths of its budget; here both take the whole.
        rate: The player's own learning rate, at the start.
        progress: Share of the budget spent before this step.
    """
    (group,) = optimizer.param_groups
    if spec.lr_end != 1:
        group["lr"] = cosine(rate, rate * spec.lr_end, progress)
    if spec.adam_beta2_end:
        group["betas"] = (spec.adam_beta1, cosine(spec.adam_beta2, spec.adam_beta2_end, progress))
