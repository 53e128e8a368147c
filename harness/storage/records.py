"""JSON files with checksums, damage to files, and the quarantine.

A JSON file carries a `seal`, the SHA-256 of the rest of its content. The other files of a trial are listed in its
result.json with theirs. Every file is checked when it is read.
"""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import terminal
from harness.errors import UserError
from harness.files import DISK_FULL, write_file
from harness.spec import content_hash
from harness.storage.layout import Layout

_CHECKSUM = "seal"


class Damaged(UserError):
    """A file of the store is not what was written there. Says which one, and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"{path} is damaged: {reason}; the next `run` of its study moves it to the quarantine and makes it again, "
            f"and `{terminal.program()} check` lists all such files"
        )


def plain_json(content: Any) -> bytes:
    """Without a checksum of its own."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def checked_json(content: Mapping[str, Any]) -> bytes:
    """With its checksum."""
    return plain_json({**content, _CHECKSUM: content_hash(content, 64)})


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file, whatever its checksum; raises FileNotFoundError, or Damaged for anything else."""
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


def read_checked(path: Path) -> dict[str, Any]:
    """The content that `checked_json` was given; raises FileNotFoundError, or Damaged if it is anything else."""
    content = read_json(path)
    theirs = content.pop(_CHECKSUM, None)
    try:
        ours = content_hash(content, 64)
    except (ValueError, RecursionError):  # NaN or infinity, which are never written here
        ours = ""
    if not ours or theirs != ours:
        raise Damaged(path, "its checksum differs" if theirs else "it has no checksum")
    return content


def write_record(layout: Layout, path: Path, content: bytes) -> None:
    """Write a file of the store, whole or not at all; raises UserError if the disk is full or refuses."""
    try:
        write_file(path, content)
    except OSError as error:
        raise explained(error, layout) from None


def quarantine(layout: Layout, path: Path) -> Path:
    """Move a damaged file or folder to the quarantine; returns where it is now. FileNotFoundError if it is gone."""
    target = layout.quarantine / f"{path.name}-{uuid.uuid4().hex[:8]}"
    try:
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise explained(error, layout) from None
    return target


def explained(error: OSError, layout: Layout) -> UserError:
    """What went wrong in writing to the store, for a person."""
    root = layout.root
    if error.errno in DISK_FULL:
        return UserError(f"the disk of {root} is full; finished trials are intact: free some space and run again")
    return UserError(f"cannot write to {root}: {error.strerror or error}; finished trials are intact")
