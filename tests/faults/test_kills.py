"""Processes of real trials, killed in mid-training under Ray Tune: replaced, and nothing in the result tells."""

import pytest

from harness.storage.store import Store
from tests.faults.conftest import (
    PATIENCE,
    TRAINERS,
    Launch,
    MakeStore,
    descendants,
    kill,
    new_snapshot,
    outcome,
    whole_trials,
)

pytestmark = pytest.mark.slow  # real trials, three times Ray's start of a worker


def test_killed_processes_leave_no_mark(knowing_store: MakeStore, launch: Launch) -> None:
    """Of a trial of one process; and of one of two ranks, first the other rank and then the trial's own process."""
    stores = []
    for name in ("undisturbed", "killed"):
        place = knowing_store(name)
        process = launch(TRAINERS, place, 1, 2)
        if name == "killed":
            whole = stores[0]
            specs = {i: whole.read_spec(i) for i in whole.trial_ids()}
            kinds = {(s.architecture, s.world_size): trial_id for trial_id, s in specs.items() if s.kimg > 0}
            snapshots = place / "cache" / "snapshots"
            for kind, victim in ((("dc", 1), "ImplicitFunc"), (("dc", 2), "_run_rank"), (("dc", 2), "ImplicitFunc")):
                new_snapshot(snapshots / f"{kinds[kind]}.snapshot", process)
                kill(descendants(process, victim))
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        stores.append(Store(place))
    undisturbed, killed = stores
    assert len(specs) >= 3 and whole_trials(undisturbed) == whole_trials(killed) == specs.keys()
    for kind in (("dc", 1), ("dc", 2)):
        resumed = [store.read_result(kinds[kind])["provenance"].get("resumed_at_step") for store in stores]
        assert resumed[0] is None and 0 < resumed[1] < specs[kinds[kind]].num_steps
    assert [outcome(undisturbed, trial_id) for trial_id in specs] == [outcome(killed, trial_id) for trial_id in specs]
