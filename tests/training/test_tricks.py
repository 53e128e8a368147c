"""Each trick does what it says, and something: every test here fails if its trick silently does nothing."""

from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import nn

import architectures
from architectures import GanPair
from harness.spec import TrialSpec
from harness.training import loop
from harness.training.distributed import ALONE
from harness.training.loop import build_networks, train
from harness.training.losses import LOSSES
from harness.training.random import Draws, stream
from harness.training.state import Adam, Batches, State
from harness.training.tricks import AUGMENTATIONS, Tricks
from tests.training.test_loop import same, spec

ON = {  # every trick
    "several G updates": {"generator_steps": 3},
    "several D updates": {"discriminator_steps": 3},
    "alternating": {"update_rule": "alternating"},
    "alternating, fresh latents": {"fresh_latents": True},
    "mixed batches": {"mixed_batches": True},
    "mixed batches, for G too": {"mixed_batches": True, "mixed_generator": True},
    "one-sided smoothing": {"real_label_low": 0.9, "real_label_high": 0.9},
    "random smoothing": {"real_label_low": 0.8, "real_label_high": 1.1, "fake_label_high": 0.2},
    "label flips": {"label_flip_rate": 0.2},
    "instance noise": {"instance_noise": 0.3},
    "instance noise taken down": {"instance_noise_schedule": "linear"},
    "spectral norm": {"discriminator_norm": "spectral"},
    "no norm": {"discriminator_norm": "none"},
    "R1": {"r1_gamma": 10.0},
    "R2": {"r2_gamma": 10.0},
    "R1 at every other step": {"penalty_interval": 2},
    "R1 taken down": {"penalty_end": 0.1},
    "learning rates taken down": {"lr_end": 0.25},
    "Adam's second decay raised": {"adam_beta2_end": 0.9999},
    "average without a ramp": {"ema_ramp": 1000.0},
    "gradient penalty": {"gradient_penalty": 10.0},
    "gradient clipping": {"gradient_clip": 0.01},
    "translation": {"augmentation": "translation"},
    "cutout": {"augmentation": "cutout"},
    "brightness": {"augmentation": "brightness"},
    "two learning rates": {"discriminator_lr": 5e-4},
    "hinge": {"loss": "hinge"},
    "least squares": {"loss": "least-squares"},
    "Wasserstein": {"loss": "wasserstein"},
    "relativistic": {"loss": "relativistic"},
    "relativistic, alternating": {"loss": "relativistic"},
    "slower average": {"ema_kimg": 0.001},
}
NEEDS = {  # what is there already when it is switched on
    "instance noise taken down": {"instance_noise": 0.3},
    "alternating, fresh latents": {"update_rule": "alternating"},
    "relativistic, alternating": {"update_rule": "alternating"},
    "R1": {"discriminator_norm": "none"},
    "R2": {"discriminator_norm": "none"},
    "R1 at every other step": {"discriminator_norm": "none", "r1_gamma": 10.0},
    "R1 taken down": {"discriminator_norm": "none", "r1_gamma": 10.0},
    "gradient penalty": {"discriminator_norm": "none"},
    "Wasserstein": {"discriminator_norm": "spectral"},
    "mixed batches, for G too": {"mixed_batches": True},
}


@pytest.mark.parametrize("name", ON)
def test_every_trick_changes_the_result_and_repeats(name: str, images: torch.Tensor) -> None:
    off = spec("dc", kimg=0.064, **NEEDS.get(name, {}))
    s = replace(off, **ON[name])
    on = train(s, images)
    assert not same(on, train(off, images))
    assert same(on, train(s, images))
    assert all(0 <= row["d_accuracy"] <= 1 for row in on.curves)


