"""What a study's last run used and it would not use today: trials, and scores, made from other code or settings."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.plugins import UserCode
from harness.spec import ScoreProtocol
from harness.storage.store import Store
from harness.study import Design, Run


def left_behind(store: Store, plan: Mapping[str, Any], runs: Iterable[Run]) -> dict[str, str]:
    """Finished trials of a plan at an arm and seed where there is another trial today, and none of today's: id -> arm.

    Args:
        store: Where they are.
        plan: Of the study's last run.
        runs: Those of today.
    """
    held = {(c["arm"], c["seed"]): c["trial_id"] for c in plan.get("cells", [])}
    there = {(run.arm, run.seed): store.stored_name(run.spec.trial_id) for run in runs}
    replaced = {held[place]: place[0] for place in held if place in there and held[place] != there[place]}
    current = set(there.values())
    return {
        trial_id: arm
        for trial_id, arm in replaced.items()
        if trial_id not in current and store.status(trial_id) in ("ok", "diverged")
    }


def seeds_before(store: Store, plan: Mapping[str, Any], runs: Iterable[Run]) -> int:
    """How many seeds an arm it takes to have all finished trials of a plan; 0 where today's runs have as many."""
    last = max((run.seed for run in runs), default=-1)
    beyond = {
        cell["seed"]
        for cell in plan.get("cells", [])
        if cell["seed"] > last and store.status(cell["trial_id"]) in ("ok", "diverged")
    }
    return max(beyond, default=-1) + 1


def scored_otherwise(store: Store, plan: Mapping[str, Any], code: UserCode | None) -> dict[str, int]:
    """Networks of the user's own that have other code or weights than the scores of a plan: name -> how many scores.

    Only what the plan's own protocols are: scores that stand beside them keep the hash in their name.

    Args:
        store: Where the scores are.
        plan: Of the study's last run, or as `evidence` takes it.
        code: The user's file as it is today; None for a study that the repository ships.
    """
    if code is None or not plan.get("cells"):
        return {}
    from harness.scoring.own import current_hash  # loads torch, as a file with a network of its own has done

    beside, known, found = plan.get("beside", ()), dict[str, bool](), Counter[str]()
    protocols = dict[str, ScoreProtocol]()
    for cell in {cell["trial_id"]: cell for cell in plan["cells"]}.values():
        also = [key for name, key in cell.get("also", {}).items() if name not in beside]
        keys = {cell.get("protocol_id", plan["protocol_id"]), *also}
        if store.status(cell["trial_id"]) != "ok":
            continue
        there = store.read_scores(cell["trial_id"])
        protocols |= {key: protocol for key, (protocol, _) in there.items()}
        for key in keys & there.keys():
            name = protocols[key].extractor
            if key not in known:
                try:
                    now = current_hash(name, code)
                except UserError:  # which a run will say
                    now = ""
                known[key] = now not in ("", protocols[key].extractor_hash)
            found[name] += known[key]
    return {name: number for name, number in found.items() if number}


def runs_on_the_same_data(rows: pd.DataFrame, plan: Mapping[str, Any], design: Design) -> list[Run]:
    """What the design would run today at the seeds of a plan, if the pictures were still those of the plan's trials.

    Nothing is prepared, so that a store is enough. Empty where that is not enough: trials are refused today, or a data
    set is not that of any trial.

    Args:
        rows: A results table of the plan's trials.
        plan: Of the study's last run.
        design: The study of today.
    """
    if rows.empty:  # a table without trials lacks some columns
        return []
    data = rows.groupby(["dataset", "resolution", "channels"]).data_fingerprint
    known: dict[Any, str] = {key: found.iloc[-1] for key, found in data}

    def fingerprint(dataset: str, resolution: int, channels: int) -> str:
        if (dataset, resolution, channels) not in known:
            raise UserError(f"{dataset} at {resolution}×{resolution}×{channels} is not that of any trial")
        return known[dataset, resolution, channels]

    seeds = Counter(cell["arm"] for cell in plan["cells"])
    try:
        return design.runs({arm: seeds[arm] or 1 for arm in design.every_arm}, fingerprint)
    except UserError:
        return []
