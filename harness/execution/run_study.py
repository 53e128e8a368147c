"""From a study to a filled store: plan, prepare what trials share, run what is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch

from harness.analysis.wording import count
from harness.design import Seeds
from harness.errors import UserError
from harness.execution import ahead
from harness.execution.cluster import HERE, Cluster
from harness.execution.contexts import scoring_contexts
from harness.execution.others import contexts_of_others, require_weights, score_by_others
from harness.execution.plan import announce, go_on, make_plan
from harness.execution.progress import Progress
from harness.execution.resources import on_sharing_a_gpu
from harness.execution.trial_queue import fids_from_before
from harness.storage.integrity import plan_was_lost, quarantine_damaged, require_free, sweep
from harness.storage.store import Store
from harness.study import Study
from harness.training.number_format import require_format

Say: TypeAlias = Callable[[str], None]
"""Tells the person at the terminal one line."""


def run_study(
    study: Study,
    profile_name: str,
    seeds: Seeds,
    store: Store,
    workers: int | None,
    say: Say,
    cluster: Cluster = HERE,
    *,
    sequential: bool = False,
    extractor_weights: Path | None = None,
) -> bool:
    """Run what the store lacks of the study. True if no trial failed.

    Args:
        study: Which study.
        profile_name: At which of its profiles.
        seeds: Replicates an arm, or of each arm; None for the profile's own number.
        store: Where results go.
        workers: Trials at once; None on a cluster for as many as it has room for.
        say: Told what happens.
        cluster: Where trials run.
        sequential: Whether the number of seeds depends on earlier results. The plan remembers it for good: from then
            on, verdicts are those that stay valid over interim analyses.
        extractor_weights: A local file with the weights of the profile's extractor, if it is a pretrained one.

    Raises:
        UserError: something is refused before work starts, or the store cannot be written.
        KeyboardInterrupt: finished trials stay; the same call resumes.
    """
    require_workers(workers)
    sweep(store)
    profile_name = study.profile(profile_name).name
    plan = make_plan(study, profile_name, seeds, store)
    specs = plan.specs
    if not cluster.address:  # whose nodes say it themselves
        on_gpu = torch.cuda.is_available() and cluster.gpus_per_trial != 0
        for spec in specs.values():
            require_format(spec.number_format, "cuda" if on_gpu else "cpu")
        if on_gpu and (hint := on_sharing_a_gpu(cluster.gpus_per_trial, max(s.resolution for s in specs.values()))):
            say(hint)
    ranks = max(spec.world_size for spec in specs.values())
    if not cluster.address and workers is not None and workers < ranks:
        raise UserError(f"workers={workers} is out of range; allowed: at least {ranks}, the ranks of one trial")
    former = {spec.former_id for spec in specs.values()} - specs.keys()
    for name, damage in quarantine_damaged(store, [*specs, *former]).items():
        say(f"{name} was {damage}")
    if is_sequential(store, study.name, profile_name) and not store.read_plan(study.name, profile_name):
        say("the plan said whether seeds had been added because of results: from now on verdicts allow for it")
    go_on(plan, store, say)
    require_free(store, plan.bytes_left())
    require_weights(plan, store)
    if plan.pending():
        ahead.begin(cluster, workers)
    profile = plan.design.profile
    contexts = scoring_contexts(
        study, specs.values(), profile.extractor, profile.num_generated, store, say, extractor_weights
    )
    others = contexts_of_others(study, plan, contexts, store, say)
    protocols, *also = (
        {data: c.protocol.protocol_id for data, c in one.items()} for one in (contexts, *others.values())
    )
    sequential = sequential or is_sequential(store, study.name, profile_name)
    record = plan.record(protocols, store.stored_name, sequential=sequential, also=dict(zip(others, also, strict=True)))
    store.write_plan(study.name, profile_name, record)
    pending = [spec for i, spec in specs.items() if not store.is_done(i, protocols[spec.data_fingerprint])]
    if not pending:
        say(f"{study.name} ({profile_name}): {count(len(plan.trained), 'trial')} done, nothing to run")
        return score_by_others(plan, others, store, workers, say, cluster)
    announce(plan, pending, store, workers, say, cluster)
    from harness.execution.ray_backend import run_trials  # ray is slow to import, and a finished study needs none

    places = {trial_id: (run.arm, run.seed) for trial_id, run in plan.trials.items()}
    pending.sort(key=lambda spec: plan.turn(spec.trial_id))
    with Progress(
        title=f"{study.name} ({profile_name})",
        total=len(specs),
        already_done=len(specs) - len(pending),
        arms=places,
        fids=fids_from_before(store, places, {i: protocols[spec.data_fingerprint] for i, spec in specs.items()}),
    ) as progress:
        run_trials(pending, contexts, store, progress, workers, cluster)
    if progress.failed:
        say(f"{count(progress.failed, 'trial')} failed, to be tried again by the next run")
    return score_by_others(plan, others, store, workers, say, cluster) and progress.failed == 0


def require_workers(workers: int | None) -> None:
    """Refuse fewer than one trial at once."""
    if workers is not None and workers < 1:
        raise UserError(f"workers={workers} is out of range; allowed: at least 1")


def is_sequential(store: Store, study: str, profile: str) -> bool:
    """Whether seeds were ever added to this study because of its results, or may have been: its plan was damaged."""
    plan = store.read_plan(study, profile)
    return plan_was_lost(store, study, profile) if plan is None else bool(plan.get("sequential"))
