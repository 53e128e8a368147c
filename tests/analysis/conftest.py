"""A store of made-up results: no number in it is a measurement."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from PIL import Image

from harness.analysis.evidence import Evidence, load_evidence
from harness.analysis.verdicts import Answer
from harness.questions import Question
from harness.spec import ScoreProtocol
from harness.storage.result import TrialResult
from harness.storage.store import Store
from harness.study import Design, Interaction, Study
from studies import STUDIES

settings.register_profile("unhurried", deadline=None)  # a busy machine is no finding
settings.load_profile("unhurried")

SEEDS = 6
PROFILE = "laptop"
FINGERPRINT = "0" * 16
DIVERGED, FAILED, SINGLE, EMPTY = (
    "fc latent_std=10",
    "dc instance_noise=0.5",
    "dc latent_dim=2",
    "dc latent_dim=256",
)


def make_protocol(num_generated: int = 2000) -> ScoreProtocol:
    return ScoreProtocol(
        extractor="classifier",
        extractor_hash="5e17a11c5e17a11c",
        reference="mnist-5k/reference",
        reference_hash="0ddba110ddba1100",
        num_reference=2000,
        num_generated=num_generated,
        resolution=28,
        channels=1,
        kid_subset_size=500,
        kid_gamma=0.01,
        versions=(("torch-fidelity", "0.4.0"),),
    )


def made_up_scores(rng: np.random.Generator, level: int, seed: int) -> dict[str, float]:
    fid = (20 + 6 * abs(level % 5 - 2) ** 1.5 + 1.5 * seed) * rng.lognormal(0, 0.08)
    return {
        "fid": fid,
        "is_mean": 8 - 0.05 * fid * rng.lognormal(0, 0.02),
        "is_std": 0.1,
        "kid": 0.0004 * fid * rng.lognormal(0, 0.1),
        "kid_subset_std": 0.001,
        "precision": float(np.clip(0.9 - 0.004 * fid + rng.normal(0, 0.01), 0, 1)),
        "recall": float(np.clip(0.8 - 0.01 * fid + rng.normal(0, 0.02), 0, 1)),
    }


def made_up_curves(rng: np.random.Generator, kimg: float, fid: float) -> pd.DataFrame:
    x = np.linspace(0.25, kimg, 64)
    wobble = rng.normal(0, 0.03, (5, 64))
    online = np.full(64, np.nan)  # measured at ten points, the last among them
    online[::7] = fid * (1 + 4 * np.exp(-x[::7] / rng.uniform(1, 7)))
    return pd.DataFrame(
        {
            "step": np.ceil(x * 1000 / 64).astype(np.int64),
            "kimg": x,
            "seconds": x / 3,
            "d_loss": 1.2 - 0.3 * (1 - np.exp(-x / 10)) + wobble[0],
            "g_loss": 0.8 + 0.5 * (1 - np.exp(-x / 10)) + wobble[1],
            "d_real": 0.6 + 0.1 * (1 - np.exp(-x / 10)) + wobble[2],
            "d_fake": 0.4 - 0.1 * (1 - np.exp(-x / 10)) + wobble[3],
            "d_accuracy": 0.7 + 0.1 * (1 - np.exp(-x / 10)) + wobble[4],
            "fid_online": online,
        }
    )


def made_up_grid(rng: np.random.Generator, level: int) -> bytes:
    """An 8 × 8 sheet of rings: plainly no digits, a little different at every level."""
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    sheet = np.zeros((238, 238), dtype=np.uint8)
    for i in range(64):
        radius = rng.uniform(0.3, 0.8)
        ring = np.exp(-(((np.hypot(x, y) - radius) * (4 + level)) ** 2)) + rng.normal(0, 0.02 * level, (28, 28))
        top, left = i // 8 * 30, i % 8 * 30
        sheet[top : top + 28, left : left + 28] = (255 * np.clip(ring, 0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG")
    return buffer.getvalue()


def make_answer(verdict: str, effect: float, low: float, high: float, scale: str = "ratio") -> Answer:
    return Answer(
        question="q", claim=f"a claim that is {verdict}", level="1", verdict=verdict, effect=effect, low=low, high=high,
        scale=scale, p=0.01, p_holm=0.02, smallest_p=0.03, p_exact=0.03, n=6, failures=0, seed_correlation=0.0,
        probability_of_improvement=0.5, seeds_needed=None, seconds=1.0, method="t", problem="", sentence="It is so.",
    )  # fmt: skip


def write_data(store: Store) -> None:
    """Prepared "training data" of noise, kept as harness.data does."""
    folder = store.cache / "data" / "made-up"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part in ("train", "reference"):
        np.save(folder / f"{part}.npy", rng.integers(0, 256, (50, 1, 28, 28), dtype=np.uint8))
    (folder / "meta.json").write_text(json.dumps({"fingerprint": FINGERPRINT}))


def fill(store: Store, study: Study, profile: str = PROFILE, protocol: ScoreProtocol | None = None) -> None:
    """Write made-up results: one arm has a diverged trial, one a failed one, one a single seed, one none."""
    protocol = protocol or make_protocol()
    cells = study.at(profile).runs(SEEDS, lambda *_: FINGERPRINT)
    arms = list(dict.fromkeys(c.arm for c in cells))
    for cell in cells:
        if cell.arm == EMPTY or (cell.arm == SINGLE and cell.seed > 0):
            continue
        level = arms.index(cell.arm)
        rng = np.random.default_rng([level, cell.seed])
        diverged = cell.arm == DIVERGED and cell.seed == 3
        failed = cell.arm == FAILED and cell.seed == 5
        scores = made_up_scores(rng, level, cell.seed)
        store.write(
            TrialResult(
                spec=cell.spec,
                status="diverged" if diverged else "failed" if failed else "ok",
                error="d_loss is nan at step 120" if diverged else "worker lost" if failed else "",
                protocol=protocol,
                scores={} if diverged or failed else scores,
                cost={
                    "kimg": cell.spec.kimg,
                    "d_steps": cell.spec.num_steps * cell.spec.discriminator_steps,
                    "g_steps": cell.spec.num_steps * cell.spec.generator_steps,
                    "seconds": 21 + float(rng.uniform(0, 3)),
                    "cpu_seconds": 20.0,
                    "train_seconds": 18.0,
                    "score_seconds": 3.0,
                    "generator_parameters": 123_456 + level,
                    "discriminator_parameters": 65_432,
                    "generator_flops_per_image": 2.5e6,
                    "discriminator_flops_per_image": 1.5e6,
                    "peak_memory_bytes": 4e8,
                },
                provenance={
                    "commit": "0123456789ab",
                    "date": f"2000-01-01T00:{cell.seed:02d}:00Z",
                    "python": "3.11.0",
                    "torch": "2.14.1",
                    "ray": "2.60.0",
                    "torch_fidelity": "0.4.0",
                    "torchmetrics": "1.9.0",
                    "numpy": "2.3.0",
                    "platform": "Made-up-OS 1.0",
                    "cpu": "Imaginary CPU",
                    "gpu": "",
                    "threads": 1,
                },
                curves=None if failed else made_up_curves(rng, cell.spec.kimg, scores["fid"]),
                samples_png=b"" if diverged or failed else made_up_grid(rng, level % 5),
            )
        )
    write_data(store)
    store.write_reference(protocol, {"fid": 1.25, "is_mean": 7.7, "kid": -0.0002, "precision": 0.91, "recall": 0.92})
    store.write_plan(
        study.name,
        profile,
        {
            "study": study.name,
            "profile": profile,
            "protocol_id": protocol.protocol_id,
            "cells": [{"arm": c.arm, "seed": c.seed, "trial_id": c.spec.trial_id} for c in cells],
        },
    )


def with_untrained(store: Store, study: Study) -> str:
    """Add an untrained dc, as a run does, and return its trial_id."""
    plan = store.read_plan(study.name, PROFILE) or {}
    trial_id = next(cell["trial_id"] for cell in plan["cells"] if cell["arm"] == "dc" and cell["seed"] == 0)
    spec = replace(store.read_spec(trial_id), kimg=0.0)
    store.write(TrialResult(spec=spec, status="ok", protocol=make_protocol(), scores={"fid": 2000.0, "is_mean": 1.0}))
    store.write_plan(study.name, PROFILE, {**plan, "ceilings": {"dc": spec.trial_id}})
    return spec.trial_id


def asked(evidence: Evidence, question: Question, rows: pd.DataFrame | None = None) -> Evidence:
    """The same results, or other rows, of which this question alone is asked."""
    rows = evidence.rows if rows is None else rows
    return replace(evidence, design=replace(evidence.design, questions=(question,)), rows=rows)


def with_reference(evidence: Evidence, **scores: float) -> Evidence:
    """The same with these scores of real images in place of its own."""
    return replace(evidence, references={evidence.plan["protocol_id"]: scores})


def against(question: Question, versus: str) -> Interaction:
    """What the question's levels do beyond what they do to another baseline."""
    words = {"text": question.text, "hypothesis": question.hypothesis, "expected": question.expected}
    return Interaction(question.key, question.baseline, question.factor, versus=versus, **words)


@pytest.fixture(scope="session")
def study() -> Study:
    return STUDIES["noise"]


@pytest.fixture(scope="session")
def design(study: Study) -> Design:
    return study.at(PROFILE)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Store:
    """Filled once; tests read it only, but for its reports."""
    store = Store(Path(tmp_path_factory.mktemp("store")), create=True)
    fill(store, study)
    return store


@pytest.fixture(scope="session")
def evidence(store: Store, study: Study) -> Evidence:
    return load_evidence(store, study, PROFILE)
