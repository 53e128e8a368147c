"""The end of a command, in a terminal of any width: counts of verdicts, a line each claim, what weakens them most."""

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import get_args

import pandas as pd
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.evidence import Evidence
from harness.analysis.verdicts import Verdict
from harness.analysis.wording import count
from harness.reporting import provenance
from harness.reporting.tables import formatted, formatted_verdicts, overview_table

MOST_WARNINGS = 5
"""Sentences of warning at the end of a run; all are on the page."""
LONGEST_WARNING = 240
"""Characters of such a sentence."""


def study_for_terminal(evidence: Evidence, *, full: bool = False) -> list[RenderableType]:
    """The end of a run.

    Args:
        evidence: What is told.
        full: Whether to add the arms' scores, every answer's sentence and all that a reader must know.
    """
    answers = evidence.answers
    verdicts = formatted_verdicts(answers)[["claim", "verdict", "effect [95%]", "n"]]
    told: list[RenderableType] = [Text(evidence.study.title, style="bold"), _counted([a.verdict for a in answers])]
    told += ["", _table(verdicts)] if answers else []
    found = [*provenance.extractor_proof(evidence), *provenance.warnings(evidence)]
    if not full:
        return [*told, "", *_in_short(found), ""]
    scores = formatted(overview_table(evidence))
    scores = scores.drop(columns=[c for c in scores if c.startswith(("KID", "precision", "recall"))])
    sentences = [f"- {answer.sentence}" for answer in answers]
    return [*told, "", _table(scores), *(f"\n{line}" for line in (*sentences, *found)), ""]


def claims_for_terminal(table: pd.DataFrame, *, full: bool = False) -> list[RenderableType]:
    """The summary: counts of verdicts and a line each claim of the summary's table; with effects where full."""
    shown = table if full else table[["claim", "verdict", "n"]]
    return [_counted(list(table.verdict)), "", _table(shown)]


def _counted(verdicts: Sequence[str]) -> str:
    """12 claims: 1 supported, 0 refuted, 11 unresolved."""
    counts = dict.fromkeys(get_args(Verdict), 0) | Counter(verdicts)
    return f"{count(len(verdicts), 'claim')}: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}"


def _table(shown: pd.DataFrame) -> Table:
    """A formatted table that fits any terminal: words are wrapped, and numbers only where they must be."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in shown:
        words = column in ("arm", "claim", "verdict")
        table.add_column(column, justify="left" if words else "right", overflow="fold")
    colours = {"supported": "green", "refuted": "red", "unresolved": "dim"}
    for row in shown.itertuples(index=False):
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    return table


def _in_short(found: Sequence[str]) -> list[str]:
    """The first sentence of each warning; no more than MOST_WARNINGS sentences, and none is long."""
    shown = found if len(found) <= MOST_WARNINGS else found[: MOST_WARNINGS - 1]
    first = [re.split(r"(?<=[.!?])\s", warning)[0] for warning in shown]
    short = [textwrap.shorten(sentence, LONGEST_WARNING, placeholder=" …") for sentence in first]
    return short + [f"{len(found) - len(shown)} more warnings stand on the page."] * (len(shown) < len(found))
