"""What a person sees while trials run: a live view in a terminal, plain lines elsewhere."""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from harness import terminal
from harness.analysis.wording import duration, seconds_left

WIDEST = 100
"""Columns of the live view, at most: a longer bar tells no more."""


@dataclass(kw_only=True)
class Progress:
    """Counts of trials done, running and failed, the time left, and the mean FID of each arm so far.

    Use as a context manager. `arms` maps trial_id -> (arm, seed).
    """

    title: str
    total: int
    already_done: int
    arms: dict[str, tuple[str, int]]
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    done: int = 0
    diverged: int = 0
    failed: int = 0
    stopping: bool = False
    running: dict[str, float] = field(default_factory=dict)  # trial_id -> when it started
    fids: dict[str, list[float]] = field(default_factory=dict)  # arm -> of its finished seeds, those from before too
    _live: Live | None = None
    _began: float = 0.0  # when the first trial started; Ray's own start is not part of the pace

    def __enter__(self) -> "Progress":
        if console := terminal.live_console(self.stream):
            self._live = _Live(self._lines, console)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, trial_id: str) -> None:
        """A trial began, or began again after its worker died."""
        self.running[trial_id] = time.monotonic()
        self._began = self._began or time.monotonic()

    def finished(self, trial_id: str, status: str, fid: float | None, seconds: float, error: str = "") -> None:
        """A trial ended, however it did."""
        self.running.pop(trial_id, None)
        self.done += status == "ok"
        self.diverged += status == "diverged"
        self.failed += status == "failed"
        arm, seed = self.arms[trial_id]
        if fid is not None:
            self.fids.setdefault(arm, []).append(fid)
        if self._live is None or status != "ok":
            outcome = f"FID {fid:.1f}" if fid is not None else f"{status}: {error[:160]}"
            self.say(f"{arm}, seed {seed}: {outcome}, {seconds:.0f} s; {self.eta()}")

    def lost(self, trial_id: str, why: str = "its worker died; started again") -> None:
        """A trial's worker died, and the trial will begin again."""
        self.running.pop(trial_id, None)
        arm, seed = self.arms[trial_id]
        self.say(f"{arm}, seed {seed}: {why}")

    def stop(self) -> None:
        """The run was interrupted: what runs is being ended."""
        self.stopping = True
        if self._live is not None:
            self._live.refresh()

    def say(self, line: str) -> None:
        """Print a line, above the live view where there is one."""
        line = f"[{self._ended()}/{self.total}] {line}"
        if self._live is None:
            print(line, file=self.stream, flush=True)
        else:
            self._live.console.print(line)

    def eta(self) -> str:
        """The time left, from the pace so far."""
        ended = self.done + self.diverged + self.failed
        left = self.total - self.already_done - ended
        if left == 0:
            return "last one"
        if ended == 0 or not self._began:  # of a trial whose worker died first, it is not known that it began
            return "time left unknown until a trial ends" if self.running or ended else "starting the workers"
        elapsed, running = time.monotonic() - self._began, len(self.running)
        return f"about {duration(seconds_left(elapsed, ended, running, left - running))} left"

    def _ended(self) -> int:
        return self.already_done + self.done + self.diverged + self.failed

    def _lines(self, width: int, height: int) -> list[RenderableType]:
        """The live view in at most so many lines: counts and bar, a line for each running trial and each arm."""
        counts = {
            "running": len(self.running),
            "from before": self.already_done,
            "diverged": self.diverged,
            "failed": self.failed,
        }
        told = "stopping" if self.stopping else ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        title = Text(f"{self.title}: {told}" if told else self.title, no_wrap=True, overflow="ellipsis")
        now, room = time.monotonic(), height - 2
        running = [
            (self.arms[trial_id][0], f"seed {self.arms[trial_id][1]}", f"{now - since:.0f} s")
            for trial_id, since in self.running.items()
        ]
        arms = [arm for arm in dict.fromkeys([*(arm for arm, _ in self.arms.values()), *self.fids]) if arm in self.fids]
        means = [(arm, str(len(self.fids[arm])), f"{statistics.fmean(self.fids[arm]):.1f}") for arm in arms]
        lines = [title, self._bar(), *_table(running, width, room, style="dim")]
        room -= len(running)
        if means and room > 2:  # below an empty line and a heading
            lines += ["", *_table(means, width, room - 2, heading=("arm", "seeds", "mean FID"), what=" arms")]
        return lines[: max(height, 1)]

    def _bar(self) -> Table:
        bar = Table.grid(padding=(0, 2, 0, 0), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True, overflow="ellipsis")
        bar.add_row(
            ProgressBar(total=self.total, completed=self._ended()), f"{self._ended()}/{self.total}, {self.eta()}"
        )
        return bar


def _table(
    rows: list[tuple[str, str, str]],
    width: int,
    room: int,
    *,
    heading: tuple[str, str, str] = ("", "", ""),
    style: str = "",
    what: str = "",
) -> list[RenderableType]:
    """As many rows as have room, each an arm, cut off if it is too long, and two short numbers; and how many more."""
    shown = rows if len(rows) <= room else rows[: max(room - 1, 0)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(heading))
    table.add_column(heading[0], no_wrap=True, overflow="ellipsis", max_width=max(width - 32, 8))
    for column in heading[1:]:
        table.add_column(column, justify="right", no_wrap=True, min_width=10)
    for row in shown:
        table.add_row(*row, style=style)
    hidden = len(rows) - len(shown)
    return [*[table] * bool(shown), *[Text(f"and {hidden} more{what}", style="dim")] * bool(hidden)]


class _Live(Live):
    """A live view of lines that are cut off rather than wrapped, and drawn over rightly when the terminal narrows."""

    def __init__(self, lines: Callable[[int, int], list[RenderableType]], console: Console) -> None:
        self._frame = _Frame(lines)
        super().__init__(self._frame, console=console, refresh_per_second=2, transient=True)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Go up by as many lines as the last frame takes by now: terminals wrap anew what became too long for them."""
        width = self.console.width
        height = sum(max(1, -(-length // width)) for length in self._frame.drawn)
        if self._live_render._shape is not None:
            self._live_render._shape = (width, height)
        return super().process_renderables(renderables)


@dataclass
class _Frame:
    lines: Callable[[int, int], list[RenderableType]]  # of a width and at most so many lines
    drawn: list[int] = field(default_factory=list)  # columns that each line took when it was drawn last

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, drawn = min(options.max_width, WIDEST), []
        options = options.update(width=width, height=None)
        for part in self.lines(width, console.height - 1):
            for line in console.render_lines(part, options, pad=False):
                drawn.append(Segment.get_line_length(line))
                yield from line
                yield Segment.line()
        self.drawn = drawn
