"""A folder of pictures as people have it: which files are pictures, what each one shows, and what its folders mean.

`walk` looks at names (and, where a name tells nothing, at a file's first bytes) and decides what every file is and how
the tree is arranged; `read` opens one picture. Whatever is left out has a line of its own that says why.

How folders are understood, after wrappers are taken off (a folder that holds everything else):

* Pictures in one folder have no classes.
* Folders side by side are classes, named by the first level, however deep the pictures lie. A few loose pictures
  beside them are left out; where there are more loose ones than others, nothing has a class.
* Folders that are all named as splits (train, val, test and the like) are a split made beforehand: the classes are
  the folders inside. The test split, or without one the validation split, becomes the reference if it holds at least
  OWN_TEST_SHARE of all pictures; else all are pooled.
* Numbered folders that look like shards (`_are_shards`) are one set without classes.
"""

import importlib.util
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from harness.errors import UserError
from harness.storage.layout import is_store

PICTURE_SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".avifs", ".gif", ".tif", ".tiff"),
    *(".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
    *(".tga", ".icb", ".vda", ".vst", ".ico", ".icns", ".pcx", ".qoi", ".sgi", ".psd", ".dds"),
}
"""Endings that promise a picture. A file with another ending, or none, is a picture if its first bytes say so."""

FORMATS = (
    *("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000"),
    *("ICO", "ICNS", "PCX", "QOI", "SGI", "PSD", "DDS"),
)
"""Pillow's formats that hold pixels and are known by their first bytes. Those that run other programs are not read."""

TARGA_SUFFIXES = {".tga", ".icb", ".vda", ".vst"}  # a format without a mark of its own: believed by its ending alone
HEIC_SUFFIXES = {".heic", ".heif", ".hif"}
HEIC_REASON = "HEIC, which needs `pip install pillow-heif`"
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

OTHER_SUFFIXES: dict[str, str] = {
    suffix: said
    for said, suffixes in {
        "a video, save its frames as pictures": ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv",
        "a camera's raw file, convert it to PNG": ".cr2 .cr3 .nef .arw .dng .orf .rw2 .raf",
        "an archive, unpack it": ".zip .tar .gz .tgz .bz2 .xz .7z .rar",
        "arrays, no picture": ".npy .npz .h5 .hdf5 .mat .tfrecord .parquet .pkl",
        "a drawing without pixels, convert it to PNG": ".svg .pdf .eps .ai",
        "no picture": ".txt .md .csv .tsv .json .xml .yaml .yml .html .py",
    }.items()
    for suffix in suffixes.split()
}
"""Endings of what is never opened, and what is said of it. Raw files are here because Pillow reads their thumbnail."""

