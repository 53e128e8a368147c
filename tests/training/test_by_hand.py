"""Whole steps, written out a second time: every field that a step knows, at a value that is nobody's default."""

import copy

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from harness.spec import TrialSpec
from harness.training.loop import build_networks, train
from harness.training.random import stream
from tests.training.test_loop import spec

ODD = {
    "seed": 3, "latent_std": 1.7, "adam_beta1": 0.3, "adam_beta2": 0.9, "generator_lr": 2e-3, "discriminator_lr": 1e-3,
    "discriminator_steps": 2, "discriminator_dropout": 0.0, "real_label_low": 0.9, "real_label_high": 0.9,
    "fake_label_low": 0.2, "fake_label_high": 0.2, "instance_noise": 0.4, "instance_noise_schedule": "linear",
    "r1_gamma": 5.0, "ema_kimg": 0.016, "kimg": 0.4,
}  # fmt: skip


def by_hand(s: TrialSpec, images: torch.Tensor) -> tuple[list[torch.nn.Module], list[dict[str, float]]]:
    """G, its average and D after the budget of a spec with the fields of ODD, and the curves."""
    gan = build_networks(s)
    g, d = gan.generator.train(), gan.discriminator.train()
    average = copy.deepcopy(g).requires_grad_(False)
    g_adam = torch.optim.Adam(g.parameters(), lr=2e-3, betas=(0.3, 0.9))
    d_adam = torch.optim.Adam(d.parameters(), lr=1e-3, betas=(0.3, 0.9))
    data, latents, noise = (stream(3, name) for name in ("data", "latents", "instance noise"))
    indices, curves, steps = [], [], 25
    for step in range(1, steps + 1):
        std = 0.4 * (1 - (step - 1) / steps)
        for updates_both in (False, True):
            indices = indices or list(torch.randperm(len(images), generator=data).split(8))
            real = images[indices.pop(0)] / 127.5 - 1
            real = real + std * torch.randn(real.shape, generator=noise)
            fake = g(1.7 * torch.randn(8, 4, generator=latents))
            fake = fake + std * torch.randn(fake.shape, generator=noise)
            right, wrong = d(real), d(fake)
            g_loss = bce(wrong, torch.ones(8, 1))
            d_loss = bce(right, torch.full((8, 1), 0.9)) + bce(wrong, torch.full((8, 1), 0.2))
            shown = real.clone().requires_grad_(True)
            (slopes,) = torch.autograd.grad(d(shown).sum(), shown, create_graph=True)
            d_loss = d_loss + 5.0 / 2 * slopes.flatten(1).norm(dim=1).square().mean()
            for net, loss in ((g, g_loss), (d, d_loss)):
                weights = list(net.parameters())
                for weight, slope in zip(weights, torch.autograd.grad(loss, weights, retain_graph=True), strict=True):
                    weight.grad = slope
            d_adam.step()
            if updates_both:
                g_adam.step()
        half_life = min(0.016, 0.05 * 0.016 * step)  # thousand images
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), g.parameters(), strict=True):
                mean.lerp_(weight, 1 - 0.5 ** (0.016 / half_life))
        answers = torch.cat([right > 0, wrong < 0]).float().mean()
        row = {"d_loss": d_loss, "g_loss": g_loss, "d_real": right.sigmoid().mean(), "d_fake": wrong.sigmoid().mean()}
        curves.append({name: value.item() for name, value in {**row, "d_accuracy": answers}.items()})
    return [g, average, d], curves


def test_many_steps_by_hand(images: torch.Tensor) -> None:
    s = spec("fc", **ODD)
    networks, curves = by_hand(s, images)
    ours = train(s, images)
    assert len(ours.curves) == len(curves) == 25
    for mine, theirs in zip(ours.curves, curves, strict=True):
        assert {name: mine[name] for name in theirs} == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    for mine, theirs in zip((ours.generator, ours.generator_ema, ours.discriminator), networks, strict=True):
        for name, value in theirs.named_parameters():
            torch.testing.assert_close(mine[name], value.detach(), rtol=1e-3, atol=1e-4)
    apart = max(float((ours.generator[k] - v).abs().max()) for k, v in ours.generator_ema.items())
    assert apart > 1e-3, "the average is not told from the weights"


