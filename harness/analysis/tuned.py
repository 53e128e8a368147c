"""What searches found: of each arm at each seed the candidates by their FID, which of them was chosen, and the cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis import results
from harness.design import DEFAULTS, Design
from harness.questions import Changes, Value
from harness.storage.store import Store
from harness.tuning import candidate_name, search_name


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One setting of an arm at a seed, and what its trial came to."""

    number: int  # 0 is the arm as it is declared
    values: Changes  # of the fields that are searched over
    fid: float  # inf where the trial diverged, NaN where it failed or has no score
    compute_seconds: float


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
                _candidate(number, tuning.fields, trials[candidate_name(arm, number), seed])
                for number in range(tuning.trials)
                if (candidate_name(arm, number), seed) in trials
            ]
            for seed in seeds
        }
        for arm in design.every_arm
    }


def best(candidates: Sequence[Candidate]) -> Candidate:
    """That with the lowest FID; among equals, and where all diverged, the first."""
    return min(candidates, key=lambda candidate: (candidate.fid, candidate.number))


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
            whole[arm].append(best(candidates).values)
    return whole


def declared(design: Design, arm: str) -> Changes:
    """What an arm's declaration gives the fields that are searched over."""
    assert design.tuning is not None
    values = {**design.every_arm[arm].values, **design.profile.changes}
    return {name: values.get(name, DEFAULTS.get(name, "")) for name in design.tuning.fields}


def _candidate(number: int, fields: Mapping[str, object], trial: pd.Series) -> Candidate:
    values: dict[str, Value] = {}
    for name in fields:
        value = trial[name]
        values[name] = value.item() if isinstance(value, np.generic) else value
    fid = math.inf if trial.status == "diverged" else float(trial.fid)
    return Candidate(number=number, values=values, fid=fid, compute_seconds=float(trial.compute_seconds))
