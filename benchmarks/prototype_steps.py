"""Steps that the harness does not take, for gpu.py to time: of several seeds as one model, and as a CUDA graph."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from training import textbook_step  # the script beside this one

from harness.spec import TrialSpec
from harness.training.loop import build_networks


def solo_step(
    spec: TrialSpec, images: Tensor, *, bfloat16: bool = False, channels_last: bool = False
) -> Callable[[], None]:
    """The textbook step of one GAN; its optimizers can be captured."""
    gan = build_networks(spec)
    players = gan.generator.to(images.device).train(), gan.discriminator.to(images.device).train()
    if channels_last:
        for network in players:
            network.to(memory_format=torch.channels_last)
    optimizers = optimizers_of(spec, [list(network.parameters()) for network in players])
    return textbook_step(spec, images, players, optimizers, bfloat16=bfloat16)


def batched_step(spec: TrialSpec, images: Tensor, seeds: int, *, bfloat16: bool = False) -> Callable[[], None]:
    """The textbook step of as many GANs as one batched model, each from its own initial weights.

    The loss is the mean over all seeds, so that a seed's gradient is that of its own loss divided by their number;
    Adam's step does not depend on it.
    """
    gans = [build_networks(replace(spec, seed=seed)) for seed in range(seeds)]
    g_params, generator = as_one([gan.generator for gan in gans], images.device)
    d_params, discriminator = as_one([gan.discriminator for gan in gans], images.device)
    optimizers = optimizers_of(spec, [g_params, d_params])
    return textbook_step(spec, images, (generator, discriminator), optimizers, seeds=(seeds,), bfloat16=bfloat16)


def as_one(networks: list[nn.Module], device: torch.device) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    """(stacked parameters, (S, batch, ...) -> (S, batch, ...)) of networks of one shape."""
    networks = [network.to(device).train() for network in networks]
    params, buffers = stack_module_state(networks)
    shape = copy.deepcopy(networks[0]).to("meta")

    def one(params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(shape, (params, buffers), (x,))

    all_of_them = torch.vmap(one, randomness="different")
    return list(params.values()), lambda x: all_of_them(params, buffers, x)


def optimizers_of(spec: TrialSpec, params: list[list[Tensor]]) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Adam for G and for D, in one kernel and fit for a graph."""
    betas, rates = (spec.adam_beta1, spec.adam_beta2), (spec.generator_lr, spec.discriminator_lr)
    capturable = params[0][0].is_cuda
    g, d = (
        torch.optim.Adam(p, lr=lr, betas=betas, fused=True, capturable=capturable)
        for p, lr in zip(params, rates, strict=True)
    )
    return g, d


def as_graph(step: Callable[[], None]) -> Callable[[], None]:
    """The step captured as a CUDA graph, with its random numbers; replaying it is one call."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(step: Callable[[], None] = step) -> None:
        graph.replay()  # on the step's weights, which live as long as it does

    return replay
