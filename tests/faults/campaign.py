"""A random fault campaign: real studies under random faults, until the time is up; nothing may be missing or differ.

    python -m tests.faults.campaign [--minutes 10] [--seeds 6] [--seed 0]

The study of small.py runs once undisturbed. Then it runs again and again in new stores, while processes of all kinds
are killed, Ctrl-C is pressed and files are cut off at random times; whenever the driver is gone it is started again,
until the study is complete and `check` finds no damage. In the end every (arm, seed) must be there exactly once, and
weights, curves, scores and pictures must be those of the undisturbed run, bit for bit. Exit status 1 if they are not.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import psutil

from harness.analysis.results import load
from harness.storage.integrity import check
from harness.storage.store import Store
from tests.faults.conftest import TRAINERS, descendants, outcome

FAULTS_A_RUN = 8
"""On average, in the time that the study takes undisturbed; the pauses between them are exponentially distributed."""

HANGS = 900.0
"""Seconds without faults after which a driver ought to have ended."""

WORKERS = 2

Driver: TypeAlias = subprocess.Popen[bytes]
Fault: TypeAlias = Callable[["Campaign", Driver, Path], bool]
"""(campaign, driver, its store) -> whether there was something to harm."""


def kill(name: str) -> Fault:
    """Kill one of the driver's processes of this name."""

    def strike(campaign: "Campaign", driver: Driver, store: Path) -> bool:
        found = descendants(driver, name)
        if found:
            campaign.random.choice(found).kill()
        return bool(found)

    return strike


def signal_driver(number: int, *, group: bool) -> Fault:
    """Send the driver a signal; to its whole process group as a terminal does, or alone."""

    def strike(campaign: "Campaign", driver: Driver, store: Path) -> bool:
        (os.killpg if group else os.kill)(driver.pid, number)
        return True

    return strike


def cut_off(*patterns: str) -> Fault:
    """Leave only half of some file in the store."""

    def strike(campaign: "Campaign", driver: Driver, store: Path) -> bool:
        found = sorted(path for pattern in patterns for path in store.glob(pattern) if path.is_file())
        if found:
            path = campaign.random.choice(found)
            with contextlib.suppress(FileNotFoundError):  # the snapshot of a trial that has just ended
                os.truncate(path, path.stat().st_size // 2)
        return bool(found)

    return strike


FAULTS: dict[str, Fault] = {
    "a trial's process killed": kill("ImplicitFunc"),
    "another rank killed": kill("_run_rank"),
    "the raylet killed": kill("raylet/raylet"),
    "the driver killed": signal_driver(signal.SIGKILL, group=False),
    "Ctrl-C": signal_driver(signal.SIGINT, group=True),
    "a file of a trial cut off": cut_off("trials/[!.]*/**/*"),
    "a plan, reference or index cut off": cut_off("plans/*.json", "references/*.json", "cache/index/*"),
    "a snapshot cut off": cut_off("cache/snapshots/*.snapshot"),
    "cached features cut off": cut_off("cache/features/*.pt"),
}


class Campaign:
    """What was done so far, and to whom."""

    def __init__(self, seeds: int, seed: int) -> None:
        self.seeds, self.random = seeds, random.Random(seed)
        self.pause = 1.0  # seconds between two faults, on average
        self.counts: Counter[str] = Counter()
        self.started: set[psutil.Process] = set()

    def start(self, store: Path) -> Driver:
        self.counts["drivers started"] += 1
        command = [sys.executable, "-m", TRAINERS, str(store), str(self.seeds), str(WORKERS)]
        with store.with_suffix(".log").open("ab") as log:
            driver = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.started.add(psutil.Process(driver.pid))
        return driver

    def run(self, store: Path, faults_end: float) -> None:
        """Run the study in this store to its end, under faults until then (of time.monotonic)."""
        while True:
            driver = self.start(store)
            while driver.poll() is None:
                pause, left = self.random.expovariate(1 / self.pause), faults_end - time.monotonic()
                with contextlib.suppress(subprocess.TimeoutExpired, psutil.NoSuchProcess):
                    if left < pause:
                        driver.wait(max(left, 0) + HANGS)
                    else:
                        driver.wait(pause)
                    continue
                if time.monotonic() > faults_end + HANGS:
                    raise SystemExit(f"the driver hangs (process {driver.pid}); its store is {store}")
                with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                    self.started.update(descendants(driver))
                    kind = self.random.choice(list(FAULTS))
                    self.counts[kind] += FAULTS[kind](self, driver, store)
            if driver.returncode == 0 and not list(check(Store(store))):
                break
        log = store.with_suffix(".log").read_text()
        self.counts["→ damaged trials moved to the quarantine"] += log.count("was damaged and moved to")
        self.counts["→ trials given up for the time being"] += log.count(": failed: ")

    def compare(self, store: Store, undisturbed: Store) -> int:
        """How many trials differ from those of the undisturbed run."""
        trial_ids = undisturbed.trial_ids()
        assert store.trial_ids() == trial_ids, "a trial is missing, or one too many"
        cells, expected = (
            sorted(zip(rows.arm, rows.seed, rows.trial_id, strict=True))
            for rows in (load(s, study="small", profile="smoke") for s in (store, undisturbed))
        )
        assert cells == expected and len(set(cells)) == len(cells), "a row is missing or double"
        results = [store.read_result(trial_id) for trial_id in trial_ids]
        self.counts["trials compared with the undisturbed run"] += len(trial_ids)
        self.counts["→ of these gone on from a snapshot"] += sum("resumed_at_step" in r["provenance"] for r in results)
        return sum(outcome(store, trial_id) != outcome(undisturbed, trial_id) for trial_id in trial_ids)

    def sweep(self) -> None:
        """End whatever has not ended by itself."""
        for process in self.started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="for so long there are faults")
    parser.add_argument("--seeds", type=int, default=6, help="of each of the three arms")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the faults; when they strike depends on the machine, too"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # if it was ignored, drivers would inherit that
    scratch = Path(tempfile.mkdtemp(prefix="gan-campaign-"))
    campaign, differ = Campaign(options.seeds, options.seed), 0
    try:
        began = time.monotonic()
        campaign.run(scratch / "undisturbed", began)
        undisturbed = Store(scratch / "undisturbed")
        took = time.monotonic() - began
        print(f"undisturbed: {len(undisturbed.trial_ids())} trials in {took:.0f} s", flush=True)
        campaign.pause = took / FAULTS_A_RUN
        campaign.counts.clear()
        began = time.monotonic()
        while time.monotonic() < began + 60 * options.minutes:
            campaign.counts["studies"] += 1
            store = Store(scratch / f"study-{campaign.counts['studies']}", create=True)
            for place in ("data", "extractors"):  # how these are made is not what is tried here
                shutil.copytree(undisturbed.cache / place, store.cache / place)
            campaign.run(store.root, began + 60 * options.minutes)
            differ += campaign.compare(store, undisturbed)
            print(f"{store.root.name}: complete after {(time.monotonic() - began) / 60:.1f} min", flush=True)
    finally:
        campaign.sweep()
    campaign.counts["→ of these different"] = differ
    print("\n| what | how often |\n|---|---|")
    for what in (*FAULTS, *(what for what in campaign.counts if what not in FAULTS)):
        print(f"| {what} | {campaign.counts[what]} |")
    if differ:
        sys.exit(f"{differ} trials differ; the stores are in {scratch}")
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
