"""The losses of the game, on logits. Each is a pair: what D minimises and what G minimises."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True)
class GanLoss:
    """`discriminator(real_logits, fake_logits)` and `generator(fake_logits)`; logits (N, 1) -> scalar."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _nonsaturating_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    # BCE(1, σ(l)) = softplus(-l) and BCE(0, σ(l)) = softplus(l): exact, and finite for every logit.
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def _nonsaturating_generator(fake_logits: Tensor) -> Tensor:
    return softplus(-fake_logits).mean()


LOSSES: dict[str, GanLoss] = {
    # Goodfellow et al. 2014, section 3: G maximises log D(G(z)) instead of minimising log(1 - D(G(z))).
    "nonsaturating": GanLoss(_nonsaturating_discriminator, _nonsaturating_generator),
}
