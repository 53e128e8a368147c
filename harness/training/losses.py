"""The losses of the game, on logits. Each is a pair: what D minimises and what G minimises."""

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu, softplus

from architectures.contract import Registry
from harness.errors import UserError


@dataclass(frozen=True)
class GanLoss:
    """What each player minimises.

    discriminator: (real logits, fake logits, real targets, fake targets), (N, 1) each -> scalar.
    generator: (real logits, fake logits), (N, 1) each -> scalar.
    relativistic: whether G's loss looks at the real logits. Where it does not, it may be given any of the right shape,
        which saves a pass through D.

    Raises:
        UserError: `generator` takes one argument, as it did once.
    """

    discriminator: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    relativistic: bool = False

    def __post_init__(self) -> None:
        with contextlib.suppress(ValueError):  # of some functions that are not written in Python nobody can tell
            if len(inspect.signature(self.generator).parameters) == 1:
                raise UserError(
                    "a loss's `generator` takes (real logits, fake logits) now, and this one takes one argument; "
                    "write `lambda real, fake: ...` and leave `real` unused"
                )


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    # BCE(1, σ(l)) = softplus(-l) and BCE(0, σ(l)) = softplus(l): exact, and finite for every logit.
    return (targets * softplus(-logits) + (1 - targets) * softplus(logits)).mean()


_SHIPPED = {
    # Goodfellow et al. 2014, section 3: G maximises log D(G(z)) instead of minimising log(1 - D(G(z))).
    "nonsaturating": GanLoss(
        discriminator=lambda real, fake, real_t, fake_t: _cross_entropy(real, real_t) + _cross_entropy(fake, fake_t),
        generator=lambda real, fake: softplus(-fake).mean(),
    ),
    # Mao et al. 2017, eq. 9 with a = 0, b = c = 1: targets are values of D's raw output.
    "least-squares": GanLoss(
        discriminator=lambda real, fake, real_t, fake_t: (
            0.5 * (real - real_t).square().mean() + 0.5 * (fake - fake_t).square().mean()
        ),
        generator=lambda real, fake: 0.5 * (fake - 1).square().mean(),
    ),
    # Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17. Knows no targets.
    "hinge": GanLoss(
        discriminator=lambda real, fake, real_t, fake_t: relu(1 - real).mean() + relu(1 + fake).mean(),
        generator=lambda real, fake: -fake.mean(),
    ),
    # Arjovsky et al. 2017, eq. 2; D must be kept smooth by a penalty or spectral norm. Knows no targets.
    "wasserstein": GanLoss(
        discriminator=lambda real, fake, real_t, fake_t: fake.mean() - real.mean(),
        generator=lambda real, fake: -fake.mean(),
    ),
    # Jolicoeur-Martineau 2019, eq. 3, with pairs as in Sun et al. 2020, eq. 3 and 4 (RpGAN): each fake beside one real
    # image, and only the difference of their logits counts. Knows no targets.
    "relativistic": GanLoss(
        discriminator=lambda real, fake, real_t, fake_t: softplus(fake - real).mean(),
        generator=lambda real, fake: softplus(real - fake).mean(),
        relativistic=True,
    ),
}

LOSSES: Registry[GanLoss] = Registry(_SHIPPED, "loss")
"""One entry adds a loss."""
