"""bfloat16: what is rounded and what is not, that a resumed trial is the same, and who refuses it."""

import pytest
import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.training import number_format
from harness.training.checkpoint import Snapshot
from harness.training.loop import train
from harness.training.number_format import in_format, require_format
from tests.training.test_loop import spec

TINY = {"generator_width": 8, "discriminator_width": 8, "latent_dim": 8, "batch_size": 16, "kimg": 0.32}


def rounded(values: Tensor) -> Tensor:
    return values.bfloat16().double()


def test_products_of_rounded_numbers_by_hand() -> None:
    torch.manual_seed(0)
    dense, batch = nn.Linear(64, 3), torch.randn(5, 64)
    dense.bias.data.normal_()
    exact = rounded(batch) @ rounded(dense.weight).T + rounded(dense.bias)
    passed = in_format(dense, "bfloat16", "cpu")(batch)
    assert passed.dtype == torch.float32
    torch.testing.assert_close(passed.double(), exact, rtol=2**-8, atol=2**-8 * exact.abs().max().item())
    assert torch.equal(passed, passed.bfloat16().float())  # the result is rounded, too
    assert not torch.equal(passed, dense(batch))


def test_float32_is_the_network_itself() -> None:
    dense = nn.Linear(2, 2)
    assert in_format(dense, "float32", "cpu") is dense


def test_gradients_arrive_in_float32() -> None:
    dense = nn.Linear(64, 1)
    in_format(dense, "bfloat16", "cpu")(torch.randn(8, 64)).sum().backward()
    assert dense.weight.grad is not None and dense.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("architecture", ["dc", "fc"])
def test_state_stays_float32(architecture: str, images: Tensor) -> None:
    single = train(spec(architecture, **TINY), images)
    half = train(spec(architecture, number_format="bfloat16", **TINY), images)
    for part in ("generator", "generator_ema", "discriminator", "g_optimizer", "d_optimizer"):
        for name, value in getattr(half, part).items():
            assert value.dtype == getattr(single, part)[name].dtype, name
    first, other = half.curves[0], single.curves[0]
    assert first["d_loss"] != other["d_loss"]
    assert first["d_loss"] == pytest.approx(other["d_loss"], rel=0.02)
    weight = next(name for name in half.generator if name.endswith("weight"))
    assert not torch.equal(half.generator[weight], half.generator[weight].bfloat16().float())


def test_resumed_it_is_the_same(images: Tensor) -> None:
    half = spec("dc", number_format="bfloat16", r1_gamma=1.0, discriminator_norm="spectral", **TINY)
    kept: list[Snapshot] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.training.loop.CHECKPOINT_SECONDS", 0.0)
        whole = train(half, images, checkpoint=kept.append)
    resumed = train(half, images, resume=kept[len(kept) // 2])
    for part in ("generator", "generator_ema", "discriminator"):
        for name, value in getattr(whole, part).items():
            assert torch.equal(value, getattr(resumed, part)[name]), name


def test_it_is_another_trial() -> None:
    assert spec("dc", number_format="bfloat16").trial_id != spec("dc").trial_id
    assert spec("dc", number_format="float32").trial_id == spec("dc").trial_id


def test_refused_without_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_format.torch.cpu, "get_capabilities", lambda: {"avx2": True})
    require_format("float32", "cpu")
    with pytest.raises(UserError, match=r"number_format='bfloat16': this machine's processor .* allowed here: float32"):
        require_format("bfloat16", "cpu")
    monkeypatch.setattr(number_format.torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    require_format("bfloat16", "cpu")
