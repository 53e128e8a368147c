"""The training loop: one GAN, top to bottom. Knows nothing of scores; whoever wants to watch hands in `observe`."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

import architectures
from architectures import GanPair
from harness.errors import UserError
from harness.spec import TrialSpec
from harness.training.checkpoint import Snapshot
from harness.training.distributed import ALONE, Ranks
from harness.training.graphs import Graphs, can_be_graphs
from harness.training.losses import LOSSES
from harness.training.number_format import in_format
from harness.training.random import stream
from harness.training.state import State

CURVES = ("d_loss", "g_loss", "d_real", "d_fake", "d_accuracy")
"""What is averaged from one report point to the next."""

REPORT_POINTS = 64
"""Curve rows a trial, evenly spaced; the only points where the loop waits for the device."""

CHECKPOINT_SECONDS = 30.0
"""A killed trial loses at most this much, and what is left to the next report point."""

RECALIBRATION_BATCHES = 20
"""Batches of latents over which the averaged generator's batch-norm statistics are re-estimated."""

Observe = Callable[[int, nn.Module], Mapping[str, float]]
"""(report point 1 .. REPORT_POINTS, averaged generator) -> further columns of that curve row.

A function of these two alone: a resumed trial brings no observer's memory back. The generator's batch-norm
statistics are stale: an observer that samples from it recalibrates them first."""


class Diverged(FloatingPointError):
    """A loss stopped being finite. An outcome of the trial, not an error of the program."""


def build_networks(spec: TrialSpec) -> GanPair:
    """The spec's networks, initialised from the spec's own stream; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(spec.seed, "init").initial_seed())
        return architectures.build(spec.architecture, **spec.network_choices)


def train(
    spec: TrialSpec,
    images: Tensor,
    observe: Observe | None = None,
    *,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    resume: Snapshot | None = None,
    checkpoint: Callable[[Snapshot], None] | None = None,
) -> Snapshot:
    """Train the spec's GAN on `images` for its whole budget.

    One step is one update of D and one of G. By the simultaneous rule both are from the same pass through both
    networks, their gradients taken at the same weights, as in the founding document; by the alternating rule D is
    updated first, and G is judged by the new D, on the same fakes or on fresh ones. Where the spec has more updates
    of D in a step, the others come before, each on a batch of its own; more updates of G come after, each on fresh
    fakes. Draws from torch's global generator only for dropout, inside a fork.

    Args:
        spec: What to train. All randomness comes from its seed.
        images: (N, C, H, W) uint8, indexed in place and never written to.
        observe: Called at every report point; its time is not counted as training.
        device: Where to train, "cpu" or "cuda".
        ranks: The process group; all its ranks call this with the same arguments but for `observe` and `checkpoint`,
            which are rank 0's.
        resume: Where to resume, of the same spec and device: on a CPU the result is bit for bit that of a trial never
            interrupted, but for the seconds.
        checkpoint: Given a snapshot at the first report point CHECKPOINT_SECONDS after the last; its time is not
            counted as training.

    Raises:
        Diverged: a loss was not finite at a report point.
        UserError: fewer images than one batch, or another number of ranks than the spec's.
    """
    if ranks.world_size != spec.world_size:
        raise UserError(
            f"world_size={spec.world_size} does not fit the number of processes that train: {ranks.world_size}"
        )
    if len(images) < spec.batch_size:
        raise UserError(
            f"batch_size={spec.batch_size} is larger than the data set: it has {len(images)} training images"
        )
    state = State(spec, build_networks(spec), images, device, ranks)
    networks = state.generator, state.discriminator, state.generator_ema
    g_params, d_params, ema_params = (list[Tensor](network.parameters()) for network in networks)
    generator, discriminator = (in_format(network, spec.number_format, device) for network in networks[:2])
    loss, tricks, batches = LOSSES[spec.loss], state.tricks, state.batches
    step_kimg = spec.discriminator_steps * spec.batch_size / 1000

    def fakes() -> Tensor:
        """Images by G, as D sees them now."""
        latents = state.latents.randn(spec.batch_size // spec.world_size, spec.latent_dim).mul_(spec.latent_std)
        return tricks.shown(generator(latents), progress)

    def discriminator_loss(real: Tensor, fake: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """D's loss on images as it sees them, and both logits."""
        real_logits, fake_logits = tricks.judged(discriminator, real, fake)
        targets = tricks.targets(len(real), device)
        penalty = tricks.penalty(discriminator, real, fake, step)
        return loss.discriminator(real_logits, fake_logits, *targets) + penalty, real_logits, fake_logits

    def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
        """G's loss by D as it is now, in a batch of its own unless the spec says otherwise."""
        if spec.mixed_generator:
            return loss.generator(*tricks.judged(discriminator, real, fake))
        fake_logits = discriminator(fake)
        if not loss.relativistic:
            return loss.generator(fake_logits, fake_logits)
        with torch.no_grad():
            real_logits = discriminator(real)
        return loss.generator(real_logits, fake_logits)

    def updates(step: int, reals: Sequence[Tensor]) -> None:
        """The updates of one step, on as many batches as D has updates; adds what the curves show to `sums`."""
        # Further updates of D come first.
        *further, last = reals
        for batch in further:
            real = tricks.shown(batch, progress)
            with torch.no_grad():
                fake = fakes()
            d_loss, _, _ = discriminator_loss(real, fake, step)
            update(state.d_optimizer, torch.autograd.grad(d_loss, d_params), spec.gradient_clip, ranks)

        # One update of each. Asking for just these gradients keeps D's weights out of G's backward pass. At the
        # same weights both come from one pass, except where G is judged apart from a mixed batch.
        real, fake = tricks.shown(last, progress), fakes()
        d_loss, real_logits, fake_logits = discriminator_loss(real, fake, step)
        if spec.update_rule == "simultaneous":
            apart = spec.mixed_batches and not spec.mixed_generator
            g_loss = loss.generator(real_logits, discriminator(fake) if apart else fake_logits)
            g_grads = torch.autograd.grad(g_loss, g_params, retain_graph=True)
            update(state.d_optimizer, torch.autograd.grad(d_loss, d_params), spec.gradient_clip, ranks)
        else:
            update(state.d_optimizer, torch.autograd.grad(d_loss, d_params), spec.gradient_clip, ranks)
            g_loss = generator_loss(real, fakes() if spec.fresh_latents else fake)
            g_grads = torch.autograd.grad(g_loss, g_params)
        update(state.g_optimizer, g_grads, spec.gradient_clip, ranks)

        # Further updates of G come last.
        for _ in range(spec.generator_steps - 1):
            g_loss = generator_loss(real, fakes())
            update(state.g_optimizer, torch.autograd.grad(g_loss, g_params), spec.gradient_clip, ranks)
        with torch.no_grad():
            sums.add_(torch.stack([d_loss, g_loss, *_answers(real_logits, fake_logits)]))

    take_step = Graphs(updates, spec, state) if can_be_graphs(spec, device) else updates
    first, curves, train_seconds = 1, list[dict[str, float]](), 0.0
    points = report_points(spec)
    sums, since_report = torch.zeros(len(CURVES), device=device), 0
    resumed = saved = time.perf_counter()

    with torch.random.fork_rng():
        torch.manual_seed(stream(spec.seed, "dropout").initial_seed())
        if resume is not None:
            state.restore(resume)
            first, curves, train_seconds = resume.step + 1, list(resume.curves), resume.train_seconds

        for step in range(first, spec.num_steps + 1):
            progress = (step - 1) / spec.num_steps
            state.set_optimizers(progress)
            take_step(step, [next(batches) for _ in range(spec.discriminator_steps)])

            # Update the moving average of G.
            seen_kimg = step * spec.discriminator_steps * spec.batch_size / 1000
            decay = 0.5 ** (step_kimg / min(spec.ema_kimg, seen_kimg * spec.ema_ramp))
            with torch.no_grad():
                get_ema_multi_avg_fn(decay)(ema_params, g_params, 0)
            since_report += 1
            if step not in points:
                continue

            # Report the means since the last point, and save a checkpoint now and then.
            ranks.average([sums])
            row = dict(zip(CURVES, (sums / since_report).tolist(), strict=True))
            train_seconds += time.perf_counter() - resumed
            if not all(map(math.isfinite, row.values())):
                raise Diverged(f"a loss was not finite by step {step} of {spec.num_steps} ({seen_kimg:.2f} kimg)")
            row |= {"step": step, "kimg": seen_kimg, "seconds": train_seconds}
            if observe is not None:
                row |= observe(points[step], state.generator_ema)
            curves.append(row)
            sums.zero_()
            since_report = 0
            if checkpoint is not None and time.perf_counter() - saved >= CHECKPOINT_SECONDS:
                checkpoint(state.snapshot(step=step, curves=curves, train_seconds=train_seconds))
                saved = time.perf_counter()
            resumed = time.perf_counter()

        recalibrate_batch_norm(state.generator_ema, spec)
        return state.snapshot(step=spec.num_steps, curves=curves, train_seconds=train_seconds)


