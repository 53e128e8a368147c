"""Several stores as one: each result once, whoever holds it; results that contradict each other are kept and said.

The merged store is a folder of links to the stores' own files, so that everything that reads a store reads it. Nothing
is written into the stores. What becomes of it does not depend on the order in which they are named.

A trial is the content of its spec, so two stores may hold the same one. Where its status, its weights and its scores
under every protocol that both have are equal, it is one result: further protocols of either are kept. Otherwise (two
processors differ in the last digits, a file was forged with care) one result is shown and decides, whatever came out of
it: that of the trial which began first, a trial that failed outside the model coming last. The others stand beside it.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from harness import terminal
from harness.analysis.wording import agreeing, count
from harness.errors import UserError
from harness.files import checksum
from harness.storage import integrity
from harness.storage.layout import WEIGHTS, cache_folder, listed, score_files
from harness.storage.records import plain_json
from harness.storage.store import Store

At: TypeAlias = tuple[str, str]
"""A study and a profile."""


def address(trial_id: str, ending: str = ".html") -> str:
    """Of a trial's page on a site, or of another of its files, from the site's root."""
    return "trials/" + trial_id + ending


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A trial as one store holds it."""

    held_by: str  # the store's name on the site
    folder: Path
    result: Mapping[str, Any]  # result.json
    scores: Mapping[str, Mapping[str, float]]  # by protocol id

    def agrees(self, other: "Copy") -> bool:
        """Whether the two are one result, as far as both say something: status, weights, scores."""
        weights = [copy.result["sha256"].get(WEIGHTS) for copy in (self, other)]
        shared = self.scores.keys() & other.scores.keys()
        if self.result["status"] != other.result["status"]:
            return False
        if self.result["status"] == "ok" and not (shared or all(weights)):
            return False  # nothing tells
        return (weights[0] == weights[1] or not all(weights)) and all(
            self.scores[key] == other.scores[key] for key in shared
        )


class View(NamedTuple):
    """A merged store whose plans go together."""

    store: Store
    held_by: Mapping[At, Sequence[str]]  # whose plans each study's is made of


class Merged(NamedTuple):
    """What several stores hold together."""

    names: Mapping[str, Store]  # the stores by their names on the site, in their order
    views: Sequence[View]  # all have all trials; those after the first have plans that contradict earlier ones
    held_by: Mapping[str, Sequence[str]]  # trial -> the stores whose result of it is the one that is shown
    others: Mapping[str, Sequence[Copy]]  # trial -> results that differ from it
    said: Sequence[str]  # what else did not agree


def opened(paths: Iterable[Path], say: Callable[[str], None]) -> list[Store]:
    """The stores there, each once, every file of them read and found to be what was written.

    Raises:
        UserError: no store, one of another version or without trials, or one with a damaged, forged or foreign file.
    """
    stores = {store.root: store for store in map(Store, paths)}
    for store in stores.values():
        trials = len(store.trial_ids())
        if not trials:
            raise UserError(f"{store.root} holds no trial; run a study there first, or leave it out")
        say(f"checking {count(trials, 'trial')} of {store.root}")
        damages = list(integrity.check(store))
        if damages:
            more = f" (and {count(len(damages) - 1, 'other file')})" if len(damages) > 1 else ""
            raise UserError(
                f"{damages[0].path}{more} {agreeing(len(damages), 'is', 'are')} not as a run wrote it: "
                f"{damages[0].reason}; no site is made of results that may be forged: `{terminal.program()} check "
                f"{store.root}` lists them, a `run` of the study makes them again"
            )
    return list(stores.values())


def merged(stores: Sequence[Store], folder: Path) -> Merged:
    """Merge stores that `opened` gave; the merged ones lie in `folder`, which must outlast them."""
    names = dict(sorted(zip(_names([store.root for store in stores]), stores, strict=True)))
    views = _plans(names)
    first = Store(folder / "0", create=True)
    held_by, others = _link_trials(names, first)
    said = _link_references(names, first)
    for store in names.values():
        for path in listed(cache_folder(store.layout.cache, "data")):
            _link(cache_folder(first.cache, "data") / path.name, path)
    found = []
    for number, plans in enumerate(views):
        view = first if number == 0 else Store(folder / str(number), create=True)
        if view is not first:
            there, here = first.layout, view.layout
            _link(here.trials, there.trials)
            _link(here.references, there.references)
            _link(here.cache, there.cache)
        for (study, profile), (plan, _) in plans.items():
            view.write_plan(study, profile, plan)
        found.append(View(view, {at: whose for at, (_, whose) in plans.items()}))
    return Merged(names, found, held_by, others, said)


def _names(roots: Sequence[Path]) -> list[str]:
    """What each store is called: the end of its path, as far as it takes to tell them apart."""
    for parts in itertools.count(1):
        names = ["/".join(root.parts[-parts:]) for root in roots]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("paths that differ have ends that differ")


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(target)


