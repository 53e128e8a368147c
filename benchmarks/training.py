"""What the harness costs: its training loop against a bare PyTorch loop, and a trial's time outside training.

    python benchmarks/training.py [--kimg 5] [--rounds 5]

Both loops train the same networks from the same weights on the same digits, in one process and in turns, so that
their ratio means something on a busy machine too. The bare loop is what a tutorial would write: no moving average,
no curves, no reports.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Optimizer

from harness.data import prepare
from harness.execution.provenance import cpu_name, provenance
from harness.execution.trial import TrialContext, run_trial
from harness.scoring.fidelity import make_protocol, prepare_reference
from harness.scoring.yardstick import prepare_extractor
from harness.spec import TrialSpec
from harness.training.loop import build_networks, train
from studies.noise import NOISE


def textbook_step(
    spec: TrialSpec,
    images: Tensor,
    players: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    optimizers: tuple[Optimizer, Optimizer],
    *,
    seeds: tuple[int, ...] = (),
    bfloat16: bool = False,
) -> Callable[[], None]:
    """One step as a tutorial would write it, to be called again and again.

    Args:
        spec: What to train; its tricks are left out.
        images: (N, C, H, W) uint8, where the networks are.
        players: G and D.
        optimizers: Theirs.
        seeds: (S,) where the players are S networks each, which take and give tensors (S, batch, ...).
        bfloat16: Whether the forward passes are under autocast.
    """
    generator, discriminator = players
    g_optimizer, d_optimizer = optimizers
    device, batch = images.device, (*seeds, spec.batch_size)
    real_label, fake_label = torch.ones(*batch, 1, device=device), torch.zeros(*batch, 1, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            real = images[torch.randint(len(images), batch, device=device)].float() / 127.5 - 1
            fake = generator(torch.randn(*batch, spec.latent_dim, device=device))
            d_loss = bce(discriminator(real), real_label) + bce(discriminator(fake.detach()), fake_label)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            g_loss = bce(discriminator(fake), real_label)
        g_loss.backward()
        g_optimizer.step()

    return step


def bare_loop(spec: TrialSpec, images: Tensor) -> float:
    """Train for the spec's budget the plain way, where the images are; images a second."""
    gan = build_networks(spec)
    players = gan.generator.to(images.device).train(), gan.discriminator.to(images.device).train()
    betas = (spec.adam_beta1, spec.adam_beta2)
    g_optimizer = torch.optim.Adam(players[0].parameters(), lr=spec.generator_lr, betas=betas)
    d_optimizer = torch.optim.Adam(players[1].parameters(), lr=spec.discriminator_lr, betas=betas)
    step = textbook_step(spec, images, players, (g_optimizer, d_optimizer))
    started = time.perf_counter()
    for _ in range(spec.num_steps):
        step()
    if images.is_cuda:
        torch.cuda.synchronize()
    return spec.num_steps * spec.batch_size / (time.perf_counter() - started)


def harness_loop(spec: TrialSpec, images: Tensor) -> float:
    """Train for the spec's budget with the harness; images a second, everything that `train` does included."""
    started = time.perf_counter()
    train(spec, images)
    return spec.num_steps * spec.batch_size / (time.perf_counter() - started)


def whole_trial(spec: TrialSpec, context: TrialContext) -> tuple[dict[str, float], float, int]:
    """(cost of the second of two trials in this process, seconds of the first, peak memory in bytes)."""
    first = run_trial(spec, context).cost["seconds"]
    second = dict(run_trial(spec, context).cost)
    return second, first, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kimg", type=float, default=5.0, help="budget of each timed run, in thousand images")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each loop, in turns")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where = provenance()
    print(f"{cpu_name()}, 1 thread, torch {where['torch']}, commit {where['commit']}")
    print(f"{options.rounds} rounds of {options.kimg:g} kimg, medians; costs of a process's second trial\n")
    print("| network | harness, img/s | bare loop, img/s | ratio (range) | outside training, s | scoring, s | MiB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch)
        data = prepare("mnist-5k", resolution=28, channels=1, cache=cache)
        extractor = prepare_extractor("classifier", data, cache)
        protocol = make_protocol(extractor, data, num_generated=2000)
        prepare_reference(protocol, extractor, data, cache)
        context = TrialContext(data=data, extractor=extractor, protocol=protocol, cache=cache)
        images = torch.from_numpy(data.images("train").copy())
        for run in NOISE.at("laptop").runs(1, lambda *_: data.fingerprint):
            if run.arm not in ("dc", "fc"):
                continue
            spec = TrialSpec.from_dict({**run.spec.to_dict(), "kimg": options.kimg})
            rounds = [(harness_loop(spec, images), bare_loop(spec, images)) for _ in range(options.rounds + 1)][1:]
            ours, bare = (statistics.median(column) for column in zip(*rounds, strict=True))
            ratios = [a / b for a, b in rounds]
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                cost, _, peak = pool.submit(whole_trial, spec, context).result()
            print(
                f"| {run.arm} | {ours:,.0f} | {bare:,.0f} | {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f}–{max(ratios):.2f}) | {cost['seconds'] - cost['train_seconds']:.1f} | "
                f"{cost['score_seconds']:.1f} | {peak / 2**20:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
