"""One attempt at a trial: the checkpoint that it resumes from, those that it writes, and what all of it has cost."""

import time
from pathlib import Path
from typing import Any

from harness.training.checkpoint import (
    Snapshot,
    UnusableCheckpoint,
    decode_checkpoint,
    encode_checkpoint,
    quarantine_checkpoint,
    read_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)


class Attempt:
    """One attempt at a trial: the checkpoint that it resumes from, those that it writes, and the cost of all."""

    def __init__(self) -> None:
        self.started, self.cpu_started = time.perf_counter(), time.process_time()
        self.before = {"seconds": 0.0, "cpu_seconds": 0.0}  # the cost of what led to the checkpoint
        self.resume: Snapshot | None = None
        self.found = b""  # the content of its file
        self.path: Path | None = None
        self.made_for: dict[str, str] = {}
        self.notes: dict[str, Any] = {}  # for the provenance

    def resume_from(self, path: Path, made_for: dict[str, str]) -> None:
        """Resume from the checkpoint in this file, if there is one of just this trial; further ones go there, too."""
        self.path, self.made_for = path, made_for
        try:
            found = read_checkpoint(path)
            self.resume, self.before = decode_checkpoint(found, made_for)
            self.found = found
            self.notes["resumed_at_step"] = self.resume.step
        except FileNotFoundError:
            pass
        except OSError as error:
            self.notes["snapshot_not_read"] = str(error)
        except UnusableCheckpoint as error:
            name = quarantine_checkpoint(path).name  # alone, as a URL may hold a password
            self.notes["snapshot_set_aside"] = f"{error}; it is now {name}"

    def write(self, snapshot: Snapshot) -> None:
        """Write a checkpoint in the place of the last one; a trial can do without, on a full disk for example."""
        assert self.path is not None
        try:
            write_checkpoint(self.path, encode_checkpoint(snapshot, self.made_for, self.spent()))
        except OSError as error:
            self.notes["snapshot_not_written"] = str(error)

    def spent(self) -> dict[str, float]:
        """Seconds, and CPU seconds, which busy neighbours do not lengthen."""
        return {
            "seconds": self.before["seconds"] + time.perf_counter() - self.started,
            "cpu_seconds": self.before["cpu_seconds"] + time.process_time() - self.cpu_started,
        }

    def remove_checkpoint(self) -> None:
        """Nothing is left to go on with."""
        if self.path is not None:
            remove_checkpoint(self.path)