def test_tricks_compose(images: torch.Tensor) -> None:
    everything = {
        "generator_steps": 2, "discriminator_steps": 2, "real_label_low": 0.8, "fake_label_high": 0.1,
        "label_flip_rate": 0.1, "instance_noise": 0.1, "instance_noise_schedule": "linear",
        "discriminator_norm": "spectral", "r1_gamma": 1.0, "gradient_penalty": 1.0, "gradient_clip": 1.0,
        "augmentation": "brightness+translation+cutout",
    }  # fmt: skip
    for architecture in ("fc", "dc"):
        curves = train(spec(architecture, kimg=0.064, **everything), images).curves
        assert len(curves) == 4


def count_updates(monkeypatch: pytest.MonkeyPatch) -> dict[float, int]:
    counts: dict[float, int] = {}
    update = loop.update

    def counting(optimizer, *rest) -> None:
        lr = optimizer.param_groups[0]["lr"]
        counts[lr] = counts.get(lr, 0) + 1
        update(optimizer, *rest)

    monkeypatch.setattr(loop, "update", counting)
    return counts


@pytest.mark.parametrize(("g_steps", "d_steps"), [(1, 1), (3, 1), (1, 2), (2, 2)])
def test_updates_and_budget(g_steps: int, d_steps: int, images, monkeypatch) -> None:
    """The budget is of real images: twice the updates of D a step is half the steps, each on a batch of its own."""
    counts, batches = count_updates(monkeypatch), []
    following = Batches.__next__
    monkeypatch.setattr(Batches, "__next__", lambda self: batches.append(following(self)) or batches[-1])
    s = spec(kimg=0.064, generator_steps=g_steps, discriminator_steps=d_steps, generator_lr=1e-3, discriminator_lr=2e-3)
    curves = train(s, images).curves
    assert counts[2e-3] == 8  # 64 images in batches of 8, however they are shared out
    assert len(batches) == 8 and counts[1e-3] == 8 * g_steps // d_steps
    assert curves[-1]["kimg"] == pytest.approx(0.064)


def test_mixed_batches_differ_through_batch_norm_alone() -> None:
    def gap(norm: str | None) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            d = architectures.build(
                "dc", resolution=28, channels=1, latent_dim=2, discriminator_width=4, discriminator_norm=norm
            ).discriminator.train()
            real, fake = torch.randn(8, 1, 28, 28), torch.randn(8, 1, 28, 28) * 3
        separate = Tricks(spec("dc"), "cpu").judged(d, real, fake)
        mixed = Tricks(spec("dc", mixed_batches=True), "cpu").judged(d, real, fake)
        return max((a - b).abs().max().item() for a, b in zip(separate, mixed, strict=True))

    assert gap("none") < 1e-5 < 1e-2 < gap(None)


def targets(num: int = 20_000, **changes) -> tuple[torch.Tensor, torch.Tensor]:
    return Tricks(spec(**changes), "cpu").targets(num, "cpu")


def test_labels_are_one_and_zero_by_default() -> None:
    real, fake = targets()
    assert (real == 1).all() and (fake == 0).all() and real.shape == (20_000, 1)


def test_smoothed_labels_are_drawn_from_their_ranges() -> None:
    real, fake = targets(real_label_low=0.7, real_label_high=1.2, fake_label_low=0.0, fake_label_high=0.3)
    assert 0.7 <= real.min() < 0.71 and 1.19 < real.max() <= 1.2 and real.mean().item() == pytest.approx(0.95, abs=0.01)
    assert 0.0 <= fake.min() < 0.01 and 0.29 < fake.max() <= 0.3 and fake.mean().item() == pytest.approx(0.15, abs=0.01)
    real, fake = targets(real_label_low=0.9, real_label_high=0.9)
    assert (real == 0.9).all() and (fake == 0).all()


def test_labels_are_flipped_at_their_rate() -> None:
    real, fake = targets(label_flip_rate=0.1)
    for flipped in ((real == 0), (fake == 1)):
        assert flipped.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert ((real == 0) & (fake == 1)).float().mean().item() == pytest.approx(0.01, abs=0.005), "each side on its own"


