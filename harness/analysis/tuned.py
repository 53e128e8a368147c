"""What searches found: of each arm at each seed the candidates by their FID, which of them was chosen, and the cost."""

import builtins
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import results
from harness.design import DEFAULTS, Design
from harness.questions import Changes, Value
from harness.storage.result import TIMES_FAILED
from harness.storage.store import Store
from harness.tuning import candidate_name, search_name


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One setting of an arm at a seed, and what its trial came to."""

    number: int  # 0 is the arm as it is declared
    values: Changes  # of the fields that are searched over
    fid: float  # inf where the trial diverged or failed for good, NaN where it failed otherwise or has no score
    compute_seconds: float
    failed_for_good: str = ""  # with which error; "" where it did not


def found(store: Store, design: Design) -> dict[str, dict[int, list[Candidate]]]:
    """Arm -> seed -> the candidates that have run so far, in their order; empty where no search ran in this store.

    Args:
        store: Where the search ran.
        design: Of the study that is tuned.
    """
    tuning, name, profile = design.tuning, search_name(design.name), design.profile.name
    if tuning is None or store.read_plan(name, profile) is None:
        return {}
    rows = results.load(store, study=name, profile=profile)
    trials: dict[tuple[str, int], pd.Series] = {(row["arm"], row["seed"]): row for _, row in rows.iterrows()}
    seeds = sorted({seed for _, seed in trials})
    return {
        arm: {
            seed: [
                _candidate(store, number, tuning.fields, trials[candidate_name(arm, number), seed])
                for number in range(tuning.trials)
                if (candidate_name(arm, number), seed) in trials
            ]
            for seed in seeds
        }
        for arm in design.every_arm
    }


def has_changed(store: Store, design: Design, chosen: Mapping[str, Sequence[Changes]]) -> bool:
    """Whether the study declares another search than that which ran here: other fields, or another number of trials.

    Args:
        store: Where the search ran.
        design: Of the study, as it is declared now.
        chosen: What the study's last run took from its search, of each arm at each seed.
    """
    tuning, plan = design.tuning, store.read_plan(search_name(design.name), design.profile.name)
    if tuning is None or plan is None or not chosen:
        return tuning is None and bool(chosen)
    ran = {cell["arm"] for cell in plan["cells"]}
    named = {candidate_name(arm, n) for arm in chosen for n in range(tuning.trials)}
    fields = {name for changes in chosen.values() for one in changes for name in one}
    fewer = tuning.searcher == "random" and ran < named  # Optuna's come round by round
    return fewer or not ran <= named or not fields <= tuning.fields.keys()


def best(candidates: Sequence[Candidate]) -> Candidate:
    """That with the lowest FID; among equals, and where all diverged, the first. What failed for good comes last."""
    return min(candidates, key=lambda one: (one.fid, bool(one.failed_for_good), one.number))


def chosen(store: Store, design: Design) -> dict[str, list[Changes]]:
    """Arm -> what its searches have chosen, seed by seed, up to the first that is not complete."""
    if design.tuning is None:
        return {}
    whole: dict[str, list[Changes]] = {}
    for arm, by_seed in found(store, design).items():
        whole[arm] = []
        for seed in range(len(by_seed)):
            candidates = by_seed.get(seed, [])
            if len(candidates) < design.tuning.trials or any(math.isnan(one.fid) for one in candidates):
                break
            if all(one.failed_for_good for one in candidates):  # the arm's own fault, or the machine's
                break
            whole[arm].append(best(candidates).values)
    return whole


def declared(design: Design, arm: str) -> Changes:
    """What an arm's declaration gives the fields that are searched over."""
    assert design.tuning is not None
    values = {**design.every_arm[arm].values, **design.profile.changes}
    return {name: values.get(name, DEFAULTS.get(name, "")) for name in design.tuning.fields}


def failed_for_good(found: Mapping[str, Mapping[int, Sequence[Candidate]]]) -> list[str]:
    """A line for each candidate that did: which one, and with what error."""
    return [
        f"{candidate_name(arm, one.number)} at seed {seed}: {one.failed_for_good}"
        for arm, by_seed in found.items()
        for seed, candidates in by_seed.items()
        for one in candidates
        if one.failed_for_good
    ]


def _candidate(store: Store, number: int, fields: Mapping[str, object], trial: pd.Series) -> Candidate:
    values: dict[str, Value] = {}
    for name in fields:
        value = trial[name]
        values[name] = value.item() if isinstance(value, np.generic) else value
    error = _error_for_good(store.read_result(trial.trial_id)) if trial.status == "failed" else ""
    fid = math.inf if trial.status == "diverged" or error else float(trial.fid)
    seconds = float(trial.compute_seconds)
    return Candidate(number=number, values=values, fid=fid, compute_seconds=seconds, failed_for_good=error)


def _error_for_good(result: Mapping[str, Any]) -> str:
    """The error of a failed trial that would come again: its own code raised it, the last two times alike.

    A worker that died, a disk or a memory that is full are the machine's, however often: they end by themselves, or are
    ended, and a search that passed over them would be another one elsewhere.
    """
    provenance, kind = result["provenance"], getattr(builtins, result["error"].partition(":")[0], None)
    machine = isinstance(kind, type) and issubclass(kind, OSError | MemoryError)
    raised = "traceback" in provenance and not machine and "out of memory" not in result["error"]
    return result["error"] if raised and provenance.get(TIMES_FAILED, 1) > 1 else ""
