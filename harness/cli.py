"""The program, `python -m studies`: list, inspect, plan, run, report, score, check, summary, compare, export, prune."""

import contextlib
import re
import shlex
import sys
import tempfile
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from harness import interrupts, terminal
from harness.analysis.wording import count
from harness.catalog import Catalog
from harness.errors import UserError, require_utf8
from harness.options import (
    Address,
    Budget,
    ExtractorName,
    ExtractorWeights,
    Full,
    GpusPerTrial,
    Name,
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
from harness.storage.layout import Layout, cache_folder, is_store
from harness.storage.store import Store
from harness.study import Study

DEFAULT_STORE = Path("runs")
DEFAULT_PROFILE = "laptop"
DEFAULT_BUDGET = "1h"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Declare a question about GANs as a table; get back an answer that would survive a reviewer.",
)


@app.command("list")
def list_studies(context: typer.Context) -> None:
    """Name every study, its profiles and its questions."""
    for study in _catalog(context).studies.values():
        terminal.tell(f"{study.name}: {study.title}")
        for profile in study.profiles:
            terminal.tell(f"  profile {profile.name}: {profile.description}")
        for question in study.questions:
            terminal.tell(f"  question {question.key}: {question.text}")


@app.command()
def inspect(
    dataset: Annotated[str, typer.Argument(help="folder:PATH, or a data set's name.", show_default=False)],
    resolution: Annotated[int, typer.Option("--resolution", help="Side of the prepared pictures in pixels.")] = 28,
    channels: Annotated[int, typer.Option("--channels", help="1 for grey, 3 for colour.")] = 1,
    store: StorePath = DEFAULT_STORE,
    out: Annotated[Path, typer.Option("--out", help="The contact sheet to write.")] = Path("contact-sheet.png"),
    accuracy: Annotated[
        bool, typer.Option("--accuracy", metavar="", help="Train the classifier, too, and say what it gets right.")
    ] = False,
) -> None:
    """Look at a data set before using it: what is read, what is not and why, classes, sizes, split, a contact sheet."""
    from harness.data import prepare
    from harness.inspection import contact_sheet, full_lines, wrapped

    _at_least_one("resolution", resolution)
    if channels not in (1, 3):
        raise UserError(f"channels={channels} is not allowed; allowed: 1 (grey) or 3 (colour)")
    if not out.parent.is_dir():
        raise UserError(f"cannot write {out}: {out.parent} is not a folder; name another place with --out")
    opened = _existing(store)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is warned of is among the lines
        cache = opened.cache if opened else Path(scratch)
        data = prepare(dataset, resolution=resolution, channels=channels, cache=cache)
        for line in full_lines(data):
            typer.echo(line)
        if accuracy:
            from harness.metrics import proof_in_words
            from harness.scoring.extractors import require_labels
            from harness.scoring.yardstick import prepare_classifier

            require_labels("classifier", data)
            found = prepare_classifier(data, cache, kept=opened and opened.layout.extractors)
            for line in wrapped(proof_in_words(found.proof()), "  accuracy  "):
                typer.echo(line)
        contact_sheet(data).save(out, format="PNG")
    typer.echo(f"wrote {_short(out)}")


@app.command()
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

    study = _catalog(context).find(name)
    profile = _profile(study, profile)
    _at_least_one("workers", workers)
    workers = workers or default_workers() or 1
    made = make_plan(study, profile, seeds, _existing(store))
    for line in describe(made, workers, cache_folder(Layout(store).cache, "downloads")):
        typer.echo(line)


