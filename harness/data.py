"""Data sets as uint8 arrays on disk: prepared once, memory-mapped by everyone, named by their content.

A prepared set has three disjoint parts: `train` for the GAN, `reference` for the scores, and `extractor` for the
network whose features the scores use (rule 8: it must have seen neither of the others).
"""

import hashlib
import json
import shlex
import shutil
import uuid
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from harness import terminal
from harness.errors import UserError, require_utf8, unknown_name
from harness.files import DISK_FULL, checksum, hidden_name, staged_folder, sync
from harness.pictures import printable, summary
from harness.sources import DATASETS, Load, Sample, Source, find_source, split_subset
from harness.storage.layout import cache_folder

__all__ = ["DATASETS", "PARTS", "PreparedData", "Sample", "Survey", "prepare", "stored_images"]

PARTS = ("train", "reference", "extractor")
PREPARATION = 1
"""Raised by every change after which the same pictures give other pixels or another split."""

SURVEY = 1
"""Raised by every change of what is noted beside the pixels: sets are then prepared again, with equal fingerprints."""

SIZES_KEPT = 8
"""Different sizes of pictures that are noted with their counts."""

COPY_AT_ONCE = 1024
"""Prepared images in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the pictures of a source were like before they were made fit. All counts are of the whole source."""

    pictures: int
    classes: list[str]  # the names of labels 0, 1, ...; empty where there are none
    sizes: dict[str, int]  # "WIDTH×HEIGHT" -> pictures; the commonest SIZES_KEPT of them
    num_sizes: int  # different ones
    smallest: str  # "WIDTH×HEIGHT" of the picture with the smallest side
    largest: str  # and of that with the largest
    modes: dict[str, int]  # Pillow's: L, RGB, RGBA, P, ...
    endings: dict[str, int]  # of files; empty for a source without files
    enlarged: int  # pictures with a side smaller than the resolution
    copies: int  # pictures that, made fit, equal an earlier one
    contradictions: int  # of these, those of another class than the first of them


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A data set on disk, at one resolution and number of channels. Small and picklable."""

    dataset: str
    resolution: int
    channels: int
    fingerprint: str  # 16 hex digits of the pixels, labels and split
    folder: Path
    num_classes: int | None  # None where there are no labels
    arrangement: str = ""  # how a folder's sub-folders were understood, in words

    def path(self, part: str) -> Path:
        """The .npy file of a part's images."""
        if part not in PARTS:
            raise unknown_name("part", part, PARTS)
        return self.folder / f"{part}.npy"

    def images(self, part: str) -> np.ndarray:
        """(N, C, H, W) uint8 of a part, memory-mapped and read-only."""
        return np.load(self.path(part), mmap_mode="r")

    def labels(self, part: str) -> np.ndarray:
        """(N,) int64 of a part; all 0 where there are no labels."""
        return np.load(self.path(part).with_name(f"{part}_labels.npy"))

    @property
    def skipped(self) -> tuple[str, ...]:
        """Files that were not read, as "NAME: REASON"; there may be many, so they stay on disk."""
        return tuple(_meta(self.folder)["skipped"])

    @property
    def survey(self) -> Survey:
        """What was noted of the pictures when they were prepared."""
        return Survey(**_meta(self.folder)["survey"])


