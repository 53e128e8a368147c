"""What there is to know of a prepared data set, in words and as a picture, for people who want to see it first."""

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from harness.data import PARTS, PreparedData
from harness.pictures import by_reason, summary
from harness.sources import split_subset

WIDTH = 79
"""Columns of the terminal that the lines fit."""

CLASSES_SHOWN, NAMES_SHOWN = 20, 4
"""In the full text: rows of the table of classes, and names of files that were not read for the same reason."""

GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L")
"""Pillow's modes without colour."""

SHEET_ROWS, SHEET_COLUMNS, GAP = 12, 12, 2
"""Of the contact sheet: rows (a class each, where there are classes), pictures in a row, pixels between them."""


def short_lines(data: PreparedData) -> list[str]:
    """A few lines: how many pictures, how they are split, and what a person should know before using them."""
    survey = data.survey
    classes = f"{len(survey.classes)} classes" if survey.classes else "no classes"
    line = f"{data.dataset}: {survey.pictures:,} pictures, {classes}; {_split(data)}"
    found = textwrap.wrap(line, WIDTH - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    unread = f"not read: {summary(data.skipped)}" if data.skipped else ""
    for text in (data.arrangement, "; ".join(_doubts(data)), unread):
        found += textwrap.wrap(text, WIDTH - 2, initial_indent="  ", subsequent_indent="    ")
    return found


def full_lines(data: PreparedData) -> list[str]:
    """Everything that was noted, in lines of at most WIDTH columns."""
    survey = data.survey
    at = f"{data.resolution}×{data.resolution}, {'grey' if data.channels == 1 else 'colour'}"
    kinds = "" if survey.num_sizes == 1 else f"{survey.num_sizes:,} kinds, {survey.smallest} to {survey.largest}; "
    more = survey.num_sizes - len(survey.sizes)
    facts = {
        "made fit": f"{at}; fingerprint {data.fingerprint}",
        "pictures": f"{survey.pictures:,}, {survey.pictures - survey.copies:,} of them distinct",
        "split": _split(data),
        "folders": data.arrangement,
        "sizes": kinds + _counts(survey.sizes) + (f" and {more:,} more" if more else ""),
        "modes": _counts(survey.modes),
        "endings": _counts(survey.endings),
        "beware": "; ".join(_doubts(data)),
        "not read": f"{len(data.skipped):,}" if data.skipped else "nothing",
    }
    found = [data.dataset]
    for name, text in facts.items():
        if text:
            found += wrapped(text, f"  {name:<10}")
    for reason, names in by_reason(data.skipped).items():
        shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
        found += wrapped(f"{len(names):,} × {reason}: {shown}", " " * 12)
    return found + _class_table(data, survey.classes)


def contact_sheet(data: PreparedData) -> Image.Image:
    """Training pictures as the GAN sees them: a row a class, in the order of the labels; without classes, in turn.

    Of more than SHEET_ROWS classes those are shown that `full_lines` names, as far as there is room.
    """
    images, labels = data.images("train"), data.labels("train")
    if data.num_classes is None:
        rows = [range(i, i + SHEET_COLUMNS) for i in range(0, SHEET_ROWS * SHEET_COLUMNS, SHEET_COLUMNS)]
    else:
        rows = [np.flatnonzero(labels == label)[:SHEET_COLUMNS] for label in range(min(data.num_classes, SHEET_ROWS))]
    side = data.resolution + GAP
    filled = [[i for i in row if i < len(images)] for row in rows]
    filled = [row for row in filled if row]
    sheet = np.full((3, GAP + side * len(filled), GAP + side * SHEET_COLUMNS), 255, np.uint8)
    for y, row in enumerate(filled):
        for x, index in enumerate(row):
            top, left = GAP + side * y, GAP + side * x
            sheet[:, top : top + data.resolution, left : left + data.resolution] = images[index]  # grey in all three
    return Image.fromarray(sheet.transpose(1, 2, 0))


def _doubts(data: PreparedData) -> Iterable[str]:
    survey = data.survey
    at = f"{data.resolution}×{data.resolution}"
    if data.channels == 1 and (colour := sum(n for mode, n in survey.modes.items() if mode not in GREY)):
        yield f"made grey: {colour:,} stored in colour or with a palette"
    if survey.enlarged:
        yield f"{survey.enlarged:,} are smaller than {at} and were enlarged"
    if survey.copies:
        two = f", {survey.contradictions:,} of them in another class" if survey.contradictions else ""
        yield f"{survey.copies:,} are copies of others (equal at {at}){two}"
    if survey.classes and split_subset(data.dataset)[1] is not None:
        counts = np.bincount(data.labels("train"), minlength=len(survey.classes))
        yield f"the subset takes {counts.min():,} to {counts.max():,} training pictures of a class, by their hashes"


def _split(data: PreparedData) -> str:
    return ", ".join(f"{len(data.labels(part)):,} {part}" for part in PARTS)


def _class_table(data: PreparedData, classes: Sequence[str]) -> list[str]:
    """One row a class with its pictures in each part; the smallest classes first to be named where not all fit."""
    if not classes:
        return []
    counts = {part: np.bincount(data.labels(part), minlength=len(classes)) for part in PARTS}
    total = np.sum(list(counts.values()), axis=0)
    shown = range(len(classes))
    if len(classes) > CLASSES_SHOWN:
        order = np.argsort(-total, kind="stable")
        half = CLASSES_SHOWN // 2
        shown = sorted([*order[:half], *order[-half:]])
    width = min(max(len(classes[i]) for i in shown), WIDTH - 2 - 11 * (len(PARTS) + 1))
    head = "  " + "class".ljust(max(width, 5)) + "".join(f"{name:>11}" for name in (*PARTS, "all"))
    rows = []
    for i in shown:
        name = classes[i] if len(classes[i]) <= width else f"{classes[i][: width - 1]}…"
        rows.append(f"  {name:<{max(width, 5)}}" + "".join(f"{n[i]:>11,}" for n in (*counts.values(), total)))
    rest = len(classes) - len(rows)
    sizes = "as large as these" if total.min() == total.max() else "of sizes between these"
    return [head, *rows, *[f"  and {rest:,} classes {sizes}"] * bool(rest)]


def _counts(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return f"{next(iter(counts))} (all)"
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def wrapped(text: str, head: str) -> list[str]:
    """The text in lines of at most WIDTH columns, indented as those of `full_lines`, behind a head of 12 columns."""
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * 12)
