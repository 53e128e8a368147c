"""What a site of many trials costs: seconds and bytes to build it, and how soon a browser shows its pages.

    python benchmarks/site.py [--trials 10000] [--keep FOLDER]

Its store is made up: every study of the catalogue at the profiles laptop and long, with as many seeds as it takes. A
page should be shown within 1 s of being opened, in headless Chromium (tests/site/browser.py), where one is installed.
"""

import argparse
import itertools
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness.site.build import build
from harness.spec import ScoreProtocol
from harness.storage.result import TrialResult
from harness.storage.samples import to_png
from harness.storage.store import Store
from studies.catalog import CATALOG
from tests.site.browser import CHROMIUM, chromium

PROTOCOLS = [
    ScoreProtocol(
        extractor=name, extractor_hash="0" * 16, reference="made-up", reference_hash="1" * 16, num_reference=2000,
        num_generated=2000, resolution=28, channels=1, kid_gamma=1.0,
    )
    for name in ("classifier", "imagenet-lite0")
]  # fmt: skip
"""The second has scores of every third trial."""
NAMES = ("step", "kimg", "seconds", "d_loss", "g_loss", "d_real", "d_fake", "d_accuracy", "fid_online")


def make_store(folder: Path, number: int) -> Store:
    """A store of so many made-up trials, and a few more."""
    store = Store(folder, create=True)
    designs = [
        study.at(profile)
        for study, profile in itertools.product(CATALOG.studies.values(), ("laptop", "long"))
        if profile in [p.name for p in study.profiles] and study.tuning is None
    ]
    seeds = 1
    while sum(len(design.every_arm) for design in designs) * seeds < 1.25 * number:  # some trials are shared
        seeds += 1
    rng, pictures = np.random.default_rng(0), []
    for _ in range(50):
        noise = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).resize((28, 28))
        pictures.append(to_png(np.stack([np.asarray(noise)[None]] * 64)))
    there: set[str] = set()
    for design in designs:
        cells = []
        for run in design.runs(seeds, lambda *_: "0" * 16):
            cells.append({"arm": run.arm, "seed": run.seed, "trial_id": run.spec.trial_id})
            if run.spec.trial_id in there:
                continue
            there.add(run.spec.trial_id)
            store.write(_made_up(run.spec, rng, pictures))
            if len(there) % 3 == 0 and store.status(run.spec.trial_id) == "ok":
                store.add_scores(run.spec.trial_id, PROTOCOLS[1], _scores(rng))
        plan = {"protocol_id": PROTOCOLS[0].protocol_id, "cells": cells}
        store.write_plan(design.name, design.profile.name, plan)
        if len(there) >= number:
            break
    return store


def _scores(rng: np.random.Generator) -> dict[str, float]:
    fid = float(rng.lognormal(4, 0.3))
    return {"fid": fid, "is_mean": 6.0, "kid": fid / 1000, "precision": 0.6, "recall": float(rng.uniform(0.1, 0.7))}


def _made_up(spec, rng: np.random.Generator, pictures: list[bytes]) -> TrialResult:
    if rng.random() < 0.01:
        return TrialResult(spec=spec, status="diverged", error="d_loss is nan at step 120", cost={"seconds": 5.0})
    curves = pd.DataFrame(rng.random((64, len(NAMES))), columns=list(NAMES))
    curves["kimg"] = np.linspace(0, 1, 64) * spec.kimg
    curves.loc[curves.index % 5 > 0, "fid_online"] = np.nan
    made = {"date": "2026-01-01T00:00:00Z", "commit": "0123456789ab", "cpu": "Imaginary CPU", "torch": "2.14.1"}
    return TrialResult(
        spec=spec, status="ok", protocol=PROTOCOLS[0], scores=_scores(rng), provenance=made, curves=curves,
        cost={"kimg": spec.kimg, "seconds": float(rng.uniform(20, 60)), "cpu_seconds": 20.0, "d_steps": 782.0},
        samples_png=pictures[int(rng.integers(len(pictures)))], weights=b"w",
    )  # fmt: skip


def opening(site: Path, folder: Path) -> None:
    """Print how soon a browser shows each kind of page: from navigation until its list stands, the best of 5."""
    with chromium(folder) as browser:
        print("\n| page | shown after, ms | its first figure, ms | rows |\n|:--|--:|--:|--:|")
        trial = next((site / "trials").glob("*.html")).relative_to(site)
        for name in ("index.html", "leaderboard.html", "trials.html", str(trial)):
            shown, drawn = [], []
            for _ in range(5):
                browser.open(site / name)
                browser.wait("performance.getEntriesByName('shown').length")
                shown.append(browser.run("performance.getEntriesByName('shown')[0].startTime"))
                if browser.run("document.querySelector('[data-figure]') !== null"):
                    browser.wait("document.querySelector('[data-figure]').dataset.drawn")
                    drawn.append(browser.run("performance.now()"))
            rows = browser.run("document.querySelector('[role=status]')?.textContent ?? ''")
            print(f"| {name} | {min(shown):.0f} | {f'{min(drawn):.0f}' if drawn else '–'} | {rows} |", flush=True)
        browser.require_no_errors()


def main() -> None:
    """Print what building took, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="where store and site stay, and are taken from again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        store, began = folder / "store", time.perf_counter()
        if not store.exists():
            make_store(store, options.trials)
            print(f"a store made in {time.perf_counter() - began:.0f} s", flush=True)
        began, cpu = time.perf_counter(), time.process_time()

        def say(line: str) -> None:
            print(f"  {time.perf_counter() - began:6.1f} s  {line}", flush=True)

        print(build([store], folder / "site", CATALOG, processes=2, say=say))
        forks = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = time.process_time() - cpu + forks.ru_utime + forks.ru_stime
        print(f"built in {time.perf_counter() - began:.0f} s, {cpu:.0f} s of CPU, forks included")
        if CHROMIUM:
            opening(folder / "site", Path(scratch))


if __name__ == "__main__":
    main()