def prepare(dataset: str, *, resolution: int, channels: int, cache: Path, check: bool = False) -> PreparedData:
    """Load, resize, convert, split and keep a data set; from the second time on, just open it.

    Pictures become arrays as follows: turned upright where EXIF says how; of an animation or a file of many pages
    the first frame; transparency laid over white; 16-bit greys scaled to 8; cropped to the central square; grey
    (ITU-R 601 luma) or RGB; resized with an antialiasing Lanczos filter. A picture that already fits is left
    untouched. Identical images always fall into the same part. harness/pictures.py says which files of a folder are
    pictures, and what its sub-folders mean; what is not read is named in a warning.

    The fingerprint is of what comes out: pixels, labels, split and subset. Sizes and times of a folder's files only
    tell when to look again, so a touched file costs time and changes nothing.

    Args:
        dataset: A key of DATASETS, or "folder:PATH" for any tree of images. With "@N" behind it, only the first N
            training images by hash: a small N has few or none of some classes. The other parts are the whole's.
        resolution: Side of the prepared images in pixels.
        channels: 1 (grey) or 3 (RGB).
        cache: The store's cache.
        check: Whether to read all of a set that is there, and make it again if it is no longer that of its fingerprint.

    Raises:
        UserError: an unknown name, no readable image, more copies than different pictures, a subset larger than
            what there is, a download that failed, or a disk without room. Nothing half-written stays.
    """
    require_utf8("dataset", dataset)
    name, size = split_subset(dataset)
    source = find_source(name, resolution)
    if name == "stacked-mnist" and channels != 3:
        raise UserError(f"{name} is three digits in three channels; channels={channels} would mix them; allowed: 3")
    what = [source.identity, size, resolution, channels, PREPARATION, SURVEY]
    key = checksum(json.dumps(what).encode())[:16]
    folder = cache_folder(cache.resolve(), "data") / key
    if source.is_own:
        folder = _asked.get((folder, source.load), folder.with_name(f"{key}-{uuid.uuid4().hex[:8]}"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{key}.lock")):
            if folder.exists() and (damage := _damage(folder, thorough=check)):
                folder.rename(hidden_name(folder))  # swept below; whoever has it open keeps what it read
                warnings.warn(f"the prepared data of {dataset} were damaged ({damage}): made again", stacklevel=2)
            if not folder.exists():
                _sweep(folder)
                downloads = cache_folder(cache.resolve(), "downloads")
                with staged_folder(folder) as staging, source.ready(downloads, staging) as source:
                    _write(staging, name, source, size, downloads, resolution, channels)
                if told := _warnings(folder, source):
                    more = f"`{terminal.program()} inspect {shlex.quote(dataset)}` tells more"
                    warnings.warn(f"{dataset}: {'; '.join(told)}; {more}", stacklevel=2)
                if source.is_own:
                    folder = _asked[folder.with_name(key), source.load] = _named_by_pixels(folder, key)
    except OSError as error:
        full = "; free some space, or name another place with --store" if error.errno in DISK_FULL else ""
        raise UserError(f"cannot keep prepared data in {folder.parent}: {error.strerror or error}{full}") from None
    found = {key: _meta(folder)[key] for key in ("fingerprint", "num_classes", "arrangement")}
    data = PreparedData(dataset=dataset, resolution=resolution, channels=channels, folder=folder, **found)
    _refuse_copies(data)
    return data


_asked: dict[tuple[Path, Load], Path] = {}
"""What a user's own loaders gave in this process, which asks each of them once."""


def _refuse_copies(data: PreparedData) -> None:
    """Refuse data of which most is there more than once: its numbers would promise more than it holds."""
    copies, pictures = data.survey.copies, data.survey.pictures
    if 2 * copies > pictures:
        raise UserError(
            f"{data.dataset}: {copies:,} of {pictures:,} pictures are copies of the other {pictures - copies:,} (equal "
            f"at {data.resolution}×{data.resolution}), more copies than pictures; take them out, or give other images"
        )


def stored_images(cache: Path, fingerprint: str, part: str) -> np.ndarray | None:
    """(N, C, H, W) uint8 of a prepared set's part, memory-mapped; None where the cache no longer holds that set."""
    for path in cache_folder(cache, "data").glob("*/meta.json"):
        if _meta(path.parent)["fingerprint"] == fingerprint:
            return np.load(path.with_name(f"{part}.npy"), mmap_mode="r")
    return None


def _meta(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "meta.json").read_text())


def _warnings(folder: Path, source: Source) -> list[str]:
    """What a person should know of a set that was just prepared."""
    meta = _meta(folder)
    told = [source.arrangement] * source.is_guess
    return told + [f"not read: {summary(meta['skipped'])}"] * bool(meta["skipped"])


def _named_by_pixels(folder: Path, key: str) -> Path:
    """Where a set of a user's own loader belongs: it is named by its pixels, since nothing else tells of a change."""
    named = folder.with_name(checksum(f"{key} {_meta(folder)['fingerprint']}".encode())[:16])
    if named == folder:
        return folder
    if named.exists() and _damage(named, thorough=True):
        named.rename(hidden_name(named))  # swept up later
    if named.exists():
        shutil.rmtree(folder)
    else:
        folder.rename(named)
    return named


def _write(
    folder: Path, name: str, source: Source, size: int | None, downloads: Path, resolution: int, channels: int
) -> None:
    """Prepare a set into an empty folder, one picture in memory at a time."""
    _require_room(folder, name, source.num_pictures, channels * resolution**2)
    skipped: list[str] = []
    hashes, found_labels, is_test, given = [], [], [], []
    sizes, modes, endings = Counter[tuple[int, int]](), Counter[str](), Counter[str]()
    with (folder / "pixels").open("wb") as file:
        of = f" of {source.num_pictures:,}" if source.num_pictures else ""
        samples = source.load(downloads, skipped)
        for sample in terminal.saying(
            samples, lambda n: f"{name}: {n:,}{of} pictures read, at {resolution}×{resolution}"
        ):
            sizes[sample.picture.size] += 1
            modes[sample.mode or sample.picture.mode] += 1
            endings[sample.ending] += 1
            pixels = _fit(sample.picture, resolution, channels).tobytes()
            file.write(pixels)
            hashes.append(checksum(pixels))
            found_labels.append(sample.label)
            is_test.append(sample.is_test)
            given.append(sample.part)
        sync(file)
    if not hashes:
        raise UserError(
            f"{name} has no image that can be read{f' ({summary(skipped)})' if skipped else ''}; it needs some for "
            f"each part: {', '.join(PARTS)}"
        )
    classes = sorted(set(found_labels))
    num_classes = len(classes) if len(classes) > 1 and "" not in classes else None
    numbers = {label: i if num_classes else 0 for i, label in enumerate(classes)}
    labels = np.array([numbers[label] for label in found_labels], dtype=np.int64)
    if all(given):
        parts = _split_as_given(np.array(hashes), given)
    else:
        parts = _split(np.array(hashes), labels, np.array(is_test) if any(is_test) else None)
    if empty := [part for part in PARTS if len(parts[part]) == 0]:
        raise UserError(
            f"{name} has {len(hashes)} images, {len(set(hashes))} of them distinct at {resolution}×{resolution}: too "
            f"few for a part {empty[0]!r}; add other ones"
        )
    if size is not None:
        if size > len(parts["train"]):
            raise UserError(
                f"'{name}@{size}': {size} is out of range; allowed: up to the {len(parts['train'])} training images of "
                f"{name}"
            )
        parts["train"] = parts["train"][:size]
    shape = (channels, resolution, resolution)
    images = np.memmap(folder / "pixels", dtype=np.uint8, mode="r", shape=(len(hashes), *shape))
    for part, index in parts.items():
        # Not through a memory map: on a full disk that ends the process, without a word.
        with (folder / f"{part}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(index), *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(index), COPY_AT_ONCE):
                file.write(images[index[start : start + COPY_AT_ONCE]].tobytes())
            sync(file)
        np.save(folder / f"{part}_labels.npy", labels[index])
    (folder / "pixels").unlink()
    label_of = dict(zip(reversed(hashes), reversed(found_labels), strict=True))  # hash -> the first one's
    survey = Survey(
        pictures=len(hashes),
        classes=[printable(str(label)) for label in classes] if num_classes else [],
        sizes={_by(size): n for size, n in sizes.most_common(SIZES_KEPT)},
        num_sizes=len(sizes),
        smallest=_by(min(sizes, key=lambda size: (min(size), max(size)))),
        largest=_by(max(sizes, key=lambda size: (max(size), min(size)))),
        modes=dict(modes.most_common()),
        endings=dict(endings.most_common()) if any(endings) else {},
        enlarged=sum(n for size, n in sizes.items() if min(size) < resolution),
        copies=len(hashes) - len(label_of),
        contradictions=sum(label_of[key] != label for key, label in zip(hashes, found_labels, strict=True)),
    )
    noted = {"skipped": skipped, "arrangement": source.arrangement, "survey": asdict(survey)}
    meta = {"fingerprint": _fingerprint(folder), "num_classes": num_classes, **noted}
    (folder / "meta.json").write_text(json.dumps(meta))


def _require_room(folder: Path, source: str, pictures: int, size: int) -> None:
    """Refuse to prepare so many pictures of `size` bytes if the disk would not hold them twice, as it must a while."""
    free, needed = shutil.disk_usage(folder).free, 2 * pictures * size
    if free < needed:
        raise UserError(
            f"only {free / 2**20:.0f} MiB are free at {folder.parent}, and preparing the {pictures:,} pictures of "
            f"{source} needs {needed / 2**20:.0f} MiB; free some, or name another place with --store"
        )


def _fingerprint(folder: Path) -> str:
    """16 hex digits of the pixels, labels and split in this folder: the checksum of a prepared set, and its name."""
    digest = hashlib.sha256()
    for part in PARTS:
        images = np.load(folder / f"{part}.npy", mmap_mode="r")
        if part == PARTS[0]:
            digest.update(json.dumps([PREPARATION, images.shape[1:]]).encode())
        digest.update(part.encode())
        for start in range(0, len(images), COPY_AT_ONCE):
            digest.update(images[start : start + COPY_AT_ONCE].tobytes())
        digest.update(np.load(folder / f"{part}_labels.npy").tobytes())
    return digest.hexdigest()[:16]


def _damage(folder: Path, *, thorough: bool) -> str:
    """What is wrong with the prepared set there, or if not `thorough`, with its meta.json alone; empty for nothing."""
    try:
        meta = _meta(folder)
        keys = {"fingerprint", "num_classes", "skipped", "arrangement", "survey"}
        if not isinstance(meta, dict) or not keys <= meta.keys():
            return "meta.json holds something else"
        return "its checksum differs" if thorough and _fingerprint(folder) != meta["fingerprint"] else ""
    except (OSError, ValueError, EOFError) as error:  # gone, cut off, or not an array any more
        return str(error).splitlines()[0]


def _sweep(folder: Path) -> None:
    """Remove what killed processes left of this set and others beside it; what a live one is writing stays."""
    for leftover in folder.parent.glob(".*-*"):
        key = leftover.name[1:].partition("-")[0]
        if key == folder.name.partition("-")[0]:  # whose lock is ours
            shutil.rmtree(leftover, ignore_errors=True)
            continue
        with suppress(Timeout), FileLock(folder.with_name(f"{key}.lock"), timeout=0):
            shutil.rmtree(leftover, ignore_errors=True)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _fit(picture: Image.Image, resolution: int, channels: int) -> np.ndarray:
    """One picture as (channels, resolution, resolution) uint8."""
    picture = picture.convert("L" if channels == 1 else "RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it is in memory, whatever its size
        picture = picture.crop((left, top, left + side, top + side))
    if side != resolution:
        picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _split_as_given(hashes: np.ndarray, given: list[str]) -> dict[str, np.ndarray]:
    """As `_split`, of a source that says itself which part each picture is of; equal pictures go with the first."""
    part_of = dict(zip(reversed(hashes.tolist()), reversed(given), strict=True))
    parts = np.array([part_of[digest] for digest in hashes.tolist()])
    order = np.argsort(hashes, kind="stable")
    return {part: order[parts[order] == part] for part in PARTS}


def _split(hashes: np.ndarray, labels: np.ndarray, is_test: np.ndarray | None) -> dict[str, np.ndarray]:
    """Index arrays of the three parts, decided by the hash of each image's pixels, in the order of these hashes.

    Without a test split of the source's own: 40% train, 40% reference, 20% extractor of each class. With one:
    the reference is up to 10,000 of the test images, the extractor 10% of the training images.
    """
    part_of: dict[str, str] = {}  # by hash, so that identical images stay together
    for label in np.unique(labels):
        if is_test is None:
            own = np.unique(hashes[labels == label])
            bounds = {"extractor": 0.2, "train": 0.6, "reference": 1.0}
        else:
            own = np.unique(hashes[(labels == label) & ~is_test])
            bounds = {"extractor": 0.1, "train": 1.0}
        start = 0
        for part, bound in bounds.items():
            end = round(len(own) * bound)
            for digest in own[start:end]:
                part_of.setdefault(digest, part)
            start = end
    parts = np.array([part_of.get(digest, "reference") for digest in hashes])
    order = np.argsort(hashes, kind="stable")  # mixes the classes, less evenly at its ends: each has its own range
    found = {part: order[parts[order] == part] for part in PARTS}
    found["reference"] = found["reference"][:10_000] if is_test is not None else found["reference"]
    return found
