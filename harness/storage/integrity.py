"""What a store must withstand: damage, processes that were killed, disks that are full, and years of use."""

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import checksum, with_checksum, without_checksum
from harness.storage.layout import RESULT, TRIAL_ID, CacheFolder, cache_folder, listed, score_files
from harness.storage.locks import NoLocks
from harness.storage.records import Damaged, quarantine, write_record
from harness.storage.store import Store, read_plan_file

MIN_FREE_BYTES = 200 * 2**20
"""A run does not start with less than this free beside what it needs."""

REMAKEABLE: tuple[CacheFolder, ...] = ("data", "features", "index", "snapshots")
"""What `prune` deletes of the cache; of the last, checkpoints, only those of trials that are done.

Everything else stays: an extractor that is trained again elsewhere could be another, and with it every score.
"""


def verify(store: Store, trial_id: str) -> list[Damaged]:
    """Read every file of a trial; what is wrong with them."""
    folder, found = store.trial_folder(trial_id), []

    def attempt(read: Callable[..., Any], *args: str) -> Any:
        try:
            return read(*args)
        except FileNotFoundError as error:
            found.append(Damaged(Path(error.filename), "it is gone"))
        except Damaged as error:
            found.append(error)

    result = attempt(store.read_result, trial_id)
    if result is None:
        return found
    attempt(store.read_spec, trial_id)
    attempt(store.read_scores, trial_id)
    files = {p for p in folder.rglob("[!.]*") if not p.is_dir() or p.is_symlink()}
    further = {*score_files(folder), folder / RESULT}  # read above; only the scores of its first protocol are listed
    names = {str(path.relative_to(folder)) for path in files - further} | result["sha256"].keys()
    for name in sorted(names):
        attempt(store.read_file, trial_id, name)
    return list({damage.path: damage for damage in found}.values())


def check(store: Store) -> Iterator[Damaged]:
    """Read every file of the store that is not a cache or a report; what is wrong with them."""
    for path in listed(store.layout.trials):
        if re.fullmatch(TRIAL_ID, path.name) and path.is_dir():
            yield from verify(store, path.name)
        else:
            yield Damaged(path, "it is not a trial")
    yield from _check_documents(store)


def _check_documents(store: Store) -> Iterator[Damaged]:
    for path in (*listed(store.layout.references), *listed(store.layout.plans)):
        try:
            if path.parent == store.layout.plans:
                read_plan_file(store.layout, path)
            else:
                store.read_reference(path.stem)
        except Damaged as error:
            yield error
        except UserError:
            yield Damaged(path, "its name is not that of a protocol")


def quarantine_damaged(store: Store, trial_ids: Iterable[str]) -> dict[str, str]:
    """Move each of these trials that is damaged to the quarantine, and every damaged plan and reference.

    Returns:
        trial_id, or the path of a plan or reference -> one line: what was wrong, and where it is now.
    """
    lines = {}
    for trial_id in trial_ids:
        folder = store.trial_folder(trial_id)
        if not os.path.lexists(folder) or not store.locks.acquire(trial_id):
            continue  # nothing is there, or a live process works on it
        try:
            if damages := verify(store, trial_id):
                lines[trial_id] = _quarantined(store, folder, damages)
        finally:
            store.locks.release(trial_id)
    for damage in list(_check_documents(store)):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            lines[str(damage.path.relative_to(store.root))] = _quarantined(store, damage.path, [damage])
    return lines


def _quarantined(store: Store, path: Path, damages: list[Damaged]) -> str:
    reasons = "; ".join(f"{d.path.relative_to(store.root)}: {d.reason}" for d in damages)
    return f"damaged and moved to {quarantine(store.layout, path)}: {reasons}"


def plan_was_lost(store: Store, study: str, profile: str) -> bool:
    """Whether a plan of the study at this profile was damaged and is now in the quarantine."""
    name = re.escape(store.layout.plan(study, profile).name)
    return any(re.fullmatch(f"{name}-[0-9a-f]{{8}}", path.name) for path in listed(store.layout.quarantine))


def summary(store: Store) -> str:
    """What is in the store, in a line: trials by status, what lies beside them, and what is planned and not there."""
    counts = Counter(store.status(trial_id) or "unreadable" for trial_id in store.trial_ids())
    trials = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    layout, unfinished = store.layout, len(list(store.layout.trials.glob(".*-*")))
    held = {"trial": counts.total(), "plan": len(listed(layout.plans)), "reference": len(listed(layout.references))}
    told = [f"{number} {name}{'s' * (number != 1)}" for name, number in held.items()]
    told[0] += f" ({trials})" if trials else ""
    told.append(f"{len(listed(layout.quarantine))} in quarantine")
    planned = _planned(store)
    if missing := sum(not os.path.lexists(store.trial_folder(trial_id)) for trial_id in planned):
        told.append(
            f"{missing} of {len(planned)} planned trials not there (not run yet, or taken away: `run` makes them)"
        )
    if unfinished:
        told.append(f"{unfinished} half-written (the next run removes them)")
    return ", ".join(told)