@app.command()
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
) -> None:
    """Run the trials that the store lacks, then write the report and print its answers."""
    with _kept(store):
        for folder in (Path.cwd(), *sys.path):  # which Ray tells its workers
            require_utf8("folder", folder)
        study = _catalog(context).find(name)
        profile = _profile(study, profile)
        if until_answered and seeds is not None:
            raise UserError(f"--seeds {seeds} fixes the number that --until-answered is to find; leave one of them out")
        if budget is not None and not until_answered:
            raise UserError(
                f"--budget {budget} belongs to --until-answered, which adds seeds until it is spent; name both"
            )
        _at_least_one("seeds", seeds)
        _at_least_one("workers", workers)
        budget_seconds = _seconds(budget or DEFAULT_BUDGET)
        from harness.execution.cluster import Cluster, snapshot_folder

        cluster = Cluster(
            address=address,
            gpus_per_trial=gpus_per_trial,
            snapshots=None if snapshots is None else snapshot_folder(snapshots),
        )
        cluster.require_reachable()
        was_there = store.exists()
        opened = Store(store, create=True)
        from harness.execution.ahead import one_ray
        from harness.execution.machine import require_fit
        from harness.execution.plan import default_workers
        from harness.execution.run_study import run_study
        from harness.execution.sequential import run_until_answered

        try:
            require_fit(opened.root, terminal.say)
            with opened.locks.at_work(), one_ray() as ray:
                workers = default_workers(cluster) if workers is None else workers
                common, weights = (opened, workers, terminal.say, cluster), extractor_weights
                if until_answered:
                    complete = run_until_answered(
                        study, profile, *common, budget_seconds=budget_seconds, extractor_weights=weights
                    )
                else:
                    complete = run_study(study, profile, seeds, *common, extractor_weights=weights)
                ray.close()
                _report(study, profile, opened, full=full, unless_unchanged=True)
        except UserError:
            if not was_there:
                integrity.remove_if_unused(opened)
            raise
        if not complete:
            raise typer.Exit(1)


@app.command()
def report(
    context: typer.Context,
    name: Name,
    profile: ProfileName = None,
    store: StorePath = DEFAULT_STORE,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="By whose scores: a protocol's id, or an extractor's name.")
    ] = None,
    full: Full = False,
) -> None:
    """Write the report from the store alone, and print its answers."""
    study, opened = _catalog(context).find(name), Store(store)
    _report(study, _profile(study, profile), opened, protocol, full=full)


@app.command()
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
    with _kept(store, "scores so far"):
        study, opened = _catalog(context).find(name), Store(store)
        profile = _profile(study, profile)
        from harness.execution.cluster import Cluster
        from harness.execution.machine import require_fit
        from harness.execution.plan import default_workers
        from harness.execution.rescore import rescore

        cluster = Cluster(address=address, gpus_per_trial=gpus_per_trial)
        cluster.require_reachable()
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
        typer.echo(f"`python -m studies {words}` goes by it")
        if not complete:
            raise typer.Exit(1)


@app.command()
def doctor(store: StorePath = DEFAULT_STORE) -> None:
    """Look at what a run depends on here, and say it line by line; exit status 1 if something would stop a run."""
    from harness.execution.machine import findings

    stopped = False
    for finding in findings(store):
        head = f"{finding.verdict:<8} {finding.what:<16} "
        found = finding.found + (f"; {finding.advice}" if finding.advice else "")
        typer.echo(textwrap.fill(found, 80, initial_indent=head, subsequent_indent=" " * len(head)))
        stopped |= finding.verdict == "refused"
    if stopped:
        raise typer.Exit(1)


@app.command()
def check(
    store: Annotated[Path, typer.Argument(help="The store.")] = DEFAULT_STORE,
    machine: Annotated[
        bool, typer.Option("--machine", metavar="", help="Look at the machine instead, as `doctor` does.")
    ] = False,
) -> None:
    """Read every file of a store and say what is damaged; exit status 1 if anything is. Changes nothing."""
    if machine:
        return doctor(store)
    opened = Store(store)
    damages = list(integrity.check(opened))
    for damage in damages:
        typer.echo(f"{damage.path.relative_to(opened.root)}: {damage.reason}")
    typer.echo(f"{opened.root}: {integrity.summary(opened)}; {len(damages) or 'nothing'} damaged")
    if damages:
        typer.echo(
            "the next `run` of a study moves its damaged trials to quarantine/ and makes them again; damaged plans and "
            "references go there, too; what belongs to no study is yours to move away"
        )
        raise typer.Exit(1)


@app.command()
def prune(
    store: Annotated[Path, typer.Argument(help="The store.")] = DEFAULT_STORE,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", metavar="", help="Delete what is in the quarantine, too.")
    ] = False,
) -> None:
    """Delete what can be made again: prepared data, features, snapshots of finished trials. No result is touched."""
    freed = integrity.prune(Store(store), also_quarantine=quarantine)
    for place, size in freed.items():
        typer.echo(f"{place}: {size / 2**20:,.1f} MiB")
    typer.echo(f"{sum(freed.values()) / 2**20:,.1f} MiB freed")