def test_flipped_labels_are_as_soft() -> None:
    real, fake = targets(
        label_flip_rate=0.1, real_label_low=0.9, real_label_high=0.9, fake_label_low=0.2, fake_label_high=0.2
    )
    for labels, own, other in ((real, 0.9, 0.2), (fake, 0.2, 0.9)):
        assert ((labels == own) | (labels == other)).all() and 0.08 < (labels == other).float().mean() < 0.12


def test_every_stream_is_of_its_seed() -> None:
    one, other = (Tricks(spec(seed=seed), "cpu").streams for seed in (0, 1))
    for name, draws in one.items():
        assert not torch.equal(draws.generator.get_state(), other[name].generator.get_state()), name


def test_noise_schedule_ends_at_nothing() -> None:
    zeros = torch.zeros(64, 1, 28, 28)
    tricks = Tricks(spec(instance_noise=0.4, instance_noise_schedule="linear"), "cpu")
    stds = [tricks.shown(zeros, progress).std().item() for progress in (0.0, 0.5, 1.0)]
    assert stds == pytest.approx([0.4, 0.2, 0.0], abs=0.01)
    constant = Tricks(spec(instance_noise=0.4), "cpu")
    assert constant.shown(zeros, 1.0).std().item() == pytest.approx(0.4, abs=0.01)


class Linear(nn.Module):
    """A D whose gradients are known: logit = w·x."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, size))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1) * self.weight).sum(1, keepdim=True)


def test_penalties_by_hand() -> None:
    """For a linear D every image's gradient is w: R1 = gamma/2·|w|², GP = lambda·(|w| - 1)²."""
    d, real, fake = Linear(16), torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4)
    square = d.weight.detach().square().sum()
    r1 = Tricks(spec(r1_gamma=3.0), "cpu").penalty(d, real, fake, 1)
    torch.testing.assert_close(r1.detach(), 1.5 * square)
    (slope,) = torch.autograd.grad(r1, d.weight)
    torch.testing.assert_close(slope, 3.0 * d.weight.detach())
    gp = Tricks(spec(gradient_penalty=10.0), "cpu").penalty(d, real, fake, 1)
    torch.testing.assert_close(gp.detach(), 10 * (square.sqrt() - 1) ** 2)
    r2 = Tricks(spec(r2_gamma=3.0), "cpu").penalty(lambda images: images.square() @ torch.eye(4), real, fake, 1)
    torch.testing.assert_close(r2, 1.5 * (2 * fake).square().sum((1, 2, 3)).mean())
    assert Tricks(spec(), "cpu").penalty(d, real, fake, 1) == 0.0


def test_lazy_penalties_keep_their_mean() -> None:
    d, real, fake = Linear(16), torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4)
    lazy = Tricks(spec(r1_gamma=3.0, penalty_interval=4), "cpu")
    found = [float(torch.as_tensor(lazy.penalty(d, real, fake, step)).detach()) for step in range(1, 9)]
    assert found == pytest.approx([4 * 1.5 * float(d.weight.detach().square().sum()), 0, 0, 0] * 2)


def test_a_flat_discriminator_has_no_nan() -> None:
    d = Linear(16)
    with torch.no_grad():
        d.weight.zero_()
    gp = Tricks(spec(gradient_penalty=10.0), "cpu").penalty(d, torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4), 1)
    (slope,) = torch.autograd.grad(gp, d.weight)
    assert gp == 10 and (slope == 0).all()