@pytest.mark.parametrize("loss", ["nonsaturating", "relativistic"])
@pytest.mark.parametrize("fresh", [False, True])
def test_alternating_steps_by_hand(loss: str, fresh: bool, images: torch.Tensor) -> None:
    """As a tutorial writes it: D on two batches, then G twice, by the D of then; R1 and R2 at every other step."""
    s = spec(
        "fc", loss=loss, update_rule="alternating", fresh_latents=fresh, discriminator_steps=2, generator_steps=2,
        r1_gamma=5.0, r2_gamma=3.0, penalty_interval=2, discriminator_dropout=0.0, kimg=0.16, seed=3,
    )  # fmt: skip
    gan = build_networks(s)
    g, d = gan.generator.train(), gan.discriminator.train()
    g_adam, d_adam = (
        torch.optim.Adam(n.parameters(), lr=rate, betas=(s.adam_beta1, s.adam_beta2))
        for n, rate in ((g, s.generator_lr), (d, s.discriminator_lr))
    )
    data, latents, indices, losses = stream(3, "data"), stream(3, "latents"), [], []

    def d_of_pair(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        if loss == "relativistic":
            return -(d(real) - d(fake)).sigmoid().log().mean()
        return bce(d(real), torch.ones(8, 1)) + bce(d(fake), torch.zeros(8, 1))

    def g_of_pair(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        if loss == "relativistic":
            return -(d(fake) - d(real)).sigmoid().log().mean()
        return bce(d(fake), torch.ones(8, 1))

    def penalty(images: torch.Tensor, gamma: float) -> torch.Tensor:
        images = images.detach().clone().requires_grad_(True)
        (slopes,) = torch.autograd.grad(d(images).sum(), images, create_graph=True)
        return gamma / 2 * slopes.flatten(1).norm(dim=1).square().mean()

    for step in range(1, 11):
        for _ in range(2):
            indices = indices or list(torch.randperm(len(images), generator=data).split(8))
            real, fake = images[indices.pop(0)] / 127.5 - 1, g(torch.randn(8, 4, generator=latents))
            d_loss = d_of_pair(real, fake.detach())
            if step % 2:
                d_loss = d_loss + 2 * (penalty(real, 5.0) + penalty(fake, 3.0))
            d_adam.zero_grad()
            d_loss.backward()
            d_adam.step()
        for update in range(2):
            if fresh or update:
                fake = g(torch.randn(8, 4, generator=latents))
            g_loss = g_of_pair(real, fake)
            g_adam.zero_grad()
            g_loss.backward()
            g_adam.step()
        losses.append((d_loss.item(), g_loss.item()))

    ours = train(s, images)
    assert [(row["d_loss"], row["g_loss"]) for row in ours.curves] == [pytest.approx(row, rel=1e-3) for row in losses]
    for mine, theirs in ((ours.generator, g), (ours.discriminator, d)):
        for name, value in theirs.named_parameters():
            torch.testing.assert_close(mine[name], value.detach(), rtol=1e-3, atol=1e-4)


def test_schedules_by_hand(images: torch.Tensor) -> None:
    """Rates, penalties, Adam's second decay and the average's ramp, at four steps."""
    s = spec(
        "resnet", r1_gamma=5.0, r2_gamma=3.0, penalty_end=0.1, lr_end=0.25, adam_beta2=0.9, adam_beta2_end=0.98,
        ema_kimg=0.1, ema_ramp=0.5, generator_lr=4e-3, discriminator_lr=2e-3, kimg=0.032, seed=3,
    )  # fmt: skip
    gan = build_networks(s)
    g, d = gan.generator.train(), gan.discriminator.train()
    average = copy.deepcopy(g).requires_grad_(False)
    data, latents, losses = stream(3, "data"), stream(3, "latents"), []
    indices = list(torch.randperm(len(images), generator=data).split(8))
    squares, changes = {net: [torch.zeros_like(p) for p in net.parameters()] for net in (g, d)}, {}

    def slopes(images: torch.Tensor) -> torch.Tensor:
        images = images.detach().clone().requires_grad_(True)
        (found,) = torch.autograd.grad(d(images).sum(), images, create_graph=True)
        return found.flatten(1).norm(dim=1).square().mean()

    # Half a cosine at 0, 1/4, 1/2 and 3/4 of its way.
    for step, left in enumerate([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4], start=1):
        weight, share, beta2 = 0.1 + 0.9 * left, 0.25 + 0.75 * left, 0.98 - 0.08 * left
        real, fake = images[indices.pop(0)] / 127.5 - 1, g(torch.randn(8, 4, generator=latents))
        d_loss = bce(d(real), torch.ones(8, 1)) + bce(d(fake), torch.zeros(8, 1))
        d_loss = d_loss + weight * (5.0 / 2 * slopes(real) + 3.0 / 2 * slopes(fake))
        g_loss = bce(d(fake), torch.ones(8, 1))
        for net, loss, rate in ((g, g_loss, 4e-3), (d, d_loss, 2e-3)):
            weights = list(net.parameters())
            found = torch.autograd.grad(loss, weights, retain_graph=True)
            for grad, second in zip(found, squares[net], strict=True):
                second.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            changes[net] = [  # Adam without momentum
                share * rate * grad / ((second / (1 - beta2**step)).sqrt() + 1e-8)
                for grad, second in zip(found, squares[net], strict=True)
            ]
        with torch.no_grad():
            for net in (g, d):
                for p, change in zip(net.parameters(), changes[net], strict=True):
                    p.sub_(change)
            half_life = min(0.1, 0.5 * 0.008 * step)
            for mean, p in zip(average.parameters(), g.parameters(), strict=True):
                mean.lerp_(p, 1 - 0.5 ** (0.008 / half_life))
        losses.append((d_loss.item(), g_loss.item()))

    ours = train(s, images)
    assert [(row["d_loss"], row["g_loss"]) for row in ours.curves] == [pytest.approx(row, rel=1e-3) for row in losses]
    for mine, theirs in zip((ours.generator, ours.generator_ema, ours.discriminator), (g, average, d), strict=True):
        for name, value in theirs.named_parameters():
            torch.testing.assert_close(mine[name], value.detach(), rtol=1e-3, atol=1e-4)
