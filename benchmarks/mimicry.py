"""The harness's loop and torch-mimicry's trainer, on mimicry's own DCGAN for 32×32: images a second, in turns.

    pip install --no-deps torch-mimicry && pip install scikit-image
    python benchmarks/mimicry.py [--steps 6] [--rounds 3] [--batch 32]

Both train the same networks (torch_mimicry.nets.dcgan.dcgan_32) by the non-saturating loss, D first and then G on fresh
latents, with Adam, on random images, on one thread. Of mimicry it is the whole Trainer, with its defaults but for logs
and checkpoints, which it writes only at its end; that is left out on both sides. Its data sets and its own FID want
tensorflow and a part of torch that is gone; training needs neither, and empty modules stand in for them.
"""

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from types import ModuleType
from unittest import mock

import torch
from torch.utils.data import DataLoader, TensorDataset

from architectures import GanPair
from harness.execution.provenance import cpu_name, provenance
from harness.spec import TrialSpec
from harness.training import loop
from studies.baselines import RESNET


def networks() -> GanPair:
    """Mimicry's, freshly initialised."""
    for part in ("metrics", "datasets"):
        sys.modules.setdefault(f"torch_mimicry.{part}", ModuleType(part))
    from torch_mimicry.nets.dcgan.dcgan_32 import DCGANDiscriminator32, DCGANGenerator32

    return GanPair(generator=DCGANGenerator32(), discriminator=DCGANDiscriminator32())


def harness_rate(spec: TrialSpec, images: torch.Tensor) -> float:
    """Images a second of the harness's loop, by its own clock."""
    with mock.patch.object(loop, "build_networks", lambda _: networks()):
        seconds = loop.train(spec, images).train_seconds
    return spec.num_steps * spec.batch_size / seconds


def mimicry_rate(spec: TrialSpec, images: torch.Tensor) -> float:
    """Images a second of mimicry's Trainer, from its first step to its last."""
    gan = networks()
    from torch_mimicry.training import Trainer

    betas = (spec.adam_beta1, spec.adam_beta2)
    d, g = (torch.optim.Adam(n.parameters(), lr=1e-4, betas=betas) for n in (gan.discriminator, gan.generator))
    real = TensorDataset(images.float().div(127.5).sub(1), torch.zeros(len(images), dtype=torch.long))
    batches = DataLoader(real, batch_size=spec.batch_size, shuffle=True)
    marks: list[float] = []

    def saved(*_: object) -> None:
        marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer = Trainer(
            gan.discriminator, gan.generator, optD=d, optG=g, n_dis=1, num_steps=spec.num_steps, dataloader=batches,
            log_dir=folder, device=torch.device("cpu"), save_steps=10**9, vis_steps=10**9, log_steps=10**9,
        )  # fmt: skip
        with mock.patch.object(trainer, "_save_model_checkpoints", saved):
            started = time.perf_counter()
            trainer.train()
    return spec.num_steps * spec.batch_size / (marks[-1] - started)


def main() -> None:
    """Print the medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="of a timed run")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each, in turns")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (8 * options.batch, 3, 32, 32), dtype=torch.uint8)
    spec = TrialSpec(
        **{**RESNET, "latent_dim": 128, "batch_size": options.batch, "adam_beta2": 0.9},
        dataset="random", data_fingerprint="0" * 16, resolution=32, channels=3, seed=0,
        kimg=options.steps * options.batch / 1000, update_rule="alternating", fresh_latents=True,
    )  # fmt: skip
    rounds = []
    for _ in range(options.rounds + 1):  # the first is a warm-up
        rounds.append((harness_rate(spec, images), mimicry_rate(spec, images)))
    ours, theirs = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    ratios = [a / b for a, b in rounds[1:]]
    where = provenance()
    print(f"{cpu_name()}, 1 thread, torch {where['torch']}, commit {where['commit']}, batch {options.batch}")
    print(f"harness {ours:.1f} images/s, mimicry {theirs:.1f}: ratio {statistics.median(ratios):.2f} ({ratios})")


if __name__ == "__main__":
    main()
