"""The store on disk: trials, references and plans, each complete or absent. layout.py says what lies where."""

import contextlib
import errno
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet

from harness.errors import UserError, require_utf8
from harness.files import checksum, hidden_name, staged_folder, write_synced
from harness.spec import RESULT_VERSION, ScoreProtocol, TrialSpec
from harness.storage import layout as names
from harness.storage.layout import Layout, listed, score_files, scores_path
from harness.storage.locks import Locks, locks_at
from harness.storage.plans import former_plans, read_plan_file, renamed
from harness.storage.records import (
    Damaged,
    checked_json,
    explained,
    quarantine,
    read_checked,
    read_json,
    write_record,
)
from harness.storage.result import Status, TrialResult, counted, scores_record

FORMAT = 1


class Store:
    """A store at `root`. Reading needs only pandas; any number of processes may read and write it at once.

    What takes a trial's id also finds a trial that is here under its former name. Every read_... raises Damaged if the
    file is not what was written; those of a trial raise FileNotFoundError if it is not there.
    """

    def __init__(self, root: str | Path, *, create: bool = False) -> None:
        """Open the store; with `create`, make it if it is not there, and be ready to write to it."""
        self.root = Path(root).expanduser().resolve()
        require_utf8("store", self.root)
        self.layout = Layout(self.root)
        _open(self.layout, create=create)

    @property
    def cache(self) -> Path:
        """Where prepared data, extractors, features and checkpoints are kept; `cache_folder` knows its folders."""
        self.layout.cache.mkdir(exist_ok=True)
        return self.layout.cache

    @property
    def locks(self) -> Locks:
        """The trials that this process has for itself."""
        return locks_at(self.layout.locks)

    def trial_ids(self) -> list[str]:
        """The names of all trials in the store, failed ones too, sorted."""
        return [path.name for path in listed(self.layout.trials) if re.fullmatch(names.TRIAL_ID, path.name)]

    def trial_folder(self, trial_id: str) -> Path:
        """The folder of a trial, whether it is there or not."""
        folder = self.layout.trial(trial_id)
        return folder if os.path.lexists(folder) else self.layout.trial(self._former_names.get(trial_id, trial_id))

    def stored_name(self, trial_id: str) -> str:
        """The name under which the store holds the trial, or will."""
        return self.trial_folder(trial_id).name

    @cached_property
    def _former_names(self) -> dict[str, str]:
        """trial_id -> the name under which a trial on a folder of images was stored while paths were part of names.

        Nothing is stored under such a name any more, so it is enough to look once.
        """
        found: dict[str, str] = {}
        for name in self.trial_ids():
            with contextlib.suppress(OSError, UserError, ValueError, TypeError):  # damage is for others to find
                content = (self.layout.trial(name) / names.SPEC).read_bytes()
                if b'"folder:' in content:
                    spec = TrialSpec.from_dict(json.loads(content))
                    held = found.get(spec.trial_id)
                    if name == spec.path_id != spec.trial_id and (held is None or self.status(held) != "ok"):
                        found[spec.trial_id] = name
        return found

    def status(self, trial_id: str) -> Status | None:
        """How the trial ended; None if the store does not hold it, or holds it damaged."""
        try:
            return self.read_result(trial_id)["status"]
        except (FileNotFoundError, Damaged):
            return None

    def finished(self) -> list[str]:
        """The names of all trials that need not be trained again."""
        return [trial_id for trial_id in self.trial_ids() if self.status(trial_id) in ("ok", "diverged")]

    def is_done(self, trial_id: str, protocol_id: str) -> bool:
        """Whether nothing is left to do: the trial diverged, or is finished and scored under this protocol."""
        status, path = self.status(trial_id), scores_path(self.trial_folder(trial_id), protocol_id)
        return status == "diverged" or (status == "ok" and path.exists())

    def write(self, result: TrialResult) -> None:
        """Put a trial into the store, whole or not at all. A finished trial is never replaced; a failed one is.

        Of a trial that is already there, only scores under a further protocol are added.

        Raises:
            UserError: the disk is full. Nothing half-written is left.
        """
        trial_id = result.spec.trial_id
        status = self.status(trial_id)
        if status in ("ok", "diverged"):
            if status == "ok" and result.protocol is not None and result.scores:
                self.add_scores(trial_id, result.protocol, result.scores, result.provenance)
            return
        folder = self.layout.trial(trial_id)
        if status == result.status == "failed":
            result = counted(result, self.read_result(trial_id))
        if status is None and folder.exists():
            quarantine(self.layout, folder)
        try:
            with staged_folder(folder, replace=True) as staging:  # if this process is killed, the next run removes it
                for name, content in result.files().items():
                    write_synced(staging / name, content)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process finished the same trial first
                raise explained(error, self.layout) from None

    def add_scores(
        self,
        trial_id: str,
        protocol: ScoreProtocol,
        scores: Mapping[str, float],
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the scores of a stored trial under a further protocol; those it has are never replaced."""
        folder = self.trial_folder(trial_id)
        path = scores_path(folder, protocol.protocol_id)
        if not path.exists():
            content = scores_record(folder.name, protocol, scores) | {"provenance": dict(provenance or {})}
            write_record(self.layout, path, checked_json(content))

    def read_result(self, trial_id: str) -> dict[str, Any]:
        """result.json as it stands: status, error, cost, provenance, sha256."""
        path = self.trial_folder(trial_id) / names.RESULT
        result = read_checked(path)
        for key, ours in (("trial_id", path.parent.name), ("result_version", RESULT_VERSION)):
            if result.get(key) != ours:
                raise Damaged(path, f"its {key} is {result.get(key)!r} and not {ours!r}")
        return result

    def read_spec(self, trial_id: str) -> TrialSpec:
        """The spec of a stored trial."""
        path = self.trial_folder(trial_id) / names.SPEC
        try:
            spec = TrialSpec.from_dict(read_json(path))
        except (UserError, TypeError) as error:
            raise error if isinstance(error, Damaged) else Damaged(path, str(error)) from None
        name = path.parent.name
        if name not in (spec.trial_id, spec.path_id):  # the name is the content's own checksum
            revised = "it was made before a trick of its spec was revised (CHANGELOG.md), and its results may be wrong"
            raise Damaged(path, revised if name == spec.former_id else f"it is the spec of trial {spec.trial_id}")
        return spec

    def read_scores(self, trial_id: str) -> dict[str, tuple[ScoreProtocol, dict[str, float]]]:
        """protocol_id -> (protocol, scores) of a stored trial; empty for one that diverged or failed."""
        found, folder = {}, self.trial_folder(trial_id)
        for path in score_files(folder):
            protocol, scores, owner = _read_scores(path)
            if path.stem not in (protocol.protocol_id, protocol.path_id):
                raise Damaged(path, f"it holds scores of protocol {protocol.protocol_id}")
            if owner not in (None, folder.name):
                raise Damaged(path, f"it holds scores of trial {owner}")
            found[path.stem] = (protocol, scores)
        for protocol, _ in list(found.values()):  # under both its names it is one protocol
            if protocol.path_id != protocol.protocol_id and protocol.protocol_id in found:
                found.pop(protocol.path_id, None)
        return found

    def read_curves(self, trial_id: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The curves of a stored trial, or those of these columns that it has; an empty table if it has none."""
        content = self.read_file(trial_id, names.CURVES)
        if not content:
            return pd.DataFrame()
        with pyarrow.parquet.ParquetFile(io.BytesIO(content)) as file:
            return file.read(None if columns is None else list(columns), use_threads=False).to_pandas()

    def read_weights(self, trial_id: str) -> bytes:
        """The safetensors file of a stored trial; empty for one that left none."""
        return self.read_file(trial_id, names.WEIGHTS)

    def read_samples(self, trial_id: str) -> bytes:
        """The PNG picture of a stored trial's samples, which harness.storage.samples reads; empty if it left none."""
        return self.read_file(trial_id, names.SAMPLES)

    def has_samples(self, trial_id: str) -> bool:
        """Whether `read_samples` has something to read."""
        return (self.trial_folder(trial_id) / names.SAMPLES).exists()

    def read_file(self, trial_id: str, name: str) -> bytes:
        """A file that a trial's result.json lists, checked; empty if it is not listed."""
        path = self.trial_folder(trial_id) / name
        expected = self.read_result(trial_id)["sha256"].get(name)
        if expected is None:
            if path.exists():
                raise Damaged(path, "it is not among the files that the trial left")
            return b""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise Damaged(path, "it is gone") from None
        except OSError as error:
            raise Damaged(path, f"it cannot be read ({error.strerror})") from None
        if checksum(content) != expected:
            raise Damaged(path, "its checksum differs")
        return content

    def write_reference(self, protocol: ScoreProtocol, scores: Mapping[str, float]) -> None:
        """Keep the scores of real images under a protocol."""
        content = checked_json({"protocol": protocol.to_dict(), "scores": dict(scores)})
        write_record(self.layout, self.layout.reference(protocol.protocol_id), content)

    def read_reference(self, protocol_id: str) -> dict[str, float]:
        """The scores of real images under a protocol; empty if they were not computed."""
        path = self.layout.reference(protocol_id)
        if not path.exists():
            return {}
        protocol, scores, _ = _read_scores(path)
        if protocol_id not in (protocol.protocol_id, protocol.path_id):
            raise Damaged(path, f"it is the reference of protocol {protocol.protocol_id}")
        return scores

    def write_plan(self, study: str, profile: str, plan: Mapping[str, Any]) -> None:
        """Keep which trial fills which cell of a study: {"protocol_id", "cells": [...], ...}, and what it is of."""
        content = checked_json({**plan, "study": study, "profile": profile})
        write_record(self.layout, self.layout.plan(study, profile), content)
        for former in list(former_plans(self.layout, study, profile)):
            former.unlink(missing_ok=True)

    def read_plan(self, study: str, profile: str) -> dict[str, Any] | None:
        """The plan of the study's last run at this profile; None if it never ran here."""
        path = self.layout.plan(study, profile)
        there = path if path.exists() else next(former_plans(self.layout, study, profile), None)
        return {**read_plan_file(self.layout, there), "profile": profile} if there else None

    def read_plans(self) -> list[dict[str, Any]]:
        """Every plan in the store, by name."""
        return [renamed(self.layout, read_plan_file(self.layout, path)) for path in listed(self.layout.plans)]


def _read_scores(path: Path) -> tuple[ScoreProtocol, dict[str, float], str | None]:
    """(protocol, scores, the trial's name where the file says it)."""
    content = read_checked(path)
    try:
        return ScoreProtocol.from_dict(content["protocol"]), content["scores"], content.get("trial_id")
    except (UserError, KeyError, TypeError, AttributeError):
        raise Damaged(path, "it holds something else") from None


def _open(layout: Layout, *, create: bool) -> None:
    """Look at store.json; make it where it has to be made."""
    marker, root = layout.marker, layout.root
    harm, found = "", {}
    try:
        found = json.loads(marker.read_text())
        if not isinstance(found, dict):
            raise ValueError("it holds something else")
    except (FileNotFoundError, NotADirectoryError):
        harm = "gone"
    except OSError as error:
        raise UserError(f"cannot read {marker}: {error}; name another store") from None
    except ValueError as error:
        harm = f"damaged ({error})"
    if harm and layout.holds_trials():  # all that it says of the trials, each of them says itself
        if not create:
            raise UserError(f"{marker} is {harm}; the trials are as they were: the next `run` makes it again")
        if marker.exists():
            quarantine(layout, marker)
        _write_marker(layout)
    elif harm == "gone" and create:
        _make(layout)
    elif harm == "gone":
        if root.exists() and not (root.is_dir() and not any(root.iterdir())):
            raise _refusal(root)
        raise UserError(f"no store at {root}; name another store, or run a study to make one")
    elif harm:
        raise UserError(f"cannot read {marker}: it is {harm}; name another store")
    elif (found.get("result_version"), found.get("format")) != (RESULT_VERSION, FORMAT):
        raise UserError(
            f"the store {root} was written by another version of the code (result version "
            f"{found.get('result_version')}, format {found.get('format')}; this code writes {RESULT_VERSION} and "
            f"{FORMAT}); name another store"
        )
    elif create:
        try:
            probe = hidden_name(marker)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"the store {root} is not writable: {error.strerror}; name another store") from None


def _refusal(root: Path) -> UserError:
    return UserError(f"{root} exists and is not a store; name an empty or new folder")


def _make(layout: Layout) -> None:
    root, marker = layout.root, layout.marker
    refusal = _refusal(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if all(p.name.startswith(f".{marker.name}-") for p in root.iterdir()):
            _write_marker(layout)
        elif not marker.exists():  # another process that makes this store would have begun with it
            raise refusal
    except FileExistsError:  # a file
        raise refusal from None
    except OSError as error:
        raise UserError(f"cannot make a store at {root}: {error.strerror}; name another store") from None


def _write_marker(layout: Layout) -> None:
    content = checked_json({"format": FORMAT, "result_version": RESULT_VERSION})
    write_record(layout, layout.marker, content)
