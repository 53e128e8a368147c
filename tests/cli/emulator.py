"""The program in a terminal, as a person has it: keys go in, and a screen comes out."""

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

ROOT = Path(__file__).parents[2]
PATIENCE = 200.0  # seconds; a busy machine takes a minute to start Ray
COLOUR = re.compile(r"\x1b\[[\d;]*3\d[\d;]*m")


class Emulator:
    """A program under a pseudo-terminal, and the screen of an emulator that is fed with what it writes."""

    def __init__(self, *words: object, columns: int = 80, lines: int = 24, **environment: str) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=1000, ratio=1)
        self.stream, self.raw = pyte.Stream(self.screen), ""
        names = {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
        others = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "studies", *map(str, words)],
            env={**others, **names},  # type: ignore[arg-type]
            dimensions=(lines, columns),
            encoding="utf-8",
        )

    @property
    def rows(self) -> list[str]:
        """What is on the screen, line by line."""
        return [row.rstrip() for row in self.screen.display]

    @property
    def pages(self) -> list[str]:
        """What is on the screen and what was scrolled out of it."""
        past = self.screen.history.top
        return ["".join(row[x].data for x in range(self.screen.columns)).rstrip() for row in past] + self.rows

    def until(self, seen: Callable[[], bool], what: str) -> None:
        """Wait until something is seen; on the screen, for one."""
        ends = time.monotonic() + PATIENCE
        while not seen():
            assert self.read() and time.monotonic() < ends, f"no {what}:\n" + "\n".join(self.pages)

    def read(self) -> bool:
        """Feed what has been written to the screen; False at the end."""
        try:
            text = self.process.read_nonblocking(65536, timeout=0.2)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += text
        self.stream.feed(text)
        return True

    def resize(self, columns: int, lines: int = 24) -> None:
        self.screen.resize(lines, columns)
        self.process.setwinsize(lines, columns)

    def hang_up(self) -> None:
        """Close the terminal."""
        self.process.ptyproc.fileobj.close()

    def end(self) -> int:
        """Its exit status; minus the signal where that was its end."""
        ends = time.monotonic() + PATIENCE
        while not self.process.ptyproc.fileobj.closed and self.read():
            assert time.monotonic() < ends, "no end:\n" + "\n".join(self.pages)
        self.process.wait()
        return self.process.exitstatus if self.process.exitstatus is not None else -self.process.signalstatus

    def widest(self) -> int:
        """Columns of the longest line that was ever written, wherever the terminal wrapped it."""
        plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.raw)
        return max(len(line.rstrip()) for line in re.split(r"[\r\n]+", plain))
