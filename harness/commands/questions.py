"""Commands that ask: name the studies, plan, run and report them, and answer the founding document's claims."""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness import terminal
from harness.analysis.wording import count, duration
from harness.commands.shared import (
    DEFAULT_PROFILE,
    DEFAULT_STORE,
    at_least_one,
    catalog_of,
    existing,
    kept,
    profile_of,
    short,
    wrote,
)
from harness.errors import UserError, require_utf8
from harness.options import (
    Address,
    Budget,
    ExtractorName,
    ExtractorWeights,
    Full,
    GpusPerTrial,
    Name,
    Open,
    ProfileName,
    ReferenceMoments,
    Seeds,
    Snapshots,
    StorePath,
    UntilAnswered,
    Workers,
)
from harness.questions import located
from harness.storage import integrity
from harness.storage.layout import Layout, cache_folder
from harness.storage.store import Store
from harness.study import Study

DEFAULT_BUDGET = "1h"


def list_studies(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One study, with all that it has.", show_default=False)] = None,
) -> None:
    """Name every study; of one that is named, its profiles and questions."""
    catalog = catalog_of(context)
    if name is not None:
        study = catalog.find(name)
        terminal.tell(f"{study.name}: {study.title}")
        for profile in study.profiles:
            terminal.tell(f"  profile {profile.name}: {profile.description}")
        for question in study.questions:
            terminal.tell(f"  question {question.key}: {question.text}")
        return
    for study in catalog.studies.values():
        terminal.tell(f"{study.name}: {study.title}")
        profiles = ", ".join(profile.name for profile in study.profiles)
        terminal.tell(f"  {count(len(study.questions), 'question')}; profiles {profiles}")
    terminal.tell(f"`{terminal.program()} list NAME` tells a study's questions and profiles")


def plan(
    context: typer.Context,
    name: Name,
    profile: ProfileName = None,
    seeds: Seeds = None,
    store: StorePath = DEFAULT_STORE,
    workers: Workers = None,
) -> None:
    """Say what `run` would do, and run nothing."""
    from harness.execution.plan import default_workers, describe, make_plan
    from harness.execution.search import first_round, with_chosen

    study = catalog_of(context).find(name)
    profile = profile_of(study, profile)
    at_least_one("workers", workers)
    workers = workers or default_workers() or 1
    opened, downloads = existing(store), cache_folder(Layout(store).cache, "downloads")
    searching = 0.0
    if study.tuning is not None:
        search, wanted = first_round(study, profile, seeds)
        searched = make_plan(search, profile, wanted, opened)
        for line in describe(searched, workers, downloads):
            terminal.tell(line)
        if searched.pending():
            terminal.tell("until this search is done, the arms below are as it chose them last, or as declared:")
            searching = searched.seconds_left(workers) + sum(searched.beforehand.values())
        study = with_chosen(study, profile, opened)
    planned = make_plan(study, profile, seeds, opened)
    for line in describe(planned, workers, downloads):
        terminal.tell(line)
    if searching:
        terminal.tell(f"search and verdicts together: about {duration(searching + planned.seconds_left(workers))}")


def run(
    context: typer.Context,
    name: Name,
    profile: ProfileName = None,
    seeds: Seeds = None,
    store: StorePath = DEFAULT_STORE,
    workers: Workers = None,
    address: Address = "",
    gpus_per_trial: GpusPerTrial = None,
    snapshots: Snapshots = None,
    extractor_weights: ExtractorWeights = None,
    until_answered: UntilAnswered = False,
    budget: Budget = None,
    full: Full = False,
    open_page: Open = False,
) -> None:
    """Run the trials that the store lacks, then write the report and print its answers."""
    with kept(store):
        for folder in (Path.cwd(), *sys.path):  # which Ray tells its workers
            require_utf8("folder", folder)
        study = catalog_of(context).find(name)
        profile = profile_of(study, profile)
        if until_answered and seeds is not None:
            raise UserError(f"--seeds {seeds} fixes the number that --until-answered is to find; leave one of them out")
        if budget is not None and not until_answered:
            raise UserError(
                f"--budget {budget} belongs to --until-answered, which adds seeds until it is spent; name both"
            )
        at_least_one("seeds", seeds)
        at_least_one("workers", workers)
        budget_seconds = seconds_of(budget or DEFAULT_BUDGET)
        terminal.say(f"planning {study.name} ({profile})")  # before torch is loaded, which takes seconds
        from harness.execution.cluster import Cluster, snapshot_folder

        cluster = Cluster(
            address=address,
            gpus_per_trial=gpus_per_trial,
            snapshots=None if snapshots is None else snapshot_folder(snapshots),
        )
        cluster.require_reachable()
        from harness.execution.plan import default_workers, require_gpus

        require_gpus(cluster)
        was_there = store.exists()
        opened = Store(store, create=True)
        from harness.execution.ahead import one_ray
        from harness.execution.machine import require_fit
        from harness.execution.search import run_tuned
        from harness.execution.sequential import run_until_answered

        try:
            require_fit(opened.root, terminal.say)
            with opened.locks.at_work(), one_ray() as ray:
                workers = default_workers(cluster) if workers is None else workers
                common = (opened, workers, terminal.say, cluster)
                weights = extractor_weights
                if until_answered:
                    complete = run_until_answered(
                        study, profile, *common, budget_seconds=budget_seconds, extractor_weights=weights
                    )
                else:
                    complete = run_tuned(study, profile, seeds, *common, extractor_weights=weights)
                ray.close()
                _report(study, profile, opened, full=full, open_page=open_page, unless_unchanged=True)
        except UserError:
            if not was_there:
                integrity.remove_if_unused(opened)
            raise
        if not complete:
            raise typer.Exit(1)


