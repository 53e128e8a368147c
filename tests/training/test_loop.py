import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from harness.errors import UserError
from harness.spec import TrialSpec
from harness.training import loop
from harness.training.checkpoint import Snapshot
from harness.training.loop import REPORT_POINTS, Diverged, build_networks, recalibrate_batch_norm, train
from harness.training.losses import LOSSES
from harness.training.random import stream
from harness.training.state import Batches
from harness.training.tricks import Tricks
from studies.baselines import DC, FC, RESNET
from tests.unit.test_spec import VALUES


def spec(architecture="fc", **changes) -> TrialSpec:
    small = {"generator_width": 8, "discriminator_width": 8, "latent_dim": 4, "batch_size": 8, "kimg": 0.16}
    return TrialSpec(**{**VALUES, **{"fc": FC, "dc": DC, "resnet": RESNET}[architecture], **small, **changes})


def same(a: Snapshot, b: Snapshot) -> bool:
    pairs = (
        (a.generator, b.generator),
        (a.generator_ema, b.generator_ema),
        (a.discriminator, b.discriminator),
    )
    columns = ("d_loss", "g_loss", "d_real", "d_fake")
    return all(torch.equal(x[k], y[k]) for x, y in pairs for k in x) and all(
        p[c] == q[c] for p, q in zip(a.curves, b.curves, strict=True) for c in columns
    )


def test_losses_are_the_founding_documents() -> None:
    """D loss = BCE(1, D(x)) + BCE(0, D(G(z))), G loss = BCE(1, D(G(z))), on logits."""
    real, fake = torch.randn(32, 1) * 5, torch.randn(32, 1) * 5
    loss = LOSSES["nonsaturating"]
    labels = torch.ones(32, 1), torch.zeros(32, 1)
    torch.testing.assert_close(
        loss.discriminator(real, fake, *labels), bce(real, torch.ones(32, 1)) + bce(fake, torch.zeros(32, 1))
    )
    torch.testing.assert_close(loss.generator(fake, fake), bce(fake, torch.ones(32, 1)))
    extreme = torch.tensor([[1e4], [-1e4]])
    assert torch.isfinite(loss.discriminator(extreme, extreme, torch.ones(2, 1), torch.zeros(2, 1))) and torch.isfinite(
        loss.generator(extreme, extreme)
    )


@pytest.mark.parametrize("architecture", ["fc", "dc"])
def test_the_networks_are_the_specs(architecture: str) -> None:
    """Every field that describes them reaches them."""
    s = spec(architecture, generator_depth=4)
    for name, value in {
        "resolution": 20, "channels": 3, "latent_dim": 5, "generator_depth": 5, "generator_width": 4,
        "generator_norm": "none" if s.generator_norm == "batch" else "batch", "generator_dropout": 0.4,
        "discriminator_depth": 2, "discriminator_width": 4, "discriminator_norm": "spectral",
        "discriminator_dropout": 0.4,
    }.items():  # fmt: skip
        assert str(build_networks(replace(s, **{name: value}))) != str(build_networks(s)), f"{name} does nothing"


@pytest.mark.parametrize("architecture", ["fc", "dc", "resnet"])
def test_one_step_is_two_plain_updates(architecture: str, images: torch.Tensor) -> None:
    """The shared pass gives what two separate backward passes through fresh graphs give."""
    s = spec(architecture, kimg=0.008, discriminator_dropout=0.0)
    assert s.num_steps == 1
    gan = build_networks(s)
    g, d = gan.generator.train(), gan.discriminator.train()
    real = next(Batches(images, s.batch_size, stream(s.seed, "data")))
    z = torch.randn(s.batch_size, s.latent_dim, generator=stream(s.seed, "latents"))
    g_adam = torch.optim.Adam(g.parameters(), lr=s.generator_lr, betas=(0.5, 0.999))
    d_adam = torch.optim.Adam(d.parameters(), lr=s.discriminator_lr, betas=(0.5, 0.999))
    bce(d(g(z)), torch.ones(8, 1)).backward()
    g_adam.step()  # G first: had D been updated before, G's gradient would be another
    d.zero_grad()
    fake = build_networks(s).generator.train()(z).detach()
    (bce(d(real), torch.ones(8, 1)) + bce(d(fake), torch.zeros(8, 1))).backward()
    d_adam.step()
    ours = train(s, images)
    for mine, theirs in ((ours.generator, g), (ours.discriminator, d)):
        for name, value in theirs.named_parameters():
            torch.testing.assert_close(mine[name], value.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["fc", "dc", "resnet"])
