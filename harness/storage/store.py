"""The store on disk: one folder a trial, named by its id; complete or absent. The only place that knows the layout.

    <root>/store.json                        format and result version
    <root>/trials/<trial_id>/spec.json       the TrialSpec
                             result.json     status, error, cost, provenance, SHA-256 of the other files
                             scores/<protocol_id>.json    the protocol and the scores under it
                             curves.parquet  losses, D(x), D(G(z)), online FID over kimg
                             samples.png     a grid of samples at latents that all trials share
                             weights.safetensors    generator, its moving average, discriminator
    <root>/references/<protocol_id>.json     scores of real images: the floor
    <root>/plans/<study>-<profile>.json      which trial fills which (arm, seed) of a study
    <root>/cache/                            prepared data, extractors, features, snapshots, the index; KEPT says what
                                             may go
    <root>/reports/<study>-<profile>/        what `report` writes; rebuilt from the rest
    <root>/quarantine/                       damaged trials and files, as they were found; never read
    <root>/claims                            an empty file whose locks say which trials a live process is running

Everything is JSON, Parquet, PNG or safetensors, readable with nothing but pandas. Nothing here is a pickle.
Files are made with the user's own umask.

Every file is checked when it is read. A JSON file carries a `seal`, the SHA-256 of the rest of its content; the other
files of a trial are listed in its result.json with theirs.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow.parquet

from harness.errors import UserError, require_utf8
from harness.spec import RESULT_VERSION, ScoreProtocol, TrialSpec, content_hash

FORMAT = 1
MIN_FREE_BYTES = 200 * 2**20
"""A run does not start, and a trial is not written, with less than this free beside what it needs."""

KEPT: dict[str, str] = {
    "trials": "for ever",
    "plans": "for ever",
    "references": "for ever",
    "reports": "for ever",
    "cache/extractors": "for ever",  # trained again elsewhere it could be another, and every score with it
    "cache/downloads": "for ever",
    "cache/data": "until pruned",
    "cache/features": "until pruned",
    "cache/index": "until pruned",
    "cache/snapshots": "until the trial is done",  # a snapshot is what an unfinished trial goes on from
    "quarantine": "until pruned on request",
}
"""How long what is in a store is kept. `prune` takes away what may go; all of that but the quarantine can be remade."""

Status = Literal["ok", "diverged", "failed"]

_SEAL = "seal"
_TRIAL_ID, _PROTOCOL_ID, _NAME = r"[0-9a-f]{16}", r"[0-9a-f]{12}", r"[a-z0-9][a-z0-9_-]*"


class Damaged(UserError):
    """A file of the store is not what was written there. Says which one, and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"{path} is damaged: {reason}; the next `run` of its study sets it aside and makes it again, and "
            f"`python -m studies check` lists all such files"
        )


