"""What a page is made of: blocks of text, tables and pictures, and what they are in Markdown and in a notebook."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from matplotlib.figure import Figure

from harness.reporting import figures, tables


@dataclass(frozen=True)
class Picture:
    """A figure, drawn when its bytes are first asked for."""

    name: str  # of its file, without the ending
    alt: str  # what it shows, for those who cannot see it
    figure: Figure

    @cached_property
    def png(self) -> bytes:
        """The figure as a PNG file."""
        return figures.as_png(self.figure)

    def __reduce__(self) -> Any:
        """A pickle has the bytes, not the figure."""
        return _drawn, (self.name, self.alt, self.png)

    @property
    def is_photo(self) -> bool:
        """Whether it shows images, whose greys must stay as they are where a page is dark."""
        return self.name.endswith(("-samples", "-neighbours"))

    @property
    def base64(self) -> str:
        """The same, as a page and a notebook hold it."""
        return base64.b64encode(self.png).decode()


def _drawn(name: str, alt: str, png: bytes) -> Picture:
    picture = Picture(name, alt, Figure())
    vars(picture)["png"] = png
    return picture


class Fold(NamedTuple):
    """Blocks that a reader of the HTML page unfolds by their title."""

    title: str
    blocks: "Sequence[Block]"


class Section(NamedTuple):
    """A part of the page that the contents and links name."""

    name: str
    title: str
    blocks: "Sequence[Block]"


Block: TypeAlias = str | pd.DataFrame | Picture | Fold
"""Paragraphs of Markdown, a table whose cells are Markdown in one or several lines, a picture, or some of these."""


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

    @property
    def head(self) -> str:
        """The title and what stands below it."""
        return f"# {self.title}\n\n{self.lead}"

    def show(self, name: str | None = None) -> None:
        """Display the section of that name in a notebook; the whole page if left out."""
        from IPython.display import display

        shown = [section for section in self.sections if name in (None, section.name)]
        for data, metadata in outputs(shown if name else [self.head, *shown]):
            display(data, metadata=metadata, raw=True)


def flat(blocks: Iterable[Block | Section]) -> Iterator[str | Picture]:
    """All blocks in their order, in Markdown but for the pictures."""
    for block in blocks:
        if isinstance(block, Section):  # the anchor works wherever Markdown is shown
            yield f'<a id="{block.name}"></a>\n\n## {block.title}'
            yield from flat(block.blocks)
        elif isinstance(block, Fold):
            yield f"#### {block.title}"
            yield from flat(block.blocks)
        else:
            yield tables.markdown(block) if isinstance(block, pd.DataFrame) else block


def outputs(blocks: Iterable[Block | Section]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """What a notebook displays of the blocks: each one's data by media type, and metadata."""
    for part in flat(blocks):
        if isinstance(part, Picture):
            yield {"image/png": part.base64, "text/plain": part.alt}, {"image/png": {"alt": part.alt}}
        else:
            yield {"text/markdown": part, "text/plain": part}, {}