def report_points(spec: TrialSpec) -> dict[int, int]:
    """Step -> report point, 1 .. REPORT_POINTS, in order. In a trial of few steps the last of the points at a step."""
    return {math.ceil(spec.num_steps * i / REPORT_POINTS): i for i in range(1, REPORT_POINTS + 1)}


def recalibrate_batch_norm(generator: nn.Module, spec: TrialSpec, batches: int = RECALIBRATION_BATCHES) -> None:
    """Re-estimate batch-norm statistics as plain means over batches of latents, in place; no-op without batch norm.

    The running statistics belong to the raw weights, not to their average; used with it they spoil the
    samples. The latents are the same at every call.
    """
    norms = [m for m in generator.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    device = next(generator.parameters()).device
    latents = stream(spec.seed, "recalibration", device)
    momenta, was_training = [m.momentum for m in norms], generator.training
    generator.eval()  # dropout off: only the norms see batches here
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative mean instead of an exponential one
        norm.train()
    with torch.no_grad():
        for _ in range(batches):
            z = torch.randn(spec.batch_size, spec.latent_dim, generator=latents, device=device)
            generator(z.mul_(spec.latent_std))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.train(was_training)


def _answers(real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean D(x), mean D(G(z)), and the share of both that D puts on the right side of a logit of 0."""
    right = torch.cat([real_logits > 0, fake_logits < 0])
    return real_logits.sigmoid().mean(), fake_logits.sigmoid().mean(), right.float().mean()


def update(optimizer: torch.optim.Optimizer, grads: Sequence[Tensor], clip: float, ranks: Ranks) -> None:
    """Take one step by the mean of all ranks' gradients.

    Args:
        optimizer: Of one player.
        grads: One gradient a parameter, in the optimizer's order.
        clip: Largest norm of them together; 0 for none.
        ranks: The process group.
    """
    ranks.average(grads)
    params = optimizer.param_groups[0]["params"]
    for param, grad in zip(params, grads, strict=True):
        # The fused kernel takes it on trust that gradients lie in memory as their parameter does; those of a penalty
        # on a convolution's gradient do not.
        param.grad = grad if grad.stride() == param.stride() else torch.empty_like(param).copy_(grad)
    if clip:
        nn.utils.clip_grad_norm_(params, clip)
    optimizer.step()
