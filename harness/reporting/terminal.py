"""The end of a command, in a terminal of any width: counts of verdicts, a line each claim, what weakens them most."""

import io
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import get_args

import pandas as pd
from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.analysis.evidence import Evidence
from harness.analysis.sentences import in_brief, whose
from harness.analysis.verdicts import Answer, Verdict
from harness.analysis.wording import count, effect
from harness.reporting import provenance
from harness.reporting.tables import formatted, formatted_verdicts, overview_table

MOST_WARNINGS = 5
"""Sentences of warning at the end of a run; all are on the page."""
COLOURS = {"supported": "green", "refuted": "red", "unresolved": "dim"}


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
    found = [*provenance.extractor_proof(evidence), *provenance.warnings(evidence)]
    if full:
        scores = formatted(overview_table(evidence))
        scores = scores.drop(columns=[c for c in scores if c.startswith(("KID", "precision", "recall"))])
        sentences = [f"- {answer.sentence}" for answer in answers]
        claims = _claims(evidence, set(range(len(answers))))
        return [*title, *claims, _table(scores), *(f"\n{line}" for line in (*sentences, *found)), ""]
    if any(a.n and math.isnan(a.low) and "[–]" in effect(a.effect, a.low, a.high, a.scale) for a in answers):
        found.append("[–] stands where seeds are too few for an interval.")
    told = _in_short(found)
    settled_first = sorted(range(len(answers)), key=lambda i: answers[i].verdict == "unresolved")
    for n in range(len(answers), 0, -1):
        parts = [*title, *_claims(evidence, set(settled_first[:n])), *told, ""]
        if n == 1 or _height(parts, width) <= lines:
            return parts
    return [*title, *told, ""]


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
        effects = formatted_verdicts(group)["effect [95%]"]
        for answer, known in zip(group, effects, strict=True):
            claim = Text(in_brief(answer.claim, question_of(answer.question)))
            verdict = Text(answer.verdict, style=COLOURS[answer.verdict])
            table.add_row(Padding(claim, (0, 0, 0, 2)), verdict, Text(known), str(answer.n))
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


def claims_for_terminal(table: pd.DataFrame, *, full: bool = False) -> list[RenderableType]:
    """The summary: counts of verdicts and a line each claim of the summary's table; with effects where full."""
    shown = table if full else table[["claim", "verdict", "n"]]
    words = {"no results": "without results"}
    told = ["with answers that differ" if "," in verdict else words.get(verdict, verdict) for verdict in table.verdict]
    return [_counted(told), "", _table(shown)]


def _counted(verdicts: Sequence[str]) -> str:
    """12 claims: 1 supported, 0 refuted, 11 unresolved."""
    counts = dict.fromkeys(get_args(Verdict), 0) | Counter(verdicts)
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
