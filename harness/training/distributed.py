"""Trials of several ranks: one process a rank, each on its share of the same global batch.

Whoever starts the process group calls this in each of its spec.world_size processes, with rank 0 .. world_size - 1:

    device = "cuda" if torch.cuda.is_available() else "cpu"    # one GPU visible to each process
    with join(rank, spec.world_size, rendezvous, device) as ranks:
        if rank == 0:
            result = run_trial(spec, context, snapshots, ranks)    # trains, scores, writes checkpoints
        else:
            train_rank(spec, context, ranks)                       # trains; returns when training is over

`rendezvous` is the same in all, new for each group: "file://" and the absolute path of a file that is not there yet, in
a folder that all see, or "tcp://HOST:PORT" with a free port on rank 0's host. Only rank 0 needs the folder of
checkpoints: it sends what is in there to the others. Any rank that dies or raises makes the others raise, at once or
after TIMEOUT; kill what is left of the group and start a new one: it resumes from the checkpoint. Costs are rank 0's.

Every rank draws all the random numbers of the global batch (order, latents, labels, noise, augmentation, dropout) from
the same streams and takes its images' part. So nothing depends on who draws what, all ranks have the same state at all
times, and rank 0's snapshot is everybody's; it costs a rank world_size times the random numbers, which is little beside
its networks. Losses are means over images and shares are equal, so the mean of the ranks' gradients is the gradient of
the global batch; clipping sees that mean. Only batch norm knows the share from the whole, unless spec.sync_batch_norm
makes its moments those of the global batch.

Gradients are averaged by one all-reduce of each player's, not by DistributedDataParallel: the loop asks for gradients
by torch.autograd.grad, which DDP's hooks do not see, and DDP's broadcast of buffers between D's two forward passes of
a step breaks its backward pass under batch norm (pytorch issue 175024).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others: to start, or for rank 0 to come back from its observer."""


@dataclass(frozen=True)
class Ranks:
    """This process's place in the group that trains one trial. In a group of one, nothing here changes anything."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"

    def mine(self, batch: Tensor, dim: int = 0) -> Tensor:
        """This rank's part of a global batch: every world_size-th image, from its rank on.

        So the part of two batches put together is their parts put together.
        """
        if self.world_size == 1:
            return batch
        return batch[(slice(None),) * dim + (slice(self.rank, None, self.world_size),)]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, in place and in one message; bit for bit the same on all."""
        if self.world_size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world_size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def share(self, content: bytes) -> bytes:
        """Rank 0's bytes, on every rank; what the others give is ignored."""
        if self.world_size == 1:
            return content
        length = torch.tensor(len(content), device=self.device)
        dist.broadcast(length, src=0)
        sent = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == 0 and content:
            sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        sent = sent.to(self.device)
        dist.broadcast(sent, src=0)
        return sent.cpu().numpy().tobytes()


ALONE = Ranks()


@contextmanager
def join(rank: int, world_size: int, rendezvous: str, device: str) -> Iterator[Ranks]:
    """Join a process group, and leave it at the end. A process may join one after another.

    Args:
        rank: This process's, from 0 to world_size - 1.
        world_size: Processes of the group.
        rendezvous: Where they meet, "file://..." or "tcp://HOST:PORT".
        device: "cuda" for nccl, "cpu" for gloo.
    """
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=world_size, timeout=TIMEOUT)
    try:
        yield Ranks(rank, world_size, device)
    finally:
        dist.destroy_process_group()


def spread(network: nn.Module, ranks: Ranks, *, sync_batch_norm: bool) -> nn.Module:
    """Make a network's layers treat the batch as a part of the global one; parameters stay the same objects.

    Args:
        network: On its device; changed in place.
        ranks: Nothing is changed where there is but one.
        sync_batch_norm: Whether batch norm's moments are of the global batch, by torch's SyncBatchNorm on GPUs.
    """
    if ranks.world_size == 1:
        return network
    if sync_batch_norm and ranks.device == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(parent, name, SharedDropout(child.p, ranks).train(child.training))
            elif sync_batch_norm and isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, SynchronisedBatchNorm(child, ranks))
    return network


class SharedDropout(nn.Module):
    """Dropout by this rank's part of the global batch's mask, drawn as torch draws it on a CPU."""

    def __init__(self, rate: float, ranks: Ranks) -> None:
        super().__init__()
        self.rate, self.ranks = rate, ranks

    def forward(self, input: Tensor) -> Tensor:
        """(N, ...) of this rank -> the same shape, some of it 0 and the rest scaled up."""
        if not self.training:
            return input
        whole = (len(input) * self.ranks.world_size, *input.shape[1:])
        channels_last = input.dim() == 4 and input.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if channels_last else torch.contiguous_format  # in memory, hence of the draws
        kept = torch.empty(whole, dtype=input.dtype, device=input.device, memory_format=order)
        return input * self.ranks.mine(kept.bernoulli_(1 - self.rate).div_(1 - self.rate))


class SynchronisedBatchNorm(nn.Module):
    """Batch norm by the moments of the global batch, on the CPU, where torch's SyncBatchNorm does not go.

    Shares of the batch are equal, so global moments are means of the ranks'. The variance is taken around the global
    mean, in a second message: the mean of squares less the square of the mean loses digits.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, ranks: Ranks) -> None:
        """Take the place of `norm`: affine, and with a momentum, as the architectures make it."""
        super().__init__()
        assert norm.affine and norm.momentum is not None
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.eps, self.momentum, self.ranks = norm.eps, norm.momentum, ranks
        self.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C) or (N, C, H, W) of this rank -> the same shape, normalised a channel over all ranks.

        Of bfloat16 as torch's own: computed in float32, the result rounded.
        """
        if not self.training:
            return batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        given, input = input.dtype, input.float()
        dims = [d for d in range(input.dim()) if d != 1]
        each = (1, -1) + (1,) * (input.dim() - 2)  # a value a channel
        mean = _mean_over_ranks(input.mean(dims), self.ranks)
        centred = input - mean.view(each)
        variance = _mean_over_ranks(centred.square().mean(dims), self.ranks)
        with torch.no_grad():
            number = input.numel() // input.shape[1] * self.ranks.world_size
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (number / (number - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(each) + self.bias.view(each)).to(given)


class _MeanOverRanks(torch.autograd.Function):
    """A mean over the ranks that gradients flow through: a loss on any rank depends on every rank's input."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        mean = input.clone()
        ranks.average([mean])
        return mean

    @staticmethod
    @once_differentiable  # penalties differentiate twice, and are refused with batch norm in D
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # The global loss is the mean of the ranks' losses, taken by averaging their gradients afterwards. So here
        # each rank's input gets the sum of what reaches the mean on all ranks, over world_size.
        gradient = gradient.clone()
        ctx.ranks.average([gradient])
        return gradient, None


def _mean_over_ranks(tensor: Tensor, ranks: Ranks) -> Tensor:
    return _MeanOverRanks.apply(tensor, ranks)  # type: ignore[return-value]
