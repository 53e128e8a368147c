"""All that is known of a study at a profile, loaded and answered once: what tables, figures and pages are made from."""

import contextlib
import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from harness.analysis import index, results
from harness.analysis.answers import ClaimTests, ask_study, settle
from harness.analysis.effects import Effect, level_effects
from harness.analysis.tuned import Candidate, found
from harness.analysis.verdicts import Answer
from harness.errors import UserError
from harness.spec import ScoreProtocol
from harness.storage.store import Store
from harness.study import Design, Study


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A study's results at one profile, by the scores of one protocol, and what they say: answers and effects."""

    design: Design
    store: Store
    plan: Mapping[str, Any]  # of the last run; where another protocol was asked for, with that one
    references: Mapping[str, Mapping[str, float]]  # protocol id -> scores of real images; empty where not computed
    rows: pd.DataFrame  # as `results.load` gives it
    untuned: "Evidence | None" = None  # of the same study without tuning, where it ran in this store

    @property
    def sequential(self) -> bool:
        """Whether the number of seeds depended on interim analyses; intervals of effects then hold over all of them."""
        return bool(self.plan.get("sequential"))

    @cached_property
    def answers(self) -> list[Answer]:
        """The answers to all questions, in their order."""
        return settle(self.tests)

    @cached_property
    def tests(self) -> list[ClaimTests]:
        """What the tests say of each claim, for these answers, and for those of a page that shows more studies."""
        return ask_study(self.design, self.rows, self.sequential, self.plan.get("beside", ()))

    @cached_property
    def effects(self) -> dict[str, dict[str, Effect]]:
        """Question key -> level label -> the level's effect against the baseline's, which is left out."""
        return {
            question.key: level_effects(self.design, question, self.rows, sequential=self.sequential)
            for question in self.design.questions
        }

    @cached_property
    def search(self) -> dict[str, dict[int, list[Candidate]]]:
        """Arm -> seed -> the candidates of its search; empty for a study without tuning."""
        return found(self.store, self.design)

    @cached_property
    def of_run(self) -> bool:
        """Whether it is by the scores that the study's last run asked for, and not by those that `score` added."""
        last = self.store.read_plan(self.plan["study"], self.plan["profile"]) or self.plan
        return bool(last["protocol_id"] == self.plan["protocol_id"])

    @property
    def reference(self) -> Mapping[str, float]:
        """The scores of real images under the study's own protocol."""
        return self.references[self.plan["protocol_id"]]

    @property
    def trials(self) -> pd.DataFrame:
        """The rows, with each trial once that fills the places of several arms."""
        return self.rows.drop_duplicates("trial_id")

    @property
    def arms(self) -> list[str]:
        """Every planned arm, in the study's order."""
        return list(dict.fromkeys(cell["arm"] for cell in self.plan["cells"]))

    @property
    def num_seeds(self) -> int:
        """How many seeds were planned, of the arm that has most."""
        return len({cell["seed"] for cell in self.plan["cells"]})


def load_evidence(store: Store, study: Study, profile: str, protocol: str | None = None) -> Evidence:
    """Load a study's results at a profile, once for all that is shown of them.

    Args:
        store: Where the results are.
        study: As it is declared.
        profile: One of its profiles, by name.
        protocol: By whose scores: a protocol's id, or an extractor's name where that says which. None for what the
            last run scored by. The store's plan stays as it is.

    Raises:
        UserError: the study never ran here, it has no such profile, or `protocol` names none with scores, or several.
        Damaged: a file that it reads is not what was written.
    """
    study.profile(profile)  # an unknown one is refused before the store is asked
    plan = results.require_plan(store, study.name, profile)
    design = replace(study, chosen=plan.get("chosen", {})).at(profile)
    if protocol is not None:
        plan = _under(protocol, plan, store)
    plan = _with_beside(plan, store)
    own, untuned = plan["protocol_id"], None
    if study.untuned and store.read_plan(study.untuned, profile) is not None:
        plain = replace(study, name=study.untuned, tuning=None, untuned="", chosen={})
        with contextlib.suppress(*[UserError] * (protocol is not None)):  # which the other study may have no scores of
            untuned = load_evidence(store, plain, profile, protocol)
    protocols = dict.fromkeys([own, *(cell.get("protocol_id", own) for cell in plan["cells"])])  # of arms on other data
    return Evidence(
        design=design,
        store=store,
        plan=plan,
        references={protocol_id: store.read_reference(protocol_id) for protocol_id in protocols},
        rows=results.of_plan(store, plan),
        untuned=untuned,
    )


