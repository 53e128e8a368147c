"""All that the program writes to the terminal: lines on stderr, results on stdout, and the console of a live view."""

import errno
import io
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, TextIO, TypeVar

from rich.console import Console, ConsoleDimensions, RenderableType

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Item = TypeVar("Item")

CONSOLE_COMMAND = "gan-ablation"
PLAIN_WIDTH = 100
"""Columns where the output goes to a file or a pipe, and COLUMNS does not say otherwise."""
SCREEN = 24
"""Lines of a terminal at the least; what fits them fits every screen."""
GLUE = "\ue000"
"""Stands for a space at which no line may end: no text has this character."""

SILENT = 5.0, 30.0
"""Seconds after which the person is told how far something has come, first and then again."""


def program() -> str:
    """How the person called the program: by its console command, or as a module."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    return CONSOLE_COMMAND if name.removesuffix(".exe") == CONSOLE_COMMAND else "python -m studies"


def outlive_readers() -> None:
    """Let the standard streams go on where nobody reads them any more, and where they lack a character."""
    sys.stdout = _outliving(sys.stdout, 1, "replace")
    sys.stderr = _outliving(sys.stderr, 2, "backslashreplace")


def say(line: str) -> None:
    """Tell the person one line, beside the results: on stderr. A terminal that is too narrow gets several."""
    if sys.stderr.isatty():
        line = _wrapped(line, width(sys.stderr))
    print(line, file=sys.stderr, flush=True)


def _wrapped(line: str, columns: int, indent: str = "") -> str:
    """In lines that end between words, and not between a number and its unit."""
    glued = re.sub(r"(?<=\d) (?=(s|min|h|days|kimg|MiB)\b)", GLUE, line)
    lines = textwrap.fill(glued, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace(GLUE, " ")


def saying(items: Iterable[Item], so_far: Callable[[int], str]) -> Iterator[Item]:
    """The items as they come. Where they take long, the person is told in one line how far it is, now and then.

    Args:
        items: What takes its time.
        so_far: How many have come -> the line.
    """
    due = time.monotonic() + SILENT[0]
    for number, item in enumerate(items):
        if time.monotonic() >= due:
            say(so_far(number))
            due = time.monotonic() + SILENT[1]
        yield item


def tell(line: str, indent: str = "    ") -> None:
    """Print one line of results on stdout. A terminal that is too narrow gets several, the others further in."""
    if sys.stdout.isatty():
        line = _wrapped(line, width(sys.stdout), indent)
    print(line)


def show(*parts: RenderableType) -> None:
    """Print results on stdout, as wide as the terminal is."""
    console = Console(file=sys.stdout, width=width(sys.stdout), markup=False, emoji=False, highlight=False)
    console.print(*parts, sep="\n")
    sys.stdout.flush()


def width(stream: TextIO) -> int:
    """Columns of the terminal that the stream goes to; of a file or a pipe, COLUMNS or PLAIN_WIDTH."""
    if stream.isatty():
        return _size(stream)[0]
    told = os.environ.get("COLUMNS", "")
    return int(told) if told.isdigit() and int(told) else PLAIN_WIDTH


def height(stream: TextIO) -> int:
    """Lines of the terminal that the stream goes to; SCREEN of a smaller one, a file or a pipe."""
    return max(SCREEN, _size(stream)[1]) if stream.isatty() else SCREEN


def live_console(stream: TextIO) -> Console | None:
    """A console for a view that is drawn again and again; None where lines can only be added: files, dumb terminals."""
    console = _LiveConsole(file=stream, markup=False, emoji=False, highlight=False)
    return console if stream.isatty() and console.is_interactive else None


class _LiveConsole(Console):
    """As large as its terminal is at each moment, whatever COLUMNS and LINES once were."""

    @property
    def size(self) -> ConsoleDimensions:
        return ConsoleDimensions(*_size(self.file))


def _size(terminal: IO[str]) -> tuple[int, int]:
    columns, lines = os.get_terminal_size(terminal.fileno())
    return columns or 80, lines or 24  # one that does not know says 0


class _Outliving(io.FileIO):
    """A stream whose reader may go away: what nobody reads any more is thrown away, and the work goes on."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno not in (errno.EPIPE, errno.EIO):  # a closed pipe, a closed terminal
                raise  # once
            return memoryview(data).nbytes


def _outliving(stream: TextIO | None, descriptor: int, errors: str) -> TextIO:
    """The standard stream of that descriptor, outliving its reader, and whatever its encoding lacks."""
    if stream is None:  # it was closed before the program began
        return open(os.devnull, "w")
    raw = _Outliving(descriptor, "w", closefd=False)
    line_buffering = descriptor == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, errors, line_buffering=line_buffering)
