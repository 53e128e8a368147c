"""Where everything in a store lies. No other module puts such a path together.

    <root>/store.json                        format and result version
    <root>/trials/<trial_id>/spec.json       the TrialSpec
                             result.json     status, error, cost, provenance, SHA-256 of the other files
                             scores/<protocol_id>.json    the protocol and the scores under it
                             curves.parquet  losses, D(x), D(G(z)), online FID over kimg
                             samples.png     a grid of samples at latents that all trials share
                             weights.safetensors    generator, its moving average, discriminator
    <root>/references/<protocol_id>.json     scores of real images: the real-vs-real reference
    <root>/plans/<study>-<profile>.json      which trial fills which (arm, seed) of a study
    <root>/extractors/                       classifiers that were trained for this store's own data
    <root>/cache/                            prepared data, extractors, features, checkpoints, the index
    <root>/reports/<study>-<profile>/        what `report` writes; rebuilt from the rest. By other scores than those
                                             of the last run, with the protocol's id behind
    <root>/quarantine/                       damaged trials and files, as they were found; never read
    <root>/claims                            an empty file; locks on its bytes say which trials a live process runs

Everything is JSON, Parquet, PNG or safetensors, readable with nothing but pandas. Nothing here is a pickle.
Files are made with the user's own umask.
"""

import json
import re
from pathlib import Path
from typing import Literal

from harness.errors import UserError
from harness.files import checksum

TRIAL_ID, PROTOCOL_ID, NAME = r"[0-9a-f]{16}", r"[0-9a-f]{12}", r"[a-z0-9][a-z0-9_-]*"

SPEC, RESULT, CURVES, SAMPLES, WEIGHTS = (
    "spec.json",
    "result.json",
    "curves.parquet",
    "samples.png",
    "weights.safetensors",
)
"""The files of a trial, beside those of its scores."""

CacheFolder = Literal["data", "downloads", "extractors", "features", "golden", "index", "snapshots"]


def cache_folder(cache: Path, kind: CacheFolder) -> Path:
    """The folder of a store's cache, or of a node's, that holds things of one kind."""
    return cache / kind


def checkpoint_path(folder: Path, trial_id: str) -> Path:
    """The checkpoint of an unfinished trial in a folder of checkpoints."""
    return folder / f"{trial_id}.snapshot"


def is_store(folder: Path) -> bool:
    """Whether the folder is a store."""
    return (folder / "store.json").is_file()


class Layout:
    """The paths in a store at `root`, which need not be there yet.

    Raises:
        UserError: from every method that is given a name which could lead out of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.marker = root / "store.json"
        self.trials, self.references, self.plans = root / "trials", root / "references", root / "plans"
        self.cache, self.reports, self.quarantine = root / "cache", root / "reports", root / "quarantine"
        self.extractors = root / "extractors"
        self.locks = root / "claims"
        self.index = cache_folder(self.cache, "index") / "rows.jsonl"

    def trial(self, trial_id: str) -> Path:
        """The folder of the trial of this name."""
        return self.trials / _checked("trial id", trial_id, TRIAL_ID)

    def reference(self, protocol_id: str) -> Path:
        """The scores of real images under a protocol."""
        return self.references / f"{_checked('protocol id', protocol_id, PROTOCOL_ID)}.json"

    def plan(self, study: str, profile: str) -> Path:
        """The plan of a study at a profile."""
        return self.plans / f"{_study_name(study, profile)}.json"

    def report_folder(self, study: str, profile: str, protocol_id: str = "") -> Path:
        """The report of a study at a profile, by the scores of its last run, or else of this protocol."""
        by = f"-{_checked('protocol id', protocol_id, PROTOCOL_ID)}" if protocol_id else ""
        return self.reports / (_study_name(study, profile) + by)

    def holds_trials(self) -> bool:
        """Whether there is any trial."""
        return any((folder / RESULT).exists() for folder in listed(self.trials) if re.fullmatch(TRIAL_ID, folder.name))


def scores_path(trial: Path, protocol_id: str) -> Path:
    """The scores under a protocol in the folder of a trial."""
    return trial / "scores" / f"{_checked('protocol id', protocol_id, PROTOCOL_ID)}.json"


def score_files(trial: Path) -> list[Path]:
    """All scores in the folder of a trial, sorted by name."""
    return listed(trial / "scores")


def listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name, without hidden files; empty if there is no folder."""
    there = (path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else ()
    return sorted(there, key=lambda path: path.name)  # as paths compare, at a tenth of the time


def _checked(kind: str, value: str, pattern: str) -> str:
    if not re.fullmatch(pattern, value):
        raise UserError(f"{kind} {value!r} cannot name a file of the store; allowed: {pattern}")
    return value


def _study_name(study: str, profile: str) -> str:
    """What a study's plan and report are called; a profile on other data ("paper@folder:PATH") gets a fitting name."""
    if not re.fullmatch(NAME, profile):
        words = "-".join(re.findall(r"[a-z0-9]+", profile.lower()))
        profile = f"{words[:60]}-{checksum(json.dumps(profile).encode())[:8]}"
    return f"{_checked('study', study, NAME)}-{profile}"
