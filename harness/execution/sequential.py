"""Adding seeds until a study's questions are answered, or the time is spent."""

import time
from dataclasses import replace
from pathlib import Path

from harness.analysis import results
from harness.analysis.answers import arms_open
from harness.analysis.evidence import load_evidence
from harness.analysis.statistics import FEWEST_FOR_A_CLAIM
from harness.analysis.wording import count, duration
from harness.design import Design
from harness.errors import UserError
from harness.execution.cluster import HERE, Cluster
from harness.execution.plan import go_on, make_plan
from harness.execution.run_study import Say
from harness.execution.search import first_round, run_tuned, with_chosen
from harness.storage.integrity import quarantine_damaged
from harness.storage.store import Store
from harness.study import Study

BATCH = 2
"""Seeds that are added at a time to each arm that is still needed."""

MOST = 50
"""Seeds an arm after which a question counts as out of reach."""


def run_until_answered(
    study: Study,
    profile_name: str,
    store: Store,
    workers: int | None,
    say: Say,
    cluster: Cluster = HERE,
    *,
    budget_seconds: float,
    extractor_weights: Path | None = None,
) -> bool:
    """Add seeds to the arms of unresolved claims until all are settled, out of reach, or the budget is spent.

    It starts from FEWEST_FOR_A_CLAIM seeds, or from those of an earlier run. After each batch there is an interim
    analysis; verdicts are those that stay valid over all of them (harness/analysis/answers.py). A batch that would not
    end in time is not started.

    Args: as for `run_study`, and `budget_seconds` of wall-clock time to spend. True if no trial failed.

    Raises:
        UserError: budget_seconds not above 0, or what `run_study` raises.
    """
    if budget_seconds <= 0:
        raise UserError(f"budget={budget_seconds:g} s is out of range; allowed: above 0")
    ends = time.monotonic() + budget_seconds
    design = study.at(profile_name)
    for name, damage in quarantine_damaged(store, ()).items():  # a plan, that is: it is read before the first run
        say(f"{name} was {damage}")
    if "@" in design.profile.name:  # pictures may have been moved since the last run, whose seeds are gone on from
        first = make_plan(with_chosen(study, profile_name, store), profile_name, None, store)
        go_on(replace(first, seeds_before=0), store, say)  # it is about to take them in
    seeds = _seeds_so_far(design, store)
    while True:
        plan = make_plan(with_chosen(study, profile_name, store), profile_name, seeds, store)
        takes = plan.seconds_left(workers)
        if study.tuning is not None:
            search, wanted = first_round(study, profile_name, seeds)
            takes += make_plan(search, profile_name, wanted, store).seconds_left(workers)
        if takes > ends - time.monotonic():
            if len(plan.pending()) == len(plan.trained):
                raise UserError(
                    f"budget={budget_seconds:g} s is too short for the first {FEWEST_FOR_A_CLAIM} seeds, which take "
                    f"about {duration(takes)}"
                )
            left = max(0.0, ends - time.monotonic())
            say(f"stopped: the budget is spent ({duration(left)} left, the next seeds take {duration(takes)})")
            return True
        if not run_tuned(
            study,
            profile_name,
            seeds,
            store,
            workers,
            say,
            cluster,
            sequential=True,
            extractor_weights=extractor_weights,
        ):
            say("stopped: trials failed")
            return False
        evidence = load_evidence(store, study, profile_name)
        answers, wanted = evidence.answers, arms_open(evidence.design, evidence.answers)
        say(f"{sum(a.verdict != 'unresolved' for a in answers)} of {count(len(answers), 'claim')} settled")
        if not wanted:
            say("stopped: every claim is settled, or cannot be by more seeds")
            return True
        if all(seeds[arm] >= MOST for arm in wanted):
            say(f"stopped: what is left is out of reach with {MOST} seeds an arm")
            return True
        # Pairs need both arms at each seed: the arm with most seeds sets the number for the others.
        seeds |= dict.fromkeys(wanted, min(max(seeds[arm] for arm in wanted) + BATCH, MOST))


def _seeds_so_far(design: Design, store: Store) -> dict[str, int]:
    """Seeds of each arm in the store's plan, and at least as many as a claim needs."""
    planned = results.planned(store, design.name, design.profile.name)
    found = planned.groupby("arm").seed.max().add(1).to_dict() if len(planned) else {}
    return {arm: max(int(found.get(arm, 0)), FEWEST_FOR_A_CLAIM) for arm in design.every_arm}
