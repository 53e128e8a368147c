"""What is made once of a protocol's reference, and kept in the cache: features, their moments, counts of classes."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.files import checksum, file_checksum, write_file
from harness.scoring.extractors import Extractor
from harness.scoring.moments import Moments
from harness.spec import ScoreProtocol
from harness.storage.layout import cache_folder


def kept_file(protocol: ScoreProtocol, extractor: Extractor, cache: Path, what: str) -> Path:
    """Where something of the reference is kept."""
    layer = extractor.pretrained.layer if extractor.pretrained else "pool"
    name = f"{protocol.reference_hash}-{protocol.num_reference}-{extractor.hashed_name}"
    return cache_folder(cache, "features") / f"{name}-{what}-{layer}.pt"


def keep_moments(protocol: ScoreProtocol, extractor: Extractor, moments: Moments, cache: Path) -> None:
    """Put the moments where scores look for those of the reference."""
    cached(kept_file(protocol, extractor, cache, "stat-fid"), lambda: {"mu": moments.mu, "sigma": moments.sigma})


def moments_are_gone() -> Any:
    """Refuse to make what only the user can give."""
    raise UserError("the moments that these scores are against are no longer in the cache; run `score` again")


def cached(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` returns, from the file if it is as it was written: beside it lies its checksum.

    A file without a checksum must be readable. Either way it gives tensors and arrays alone: pickles of anything else
    may run code. What is unusable is made again.
    """
    arrays = [np.ndarray, np.dtype, type(np.dtype(np.float64)), np.array(0.0).__reduce__()[0]]
    checksum_file = path.with_suffix(".sha256")
    try:
        if not checksum_file.exists() or checksum_file.read_text() == file_checksum(path):
            with torch.serialization.safe_globals(arrays):
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  a damaged file trips torch over anything
        pass
    made = make()
    torch.save(made, buffer := io.BytesIO())
    checksum_file.unlink(missing_ok=True)
    write_file(path, buffer.getvalue())
    write_file(checksum_file, checksum(buffer.getvalue()).encode())
    return made
