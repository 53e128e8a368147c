"""What trials share, for workers that do not see the driver's disk: packed once, unpacked once a node.

Prepared data, the extractor and the features of the reference lie in the store's cache. They travel as one mapping
from file name to bytes, through Ray's object store, and land in a folder of the node that is named by their content.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np

from harness.errors import UserError
from harness.execution.trial import TrialContext
from harness.files import hidden_name, staged_folder
from harness.storage.layout import cache_folder

Luggage: TypeAlias = Mapping[str, np.ndarray]
"""Path relative to the cache -> the file's bytes as (size,) uint8, which Ray hands to a node's processes uncopied."""


def pack(contexts: Iterable[TrialContext]) -> Luggage:
    """All the files of the driver's cache that trials of these contexts read."""
    luggage: dict[str, np.ndarray] = {}
    for context in contexts:
        cache = context.cache.resolve()
        files = [
            *(path for path in context.data.folder.iterdir() if path.is_file()),
            context.extractor.weights_path,
            *([context.online.weights_path] if context.online else []),
            *cache_folder(cache, "features").glob(
                f"{context.protocol.reference_hash}-*{context.extractor.weights_hash}*"
            ),
        ]
        luggage |= {str(p.resolve().relative_to(cache)): np.fromfile(p, dtype=np.uint8) for p in files}
    return luggage


def content_key(luggage: Luggage) -> str:
    """16 hex digits of the names and contents."""
    digest = hashlib.sha256()
    for name, content in sorted(luggage.items()):
        digest.update(f"{name}\0{content.size}\0".encode())
        digest.update(np.ascontiguousarray(content).data)
    return digest.hexdigest()[:16]


def node_folder() -> Path:
    """This user's own folder for such things on this machine: mode 0700, below the system's temporary folder.

    Raises:
        UserError: somebody else has taken its name.
    """
    folder = Path(tempfile.gettempdir()) / f"gan-ablation-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(f"{folder} is not this user's alone (mode 0700); remove it, or set TMPDIR to another place")
    return folder


def unpack(luggage: Luggage, key: str, folder: Path) -> Path:
    """Write the files below `folder`/`key`, whole or not at all; where they are already, just say where.

    Something that cleans temporary folders may have taken one of them: then all go aside, and are written again.
    """
    target = folder / key
    if _is_whole(target, luggage):
        return target
    if target.exists():
        with contextlib.suppress(OSError):  # another process was faster
            shutil.rmtree(target.rename(hidden_name(target)))
    try:
        with staged_folder(target) as staging:
            for name, content in luggage.items():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts:
                    raise UserError(f"{name!r} would lie outside {target}")
                (staging / path).parent.mkdir(parents=True, exist_ok=True)
                content.tofile(staging / path)
    except OSError:
        if not _is_whole(target, luggage):  # else another process was faster
            raise
    return target


def _is_whole(target: Path, luggage: Luggage) -> bool:
    try:
        return all((target / name).stat().st_size == content.size for name, content in luggage.items())
    except OSError:
        return False


def at_home(context: TrialContext, cache: Path) -> TrialContext:
    """The same context with its files below another cache."""
    there = context.cache.resolve()

    def moved(path: Path) -> Path:
        return cache / path.resolve().relative_to(there)

    return replace(
        context,
        cache=cache,
        data=replace(context.data, folder=moved(context.data.folder)),
        extractor=replace(context.extractor, weights_path=moved(context.extractor.weights_path)),
        online=context.online and replace(context.online, weights_path=moved(context.online.weights_path)),
    )