def _under(name: str, plan: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """The plan with the protocol of that name in place of its own; arms on other data have protocols of their own."""
    known: dict[str, dict[str, ScoreProtocol]] = {}  # by the data of the trials
    data = {}
    for trial_id in dict.fromkeys(cell["trial_id"] for cell in plan["cells"]):
        if store.status(trial_id) == "ok":
            data[trial_id] = store.read_spec(trial_id).data_fingerprint
            scored = {key: protocol for key, (protocol, _) in store.read_scores(trial_id).items()}
            known.setdefault(data[trial_id], {}).update(scored)
    chosen = {fingerprint: _meant(name, protocols) for fingerprint, protocols in known.items()}
    if not chosen:
        where = f"{plan['study']} ({plan['profile']})"
        raise UserError(f"{where} has no finished trial in {store.root}; run it first")
    first = next(iter(chosen.values()))
    cells = [{**cell, "protocol_id": chosen.get(data.get(cell["trial_id"], ""), first)} for cell in plan["cells"]]
    return {**plan, "protocol_id": first, "cells": cells}


def _with_beside(plan: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """The plan with what is shown beside what decides: protocols of other networks that scored all finished trials.

    Each cell's "also" gains them, by the names of their extractors, which "beside" lists.
    """
    cells = {cell["trial_id"]: cell for cell in plan["cells"]}
    found = index.records(store, [i for i in store.trial_ids() if i in cells], results.record_of)
    data = {i: record["spec"]["data_fingerprint"] for i, record in found.items()}
    scored: dict[str, set[str]] = {}  # by the data: protocols of all finished trials
    beside: dict[str, dict[str, str]] = {}  # by the data: extractor -> protocol
    for trial_id, record in found.items():
        if record["status"] == "ok":
            scored[data[trial_id]] = scored.get(data[trial_id], set(record["scores"])) & set(record["scores"])
    for trial_id, fingerprint in data.items():
        if fingerprint not in beside and len(scored.get(fingerprint, ())) > 1 and found[trial_id]["status"] == "ok":
            own = cells[trial_id].get("protocol_id", plan["protocol_id"])
            protocols = {key: p for key, (p, _) in store.read_scores(trial_id).items() if key in scored[fingerprint]}
            beside[fingerprint] = _by_others(protocols, own, cells[trial_id].get("also", {}))
    if not beside:
        return dict(plan)
    shared = [name for name in next(iter(beside.values())) if all(name in named for named in beside.values())]
    also = {fingerprint: {name: named[name] for name in shared} for fingerprint, named in beside.items()}
    return {
        **plan,
        "beside": shared,
        "cells": [
            {**cell, "also": also.get(data.get(cell["trial_id"], ""), {}) | cell.get("also", {})}
            for cell in plan["cells"]
        ],
    }


def _by_others(protocols: Mapping[str, ScoreProtocol], own: str, also: Mapping[str, str]) -> dict[str, str]:
    """The name of each network but the one that decides -> the protocol by it, of several that with most samples."""
    if own not in protocols:
        return {}
    mine, found = (protocols[own].extractor, protocols[own].extractor_hash), {}
    by_samples = sorted(protocols, key=lambda key: (protocols[key].num_generated, key))
    others = [k for k in by_samples if (protocols[k].extractor, protocols[k].extractor_hash) != mine]
    networks = {(protocols[k].extractor, protocols[k].extractor_hash) for k in others if k not in also.values()}
    taken = Counter([mine[0], *also, *(name for name, _ in networks)])
    for key in others:
        name, digest = protocols[key].extractor, protocols[key].extractor_hash
        if key not in also.values():
            found[name if taken[name] == 1 else f"{name}-{digest[:8]}"] = key
    return found


def _meant(name: str, protocols: Mapping[str, ScoreProtocol]) -> str:
    meant = [key for key, protocol in protocols.items() if name in (key, protocol.extractor)]
    if len(meant) == 1:
        return meant[0]
    there = "; ".join(f"{key} ({p.extractor}, {p.num_generated} generated)" for key, p in sorted(protocols.items()))
    what = "names several: take an id" if meant else "has no scores: make them with `score`"
    known = {word for key, p in protocols.items() for word in (key, p.extractor)}
    close = difflib.get_close_matches(name, sorted(known), n=1) if not meant else []
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UserError(f"protocol {name!r}{hint} {what}; there: {there or 'none'}")