def test_a_trial_is_a_function_of_its_spec(architecture: str, images: torch.Tensor) -> None:
    s = spec(architecture)
    first = train(s, images)
    torch.manual_seed(12345)  # whatever the process did before
    torch.rand(7)

    def meddlesome(point: int, generator: torch.nn.Module) -> dict[str, float]:
        torch.rand(3)
        recalibrate_batch_norm(generator, s)
        return {"fid_online": 1.0}

    before = torch.get_rng_state()
    # The observer draws from the global generator, but FC's dropout must not notice: it is the loop's own fork.
    watched = train(s, images, lambda point, g: {"fid_online": 1.0})
    assert torch.equal(torch.get_rng_state(), before), "training left a trace in the global generator"
    assert same(first, watched)
    if architecture != "fc":
        assert same(first, train(s, images, meddlesome))
    assert not same(first, train(spec(architecture, seed=1), images))


def test_images_are_not_written_to(images: torch.Tensor) -> None:
    before = images.clone()
    train(spec(instance_noise=0.5), images)
    assert torch.equal(images, before)


def test_noise_leaves_the_data_order_and_latents_alone(images: torch.Tensor) -> None:
    """With next to no noise the curves are next to those without: every other stream is as it was."""
    plain, faint, loud = (train(spec(instance_noise=std), images).curves for std in (0.0, 1e-6, 0.5))
    for a, b in zip(plain, faint, strict=True):
        assert a["d_loss"] == pytest.approx(b["d_loss"], rel=1e-2)
    assert abs(plain[0]["d_loss"] - loud[0]["d_loss"]) > 1e-3, "instance noise does nothing"


def test_instance_noise_has_the_standard_deviation_it_says() -> None:
    zeros = torch.zeros(64, 1, 28, 28)
    noisy = Tricks(spec(instance_noise=0.3), "cpu").shown(zeros, 0.0)
    assert noisy.std().item() == pytest.approx(0.3, rel=0.02) and abs(noisy.mean().item()) < 0.01
    assert Tricks(spec(), "cpu").shown(zeros, 0.0) is zeros


def test_latent_std_reaches_the_generator(images: torch.Tensor) -> None:
    one, three = (train(spec(latent_std=std), images).curves[0] for std in (1.0, 3.0))
    assert abs(one["d_loss"] - three["d_loss"]) > 1e-4


@pytest.mark.parametrize(("kimg", "points"), [(0.16, 20), (0.8, REPORT_POINTS), (0.0, 0)])
def test_curves_have_a_row_a_report_point(images: torch.Tensor, kimg: float, points: int) -> None:
    snapshot = train(spec(kimg=kimg), images)
    assert len(snapshot.curves) == points
    if points:
        assert snapshot.curves[-1]["step"] == snapshot.step == math.ceil(kimg * 1000 / 8)
        assert snapshot.curves[-1]["kimg"] == pytest.approx(kimg)
        assert all(0 <= row[c] <= 1 for row in snapshot.curves for c in ("d_real", "d_fake"))


def test_no_budget_leaves_the_networks_untrained(images: torch.Tensor) -> None:
    s = spec(kimg=0.0)
    untrained = build_networks(s).generator.state_dict()
    assert all(torch.equal(untrained[k], v) for k, v in train(s, images).generator.items())


def test_moving_average_is_what_it_says(images: torch.Tensor) -> None:
    """By hand from the raw weights after each step, with a half-life of at most 5% of what was seen."""
    per_step = [train(spec(kimg=0.008 * n), images).generator["0.weight"] for n in range(4)]
    average = per_step[0]
    for n in (1, 2, 3):
        seen = 0.008 * n
        decay = 0.5 ** (0.008 / min(2.0, 0.05 * seen))
        average = decay * average + (1 - decay) * per_step[n]
    ours = train(spec(kimg=0.024), images).generator_ema["0.weight"]
    torch.testing.assert_close(ours, average, rtol=1e-5, atol=1e-7)
    raw = train(spec(kimg=0.16), images)
    assert not torch.equal(raw.generator["0.weight"], raw.generator_ema["0.weight"])