def _link_trials(names: Mapping[str, Store], into: Store) -> tuple[dict[str, list[str]], dict[str, list[Copy]]]:
    """Link every trial once; which stores hold the one that is shown, and the results that differ from it."""
    holders: dict[str, list[str]] = {}
    for name, store in names.items():
        for trial_id in store.trial_ids():
            holders.setdefault(trial_id, []).append(name)
    held_by, others = {}, {}
    into.layout.trials.mkdir(exist_ok=True)
    for trial_id, there in holders.items():
        place = into.layout.trial(trial_id)
        if len(there) == 1:
            place.symlink_to(names[there[0]].layout.trial(trial_id))
            held_by[trial_id] = there
            continue
        shown, *rest = sorted((_copy(name, names[name], trial_id) for name in there), key=_order)
        same = [copy for copy in rest if shown.agrees(copy)]
        _link_with_scores(place, [shown, *same])
        held_by[trial_id] = sorted(copy.held_by for copy in (shown, *same))
        # One that failed outside the model says nothing of it, where another did not.
        differ = [copy for copy in rest if copy not in same and copy.result["status"] != "failed"]
        if differ:
            others[trial_id] = differ
    return held_by, others


def _copy(name: str, store: Store, trial_id: str) -> Copy:
    return Copy(
        held_by=name,
        folder=store.layout.trial(trial_id),
        result=store.read_result(trial_id),
        scores={key: scores for key, (_, scores) in store.read_scores(trial_id).items()},
    )


def _order(copy: Copy) -> tuple[bool, str, str]:
    """Which copy is shown first: by nothing that a result came to, so that no result is preferred."""
    date = str(copy.result["provenance"].get("date", ""))
    return copy.result["status"] == "failed", date, checksum(plain_json(copy.result))


def _link_with_scores(place: Path, copies: Sequence[Copy]) -> None:
    """The files of the first copy, and scores under protocols that only the others have."""
    own = {path.name for path in score_files(copies[0].folder)}
    further = {path.name: path for copy in copies[1:] for path in score_files(copy.folder) if path.name not in own}
    if not further:
        place.symlink_to(copies[0].folder)
        return
    for path in listed(copies[0].folder):
        for file in listed(path) if path.is_dir() else [path]:
            _link(place / file.relative_to(copies[0].folder), file)
    for name, path in further.items():
        _link(place / path.parent.name / name, path)


def _link_references(names: Mapping[str, Store], into: Store) -> list[str]:
    """Link the scores of real images under each protocol once; where stores differ in them, a sentence."""
    found: dict[str, list[tuple[bytes, str, Path]]] = {}
    for name, store in names.items():
        for path in listed(store.layout.references):
            found.setdefault(path.stem, []).append((plain_json(store.read_reference(path.stem)), name, path))
    said = []
    for key, copies in found.items():
        shown = min(copies)
        _link(into.layout.reference(key), shown[2])
        if any(content != shown[0] for content, _, _ in copies):
            said.append(f"The stores differ in the scores of real images under protocol {key}: {shown[1]}'s are shown.")
    return said


def _plans(names: Mapping[str, Store]) -> list[dict[At, tuple[dict[str, Any], list[str]]]]:
    """The plans of each view, with the names of the stores that they are from: as few views as their plans allow."""
    there = [(plan, name) for name, store in names.items() for plan in store.read_plans()]
    there.sort(key=lambda one: (-len(one[0]["cells"]), checksum(plain_json(one[0]))))
    views: list[dict[At, tuple[dict[str, Any], list[str]]]] = [{}]
    for plan, name in there:
        at = (plan["study"], plan["profile"])
        fitting = next((view for view in views if at not in view or _together(view[at][0], plan)), None)
        if fitting is None:
            views.append(fitting := {})
        held, whose = fitting.get(at, (plan, []))
        fitting[at] = (_together(held, plan) or {}, sorted([*whose, name]))
    return views


def _together(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Two plans of one study at one profile as one, with the seeds of both; None where they contradict each other."""
    places = [{(cell["arm"], cell["seed"]): cell for cell in plan["cells"]} for plan in (one, other)]
    ceilings = [plan.get("ceilings", {}) for plan in (one, other)]
    if one["protocol_id"] != other["protocol_id"] or one.get("chosen", {}) != other.get("chosen", {}):
        return None
    if any(places[0][at] != places[1][at] for at in places[0].keys() & places[1].keys()):
        return None
    if any(ceilings[0][name] != ceilings[1][name] for name in ceilings[0].keys() & ceilings[1].keys()):
        return None
    return {
        **other,
        **one,
        "cells": list((places[0] | {at: cell for at, cell in places[1].items() if at not in places[0]}).values()),
        "ceilings": {**ceilings[1], **ceilings[0]},
        "sequential": bool(one.get("sequential") or other.get("sequential")),  # intervals then hold over all looks
    }
