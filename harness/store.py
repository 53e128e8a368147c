"""The store on disk: one folder a trial, named by its id; complete or absent. The only place that knows the layout.

    <root>/store.json                        format and result version
    <root>/trials/<trial_id>/spec.json       the TrialSpec
                             result.json     status, error, cost, provenance, checksums of the other files
                             scores/<protocol_id>.json    the protocol and the scores under it
                             curves.parquet  losses, D(x), D(G(z)), online FID over kimg
                             samples.png     a grid of samples at latents that all trials share
                             weights.safetensors    generator, its moving average, discriminator
    <root>/references/<protocol_id>.json     scores of real images: the floor
    <root>/plans/<study>-<profile>.json      which trial fills which (arm, seed) of a study
    <root>/cache/                            prepared data, extractors, features; may be deleted at any time
    <root>/reports/<study>-<profile>/        what `report` writes; rebuilt from the rest

Everything is JSON, Parquet, PNG or safetensors, readable with nothing but pandas. Nothing here is a pickle.
Files are made with the user's own umask.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow.parquet

from harness.errors import UserError
from harness.spec import RESULT_VERSION, ScoreProtocol, TrialSpec

FORMAT = 1
MIN_FREE_BYTES = 200 * 2**20
"""A run does not start, and a trial is not written, with less than this free beside what it needs."""

Status = Literal["ok", "diverged", "failed"]


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """All that a trial leaves behind. `failed` is for what went wrong outside the model, and is tried again."""

    spec: TrialSpec
    status: Status
    error: str = ""  # one line: where it diverged, or what failed
    protocol: ScoreProtocol | None = None
    scores: Mapping[str, float] = field(default_factory=dict)  # fid, is_mean, kid, precision, recall, ...
    cost: Mapping[str, float] = field(default_factory=dict)  # seconds, steps, parameters, FLOPs, memory
    provenance: Mapping[str, Any] = field(default_factory=dict)  # versions, commit, hardware, date
    curves: pd.DataFrame | None = None
    samples_png: bytes = b""
    weights: bytes = b""  # safetensors


class Store:
    """A store at `root`. Reading needs only pandas; any number of processes may read and write it at once."""

    def __init__(self, root: str | Path, *, create: bool = False) -> None:
        """Open the store, or make it.

        Raises:
            UserError: `root` is not a store, was written under another result version, or cannot be written.
        """
        self.root = Path(root).expanduser().resolve()
        marker = self.root / "store.json"
        try:
            found = json.loads(marker.read_text())
        except (FileNotFoundError, NotADirectoryError):
            if not create:
                raise UserError(
                    f"no store at {self.root}; name another with --store, or run a study to make one"
                ) from None
            self._make(marker)
            return
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {marker}: {error}; name another store with --store") from None
        version, layout = found.get("result_version"), found.get("format")
        if (version, layout) != (RESULT_VERSION, FORMAT):
            raise UserError(
                f"the store {self.root} was written by another version of the code (result version {version}, format "
                f"{layout}; this code writes {RESULT_VERSION} and {FORMAT}); name another with --store"
            )
        if create:
            self._refuse_unwritable()

    def _make(self, marker: Path) -> None:
        try:
            if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
                raise UserError(f"{self.root} exists and is not a store; name an empty or new folder with --store")
            self.root.mkdir(parents=True, exist_ok=True)
            self._write_json(marker, {"format": FORMAT, "result_version": RESULT_VERSION})
        except OSError as error:
            raise UserError(
                f"cannot make a store at {self.root}: {error.strerror}; name another with --store"
            ) from None

    def _refuse_unwritable(self) -> None:
        probe = self.root / f".probe-{uuid.uuid4().hex}"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"the store {self.root} is not writable: {error.strerror}; name another with --store"
            ) from None

    # ---- places ----

    @property
    def cache(self) -> Path:
        """Where prepared data, extractors and features are kept; safe to delete."""
        path = self.root / "cache"
        path.mkdir(exist_ok=True)
        return path

    def trial_folder(self, trial_id: str) -> Path:
        """The folder of a trial, there or not."""
        return self.root / "trials" / trial_id

    def report_folder(self, study: str, profile: str) -> Path:
        """Where the report of a study at a profile is written."""
        return self.root / "reports" / f"{study}-{profile}"

    # ---- trials ----

    def trial_ids(self) -> list[str]:
        """The ids of all trials in the store, failed ones too, sorted."""
        folder = self.root / "trials"
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []

    def status(self, trial_id: str) -> Status | None:
        """How the trial ended; None where the store does not hold it."""
        try:
            return json.loads((self.trial_folder(trial_id) / "result.json").read_text())["status"]
        except FileNotFoundError:
            return None

    def is_done(self, trial_id: str, protocol_id: str) -> bool:
        """Whether nothing is left to do: diverged, or finished and scored under this protocol."""
        status = self.status(trial_id)
        return status == "diverged" or (status == "ok" and self._score_path(trial_id, protocol_id).exists())

    def _score_path(self, trial_id: str, protocol_id: str) -> Path:
        return self.trial_folder(trial_id) / "scores" / f"{protocol_id}.json"

    def write(self, result: TrialResult) -> None:
        """Put a trial into the store, whole or not at all. A finished trial is never replaced; a failed one is.

        Raises:
            UserError: the disk is full. Nothing half-written is left.
        """
        trial_id = result.spec.trial_id
        final = self.trial_folder(trial_id)
        if self.status(trial_id) in ("ok", "diverged"):
            return
        staging = final.parent / f".{trial_id}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            staging.mkdir(parents=True)
            files = {"spec.json": _json_bytes(result.spec.to_dict())}
            if result.curves is not None:
                buffer = io.BytesIO()
                result.curves.to_parquet(buffer, index=False)
                files["curves.parquet"] = buffer.getvalue()
            if result.samples_png:
                files["samples.png"] = result.samples_png
            if result.weights:
                files["weights.safetensors"] = result.weights
            if result.protocol is not None and result.scores:
                files[f"scores/{result.protocol.protocol_id}.json"] = _json_bytes(
                    {"protocol": result.protocol.to_dict(), "scores": dict(result.scores)}
                )
            files["result.json"] = _json_bytes(
                {
                    "trial_id": trial_id,
                    "result_version": RESULT_VERSION,
                    "status": result.status,
                    "error": result.error,
                    "cost": dict(result.cost),
                    "provenance": dict(result.provenance),
                    "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
                }
            )
            for name, content in files.items():
                _write_synced(staging / name, content)
            if final.exists():  # a failed trial, tried again
                final.rename(staging / "replaced")
            staging.rename(final)
            shutil.rmtree(final / "replaced", ignore_errors=True)
            _sync_folder(final.parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return  # another process finished the same trial first; its result is the same
            raise _explained(error, self.root) from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def add_scores(self, trial_id: str, protocol: ScoreProtocol, scores: Mapping[str, float]) -> None:
        """Add the scores of a stored trial under a further protocol."""
        content = {"protocol": protocol.to_dict(), "scores": dict(scores)}
        self._write_json(self._score_path(trial_id, protocol.protocol_id), content)

    def read_spec(self, trial_id: str) -> TrialSpec:
        """The spec of a stored trial."""
        return TrialSpec.from_dict(json.loads((self.trial_folder(trial_id) / "spec.json").read_text()))

    def read_result(self, trial_id: str) -> dict[str, Any]:
        """result.json as it stands: status, error, cost, provenance, sha256."""
        return json.loads((self.trial_folder(trial_id) / "result.json").read_text())

    def read_scores(self, trial_id: str) -> dict[str, tuple[ScoreProtocol, dict[str, float]]]:
        """protocol_id -> (protocol, scores) of a stored trial; empty for one that diverged or failed."""
        found = {}
        for path in sorted((self.trial_folder(trial_id) / "scores").glob("*.json")):
            content = json.loads(path.read_text())
            found[path.stem] = (ScoreProtocol.from_dict(content["protocol"]), content["scores"])
        return found

    def read_curves(self, trial_id: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The curves of a stored trial, or those of these columns that it has; an empty table for one without any."""
        path = self.trial_folder(trial_id) / "curves.parquet"
        if not path.exists():
            return pd.DataFrame()
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.read(None if columns is None else list(columns)).to_pandas()

    # ---- what belongs to a study rather than a trial ----

    def write_reference(self, protocol: ScoreProtocol, scores: Mapping[str, float]) -> None:
        """Keep the scores of real images under a protocol."""
        path = self.root / "references" / f"{protocol.protocol_id}.json"
        self._write_json(path, {"protocol": protocol.to_dict(), "scores": dict(scores)})

    def read_reference(self, protocol_id: str) -> dict[str, float]:
        """The scores of real images under a protocol; empty where they were not computed."""
        path = self.root / "references" / f"{protocol_id}.json"
        return json.loads(path.read_text())["scores"] if path.exists() else {}

    def write_plan(self, study: str, profile: str, plan: Mapping[str, Any]) -> None:
        """Keep which trial fills which cell of a study: {"study", "profile", "protocol_id", "cells": [...]}."""
        self._write_json(self.root / "plans" / f"{study}-{profile}.json", dict(plan))

    def read_plan(self, study: str, profile: str) -> dict[str, Any] | None:
        """The plan of the study's last run at this profile; None if it never ran here."""
        path = self.root / "plans" / f"{study}-{profile}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def read_plans(self) -> list[dict[str, Any]]:
        """Every plan in the store, by name."""
        return [json.loads(p.read_text()) for p in sorted((self.root / "plans").glob("*.json"))]

    # ---- keeping house ----

    def require_free(self, needed_bytes: int) -> None:
        """Refuse to start where the disk would not hold what is to be written.

        Raises:
            UserError: less than needed_bytes + MIN_FREE_BYTES are free.
        """
        free = shutil.disk_usage(self.root).free
        if free < needed_bytes + MIN_FREE_BYTES:
            raise UserError(
                f"only {free / 2**20:.0f} MiB are free at {self.root}, and the run needs "
                f"{(needed_bytes + MIN_FREE_BYTES) / 2**20:.0f} MiB; free some, or name another place with --store"
            )

    def sweep(self) -> None:
        """Remove what killed processes of this machine left half-written."""
        for path in (self.root / "trials").glob(".*-*-*"):
            pid = path.name.rsplit("-", 2)[1]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(path, ignore_errors=True)

    def _write_json(self, path: Path, content: Any) -> None:
        staging = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
        try:
            _write_synced(staging, _json_bytes(content))
            staging.replace(path)
        except OSError as error:
            raise _explained(error, self.root) from None
        finally:
            with contextlib.suppress(OSError):
                staging.unlink(missing_ok=True)


def iter_results(store: Store) -> Iterator[tuple[str, dict[str, Any]]]:
    """(trial_id, result.json) of every trial in the store."""
    for trial_id in store.trial_ids():
        yield trial_id, store.read_result(trial_id)


def _json_bytes(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def _write_synced(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError, root: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"the disk of {root} is full; finished trials are intact: free some space and run again")
    return UserError(f"cannot write to {root}: {error.strerror or error}; finished trials are intact")
