"""How far a store's studies are, seen from outside while they run: by its files and locks, of which none is taken.

A trial that a live process has locked is running. The system drops the locks of a process that was killed, so what is
said is right a moment later, however a run ended.
"""

import contextlib
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.analysis.results import untrained_arm
from harness.analysis.wording import count, duration, seconds_left
from harness.errors import UserError
from harness.questions import located
from harness.storage.locks import holders
from harness.storage.records import Damaged
from harness.storage.store import Store

State = Literal["done", "diverged", "running", "failed", "to score", "waiting"]
MARKS: dict[State, str] = {
    "done": "●",
    "running": "◐",
    "failed": "✕",
    "diverged": "◇",
    "to score": "○",
    "waiting": "·",
}
ENDED: tuple[State, ...] = ("done", "diverged")
FAILURES_SHOWN = 3
NAME_WIDTH = 44
"""Columns for the name of an arm, at most."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one study is: `cells` are its trials by arm, in the order of their seeds, untrained baselines last."""

    study: str
    profile: str
    cells: Mapping[str, Mapping[int, State]]
    failures: Sequence[str]  # "arm, seed N: error"
    seconds_left: float | None  # a rough guess; None where nothing runs, or nothing is known

    @property
    def counts(self) -> Counter[State]:
        """State -> trials in it; trials that several arms share are counted in each."""
        return Counter(state for seeds in self.cells.values() for state in seeds.values())

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return all(state in ENDED for state in self.counts)

    @property
    def headline(self) -> str:
        """Counts and time left, in one line."""
        counts, total = self.counts, sum(self.counts.values())
        told = [f"{sum(counts[state] for state in ENDED)} of {count(total, 'trial')} done"]
        told += [f"{counts[state]} {state}" for state in MARKS if state != "done" and counts[state]]
        left = f"; about {duration(self.seconds_left)} left" if self.seconds_left is not None else ""
        return f"{self.study} ({self.profile}): {', '.join(told)}{left}"


@dataclass(kw_only=True)
class Watcher:
    """Looks at a store again and again; what has ended is not read again."""

    store: Store
    study: str | None = None
    profile: str | None = None
    at_work: int | None = None  # id of a process that works in the store, as of the last look
    _ended: dict[tuple[str, tuple[str, ...]], tuple[State, float]] = field(default_factory=dict)

    def look(self) -> list[Progress]:
        """Every study of the store, or the one that was named, as it stands now.

        Raises:
            UserError: no such study ran here.
        """
        plans = [p for p in self._plans() if self.study in (None, p["study"])]
        profile = self.profile and located(self.profile)
        plans = [p for p in plans if profile in (None, p["profile"])]
        trials = {cell["trial_id"] for plan in plans for cell in _cells(plan)}
        self.at_work, locked = holders(self.store.layout.locks, sorted(trials))
        if not plans and (self.study or profile) and self.at_work is None:  # a run plans only once it knows its data
            there = ", ".join(sorted(f"{p['study']} ({p['profile']})" for p in self._plans())) or "nothing"
            wanted = f"{self.study or 'a study'}{f' ({profile})' if profile else ''}"
            raise UserError(f"{wanted} never ran in {self.store.root}; there: {there}")
        return [self._of(plan, locked) for plan in plans]

    def is_over(self, found: Sequence[Progress]) -> bool:
        """Whether nothing is left to run of what the last look found, and nobody works here: a run plans late."""
        return self.at_work is None and all(one.is_over for one in found)

    def _plans(self) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):  # one was replaced just now
            return self.store.read_plans()
        return self.store.read_plans()

    def _of(self, plan: Mapping[str, Any], locked: set[str]) -> Progress:
        cells: dict[str, dict[int, State]] = {}
        failures, states, took = [], dict[str, State](), dict[str, float]()
        for cell in _cells(plan):
            state, seconds, error = self._state(cell, locked)
            cells.setdefault(cell["arm"], {})[cell["seed"]] = state
            states[cell["trial_id"]], took[cell["trial_id"]] = state, seconds
            if state == "failed":
                failures.append(f"{cell['arm']}, seed {cell['seed']}: {error}")
        return Progress(
            study=plan["study"],
            profile=plan["profile"],
            cells=cells,
            failures=failures,
            seconds_left=self._seconds_left(plan, states, took),
        )

    def _seconds_left(
        self, plan: Mapping[str, Any], states: Mapping[str, State], took: Mapping[str, float]
    ) -> float | None:
        """As the run itself tells it: by its pace since it wrote its plan, until a trial has ended by what others took.

        Clocks of other machines and trials that were copied here may lie: an end in the future is none of this run.
        """
        running = sum(state == "running" for state in states.values())
        if not running:
            return None
        now, planned = time.time(), _written(self.store.layout.plan(plan["study"], plan["profile"]))
        ends = {i: _written(self.store.trial_folder(i)) for i, state in states.items() if state in (*ENDED, "failed")}
        ended = [i for i, end in ends.items() if planned < end <= now]
        over = {i for i, state in states.items() if state in ENDED or i in ended}
        waiting = len(states) - len(over) - running
        if ended:
            began = max(planned, min(ends[i] - took[i] for i in ended))
            return seconds_left(now - began, len(ended), running, waiting)
        known = [took[i] for i in over if took[i]]
        return statistics.mean(known) * (waiting + running / 2) / running if known else None

    def _state(self, cell: Mapping[str, Any], locked: set[str]) -> tuple[State, float, str]:
        """(state, seconds that it took, why it failed)."""
        trial_id, protocols = cell["trial_id"], tuple(cell["protocols"])
        if found := self._ended.get((trial_id, protocols)):
            return (*found, "")
        try:
            result = self.store.read_result(trial_id)
        except (FileNotFoundError, Damaged):  # not there, or being replaced; a run finds damage and says so
            result = {"status": None, "cost": {}, "error": ""}
        seconds = result["cost"].get("seconds", 0.0)
        if result["status"] == "diverged" or (result["status"] == "ok" and self._is_scored(trial_id, protocols)):
            state: State = "diverged" if result["status"] == "diverged" else "done"
            self._ended[trial_id, protocols] = state, seconds
            return state, seconds, ""
        if trial_id in locked:
            return "running", 0.0, ""
        if result["status"] == "failed":
            return "failed", seconds, result["error"]
        return ("to score" if result["status"] == "ok" else "waiting"), 0.0, ""

    def _is_scored(self, trial_id: str, protocols: Iterable[str]) -> bool:
        return all(self.store.is_done(trial_id, protocol) for protocol in protocols)


