"""Scores under a further protocol for trials that are already in the store. Nothing is trained, no weights change."""

from dataclasses import replace
from pathlib import Path

from harness.analysis.results import untrained_arm
from harness.analysis.wording import count
from harness.errors import UserError
from harness.execution.cluster import HERE, Cluster
from harness.execution.contexts import scoring_contexts
from harness.execution.plan import require_samples
from harness.execution.progress import Progress
from harness.execution.run_study import Say, require_workers
from harness.execution.trial_queue import fids_from_before
from harness.spec import FOLDER, TrialSpec
from harness.storage.store import Store
from harness.study import Profile, Study


def rescore(
    study: Study,
    profile_name: str,
    store: Store,
    workers: int | None,
    say: Say,
    cluster: Cluster = HERE,
    *,
    extractor: str,
    num_generated: int | None,
    extractor_weights: Path | None = None,
    reference_moments: Path | None = None,
) -> tuple[str, bool]:
    """Score what the study's last run at this profile left, under another protocol.

    Each score is kept as soon as it is there: interrupted, the same call resumes.

    Args:
        study: Whose trials.
        profile_name: At which profile.
        store: Where they are, and where the scores go.
        workers: Trials at once.
        say: Told what happens.
        cluster: Where they are scored.
        extractor: The feature network, one of harness.scoring.extractors.EXTRACTORS; the data's own if empty.
        num_generated: Samples a trial; the profile's own number if None.
        extractor_weights: A local file with the weights of a pretrained extractor.
        reference_moments: A file of moments to score against in place of the data's reference images.

    Returns:
        What `report --protocol` takes (the protocol's id, of several data sets the extractor), and whether none failed.

    Raises:
        UserError: the study never ran here, its data changed since, or the extractor cannot be had.
        Damaged: a trial's weights are not what was written.
    """
    require_workers(workers)
    number = study.profile(profile_name).num_generated if num_generated is None else num_generated
    require_samples(number)
    plan = store.read_plan(study.name, profile_name) or {"cells": []}
    arms: dict[str, tuple[str, int]] = {}
    for cell in plan["cells"]:
        arms.setdefault(cell["trial_id"], (cell["arm"], cell["seed"]))
    for name, trial_id in plan.get("ceilings", {}).items():
        arms.setdefault(trial_id, (untrained_arm(name), 0))
    finished = [trial_id for trial_id in arms if store.status(trial_id) == "ok"]
    if not finished:
        raise UserError(f"{study.name} ({profile_name}) has no finished trial in {store.root}; run it first")
    specs = {trial_id: _moved(store.read_spec(trial_id), study.profile(profile_name)) for trial_id in finished}
    contexts = scoring_contexts(
        study, specs.values(), extractor, number, store, say, extractor_weights, reference_moments
    )
    protocols = {trial_id: contexts[spec.data_fingerprint].protocol for trial_id, spec in specs.items()}
    for protocol in dict.fromkeys(protocols.values()):
        say(f"protocol {protocol.protocol_id}: {protocol.describe()}")
    pending = {i: spec for i, spec in specs.items() if not store.is_done(i, protocols[i].protocol_id)}
    at_once = f", {workers} at once" if workers else ""
    say(f"{len(pending)} of {count(len(finished), 'finished trial')} to score{at_once}")
    failed = 0
    if pending:
        from harness.execution.ray_backend import run_trials  # ray is slow to import

        with Progress(
            title=f"{study.name} ({profile_name}): scoring",
            total=len(finished),
            already_done=len(finished) - len(pending),
            arms={spec.trial_id: arms[trial_id] for trial_id, spec in pending.items()},
            fids=fids_from_before(
                store, {i: arms[i] for i in finished}, {i: protocols[i].protocol_id for i in finished}
            ),
        ) as progress:
            run_trials(pending.values(), contexts, store, progress, workers, cluster)
        failed = progress.failed
    first, *others = dict.fromkeys(protocols.values())
    return first.extractor if others else first.protocol_id, not failed


def _moved(spec: TrialSpec, profile: Profile) -> TrialSpec:
    """The spec, with the profile's folder of images if the folder is no longer where it was."""
    now = str(profile.changes.get("dataset", ""))
    moved = spec.dataset.startswith(FOLDER) and now.startswith(FOLDER) and spec.dataset != now
    return replace(spec, dataset=now) if moved and not Path(spec.dataset.removeprefix(FOLDER)).exists() else spec
