"""What a GPU makes of the harness: images a second alone, beside a textbook loop, shared by trials; what is left.

    python benchmarks/gpu.py [--minutes 5] [--sections card alone sharing seeds precision] [--rounds 3] [--seconds 0.7]

Sections, each printed line by line as it is measured:

    card       the rate of large matrix products, float32, TF32 and bfloat16: what the machine could do
    alone      the harness's loop, with and without graphs, and the textbook loop of benchmarks/training.py, in turns
    sharing    1, 4 and 8 processes that train on the card at the same time, as trials do under --gpus-per-trial; they
               take turns there, unless NVIDIA's MPS was started before (nvidia-cuda-mps-control -d)
    seeds      prototypes: the textbook step as a CUDA graph, under bfloat16, and S seeds as one batched model
    precision  prototypes: float32, TF32 and bfloat16 with either memory layout of convolutions

Images are random bytes, as speed does not depend on them. A figure is the median of the rounds, after a warm-up.
"strict" is how trials run: no TF32, deterministic kernels; "default" is torch as it is installed. Prototypes are here
to say what would pay; of them the harness has graphs. `--device cpu` runs all at a toy size, to test this script.
"""

import argparse
import copy
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from unittest import mock

import torch
from prototype_steps import as_graph, as_one, batched_step, solo_step
from torch import Tensor
from training import bare_loop  # the scripts beside this one

from architectures import flops_per_image
from harness.execution.provenance import cpu_name, provenance
from harness.spec import TrialSpec
from harness.study import Changes
from harness.training import loop
from harness.training.loop import build_networks, train
from studies.baselines import DC, FC, REFERENCE_DC, REFERENCE_FC

COMMON: Changes = {"dataset": "mnist-5k", "data_fingerprint": "0" * 16, "kimg": 1.0, "seed": 0, "world_size": 1}
NETWORKS: dict[str, Changes] = {
    "fc 28": {**FC, "resolution": 28, "channels": 1},
    "dc 28": {**DC, "resolution": 28, "channels": 1},
    "dc 32": {**DC, "resolution": 32, "channels": 1, "generator_depth": 3},
    "dc 64": {**DC, "resolution": 64, "channels": 1, "generator_depth": 4},
    "fc 56 reference": REFERENCE_FC,
    "dc 96 reference": REFERENCE_DC,
}
TOY: Changes = {"generator_width": 2, "discriminator_width": 2, "batch_size": 4}
WARM_UP = 10  # steps


@dataclass(frozen=True)
class Options:
    """How to measure."""

    device: str
    rounds: int
    seconds: float  # a round
    deadline: float  # time.monotonic() at which to stop
    busy_seconds: float  # nvidia-smi looks about six times a second
    toy: bool
    networks: tuple[str, ...]

    def of(self, *networks: str) -> list[str]:
        """Those of these networks that were asked for."""
        return [name for name in networks if name in self.networks]

    def spec(self, network: str) -> TrialSpec:
        """Of a network in NETWORKS."""
        return TrialSpec(
            **{**COMMON, "latent_std": 1.0, "instance_noise": 0.0, **NETWORKS[network], **(TOY if self.toy else {})}
        )


class OutOfTime(Exception):
    """The time limit is reached."""


