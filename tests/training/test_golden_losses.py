"""Twenty steps of every trick and loss, written down: a change here changes results, and has to be meant.

Where it is meant, raise RESULT_VERSION or the trick's revision (CHANGELOG.md says what changed), and write the new
numbers by `python -m tests.training.test_golden_losses`.

The loop is run in float64. In float32, which trials use, a step of Adam turns a gradient's sign at rounding error into
a whole learning rate: between vector units (ATEN_CPU_CAPABILITY=default and avx2, MKL_CBWR=COMPATIBLE and AVX2,
ONEDNN_MAX_CPU_ISA=SSE41, on a processor with AVX-512) losses of some of these cases differ by 1e-2 after 10 steps and
1e-1 after 20, and that would hide a real change. In float64 they differ by no more than 2e-14 after 20 steps in any of
these cases; RELATIVE leaves room for other libraries. tests/training/test_loop.py has the first losses in float32.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from harness.training.loop import train
from tests.training.test_loop import spec
from tests.training.test_tricks import NEEDS, ON

FROZEN = Path(__file__).with_name("golden_losses.json")
RELATIVE = 1e-9
STEPS, BATCH = 20, 8
TINY = {"generator_width": 4, "discriminator_width": 4, "latent_dim": 4, "batch_size": BATCH}

MANY = {  # at once, in an order that shows
    "generator_steps": 2, "discriminator_steps": 2, "real_label_low": 0.8, "fake_label_high": 0.1,
    "label_flip_rate": 0.1, "instance_noise": 0.1, "instance_noise_schedule": "linear",
    "discriminator_norm": "spectral", "r1_gamma": 1.0, "gradient_penalty": 1.0, "gradient_clip": 1.0,
    "augmentation": "brightness+translation+cutout", "latent_std": 1.7,
}  # fmt: skip
R3GAN = {  # Huang et al. 2024, with weights that matter within the steps
    "loss": "relativistic", "update_rule": "alternating", "fresh_latents": True, "r1_gamma": 5.0, "r2_gamma": 5.0,
    "penalty_end": 0.1, "lr_end": 0.25, "adam_beta2": 0.9, "adam_beta2_end": 0.99,
}  # fmt: skip
OF_DC_ALONE = ("mixed batches", "mixed batches, for G too", "no norm")
NO_NORM = ("discriminator_norm", "none")  # as fc's D is anyway
CASES = {
    **{
        f"dc, {name}": ("dc", {**NEEDS.get(name, {}), **changes})
        for name, changes in {"plain": {}, **ON, "many": MANY}.items()
    },
    **{
        f"fc, {name}": ("fc", {**dict(n for n in NEEDS.get(name, {}).items() if n != NO_NORM), **changes})
        for name, changes in {"plain": {}, **ON, "many": MANY}.items()
        if name not in OF_DC_ALONE
    },
    "resnet, plain": ("resnet", {}),
    "resnet, as R3GAN trains": ("resnet", R3GAN),
}


@contextmanager
def in_float64() -> Iterator[None]:
    """New tensors are float64, and so are images once they are no longer uint8."""
    single = torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.Tensor.float = single
        torch.set_default_dtype(torch.float32)


def losses(name: str) -> dict[str, list[float]]:
    """D's and G's loss of each step, and the mean magnitudes of all tensors of the averaged generator."""
    architecture, changes = CASES[name]
    kimg = STEPS * BATCH * changes.get("discriminator_steps", 1) / 1000
    pixels = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8, generator=pixels)
    with in_float64():
        found = train(spec(architecture, **{**changes, **TINY, "kimg": kimg}), images)
    average = [tensor.double().abs().mean().item() for tensor in found.generator_ema.values()]
    return {**{key: [row[key] for row in found.curves] for key in ("d_loss", "g_loss")}, "average": average}


@pytest.mark.parametrize("name", CASES)
def test_golden_losses(name: str) -> None:
    found, frozen = losses(name), json.loads(FROZEN.read_text())[name]
    assert len(found["d_loss"]) == STEPS
    assert found.keys() == frozen.keys()
    for key, values in found.items():
        assert values == pytest.approx(frozen[key], rel=RELATIVE, abs=1e-12), key


def test_golden_losses_differ_by_case() -> None:
    """But for the average's own half-life, every case moves the losses: none is frozen while it does nothing."""
    frozen = json.loads(FROZEN.read_text())
    assert frozen.keys() == CASES.keys()
    assert len({str(frozen[name]) for name in CASES}) == len(CASES)


if __name__ == "__main__":
    torch.set_num_threads(1)
    # Rounded to what is compared.
    table = {
        name: {key: [float(f"{value:.12g}") for value in values] for key, values in losses(name).items()}
        for name in CASES
    }
    rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(values)}" for name, values in table.items())
    FROZEN.write_text("{\n" + rows + "\n}\n")