def report(
    context: typer.Context,
    name: Name,
    profile: ProfileName = None,
    store: StorePath = DEFAULT_STORE,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="By whose scores: a protocol's id, or an extractor's name.")
    ] = None,
    full: Full = False,
    open_page: Open = False,
) -> None:
    """Write the report from the store alone, and print its answers."""
    study, opened = catalog_of(context).find(name), Store(store)
    profile = profile_of(study, profile)
    _report(study, profile, opened, protocol, full=full, open_page=open_page)


def score(
    context: typer.Context,
    name: Name,
    protocol: ExtractorName = "",
    num_generated: Annotated[
        int | None,
        typer.Option("--num-generated", help="Samples per trial, and real images; the profile's own if left out."),
    ] = None,
    extractor_weights: ExtractorWeights = None,
    reference_moments: ReferenceMoments = None,
    profile: ProfileName = None,
    store: StorePath = DEFAULT_STORE,
    workers: Workers = None,
    address: Address = "",
    gpus_per_trial: GpusPerTrial = None,
) -> None:
    """Score finished trials under a further protocol, from their stored weights: nothing is trained again."""
    with kept(store, "scores so far"):
        study, opened = catalog_of(context).find(name), Store(store)
        profile = profile_of(study, profile)
        from harness.execution.cluster import Cluster
        from harness.execution.machine import require_fit
        from harness.execution.plan import default_workers, require_gpus
        from harness.execution.rescore import rescore

        cluster = Cluster(address=address, gpus_per_trial=gpus_per_trial)
        cluster.require_reachable()
        require_gpus(cluster)
        require_fit(opened.root, terminal.say)
        with opened.locks.at_work():
            protocol_id, complete = rescore(
                study,
                profile,
                opened,
                default_workers(cluster) if workers is None else workers,
                terminal.say,
                cluster,
                extractor=protocol,
                num_generated=num_generated,
                extractor_weights=extractor_weights,
                reference_moments=reference_moments,
            )
        words = shlex.join(["report", name, "--profile", profile, "--store", str(store), "--protocol", protocol_id])
        typer.echo(f"`{terminal.program()} {words}` goes by it")  # in one piece, to be copied
        if not complete:
            raise typer.Exit(1)


def summary(
    context: typer.Context,
    profile: Annotated[str, typer.Option("--profile", help="Of all studies: smoke, laptop, paper.")] = DEFAULT_PROFILE,
    store: StorePath = DEFAULT_STORE,
    full: Full = False,
    open_page: Open = False,
) -> None:
    """Answer every claim of the founding document on one page, from all studies in the store."""
    from harness.reporting import report
    from harness.reporting.summary_page import summary_page
    from harness.reporting.terminal import claims_for_terminal

    catalog, opened, profile = catalog_of(context), Store(store), located(profile)
    page = summary_page(catalog.studies, catalog.claims, profile, opened)
    terminal.say("writing the summary")
    paths = report.write(page, opened.layout.report_folder("summary", profile))
    terminal.show(*claims_for_terminal(page.tables["claims"].numbers, full=full))
    wrote(paths, full=full, open_page=open_page)


def _report(
    study: Study,
    profile: str,
    store: Store,
    protocol: str | None = None,
    *,
    full: bool,
    open_page: bool = False,
    unless_unchanged: bool = False,
) -> None:
    from harness.analysis.evidence import load_evidence
    from harness.execution.resources import processors
    from harness.reporting import report
    from harness.reporting.study_page import study_page
    from harness.reporting.terminal import study_for_terminal

    # Taken before the results are read, which may yet grow.
    made_from = report.sources_checksum(study, profile, store, protocol)
    evidence = load_evidence(store, study, profile, protocol)
    out = store.layout.report_folder(study.name, profile, "" if evidence.of_run else evidence.plan["protocol_id"])
    paths = report.last(out, study.name, made_from) if unless_unchanged else []
    if not paths:
        terminal.say("writing the report")
        paths = report.write(study_page(evidence, protocol, processors()), out, made_from)
    width = terminal.width(sys.stdout)
    below = -(-len(str(short(paths[0]))) // width) + 1  # the page's path, and the shell's next prompt
    lines = terminal.height(sys.stdout) - below
    terminal.show(*study_for_terminal(evidence, width=width, lines=lines, full=full))
    wrote(paths, full=full, open_page=open_page)


def seconds_of(budget: str) -> float:
    """A length of time in words: 90s, 30m, 2h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget)
    if found is None or float(found[1]) == 0:
        raise UserError(f"budget {budget!r} is not a length of time; allowed: 90s, 30m, 2h and the like")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
