"""From a store to a report: executes the study's notebook, exports it, and writes the tables beside it."""

import base64
import html
import logging
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from harness.analysis import figures, results, tables
from harness.errors import UserError
from harness.store import Store
from harness.study import Study

NOTEBOOKS = Path(__file__).parents[2] / "reports"


class Page:
    """What a notebook shows: one method a part, each displays and returns nothing."""

    def __init__(self, study: Study, profile: str, store: Store | str | Path) -> None:
        """Load the study's results.

        Raises:
            UserError: no such store or profile, or the study never ran here.
        """
        self.study, self.profile = study, study.profile(profile)
        self.store = store if isinstance(store, Store) else Store(store)
        self.rows = results.load(self.store, study=study.name, profile=profile)
        plan = self.store.read_plan(study.name, profile)
        self.floor = self.store.read_reference(plan["protocol_id"]) if plan else {}

    def introduction(self) -> None:
        """What was asked, how to read the answers, and what to beware of."""
        asked = "\n".join(f"{i}. {q.text}" for i, q in enumerate(self.study.questions, 1))
        _text(
            f"# {self.study.title}\n\n"
            f"Study **{self.study.name}**, profile **{self.profile.name}**: {self.profile.description}.\n\n{asked}\n\n"
            "Every trial is one training run, named by its seed; all arms run the same seeds, for the same number of "
            "images. A mean stands with its 95% t interval over seeds. Differences and ratios of FID are to the "
            "baseline, paired by seed; the ratio is a geometric mean. A difference whose interval holds 0 (a ratio "
            "whose interval holds 1) has not been shown, and that is not evidence of no difference. Several "
            "comparisons are made, and the intervals are not adjusted for it. "
            "Scores belong to the protocol at the end of the page and cannot be compared with another."
        )
        for caution in tables.cautions(self.study, self.profile.name, self.store, self.rows):
            _text(f"> **{caution}**")

    def question(self, key: str) -> None:
        """One question: its hypothesis, its table, FID by level, samples, and training curves."""
        question = self.study.question(key)
        table = tables.question_table(self.study, question, self.rows)
        _text(
            f"## {question.text}\n\n**Expected:** {question.hypothesis}\n\n"
            f"Factor: {question.factor.label}. Baseline arm: `{question.baseline}`.\n\n"
            + tables.markdown(tables.formatted(table))
            + _pairing_note(table)
        )
        name = f"{question.text} "
        levels = figures.levels(self.study, question, self.rows, self.floor)
        _figure(levels, f"{key}-fid", f"{name} FID at each level, every seed shown")
        samples = figures.samples(self.study, question, self.rows, self.store)
        _figure(samples, f"{key}-samples", f"{name} Generated samples at each level")
        curves = figures.curves(self.study, question, self.rows, self.store)
        _figure(curves, f"{key}-curves", f"{name} Losses and D's answers over training")
        if levels is None:
            _text("*No trial of this question has finished, so there is no figure of it yet.*")

    def overview(self) -> None:
        """Every arm of the study in one table."""
        table = tables.overview_table(self.rows, _arms(self.study, self.profile.name, self.store))
        _text("## Every arm\n\n" + tables.markdown(tables.formatted(table)))

    def provenance(self) -> None:
        """How the numbers were made."""
        _text(
            "## How these numbers were made\n\n"
            + tables.provenance(self.study, self.profile.name, self.store, self.rows)
        )


def render(study: Study, profile: str, store: Store, out: Path | None = None) -> list[Path]:
    """Execute the study's notebook and write HTML, Markdown, the executed notebook and CSV tables.

    Args:
        study: Whose report; its notebook is reports/<name>.ipynb, or the generic study.ipynb, for which it must be in
            `studies.STUDIES`.
        profile: Which of its profiles.
        store: Where its results are.
        out: The folder to write; the store's report folder if left out. An earlier report there is replaced as a whole.

    Returns:
        What was written: HTML first.

    Raises:
        UserError: the study never ran here, its notebook fails, or `out` holds something else or cannot be written.
    """
    own = NOTEBOOKS / f"{study.name}.ipynb"
    source = own if own.exists() else NOTEBOOKS / "study.ipynb"
    page = Page(study, profile, store)
    out = store.report_folder(study.name, profile) if out is None else out
    out = out.resolve()
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / f"{study.name}.html").exists())):
        raise UserError(f"{out} holds something other than a report of {study.name}; name an empty or new folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot write a report to {out.parent}: {error.strerror}; name another folder") from None
    try:
        staging.chmod(0o777 & ~_umask())
        notebook = _execute(source, staging / f"{study.name}.ipynb", study, profile, store)
        _export(notebook, staging, study)
        for question in study.questions:
            table = tables.question_table(study, question, page.rows)
            table.to_csv(staging / f"{question.key}.csv", index=False)
        overview = tables.overview_table(page.rows, _arms(study, profile, store))
        overview.to_csv(staging / "overview.csv", index=False)
        page.rows.to_csv(staging / "results.csv", index=False)
        if out.exists():
            shutil.rmtree(out)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    first = [out / f"{study.name}.html", out / f"{study.name}.md", out / f"{study.name}.ipynb"]
    return first + sorted(out.glob("*.csv"))


