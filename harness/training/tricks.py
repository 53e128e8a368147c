"""Stabilisation tricks: what D is shown, what it is told, and what its gradient must obey. Each is off by default.

Every trick draws from a random stream of its own, so that switching one on leaves the data order and the latents of
the trial as they were.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from architectures.contract import Registry
from harness.spec import TrialSpec
from harness.training.distributed import ALONE, Ranks
from harness.training.random import Draws, stream
from harness.training.schedules import is_penalised, penalty_weight


class Tricks:
    """The spec's tricks with their random streams; made once a trial."""

    def __init__(self, spec: TrialSpec, device: str, ranks: Ranks = ALONE) -> None:
        self.spec = spec
        names = ("instance noise", "labels", "augmentation", "gradient penalty")
        self.streams = {name: Draws(stream(spec.seed, name, device), ranks) for name in names}
        self.noise, self.labels, self.views, self.mixes = self.streams.values()
        self.augment = [AUGMENTATIONS[name] for name in spec.augmentations]

    def shown(self, images: Tensor, progress: float) -> Tensor:
        """The images as D sees them, real or fake: augmented, with instance noise. Differentiable.

        Args:
            images: (N, C, H, W) in [-1, 1].
            progress: Share of the budget spent, in [0, 1]; a linear schedule takes the noise to 0 at its end.
        """
        for augment in self.augment:
            images = augment(images, self.views)
        std = self.spec.instance_noise
        if self.spec.instance_noise_schedule == "linear":
            std *= 1 - progress
        if std == 0:
            return images
        return images + self.noise.randn(*images.shape).mul_(std)

    def judged(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """D's logits on real and on fake images: in batches of their own, or in one mixed batch.

        Without batch norm in D the two are the same.
        """
        if not self.spec.mixed_batches:
            return discriminator(real), discriminator(fake)
        real_logits, fake_logits = discriminator(torch.cat([real, fake])).split([len(real), len(fake)])
        return real_logits, fake_logits

    def targets(self, num: int, device: str | torch.device) -> tuple[Tensor, Tensor]:
        """What D is told of real and of fake images, (num, 1) each: 1 and 0, smoothed and flipped.

        Smoothed labels are drawn uniformly from their range for each image (the founding document's remedy e;
        a range of one value below 1 for real images is the one-sided smoothing of Salimans et al. 2016). A
        flipped label is the other side's (remedy f).
        """
        spec = self.spec

        def uniform(low: float, high: float) -> Tensor:
            if low == high:
                return torch.full((num, 1), low, device=device)
            return self.labels.rand(num, 1).mul_(high - low).add_(low)

        real = uniform(spec.real_label_low, spec.real_label_high)
        fake = uniform(spec.fake_label_low, spec.fake_label_high)
        if spec.label_flip_rate:
            flips = self.labels.rand(2, num, 1, dim=1) < spec.label_flip_rate
            real, fake = torch.where(flips[0], fake, real), torch.where(flips[1], real, fake)
        return real, fake

    def penalty(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, step: int
    ) -> Tensor | float:
        """What is added to D's loss: R1 and R2 (Mescheder et al. 2018), the gradient penalty (Gulrajani et al. 2017).

        Each step, or the first of so many; harness/training/schedules.py has its weight there.

        Args:
            discriminator: D, without batch norm: the penalties are of each image's own gradient.
            real: (N, C, H, W) as D was shown them.
            fake: (N, C, H, W) likewise; no gradient flows to G.
            step: From 1 on.
        """
        total: Tensor | float = 0.0
        if not is_penalised(self.spec, step):
            return total
        for gamma, images in ((self.spec.r1_gamma, real), (self.spec.r2_gamma, fake)):
            if gamma:
                total += gamma / 2 * _squared_gradient_norms(discriminator, images).mean()
        if self.spec.gradient_penalty:
            share = self.mixes.rand(len(real), 1, 1, 1)
            between = real.detach().lerp(fake.detach(), share)
            squares = _squared_gradient_norms(discriminator, between)
            flat = squares == 0  # where D is, a square root's slope would be infinite, and NaN once it meets the 0
            norms = squares.masked_fill(flat, 1).sqrt().masked_fill(flat, 0)
            total += self.spec.gradient_penalty * (norms - 1).square().mean()
        return total * penalty_weight(self.spec, step)


def _squared_gradient_norms(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """(N,) squared L2 norms of each logit's gradient by its own image, differentiable by D's weights."""
    images = images.detach().requires_grad_(True)
    (gradients,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return gradients.square().sum((1, 2, 3))


def _brightness(images: Tensor, views: Draws) -> Tensor:
    """Each image lighter or darker by up to 0.5 (a quarter of the range)."""
    return images + views.rand(len(images), 1, 1, 1).sub_(0.5)


def _translation(images: Tensor, views: Draws) -> Tensor:
    """Each image moved by up to an eighth of its side both ways; what comes in is the background, -1."""
    n, _, height, width = images.shape
    reach = max(1, height // 8)
    moves = views.randint(-reach, reach + 1, (2, n, 1, 1), dim=1)
    rows = torch.arange(height, device=images.device).view(1, -1, 1) + moves[0]
    columns = torch.arange(width, device=images.device).view(1, 1, -1) + moves[1]
    inside = ((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)).unsqueeze(1)
    index = torch.arange(n, device=images.device).view(-1, 1, 1)
    moved = images[index, :, rows.clamp(0, height - 1), columns.clamp(0, width - 1)].permute(0, 3, 1, 2)
    return torch.where(inside, moved, -1.0)


def _cutout(images: Tensor, views: Draws) -> Tensor:
    """A square of half the side blanked to 0 in each image, centred anywhere."""
    n, _, height, width = images.shape
    half = height // 4
    centres = views.rand(2, n, 1, 1, dim=1)
    rows = torch.arange(height, device=images.device).view(1, -1, 1) - (centres[0] * height).long()
    columns = torch.arange(width, device=images.device).view(1, 1, -1) - (centres[1] * width).long()
    hidden = ((rows >= -half) & (rows < half) & (columns >= -half) & (columns < half)).unsqueeze(1)
    return torch.where(hidden, 0.0, images)


AUGMENTATIONS = Registry({"brightness": _brightness, "translation": _translation, "cutout": _cutout}, "augmentation")
"""Differentiable augmentation of everything that D sees (Zhao et al. 2020, DiffAugment), in this order."""
