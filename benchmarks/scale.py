"""What the harness costs between trials: studies of no-op trials through the real Ray Tune and the real store.

    python benchmarks/scale.py [--stored 1000 10000] [--trials 100 1000] [--workers 2]

Driver seconds and memory a trial should stay flat; planning 100,000 trials should take less than 10 s, and opening a
store of 10,000 trials in pandas less than 5 s, once its index is made: the first time, every file is read.
"""

import argparse
import gc
import io
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from harness.analysis.results import SCORES, load
from harness.data import prepare
from harness.execution.progress import Progress
from harness.execution.ray_backend import run_trials
from harness.execution.trial import TrialContext
from harness.scoring.extractors import Extractor
from harness.scoring.fidelity import make_protocol
from harness.spec import ScoreProtocol, TrialSpec
from harness.storage.result import TrialResult
from harness.storage.store import Store
from studies.noise import NOISE


def nothing(spec: TrialSpec, context: TrialContext, snapshots: Path | None) -> TrialResult:
    """A trial that is over at once."""
    return TrialResult(spec=spec, status="ok", protocol=context.protocol, scores={"fid": 1.0}, cost={"seconds": 0.0})


def opening(store: Store, specs: list[TrialSpec]) -> tuple[float, float]:
    """Fill the store with such trials; seconds of opening it in pandas, the first time and the second."""
    at = np.linspace(0, 1, 64)
    names = ("step", "kimg", "seconds", "d_loss", "g_loss", "d_real", "d_fake", "d_accuracy", "fid_online")
    curves = pd.DataFrame(dict.fromkeys(names, at))
    cost = dict.fromkeys((f"cost {i}" for i in range(11)), 1.0) | {"seconds": 1.0}
    protocol = ScoreProtocol(
        extractor="none", extractor_hash="", reference="", reference_hash="", num_reference=1000, num_generated=1000,
        resolution=28, channels=1, kid_gamma=1.0,
    )  # fmt: skip
    scores = dict.fromkeys(SCORES, 1.0)
    for spec in specs:
        store.write(
            TrialResult(
                spec=spec, status="ok", protocol=protocol, scores=scores, cost=cost, curves=curves, weights=b"w"
            )
        )
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        assert len(load(store)) == len(specs)
        taken.append(time.perf_counter() - began)
    return taken[0], taken[1]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stored", type=int, nargs="*", default=[1000, 10000], help="sizes of the stores to open")
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 1000], help="sizes of the studies; up to 10000")
    parser.add_argument("--workers", type=int, default=2, help="trials at once")
    options = parser.parse_args()

    def specs(number: int) -> list[TrialSpec]:
        runs = NOISE.at("smoke").runs(-(-number // 18), lambda *_: "0" * 16)
        return list({run.spec.trial_id: run.spec for run in runs}.values())[:number]

    started = time.perf_counter()
    planned = specs(100_000)
    print(f"planning {len(planned):,} trials: {time.perf_counter() - started:.1f} s\n")
    del planned[max([*options.stored, *options.trials, 0]) :]  # so that they are not counted below
    gc.collect()
    print("| stored trials | opening in pandas, s | again, s |")
    print("|---|---|---|")
    for number in options.stored:
        with tempfile.TemporaryDirectory() as scratch:
            first, again = opening(Store(Path(scratch) / "store", create=True), planned[:number])
        print(f"| {number:,} | {first:.1f} | {again:.1f} |", flush=True)
    print("\n| trials run | wall, s | driver CPU, ms a trial | driver memory, MiB (growth) |")
    print("|---|---|---|---|")
    for number in options.trials:
        with tempfile.TemporaryDirectory() as scratch:
            store = Store(Path(scratch) / "store", create=True)
            data = prepare("mnist-5k", resolution=28, channels=1, cache=store.cache)
            extractor = Extractor(
                name="classifier",
                weights_path=store.cache / "none",
                weights_hash="0" * 16,
                channels=1,
                num_classes=10,
                accuracy=1.0,
                feature_rms=1.0,
            )
            protocol = make_protocol(extractor, data, num_generated=500)
            context = TrialContext(data=data, extractor=extractor, protocol=protocol, cache=store.cache)
            wanted = planned[:number]
            driver = psutil.Process()
            before, cpu, began = driver.memory_info().rss, time.process_time(), time.perf_counter()
            progress = Progress(
                title="scale",
                total=number,
                already_done=0,
                arms={spec.trial_id: ("none", spec.seed) for spec in wanted},
                stream=io.StringIO(),
            )
            with progress:
                run_trials(wanted, {"0" * 16: context}, store, progress, options.workers, run=nothing)
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            memory = driver.memory_info().rss
            assert len(load(store)) == number
            print(
                f"| {number:,} | {wall:.0f} | {1000 * cpu / number:.1f} | {memory / 2**20:.0f} "
                f"({(memory - before) / 2**20:+.0f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