def _planned(store: Store) -> set[str]:
    """The trials of all plans, untrained baselines among them, that can be read."""
    found: set[str] = set()
    for path in listed(store.layout.plans):
        with contextlib.suppress(Damaged):
            plan = read_plan_file(store.layout, path)
            found |= {cell["trial_id"] for cell in plan["cells"]} | set(plan.get("ceilings", {}).values())
    return found


def stamp(store: Store, trial_id: str) -> str:
    """32 hex digits of names, inodes, sizes and times of a trial's files, none of which is read.

    The times are those of modification and of the inode's change, so that setting the first back does not help. What
    cannot be looked at gets a new stamp each time.
    """
    try:
        seen = sorted(_stats(store.trial_folder(trial_id)))
    except OSError:
        return uuid.uuid4().hex
    return checksum(repr(seen).encode())[:32]


def _stats(folder: Path | str) -> Iterator[tuple[str | int, ...]]:
    """(path, inode, size, times in ns) of everything below the folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat()
            yield entry.path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            if entry.is_dir():
                yield from _stats(entry.path)


def read_index(store: Store) -> bytes:
    """What `write_index` kept; empty if that is gone, or not what was written."""
    try:
        return without_checksum(store.layout.index.read_bytes()) or b""
    except OSError:
        return b""


def write_index(store: Store, content: bytes) -> None:
    """Keep an index over the store (harness/analysis/index.py); a store that cannot be written does without."""
    with contextlib.suppress(UserError):
        write_record(store.layout, store.layout.index, with_checksum(content))


def results_checksum(store: Store, study: str, profile: str) -> str:
    """SHA-256 of what a report of the study at this profile is made from: its plan, results and scores.

    Curves, samples and weights are in it by their own checksums, which the results hold.
    """
    plan = store.read_plan(study, profile) or {"cells": []}
    trial_ids = [c["trial_id"] for c in plan["cells"]] + list(plan.get("ceilings", {}).values())
    files = [store.layout.plan(study, profile), *listed(store.layout.references)]
    for trial_id in dict.fromkeys(trial_ids):
        folder = store.trial_folder(trial_id)
        files += [folder / RESULT, *score_files(folder)]
    digest = hashlib.sha256()
    for path in files:
        if path.is_file():
            digest.update(f"{path.relative_to(store.root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def require_free(store: Store, needed_bytes: int) -> None:
    """Refuse to start if less than needed_bytes + MIN_FREE_BYTES are free."""
    free, needed = shutil.disk_usage(store.root).free, needed_bytes + MIN_FREE_BYTES
    if free < needed:
        raise UserError(
            f"only {free / 2**20:.0f} MiB are free at {store.root}, and the run needs {needed / 2**20:.0f} MiB; free "
            f"some, or name another place with --store"
        )


def sweep(store: Store) -> None:
    """Remove what killed processes left half-written. What a live one is writing is locked, and stays."""
    for path in store.layout.trials.glob(".*-*"):
        trial_id = path.name[1:].partition("-")[0]
        if re.fullmatch(TRIAL_ID, trial_id) and store.locks.acquire(trial_id):
            shutil.rmtree(path, ignore_errors=True)
            store.locks.release(trial_id)


def prune(store: Store, *, also_quarantine: bool = False) -> dict[str, int]:
    """Delete what can be made again, and on request the quarantine: place -> bytes that were freed there.

    Raises:
        UserError: a live process is at work in this store.
    """
    freed: dict[str, int] = {}
    with store.locks.everything():
        folders = [cache_folder(store.layout.cache, kind) for kind in REMAKEABLE]
        for folder in (*folders, *[store.layout.quarantine] * also_quarantine):
            paths = [p for p in folder.glob("*") if not p.name.endswith(".lock")]
            if folder.name == "snapshots":
                paths = [p for p in paths if _needs_no_checkpoint(store, p.name)]
            freed[str(folder.relative_to(store.root))] = sum(map(_remove, paths))
    return freed


def _needs_no_checkpoint(store: Store, name: str) -> bool:
    """Whether a file among the checkpoints is of a trial that is done, or half-written, while no trial runs."""
    trial_id = name.lstrip(".")[:16]
    if not re.fullmatch(TRIAL_ID, trial_id):
        return False
    return name.startswith(".") or store.status(trial_id) in ("ok", "diverged")


def _remove(path: Path) -> int:
    """Delete a file or folder; the bytes that were in it."""
    size = sum(p.lstat().st_size for p in (path, *path.rglob("*")) if p.is_file())
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size


def remove_if_unused(store: Store) -> None:
    """Take a store away that was made for nothing: without plan, trials, downloads and extractors."""
    layout = store.layout
    dear = (cache_folder(layout.cache, "downloads"), cache_folder(layout.cache, "extractors"))
    if any(path.suffix != ".lock" for folder in (layout.plans, layout.trials, *dear) for path in listed(folder)):
        return
    try:
        with store.locks.everything():  # another process may be about to use it
            shutil.rmtree(store.root, ignore_errors=True)
    except NoLocks:  # where nobody can be at work
        shutil.rmtree(store.root, ignore_errors=True)
    except UserError:
        pass
