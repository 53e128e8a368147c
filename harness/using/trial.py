"""One stored trial as an object: its spec, scores and curves, and its generator, ready to be sampled from."""

import difflib
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from harness.errors import UserError, unknown_name
from harness.spec import FOLDER, ScoreProtocol, TrialSpec
from harness.storage.samples import from_png
from harness.storage.store import Store
from harness.tuning import SEARCH

if TYPE_CHECKING:
    from harness.using.generator import TrainedGenerator

SHOWN = 4
"""Trials that an error names, at most."""

Weights = Literal["ema", "raw"]


class Place(NamedTuple):
    """Where a trial stands in a study; several arms may share a trial, and several studies."""

    study: str
    profile: str
    arm: str
    seed: int
    protocol_id: str  # by whose scores that study goes
    file: str  # the user's own file that declares it; "" for the studies of this repository


@dataclass(frozen=True, eq=False)
class Trial:
    """A trial of a store; made by `open_trial`. What is read is checked against its checksum, each time anew.

    Every attribute that reads a file raises `harness.storage.records.Damaged` if that is not what was written.
    """

    store: Store
    id: str

    def __repr__(self) -> str:
        at = self.places[0] if self.places else None
        told = f"{at.study} ({at.profile}), {at.arm}, seed {at.seed}" if at else "of no study"
        return f"<Trial {self.id}: {told}, {self.status}>"

    @cached_property
    def spec(self) -> TrialSpec:
        """Everything that affects its result."""
        return self.store.read_spec(self.id)

    @cached_property
    def result(self) -> dict[str, Any]:
        """result.json: status, error, cost, provenance, checksums."""
        return self.store.read_result(self.id)

    @property
    def status(self) -> str:
        """How it ended: ok, diverged or failed."""
        return self.result["status"]

    @property
    def cost(self) -> dict[str, float]:
        """Steps, seconds, parameters, FLOPs; units are those of the columns that `harness.columns` lists."""
        return self.result["cost"]

    @property
    def provenance(self) -> dict[str, Any]:
        """Commit, date, processor, versions of libraries."""
        return self.result["provenance"]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every place that it fills in a study that ran in this store; none where its arm was changed or taken out."""
        return tuple(places(self.store).get(self.id, ()))

    @cached_property
    def scores_by_protocol(self) -> dict[str, tuple[ScoreProtocol, dict[str, float]]]:
        """protocol_id -> (protocol, scores); empty for one that diverged or failed."""
        return self.store.read_scores(self.id)

    @property
    def protocol(self) -> ScoreProtocol | None:
        """The protocol of `scores`: that by which its studies go, else the only one there is; None without scores.

        Raises:
            UserError: several would do; take one of `scores_by_protocol`.
        """
        named = {p.protocol_id for p in self.places} & self.scores_by_protocol.keys() or set(self.scores_by_protocol)
        if len(named) > 1:
            raise UserError(
                f"trial {self.id} has scores under several protocols ({', '.join(sorted(named))}), which cannot be "
                f"compared; choose one of scores_by_protocol"
            )
        return self.scores_by_protocol[named.pop()][0] if named else None

    @property
    def scores(self) -> dict[str, float]:
        """Metric -> value, under `protocol`; empty for a trial that diverged or failed."""
        return self.scores_by_protocol[self.protocol.protocol_id][1] if self.protocol else {}

    @property
    def curves(self) -> pd.DataFrame:
        """One row a point: step, kimg, seconds of training, losses, D's answers, fid_online; empty if it left none."""
        return self.store.read_curves(self.id)

    @property
    def samples(self) -> np.ndarray:
        """The samples of its picture in the store, (n, side, side) or (n, side, side, 3) uint8.

        Raises:
            UserError: it left none.
        """
        picture = self.store.read_samples(self.id)
        if not picture:
            raise UserError(f"trial {self.id} left no samples: it {_ended(self)}")
        return from_png(picture, self.spec.resolution)

    def generator(self, *, weights: Weights | None = None, code: str | Path | None = None) -> "TrainedGenerator":
        """Its generator, as it was scored; needs torch.

        Args:
            weights: "ema" for the moving average, "raw" for the weights at the end; those that were scored if None.
            code: The user's own file that its network is from, where that is no longer where the study ran.

        Raises:
            UserError: it left no weights, or its network is made from code that is not there as it was.
        """
        from harness.using.generator import trained_generator  # torch is slow to import

        weights = weights or (self.protocol.weights if self.protocol else "ema")
        if weights not in ("ema", "raw"):
            raise unknown_name("weights", weights, ("ema", "raw"))
        content = self.store.read_weights(self.id)
        if not content:
            raise UserError(f"trial {self.id} left no weights: it {_ended(self)}")
        files = [Path(code)] if code else [Path(p.file) for p in self.places if p.file]
        return trained_generator(self.spec, content, weights, files)


