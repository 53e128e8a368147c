"""Scores by further networks, where questions name metrics of theirs: "fid@inception-v3" beside the profile's FID."""

from collections.abc import Callable, Mapping

from harness.analysis.wording import count
from harness.execution.cluster import Cluster
from harness.execution.contexts import scoring_contexts
from harness.execution.plan import Plan
from harness.execution.progress import Progress
from harness.execution.trial import TrialContext
from harness.execution.trial_queue import fids_from_before
from harness.questions import extractors_named
from harness.scoring.extractors import PRETRAINED, prepare_pretrained
from harness.scoring.networks import built
from harness.storage.store import Store
from harness.study import Study


def require_weights(plan: Plan, store: Store) -> None:
    """Fetch the weights of published networks that questions name, which may fail, before anything that takes long.

    Not those of the profile's own extractor, which comes next anyway, and whose file the user may have named.

    Raises:
        UserError: they cannot be had.
    """
    for name in extractors_named(plan.design.questions):
        if name in PRETRAINED and name != plan.design.profile.extractor:
            prepare_pretrained(name, next(iter(plan.specs.values())).channels, store.cache, None, built)


def contexts_of_others(
    study: Study, plan: Plan, own: Mapping[str, TrialContext], store: Store, say: Callable[[str], None]
) -> dict[str, dict[str, TrialContext]]:
    """Extractor that questions name -> what trials share when they are scored by it, by the fingerprint of their data.

    `own` is that by the profile's extractor, or the data's default; questions may name it, too.

    Raises:
        UserError: an extractor that cannot be had.
    """
    specs, profile = plan.specs.values(), plan.design.profile
    return {
        name: dict(own)
        if all(context.extractor.name == name for context in own.values())
        else scoring_contexts(study, specs, name, profile.num_generated, store, say)
        for name in extractors_named(plan.design.questions)
    }


def score_by_others(
    plan: Plan,
    others: Mapping[str, Mapping[str, TrialContext]],
    store: Store,
    workers: int | None,
    say: Callable[[str], None],
    cluster: Cluster,
) -> bool:
    """Score finished trials by each network that lacks scores of them. True if no trial failed."""
    complete, places = True, {trial_id: (run.arm, run.seed) for trial_id, run in plan.trials.items()}
    finished = {trial_id: spec for trial_id, spec in plan.specs.items() if store.status(trial_id) == "ok"}
    for name, contexts in others.items():
        protocols = {i: contexts[spec.data_fingerprint].protocol.protocol_id for i, spec in finished.items()}
        pending = [spec for i, spec in finished.items() if not store.is_done(i, protocols[i])]
        if not pending:
            continue
        from harness.execution.ray_backend import run_trials  # ray is slow to import

        say(f"{count(len(pending), 'trial')} to score by {name}, which questions name")
        with Progress(
            title=f"{plan.design.name} ({plan.design.profile.name}): scoring by {name}",
            total=len(finished),
            already_done=len(finished) - len(pending),
            arms=places,
            fids=fids_from_before(store, {i: places[i] for i in finished}, protocols),
        ) as progress:
            run_trials(pending, contexts, store, progress, workers, cluster)
        if progress.failed:
            say(f"{count(progress.failed, 'trial')} could not be scored by {name}, to be tried again by the next run")
            complete = False
    return complete