@app.command()
def summary(
    context: typer.Context,
    profile: Annotated[str, typer.Option("--profile", help="Of all studies: smoke, laptop, paper.")] = DEFAULT_PROFILE,
    store: StorePath = DEFAULT_STORE,
    full: Full = False,
) -> None:
    """Answer every claim of the founding document on one page, from all studies in the store."""
    from harness.reporting import report
    from harness.reporting.summary_page import summary_page
    from harness.reporting.terminal import claims_for_terminal

    catalog, opened, profile = _catalog(context), Store(store), located(profile)
    page = summary_page(catalog.studies, catalog.claims, profile, opened)
    terminal.say("writing the summary")
    paths = report.write(page, opened.layout.report_folder("summary", profile))
    terminal.show(*claims_for_terminal(page.tables["claims"].numbers, full=full))
    _wrote(paths, full=full)


@app.command()
def compare(
    store_a: Annotated[Path, typer.Argument(help="A store.", show_default=False)],
    store_b: Annotated[Path, typer.Argument(help="Another, of another version of the code.", show_default=False)],
    profile: Annotated[str | None, typer.Option("--profile", help="Only this profile; all if left out.")] = None,
) -> None:
    """Say which arms of two stores differ beyond seed noise."""
    from harness.analysis.compare import compare

    table = compare(Store(store_a), Store(store_b), profile and located(profile))
    for place, arms in table.groupby(table.study + " (" + table.profile + ")", sort=False):
        typer.echo(f"{place}:")
        for arm, sentence in zip(arms.arm, arms.sentence, strict=True):
            typer.echo(f"  {arm}: {sentence}" if arm else f"  {sentence}")
    counts = Counter(table.outcome)
    typer.echo("in all: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))


@app.command()
def export(
    store: StorePath = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write; the store's reports.")] = None,
) -> None:
    """Write everything in the store as one table, a row per trial and protocol: results.parquet and results.csv.

    Untrained baselines are among the rows, with the arm "NAME, untrained" and kimg 0. Classifiers that the store
    trained for its own data go along, in the folder `extractors`: others can score by them, with --extractor-weights.
    """
    from harness.analysis.compare import write_whole_table

    opened = Store(store)
    folder = out or opened.layout.reports
    rows = write_whole_table(opened, folder)
    typer.echo(f"wrote {count(rows, 'row')} to {_short(folder / 'results.parquet')} and .csv")


def _catalog(context: typer.Context) -> Catalog:
    """What `main` was given."""
    return context.obj


def _report(
    study: Study,
    profile: str,
    store: Store,
    protocol: str | None = None,
    *,
    full: bool,
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
    out = store.layout.report_folder(study.name, profile)
    paths = report.last(out, study.name, made_from) if unless_unchanged else []
    if not paths:
        terminal.say("writing the report")
        paths = report.write(study_page(evidence, protocol, processors()), out, made_from)
    width = terminal.width(sys.stdout)
    below = -(-len(str(_short(paths[0]))) // width) + 1  # the page's path, and the shell's next prompt
    lines = terminal.height(sys.stdout) - below
    terminal.show(*study_for_terminal(evidence, width=width, lines=lines, full=full))
    _wrote(paths, full=full)


def _wrote(paths: list[Path], *, full: bool) -> None:
    """The files of a report, its page last; without `full` the page alone."""
    page, *others = paths
    for path in [*others * full, page]:
        typer.echo(_short(path))


def _profile(study: Study, typed: str | None) -> str:
    """The profile that was asked for, refused where the study has none of that name; else the study's own default."""
    if typed is not None:
        return study.profile(typed).name
    names = [profile.name for profile in study.profiles]
    if DEFAULT_PROFILE in names or not names:
        return study.profile(DEFAULT_PROFILE).name
    terminal.say(f"{study.name} has no profile {DEFAULT_PROFILE}; taking {names[0]}, of: {', '.join(names)}")
    return names[0]


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UserError(f"{name}={value} is out of range; allowed: at least 1")


def _seconds(budget: str) -> float:
    """A length of time in words: 90s, 30m, 2h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget)
    if found is None or float(found[1]) == 0:
        raise UserError(f"budget {budget!r} is not a length of time; allowed: 90s, 30m, 2h and the like")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _existing(path: Path) -> Store | None:
    """The store at `path`; None where nothing is there yet."""
    return Store(path) if path.exists() else None


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@contextlib.contextmanager
def _kept(store: Path, what: str = "") -> Iterator[None]:
    """Where an interrupted command can be given again: it says what it keeps, in one line."""
    try:
        yield
    except KeyboardInterrupt:
        what = what or count(len(Store(store).finished()) if is_store(store.expanduser()) else 0, "finished trial")
        terminal.say(f"interrupted: {what} kept in {store}; the same command goes on from there")
        raise typer.Exit(interrupts.status()) from None
