"""From a page to the files of a report: HTML, Markdown, a notebook, pictures, and tables as CSV and LaTeX."""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2
import nbformat
from markdown_it import MarkdownIt
from markupsafe import Markup
from nbformat import NotebookNode, from_dict, v4

from harness.errors import UserError
from harness.files import staged_folder
from harness.reporting import tables
from harness.reporting.blocks import Page, Picture, Written, flat, outputs
from harness.reporting.figures import VERDICTS
from harness.reporting.latex import latex
from harness.storage.integrity import results_checksum
from harness.storage.store import Store
from harness.study import Study
from harness.tuning import search_name

ROOT = Path(__file__).parents[2]
NOTEBOOKS = Path(__file__).parent / "notebooks"
MADE_FROM = ".made-from"
"""Beside a report: the checksum of what it was made from, so that an unchanged one need not be made again."""
_MARKDOWN = MarkdownIt("commonmark", {"html": False})


def sources_checksum(study: Study, profile: str, store: Store, protocol: str | None = None) -> str:
    """Of all that a report is made from: the study's results in the store, by whose scores, and the code."""
    code = [path for package in ("architectures", "harness", "studies") for path in ROOT.glob(f"{package}/**/*.py")]
    found = hashlib.sha256(results_checksum(store, study.name, profile).encode())
    for name in [study.untuned, search_name(study.name)] if study.tuning else []:
        found.update(results_checksum(store, name, profile).encode())
    for path in (*sorted(code), *Path(__file__).parent.glob("page.*"), NOTEBOOKS / "study.ipynb"):
        found.update(path.read_bytes())
    found.update(f"{protocol} {study.own_code.digest if study.own_code else ''}".encode())
    return found.hexdigest()


def last(out: Path, name: str, made_from: str) -> list[Path]:
    """The report in a folder, as `write` returns it; empty where there is none that was made from this checksum."""
    stamp = out / MADE_FROM
    return _files(out, name) if stamp.is_file() and stamp.read_text() == made_from else []


def write(page: Page, out: Path, made_from: str = "") -> list[Path]:
    """Write all files of a report, whole or not at all.

    Args:
        page: What to write.
        out: The folder. An earlier report there is replaced as a whole.
        made_from: The checksum that `last` is asked for; "" for a report that is made again whenever it is wanted.

    Returns:
        What was written: HTML first.

    Raises:
        UserError: `out` holds something else.
    """
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / f"{page.name}.html").exists())):
        raise UserError(f"{out} holds something other than a report of {page.name}; name an empty or new folder")
    try:
        with staged_folder(out, replace=True) as folder:
            (folder / "pictures").mkdir()
            text = []
            for part in flat([page.head, *page.sections]):
                if isinstance(part, Picture):
                    (folder / "pictures" / f"{part.name}.png").write_bytes(part.png)
                    part = f"![{part.alt}](pictures/{part.name}.png)"
                text.append(part.strip())
            (folder / f"{page.name}.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
            (folder / f"{page.name}.html").write_text(to_html(page), encoding="utf-8")
            (folder / f"{page.name}.ipynb").write_text(nbformat.writes(to_notebook(page)) + "\n", encoding="utf-8")
            write_tables(page.tables, folder)
            if made_from:
                (folder / MADE_FROM).write_text(made_from)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write a report to {out.parent}: {reason}; where a store cannot be written, copy it and name the "
            f"copy with --store"
        ) from None
    return _files(out, page.name)


def write_tables(written: Mapping[str, Written], folder: Path) -> None:
    """Every table as CSV (numbers) and LaTeX (as shown)."""
    for name, table in written.items():
        table.numbers.to_csv(folder / f"{name}.csv", index=False)
        if table.shown is not None:
            (folder / f"{name}.tex").write_text(latex(table.shown), encoding="utf-8")


def to_html(page: Page) -> str:
    """The page as one HTML file that stands alone."""
    return templates().get_template("page.html.j2").render(page=page, WORDS=tables.WORDS)


def templates(*folders: Path, source: Callable[[Picture], str] | None = None) -> jinja2.Environment:
    """The templates of pages.

    Args:
        folders: Of further ones, which may extend page.html.j2.
        source: What a page names as a picture's address; None puts the picture itself into the page.
    """
    loader = jinja2.FileSystemLoader([*folders, Path(__file__).parent])
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "markdown": lambda text: Markup(_MARKDOWN.render(text)),
        "cell": _cell,
        "source": source or (lambda picture: f"data:image/png;base64,{picture.base64}"),
    }
    return environment


def _cell(text: str) -> Markup:
    """A table's cell: a verdict as a badge, line ends, and the interval beside a number so that it can stand below."""
    if text in VERDICTS:
        return Markup('<span class="{0}">{0}</span>').format(text)
    shown = "<br>".join(map(_MARKDOWN.renderInline, text.split("\n")))
    if "<a " not in shown:
        shown = re.sub(r" (\[[^\]<>a-z]*\])", r' <span class="interval">\1</span>', shown)
    return Markup(shown)


def to_notebook(page: Page) -> NotebookNode:
    """The notebook in reports/ that makes the page, with this page's parameters and each section's outputs."""
    notebook = nbformat.read(NOTEBOOKS / page.notebook, as_version=4)
    parameters, load, _ = notebook.cells
    parameters.source = "\n".join(f"{name} = {value!r}" for name, value in page.parameters.items())
    code = [parameters, load]
    for i, section in enumerate(page.sections):
        # nbformat's own functions for outputs check each by the schema, which `writes` does for all of them.
        shown = [
            NotebookNode(output_type="display_data", data=NotebookNode(data), metadata=from_dict(more))
            for data, more in outputs([section])
        ]
        code.append(v4.new_code_cell(f"page.show({section.name!r})", id=f"section-{i}"))
        code[-1].outputs = shown
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
    notebook.cells = [v4.new_markdown_cell(page.head, id="head"), *code]
    return notebook


def _files(out: Path, name: str) -> list[Path]:
    """The files of a report, HTML first."""
    tables = sorted([*out.glob("*.csv"), *out.glob("*.tex")])
    return [*(out / f"{name}{end}" for end in (".html", ".md", ".ipynb")), *tables]
