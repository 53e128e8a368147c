"""The assets that trials share, for workers that do not see the driver's disk: packed once, unpacked once a node.

These are the prepared data, the extractor and the features of the reference images, all in the store's cache. They
travel through Ray's object store as one mapping from file name to bytes. Each node unpacks them into its own cache, in
a folder named by their checksum.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np

from harness.errors import UserError
from harness.execution.cluster import Cluster
from harness.execution.trial import TrialContext
from harness.files import hidden_name, staged_folder
from harness.spec import TrialSpec
from harness.storage.layout import cache_folder

Assets: TypeAlias = Mapping[str, np.ndarray]
"""Path relative to the cache -> the file's bytes as (size,) uint8, which Ray hands to a node's processes uncopied."""


@dataclass(frozen=True)
class Shared:
    """What workers are given beside a spec."""

    contexts: Mapping[str, TrialContext]  # by the fingerprint of their data
    assets: Assets | None  # for workers that may be on other machines
    key: str
    checkpoints: Path | None  # where unfinished trials keep their state; None for the node's own cache

    def context(self, spec: TrialSpec) -> TrialContext:
        """The trial's context, with its files on this node."""
        context = self.contexts[spec.data_fingerprint]
        return context if self.assets is None else relocate(context, unpack(self.assets, self.key, node_cache()))

    def checkpoint_folder(self) -> Path:
        """Where trials on this node keep their state."""
        return self.checkpoints or cache_folder(node_cache(), "snapshots")


def share(contexts: Mapping[str, TrialContext], cluster: Cluster) -> Shared:
    """What the workers of a run are given: on a cluster, with the files that the contexts name."""
    if not cluster.address:
        cache = next(iter(contexts.values())).cache
        return Shared(contexts, None, "", cluster.snapshots or cache_folder(cache, "snapshots"))
    assets = pack(contexts.values())
    return Shared(contexts, assets, assets_key(assets), cluster.snapshots)


def pack(contexts: Iterable[TrialContext]) -> Assets:
    """All files in the driver's cache that trials of these contexts read."""
    assets: dict[str, np.ndarray] = {}
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
        assets |= {str(p.resolve().relative_to(cache)): np.fromfile(p, dtype=np.uint8) for p in files}
    return assets


def assets_key(assets: Assets) -> str:
    """A checksum of the names and contents, as 16 hex digits."""
    digest = hashlib.sha256()
    for name, content in sorted(assets.items()):
        digest.update(f"{name}\0{content.size}\0".encode())
        digest.update(np.ascontiguousarray(content).data)
    return digest.hexdigest()[:16]


def node_cache() -> Path:
    """This user's folder for assets on this machine: mode 0700, below the system's temporary folder.

    Raises:
        UserError: another user owns a folder of that name, or may read it.
    """
    folder = Path(tempfile.gettempdir()) / f"gan-ablation-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(f"{folder} is not this user's alone (mode 0700); remove it, or set TMPDIR to another place")
    return folder


def unpack(assets: Assets, key: str, folder: Path) -> Path:
    """The folder `folder`/`key` with these files; written whole or not at all if they are not there yet.

    If a cleaner of temporary folders has deleted some of them, all are written again.
    """
    target = folder / key
    if _is_whole(target, assets):
        return target
    if target.exists():
        with contextlib.suppress(OSError):  # another process was faster
            shutil.rmtree(target.rename(hidden_name(target)))
    try:
        with staged_folder(target) as staging:
            for name, content in assets.items():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts:
                    raise UserError(f"{name!r} would lie outside {target}")
                (staging / path).parent.mkdir(parents=True, exist_ok=True)
                content.tofile(staging / path)
    except OSError:
        if not _is_whole(target, assets):  # else another process was faster
            raise
    return target


def _is_whole(target: Path, assets: Assets) -> bool:
    try:
        return all((target / name).stat().st_size == content.size for name, content in assets.items())
    except OSError:
        return False


def relocate(context: TrialContext, cache: Path) -> TrialContext:
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