@pytest.mark.parametrize("penalty", [{"r1_gamma": 1000.0}, {"gradient_penalty": 10.0}])
def test_penalties_are_part_of_the_loss(penalty: dict[str, float], images: torch.Tensor) -> None:
    """At the first step, where both trials have the same weights, by hand: a later step differs by a rounding, too."""
    off = spec("dc", kimg=0.008, discriminator_norm="none")
    on = replace(off, **penalty)
    gan = build_networks(on)
    real = next(Batches(images, on.batch_size, stream(on.seed, "data")))
    fake = gan.generator(torch.randn(on.batch_size, on.latent_dim, generator=stream(on.seed, "latents")))
    expected = torch.as_tensor(Tricks(on, "cpu").penalty(gan.discriminator, real, fake, 1)).item()
    with_it, without = (train(s, images).curves[0]["d_loss"] for s in (on, off))
    assert with_it - without == pytest.approx(expected, rel=1e-3) and expected > 0.01


def test_gradient_penalty_is_taken_between_real_and_fake() -> None:
    seen = []

    class Watching(Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.detach())
            return super().forward(images)

    zeros, ones = torch.zeros(500, 1, 4, 4), torch.ones(500, 1, 4, 4)
    Tricks(spec(gradient_penalty=1.0), "cpu").penalty(Watching(16), zeros, ones, 1)
    (between,) = seen
    shares = between[:, 0, 0, 0]
    assert (between == shares.view(-1, 1, 1, 1)).all(), "one share an image"
    assert shares.min() >= 0 and shares.max() <= 1 and shares.std() > 0.25


def test_spectral_norm_is_one() -> None:
    for architecture in ("fc", "dc"):
        d = build_networks(spec(architecture, discriminator_norm="spectral")).discriminator.train()
        for _ in range(100):
            d(torch.randn(4, 1, 28, 28))
        for module in d.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                value = torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2).item()
                assert value == pytest.approx(1, abs=0.02)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in d.modules())


def test_clipping_bounds_each_players_gradient(images, monkeypatch) -> None:
    def norms(**changes) -> list[float]:
        found = []
        step = Adam.step

        def watched(self, *rest):
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            found.append(torch.stack([g.norm() for g in grads]).norm().item())
            return step(self, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(Adam, "step", watched)
            train(spec(kimg=0.032, **changes), images)
        return found

    steps = {"generator_steps": 2, "discriminator_steps": 2}
    clipped, free = norms(gradient_clip=0.05, **steps), norms(**steps)
    assert max(clipped) <= 0.0501 < min(free) and len(clipped) == len(free) == 8, "whichever player's, whichever step's"


@pytest.mark.parametrize(("mixed", "passes"), [(False, 2 * 2 + 1), (True, 2 + 1 + 1)])
def test_all_that_the_discriminator_sees_is_augmented(mixed: bool, passes: int, images, monkeypatch) -> None:
    """Real and fake, in further steps too, each on fakes of its own; where D learns from mixed batches, G does not."""
    made, seen = [], []

    def watched(spec: TrialSpec) -> GanPair:
        gan = build_networks(spec)
        gan.generator.register_forward_pre_hook(lambda _, latents: made.append(latents[0][0, 0].item()))
        gan.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].min().item()))
        return gan

    monkeypatch.setitem(AUGMENTATIONS, "lifted", lambda images, views: images + 10)
    monkeypatch.setattr(loop, "build_networks", watched)
    monkeypatch.setattr(loop, "recalibrate_batch_norm", lambda generator, spec: None)  # draws latents, too, at the end
    steps = {"generator_steps": 2, "discriminator_steps": 2, "mixed_batches": mixed}
    train(spec("dc", kimg=0.032, augmentation="lifted", code="0" * 16, **steps), images)
    assert min(seen) >= 9 and len(seen) == 2 * passes
    assert len(set(made)) == len(made) == 2 * 3


def test_every_purpose_has_its_random_stream(images: torch.Tensor) -> None:
    state = State(spec(), build_networks(spec()), images, "cpu", ALONE)
    generators = [state.batches.order, *(draws.generator for draws in state.streams.values())]
    assert len({bytes(generator.get_state().numpy()) for generator in generators}) == len(generators) == 6


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_move_images_and_let_gradients_through(name: str) -> None:
    tricks = Tricks(spec(augmentation=name), "cpu")
    pictures = torch.rand(64, 2, 28, 28).requires_grad_(True)
    out = tricks.shown(pictures, 0.0)
    assert out.shape == pictures.shape and not torch.equal(out, pictures)
    changed = (out != pictures).flatten(1).any(1).float().mean()
    assert changed > 0.9, "each image of its own"
    (gradient,) = torch.autograd.grad(out.sum(), pictures)
    assert gradient.abs().sum() > 0


