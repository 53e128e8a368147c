"""Pictures that are kept in one piece: zip files, and image sets of Hugging Face's `datasets`. Both become a folder.

What the folder then means, and what in it is refused, is decided where any folder is looked at: harness/pictures.py. So
a zip file of a folder is the same data as the folder.
"""

import importlib
import importlib.util
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import DISK_FULL

HUB = "hf:"
"""How a data set on the Hugging Face hub is named: hf:NAME, or hf:NAME:CONFIGURATION."""

DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What zipfile raises over an entry that it cannot unpack."""

SAVED = ("dataset_dict.json", "dataset_info.json")
"""By which a folder is known that `datasets` saved."""

LABELS = ("label", "labels", "class", "fine_label")
"""Columns that are taken for the class, the first that there is; else the only one of classes."""


def require_zip(archive: Path) -> None:
    """Refuse a file that is no zip file.

    Raises:
        UserError: it is not.
    """
    if not zipfile.is_zipfile(archive):
        raise UserError(f"{archive} is neither a folder nor a whole zip file; give folder:PATH of one of them")


def unzip(archive: Path, folder: Path) -> list[str]:
    """Unpack what is in a zip file into an empty folder; what cannot be unpacked, as "NAME: REASON".

    Raises:
        UserError: it is cut off, or there is no room for what it holds.
        OSError: the folder cannot be written.
    """
    left_out = []
    try:
        with zipfile.ZipFile(archive) as file:
            entries = [entry for entry in file.infolist() if not entry.is_dir()]
            needed, free = sum(entry.file_size for entry in entries), shutil.disk_usage(folder).free
            if needed > free:
                raise UserError(
                    f"{archive} holds {needed / 2**20:,.0f} MiB, and only {free / 2**20:,.0f} MiB are free at "
                    f"{folder.parent}; free some, or name another place with --store"
                )
            for entry in entries:
                if reason := _refused(entry):
                    left_out.append(f"{entry.filename}: {reason}")
                    continue
                try:
                    file.extract(entry, folder)  # which keeps names inside the folder, whatever they say
                except (
                    zipfile.BadZipFile,
                    zlib.error,
                    EOFError,
                    NotImplementedError,
                    RuntimeError,
                    ValueError,
                ) as error:
                    left_out.append(f"{entry.filename}: {_said(error)}")
                except OSError as error:
                    if error.errno in DISK_FULL:
                        raise
                    left_out.append(f"{entry.filename}: {error.strerror or 'a name that no file can have'}")
    except zipfile.BadZipFile as error:
        raise UserError(f"cannot read {archive}: {error}; it may be cut off: copy it again") from None
    return left_out


def is_saved_set(folder: Path) -> bool:
    """Whether `datasets` saved an image set in this folder (`save_to_disk`)."""
    return any((folder / name).is_file() for name in SAVED)


def saved_stamps(folder: Path) -> list[str]:
    """What tells cheaply whether a saved set has changed."""
    stats = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [f"{path.relative_to(folder)} {found.st_size} {found.st_mtime_ns}" for path, found in stats]


def unpack_saved(saved: Path, folder: Path) -> list[str]:
    """As `unzip`, of a set that `datasets` saved."""
    datasets = _datasets(str(saved))
    try:
        found = datasets.load_from_disk(str(saved))
    except Exception as error:  # noqa: BLE001  whatever the library trips over
        raise UserError(f"`datasets` cannot read {saved}: {_said(error)}") from None
    return _write(found, folder, str(saved))


def unpack_hub(name: str, downloads: Path, folder: Path) -> list[str]:
    """As `unzip`, of "hf:NAME" or "hf:NAME:CONFIGURATION", which is downloaded once into a folder for downloads."""
    datasets = _datasets(name)
    path, _, configuration = name.removeprefix(HUB).partition(":")
    if not path:
        raise UserError(f"{name!r} names no set; give hf:NAME of an image set on the Hugging Face hub")
    try:
        found = datasets.load_dataset(path, configuration or None, cache_dir=str(downloads / "hugging-face"))
    except Exception as error:  # noqa: BLE001  whatever the library trips over
        raise UserError(
            f"cannot get {name} ({_said(error)}); where there is no network, save it elsewhere with `save_to_disk` and "
            f"give folder:PATH of that"
        ) from None
    return _write(found, folder, name)


def _refused(entry: zipfile.ZipInfo) -> str:
    if entry.flag_bits & 0x1:
        return "encrypted"
    return "a link" if stat.S_ISLNK(entry.external_attr >> 16) else ""


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).replace(": ", ", ")[:160]


def _datasets(name: str) -> Any:
    if importlib.util.find_spec("datasets") is None:
        raise UserError(f"{name} needs the package datasets; `pip install 'gan-ablation[datasets]'`")
    return importlib.import_module("datasets")


def _write(found: Any, folder: Path, name: str) -> list[str]:
    """Every picture as the file that it was, in folders by split, if there are several, and by class."""
    splits = dict(found) if hasattr(found, "keys") else {"": found}
    left_out: list[str] = []
    for split, rows in splits.items():
        image, label = _columns(rows, name)
        place = folder / split if len(splits) > 1 else folder
        for number, (content, of_class) in enumerate(_rows(rows, image, label)):
            if content is None:
                left_out.append(f"{split or 'row'} {number}: without a picture")
                continue
            path = place / of_class / f"{number:09}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return left_out


def _columns(rows: Any, name: str) -> tuple[str, str]:
    """The column of pictures, and that of classes; "" where there are none."""
    kinds = {column: type(feature).__name__ for column, feature in rows.features.items()}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    if len(images) != 1:
        raise UserError(
            f"{name} has {len(images)} columns of pictures ({', '.join(images or kinds)}); allowed: one, of the kind "
            f"Image (`cast_column` makes one, `remove_columns` takes others away)"
        )
    classes = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    label = next((column for column in LABELS if column in kinds), classes[0] if len(classes) == 1 else "")
    return images[0], label


def _rows(rows: Any, image: str, label: str) -> Iterator[tuple[bytes | None, str]]:
    """(a picture's file, its class as the name of a folder; "" without classes)."""
    datasets = importlib.import_module("datasets")
    wanted = rows.select_columns([image, label] if label else [image]).cast_column(image, datasets.Image(decode=False))
    feature = rows.features.get(label)
    for row in wanted:
        picture = row[image] or {}
        content = picture.get("bytes")
        if content is None and picture.get("path") and Path(picture["path"]).is_file():
            content = Path(picture["path"]).read_bytes()
        of_class = "" if not label else str(feature.int2str(row[label]) if hasattr(feature, "int2str") else row[label])
        yield content, of_class.replace("/", "-").replace("\0", "").lstrip(".") or ("no class" if label else "")
