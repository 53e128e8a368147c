"""What a person sees while trials run: a live table in a terminal, plain lines elsewhere."""

import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


@dataclass(kw_only=True)
class Progress:
    """Counts of trials done, running and failed, the time left, and the running best of each arm.

    Use as a context manager. `arms` maps trial_id -> (arm, seed).
    """

    title: str
    total: int
    already_done: int
    arms: dict[str, tuple[str, int]]
    workers: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    done: int = 0
    diverged: int = 0
    failed: int = 0
    running: dict[str, float] = field(default_factory=dict)  # trial_id -> when it started
    best: dict[str, float] = field(default_factory=dict)  # arm -> lowest FID so far
    scored: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # arm -> finished seeds
    _live: Live | None = None
    _began: float = 0.0  # when the first trial started; Ray's own start is not part of the pace

    def __enter__(self) -> "Progress":
        if self.stream.isatty():
            self._live = Live(console=Console(file=self.stream), refresh_per_second=2, get_renderable=self._render)
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
            self.best[arm] = min(fid, self.best.get(arm, fid))
            self.scored[arm] += 1
        if self._live is None or status != "ok":
            outcome = f"FID {fid:.1f}" if fid is not None else f"{status}: {error[:160]}"
            self.say(f"{arm}, seed {seed}: {outcome}, {seconds:.0f} s; {self.eta()}")

    def lost(self, trial_id: str) -> None:
        """A trial's worker died, and the trial will begin again."""
        self.running.pop(trial_id, None)
        arm, seed = self.arms[trial_id]
        self.say(f"{arm}, seed {seed}: its worker died; started again")

    def say(self, line: str) -> None:
        """Print a line, above the table where there is one."""
        ended = self.already_done + self.done + self.diverged + self.failed
        line = f"[{ended}/{self.total}] {line}"
        if self._live is None:
            print(line, file=self.stream, flush=True)
        else:
            self._live.console.print(line, markup=False, highlight=False)

    def eta(self) -> str:
        """The time left, from the pace so far."""
        ended = self.done + self.diverged + self.failed
        left = self.total - self.already_done - ended
        if left == 0:
            return "last one"
        if ended == 0:
            return "time left unknown until the first trial ends"
        return f"about {duration((time.monotonic() - self._began) / ended * left)} left"

    def _render(self) -> Group:
        ended = self.already_done + self.done + self.diverged + self.failed
        counts = f"{ended}/{self.total} done, {len(self.running)} running"
        if self.already_done:
            counts += f", {self.already_done} from before"
        if self.diverged:
            counts += f", {self.diverged} diverged"
        if self.failed:
            counts += f", {self.failed} failed"
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("arm", style="cyan", no_wrap=True)
        table.add_column("seeds", justify="right")
        table.add_column("best FID ↓", justify="right")
        for arm in dict.fromkeys(arm for arm, _ in self.arms.values()):
            if arm in self.best:
                table.add_row(arm, str(self.scored[arm]), f"{self.best[arm]:.1f}")
        now = time.monotonic()
        running = Text(
            "  ".join(f"{self.arms[t][0]}#{self.arms[t][1]} {now - at:.0f}s" for t, at in self.running.items()),
            style="dim",
        )
        return Group(
            Text(f"{self.title}: {counts}; {self.eta()}"),
            ProgressBar(total=self.total, completed=ended, width=60),
            running,
            table,
        )


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
