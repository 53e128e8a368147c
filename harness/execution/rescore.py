"""Scores under a further protocol for trials that are already in the store. Nothing is trained, no weights change."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.execution.plan import require_samples
from harness.execution.run_study import Say, scoring_contexts
from harness.execution.scoring_pool import score_stored
from harness.spec import FOLDER, ScoreProtocol, TrialSpec
from harness.storage.store import Store
from harness.study import Profile, Study


def rescore(
    study: Study,
    profile_name: str,
    store: Store,
    *,
    extractor: str,
    num_generated: int | None,
    workers: int,
    say: Say,
    extractor_weights: Path | None = None,
) -> str:
    """Score what the study's last run at this profile left, under another protocol.

    Each score is kept as soon as it is there: interrupted, the same call goes on from there.

    Args:
        study: Whose trials.
        profile_name: At which profile.
        store: Where they are, and where the scores go.
        extractor: The feature network, one of harness.scoring.extractors.EXTRACTORS.
        num_generated: Samples a trial; the profile's own number if None.
        workers: Trials at once.
        say: Told what happens.
        extractor_weights: A local file with the extractor's weights, where it is a pretrained one.

    Returns:
        The protocol's id; of several data sets, the first one's.

    Raises:
        UserError: the study never ran here, its data changed since, or the extractor cannot be had.
        Damaged: a trial's weights are not what was written.
    """
    if workers < 1:
        raise UserError(f"workers={workers} is out of range; allowed: at least 1")
    number = study.profile(profile_name).num_generated if num_generated is None else num_generated
    require_samples(number)
    plan = store.read_plan(study.name, profile_name)
    cells = [cell["trial_id"] for cell in plan["cells"]] if plan else []
    trial_ids = list(dict.fromkeys([*cells, *((plan or {}).get("ceilings", {}).values())]))
    finished = [trial_id for trial_id in trial_ids if store.status(trial_id) == "ok"]
    if not finished:
        raise UserError(f"{study.name} ({profile_name}) has no finished trial in {store.root}; run it first")
    specs = {trial_id: _moved(store.read_spec(trial_id), study.profile(profile_name)) for trial_id in finished}
    contexts = scoring_contexts(study, specs.values(), extractor, number, store, say, extractor_weights)
    protocols = {trial_id: contexts[spec.data_fingerprint].protocol for trial_id, spec in specs.items()}
    for protocol in dict.fromkeys(protocols.values()):
        say(f"protocol {protocol.protocol_id}: {protocol.describe()}")
    pending = [spec for trial_id, spec in specs.items() if not store.is_done(trial_id, protocols[trial_id].protocol_id)]
    say(f"{len(pending)} of {len(finished)} finished trials to score, {workers} at once")
    score_stored(pending, contexts, store, workers, say)
    return protocols[finished[0]].protocol_id


def _moved(spec: TrialSpec, profile: Profile) -> TrialSpec:
    """The spec with its folder of images where the profile has it, if they are no longer where they were."""
    now = str(profile.changes.get("dataset", ""))
    moved = spec.dataset.startswith(FOLDER) and now.startswith(FOLDER) and spec.dataset != now
    return replace(spec, dataset=now) if moved and not Path(spec.dataset.removeprefix(FOLDER)).is_dir() else spec


def choose_protocol(study: Study, profile_name: str, store: Store, name: str) -> None:
    """Make the study's reports at this profile go by another protocol, until its next run or the next choice.

    Args:
        study: Whose reports.
        profile_name: At which profile.
        store: Where its plan is.
        name: The protocol's id, or its extractor's name where that says which.

    Raises:
        UserError: the study never ran here, or the name is that of no protocol with scores, or of several.
    """
    plan = store.read_plan(study.name, profile_name)
    if plan is None:
        raise UserError(f"{study.name} ({profile_name}) never ran in {store.root}; run it first")
    known: dict[str, dict[str, ScoreProtocol]] = {}  # by the data of the trials
    data = {}
    for trial_id in dict.fromkeys(cell["trial_id"] for cell in plan["cells"]):
        if store.status(trial_id) == "ok":
            data[trial_id] = store.read_spec(trial_id).data_fingerprint
            scored = {key: protocol for key, (protocol, _) in store.read_scores(trial_id).items()}
            known.setdefault(data[trial_id], {}).update(scored)
    chosen = {fingerprint: _meant(name, protocols) for fingerprint, protocols in known.items()}
    if not chosen:
        raise UserError(f"{study.name} ({profile_name}) has no finished trial in {store.root}; run it first")
    first = next(iter(chosen.values()))
    cells = [
        {**cell, "protocol_id": chosen[data[cell["trial_id"]]] if cell["trial_id"] in data else first}
        for cell in plan["cells"]
    ]
    store.write_plan(study.name, profile_name, {**plan, "protocol_id": first, "cells": cells})


def _meant(name: str, protocols: Mapping[str, ScoreProtocol]) -> str:
    meant = [key for key, protocol in protocols.items() if name in (key, protocol.extractor)]
    if len(meant) == 1:
        return meant[0]
    there = "; ".join(f"{key} ({p.extractor}, {p.num_generated} generated)" for key, p in sorted(protocols.items()))
    what = "names several: take an id" if meant else "has no scores: make them with `score`"
    raise UserError(f"protocol {name!r} {what}; there: {there or 'none'}")
