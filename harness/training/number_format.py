"""In which number format the networks compute while they train. Weights, losses, optimizers and scores are float32."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.errors import UserError


def in_format(network: nn.Module, number_format: str, device: str) -> Callable[[Tensor], Tensor]:
    """The network's pass as a training step calls it: float32 in and out.

    "bfloat16" is torch's autocast: matrix products and convolutions on inputs and weights that are rounded to eight
    significant bits (Kalamkar et al. 2019), sums in float32, and whatever follows from a rounded result rounded too
    where torch's list for the device says so. Gradients arrive at the weights in float32. A generator's images are
    then of 256 levels to a factor of 2, as are those that D is shown.
    """
    if number_format == "float32":
        return network

    def passed(batch: Tensor) -> Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            return network(batch).float()

    return passed


def require_format(number_format: str, device: str) -> None:
    """Refuse what this machine has no instructions for.

    Raises:
        UserError: bfloat16 where neither AVX512-BF16 nor AMX, or no GPU of compute capability 8, is there.
    """
    if number_format == "bfloat16" and not has_bfloat16(device):
        part = "GPU" if device == "cuda" else "processor"
        raise UserError(
            f"number_format='bfloat16': this machine's {part} cannot multiply in it, and would be many times slower; "
            "allowed here: float32"
        )


def has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
