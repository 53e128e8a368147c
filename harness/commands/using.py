"""Commands that use results: watch a run, export tables, sample from a trial, hand its generator to other programs."""

import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.live import Live
from rich.text import Text

from harness import terminal
from harness.analysis.wording import count
from harness.commands.shared import DEFAULT_STORE, at_least_one, catalog_of, short, wrote
from harness.errors import UserError, unknown_name
from harness.files import write_file
from harness.options import Open, StoreArgument, StorePath
from harness.questions import located
from harness.storage.store import Store

if TYPE_CHECKING:
    from harness.using.status import Watcher

LOOK_AGAIN = 2.0
"""Seconds from one look at a store to the next."""

MODELS = {"torch": ".pt2", "onnx": ".onnx", "hub": ""}
"""What `export-model` writes -> the ending of its file; "" for a folder."""

LOOK = {
    "tensorboard": "tensorboard --logdir {}",
    "mlflow": "mlflow ui --backend-store-uri {}",
    "wandb": "wandb sync --sync-all {}/wandb",
    "trackio": "TRACKIO_DIR={} trackio show",
}
"""How people see what was given to a tracker."""

MOST_SAMPLES = 10_000
"""In one picture."""

TrialId = Annotated[
    str, typer.Argument(help="Its id, or enough of the beginning, or STUDY/ARM/SEED.", show_default=False)
]
Weights = Annotated[str | None, typer.Option("--weights", help="ema or raw; those that were scored if left out.")]
Code = Annotated[
    Path | None, typer.Option("--code", help="Your own file with its network, where that is elsewhere by now.")
]


def status(
    store: Annotated[Path, typer.Argument(help="The store.")] = DEFAULT_STORE,
    study: Annotated[str | None, typer.Option("--study", help="Only this study.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Only this profile.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", metavar="", help="Look again and again, until nothing is left to run.")
    ] = False,
) -> None:
    """Say how far studies are, arm by arm and seed by seed, from another terminal than that of the run."""
    from harness.using.status import Watcher

    watcher = Watcher(store=Store(store), study=study, profile=profile)
    console = terminal.live_console(sys.stdout) if watch else None
    if console is not None:
        with Live(console=console, auto_refresh=False) as live:
            while told := _status(watcher, terminal.width(sys.stdout)):
                room, (over, shown) = max(terminal.height(sys.stdout) - 2, 4), told
                if len(shown) > room:  # the last two say what marks mean and whether anybody works
                    shown = [*shown[: room - 3], f"  and {len(shown) - room + 1} more lines", *shown[-2:]]
                live.update(Text("\n".join(shown), no_wrap=True, overflow="ellipsis"), refresh=True)
                if over:
                    return
                time.sleep(LOOK_AGAIN)
    last: list[str] = []
    while True:
        over, told = _status(watcher, terminal.width(sys.stdout))
        if told != last:
            terminal.show(*(Text(line, no_wrap=True, overflow="ellipsis") for line in told))
        if over or not watch:
            return
        last = told
        time.sleep(LOOK_AGAIN)


def _status(watcher: "Watcher", width: int) -> tuple[bool, list[str]]:
    """Whether nothing is left to run, and what to tell, line by line: studies under way in full, others in a line."""
    from harness.using.status import legend, lines

    found = watcher.look()
    in_full = [one for one in found if not one.is_over or watcher.study or len(found) == 1]
    told = [line for one in found for line in lines(one, width, full=one in in_full)]
    told += [legend(in_full)] * bool(in_full)
    told += [f"no study has begun its trials in {watcher.store.root} yet"] * (not found)
    if watcher.at_work is not None:
        told.append(f"a run is at work here (process {watcher.at_work})")
    elif not all(one.is_over for one in found):
        told.append("nobody is at work here; `run` goes on from there")
    return watcher.is_over(found), told


def export(
    place: Annotated[
        Path | None, typer.Argument(metavar="STORE", help="The store, in place of --store.", show_default=False)
    ] = None,
    store: StorePath = DEFAULT_STORE,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; one among the store's reports if left out.")
    ] = None,
    to: Annotated[
        str, typer.Option("--to", help="table, or a tracker: tensorboard, mlflow, wandb, trackio.")
    ] = "table",
    study: Annotated[str | None, typer.Option("--study", help="Only this study; for trackers.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Only this profile; for trackers.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", metavar="", help="Of a run: give each trial to the tracker as it ends.")
    ] = False,
) -> None:
    """Write everything in the store as one table, results.parquet and results.csv, or give it to a tracker.

    The table has a row per trial and protocol. Untrained baselines are among the rows, with the arm "NAME, untrained"
    and kimg 0. Classifiers that the store trained for its own data go along, in the folder `extractors`: others can
    score by them, with --extractor-weights.

    With --to, give every trial to a tracker instead: its curves, scores, spec, and a picture of samples.
    """
    opened = Store(place or store)
    if to != "table":
        from harness.using.status import Watcher
        from harness.using.trackers import TRACKERS
        from harness.using.trackers import export as export_to

        if to not in TRACKERS:
            raise unknown_name("form", to, ["table", *TRACKERS])
        folder, profile = out or opened.layout.reports / to, profile and located(profile)
        shown = shlex.quote(str(short(folder)))
        written, there = export_to(opened, to, folder, study, profile, known=(known := set()))
        terminal.tell(f"wrote {count(written, 'run')} to {short(folder)}{f'; {there} were there' if there else ''}")
        terminal.tell(f"look at them with `{LOOK[to].format(shown)}`")
        watcher = Watcher(store=opened, study=study, profile=profile)
        while watch and not watcher.is_over(watcher.look()):
            time.sleep(LOOK_AGAIN)
            written, _ = export_to(opened, to, folder, study, profile, known=known)
            if written:
                terminal.tell(f"wrote {count(written, 'run')} more")
        return
    if study or profile or watch:
        raise UserError("--study, --profile and --watch are for --to a tracker; the table holds the whole store")
    from harness.analysis.compare import write_whole_table

    folder = out or opened.layout.reports
    rows = write_whole_table(opened, folder)
    typer.echo(f"wrote {count(rows, 'row')} to {short(folder / 'results.parquet')} and .csv")


