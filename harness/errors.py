"""The one kind of error that is meant for the person at the terminal."""

import contextlib
import difflib
import os
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path


class UserError(ValueError):
    """One line: what was wrong, which value, what is allowed, what to do. Shown without a traceback."""


@contextlib.contextmanager
def refused_of(what: str) -> Iterator[None]:
    """Say of every UserError that is raised inside what it is of: "arm 'fc'", for example."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from None


def require_utf8(kind: str, value: object) -> None:
    """Refuse a path, or a name with one in it, that is not UTF-8, as in old archives: Ray and JSON cannot carry it.

    Raises:
        UserError: it is not.
    """
    try:
        str(value).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(str(value)).decode("utf-8", "backslashreplace")
        raise UserError(f"the {kind} {shown} has a name that is not UTF-8; rename that file or folder") from None


def unknown_name(kind: str, name: object, valid: Iterable[object], besides: str = "") -> UserError:
    """The error for a name that is not on a list; it lists the valid ones and guesses the meant one.

    Args:
        kind: What the name names, for example "study".
        name: The value that was given.
        valid: Every name that would have been accepted.
        besides: What else would have been, in words.
    """
    names = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    allowed = ", ".join([*names, *[besides] * bool(besides)]) or "none"
    return UserError(f"unknown {kind} {str(name)!r}{hint}; valid: {allowed}")


def place_of(error: BaseException) -> str:
    """Where an error of a user's own code was raised, "line 12 of mine.py": the innermost place that is theirs."""
    here = [str(Path(__file__).parents[1] / name) for name in ("architectures", "harness")]
    libraries = tuple(
        os.path.join(path, "") for path in (*here, *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
    )
    frames = traceback.extract_tb(error.__traceback__)
    generated = "<"  # as the methods of dataclasses are: "<string>"
    theirs = [frame for frame in frames if not frame.filename.startswith((*libraries, generated))]
    at = (theirs or frames)[-1]
    return f"line {at.lineno} of {at.filename}"
