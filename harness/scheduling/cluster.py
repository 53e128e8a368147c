"""Where trials run. Apart from tune.py, so that naming a cluster does not import ray."""

from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where trials run, and what each is given.

    Raises:
        UserError: a share of GPUs out of range.
    """

    address: str = ""  # of a Ray cluster that is up, "host:port"; "" for this machine alone
    gpus_per_trial: float | None = None  # None: one where there are any
    snapshots: Path | None = None  # where unfinished trials keep their state; None: in the cache, on each node its own

    def __post_init__(self) -> None:
        gpus = self.gpus_per_trial
        if gpus is not None and not (0 <= gpus <= 1 or gpus == int(gpus)):
            raise UserError(f"gpus_per_trial={gpus:g} is out of range; allowed: from 0 to 1, or a whole number")


HERE = Cluster()