SERVICE_NAMES = {
    *("@eadir", "@recycle", "#recycle", "$recycle.bin", "recycler", "system volume information", "lost+found"),
    *("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
"""What systems and programs leave between people's files, in lower case; and whatever begins with a dot."""

SPLIT_NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation", "holdout"),
}
OWN_TEST_SHARE = 0.1
"""A test split of somebody's own with less than this share of all pictures is pooled with the rest."""

SHARD_WORDS = "shard|part|chunk|batch|block|dir|folder|archive|subset"
SHARD_TOLERANCE = 0.02
"""Shards are of one size, but for what was lost of them and for the last: so much smaller than the largest at most."""

MIN_SIDE = 8
"""Pictures with a smaller side are not enlarged but left out, unless no more is asked for. In pixels."""

NAMES_SHOWN, REASONS_SHOWN = 2, 6
"""In one line about what is not read."""

Parts = tuple[str, ...]  # a path below the root, as its names


class Picture(NamedTuple):
    """One file that is to be read."""

    path: Path
    label: str  # the class; "" where there are none
    is_test: bool = False


class Tree(NamedTuple):
    """What there is below a folder. Small enough to be kept: no pixels."""

    root: Path
    pictures: tuple[Picture, ...]  # by path
    left_out: tuple[str, ...]  # "NAME: REASON", one line a file, or a folder that is not looked into
    arrangement: str  # how its folders were understood, in words
    is_guess: bool  # whether that is more than "folders are classes" or "one folder has none"
    stamps: tuple[str, ...]  # of every file that was looked at, and of what can be read: others as soon as one changes

    def name(self, path: Path) -> str:
        """A file's name in messages: below the root, and printable whatever its encoding."""
        return printable(str(path.relative_to(self.root)))


def walk(root: Path) -> Tree:
    """Every file below the folder, links followed, each folder once.

    Raises:
        UserError: nothing in it can be read, or it is half a split: train and test beside folders that are neither.
    """
    seen: set[str] = set()
    found: list[Path] = []
    left_out: list[str] = []
    stamps = ["HEIC is read"] * reads_heic()

    def note(path: Path, reason: str, what: str = "") -> None:
        left_out.append(f"{what}{printable(str(path.relative_to(root)))}: {reason}")

    def unlisted(error: OSError) -> None:
        stamps.append(f"{error.filename} {error.strerror}")
        note(Path(error.filename), f"a folder that cannot be listed ({error.strerror})")

    for where, folders, names in os.walk(root, followlinks=True, onerror=unlisted):
        here = Path(where)
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(folders):
            reason = "a store of results" if is_store(here / name) else ""
            if reason := reason or "a hidden or service folder" * _is_service(name):
                number = sum(len(files) for _, _, files in os.walk(here / name))
                stamps.append(f"{(here / name).relative_to(root)} {reason}")  # however many files come and go in it
                note(here / name, reason, f"{number:,} {'file' if number == 1 else 'files'} in ")
                folders.remove(name)
        folders.sort()
        for name in sorted(names):
            path = here / name
            if _is_service(name):
                stamps.append(f"{path.relative_to(root)} hidden")
                note(path, "a hidden or service file")
                continue
            stamps.append(f"{path.relative_to(root)} {_stamp(path)}")
            if reason := _refused_by_name(path):
                note(path, reason)
            else:
                found.append(path)
    labels, unused, arrangement, is_guess = _arrange(root, [path.relative_to(root).parts for path in sorted(found)])
    for parts, reason in unused.items():
        note(root.joinpath(*parts), reason)
    pictures = tuple(Picture(root.joinpath(*parts), *labels[parts]) for parts in sorted(labels))
    if not pictures:
        raise UserError(
            f"folder:{printable(str(root))} has no readable image ("
            f"{f'it holds {summary(left_out)}' if left_out else 'it is empty'}); give the folder of pictures such as "
            f".png and .jpg, with one sub-folder a class"
        )
    return Tree(root, pictures, tuple(left_out), arrangement, is_guess, tuple(stamps))


def read(path: Path, resolution: int) -> tuple[Image.Image, str]:
    """A picture as a person would see it, in eight bits and without transparency; and its own mode.

    Raises:
        ValueError: it cannot be read, or is too small for the resolution; in a few words that name no file.
    """
    if not path.is_file():
        raise ValueError("a link to nowhere" if path.is_symlink() else "no ordinary file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about metadata that is of no use here
            with _open(path) as opened:
                mode = opened.mode
                picture = _eight_bit(ImageOps.exif_transpose(opened))
                picture.load()
    except Exception as error:  # noqa: BLE001  a broken file trips Pillow's decoders over anything
        raise ValueError(_reason(path, error)) from None
    if min(picture.size) < min(MIN_SIDE, resolution):
        raise ValueError(f"smaller than {MIN_SIDE} pixels a side")
    return picture, mode


def by_reason(left_out: Sequence[str]) -> dict[str, list[str]]:
    """Reason -> names of what was left out for it, the commonest reason first."""
    found: dict[str, list[str]] = {}
    for line in left_out:
        name, _, reason = line.rpartition(": ")
        found.setdefault(reason if name else "unreadable", []).append(name or line)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def summary(left_out: Sequence[str]) -> str:
    """What was left out, in one line: a few names for each reason, and how many more."""
    told = []
    for reason, names in by_reason(left_out).items():
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        told.append(f"{', '.join(names[:NAMES_SHOWN])}{more} ({reason})")
    if len(told) > REASONS_SHOWN:
        told[REASONS_SHOWN:] = [f"others for {len(told) - REASONS_SHOWN} more reasons"]
    return "; ".join(told)


def printable(text: str) -> str:
    """The text, with what is not UTF-8 in it written out as bytes, so that any stream and file takes it."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _is_service(name: str) -> bool:
    return name.startswith(".") or name.lower() in SERVICE_NAMES


def _stamp(path: Path) -> str:
    """Size and times of a file. The time of its last change of state, too, which no program can set back."""
    try:
        stat = path.stat()
    except OSError:  # a link to nowhere: unreadable, and found so by the loader
        return "absent"
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _refused_by_name(path: Path) -> str:
    """Why the file is not tried as a picture; empty where it is."""
    suffix = path.suffix.lower()
    if suffix in OTHER_SUFFIXES:
        return OTHER_SUFFIXES[suffix]
    if suffix in HEIC_SUFFIXES:
        return "" if reads_heic() else HEIC_REASON
    if suffix in PICTURE_SUFFIXES or not path.is_file():
        return ""
    try:
        with _open(path):
            return ""
    except Exception as error:  # noqa: BLE001  as in `read`
        return "no picture" if isinstance(error, UnidentifiedImageError) else _reason(path, error)


def _open(path: Path) -> Image.Image:
    """By the file's content, whatever its ending says."""
    more = ("TGA",) * (path.suffix.lower() in TARGA_SUFFIXES) + ("HEIF",) * reads_heic()
    return Image.open(path, formats=(*FORMATS, *more))


@cache
def reads_heic() -> bool:
    """Whether Pillow can be taught HEIC, which it then is."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


def _reason(path: Path, error: Exception) -> str:
    """What is wrong with a file, in a few words without its name."""
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS:
            return HEIC_REASON
        return "no picture by its content" if head else "an empty file"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels, which Pillow does not open"
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or type(error).__name__
    lines = str(error).splitlines() or [type(error).__name__]
    return re.sub(r" ?\(.*\)", "", lines[0].replace(str(path), "it")).replace(": ", ", ")


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


# ---- what folders mean ----

_Labels = dict[Parts, tuple[str, bool]]  # path -> (class, whether of a test split)


def _arrange(root: Path, paths: list[Parts]) -> tuple[_Labels, dict[Parts, str], str, bool]:
    """(what each picture is, why others are left out, how the folders were understood, whether that is a guess)."""
    inner, wrapper = _unwrapped(paths)
    folders = _by_folder(inner)
    kinds = {name: _split_kind(name) for name in folders if name}
    splits = [name for name, kind in kinds.items() if kind]
    if len({kinds[name] for name in splits}) > 1:
        if others := [name for name, kind in kinds.items() if not kind]:
            raise UserError(
                f"folder:{printable(str(root))} was split beforehand ({_some(splits)}), but beside that lie folders "
                f"that are no split: {_some(others)}; move these away, or give folder:PATH of one of them"
            )
        labels, unused, words = _split_tree(folders, kinds)
        is_guess = True
    else:
        found, loose, words = _classes(inner)
        labels = {path: (label, False) for path, label in found.items()}
        unused = dict.fromkeys(loose, "beside the class folders, in none of them")
        is_guess = bool(wrapper and len(set(found.values())) > 1) or "shards" in words
    if wrapper:
        words += f", inside {printable('/'.join(wrapper))}/"
    return (
        {wrapper + path: label for path, label in labels.items()},
        {wrapper + path: reason for path, reason in unused.items()},
        words,
        is_guess,
    )


def _unwrapped(paths: list[Parts]) -> tuple[list[Parts], Parts]:
    """The paths without the folders that hold all of them, and these folders."""
    wrapper = paths[0][:-1] if paths else ()
    while any(path[: len(wrapper)] != wrapper or len(path) == len(wrapper) for path in paths):
        wrapper = wrapper[:-1]
    return [path[len(wrapper) :] for path in paths], wrapper


def _by_folder(paths: Iterable[Parts]) -> dict[str, list[Parts]]:
    """First folder -> the paths in it; "" -> those in none."""
    found: dict[str, list[Parts]] = {}
    for path in paths:
        found.setdefault(path[0] if len(path) > 1 else "", []).append(path)
    return found


def _classes(paths: list[Parts]) -> tuple[dict[Parts, str], list[Parts], str]:
    """(path -> class, or "" for all; those left out; in words)."""
    folders = _by_folder(paths)
    loose = folders.pop("", [])
    sizes = {name: len(inside) for name, inside in folders.items()}
    nothing = dict.fromkeys(paths, "")
    if not sizes:
        return nothing, [], "no classes: all pictures lie in one folder"
    if len(sizes) == 1 or len(loose) > sum(sizes.values()):
        return nothing, [], f"no classes: {len(loose)} pictures lie beside the folders {_some(list(sizes))}"
    if not loose and _are_shards(sizes):
        shards = f"{len(sizes)} numbered folders of one size ({_some(sorted(sizes))}) look like shards of one set"
        return nothing, [], f"no classes: {shards}; if they are classes, rename them (class-01, ...)"
    labels = {path: name for name, inside in folders.items() for path in inside}
    return labels, loose, f"its folders are the classes ({_some(sorted(sizes))})"


def _are_shards(sizes: Mapping[str, int]) -> bool:
    """Whether folders look like the pieces into which a tool cut one set, rather than like classes.

    So they do if they are of one size (all but the smallest within SHARD_TOLERANCE of the largest), at least two, and
    named either by digits alone, equally many, with leading zeros (00000, 00001 or 00000, 01000), or by one of
    SHARD_WORDS and a number (part-3). "0" to "9" are classes, and so are numbers whose sizes differ.
    """
    *rest, largest = sorted(sizes.values())
    numbers = (
        len({len(name) for name in sizes}) == 1
        and all(name.isascii() and name.isdigit() for name in sizes)
        and any(name.startswith("0") and len(name) > 1 for name in sizes)
    )
    words = all(re.fullmatch(rf"({SHARD_WORDS})s?[-_ .]?\d+", name.lower()) for name in sizes)
    return (numbers or words) and all(size >= largest * (1 - SHARD_TOLERANCE) for size in rest[1:])


def _split_kind(name: str) -> str:
    """Which of SPLIT_NAMES a folder is named as, as in train2017, test_set or seg_val; else empty."""
    for kind, names in SPLIT_NAMES.items():
        if re.fullmatch(rf"(\w*[-_ ])?({'|'.join(names)})([-_ ]?(set|data|images?|split|\d+))?", name.lower()):
            return kind
    return ""


def _split_tree(folders: Mapping[str, list[Parts]], kinds: Mapping[str, str]) -> tuple[_Labels, dict[Parts, str], str]:
    """What pictures of a tree are that somebody split: (labels, left out, in words)."""
    unused = dict.fromkeys(folders.get("", []), "beside the folders of the split, in none of them")
    inside: dict[str, dict[Parts, str]] = {}
    words = {}
    for name in kinds:
        inner, wrapper = _unwrapped([path[1:] for path in folders[name]])
        found, loose, words[name] = _classes(inner)
        back: Callable[[Parts], Parts] = lambda path, before=(name, *wrapper): before + path  # noqa: E731
        inside[name] = {back(path): label for path, label in found.items()}
        unused |= {back(path): "beside the class folders, in none of them" for path in loose}
    order = ("train", "validation", "test")
    main = next(kind for kind in order if kind in kinds.values())
    last = next(kind for kind in reversed(order) if kind in kinds.values())
    known = {label for name, found in inside.items() if kinds[name] == main for label in found.values()}
    labels: _Labels = {}
    for name, found in inside.items():
        for path, label in found.items():
            if label in known:
                labels[path] = (label, kinds[name] == last)
            elif label:
                unused[path] = f"of a class that the {main} split lacks"
            else:
                unused[path] = f"without a class, which the {main} split has"
    number = Counter(path[0] for path in labels)
    of_last = " and ".join(printable(name) for name in sorted(kinds) if kinds[name] == last)
    split = ", ".join(f"{printable(name)} {number[name]:,}" for name in sorted(kinds))
    own = f"{of_last} is the reference"
    if sum(is_test for _, is_test in labels.values()) < OWN_TEST_SHARE * len(labels):
        labels = {path: (label, False) for path, (label, _) in labels.items()}
        own = f"too few in {of_last}: all are pooled and split anew"
    first = next(name for name in kinds if kinds[name] == main)
    return labels, unused, f"split beforehand ({split}; {own}), {words[first]}"


def _some(names: Sequence[str]) -> str:
    """A few names of many."""
    return ", ".join(map(printable, names if len(names) <= 3 else [*names[:2], "...", names[-1]]))