def test_augmentations_by_their_definitions() -> None:
    views = Draws(torch.Generator().manual_seed(0))
    flat = torch.full((200, 1, 32, 32), 0.25)
    shift = AUGMENTATIONS["brightness"](flat, views) - flat
    assert (shift == shift[:, :, :1, :1]).all() and -0.5 <= shift.min() < -0.45 and 0.45 < shift.max() <= 0.5
    cut = AUGMENTATIONS["cutout"](flat, views)[:, 0] == 0
    hidden = cut.sum((1, 2))
    assert hidden.max() == 16 * 16 and hidden.min() >= 8 * 8
    tops, lefts = (cut.any(side).float().argmax(1).double() for side in (2, 1))
    assert abs(torch.corrcoef(torch.stack([tops, lefts]))[0, 1]) < 0.3, "centred anywhere, not on the diagonal"
    point = torch.full((200, 1, 32, 32), -1.0)
    point[:, :, 16, 16] = 1.0
    moved = AUGMENTATIONS["translation"](point, views)
    assert (moved == 1).sum() == 200 and ((moved == 1) | (moved == -1)).all()
    _, rows, columns = (moved[:, 0] == 1).nonzero().T
    assert rows.min() == columns.min() == 12 and rows.max() == columns.max() == 20
    assert abs(torch.corrcoef(torch.stack([rows, columns]).double())[0, 1]) < 0.3
    came_in = (AUGMENTATIONS["translation"](flat, Draws(torch.Generator().manual_seed(0))) == -1).sum((1, 2, 3))
    assert came_in.max() == 32 * 32 - 28 * 28 and (came_in > 0).float().mean() > 0.9, "background"


@pytest.mark.parametrize(
    ("loss", "d_value", "g_value"),
    [
        ("hinge", (0 + 0.5) / 2 + (3 + 0.5) / 2, -(2.0 - 0.5) / 2),
        ("least-squares", 0.5 * (1 + 0.25) / 2 + 0.5 * (4 + 0.25) / 2, 0.5 * (1 + 2.25) / 2),
        ("wasserstein", (2.0 - 0.5) / 2 - (2.0 + 0.5) / 2, -(2.0 - 0.5) / 2),
        ("relativistic", (log(1 + exp(0.0)) + log(1 + exp(-1.0))) / 2, (log(1 + exp(0.0)) + log(1 + exp(1.0))) / 2),
    ],
)
def test_losses_by_hand(loss: str, d_value: float, g_value: float) -> None:
    real, fake = torch.tensor([[2.0], [0.5]]), torch.tensor([[2.0], [-0.5]])
    found = LOSSES[loss].discriminator(real, fake, torch.ones(2, 1), torch.zeros(2, 1))
    assert found.item() == pytest.approx(d_value)
    assert LOSSES[loss].generator(real, fake).item() == pytest.approx(g_value)


def test_soft_targets_reach_the_losses_that_have_them() -> None:
    real, fake = torch.randn(64, 1), torch.randn(64, 1)
    soft, zero = torch.full((64, 1), 0.7), torch.zeros(64, 1)
    expected = nn.functional.binary_cross_entropy_with_logits
    found = LOSSES["nonsaturating"].discriminator(real, fake, soft, zero)
    torch.testing.assert_close(found, expected(real, soft) + expected(fake, zero))
    hard = LOSSES["least-squares"].discriminator(real, fake, torch.ones(64, 1), zero)
    assert LOSSES["least-squares"].discriminator(real, fake, soft, zero) != hard
