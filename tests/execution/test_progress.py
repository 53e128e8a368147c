import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import pyte
import pytest
from rich.cells import cell_len

from harness.analysis.wording import duration
from harness.execution import progress
from harness.execution.progress import Progress

ARMS = {"a": ("dc", 0), "b": ("dc", 1), "c": ("fc", 0), "d": ("fc", 1)}


@dataclass
class Clock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def make(stream: TextIO, **changes) -> Progress:
    return Progress(**{"title": "t", "total": 5, "already_done": 1, "arms": ARMS, "stream": stream, **changes})


def test_without_terminal_a_trial_is_one_line(clock: Clock) -> None:
    stream = io.StringIO()
    with make(stream) as shown:
        for trial_id, status, fid in (
            ("a", "ok", 50.0),
            ("c", "diverged", None),
            ("b", "ok", 40.0),
            ("d", "failed", None),
        ):
            shown.started(trial_id)
            clock.now += 30
            shown.finished(trial_id, status, fid, 30.0, "" if fid else "why " * 100)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("[2/5] dc, seed 0: FID 50.0, 30 s; about 2 min left")
    assert lines[1].startswith("[3/5] fc, seed 0: diverged: why") and len(lines[1]) < 250
    assert lines[3].endswith("last one") and len(lines) == 4
    assert (shown.done, shown.diverged, shown.failed) == (2, 1, 1)
    assert shown.fids == {"dc": [50.0, 40.0]} and not shown.running


def test_a_lost_worker_is_one_line(clock: Clock) -> None:
    stream = io.StringIO()
    with make(stream) as shown:
        shown.started("c")
        shown.lost("c")
    assert stream.getvalue() == "[1/5] fc, seed 0: its worker died; started again\n" and not shown.running


def test_pace_counts_from_the_first_trial(clock: Clock) -> None:
    shown = make(io.StringIO())
    clock.now += 1000
    shown.started("a")
    clock.now += 10
    shown.finished("a", "ok", 1.0, 10.0)
    assert shown.eta() == "about 30 s left"
    shown.started("b")  # which is half done: half a trial is left, and two that wait
    assert shown.eta() == "about 17 s left"
    dead = make(io.StringIO())
    dead.finished("a", "failed", None, 0.0, "its worker died before it began")
    assert dead.eta() == "time left unknown until a trial ends"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A stream to a pseudo-terminal, and what came to it."""
    monkeypatch.setenv("TERM", "xterm-256color")
    master, slave = pty.openpty()
    resize(slave, 80, 24)
    os.set_blocking(master, False)

    def read() -> str:
        found = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(master, 65536):
                found += piece
        return found.decode()

    with os.fdopen(slave, "w") as stream:
        yield stream, read
    os.close(master)


def resize(descriptor: int, columns: int, lines: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def frame(shown: Progress, columns: int, lines: int) -> list[str]:
    """The live view as a screen of that size shows it."""
    assert shown._live is not None
    resize(shown.stream.fileno(), columns, lines)
    rows = shown._live.console.render_lines(shown._live.renderable, pad=False)
    return ["".join(segment.text for segment in row).rstrip() for row in rows]


ALL = {
    f"{arm}{seed}": (arm, seed)
    for arm in ("dc", "学習率 " * 30, "fc " + "real_label_low=0.9 " * 5)
    for seed in range(20)
}


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("lines", [3, 8, 24, 100])
def test_the_live_view_fits_the_screen(terminal: Any, columns: int, lines: int) -> None:
    with make(terminal[0], arms=ALL, total=60) as shown:
        for trial_id in list(ALL)[::5]:
            shown.started(trial_id)
            shown.finished(trial_id, "ok", 50.0, 30.0)
        for trial_id in list(ALL)[1::5]:
            shown.started(trial_id)
        rows = frame(shown, columns, lines)
    assert len(rows) < max(lines, 3) and max(map(cell_len, rows)) <= columns
    assert rows[0].startswith("t: 12 running, 1 from before") and "13/60, " in rows[1]
    running = [row for row in rows if re.search(r"seed +\d+ +\d+ s", row)]
    assert len(running) == {3: 0, 8: 4, 24: 12, 100: 12}[lines]
    if lines == 100:
        assert [row for row in rows if row.endswith("50.0")] and "mean FID" in "".join(rows)
        assert any("…" in row for row in running) and any(row.startswith("dc ") for row in running)


def test_arms_from_before_stay_in_the_view(terminal: Any) -> None:
    """Their FIDs count as those of this run do, in the mean that the report shows, too."""
    with make(terminal[0], fids={"fc": [100.0, 400.0], "dc": [10.0]}) as shown:
        shown.started("a")
        shown.finished("a", "ok", 1000.0, 30.0)
        rows = [row.split() for row in frame(shown, 80, 24)]
    assert ["dc", "2", "505.0"] in rows and ["fc", "2", "250.0"] in rows
    assert rows.index(["dc", "2", "505.0"]) < rows.index(["fc", "2", "250.0"]), "the study's order"


def test_in_a_terminal_lines_stand_above_the_view(terminal: Any) -> None:
    stream, read = terminal
    with make(stream) as shown:
        shown.started("a")
        shown.lost("a")
        shown.started("a")
        shown.finished("a", "ok", 50.0, 30.0)
        shown.stop()
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(text := read())
    assert "t: stopping" in text
    assert [row.strip() for row in screen.display if row.strip()] == [
        "[1/5] dc, seed 0: its worker died; started again"
    ]


def test_a_narrower_terminal_is_drawn_over(terminal: Any) -> None:
    """What was drawn at 80 columns takes twice the lines at 41, as most terminals wrap it anew."""
    stream, read = terminal
    with make(stream) as shown:
        assert shown._live is not None
        shown._live.refresh()
        read()
        resize(stream.fileno(), 41, 24)
        shown._live.refresh()
        assert read().count("\x1b[1A") == 2, "up from the third line to the first"


@pytest.mark.parametrize("name", ["dumb", "unknown"])
def test_a_dumb_terminal_gets_plain_lines(terminal: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TERM", name)
    stream, read = terminal
    with make(stream) as shown:
        shown.started("a")
        shown.finished("a", "ok", 50.0, 30.0)
    assert read() == "[2/5] dc, seed 0: FID 50.0, 30 s; about 0 s left\r\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (89, "89 s"), (91, "2 min"), (5000, "83 min"), (5400, "1 h 30 min"), (12345, "3 h 26 min")),
        *((71 * 3600, "71 h 0 min"), (82 * 86400 + 5, "82 days")),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