def _written(path: Path) -> float:
    """When a file or folder was written; infinitely late where it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def lines(progress: Progress, width: int, *, full: bool = True) -> list[str]:
    """A study's progress for a terminal: a headline, a line an arm with a mark a seed, and why trials failed."""
    told = [progress.headline]
    if not full:
        return told
    wide = min(NAME_WIDTH, max(map(len, progress.cells)), width // 2)
    for arm, seeds in progress.cells.items():
        marks = "".join(MARKS[seeds[seed]] for seed in sorted(seeds))
        if len(marks) > width - wide - 4:
            ended = sum(state in ENDED for state in seeds.values())
            marks = f"{ended}/{len(seeds)}, {sum(state == 'running' for state in seeds.values())} running"
        name = arm if len(arm) <= wide else f"{arm[: wide - 1]}…"
        told.append(f"  {name:<{wide}}  {marks}")
    told += [f"  failed: {line}" for line in progress.failures[:FAILURES_SHOWN]]
    if (more := len(progress.failures) - FAILURES_SHOWN) > 0:
        told.append(f"  and {more} more failed; `run` tries them again")
    return told


def legend(all_progress: Iterable[Progress]) -> str:
    """What the marks mean that are shown."""
    seen = {state for progress in all_progress for state in progress.counts}
    return "  ".join(f"{mark} {state}" for state, mark in MARKS.items() if state in seen)


def _cells(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The plan's trials and its untrained baselines: arm, seed, trial_id, the protocols by which they are scored."""
    own = plan["protocol_id"]
    cells = [
        {
            **{name: cell[name] for name in ("arm", "seed", "trial_id")},
            "protocols": [cell.get("protocol_id", own), *cell.get("also", {}).values()],
        }
        for cell in plan["cells"]
    ]
    trained = {cell["trial_id"] for cell in cells}
    ceilings = {name: trial_id for name, trial_id in plan.get("ceilings", {}).items() if trial_id not in trained}
    return cells + [
        {"arm": untrained_arm(name), "seed": 0, "trial_id": trial_id, "protocols": [own]}
        for name, trial_id in ceilings.items()
    ]
