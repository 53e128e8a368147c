"""Run everything that is published here, then write its pages into reports/published: `make publish`.

    python -m reports.publish [--store runs] [--only-ran [--add]]

It may be interrupted, and goes on from there: what the store holds is not run again. Each study's page is taken as
`report` writes it, beside the share of its verdicts that agree with an earlier run's (reports/published/earlier), or
with those of the same study on digits at the laptop's budget, or of a tuned study without tuning.
"""

import argparse
import csv
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.analysis.wording import effect
from harness.storage.layout import Layout
from harness.storage.store import Store
from harness.tuning import search_name
from studies.catalog import STUDIES

HOME = Path(__file__).parent / "published"
EARLIER = HOME / "earlier"
DOCUMENT = ("architecture", "depth", "stabilization", "noise")
PAGES = (
    *((study, "laptop") for study in (*DOCUMENT, "modern", "combined", "aa", "rules", "number-format")),
    *((study, profile) for profile in ("alternating", "long") for study in DOCUMENT),
    *((study, f"laptop@{data}") for data in ("fashion-mnist", "openclipart") for study in ("architecture", "noise")),
    ("architecture", "long@openclipart"),
    *((study, "laptop") for study in ("architecture-tuned", "aa-tuned", "referee-r3gan")),
)
"""Study and profile of each page, in the order in which they run and are listed."""

CHANGES = ("turned", "opened", "closed")
"""What can become of a verdict, beside "same"."""

RENAMED = {"2 G steps a D step": "2 G steps per D step"}
"""Levels that were called otherwise in the earlier run."""

TAKEN = ("overview.csv", "results.csv", "verdicts.csv")
WHERE_THERE = ("claims.csv", "tuning.csv", "untuned.csv", "published.csv")
INTRODUCTION = """\
# Results of real runs

Each page ends with its protocol, commits, versions, costs and the command that makes it again. `make publish` wrote
them from one store, but for the tuned studies and the refereed paper: these ran later, in a second store, of which the
summary knows nothing (`python -m reports.publish --only-ran --add`). The trials of `long` on digits ran on a GPU, by
`run --profile long --gpus-per-trial 0.0625` under an older torch, and were put into the first store without their
weights. Verdicts on cost compare CPU seconds, because other work may have kept the machine busy; on the GPU seconds by
the clock, with sixteen trials on the card at once.

- [summary](summary/summary.md): every claim of the founding document on one page
"""
COMPARED = """
**Agreement** says how many verdicts are the same as those of another page, or decide nothing on either. A verdict
*opened* if it was decided there and is not here, *closed* the other way round, and *turned* if both are decided and
contradict each other.

- A page of another profile or other data is compared with the page of its own study on digits, at the laptop's budget.
- A page of a tuned study is compared with that of the study without tuning.
- The pages on digits at the laptop's budget are compared with those that stood here before: of the same networks, data
  and seeds, run on 2026-11-24 and 25 on two cores of an AMD EPYC, of a kind that trains DC apart (FC's trials are
  identical), scored by a classifier that each store trained for itself, with online curves of more points, and with an
  error rate for each question instead of each study. The tables of that run are in the folder `earlier`.
"""

DIFFERENCES = """
## Which verdicts another budget, update rule, data set or tuning changes

All that are not the same as on digits at the laptop's budget; those that turned come first.
"""


def folder_of(study: str, profile: str) -> Path:
    """Where a page is published: "depth", "depth-alternating", "architecture-fashion-mnist"."""
    plain, _, data = profile.partition("@")
    return HOME / "-".join((study, *[plain] * (plain != "laptop"), *[data] * bool(data)))


def publish(written: Path, folder: Path) -> None:
    """Replace a published page by one that `report` has written, with its pictures and its tables."""
    (page,) = written.glob("*.md")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(page, folder)
    shutil.copytree(written / "pictures", folder / "pictures")
    for name in (*TAKEN, *WHERE_THERE):
        if (written / name).exists():
            shutil.copy(written / name, folder)


