"""What the families share: how weights start, and how sizes are counted."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

MATRIX_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm)
SAME_SHAPE = (torch.ops.aten.tanh, torch.ops.aten.relu_, torch.ops.aten.leaky_relu_, torch.ops.aten.add)

LEAKY_SLOPE = 0.2
"""Slope of LeakyReLU below zero (Radford et al. 2015); the founding document does not give one."""


def initialised(network: nn.Module) -> nn.Module:
    """Glorot-uniform weights and zero biases in every dense and convolution layer, in module order.

    The default of Keras, which the founding document used (Glorot & Bengio 2010, eq. 16). Draws from torch's
    global generator; the caller seeds it. With zero biases an untrained D is undecided: logits near 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class Residual(nn.Sequential):
    """A residual block (He et al. 2016): its input, and what its layers make of it."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return input + super().forward(input)


def fixed_up(network: nn.Module, *, identity: bool = True) -> nn.Module:
    """Uniform weights of variance 1 / fan-in, zero biases; in residual blocks those of fix-up (Zhang et al. 2019).

    There, of m = 3 layers in each of L blocks, the last starts at 0, and the others have the gain of LeakyReLU (He et
    al. 2015) times L^(-1 / (2m - 2)). Draws from torch's global generator, in module order; the caller seeds it.

    Args:
        network: Changed in place.
        identity: Whether the last layer of a block starts at 0; otherwise it starts as the others do.
    """
    blocks = [module for module in network.modules() if isinstance(module, Residual)]
    inside = {layer for block in blocks for layer in block.modules()}
    gain = nn.init.calculate_gain("leaky_relu", LEAKY_SLOPE) * len(blocks) ** -0.25
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            std = (gain if module in inside else 1) / module.weight[0].numel() ** 0.5
            nn.init.uniform_(module.weight, -std * 3**0.5, std * 3**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for last in [block[-1] for block in blocks] * identity:
        nn.init.zeros_(next(last.parameters()))
    return network


def spectrally_normalised(network: nn.Module, norm: str) -> nn.Module:
    """Spectral norm on every dense and convolution layer if `norm` is "spectral": largest singular value 1.

    Miyato et al. 2018, by one power iteration a forward pass in training mode. The network as it is otherwise.
    """
    if norm == "spectral":
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                spectral_norm(module)
    return network


class _OddConvolution(nn.Conv2d):
    """A 4×4 stride-2 convolution of an odd map, padded as Keras pads: one more at the bottom and right."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(pad(input, (1, 2, 1, 2)))


def same_convolution(channels: int, wide: int, side: int) -> nn.Conv2d:
    """A 4×4 stride-2 convolution without bias, 'same' as in Keras: the output is half of `side`, rounded up."""
    if side % 2:
        return _OddConvolution(channels, wide, 4, 2, padding=0, bias=False)
    return nn.Conv2d(channels, wide, 4, 2, padding=1, bias=False)


def count_parameters(module: nn.Module, *, with_statistics: bool = False) -> int:
    """Trainable parameters; with batch norm's running means and variances where asked, as Keras counts."""
    count = sum(p.numel() for p in module.parameters())
    if with_statistics:
        count += sum(b.numel() for name, b in module.named_buffers() if name.endswith(("running_mean", "running_var")))
    return count


def flops_per_image(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Floating-point operations of one forward pass of one image, by torch's own formulas (matmuls, convolutions).

    Args:
        module: A generator or a discriminator; left in the mode it was in.
        input_shape: Shape of one input without the batch: (Z,) or (C, H, W).
    """
    was_training = module.training
    device = next(module.parameters()).device
    try:
        with _FlopCounter() as counter, torch.no_grad():
            module.eval()(torch.zeros(1, *input_shape, device=device))
    finally:
        module.train(was_training)
    return counter.flops


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    strides: list[int],
    paddings: list[int],
    dilations: list[int],
    transposed: bool,
    more: list[int],
    groups: int,
) -> list[int]:
    """The shape that a convolution makes of x, as torch's documentation has it (Conv2d, ConvTranspose2d)."""
    sides = []
    for side, kernel, stride, padding, dilation, extra in zip(
        x.shape[2:], weight.shape[2:], strides, paddings, dilations, more, strict=True
    ):
        reach = dilation * (kernel - 1) - 2 * padding
        sides.append((side - 1) * stride + reach + extra + 1 if transposed else (side - reach - 1) // stride + 1)
    return [x.shape[0], weight.shape[1] * groups if transposed else weight.shape[0], *sides]


class _FlopCounter(TorchDispatchMode):
    """Counts as torch's `FlopCounterMode` does, without the import of torch's compiler, which takes some 4 s.

    On the meta device torch's own code for the simplest operations would import it: their shapes are told here.
    """

    flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else entering this mode imports the compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, operation = kwargs or {}, func.overloadpacket
        if operation in SAME_SHAPE and args[0].is_meta:
            return args[0]
        if operation is torch.ops.aten.native_batch_norm and args[0].is_meta:
            return args[0], args[0].new_empty(0), args[0].new_empty(0)
        if operation is torch.ops.aten.upsample_bilinear2d and args[0].is_meta:
            return args[0].new_empty(*args[0].shape[:2], *args[1])
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        if operation in MATRIX_PRODUCTS and args[-1].is_meta:
            out = args[-1].new_empty(args[-2].shape[0], args[-1].shape[1])
        elif operation is torch.ops.aten.convolution and args[0].is_meta:
            out = args[0].new_empty(_convolved(*args))
        else:
            out = func(*args, **kwargs)
        if operation in flop_registry:
            self.flops += flop_registry[operation](*args, **kwargs, out_val=out)
        return out
