"""What several commands need: the studies, profiles, stores and numbers that were named, and how ends are told."""

import contextlib
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import typer

from harness import interrupts, terminal
from harness.analysis.wording import count
from harness.catalog import Catalog
from harness.errors import UserError
from harness.storage.layout import is_store
from harness.storage.store import Store
from harness.study import Study

DEFAULT_STORE = Path("runs")
DEFAULT_PROFILE = "laptop"


def catalog_of(context: typer.Context) -> Catalog:
    """What `main` was given."""
    return context.obj


def profile_of(study: Study, typed: str | None) -> str:
    """The profile that was asked for, refused where the study has none of that name; else the study's own default."""
    if typed is not None:
        return study.profile(typed).name
    names = [profile.name for profile in study.profiles]
    if DEFAULT_PROFILE in names or not names:
        return study.profile(DEFAULT_PROFILE).name
    if len(names) > 1:
        terminal.say(f"{study.name} has no profile {DEFAULT_PROFILE}; taking {names[0]}, of: {', '.join(names)}")
    return names[0]


def at_least_one(name: str, value: int | None) -> None:
    """Refuse a number below 1; None is one that was left out."""
    if value is not None and value < 1:
        raise UserError(f"{name}={value} is out of range; allowed: at least 1")


def existing(path: Path) -> Store | None:
    """The store at `path`; None where nothing is there yet, or an empty folder."""
    with contextlib.suppress(OSError, RuntimeError):  # of these Store says what is wrong
        there = path.expanduser()
        if not there.exists() or (there.is_dir() and not any(there.iterdir())):
            return None
    return Store(path)


def wrote(paths: list[Path], *, full: bool, open_page: bool = False) -> None:
    """The files of a report, its page last; without `full` the page alone. With `open_page`, show it in a browser."""
    page, *others = paths
    for path in [*others * full, page]:
        typer.echo(short(path))
    if open_page and not webbrowser.open(page.resolve().as_uri()):
        terminal.say("no browser was found here; open that page in one")


def short(path: Path) -> Path:
    """A path as a person here would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@contextlib.contextmanager
def kept(store: Path, what: str = "") -> Iterator[None]:
    """Where an interrupted command can be given again: it says what it keeps, in one line."""
    try:
        yield
    except KeyboardInterrupt:
        what = what or count(len(Store(store).finished()) if is_store(store.expanduser()) else 0, "finished trial")
        terminal.say(f"interrupted: {what} kept in {store}; the same command goes on from there")
        raise typer.Exit(interrupts.status()) from None
