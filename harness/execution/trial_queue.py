"""The trials of a run: handed out one by one, put back if their worker dies, and written to the store at their end.

The queue lives in the driver, the only process that writes to the store. It knows nothing of Ray.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping

from harness.errors import UserError
from harness.execution.progress import Progress
from harness.execution.resources import memory_kills, memory_left
from harness.interrupts import raise_again
from harness.spec import TrialSpec
from harness.storage.result import TrialResult
from harness.storage.store import Store

WORKER_DEATHS = 2
"""How often a trial is started again after its worker died. If memory ran short, only deaths alone are counted."""

MEMORY_PAUSES = (5.0, 15.0, 120.0)
"""Seconds without a new trial after a worker died because memory ran short: beside others, alone, alone once more.

Another program may hold the memory. After one trial has failed because of memory, the pauses stay short.
"""

MEMORY_RECOVERY = 1800.0
"""Seconds after such a death until one more trial at once is tried again."""


class TrialQueue:
    """What waits, what runs, and what is done with a trial when it ends or its worker dies.

    Tune pickles whatever it is given, but the locks of the store and the terminal belong to this process: a queue in a
    pickle is None.
    """

    def __init__(
        self, specs: Iterable[TrialSpec], protocols: Mapping[str, str], store: Store, progress: Progress
    ) -> None:
        """Make a queue.

        Args:
            specs: The trials, in order.
            protocols: protocol_id by the fingerprint of the data: under which a trial counts as done.
            store: Where results go.
            progress: Told of every start and end.
        """
        self.waiting = deque(specs)
        self.running: set[str] = set()  # trial_ids whose locks this process holds
        self.deaths: Counter[str] = Counter()  # trial_id -> workers that it lost
        self.beside_others: set[str] = set()  # those of `running` that did not always run alone
        self.at_once: int | None = None  # how many may run at once, after memory ran short
        self.short_at = self.pause_ends = float("-inf")  # when memory last ran short; when the next trial may start
        self.is_patient = True  # until a trial has failed because of memory
        self.kills = memory_kills()
        self.protocols, self.store, self.progress = protocols, store, progress
        self.store_error = ""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(None), ()

    def next(self) -> TrialSpec | None:
        """Lock the next trial; None if other processes run all that is left, or if memory is short."""
        raise_again()
        if not self._memory_allows():
            return None
        for _ in range(len(self.waiting)):
            spec = self.waiting.popleft()
            if not self.store.locks.acquire(spec.trial_id):
                self.waiting.append(spec)
            elif self.store.is_done(spec.trial_id, self.protocols[spec.data_fingerprint]):  # by another process
                self.store.locks.release(spec.trial_id)
                self._found(spec)
            else:
                self.beside_others |= {*self.running, spec.trial_id} if self.running else set()
                self.running.add(spec.trial_id)
                return spec
        return None

    def started(self, spec: TrialSpec) -> None:
        """A worker has begun with the trial."""
        self.progress.started(spec.trial_id)

    def accept(self, result: TrialResult) -> None:
        """Write a result to the store.

        Raises:
            UserError: it cannot be written; `store_error` says why, too.
        """
        trial_id = result.spec.trial_id
        try:
            self.store.write(result)
        except UserError as error:
            self.store_error = str(error)
            raise
        self._release(trial_id)
        self.progress.finished(
            trial_id, result.status, result.scores.get("fid"), result.cost.get("seconds", 0.0), result.error
        )

    def lost(self, spec: TrialSpec, *, out_of_memory: bool = False) -> None:
        """The worker of a trial died: the trial comes next, or has failed if that happened too often.

        Args:
            spec: The trial.
            out_of_memory: Whether Ray ended the worker because memory ran short. If the system did, this finds out.
        """
        trial_id = spec.trial_id
        before, self.kills = self.kills, memory_kills()
        out_of_memory |= self.kills > before
        if trial_id not in self.running:
            return  # its result arrived before the worker died
        alone = trial_id not in self.beside_others
        self.deaths[trial_id] += alone or not out_of_memory
        if self.deaths[trial_id] > WORKER_DEATHS:
            error = f"its worker died {self.deaths[trial_id]} times"
            if out_of_memory:
                self.is_patient = False
                error = f"not enough memory: {error} for want of it, with no other trial beside it"
            self.accept(TrialResult(spec=spec, status="failed", error=error))
            return
        if out_of_memory:
            self.progress.lost(trial_id, self._run_fewer(self.deaths[trial_id] if alone else 0))
        else:
            self.progress.lost(trial_id)
        self._release(trial_id)
        self.waiting.appendleft(spec)

    def close(self) -> None:
        """Release the locks of what did not finish."""
        self.store.locks.release(*self.running)

    def _run_fewer(self, deaths_alone: int) -> str:
        """Run one trial less at once, after a pause; says so."""
        pause = MEMORY_PAUSES[deaths_alone if self.is_patient else 0]
        self.short_at = time.monotonic()
        self.pause_ends = self.short_at + pause
        self.at_once = max(1, min(len(self.running) - 1, self.at_once or len(self.running)))
        then = f"tried again alone in {pause:.0f} s" if deaths_alone else f"from now on {self.at_once} at once"
        return f"memory ran short ({memory_left() / 2**20:,.0f} MiB free), and its worker died; {then}"

    def _memory_allows(self) -> bool:
        now = time.monotonic()
        if self.at_once is None:
            return True
        if now > self.short_at + MEMORY_RECOVERY:
            self.at_once, self.short_at = self.at_once + 1, now
        return len(self.running) < self.at_once and now >= self.pause_ends

    def _release(self, trial_id: str) -> None:
        self.store.locks.release(trial_id)
        self.running.discard(trial_id)
        self.beside_others.discard(trial_id)

    def _found(self, spec: TrialSpec) -> None:
        """Count a trial that another process finished."""
        trial_id, protocol_id = spec.trial_id, self.protocols[spec.data_fingerprint]
        result, fid = self.store.read_result(trial_id), fid_of(self.store, trial_id, protocol_id)
        self.progress.finished(trial_id, result["status"], fid, result["cost"].get("seconds", 0.0), result["error"])


def fid_of(store: Store, trial_id: str, protocol_id: str) -> float | None:
    """The FID of a stored trial under a protocol; None where it has none."""
    scores = store.read_scores(trial_id)
    return scores[protocol_id][1].get("fid") if protocol_id in scores else None


def fids_from_before(
    store: Store, places: Mapping[str, tuple[str, int]], protocols: Mapping[str, str]
) -> dict[str, list[float]]:
    """Arm -> FIDs of its trials that the store holds, for a Progress.

    Args:
        store: Where they are.
        places: trial_id -> (arm, seed).
        protocols: trial_id -> the protocol by whose scores they are to be told.
    """
    found: dict[str, list[float]] = {}
    for trial_id, (arm, _) in places.items():
        if (fid := fid_of(store, trial_id, protocols[trial_id])) is not None:
            found.setdefault(arm, []).append(fid)
    return found