class NoLocks(UserError):
    """The store's file system keeps no locks, so that no process can have a trial for itself."""


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
        require_utf8("store", self.root)
        marker = self.root / "store.json"
        try:
            found = json.loads(marker.read_text())
            if not isinstance(found, dict):
                raise ValueError("it holds something else")
        except (FileNotFoundError, NotADirectoryError):
            if self._holds_trials():
                self._restore(marker, "gone", create=create)
            elif create:
                self._make(marker)
            else:
                raise UserError(
                    f"no store at {self.root}; name another with --store, or run a study to make one"
                ) from None
            return
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) or not self._holds_trials():
                raise UserError(f"cannot read {marker}: {error}; name another with --store") from None
            self._restore(marker, f"damaged ({error})", create=create)
            return
        version, layout = found.get("result_version"), found.get("format")
        if (version, layout) != (RESULT_VERSION, FORMAT):
            raise UserError(
                f"the store {self.root} was written by another version of the code (result version {version}, format "
                f"{layout}; this code writes {RESULT_VERSION} and {FORMAT}); name another with --store"
            )
        if create:
            self._refuse_unwritable()

    def _make(self, marker: Path) -> None:
        refusal = UserError(f"{self.root} exists and is not a store; name an empty or new folder with --store")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if all(p.name.startswith(f".{marker.name}-") for p in self.root.iterdir()):
                self._write_json(marker, {"format": FORMAT, "result_version": RESULT_VERSION})
            elif not marker.exists():  # another process that makes this store would have begun with it
                raise refusal
        except FileExistsError:  # a file
            raise refusal from None
        except OSError as error:
            raise UserError(
                f"cannot make a store at {self.root}: {error.strerror}; name another with --store"
            ) from None

    def _holds_trials(self) -> bool:
        return any((self.root / "trials" / trial_id / "result.json").exists() for trial_id in self.trial_ids())

    def _restore(self, marker: Path, harm: str, *, create: bool) -> None:
        """Make store.json again; all that it says of the trials, each of them says itself."""
        if not create:
            raise UserError(f"{marker} is {harm}; the trials are as they were: the next `run` makes it again")
        if marker.exists():
            self._set_aside(marker)
        self._write_json(marker, {"format": FORMAT, "result_version": RESULT_VERSION})

    def _refuse_unwritable(self) -> None:
        probe = self.root / f".probe-{uuid.uuid4().hex}"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"the store {self.root} is not writable: {error.strerror}; name another with --store"
            ) from None

    def remove_if_unused(self) -> None:
        """Take a store away that was made for nothing: without plan, trials, downloads and extractors."""
        if not any(self._list(place) for place in ("plans", "trials", "cache/downloads", "cache/extractors")):
            try:
                with self.claims.all():  # another process may be about to use it
                    shutil.rmtree(self.root, ignore_errors=True)
            except NoLocks:  # where nobody can be at work
                shutil.rmtree(self.root, ignore_errors=True)
            except UserError:
                pass

    # ---- places ----

    @property
    def cache(self) -> Path:
        """Where prepared data, extractors, features and snapshots are kept."""
        path = self.root / "cache"
        path.mkdir(exist_ok=True)
        return path

    def trial_folder(self, trial_id: str) -> Path:
        """The folder of a trial, there or not; one that is here under its former name alone is found there."""
        folder = self._named_folder(trial_id)
        return folder if os.path.lexists(folder) else self._named_folder(self._former_names.get(trial_id, trial_id))

    def stored_name(self, trial_id: str) -> str:
        """The name under which the store holds the trial, or will."""
        return self.trial_folder(trial_id).name

    def _named_folder(self, trial_id: str) -> Path:
        return self.root / "trials" / _checked("trial id", trial_id, _TRIAL_ID)

    @cached_property
    def _former_names(self) -> dict[str, str]:
        """trial_id -> the name under which a trial on a folder of images was stored while paths were part of names.

        Nothing is stored under such a name any more, so it is enough to look once.
        """
        names: dict[str, str] = {}
        for name in self.trial_ids():
            with contextlib.suppress(OSError, UserError, ValueError, TypeError):  # damage is for others to find
                content = (self._named_folder(name) / "spec.json").read_bytes()
                if b'"folder:' in content:
                    spec = TrialSpec.from_dict(json.loads(content))
                    held = names.get(spec.trial_id)
                    if name == spec.path_id != spec.trial_id and (held is None or self.status(held) != "ok"):
                        names[spec.trial_id] = name
        return names

    def report_folder(self, study: str, profile: str) -> Path:
        """Where the report of a study at a profile is written."""
        return self.root / "reports" / _plan_name(study, profile)

    # ---- trials ----

    def trial_ids(self) -> list[str]:
        """The ids of all trials in the store, failed ones too, sorted."""
        return sorted(p.name for p in self._list("trials") if re.fullmatch(_TRIAL_ID, p.name))

    def status(self, trial_id: str) -> Status | None:
        """How the trial ended; None where the store does not hold it, or holds it damaged."""
        try:
            return self.read_result(trial_id)["status"]
        except (FileNotFoundError, Damaged):
            return None

    def is_done(self, trial_id: str, protocol_id: str) -> bool:
        """Whether nothing is left to do: diverged, or finished and scored under this protocol."""
        status = self.status(trial_id)
        return status == "diverged" or (status == "ok" and self._score_path(trial_id, protocol_id).exists())

    def _score_path(self, trial_id: str, protocol_id: str) -> Path:
        return self.trial_folder(trial_id) / "scores" / f"{_checked('protocol id', protocol_id, _PROTOCOL_ID)}.json"

    def write(self, result: TrialResult) -> None:
        """Put a trial into the store, whole or not at all. A finished trial is never replaced; a failed one is.

        Of a trial that is already there, only scores under a further protocol are taken over.

        Raises:
            UserError: the disk is full. Nothing half-written is left.
        """
        trial_id = result.spec.trial_id
        final = self._named_folder(trial_id)
        status = self.status(trial_id)
        if status in ("ok", "diverged"):
            if status == "ok" and result.protocol is not None and result.scores:
                self.add_scores(trial_id, result.protocol, result.scores)
            return
        if status is None and final.exists():
            self._set_aside(final)
        # Both are swept up by the next run where this process is killed.
        staging, replaced = (final.parent / f".{trial_id}-{os.getpid()}-{uuid.uuid4().hex[:8]}" for _ in range(2))
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
                scores = _scores(trial_id, result.protocol, result.scores)
                files[f"scores/{result.protocol.protocol_id}.json"] = _sealed(scores)
            files["result.json"] = _sealed(
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
                final.rename(replaced)
            staging.rename(final)
            sync_folder(final.parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return  # another process finished the same trial first; its result is the same
            raise _explained(error, self.root) from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)

    def add_scores(self, trial_id: str, protocol: ScoreProtocol, scores: Mapping[str, float]) -> None:
        """Add the scores of a stored trial under a further protocol; those it has are never replaced."""
        path = self._score_path(trial_id, protocol.protocol_id)
        if not path.exists():
            self._write_json(path, _scores(self.stored_name(trial_id), protocol, scores))

    # Every read_... below raises Damaged where the file is not what was written, FileNotFoundError where it is absent.

    def read_result(self, trial_id: str) -> dict[str, Any]:
        """result.json as it stands: status, error, cost, provenance, sha256."""
        path = self.trial_folder(trial_id) / "result.json"
        result = _read_sealed(path)
        for key, ours in (("trial_id", path.parent.name), ("result_version", RESULT_VERSION)):
            if result.get(key) != ours:
                raise Damaged(path, f"its {key} is {result.get(key)!r} and not {ours!r}")
        return result

    def read_spec(self, trial_id: str) -> TrialSpec:
        """The spec of a stored trial."""
        path = self.trial_folder(trial_id) / "spec.json"
        try:
            spec = TrialSpec.from_dict(_read_json(path))
        except (UserError, TypeError) as error:
            raise error if isinstance(error, Damaged) else Damaged(path, str(error)) from None
        name = path.parent.name
        if name not in (spec.trial_id, spec.path_id):  # the name is the content's own checksum
            revised = "it was made before a trick of its spec was revised (CHANGELOG.md), and its results may be wrong"
            raise Damaged(path, revised if name == spec.former_id else f"it is the spec of trial {spec.trial_id}")
        return spec

    def read_scores(self, trial_id: str) -> dict[str, tuple[ScoreProtocol, dict[str, float]]]:
        """protocol_id -> (protocol, scores) of a stored trial; empty for one that diverged or failed."""
        found = {}
        for path in sorted((self.trial_folder(trial_id) / "scores").glob("[!.]*")):
            content = _read_sealed(path)
            try:
                protocol, _ = ScoreProtocol.from_dict(content["protocol"]), content["scores"]
            except (UserError, KeyError, TypeError, AttributeError):
                raise Damaged(path, "it holds something else") from None
            name = path.parents[1].name
            if path.stem not in (protocol.protocol_id, protocol.path_id):
                raise Damaged(path, f"it holds scores of protocol {protocol.protocol_id}")
            if content.get("trial_id", name) != name:
                raise Damaged(path, f"it holds scores of trial {content['trial_id']}")
            found[path.stem] = (protocol, content["scores"])
        for protocol, _ in list(found.values()):  # under both its names it is one protocol
            if protocol.path_id != protocol.protocol_id and protocol.protocol_id in found:
                found.pop(protocol.path_id, None)
        return found

    def read_curves(self, trial_id: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The curves of a stored trial, or those of these columns that it has; an empty table for one without any."""
        content = self._read_listed(trial_id, "curves.parquet")
        if not content:
            return pd.DataFrame()
        with pyarrow.parquet.ParquetFile(io.BytesIO(content)) as file:
            return file.read(None if columns is None else list(columns), use_threads=False).to_pandas()

    def read_weights(self, trial_id: str) -> bytes:
        """The safetensors file of a stored trial; empty for one that left none."""
        return self._read_listed(trial_id, "weights.safetensors")

    def _read_listed(self, trial_id: str, name: str) -> bytes:
        """A file that result.json lists, checked; empty where it is not listed."""
        path = self.trial_folder(trial_id) / name
        digest = self.read_result(trial_id)["sha256"].get(name)
        if digest is None:
            if path.exists():
                raise Damaged(path, "it is not among the files that the trial left")
            return b""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise Damaged(path, "it is gone") from None
        except OSError as error:
            raise Damaged(path, f"it cannot be read ({error.strerror})") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise Damaged(path, "its checksum differs")
        return content

    # ---- an index, which others make; harness/analysis/index.py says what it may be trusted for ----

    def stamp(self, trial_id: str) -> str:
        """Of names, inodes, sizes and times of a trial's files: another as soon as one of them is; none is read.

        Times are those of modification and of the inode's change, so that setting the first back does not help. What
        cannot be looked at has a new stamp each time.
        """
        try:
            seen = sorted(_stats(self.trial_folder(trial_id)))
        except OSError:
            return uuid.uuid4().hex
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:32]

    def read_index(self) -> bytes:
        """What `write_index` kept; empty where that is gone, or not what was written."""
        try:
            digest, _, content = self._index_path.read_bytes().partition(b"\n")
        except OSError:
            return b""
        return content if digest.decode(errors="replace") == hashlib.sha256(content).hexdigest() else b""

    def write_index(self, content: bytes) -> None:
        """Keep an index over the store; in one that cannot be written, do without."""
        with contextlib.suppress(UserError):
            self._write(self._index_path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    @property
    def _index_path(self) -> Path:
        return self.root / "cache" / "index" / "rows.jsonl"

    # ---- one process a trial ----

    @property
    def claims(self) -> "Claims":
        """What this process claims for itself."""
        return _claims(self.root / "claims")

    # ---- damage ----

    def verify(self, trial_id: str) -> list[Damaged]:
        """Read every file of a trial; what is wrong with them."""
        folder, found = self.trial_folder(trial_id), []

        def attempt(read: Any, *args: Any) -> Any:
            try:
                return read(*args)
            except FileNotFoundError as error:
                found.append(Damaged(Path(error.filename), "it is gone"))
            except Damaged as error:
                found.append(error)

        result = attempt(self.read_result, trial_id)
        if result is None:
            return found
        attempt(self.read_spec, trial_id)
        attempt(self.read_scores, trial_id)
        files = {str(p.relative_to(folder)) for p in folder.rglob("[!.]*") if not p.is_dir() or p.is_symlink()}
        scores = {name for name in files if name.startswith("scores/")} - result["sha256"].keys()
        for name in sorted((files | result["sha256"].keys()) - scores - {"result.json"}):
            attempt(self._read_listed, trial_id, name)
        return list({damage.path: damage for damage in found}.values())

    def check(self) -> Iterator[Damaged]:
        """Read every file of the store that is not a cache or a report; what is wrong with them."""
        for path in self._list("trials"):
            if re.fullmatch(_TRIAL_ID, path.name) and path.is_dir():
                yield from self.verify(path.name)
            else:
                yield Damaged(path, "it is not a trial")
        yield from self._check_documents()

    def summary(self) -> str:
        """What is in the store, in a line: trials by status, and what lies beside them."""
        counts = Counter(self.status(trial_id) or "unreadable" for trial_id in self.trial_ids())
        trials = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        unfinished = len(list((self.root / "trials").glob(".*-*-*")))
        held = {"trial": counts.total()} | {name: len(self._list(f"{name}s")) for name in ("plan", "reference")}
        told = [f"{number} {name}{'s' * (number != 1)}" for name, number in held.items()]
        told[0] += f" ({trials})" if trials else ""
        return f"{', '.join(told)}, {len(self._list('quarantine'))} set aside earlier" + (
            f", {unfinished} half-written (the next run sweeps them up)" if unfinished else ""
        )

    def _check_documents(self) -> Iterator[Damaged]:
        for path in (*self._list("references"), *self._list("plans")):
            try:
                if path.parent.name == "plans":
                    _read_plan(path)
                else:
                    self.read_reference(path.stem)
            except Damaged as error:
                yield error
            except UserError:
                yield Damaged(path, "its name is not that of a protocol")

    def set_aside_damaged(self, trial_ids: Iterable[str]) -> dict[str, str]:
        """Move each of these trials that is damaged into the quarantine, so that it can be run again.

        Returns:
            trial_id -> one line that says what was wrong and where it is now. References and plans are looked at,
            too, under their path.
        """
        lines = {}
        for trial_id in trial_ids:
            folder = self.trial_folder(trial_id)
            if not os.path.lexists(folder) or not self.claims.take(trial_id):
                continue  # nothing there, or a live process is at it
            try:
                if damages := self.verify(trial_id):
                    lines[trial_id] = self._set_aside_line(folder, damages)
            finally:
                self.claims.give_back(trial_id)
        for damage in list(self._check_documents()):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                lines[str(damage.path.relative_to(self.root))] = self._set_aside_line(damage.path, [damage])
        return lines

    def _set_aside_line(self, path: Path, damages: list[Damaged]) -> str:
        reasons = "; ".join(f"{d.path.relative_to(self.root)}: {d.reason}" for d in damages)
        return f"damaged and set aside in {self._set_aside(path)}: {reasons}"

    def _set_aside(self, path: Path) -> Path:
        target = self.root / "quarantine" / f"{path.name}-{uuid.uuid4().hex[:8]}"
        try:
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _explained(error, self.root) from None
        return target

    # ---- what belongs to a study rather than a trial ----

    def write_reference(self, protocol: ScoreProtocol, scores: Mapping[str, float]) -> None:
        """Keep the scores of real images under a protocol."""
        content = {"protocol": protocol.to_dict(), "scores": dict(scores)}
        self._write_json(self._reference_path(protocol.protocol_id), content)

    def read_reference(self, protocol_id: str) -> dict[str, float]:
        """The scores of real images under a protocol; empty where they were not computed."""
        path = self._reference_path(protocol_id)
        if not path.exists():
            return {}
        content = _read_sealed(path)
        try:
            found, scores = ScoreProtocol.from_dict(content["protocol"]), content["scores"]
        except (UserError, KeyError, TypeError, AttributeError):
            raise Damaged(path, "it holds something else") from None
        if protocol_id not in (found.protocol_id, found.path_id):
            raise Damaged(path, f"it is the reference of protocol {found.protocol_id}")
        return scores

    def _reference_path(self, protocol_id: str) -> Path:
        return self.root / "references" / f"{_checked('protocol id', protocol_id, _PROTOCOL_ID)}.json"

    def write_plan(self, study: str, profile: str, plan: Mapping[str, Any]) -> None:
        """Keep which trial fills which cell of a study: {"protocol_id", "cells": [...], ...}, and what it is of."""
        self._write_json(self._plan_path(study, profile), {**plan, "study": study, "profile": profile})

    def read_plan(self, study: str, profile: str) -> dict[str, Any] | None:
        """The plan of the study's last run at this profile; None if it never ran here."""
        path = self._plan_path(study, profile)
        return _read_plan(path) if path.exists() else None

    def plan_was_lost(self, study: str, profile: str) -> bool:
        """Whether a plan of the study at this profile was damaged and is now in the quarantine."""
        name = re.escape(self._plan_path(study, profile).name)
        return any(re.fullmatch(f"{name}-[0-9a-f]{{8}}", path.name) for path in self._list("quarantine"))

    def read_plans(self) -> list[dict[str, Any]]:
        """Every plan in the store, by name."""
        return [_read_plan(path) for path in self._list("plans")]

    def digest(self, study: str, profile: str) -> str:
        """SHA-256 of what a report of the study at this profile is made from: its plan, results and scores.

        Curves, samples and weights are in it by their own SHA-256, which the results hold.
        """
        plan = self.read_plan(study, profile) or {"cells": []}
        trial_ids = [c["trial_id"] for c in plan["cells"]] + list(plan.get("ceilings", {}).values())
        files = [self._plan_path(study, profile), *self._list("references")]
        for trial_id in dict.fromkeys(trial_ids):
            folder = self.trial_folder(trial_id)
            files += [folder / "result.json", *sorted((folder / "scores").glob("[!.]*"))]
        digest = hashlib.sha256()
        for path in files:
            if path.is_file():
                digest.update(f"{path.relative_to(self.root)}\0".encode() + path.read_bytes())
        return digest.hexdigest()

    def _plan_path(self, study: str, profile: str) -> Path:
        return self.root / "plans" / f"{_plan_name(study, profile)}.json"

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
        """Remove what killed processes left half-written. What a live one is writing is claimed, and stays."""
        for path in (self.root / "trials").glob(".*-*-*"):
            trial_id = path.name[1:].partition("-")[0]
            if re.fullmatch(_TRIAL_ID, trial_id) and self.claims.take(trial_id):
                shutil.rmtree(path, ignore_errors=True)
                self.claims.give_back(trial_id)

    def prune(self, *, quarantine: bool = False) -> dict[str, int]:
        """Take away what KEPT allows.

        Returns:
            Place -> bytes that were freed there.

        Raises:
            UserError: a live process is at work in this store.
        """
        freed: dict[str, int] = {}
        with self.claims.all():
            for place, term in KEPT.items():
                paths = [p for p in (self.root / place).glob("*") if not p.name.endswith(".lock")]
                if term == "until the trial is done":
                    paths = [p for p in paths if self._needs_no_snapshot(p.name)]
                elif term != "until pruned" and not (term == "until pruned on request" and quarantine):
                    continue
                freed[place] = sum(map(_remove, paths))
        return freed

    def _needs_no_snapshot(self, name: str) -> bool:
        """Whether a file of cache/snapshots is of a trial that is done, or half-written, while no trial runs."""
        trial_id = name.lstrip(".")[:16]
        if not re.fullmatch(_TRIAL_ID, trial_id):
            return False
        return name.startswith(".") or self.status(trial_id) in ("ok", "diverged")

    def _list(self, folder: str) -> list[Path]:
        """What is in a folder of the store, hidden files apart, sorted."""
        place = self.root / folder
        return sorted(p for p in place.iterdir() if not p.name.startswith(".")) if place.is_dir() else []

    def _write_json(self, path: Path, content: Any) -> None:
        self._write(path, _sealed(content))

    def _write(self, path: Path, content: bytes) -> None:
        """Put a file into the place of what was there, whole or not at all."""
        staging = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
        try:
            _write_synced(staging, content)
            staging.replace(path)
        except OSError as error:
            raise _explained(error, self.root) from None
        finally:
            with contextlib.suppress(OSError):
                staging.unlink(missing_ok=True)


class Claims:
    """Trials that this process has for itself: no other can claim them until it gives them back or dies.

    A claim is a lock on one byte of one file, at a place that the trial's id gives. The system drops the locks of a
    dead process by itself; and it drops all of them as soon as the process closes the file anywhere, so it never does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._held: set[str] = set()
        self._at_work = 0  # how often this process has said so

    def take(self, trial_id: str) -> bool:
        """Claim the trial; False where this or another live process has it already."""
        if trial_id in self._held:
            return False
        if not self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(trial_id)):
            return False
        self._held.add(trial_id)
        return True

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep others from claiming everything, from the first look at the store on, before any trial is claimed."""
        self._lock(fcntl.LOCK_SH, 1, _AT_WORK)
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._lock(fcntl.LOCK_UN, 1, _AT_WORK)

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Claim every trial at once, so that nobody starts one meanwhile.

        Raises:
            UserError: somebody has one.
        """
        if self._held or self._at_work or not self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise UserError("a live process is at work in this store; wait for it, or stop it")
        try:
            yield
        finally:
            self._lock(fcntl.LOCK_UN)

    def give_back(self, *trial_ids: str) -> None:
        """Let others have these; those that are not held are passed over."""
        for trial_id in self._held.intersection(trial_ids):
            self._lock(fcntl.LOCK_UN, 1, _place(trial_id))
            self._held.remove(trial_id)

    def _lock(self, how: int, length: int = 0, start: int = 0) -> bool:
        """Lock or unlock bytes of the file; False where somebody else has them.

        Raises:
            NoLocks: the file system does not do it.
        """
        try:
            fcntl.lockf(self._descriptor, how, length, start)
        except (BlockingIOError, PermissionError):  # either, says POSIX
            return False
        except OSError as error:
            raise NoLocks(
                f"{self._path.parent} lies on a file system without locks ({error.strerror}), and a store needs them: "
                f"name a place on a local disk with --store, or have this one mounted with locks (NFS: with lockd; "
                f"Lustre: with -o flock)"
            ) from None
        return True


_claims = cache(Claims)


_AT_WORK = 1 << 62
"""The byte behind those of all trials."""


def _place(trial_id: str) -> int:
    return int(trial_id, 16) >> 2  # a file's offsets have 63 bits


def _stats(folder: Path | str) -> Iterator[tuple[str | int, ...]]:
    """(path, inode, size, times in ns) of everything below the folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat()
            yield entry.path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            if entry.is_dir():
                yield from _stats(entry.path)


def _json_bytes(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def _remove(path: Path) -> int:
    """Delete a file or folder; the bytes that were in it."""
    files = [path] if path.is_file() or path.is_symlink() else [p for p in path.rglob("*") if p.is_file()]
    size = sum(p.lstat().st_size for p in files)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size


def _scores(trial_id: str, protocol: ScoreProtocol, scores: Mapping[str, float]) -> dict[str, Any]:
    return {"trial_id": trial_id, "protocol": protocol.to_dict(), "scores": dict(scores)}


def _sealed(content: Mapping[str, Any]) -> bytes:
    return _json_bytes({**content, _SEAL: content_hash(content, 64)})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(path, f"it cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise Damaged(path, "it is not JSON, or cut off") from None
    if not isinstance(content, dict):
        raise Damaged(path, "it holds something else")
    return content


def _read_sealed(path: Path) -> dict[str, Any]:
    """The content under the seal."""
    content = _read_json(path)
    seal = content.pop(_SEAL, None)
    try:
        ours = content_hash(content, 64)
    except (ValueError, RecursionError):  # a number that is none: never written here
        ours = ""
    if not ours or seal != ours:
        raise Damaged(path, "its checksum differs" if seal else "it has no checksum")
    return content


def _read_plan(path: Path) -> dict[str, Any]:
    content = _read_sealed(path)
    study, profile = content.get("study"), content.get("profile")
    if not isinstance(study, str) or not isinstance(profile, str) or not isinstance(content.get("cells"), list):
        raise Damaged(path, "it holds something else")
    if path.name != f"{_plan_name(study, profile)}.json":
        raise Damaged(path, f"it is the plan of {study} ({profile})")
    return content


def _checked(kind: str, value: str, pattern: str) -> str:
    """The value, safe as a file's name; whatever else is refused, so that no path leaves the store."""
    if not re.fullmatch(pattern, value):
        raise UserError(f"{kind} {value!r} cannot name a file of the store; allowed: {pattern}")
    return value


def _plan_name(study: str, profile: str) -> str:
    """What a study's plan and report are called; a profile on other data ("paper@folder:PATH") is made fit for that."""
    if not re.fullmatch(_NAME, profile):
        words = "-".join(re.findall(r"[a-z0-9]+", profile.lower()))
        profile = f"{words[:60]}-{content_hash(profile, 8)}"
    return f"{_checked('study', study, _NAME)}-{profile}"


def _write_synced(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> bool:
    """Have a folder's list of names reach the disk; False where its file system does not do that, and files must do."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def _explained(error: OSError, root: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"the disk of {root} is full; finished trials are intact: free some space and run again")
    return UserError(f"cannot write to {root}: {error.strerror or error}; finished trials are intact")