def test_recalibrated_statistics_are_plain_means() -> None:
    s = spec("dc", latent_std=1.7)
    generator = torch.nn.Sequential(torch.nn.Dropout(), *build_networks(s).generator).eval()  # which stays off
    recalibrate_batch_norm(generator, s)
    norm = next(m for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d))
    layers = list(generator)
    before = torch.nn.Sequential(*layers[: layers.index(norm)])
    latents = stream(s.seed, "recalibration")
    with torch.no_grad():
        maps = [
            before(1.7 * torch.randn(s.batch_size, s.latent_dim, generator=latents))
            for _ in range(loop.RECALIBRATION_BATCHES)
        ]
    means = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    torch.testing.assert_close(norm.running_mean, means, rtol=1e-4, atol=1e-6)
    assert norm.momentum == 0.1 and not generator.training


def test_divergence_is_noticed(images: torch.Tensor) -> None:
    with pytest.raises(Diverged, match="not finite by step"):
        train(spec(generator_lr=1e30, discriminator_lr=1e30), images)


def test_a_batch_larger_than_the_data_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(UserError, match="batch_size=128 is larger than the data set: it has 64"):
        train(spec(batch_size=128), images)


def test_an_epochs_order_lies_beside_the_images() -> None:
    """A GPU that is sent each batch's indices makes the loop wait at every step."""
    elsewhere = torch.empty(64, 1, 28, 28, dtype=torch.uint8, device="meta")
    batches = Batches(elsewhere, 8, stream(0, "data"))
    assert {index.device.type for index in batches.indices} == {"meta"} and next(batches).shape == (8, 1, 28, 28)


def test_every_image_is_seen_once_an_epoch(images: torch.Tensor) -> None:
    batches = Batches(images, 8, stream(0, "data"))
    epochs = [torch.cat([next(batches) for _ in range(8)]) for _ in range(2)]
    for epoch in epochs:
        pixels = epoch.add(1).mul(127.5).round().to(torch.uint8)
        assert sorted(map(bytes, pixels.flatten(1).numpy())) == sorted(map(bytes, images.flatten(1).numpy()))
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("norm", ["own", "spectral"])
def test_resnet_trains_under_every_loss(loss: str, norm: str, images: torch.Tensor) -> None:
    s = spec("resnet", loss=loss, discriminator_norm=norm, r1_gamma=1.0, r2_gamma=1.0, gradient_penalty=1.0)
    start, end = build_networks(s), train(s, images)
    assert end.curves[-1]["kimg"] == 0.16
    for player in ("generator", "discriminator"):
        for name, before in getattr(start, player).named_parameters():
            after = getattr(end, player)[name]
            # A logit's own offset cancels where only differences of logits count.
            assert torch.isfinite(after).all() and (before.numel() == 1 or not torch.equal(after, before)), name


GOLDEN = {
    "fc": [1.43812, 1.53986, 1.28608, 1.30457, 1.36839, 1.41441, 1.64538, 2.06615, 1.70874, 1.74657],
    "dc": [1.49035, 1.52488, 2.04712, 2.71471, 2.75459, 2.85577, 3.04486, 2.85489, 2.68595, 2.83077],
}


@pytest.mark.parametrize("architecture", ["fc", "dc"])
def test_golden_losses(architecture: str, images: torch.Tensor) -> None:
    """The first losses of each architecture. Other numbers mean that results changed: raise RESULT_VERSION."""
    curves = train(spec(architecture), images).curves[:10]
    assert [row["d_loss"] for row in curves] == pytest.approx(GOLDEN[architecture], rel=2e-3)


@pytest.mark.parametrize("tricks", [{}, {"r1_gamma": 3.0}, {"gradient_penalty": 10.0}, {"generator_steps": 2}])
@pytest.mark.parametrize("architecture", ["fc", "dc", "resnet"])
def test_the_fused_optimizer_is_adam(architecture: str, tricks: dict, images, monkeypatch) -> None:
    """It reads memory as it lies: gradients laid out otherwise than their parameter would move other weights."""
    s = spec(architecture, kimg=0.016, discriminator_norm="spectral", **tricks)
    fused = train(s, images)
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, fused, **kwargs: adam(*args, foreach=False, **kwargs))
    plain = train(s, images)
    for player in ("generator", "generator_ema", "discriminator"):
        for name, value in getattr(plain, player).items():
            torch.testing.assert_close(getattr(fused, player)[name], value, rtol=1e-4, atol=0.02 * s.discriminator_lr)
