"""Where trials run. Apart from ray_backend.py, so that naming a cluster does not import ray."""

import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import cast

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
        if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and float(gpus).is_integer())):
            raise UserError(f"gpus_per_trial={gpus:g} is out of range; allowed: from 0 to 1, or a whole number")

    def require_reachable(self) -> None:
        """Refuse an address at which nothing listens; Ray itself would try for minutes.

        Raises:
            UserError: not host:port, or nobody answers there.
        """
        if not self.address:
            return
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise UserError(f"address={self.address!r} is not that of a Ray head; allowed: host:port, as head.lab:6379")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise UserError(
                f"nothing answers at {self.address}: {error.strerror or error}; start a Ray head there "
                f"(deploy/README.md)"
            ) from None


def snapshot_folder(where: str) -> Path:
    """The folder by its path, or by a URL that fsspec knows: s3://bucket/folder, gs://..., sftp://...

    Raises:
        UserError: an unknown kind of URL, one whose package is not installed, or a place that cannot be written.
    """
    try:
        if "://" in where:
            from upath import UPath

            folder = UPath(where)
        else:
            folder = Path(where).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{uuid.uuid4().hex}"
        trial.write_bytes(b"")
        trial.unlink()
    except Exception as error:  # noqa: BLE001  each file system's client raises what it likes
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
        reason = (told or type(error).__name__).splitlines()[0]
        raise UserError(f"snapshots cannot be kept at {where}: {reason}; name another place") from None
    return cast(Path, folder)  # in all that is asked of it here


HERE = Cluster()