def verdicts(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """(question, level) -> the row of a page's table of verdicts."""
    with (folder / "verdicts.csv").open(newline="", encoding="utf-8") as file:
        return {(row["question"], RENAMED.get(row["level"], row["level"])): row for row in csv.DictReader(file)}


def compared(study: str, profile: str) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    """What became of each verdict that the page to compare with has too, and its rows there and here."""
    other = _other(study, profile)
    if not other.exists():
        return []
    now, then = verdicts(folder_of(study, profile)), verdicts(other)
    both = [(then[claim], now[claim]) for claim in now if claim in then]
    return [(change(there["verdict"], here["verdict"]), there, here) for there, here in both]


def _other(study: str, profile: str) -> Path:
    """The folder of the page that a page is compared with."""
    if STUDIES[study].untuned:
        return folder_of(STUDIES[study].untuned, profile)
    return EARLIER / study if profile == "laptop" else folder_of(study, "laptop")


def agreement(study: str, profile: str) -> str:
    """How many verdicts are those of the page to compare with, and what became of the rest; "–" where there is none."""
    found = compared(study, profile)
    became = Counter(what for what, _, _ in found)
    others = [f"{became[name]} {name}" for name in CHANGES if became[name]]
    return (f"{became['same']} of {len(found)}" if found else "–") + (f" ({', '.join(others)})" if others else "")


def differences(pages: Iterable[tuple[str, str]]) -> str:
    """A table of the verdicts that other budgets, update rules or data change; those that turned first."""
    rows = [
        (
            CHANGES.index(what),
            f"| [{name}]({name}/{study}.md) | {here['claim']} | {what} | {told(there)} | {told(here)} |",
        )
        for study, profile in pages
        if _other(study, profile).parent == HOME  # and not an earlier run's
        for what, there, here in compared(study, profile)
        if what != "same" and (name := folder_of(study, profile).name)
    ]
    head = ["| page | claim | it | on digits, at the laptop's budget | here |", "|---|---|---|---|---|"]
    return "\n".join([DIFFERENCES, *head, *(row for _, row in sorted(rows, key=lambda row: row[0]))]) + "\n"


def told(row: Mapping[str, str]) -> str:
    """A verdict with its effect and interval: "refuted, ×0.92 [0.84, 0.98]"."""
    numbers = [float(row[name] or "nan") for name in ("effect", "low", "high")]
    return f"{row['verdict']}, {effect(*numbers, row['scale'])}"


def change(then: str, now: str) -> str:
    """What became of a verdict: "same", which two that decide nothing are, "opened", "closed" or "turned"."""
    before, after = (verdict in ("supported", "refuted") for verdict in (then, now))
    if then == now or not (before or after):
        return "same"
    return "turned" if before and after else "opened" if before else "closed"


def made(store: Store, study: str, profile: str) -> tuple[int, str, str]:
    """How many trials a page is of, a search's too, when they were made, and on which processors or GPUs."""
    plans = [store.read_plan(name, profile) or {"cells": []} for name in (study, search_name(study))]
    ran = [store.read_result(trial_id) for trial_id in {cell["trial_id"] for plan in plans for cell in plan["cells"]}]
    dates = sorted({result["provenance"]["date"][:10] for result in ran})
    machines = sorted({result["provenance"].get("gpu") or result["provenance"]["cpu"] for result in ran})
    return len(ran), " to ".join(dict.fromkeys((dates[0], dates[-1]))), ", ".join(machines)


def _search(page: tuple[str, str]) -> tuple[str, str]:
    """What a tuned study's search is called in a store."""
    return search_name(page[0]), page[1]


def listing(told: Mapping[tuple[str, str], tuple[int | str, str, str]]) -> str:
    """The table of all pages, of each of which `told` has what `made` says."""
    rows = ["| page | question | trials | made | on | agreement |", "|---|---|---|---|---|---|"]
    for study, profile in (page for page in PAGES if page in told):
        folder = folder_of(study, profile)
        trials, when, where = told[study, profile]
        title = STUDIES[study].title
        rows.append(
            f"| [{folder.name}]({folder.name}/{study}.md) | {title} | {trials} | {when} | {where} "
            f"| {agreement(study, profile)} |"
        )
    return "\n".join(rows) + "\n"


def listed() -> dict[tuple[str, str], tuple[int | str, str, str]]:
    """What the list that stands here says of each page: as `made` does."""
    found: dict[tuple[str, str], tuple[int | str, str, str]] = {}
    if not (HOME / "README.md").exists():
        return found
    for line in (HOME / "README.md").read_text(encoding="utf-8").splitlines():
        for page in PAGES:
            if line.startswith(f"| [{folder_of(*page).name}]") and line.count(" | ") == 5:
                _, _, trials, when, where, _ = line.split(" | ")
                found[page] = (trials, when, where)
    return found


def left_over(pages: Iterable[tuple[str, str]]) -> str:
    """Pages of a former run that are not made again yet, named as such."""
    new = {folder_of(*page) for page in pages}
    old = [page for page in PAGES if (folder := folder_of(*page)).exists() and folder not in new]
    links = ", ".join(f"[{folder_of(*page).name}]({folder_of(*page).name}/{page[0]}.md)" for page in old)
    return f"\nNot made again yet, and not comparable with these: {links}.\n" if old else ""


def main() -> None:
    """Run, report, copy, list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("runs"), help="where trials are kept")
    parser.add_argument("--only-ran", action="store_true", help="run nothing: publish what the store holds whole")
    parser.add_argument("--add", action="store_true", help="leave other pages here as they stand")
    options = parser.parse_args()
    command = [sys.executable, "-m", "studies"]
    kept = ["--store", str(options.store)]
    for study, profile in [] if options.only_ran else PAGES:
        subprocess.run([*command, "run", study, "--profile", profile, *kept], check=True)
    store, whole = Store(options.store), set()
    finished = set(store.finished())
    for plan in store.read_plans():
        if {cell["trial_id"] for cell in plan["cells"]} <= finished:
            whole.add((plan["study"], plan["profile"]))
    pages = [page for page in PAGES if page in whole and (not STUDIES[page[0]].tuning or _search(page) in whole)]
    told = listed() if options.add else {}
    for study, profile in pages:
        subprocess.run([*command, "report", study, "--profile", profile, *kept], check=True)
        publish(Layout(options.store).report_folder(study, profile), folder_of(study, profile))
        told[study, profile] = made(store, study, profile)
    if not options.add:
        subprocess.run([*command, "summary", *kept], check=True)
        publish(Layout(options.store).report_folder("summary", "laptop"), HOME / "summary")
    text = f"{INTRODUCTION}\n{listing(told)}{left_over(told)}{COMPARED}{differences(told)}"
    (HOME / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
