"""The end of a command, in a terminal of any width: counts of verdicts, a line each claim, what weakens them most."""

import io
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import get_args

import pandas as pd
from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness import terminal
from harness.analysis.evidence import Evidence
from harness.analysis.sentences import in_brief, whose
from harness.analysis.statistics import FEWEST_FOR_A_CLAIM
from harness.analysis.verdicts import Answer, Verdict
from harness.analysis.wording import count
from harness.reporting import provenance
from harness.reporting.tables import by_metrics, effect_of, formatted, overview_table, why_no_interval
from harness.reporting.tuning_section import tuning_tables

MOST_WARNINGS = 5
"""Sentences of warning at the end of a run; all are on the page."""
BELOW = 3
"""Lines of a terminal below the summary: the page's path, which may need two, and the shell's next prompt."""
COLOURS = {
    "supported": "green",
    "refuted": "red",
    "unresolved": "dim",
    "depends on the metric": "magenta",
    "not testable at this budget": "yellow",
}
SELDOM = ("depends on the metric", "not testable at this budget")
"""Verdicts that are not counted where there are none."""


def study_for_terminal(evidence: Evidence, *, width: int, lines: int, full: bool = False) -> list[RenderableType]:
    """The end of a run.

    Args:
        evidence: What is told.
        width: Columns that there are.
        lines: That it may take. Where the claims need more, those without a verdict are left out first, and counted.
        full: Whether to take all the lines it needs, and to add the arms' scores, every answer's sentence and all that
            a reader must know.
    """
    answers = evidence.answers
    counts = _counted([a.verdict for a in answers])
    title: list[RenderableType] = [Text(evidence.design.title, style="bold"), counts, ""]
    found = provenance.warnings(evidence)
    if full:
        scores = formatted(overview_table(evidence))
        scores = scores.drop(columns=[c for c in scores if c.startswith(("KID", "precision", "recall"))])
        sentences = [f"- {answer.sentence}" for answer in answers]
        claims, found = _claims(evidence, set(range(len(answers)))), [*why_no_interval(answers), *found]
        tuning = [part for table in tuning_tables(evidence).values() for part in ("", _table(table.shown))]
        return [*title, *claims, _table(scores), *tuning, *(f"\n{line}" for line in (*sentences, *found)), ""]
    settled_first = sorted(range(len(answers)), key=lambda i: answers[i].verdict == "unresolved")
    for n in range(len(answers), 0, -1):
        shown = set(settled_first[:n])
        told = _in_short(found) + _in_short(why_no_interval([answers[i] for i in shown]))
        parts = [*title, *_claims(evidence, shown), *told, ""]
        if n == 1 or _height(parts, width) <= lines:
            return parts
    return [*title, *_in_short(found), ""]


def _claims(evidence: Evidence, shown: Collection[int]) -> list[RenderableType]:
    """These answers, by their place, below the network and the factor that they are about; how many others."""
    answers, question_of = evidence.answers, evidence.design.question
    if not answers:
        return []
    table = _empty_table(("claim", "verdict", "effect [95%]", "seeds"))
    groups: dict[str, list[Answer]] = {}
    for answer in (answers[i] for i in sorted(shown)):
        question = question_of(answer.question)
        groups.setdefault(f"{whose(question)}: {question.factor.label}", []).append(answer)
    for subject, group in groups.items():
        table.add_row(Text(subject, style="bold"))
        for answer in group:
            claim = Text(in_brief(answer.claim, question_of(answer.question)))
            verdict = Text(answer.verdict, style=COLOURS[answer.verdict])
            table.add_row(Padding(claim, (0, 0, 0, 2)), verdict, Text(effect_of(answer)), str(answer.n))
            for by, says, seen, seeds in by_metrics(answer, len(question_of(answer.question).also)):
                table.add_row(Padding(Text(by), (0, 0, 0, 4)), Text(says, style=COLOURS[says]), Text(seen), seeds)
    left = [answer.verdict for i, answer in enumerate(answers) if i not in shown]
    if not left:
        return [table, ""]
    settled = len(left) - left.count("unresolved")
    kind = f"{settled} of them settled" if settled else "unresolved"
    return [table, f"and {len(left)} more, {kind}: on the page below, and with --full", ""]


