"""What a trial leaves behind, and the files that it becomes."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from harness.files import checksum
from harness.spec import RESULT_VERSION, ScoreProtocol, TrialSpec
from harness.storage import layout as names
from harness.storage.layout import scores_path
from harness.storage.records import checked_json, plain_json

Status = Literal["ok", "diverged", "failed"]

TIMES_FAILED = "times_failed"
"""In the provenance of a trial that failed again: how often in a row with the same error, but for numbers in it."""
WITHOUT_NUMBERS = re.compile(r"[\d.]+")


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """Everything that a trial leaves behind. `failed` is for what went wrong outside the model, and is tried again."""

    spec: TrialSpec
    status: Status
    error: str = ""  # one line: where it diverged, or what failed
    protocol: ScoreProtocol | None = None
    scores: Mapping[str, float] = field(default_factory=dict)  # fid, is_mean, kid, precision, recall, ...
    cost: Mapping[str, float] = field(default_factory=dict)  # seconds, steps, parameters, FLOPs, memory
    provenance: Mapping[str, Any] = field(default_factory=dict)  # versions, commit, hardware, date
    # Not in its repr, which Tune makes twice of all that it is told, wanted or not: seconds for large networks.
    curves: pd.DataFrame | None = field(default=None, repr=False)
    samples_png: bytes = field(default=b"", repr=False)
    weights: bytes = field(default=b"", repr=False)  # safetensors

    def files(self) -> dict[str, bytes]:
        """Name -> content of the files in the trial's folder, in the order of writing."""
        trial_id = self.spec.trial_id
        files = {names.SPEC: plain_json(self.spec.to_dict())}
        if self.curves is not None:
            buffer = io.BytesIO()
            self.curves.to_parquet(buffer, index=False)
            files[names.CURVES] = buffer.getvalue()
        if self.samples_png:
            files[names.SAMPLES] = self.samples_png
        if self.weights:
            files[names.WEIGHTS] = self.weights
        if self.protocol is not None and self.scores:
            path = scores_path(Path(), self.protocol.protocol_id)
            files[str(path)] = checked_json(scores_record(trial_id, self.protocol, self.scores))
        files[names.RESULT] = checked_json(
            {
                "trial_id": trial_id,
                "result_version": RESULT_VERSION,
                "status": self.status,
                "error": self.error,
                "cost": dict(self.cost),
                "provenance": dict(self.provenance),
                "sha256": {name: checksum(content) for name, content in files.items()},
            }
        )
        return files


def counted(result: TrialResult, before: Mapping[str, Any]) -> TrialResult:
    """A failed trial's result, with how often in a row it has now failed with that error: its provenance says so.

    Args:
        result: Of the last try.
        before: result.json of the one before, which failed, too.
    """
    alike = WITHOUT_NUMBERS.sub("", result.error) == WITHOUT_NUMBERS.sub("", before["error"])
    times = before["provenance"].get(TIMES_FAILED, 1) + 1 if alike else 1
    return replace(result, provenance={**result.provenance, TIMES_FAILED: times})


def scores_record(trial_id: str, protocol: ScoreProtocol, scores: Mapping[str, float]) -> dict[str, Any]:
    """The content of a file of scores."""
    return {"trial_id": trial_id, "protocol": protocol.to_dict(), "scores": dict(scores)}
