"""What the families share: how weights start, and how sizes are counted."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.flop_counter import FlopCounterMode

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
    """Floating-point operations of one forward pass of one image, by torch's own counter (matmuls, convolutions).

    Args:
        module: A generator or a discriminator; left in the mode it was in.
        input_shape: Shape of one input without the batch: (Z,) or (C, H, W).
    """
    was_training = module.training
    device = next(module.parameters()).device
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            module.eval()(torch.zeros(1, *input_shape, device=device))
    finally:
        module.train(was_training)
    return counter.get_total_flops()