def _height(parts: Sequence[RenderableType], width: int) -> int:
    """Lines that these take, one below the other."""
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    return capture.get().count("\n")


def claims_for_terminal(
    table: pd.DataFrame, *, width: int | None = None, lines: int | None = None, full: bool = False
) -> list[RenderableType]:
    """The summary: counts of verdicts, and a line each claim of the summary's table that has results.

    Args:
        table: The summary's, as numbers and words.
        width: Columns that there are; by default those of stdout.
        lines: That it may take; by default what stdout has beside the page's path. Where the claims need more, those
            without a verdict are left out first, and counted.
        full: Whether to show all claims, with all that is known of them.
    """
    shown = table if full else table[["claim", "verdict", "n"]]
    words = {"no results": "without results"}
    told = ["with answers that differ" if "," in verdict else words.get(verdict, verdict) for verdict in table.verdict]
    counts = [_counted(told), ""]
    if full:
        return [*counts, _table(shown)]
    width, lines = width or terminal.width(sys.stdout), lines or terminal.height(sys.stdout) - BELOW
    there = [i for i, verdict in enumerate(table.verdict) if verdict not in ("no results", "not tested")]
    settled_first = sorted(there, key=lambda i: table.verdict[i] == "unresolved")
    for n in range(len(there), 0, -1):
        rows, left = _with_heads(table.claim, settled_first[:n]), settled_first[n:]
        empty = len(table) - len({*rows, *there})
        kind = "unresolved" if {table.verdict[i] for i in left} <= {"unresolved"} else "with results"
        more = [f"{len(left)} more {kind}"] * bool(left) + [f"{empty} without results"] * bool(empty)
        noted = [f"and {', '.join(more)}: on the page below, and with --full"] * bool(more)
        parts = [*counts, _table(shown.iloc[rows]), *noted, *_exploratory([table.n[i] for i in there]), ""]
        if n == 1 or _height(parts, width) <= lines:
            return parts
    return [*counts, "No study has results of these claims yet.", ""]


def _with_heads(claims: Sequence[str], places: Sequence[int]) -> list[int]:
    """These places in order, and those of the claims that the ones among them go on from, which begin with "..."."""
    found = set(places)
    for place in places:
        while claims[place].startswith("..."):
            place -= 1
        found.add(place)
    return sorted(found)


def _exploratory(seeds: Sequence[str]) -> list[str]:
    """Whether claims rest on too few seeds, of which the table tells those of one or of several answers: 6, 3–6."""
    few = sum(int(n.split("–")[0]) < FEWEST_FOR_A_CLAIM for n in seeds)
    return [
        f"Exploratory: {few} of {count(len(seeds), 'claim')} with results had fewer than {FEWEST_FOR_A_CLAIM} seeds."
    ] * bool(few)


def _counted(verdicts: Sequence[str]) -> str:
    """12 claims: 1 supported, 0 refuted, 11 unresolved."""
    found = Counter(verdicts)
    counts = {v: found[v] for v in get_args(Verdict) if found[v] or v not in SELDOM} | found
    return f"{count(len(verdicts), 'claim')}: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}"


def _table(shown: pd.DataFrame) -> Table:
    """A formatted table that fits any terminal: words are wrapped, and numbers only where they must be."""
    table = _empty_table(shown.columns)
    for row in shown.itertuples(index=False):
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    return table


def _empty_table(columns: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        words = column in ("arm", "claim", "verdict")
        table.add_column(column, justify="left" if words else "right", overflow="fold")
    return table


def _in_short(found: Sequence[str]) -> list[str]:
    """The first sentence of each warning, which says it all in short; no more than MOST_WARNINGS sentences."""
    shown = found if len(found) <= MOST_WARNINGS else found[: MOST_WARNINGS - 1]
    short = [re.split(r"(?<=[.!?])\s", warning)[0] for warning in shown]
    return short + [f"{len(found) - len(shown)} more warnings stand on the page."] * (len(shown) < len(found))
