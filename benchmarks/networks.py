"""What depth and resolution cost: seconds per thousand images, peak memory, parameters and FLOPs of each network.

    python benchmarks/networks.py [--steps 8] [--resolutions 28 32 64 96]

The studies' baselines with G at several depths and D as it is, on grey noise, by some steps of the harness's own loop.
Every network trains in a fresh process (on Linux), in one thread on a CPU, or on the GPU where there is one. The same
network of width 1 trains there first, so that no figure holds what a process loads once; of the timed one the first two
steps are left out.
"""

import argparse
import itertools
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch
from tabulate import tabulate

from architectures import count_parameters, flops_per_image
from harness.errors import UserError
from harness.execution.provenance import cpu_name, provenance
from harness.spec import TrialSpec
from harness.training.loop import REPORT_POINTS, build_networks, train
from studies.noise import NOISE

DEPTHS = {"dc": (2, 3, 4, 5, 6), "fc": (1, 2, 3, 4)}
YARDSTICK = ("dc", 2, 28)
"""The DC baseline: what the ratios are to."""

WARM_UP = 2


@dataclass(frozen=True)
class Cost:
    """Of one network."""

    seconds: float  # per thousand real images, at the pace of the fastest step: busy neighbours only slow steps down
    peak_bytes: float  # what training adds to the process on a CPU, all that is allocated on a GPU
    parameters: tuple[int, int]  # of G, of D
    flops: tuple[int, int]  # per image and forward pass, of G, of D


def measure(spec: TrialSpec) -> Cost:
    """Train for the spec's few steps, at each of which the loop reports the seconds so far."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.randint(0, 256, (2 * spec.batch_size, spec.channels, spec.resolution, spec.resolution)).byte()
    train(replace(spec, generator_width=1, discriminator_width=1, kimg=spec.batch_size / 1000), images, device=device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = _forget_peak_rss()
    curves = train(spec, images, device=device).curves
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _peak_rss() - before
    steps = [b["seconds"] - a["seconds"] for a, b in itertools.pairwise(curves)][WARM_UP - 1 :]
    gan, shape = build_networks(spec), (spec.channels, spec.resolution, spec.resolution)
    return Cost(
        seconds=min(steps) / spec.batch_size * 1000,
        peak_bytes=peak,
        parameters=(count_parameters(gan.generator), count_parameters(gan.discriminator)),
        flops=(flops_per_image(gan.generator, (spec.latent_dim,)), flops_per_image(gan.discriminator, shape)),
    )


def _forget_peak_rss() -> int:
    """Make the present size of this process its peak, and tell it in bytes: what importing took is no matter."""
    Path("/proc/self/clear_refs").write_text("5")
    return psutil.Process().memory_info().rss


def _peak_rss() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--steps",
        type=int,
        default=8,
        choices=range(1, REPORT_POINTS - WARM_UP),
        metavar="N",
        help="timed steps each, at most 61",
    )
    parser.add_argument("--resolutions", type=int, nargs="+", default=[28, 32, 64, 96], help="28 is always among them")
    options = parser.parse_args()
    resolutions = sorted({28, *options.resolutions})
    baselines = {c.arm: c.spec.to_dict() for c in NOISE.at("laptop").runs(1, lambda *_: "0" * 16) if c.arm in DEPTHS}

    costs: dict[tuple[str, int, int], Cost] = {}
    for family, depths in DEPTHS.items():
        for depth, resolution in itertools.product(depths, resolutions):
            changes = {"generator_depth": depth, "resolution": resolution}
            changes["kimg"] = (WARM_UP + options.steps) * baselines[family]["batch_size"] / 1000
            try:
                spec = TrialSpec.from_dict({**baselines[family], **changes})
            except UserError:  # this depth does not reach this resolution
                continue
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                costs[family, depth, resolution] = pool.submit(measure, spec).result()

    def table(title: str, value: Callable[[Cost], float], shown: Callable[[Cost], str]) -> None:
        def cell(cost: Cost | None) -> str:
            if cost is None:
                return "–"
            ratio = value(cost) / value(costs[YARDSTICK])
            return f"{shown(cost)} (×{ratio:,.{2 if ratio < 10 else 0}f})"

        rows = [
            [family, depth, *(cell(costs.get((family, depth, resolution))) for resolution in resolutions)]
            for family, depths in DEPTHS.items()
            for depth in depths
        ]
        head = ["network", "depth of G", *(f"{r}×{r}" for r in resolutions)]
        print(f"\n{title}\n")
        print(tabulate(rows, head, "pipe", disable_numparse=True, colalign=["left"] + ["right"] * (len(head) - 1)))

    where = provenance()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    batches = ", ".join(f"{family} in batches of {baselines[family]['batch_size']}" for family in DEPTHS)
    print(f"{gpu or f'{cpu_name()}, 1 thread'}, torch {where['torch']}, commit {where['commit']}; {batches}")
    print(
        f"The fastest of {options.steps} steps; × to {YARDSTICK[0]} of depth {YARDSTICK[1]} at 28×28; – is impossible."
    )
    table("Seconds per thousand images", lambda c: c.seconds, lambda c: f"{c.seconds:.2f}")
    table("Peak memory of training, MiB", lambda c: c.peak_bytes, lambda c: f"{c.peak_bytes / 2**20:,.0f}")
    table(
        "Parameters of G + D, thousands",
        lambda c: sum(c.parameters),
        lambda c: " + ".join(f"{n / 1e3:,.0f}" for n in c.parameters),
    )
    table(
        "MFLOPs per image of G + D, one forward pass",
        lambda c: sum(c.flops),
        lambda c: " + ".join(f"{n / 1e6:,.1f}" for n in c.flops),
    )


if __name__ == "__main__":
    main()
