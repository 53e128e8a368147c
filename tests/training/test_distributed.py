"""A trial of two ranks is the trial of one rank with the same global batch. Two real processes over gloo."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import UserError
from harness.spec import TrialSpec
from harness.training import loop
from harness.training.checkpoint import Snapshot
from harness.training.distributed import ALONE, Ranks, SynchronisedBatchNorm, join, spread
from harness.training.loop import Diverged, train
from harness.training.random import Draws
from tests.training.test_loop import spec
from tests.training.test_resume import TRIALS, differences, save, saved


def rank_process(work: Callable[..., None], rank: int, folder: Path, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    with join(rank, 2, f"file://{folder}/rendezvous", "cpu") as ranks:
        work(ranks, folder, *arguments)


def process_group(work: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Run `work(ranks, folder, *arguments)` in two processes; all must succeed."""
    folder.mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_distributed"])
    processes = [context.Process(target=rank_process, args=(work, rank, folder, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]


def train_and_save(ranks: Ranks, folder: Path, s: TrialSpec, images: torch.Tensor, resume: Path | None) -> None:
    """Each rank's last snapshot is in `0` and `1`; rank 0 saves one a step, too."""
    loop.CHECKPOINT_SECONDS = 0.0
    done = train(
        s,
        images,
        ranks=ranks,
        resume=saved(resume) if resume else None,
        checkpoint=(lambda snapshot: save(folder / f"step {snapshot.step}", snapshot)) if ranks.rank == 0 else None,
    )
    save(folder / str(ranks.rank), done)


def on_two_ranks(s: TrialSpec, images: torch.Tensor, folder: Path, resume: Path | None = None) -> Snapshot:
    process_group(train_and_save, folder, s, images, resume)
    first, second = saved(folder / "0"), saved(folder / "1")
    statistics = () if s.sync_batch_norm else ("running_mean", "running_var")
    differ = [name for name in differences(first, second) if not name.endswith(statistics or "?")]
    assert not differ, "the ranks have come apart"
    return first


def batch_norm(s: TrialSpec) -> bool:
    return s.generator_norm == "batch" or (s.architecture == "dc" and s.discriminator_norm == "own")


def of(name: str, **changes: Any) -> tuple[TrialSpec, TrialSpec]:
    """A spec for one rank and the same for two, synchronised where it has batch norm."""
    one = spec(**{**TRIALS[name], **changes})
    return one, TrialSpec(**{**one.to_dict(), "world_size": 2, "sync_batch_norm": batch_norm(one)})


def gradients(snapshot: Snapshot) -> dict[str, torch.Tensor]:
    """After one step Adam's first moment is (1 - beta1) times the gradient."""
    return {
        f"{player}.{name}": value
        for player, moments in (("g", snapshot.g_optimizer), ("d", snapshot.d_optimizer))
        for name, value in moments.items()
        if name.endswith("exp_avg")
    }


@pytest.mark.parametrize("name", TRIALS)
def test_two_ranks_are_one(name: str, images, tmp_path: Path) -> None:
    """Gradients of the first step, and losses while rounding has not grown; with every trick, dropout included."""
    one, two = of(name, kimg=0.008 * TRIALS[name].get("discriminator_steps", 1))
    assert one.num_steps == 1
    expected, found = train(one, images), on_two_ranks(two, images, tmp_path / "gradients")
    for parameter, gradient in gradients(expected).items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(gradients(found)[parameter], gradient, rtol=1e-3, atol=1e-4 * scale + 1e-8)
    one, two = of(name, kimg=0.064)
    expected, found = train(one, images), on_two_ranks(two, images, tmp_path / "losses")
    columns = ("d_loss", "g_loss", "d_real", "d_fake", "d_accuracy")
    for ours, theirs in zip(found.curves[:4], expected.curves[:4], strict=True):
        assert [ours[c] for c in columns] == pytest.approx([theirs[c] for c in columns], rel=5e-3, abs=1e-4)
    for stream, state in expected.streams.items():
        assert torch.equal(found.streams[stream], state), f"{stream}: one rank draws what two draw"


def test_two_ranks_train_in_bfloat16(images, tmp_path: Path) -> None:
    one, two = of("dc", kimg=0.008, number_format="bfloat16")
    expected, found = train(one, images), on_two_ranks(two, images, tmp_path / "x")
    assert found.curves[0]["d_loss"] == pytest.approx(expected.curves[0]["d_loss"], rel=0.02)


def test_without_synchronisation_batch_norm_notices(images, tmp_path: Path) -> None:
    one, two = of("dc", kimg=0.032)
    apart = TrialSpec(**{**two.to_dict(), "sync_batch_norm": False})
    losses = [
        s.curves[0]["d_loss"] for s in (train(one, images), on_two_ranks(apart, images, tmp_path / "apart"))
    ]  # fmt: skip
    assert abs(losses[0] - losses[1]) > 1e-3 * losses[0]


def test_two_ranks_resume_bit_for_bit(images, tmp_path: Path) -> None:
    for name in ("fc, tricks", "dc, tricks, batch norm"):
        _, s = of(name)
        folder = tmp_path / name[:2]
        undisturbed = on_two_ranks(s, images, folder)
        resumed = on_two_ranks(s, images, tmp_path / f"{name[:2]} again", resume=folder / "step 6")
        assert not differences(resumed, undisturbed)
        assert not (tmp_path / f"{name[:2]} again" / "step 6").exists(), "it was trained from the start"


def diverge(ranks: Ranks, folder: Path, s: TrialSpec, images: torch.Tensor) -> None:
    with pytest.raises(Diverged):
        train(s, images, ranks=ranks)


def test_divergence_ends_all_ranks(images, tmp_path: Path) -> None:
    process_group(diverge, tmp_path / "x", spec(generator_lr=1e30, discriminator_lr=1e30, world_size=2), images)


def test_the_number_of_ranks_is_the_specs(images) -> None:
    with pytest.raises(UserError, match="world_size=2 does not fit the number of processes that train: 1"):
        train(spec(world_size=2), images)


# ---- the pieces ----


def share_and_normalise(ranks: Ranks, folder: Path) -> None:
    assert ranks.share(b"zero" if ranks.rank == 0 else b"other") == b"zero"
    assert ranks.share(b"") == b""
    large = bytes(range(256)) * 40_000
    assert ranks.share(large if ranks.rank == 0 else b"") == large

    tensors = [torch.full((2, 3), float(ranks.rank)), torch.tensor(ranks.rank * 2.0)]
    ranks.average(tensors)
    assert (tensors[0] == 0.5).all() and tensors[1] == 1.0

    for norm, shape in ((nn.BatchNorm1d(3), (8, 3)), (nn.BatchNorm2d(3), (8, 3, 5, 4))):
        numbers = torch.Generator().manual_seed(0)
        batch = (torch.randn(shape, generator=numbers) * 3 + 100).requires_grad_(True)
        weights = torch.randn(shape, generator=numbers)
        nn.init.normal_(norm.weight, generator=numbers)
        whole = spread(nn.Sequential(norm), ranks, sync_batch_norm=True)
        assert isinstance(whole[0], SynchronisedBatchNorm) and whole[0].weight is norm.weight
        reference = type(norm)(3)
        reference.load_state_dict(whole[0].state_dict())
        out = reference(batch)
        (out * weights).sum().backward()
        theirs, batch.grad = batch.grad, None
        mine = whole(ranks.mine(batch))
        (mine * ranks.mine(weights)).sum().backward()
        torch.testing.assert_close(mine, ranks.mine(out), rtol=1e-4, atol=1e-4)
        # Here the loss is a sum over ranks; the layer's gradient is for the mean over them.
        torch.testing.assert_close(ranks.mine(batch.grad), ranks.mine(theirs), rtol=1e-3, atol=1e-4)
        gradient = norm.weight.grad.clone()
        ranks.average([gradient])
        torch.testing.assert_close(gradient * 2, reference.weight.grad, rtol=1e-4, atol=1e-3)
        for name, value in reference.state_dict().items():
            torch.testing.assert_close(whole[0].state_dict()[name], value, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(whole.eval()(batch), reference.eval()(batch))
        half = batch.detach().bfloat16()
        expected = ranks.mine(reference.train()(half))
        torch.testing.assert_close(whole.train()(ranks.mine(half)), expected, rtol=2**-7, atol=2**-7)


def test_messages_and_batch_norm(tmp_path: Path) -> None:
    process_group(share_and_normalise, tmp_path / "x")


def test_parts_make_the_whole() -> None:
    whole, parts = torch.arange(24).view(2, 12), [Ranks(r, 3) for r in range(3)]
    assert sorted(torch.cat([r.mine(whole, 1) for r in parts], 1).flatten().tolist()) == list(range(24))
    both = torch.cat([whole, whole + 100], 1)
    for r in parts:
        assert torch.equal(r.mine(both, 1), torch.cat([r.mine(whole, 1), r.mine(whole + 100, 1)], 1))
    assert ALONE.mine(whole) is whole


def test_draws_are_parts_of_the_global_draw() -> None:
    def draws(ranks: Ranks) -> Draws:
        return Draws(torch.Generator().manual_seed(0), ranks)

    whole = draws(ALONE).randn(6, 2)
    for rank in range(3):
        assert torch.equal(draws(Ranks(rank, 3)).randn(2, 2), whole[rank::3])
        flips = draws(Ranks(rank, 3)).rand(2, 2, 1, dim=1)
        assert torch.equal(flips, draws(ALONE).rand(2, 6, 1, dim=1)[:, rank::3])
        assert draws(Ranks(rank, 3)).randint(0, 9, (2, 5, 1), dim=1).shape == (2, 5, 1)


def test_one_rank_is_left_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    layers = list(network)
    assert spread(network, ALONE, sync_batch_norm=True) is network
    assert all(a is b for a, b in zip(network, layers, strict=True))