def site(
    context: typer.Context,
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="The stores.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; an earlier site there is replaced.")] = Path(
        "site"
    ),
    code: Annotated[
        list[Path] | None, typer.Option("--code", help="Your own study's file; give it once for each.")
    ] = None,
    open_page: Open = False,
) -> None:
    """Make one static site of one or more stores: verdicts, studies, trials, and arms ranked by protocol.

    It needs no server and no network: open its index.html, or send the folder to a colleague. Nothing is written into
    the stores, and one with a file that was damaged or edited is refused.
    """
    from harness.execution.resources import processors
    from harness.site.build import build

    _require_writable(out, "")
    own = [str(path) for path in code or []]
    told = build(stores, out, catalog_of(context), own, processes=processors(), say=terminal.say)
    terminal.tell(f"wrote {told}")
    wrote([out / "index.html"], full=False, open_page=open_page)


def sample(
    store: StoreArgument,
    trial: TrialId,
    number: Annotated[int, typer.Option("-n", "--number", help="How many.")] = 64,
    seed: Annotated[int, typer.Option("--seed", help="Of the latents; 0 gives what was scored.")] = 0,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", metavar="", help="Each line leads from one latent to another.")
    ] = False,
    weights: Weights = None,
    code: Code = None,
    out: Annotated[Path, typer.Option("--out", help="The PNG picture to write.")] = Path("samples.png"),
) -> None:
    """Draw samples of a trial's generator, as it was scored, as one picture."""
    at_least_one("number", number)
    if number > MOST_SAMPLES:
        raise UserError(f"number={number} is out of range; allowed: at most {MOST_SAMPLES}")
    if interpolate and number < 4:
        raise UserError(f"number={number} is out of range; allowed with --interpolate: at least 4")
    _require_writable(out, ".png")
    from harness.using.trial import open_trial

    found = open_trial(store, trial)
    generator = found.generator(weights=_which(weights), code=code)
    from harness.using.pictures import sheet

    content, shown = sheet(generator, number, seed, interpolate=interpolate)
    write_file(out, content)
    terminal.tell(f"{found!r}".strip("<>"))
    terminal.tell(f"wrote {count(shown, 'sample')} to {short(out)}")


def export_model(
    store: StoreArgument,
    trial: TrialId,
    to: Annotated[str, typer.Option("--to", help="torch (torch.export), onnx, or hub: a folder for a model hub.")],
    weights: Weights = None,
    code: Code = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="What to write. Default: the trial's id, here.", show_default=False)
    ] = None,
) -> None:
    """Hand a trial's generator to other programs, and check that they get the same images, to 1e-5."""
    if to not in MODELS:
        raise unknown_name("kind of model", to, MODELS)
    if out is not None:
        _require_writable(out, MODELS[to])
    from harness.using.trial import open_trial

    found = open_trial(store, trial)
    out = out or Path(found.id + MODELS[to])
    generator = found.generator(weights=_which(weights), code=code)
    if to == "hub":
        from harness.using.hub import write_folder

        which = weights or (found.protocol.weights if found.protocol else "ema")
        write_folder(found, generator, which, out)
    else:
        from harness.using import models

        write_file(out, {"torch": models.exported, "onnx": models.onnx}[to](generator))
    terminal.tell(f"{found!r}".strip("<>"))
    terminal.tell(f"wrote {short(out)}; its images agree with the generator's to 1e-5")


def _which(weights: str | None) -> Literal["ema", "raw"] | None:
    if weights not in (None, "ema", "raw"):
        raise unknown_name("weights", weights, ("ema", "raw"))
    return weights


def _require_writable(out: Path, ending: str) -> None:
    if not out.absolute().parent.is_dir():
        raise UserError(f"cannot write {out}: {out.parent} is not a folder; name another place with --out")
    if not os.access(out.absolute().parent, os.W_OK):
        raise UserError(f"cannot write {out}: nothing can be written into {out.absolute().parent}; name another place")
    if ending and (out.suffix.lower() != ending or out.is_dir()):
        raise UserError(f"cannot write {out}: it must be a file that ends in {ending}; name another with --out")