def random_images(spec: TrialSpec, device: str) -> Tensor:
    """As many as mnist-5k has, or fewer where they would be large."""
    number = max(spec.batch_size, min(4000, 2**28 // (spec.channels * spec.resolution**2)))
    shape = (number, spec.channels, spec.resolution, spec.resolution)
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=device)


@contextmanager
def numerics(*, deterministic: bool, tf32_matmul: bool, tf32_convolution: bool) -> Iterator[None]:
    """Which kernels may be used inside."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, matmul.allow_tf32, cudnn.allow_tf32
    cudnn.deterministic, matmul.allow_tf32, cudnn.allow_tf32 = deterministic, tf32_matmul, tf32_convolution
    try:
        yield
    finally:
        cudnn.deterministic, matmul.allow_tf32, cudnn.allow_tf32 = before


strict = partial(numerics, deterministic=True, tf32_matmul=False, tf32_convolution=False)
default = partial(numerics, deterministic=False, tf32_matmul=False, tf32_convolution=True)


def synchronize(device: str) -> None:
    """Wait for all that was asked of the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_a_call(call: Callable[[], object], seconds: float, device: str) -> float:
    """Called as often as the time allows, at least three times."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(3):
        call()
    synchronize(device)
    times = max(3, int(seconds / ((time.perf_counter() - started) / 3)))
    started = time.perf_counter()
    for _ in range(times):
        call()
    synchronize(device)
    return (time.perf_counter() - started) / times


def harness_rate(spec: TrialSpec, images: Tensor) -> float:
    """Images a second of the harness's loop over the second half of its budget, when its graphs are recorded."""
    curves = train(spec, images, device=images.device.type).curves
    half, end = curves[(len(curves) - 1) // 2], curves[-1]
    return 1000 * (end["kimg"] - half["kimg"]) / (end["seconds"] - half["seconds"])


def launched_rate(spec: TrialSpec, images: Tensor) -> float:
    """Likewise without graphs, kernel by kernel."""
    with mock.patch.object(loop, "can_be_graphs", return_value=False):
        return harness_rate(spec, images)


def bfloat16_rate(spec: TrialSpec, images: Tensor) -> float:
    """Likewise with graphs, the networks in bfloat16."""
    return harness_rate(replace(spec, number_format="bfloat16"), images)


def lasting(spec: TrialSpec, images_a_second: float, seconds: float) -> TrialSpec:
    """The trial with a budget of so many seconds, at least a few steps."""
    return replace(spec, kimg=max(images_a_second * seconds, 3 * spec.batch_size) / 1000)


class Busy:
    """Samples nvidia-smi while it is entered; nothing without an NVIDIA GPU."""

    def __init__(self, device: str) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.samples: list[list[float]] = []
        self.device = device

    def __enter__(self) -> "Busy":
        if self.device == "cuda":
            query = "--query-gpu=utilization.gpu,memory.used,power.draw"
            command = ["nvidia-smi", query, "--format=csv,noheader,nounits", "-lms", "150"]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            output = self.process.communicate()[0]
            self.samples = [[float(x) for x in line.split(",")] for line in output.splitlines() if line.count(",") == 2]

    def __str__(self) -> str:
        steady = self.samples[len(self.samples) // 3 :]  # the first look back at what was before
        if not steady:
            return "busy –"
        share, memory, watts = (statistics.median(column) for column in zip(*steady, strict=True))
        return f"busy {share:.0f}% ({len(steady)} samples), card memory {memory:,.0f} MiB, {watts:.0f} W"


def in_turns(contenders: dict[str, Callable[[], float]], options: Options) -> dict[str, float]:
    """The median of each over the rounds."""
    rounds = []
    for _ in range(options.rounds):
        if time.monotonic() > options.deadline:
            raise OutOfTime
        rounds.append({name: measure() for name, measure in contenders.items()})
    return {name: statistics.median(r[name] for r in rounds) for name in contenders}


def say(text: str) -> None:
    """Print it at once."""
    print(text, flush=True)


def card(options: Options) -> None:
    """Large matrix products on random numbers."""
    n = 64 if options.toy else 8192
    a, b = (torch.randn(n, n, device=options.device) for _ in range(2))
    for name, tf32, kind in (
        ("float32", False, torch.float32),
        ("TF32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
    ):
        x, y = a.to(kind), b.to(kind)
        with numerics(deterministic=True, tf32_matmul=tf32, tf32_convolution=False):
            seconds = seconds_a_call(lambda x=x, y=y: x @ y, 0.3, options.device)
        say(f"{name:<9} {2 * n**3 / seconds / 1e12:8.2f} TFLOP/s in a {n}×{n}×{n} product")


def flops_a_step_image(spec: TrialSpec) -> int:
    """Of the harness's step, forward and backward, for each image of the batch: 3 passes' worth of G and 7 of D.

    D sees two images forward; backward it needs both gradients of its weights and of its input for D's loss (4) and
    that of its input alone for G's (1).
    """
    gan = build_networks(spec)
    shape = (spec.channels, spec.resolution, spec.resolution)
    return 3 * flops_per_image(gan.generator, (spec.latent_dim,)) + 7 * flops_per_image(gan.discriminator, shape)


def alone(options: Options) -> None:
    """The harness, also without graphs and in bfloat16, and the textbook loop; how busy it keeps the card alone."""
    for network in options.of(*NETWORKS):
        spec, images = options.spec(network), random_images(options.spec(network), options.device)
        warm = replace(spec, kimg=WARM_UP * spec.batch_size / 1000)
        contenders: dict[str, Callable[[], float]] = {}
        for name, rate_of, context in (
            ("harness", harness_rate, strict),
            ("kernel by kernel", launched_rate, strict),
            ("bfloat16", bfloat16_rate, strict),
            ("textbook", bare_loop, strict),
            ("textbook default", bare_loop, default),
        ):

            def measured(rate_of=rate_of, context=context, images=images, budget=warm) -> float:
                with context():
                    return rate_of(budget, images)

            measured()
            rate = measured(budget=replace(warm, kimg=3 * warm.kimg))
            contenders[name] = partial(measured, budget=lasting(spec, rate, options.seconds))
        found = in_turns(contenders, options)
        if options.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with strict(), Busy(options.device) as busy:
            harness_rate(lasting(spec, found["harness"], options.busy_seconds), images)
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in found.items())
        ratio = found["harness"] / found["textbook"]
        peak = torch.cuda.max_memory_allocated() / 2**20 if options.device == "cuda" else 0
        work = flops_a_step_image(spec) * found["harness"] / 1e12
        say(f"{network:<15} batch {spec.batch_size:>3}, images/s: {rates}; harness/textbook {ratio:.2f}")
        say(f"{'':<15} harness alone: {busy}, {work:.3f} TFLOP/s, peak {peak:,.0f} MiB allocated")


def sharing(options: Options) -> None:
    """Processes that train the same network with different seeds on one card, started together."""
    most = 2 if options.toy else 8
    context = get_context("spawn")
    pipes, processes = [], []
    for _ in range(most):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=sharer, args=(theirs, options.device), daemon=True))
        processes[-1].start()
        pipes.append(ours)
    try:
        for network in options.of("fc 28", "dc 28", "dc 96 reference"):
            spec, alone_total = options.spec(network), 0.0
            for number in (1, 2) if options.toy else (1, 4, 8):
                if time.monotonic() > options.deadline:
                    raise OutOfTime
                for i, pipe in enumerate(pipes[:number]):
                    pipe.send((replace(spec, seed=i), max(options.seconds, options.busy_seconds)))
                for pipe in pipes[:number]:
                    pipe.recv()  # warm
                with Busy(options.device) as busy:
                    for pipe in pipes[:number]:
                        pipe.send("go")
                    rates = [pipe.recv() for pipe in pipes[:number]]
                alone_total = alone_total or rates[0]
                total = sum(rates)
                say(
                    f"{network:<15} {number} at once: {total:,.0f} images/s in all ({total / alone_total:.2f} of one), "
                    f"each {min(rates):,.0f} to {max(rates):,.0f}; {busy}"
                )
    finally:
        for process in processes:
            process.kill()


def sharer(pipe: Connection, device: str) -> None:
    """The other end: (spec, seconds) -> "warm"; "go" -> images a second."""
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    while True:
        spec, seconds = pipe.recv()
        images = random_images(spec, device)
        warm = replace(spec, kimg=WARM_UP * spec.batch_size / 1000)
        harness_rate(warm, images)
        rate = harness_rate(warm, images)  # beside the others
        pipe.send("warm")
        pipe.recv()
        pipe.send(harness_rate(lasting(spec, rate, seconds), images))


def compare(network: str, steps: dict[str, tuple[Callable[[], Callable[[], None]], int]], options: Options) -> None:
    """Print the rate of each prototype: name -> (what makes its step, seeds in it); the first is what ratios are to."""
    spec = options.spec(network)
    first = 0.0
    for name, (make, seeds) in steps.items():
        if time.monotonic() > options.deadline:
            raise OutOfTime
        try:
            before = 0  # what earlier prototypes left: cuBLAS keeps a workspace for each stream
            if options.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            step = make()
            for _ in range(WARM_UP):
                step()
            measures = [seconds_a_call(step, options.seconds / 2, options.device) for _ in range(options.rounds)]
        except (RuntimeError, NotImplementedError) as error:  # a prototype that does not work is a finding too
            say(f"{network:<15} {name:<34} fails: {type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        rate = seeds * spec.batch_size / statistics.median(measures)
        first = first or rate
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if options.device == "cuda" else 0
        each = f", {rate / seeds:,.0f} a seed" if seeds > 1 else ""
        say(f"{network:<15} {name:<34} {rate:>11,.0f} images/s (×{rate / first:.2f}){each}; peak {peak:,.0f} MiB")
        del step


def seeds(options: Options) -> None:
    """Graphs and batched seeds, under strict numerics."""
    numbers = (2,) if options.toy else (8, 16, 64)
    for network in options.of("fc 28", "dc 28", "fc 56 reference", "dc 96 reference"):
        spec, images = options.spec(network), random_images(options.spec(network), options.device)
        solo, batched = partial(solo_step, spec, images), partial(batched_step, spec, images)
        steps: dict[str, tuple[Callable[[], Callable[[], None]], int]] = {"textbook, fused Adam": (solo, 1)}
        variants = {"": False, ", bfloat16": True}
        for suffix, bfloat16 in variants.items():
            if options.device == "cuda":
                steps[f"graph{suffix}"] = (lambda solo=solo, b=bfloat16: as_graph(solo(bfloat16=b)), 1)
        for number in numbers if "reference" not in network else numbers[:1]:
            steps[f"{number} seeds"] = (partial(batched, number), number)
            for suffix, bfloat16 in variants.items():
                if options.device == "cuda":
                    steps[f"{number} seeds, graph{suffix}"] = (
                        lambda batched=batched, n=number, b=bfloat16: as_graph(batched(n, bfloat16=b)),
                        number,
                    )
        with strict():
            check_batched(spec, options)
            compare(network, steps, options)


def check_batched(spec: TrialSpec, options: Options) -> None:
    """That the batched generator is its seeds' generators: the largest difference of their images, in [-1, 1]."""
    nets = [build_networks(replace(spec, seed=seed)).generator for seed in range(3)]
    z = torch.randn(3, spec.batch_size, spec.latent_dim, device=options.device)
    _, together = as_one([copy.deepcopy(net) for net in nets], z.device)
    with torch.no_grad():
        single = torch.stack([net.to(z.device).train()(x) for net, x in zip(nets, z, strict=True)])
        if spec.generator_dropout == 0:
            say(f"{'':<15} batched and single generators differ by {float((together(z) - single).abs().max()):.1e}")


def precision(options: Options) -> None:
    """Number formats and memory layouts, as CUDA graphs where there is a GPU, so that Python does not count."""
    graph = as_graph if options.device == "cuda" else lambda step: step
    for network in options.of("dc 28", "dc 64", "fc 56 reference", "dc 96 reference"):
        spec, images = options.spec(network), random_images(options.spec(network), options.device)
        for name, tf32, bfloat16 in (("float32", False, False), ("TF32", True, False), ("bfloat16", False, True)):
            layouts = ("plain", "channels last") if spec.architecture == "dc" else ("plain",)
            steps = {
                f"{name}, {layout}": (
                    lambda spec=spec, images=images, b=bfloat16, last=layout == "channels last": graph(
                        solo_step(spec, images, bfloat16=b, channels_last=last)
                    ),
                    1,
                )
                for layout in layouts
            }
            with numerics(deterministic=True, tf32_matmul=tf32, tf32_convolution=tf32):
                compare(network, steps, options)


SECTIONS = {"card": card, "alone": alone, "sharing": sharing, "seeds": seeds, "precision": precision}


def main() -> None:
    """Print every section; one that fails says so and leaves the others alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu runs it at a toy size")
    parser.add_argument("--minutes", type=float, default=6.0, help="stop after so long")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each figure")
    parser.add_argument("--seconds", type=float, default=0.7, help="of a timed run")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device; --device cpu runs everything at a toy size")
    toy = chosen.device == "cpu"
    torch.set_num_threads(1)
    options = Options(
        device=chosen.device,
        rounds=1 if toy else chosen.rounds,
        seconds=0.01 if toy else chosen.seconds,
        deadline=time.monotonic() + 60 * chosen.minutes,
        busy_seconds=0.0 if toy else 2.5,
        toy=toy,
        networks=tuple(name for name in chosen.networks if not toy or name.endswith("28")),
    )
    where = provenance()
    name = cpu_name() if toy else torch.cuda.get_device_name()
    versions = f"torch {where['torch']}, Python {where['python']}, commit {where['commit']}"
    say(f"{name}, {versions}, {time.strftime('%Y-%m-%d')}")
    failed = False
    for section in chosen.sections:
        started = time.monotonic()
        say(f"\n{section}: {SECTIONS[section].__doc__.splitlines()[0]}")
        try:
            SECTIONS[section](options)
        except OutOfTime:
            say("stopped here: time is up")
        except Exception:  # noqa: BLE001  the other sections' figures are wanted all the same
            say(f"FAILED\n{traceback.format_exc()}")
            failed = True
        say(f"({section} took {time.monotonic() - started:.0f} s)")
    sys.exit(failed)


if __name__ == "__main__":
    main()
