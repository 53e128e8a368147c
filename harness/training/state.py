"""All that a step changes: networks, optimizers, random streams, the place in the data. What a snapshot holds."""

import copy
import inspect

import torch
from torch import Tensor, nn

from architectures import GanPair
from harness.spec import TrialSpec
from harness.training.checkpoint import Snapshot
from harness.training.distributed import ALONE, Ranks, spread
from harness.training.random import Draws, stream
from harness.training.schedules import set_optimizer
from harness.training.tricks import Tricks

LAYOUTS = {("cuda", "float32"): torch.contiguous_format}
"""How convolutions' weights lie in memory, where not channels last. That is about a quarter faster on a CPU, and faster
on a GPU in bfloat16; there, in float32 without TF32, it is slower (docs/performance.md). Dense layers do not notice."""


class Adam(torch.optim.Adam):
    """torch's own, without a word to torch's compiler at each step, whose import takes seconds and 100 MB a process."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)


class Batches:
    """Endless batches in [-1, 1], a new order each epoch; the incomplete batch at an epoch's end is left out."""

    def __init__(self, images: Tensor, batch_size: int, order: torch.Generator, ranks: Ranks = ALONE) -> None:
        """Begin the first epoch.

        Args:
            images: (N, C, H, W) uint8, never written to; N is at least batch_size.
            batch_size: Images a global batch.
            order: Draws each epoch's order; on the CPU.
            ranks: The process group that shares the batch; each rank is given its part.
        """
        self.images, self.batch_size, self.order, self.ranks = images, batch_size, order, ranks
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Draw a new order."""
        self.epoch_start = self.order.get_state()
        order = torch.randperm(len(self.images), generator=self.order)
        self.indices = order.to(self.images.device).split(self.batch_size)  # a copy a batch would wait for the GPU
        self.taken = 0

    def __next__(self) -> Tensor:
        if self.taken == len(self.images) // self.batch_size:
            self.begin_epoch()
        index = self.ranks.mine(self.indices[self.taken])
        self.taken += 1
        return self.images[index].float().div_(127.5).sub_(1)


class State:
    """The state of one trial, on its device; made at the start of training, or taken back to a snapshot."""

    def __init__(self, spec: TrialSpec, gan: GanPair, images: Tensor, device: str, ranks: Ranks) -> None:
        """Start a trial.

        Args:
            spec: Of the trial.
            gan: Its networks, freshly initialised; they become part of the state.
            images: (N, C, H, W) uint8.
            device: "cpu" or "cuda".
            ranks: The process group that trains it.
        """
        layout = LAYOUTS.get((torch.device(device).type, spec.number_format), torch.channels_last)
        self.generator = gan.generator.to(device).to(memory_format=layout).train()
        self.discriminator = gan.discriminator.to(device).to(memory_format=layout).train()
        self.generator_ema = copy.deepcopy(self.generator).requires_grad_(False)
        # The average is each rank's own affair: rank 0 alone samples from it.
        self.generator = spread(self.generator, ranks, sync_batch_norm=spec.sync_batch_norm)
        self.discriminator = spread(self.discriminator, ranks, sync_batch_norm=spec.sync_batch_norm)
        betas, on_gpu = (spec.adam_beta1, spec.adam_beta2), torch.device(device).type == "cuda"
        self.g_optimizer, self.d_optimizer = (
            Adam(network.parameters(), lr=lr, betas=betas, fused=True, capturable=on_gpu)
            for network, lr in ((self.generator, spec.generator_lr), (self.discriminator, spec.discriminator_lr))
        )
        self.batches = Batches(images.to(device), spec.batch_size, stream(spec.seed, "data"), ranks)
        self.latents = Draws(stream(spec.seed, "latents", device), ranks)
        self.tricks = Tricks(spec, device, ranks)
        self.streams = {"latents": self.latents, **self.tricks.streams}
        self._networks = {
            "generator": self.generator,
            "generator_ema": self.generator_ema,
            "discriminator": self.discriminator,
        }
        self._optimizers = {"g_optimizer": self.g_optimizer, "d_optimizer": self.d_optimizer}
        self._device = torch.device(device)
        self._spec = spec

    def set_optimizers(self, progress: float) -> None:
        """Take both optimizers to where their schedules are after this share of the budget."""
        set_optimizer(self.g_optimizer, self._spec, self._spec.generator_lr, progress)
        set_optimizer(self.d_optimizer, self._spec, self._spec.discriminator_lr, progress)

    def snapshot(self, *, step: int, curves: list[dict[str, float]], train_seconds: float) -> Snapshot:
        """A copy of the state. Dropout's stream is torch's global generator: call it inside the loop's fork of it."""
        streams = {name: draws.generator.get_state() for name, draws in self.streams.items()}
        streams |= {"data": self.batches.epoch_start, "dropout": torch.get_rng_state()}
        if self._device.type == "cuda":
            streams["dropout on the GPU"] = torch.cuda.get_rng_state(self._device)
        return Snapshot(
            step=step,
            **{name: _on_cpu(network.state_dict()) for name, network in self._networks.items()},
            **{name: _on_cpu(_moments(optimizer)) for name, optimizer in self._optimizers.items()},
            streams=streams,
            batches_taken=self.batches.taken,
            curves=list(curves),
            train_seconds=train_seconds,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Take everything back to where the snapshot was taken. Call it inside the loop's fork."""
        for name, network in self._networks.items():
            network.load_state_dict(getattr(snapshot, name))
        for name, optimizer in self._optimizers.items():
            _restore_moments(optimizer, getattr(snapshot, name))
        for name, draws in self.streams.items():
            draws.generator.set_state(snapshot.streams[name])
        self.batches.order.set_state(snapshot.streams["data"])
        self.batches.begin_epoch()
        self.batches.taken = snapshot.batches_taken
        torch.set_rng_state(snapshot.streams["dropout"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(snapshot.streams["dropout on the GPU"], self._device)


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    plain = torch.contiguous_format
    return {name: value.detach().cpu().clone(memory_format=plain) for name, value in tensors.items()}


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return optimizer.param_groups[0]["params"]


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's state by parameter: "0.step", "0.exp_avg", "0.exp_avg_sq", "1.step", ...; empty before the first step."""
    return {
        f"{i}.{name}": value
        for i, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state[parameter].items()
    }


def _restore_moments(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    parameters = _parameters(optimizer)
    optimizer.state.clear()
    for key, value in moments.items():
        i, name = key.split(".")
        parameter = parameters[int(i)]
        # The fused kernel takes it on trust that moments lie in memory as their parameter does.
        like = parameter if value.shape == parameter.shape else value
        optimizer.state[parameter][name] = torch.empty_like(like, device=parameter.device).copy_(value)
