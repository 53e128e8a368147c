"""An index of what the results table is made from, so that opening a store does not read every file in it again.

It is never the truth. Whatever is missing, cut off, edited, out of date or made by other code is made again from the
trials' folders without a word, and a store that cannot be written is read without one.

What is trusted: that a file whose name, inode, size and times are those that it had when it was read and its checksum
verified is still that file. So damage that leaves all of these alone (a disk that returns other bits, an edit of the
same length within one tick of the file system's clock) shows only where the files themselves are read: by `check`, by
`run`, and by everything that needs curves or weights.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from harness.storage.integrity import read_index, stamp, write_index
from harness.storage.store import Store

Record: TypeAlias = dict[str, Any]
"""Of one trial: plain JSON values, NaN and infinity among them."""

SOURCES = (
    *("architectures/contract.py", "harness/declared.py", "harness/files.py", "harness/metrics.py"),
    *("harness/questions.py", "harness/spec.py"),
    "harness/terminal.py",
    *(f"harness/analysis/{name}.py" for name in ("index", "results")),
    *(f"harness/storage/{name}.py" for name in ("integrity", "layout", "locks", "plans", "records", "result", "store")),
)
"""What a record depends on beside the trial's files."""


def records(store: Store, trial_ids: Sequence[str], make: Callable[[Store, str], Record]) -> dict[str, Record]:
    """trial_id -> record, in the order asked for: from the index where the trial's files are as they were, else made.

    Args:
        store: Where the trials are; the index is written there when it has changed.
        trial_ids: Trials of the store.
        make: Reads a trial's files and makes its record; what it raises is passed on.
    """
    known = _read(store)
    found = {}
    for trial_id in trial_ids:
        now = stamp(store, trial_id)  # taken before the files are read: what changes meanwhile has another one later
        held = known.get(trial_id)
        found[trial_id] = held if held and held[0] == now else (now, make(store, trial_id))
    there = set(store.trial_ids())
    kept = {trial_id: held for trial_id, held in {**known, **found}.items() if trial_id in there}
    if kept != known:
        lines = [_code(), *([trial_id, *held] for trial_id, held in kept.items())]
        write_index(store, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return {trial_id: record for trial_id, (_, record) in found.items()}


def _read(store: Store) -> dict[str, tuple[str, Record]]:
    """trial_id -> (stamp, record)."""
    return _parsed(read_index(store))


@lru_cache(maxsize=1)
def _parsed(content: bytes) -> dict[str, tuple[str, Record]]:
    """The same from the index's content; of a whole store's studies, one after the other, it is parsed once."""
    first, *lines = content.splitlines() or [b"null"]
    if json.loads(first) != _code():
        return {}
    return {trial_id: (then, record) for trial_id, then, record in map(json.loads, lines)}


@cache
def _code() -> str:
    """Of the code that makes records."""
    place = Path(__file__).parents[2]
    return hashlib.sha256(b"".join((place / name).read_bytes() for name in SOURCES)).hexdigest()