def _execute(source: Path, target: Path, study: Study, profile: str, store: Store) -> Path:
    """Run the notebook in a kernel of this very interpreter, whatever kernels are installed on the machine."""
    with _quiet(), tempfile.TemporaryDirectory(prefix="report-") as scratch:
        import nbformat
        import papermill
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import AsyncKernelManager
        from papermill.exceptions import PapermillExecutionError

        places = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
        spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "--log-level=CRITICAL", "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
            metadata={"supported_encryption": "curve"},
            env={
                **dict.fromkeys(places, scratch),  # Jupyter's own files are thrown away, not left in the user's home
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else its debugger remarks on every start
            },
        )

        class OwnKernel(AsyncKernelManager):
            @property
            def kernel_spec(self) -> KernelSpec:
                return spec

        try:
            notebook = papermill.execute_notebook(
                source,
                None,
                parameters={"study": study.name, "profile": profile, "store": str(store.root)},
                kernel_name="python3",
                language="python",
                progress_bar=False,
                kernel_manager_class=OwnKernel,
                resources={"metadata": {"path": str(source.parent)}},
            )
        except PapermillExecutionError as error:
            raise UserError(f"the notebook {source.name} failed: {error.ename}: {error.evalue}") from None
        for name in ("input_path", "output_path"):  # a report says nothing of the machine's folders
            notebook.metadata.papermill.pop(name, None)
        nbformat.write(notebook, target)
    return target


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Jupyter's libraries say about themselves and each other; errors still come through."""
    logger = logging.getLogger("papermill")
    level = logger.level
    with warnings.catch_warnings():
        for module in ("jupyter", "nbclient", "nbconvert", "papermill", "traitlets", "zmq", "tornado"):
            for category in (DeprecationWarning, ResourceWarning, RuntimeWarning):
                warnings.filterwarnings("ignore", category=category, module=rf"{module}.*")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _export(notebook: Path, folder: Path, study: Study) -> None:
    """The notebook as one stand-alone HTML file, and as Markdown with its pictures."""
    with _quiet():
        import nbformat
        from nbconvert import HTMLExporter, MarkdownExporter

        content = nbformat.read(notebook, as_version=4)
        body, _ = HTMLExporter(template_name="basic", exclude_input=True, exclude_anchor_links=True).from_notebook_node(
            content
        )
        markdown, resources = MarkdownExporter(exclude_input=True, raw_template=MARKDOWN).from_notebook_node(
            content, {"output_files_dir": "pictures", "unique_key": study.name}
        )
    # A table wider than the window scrolls inside its own box.
    body = re.sub(r"(<table.*?</table>)", r'<div class="scroll">\1</div>', body, flags=re.DOTALL)
    page = HTML.replace("{title}", html.escape(study.title)).replace("{body}", body)
    (folder / f"{study.name}.html").write_text(page, encoding="utf-8")
    (folder / f"{study.name}.md").write_text(re.sub(r"\n{3,}", "\n\n", markdown).strip() + "\n", encoding="utf-8")
    (folder / "pictures").mkdir()
    for name, picture in resources["outputs"].items():
        (folder / name).write_bytes(picture)


def _text(markdown: str) -> None:
    display(Markdown(markdown))


def _figure(figure: Figure | None, name: str, alt: str) -> None:
    if figure is not None:
        metadata = {"filename": f"{name}.png", "image/png": {"alt": alt}}
        picture = base64.b64encode(figures.as_png(figure)).decode()
        display({"image/png": picture, "text/plain": alt}, metadata=metadata, raw=True)


def _pairing_note(table: pd.DataFrame) -> str:
    if "seed_correlation" not in table or table.seed_correlation.dropna().empty:
        return ""
    shown = ", ".join(
        f"{r.level}: {r.seed_correlation:+.2f}" for r in table.dropna(subset="seed_correlation").itertuples()
    )
    return (
        f"\n\n*Correlation over seeds with the baseline: {shown.replace('-', '−')} "
        f"(above 0, pairing by seed narrowed the interval).*"
    )


def _arms(study: Study, profile: str, store: Store) -> list[str]:
    return list(dict.fromkeys(results.planned(store, study.name, profile).arm))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


MARKDOWN = """{%- extends 'markdown/index.md.j2' -%}
{% block data_png %}
![{{ output | get_metadata('alt', 'image/png') }}]({{ output.metadata.filenames['image/png'] | path2url }})
{% endblock data_png %}
"""  # nbconvert's own, but that pictures keep their alt text

HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif;
  color: #1a1a1a; background: #fff; max-width: 1220px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
p, li, blockquote { max-width: 50rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 1rem 0; }
h2 { font-size: 1.35rem; margin: 3rem 0 .8rem; padding-top: 1rem; border-top: 1px solid #ddd; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; white-space: nowrap; border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 2px solid #888; }
td:last-child:not([style*="right"]) { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
blockquote { margin: 1rem 0; padding: .2rem 1rem; border-left: 4px solid #d55e00; background: #fdf3ec; }
img { max-width: min(100%, 50rem); height: auto; display: block; }
code { background: #f3f3f3; padding: .1em .3em; border-radius: 3px; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; } img, .scroll { break-inside: avoid; } }
</style>
</head>
<body>
{body}
</body>
</html>
"""
