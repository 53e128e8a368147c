"""A study end to end against a shell loop of textbook scripts: 8 trials, from the command to the answer.

    python benchmarks/study.py [--kimg 10] [--rounds 3]

Both sides train the same networks (4 DC, 4 FC, of the studies' baselines) for the same budget on the same digits, and
score as many samples by the same classifier with torch-fidelity. The loop is `textbook_trial.py`, a process each, one
after the other or as many at once as there are cores; its data is ready, while the study's command begins with an empty
store, scores real images and untrained generators too, keeps curves and weights, and ends with the report. In turns, so
that a ratio means something on a busy machine.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.data import prepare
from harness.execution.provenance import cpu_name, provenance
from harness.execution.resources import processors
from harness.scoring.yardstick import prepare_extractor

ROOT = Path(__file__).parents[1]
SEEDS = 4
STUDY = """
from dataclasses import replace

from harness.study import Contrast, Factor, Level, Study
from studies.baselines import DC, FC
from studies.profiles import LAPTOP

FAMILY = Factor(label="family", levels=(Level(label="dc"), Level(label="fc", changes=FC)))
STUDY = Study(
    name="families",
    title="DC or FC?",
    baselines={{"dc": DC}},
    questions=(
        Contrast(key="family", text="Is FC worse?", hypothesis="Yes.", baseline="dc", factor=FAMILY, expected="higher"),
    ),
    profiles=(replace(LAPTOP, name="timed", seeds={seeds}, changes={{**LAPTOP.changes, "kimg": {kimg}}}),),
)
"""


def loop(at_once: int, kimg: float, digits: Path, classifier: Path) -> float:
    """Seconds of the textbook scripts, so many at once."""
    script = [sys.executable, "benchmarks/textbook_trial.py"]
    families = ("dc", "fc")
    trials = [(family, str(seed)) for seed in range(SEEDS) for family in families]
    waiting = [[*script, *trial, str(kimg), str(digits), str(classifier)] for trial in trials]
    running: list[subprocess.Popen[bytes]] = []
    began = time.perf_counter()
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(subprocess.Popen(waiting.pop(0), cwd=ROOT, stdout=subprocess.DEVNULL))
        for process in [process for process in running if process.poll() is not None]:
            running.remove(process)
            if process.returncode:
                raise SystemExit(f"a textbook script ended with status {process.returncode}")
        time.sleep(0.02)
    return time.perf_counter() - began


def study(kimg: float, folder: Path) -> float:
    """Seconds of one command, on an empty store, up to its report."""
    (folder / "families.py").write_text(STUDY.format(seeds=SEEDS, kimg=kimg))
    command = [sys.executable, "-m", "studies", "run", str(folder / "families.py"), "--store", str(folder / "store")]
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kimg", type=float, default=10.0, help="budget of a trial, in thousand images")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs, in turns")
    options = parser.parse_args()
    where, cores = provenance(), processors()
    versions = ", ".join(f"{name} {where[name]}" for name in ("torch", "torch_fidelity", "ray") if name in where)
    print(f"{cpu_name()}, {cores} cores, {versions}, commit {where['commit']}")
    print(f"{2 * SEEDS} trials of {options.kimg:g} kimg, {options.rounds} rounds in turns, medians\n", flush=True)
    sides: dict[str, list[float]] = {"study": [], "loop, one at a time": [], f"loop, {cores} at a time": []}
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        data = prepare("mnist-5k", resolution=28, channels=1, cache=cache)
        classifier = prepare_extractor("classifier", data, cache).weights_path
        digits = Path(scratch) / "digits.npz"
        np.savez(digits, train=data.images("train"), reference=data.images("reference"))
        for number in range(options.rounds):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            turns = (
                lambda folder=folder: study(options.kimg, folder),
                lambda: loop(1, options.kimg, digits, classifier),
                lambda: loop(cores, options.kimg, digits, classifier),
            )
            for name, turn in zip(sides, turns, strict=True):
                sides[name].append(turn())
                print(f"round {number + 1}, {name}: {sides[name][-1]:.0f} s", flush=True)
    print("\n| | seconds | median | study ÷ it |")
    print("|---|---|---|---|")
    for name, found in sides.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(sides["study"], found, strict=True))
        print(f"| {name} | {', '.join(f'{s:.0f}' for s in found)} | {statistics.median(found):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
