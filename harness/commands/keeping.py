"""Commands about what is there: a data set, this machine, the files of a store, and how two stores compare."""

import tempfile
import textwrap
import warnings
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from harness import terminal
from harness.commands.shared import DEFAULT_STORE, at_least_one, existing, short
from harness.errors import UserError
from harness.options import StorePath
from harness.questions import located
from harness.storage import integrity
from harness.storage.store import Store


def inspect(
    dataset: Annotated[str, typer.Argument(help="folder:PATH, or a data set's name.", show_default=False)],
    resolution: Annotated[
        int | None, typer.Option("--resolution", help="Side in pixels; 28, or what profiles take of them.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", help="1 for grey, 3 for colour; 1, or what profiles take.")
    ] = None,
    store: StorePath = DEFAULT_STORE,
    out: Annotated[Path, typer.Option("--out", help="The contact sheet to write.")] = Path("contact-sheet.png"),
    accuracy: Annotated[
        bool, typer.Option("--accuracy", metavar="", help="Train the classifier, too, and say what it gets right.")
    ] = False,
) -> None:
    """Look at a data set before using it: what is read, what is not and why, classes, sizes, split, a contact sheet."""
    from harness.data import prepare
    from harness.inspection import contact_sheet, full_lines, wrapped
    from harness.sources import natural_shape

    at_least_one("resolution", resolution)
    usual = {"resolution": 28, "channels": 1} | natural_shape(dataset)[0]
    resolution = usual["resolution"] if resolution is None else resolution
    channels = usual["channels"] if channels is None else channels
    if channels not in (1, 3):
        raise UserError(f"channels={channels} is not allowed; allowed: 1 (grey) or 3 (colour)")
    if not out.parent.is_dir():
        raise UserError(f"cannot write {out}: {out.parent} is not a folder; name another place with --out")
    opened = existing(store)
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
    typer.echo(f"wrote {short(out)}")


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


def check(
    store: Annotated[Path, typer.Argument(help="The store.")] = DEFAULT_STORE,
    machine: Annotated[
        bool, typer.Option("--machine", metavar="", help="Look at the machine instead, as `doctor` does.")
    ] = False,
) -> None:
    """Read every file of a store and say what is damaged; exit status 1 if anything is. Changes nothing."""
    if machine:
        doctor(store)
        return
    opened = Store(store)
    damages = list(integrity.check(opened))
    for damage in damages:
        terminal.tell(f"{damage.path.relative_to(opened.root)}: {damage.reason}")
    terminal.tell(f"{opened.root}: {integrity.summary(opened)}; {len(damages) or 'nothing'} damaged")
    if damages:
        terminal.tell(
            "the next `run` of a study moves its damaged trials to quarantine/ and makes them again; damaged plans and "
            "references go there, too; what belongs to no study is yours to move away"
        )
        raise typer.Exit(1)


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


def compare(
    store_a: Annotated[Path, typer.Argument(help="A store.", show_default=False)],
    store_b: Annotated[Path, typer.Argument(help="Another, of another version of the code.", show_default=False)],
    profile: Annotated[str | None, typer.Option("--profile", help="Only this profile; all if left out.")] = None,
) -> None:
    """Say which arms of two stores differ beyond seed noise."""
    from harness.analysis.compare import compare

    table = compare(Store(store_a), Store(store_b), profile and located(profile))
    for place, arms in table.groupby(table.study + " (" + table.profile + ")", sort=False):
        terminal.tell(f"{place}:")
        for arm, sentence in zip(arms.arm, arms.sentence, strict=True):
            terminal.tell(f"  {arm}: {sentence}" if arm else f"  {sentence}")
    counts = Counter(table.outcome)
    terminal.tell("in all: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
