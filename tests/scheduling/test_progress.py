import io
from dataclasses import dataclass, field

import pytest

from harness.scheduling import progress
from harness.scheduling.progress import Progress, duration

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


def make(stream: io.StringIO, **changes) -> Progress:
    return Progress(
        **{"title": "t", "total": 5, "already_done": 1, "arms": ARMS, "workers": 1, "stream": stream, **changes}
    )


def test_without_a_terminal_each_trial_is_one_plain_line(clock: Clock) -> None:
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
    assert shown.best == {"dc": 40.0} and not shown.running


def test_a_lost_worker_is_one_line_and_its_trial_runs_no_longer(clock: Clock) -> None:
    stream = io.StringIO()
    with make(stream) as shown:
        shown.started("c")
        shown.lost("c")
    assert stream.getvalue() == "[1/5] fc, seed 0: its worker died; started again\n" and not shown.running
    stream = Terminal()
    with make(stream) as shown:
        shown.started("c")
        shown.lost("c")
    assert "fc, seed 0: its worker died; started again" in "".join(stream.text)


def test_pace_counts_from_the_first_trial_and_not_from_rays_start(clock: Clock) -> None:
    shown = make(io.StringIO())
    clock.now += 1000
    shown.started("a")
    clock.now += 10
    shown.finished("a", "ok", 1.0, 10.0)
    assert shown.eta() == "about 30 s left"


@dataclass
class Terminal(io.StringIO):
    text: list[str] = field(default_factory=list)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text.append(text)
        return len(text)

    def flush(self) -> None:
        pass


def test_in_a_terminal_the_table_shows_counts_and_the_best_of_each_arm() -> None:
    stream = Terminal()
    with make(stream) as shown:
        shown.started("a")
        shown.finished("a", "ok", 50.0, 30.0)
        shown.started("b")
    text = "".join(stream.text)
    for word in ("2/5 done, 1 running", "1 from before", "dc", "50.0", "best FID"):
        assert word in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (91, "2 min"), (5000, "83 min"), (5400, "1 h 30 min"), (12345, "3 h 26 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