def open_trial(store: Store | str | Path, trial_id: str) -> Trial:
    """A trial of a store by its id, by as much of that as no other trial shares, or by its place in a study.

    Args:
        store: A store or its folder.
        trial_id: "3f2a", or "STUDY/ARM/SEED": "noise/dc latent_std=0.1/3"; where the study ran at several profiles,
            "STUDY/PROFILE/ARM/SEED".

    Raises:
        UserError: no store, no such trial, or several.
    """
    store = store if isinstance(store, Store) else Store(store)
    there = store.trial_ids()
    if "/" in trial_id and there:
        return Trial(store, _at_place(store, trial_id))
    if re.fullmatch("[0-9a-f]{16}", trial_id) and (name := store.stored_name(trial_id)) in there:
        return Trial(store, name)
    found = [name for name in there if trial_id and name.startswith(trial_id)]
    if len(found) == 1:
        return Trial(store, found[0])
    if found:
        raise UserError(
            f"{len(found)} trials of {store.root} begin with {trial_id!r}: {_some(found)}; give more of one"
        )
    if not there:
        raise UserError(f"no trial {trial_id!r} in {store.root}: it holds none; run a study first")
    raise UserError(
        f"no trial of {store.root} begins with {trial_id!r}; there: {_some(there)}; STUDY/ARM/SEED names one, too"
    )


def _at_place(store: Store, place: str) -> str:
    """The trial of "STUDY/ARM/SEED" or "STUDY/PROFILE/ARM/SEED"."""
    found: dict[str, set[str]] = {}
    for plan in store.read_plans():
        arms = [(cell["arm"], cell["seed"], cell["trial_id"]) for cell in plan["cells"]]
        arms += [(f"{name}, untrained", 0, trial) for name, trial in plan.get("ceilings", {}).items()]
        for arm, seed, trial in arms:
            for before in (plan["study"], f"{plan['study']}/{plan['profile']}"):
                found.setdefault(f"{before}/{arm}/{seed}", set()).add(trial)
    ids = found.get(place, set())
    if len(ids) > 1:
        raise UserError(f"{len(ids)} trials of {store.root} are {place!r}; give STUDY/PROFILE/ARM/SEED")
    there = set(store.trial_ids())
    if not ids:
        ran = [other for other, trials in found.items() if any(store.stored_name(trial) in there for trial in trials)]
        near = ", ".join(map(repr, difflib.get_close_matches(place, ran, n=3)))
        studies = ", ".join(dict.fromkeys(plan["study"] for plan in store.read_plans()))
        hint = f"near to it: {near}" if near else f"allowed: STUDY/ARM/SEED of {studies or 'a study that ran'}"
        raise UserError(f"no trial of {store.root} is {place!r}; {hint}")
    name = store.stored_name(ids.pop())
    if name not in there:
        raise UserError(f"the trial {place!r} of {store.root} has not run yet; a run of the study goes on with it")
    return name


def places(store: Store) -> dict[str, list[Place]]:
    """trial_id -> every place that it fills in a study that ran in this store."""
    found: dict[str, list[Place]] = {}
    for plan in store.read_plans():
        at, file = (plan["study"], plan["profile"]), plan.get("file", "")
        for cell in plan["cells"]:
            own = cell.get("protocol_id", plan["protocol_id"])
            found.setdefault(cell["trial_id"], []).append(Place(*at, cell["arm"], cell["seed"], own, file))
        for baseline, trial_id in plan.get("ceilings", {}).items():
            place = Place(*at, f"{baseline}, untrained", 0, plan["protocol_id"], file)
            found.setdefault(trial_id, []).append(place)
    return found


def command(place: Place, seeds: int) -> str:
    """What runs a place's study again, with so many seeds, for a shell anywhere: without any path of this machine.

    A search runs with the study that it is of.
    """
    study = Path(place.file).name if place.file else place.study.removesuffix(SEARCH)
    profile = place.profile.partition(FOLDER)[0] + FOLDER + "PATH" if FOLDER in place.profile else place.profile
    return shlex.join(["gan-ablation", "run", study, "--profile", profile, "--seeds", str(seeds)])


def _ended(trial: Trial) -> str:
    if trial.status == "ok":
        return "was written without them"
    return f"{'diverged' if trial.status == 'diverged' else 'failed'} ({trial.result['error']})"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
