"""A report is rendered once from made-up results, and every file of it is looked at."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from harness.analysis import report
from harness.analysis.report import NOTEBOOKS, Page, render
from harness.analysis.results import load
from harness.analysis.tables import overview_table, question_table
from harness.errors import UserError
from harness.store import Store
from harness.study import Study
from studies import STUDIES
from tests.analysis.conftest import DIVERGED, PROFILE

OLD = "left by an earlier report"


@pytest.fixture(scope="module")
def folder(store: Store, study: Study) -> Path:
    out = store.report_folder(study.name, PROFILE)
    out.mkdir(parents=True)
    (out / "noise.html").write_text(OLD)
    (out / "stale.csv").write_text(OLD)
    paths = render(study, PROFILE, store)
    assert all(path.exists() for path in paths) and paths[0] == out / "noise.html"
    return out


def test_every_file_is_written_and_nothing_else(folder: Path, study: Study) -> None:
    tables = {f"{name}.csv" for name in ("overview", "results", *(q.key for q in study.questions))}
    assert {p.name for p in folder.iterdir()} == {"noise.html", "noise.md", "noise.ipynb", "pictures", *tables}
    pictures = {f"{q.key}-{kind}.png" for q in study.questions for kind in ("fid", "samples", "curves")}
    assert {p.name for p in (folder / "pictures").iterdir()} == pictures
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]  # nothing made aside is left


def test_html_stands_alone(folder: Path, study: Study) -> None:
    page = (folder / "noise.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "<script" not in page and "@import" not in page
    assert len(re.findall(r'<img[^>]*src="data:image/png;base64,', page)) == len(re.findall("<img", page)) == 12
    assert all(re.search(r'alt="[^"]{10,}', image) for image in re.findall(r"<img[^>]*>", page))
    assert f"<title>{study.title}</title>" in page and 'name="viewport"' in page
    assert page.count("<table") == page.count('<div class="scroll"><table') == 6
    assert "page.question(" not in page and "Traceback" not in page  # code is hidden


def test_html_says_what_weakens_it_and_where_it_comes_from(folder: Path, study: Study) -> None:
    page = (folder / "noise.html").read_text(encoding="utf-8")
    for words in (
        "11 of 108 planned trials",
        "1 trial diverged",
        DIVERGED,
        "Exploratory",
        "0123456789ab",
        "Imaginary CPU",
    ):
        assert words in page, words
    assert "make study-noise PROFILE=laptop" in page and "extractor classifier-5e17a11c" in page
    assert all(question.text in page for question in study.questions)


def test_markdown_shows_pictures_that_are_there(folder: Path) -> None:
    text = (folder / "noise.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
    assert len(shown) == 12
    for alt, name in shown:
        assert len(alt) > 10
        with Image.open(folder / name) as picture:
            assert picture.width > 600
    assert "<table" not in text and "<img" not in text and "```" not in text


def test_csv_numbers_are_those_of_the_tables(folder: Path, store: Store, study: Study) -> None:
    rows = load(store, study=study.name, profile=PROFILE)
    page = (folder / "noise.html").read_text(encoding="utf-8")
    for question in study.questions:
        written = pd.read_csv(folder / f"{question.key}.csv", dtype={"level": str})
        pd.testing.assert_frame_equal(written, question_table(study, question, rows), check_dtype=False)
        for fid in written.fid.dropna():
            assert f">{fid:.1f} [" in page or f">{fid:.1f}</td>" in page
    overview = pd.read_csv(folder / "overview.csv")
    pd.testing.assert_frame_equal(overview, overview_table(rows, overview.arm.tolist()), check_dtype=False)
    results = pd.read_csv(folder / "results.csv")
    assert results.fid.tolist() == pytest.approx(rows.fid.tolist(), nan_ok=True, rel=1e-15)


def test_the_executed_notebook_names_no_place_but_its_store(folder: Path, store: Store) -> None:
    notebook = json.loads((folder / "noise.ipynb").read_text())
    assert {"input_path", "output_path"}.isdisjoint(notebook["metadata"]["papermill"])
    assert all(cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code")


def test_committed_notebooks_hold_no_outputs_and_ask_every_question() -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), path.name
        if path.stem in STUDIES:
            source = "".join("".join(cell["source"]) for cell in cells)
            assert [key for key in re.findall(r'page\.question\("([^"]+)"\)', source)] == [
                question.key for question in STUDIES[path.stem].questions
            ]


def test_a_study_without_its_own_notebook_gets_the_generic_one(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(NOTEBOOKS / "study.ipynb", tmp_path / "study.ipynb")
    monkeypatch.setattr(report, "NOTEBOOKS", tmp_path)
    ran = []
    monkeypatch.setattr(report, "_execute", lambda source, *rest: ran.append(source) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render(study, PROFILE, store, tmp_path / "out")
    assert ran == [tmp_path / "study.ipynb"]
    assert not (tmp_path / "out").exists() and {p.name for p in tmp_path.iterdir()} == {"study.ipynb"}


def test_a_notebook_that_fails_is_one_line_and_leaves_the_old_report(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = json.loads((NOTEBOOKS / "study.ipynb").read_text())
    notebook["cells"] = notebook["cells"][:1]
    notebook["cells"].append({**notebook["cells"][0], "id": "boom", "metadata": {}, "source": "raise KeyError('boom')"})
    (tmp_path / "study.ipynb").write_text(json.dumps(notebook))
    out = tmp_path / "out"
    out.mkdir()
    (out / "noise.html").write_text(OLD)
    monkeypatch.setattr(report, "NOTEBOOKS", tmp_path)
    with pytest.raises(UserError, match="study.ipynb failed: KeyError: 'boom'"):
        render(study, PROFILE, store, out)
    assert (out / "noise.html").read_text() == OLD
    assert {p.name for p in tmp_path.iterdir()} == {"study.ipynb", "out"}


def test_a_folder_of_something_else_is_not_replaced(store: Store, study: Study, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="something other than a report of noise"):
        render(study, PROFILE, store, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_what_never_ran_is_refused(store: Store, study: Study) -> None:
    with pytest.raises(UserError, match=r"noise \(smoke\) never ran"):
        render(study, "smoke", store)
    with pytest.raises(UserError, match="unknown profile"):
        render(study, "nonsense", store)


def test_a_page_of_nothing_is_sentences(store: Store, study: Study, tmp_path: Path) -> None:
    empty = Store(tmp_path / "empty", create=True)
    empty.write_plan(study.name, PROFILE, store.read_plan(study.name, PROFILE) or {})
    shown: list[str] = []
    page = Page(study, PROFILE, empty)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_text", shown.append)
        page.introduction()
        for question in study.questions:
            page.question(question.key)
        page.overview()
        page.provenance()
    text = "\n".join(shown)
    assert "No trial has finished: there is nothing to compare." in text
    assert text.count("there is no figure of it yet") == 4
    assert "nan" not in text
