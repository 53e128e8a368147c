"""The losses of the game, on logits. Each is a pair: what D minimises and what G minimises."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu, softplus

from architectures.contract import Registry


@dataclass(frozen=True)
class GanLoss:
    """What each player minimises.

    discriminator: (real logits, fake logits, real targets, fake targets), (N, 1) each -> scalar.
    generator: fake logits (N, 1) -> scalar.
    """

    discriminator: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    # BCE(1, σ(l)) = softplus(-l) and BCE(0, σ(l)) = softplus(l): exact, and finite for every logit.
    return (targets * softplus(-logits) + (1 - targets) * softplus(logits)).mean()


_SHIPPED = {
    # Goodfellow et al. 2014, section 3: G maximises log D(G(z)) instead of minimising log(1 - D(G(z))).
    "nonsaturating": GanLoss(
        discriminator=lambda real, fake, real_t, fake_t: _cross_entropy(real, real_t) + _cross_entropy(fake, fake_t),
        generator=lambda fake: softplus(-fake).mean(),
    ),
    # Mao et al. 2017, eq. 9 with a = 0, b = c = 1: targets are values of D's raw output.
    "least-squares": GanLoss(
        discriminator=lambda real, fake, real_t, fake_t: (
            0.5 * (real - real_t).square().mean() + 0.5 * (fake - fake_t).square().mean()
        ),
        generator=lambda fake: 0.5 * (fake - 1).square().mean(),
    ),
    # Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17. Knows no targets.
    "hinge": GanLoss(
        discriminator=lambda real, fake, real_t, fake_t: relu(1 - real).mean() + relu(1 + fake).mean(),
        generator=lambda fake: -fake.mean(),
    ),
    # Arjovsky et al. 2017, eq. 2; D must be kept smooth by a penalty or spectral norm. Knows no targets.
    "wasserstein": GanLoss(
        discriminator=lambda real, fake, real_t, fake_t: fake.mean() - real.mean(),
        generator=lambda fake: -fake.mean(),
    ),
}

LOSSES: Registry[GanLoss] = Registry(_SHIPPED, "loss")
"""One entry adds a loss."""
