"""What a page is made of: blocks of text, tables and pictures, and their outputs as Markdown and in a notebook."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeAlias

import pandas as pd
from matplotlib.figure import Figure

from harness.reporting import figures, tables


@dataclass(frozen=True)
class Text:
    """Paragraphs of Markdown."""

    kind: ClassVar = "text"
    markdown: str


@dataclass(frozen=True)
class Table:
    """A table for people; its cells are words in Markdown, of several lines where they hold line ends."""

    kind: ClassVar = "table"
    cells: pd.DataFrame


@dataclass(frozen=True)
class Picture:
    """A figure, drawn when its bytes are first asked for."""

    kind: ClassVar = "picture"
    name: str  # of its file, without the ending
    alt: str  # what it shows, for those who cannot see it
    figure: Figure

    @cached_property
    def png(self) -> bytes:
        """The figure as a PNG file."""
        return figures.as_png(self.figure)

    @property
    def base64(self) -> str:
        """The same, as a page and a notebook hold it."""
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Fold:
    """Blocks that a reader of the HTML page unfolds by their title."""

    kind: ClassVar = "fold"
    title: str
    blocks: "Sequence[Block]"


@dataclass(frozen=True)
class Section:
    """A part of the page that the contents and links name."""

    name: str
    title: str
    blocks: "Sequence[Block]"


Block: TypeAlias = Text | Table | Picture | Fold


class Written(NamedTuple):
    """A table that is written beside the page."""

    numbers: pd.DataFrame  # for CSV
    shown: pd.DataFrame | None  # as words, for LaTeX; None writes none


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report, from which all its files are written."""

    name: str  # of its files
    title: str
    lead: str  # Markdown, below the title
    sections: Sequence[Section]
    tables: Mapping[str, Written]
    notebook: str  # in reports/, which makes the same page
    parameters: Mapping[str, str | None]  # of that notebook
    made_from: str = field(default="", repr=False)  # see `harness.reporting.report.digest`; "" remembers none

    @property
    def head(self) -> Text:
        """The title and what stands below it."""
        return Text(f"# {self.title}\n\n{self.lead}")

    def show(self, name: str | None = None) -> None:
        """Display the section of that name in a notebook; the whole page if left out."""
        from IPython.display import display

        shown = [section for section in self.sections if name in (None, section.name)]
        for data, metadata in outputs(shown if name else [self.head, *shown]):
            display(data, metadata=metadata, raw=True)


def flat(blocks: Iterable[Block | Section]) -> Iterator[str | Picture]:
    """All blocks in their order, in Markdown but for the pictures."""
    for block in blocks:
        match block:
            case Text():
                yield block.markdown
            case Table():
                yield tables.markdown(block.cells)
            case Picture():
                yield block
            case Fold():
                yield f"#### {block.title}"
                yield from flat(block.blocks)
            case Section():  # the anchor works wherever Markdown is shown
                yield f'<a id="{block.name}"></a>\n\n## {block.title}'
                yield from flat(block.blocks)


def outputs(blocks: Iterable[Block | Section]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """What a notebook displays of the blocks: each one's data by media type, and metadata."""
    for part in flat(blocks):
        if isinstance(part, Picture):
            yield {"image/png": part.base64, "text/plain": part.alt}, {"image/png": {"alt": part.alt}}
        else:
            yield {"text/markdown": part, "text/plain": part}, {}
