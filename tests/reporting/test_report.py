"""A report is rendered once from made-up results, and every file of it is looked at."""

import base64
import html
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from harness.analysis.effects import level_arms
from harness.analysis.evidence import load_evidence
from harness.analysis.results import load
from harness.analysis.wording import number
from harness.errors import UserError
from harness.reporting import report
from harness.reporting.blocks import Page
from harness.reporting.report import MADE_FROM, NOTEBOOKS
from harness.reporting.study_page import study_page
from harness.reporting.summary_page import summary_page
from harness.reporting.tables import overview_table, question_table
from harness.storage.store import Store
from harness.study import Study
from studies import STUDIES
from studies.claims import CLAIMS
from tests.analysis.conftest import DIVERGED, PROFILE, make_protocol

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OLD = "left by an earlier report"


def pictures_of(study: Study) -> list[str]:
    """Samples, training and memorisation of arms stand once, under the first question that has them all."""
    found = []
    for i, question in enumerate(study.questions):
        mine = set(level_arms(study.at(PROFILE), question).values())
        kinds = ["effects", "levels"]
        if not any(mine <= set(level_arms(study.at(PROFILE), other).values()) for other in study.questions[:i]):
            kinds += ["samples", "training", "balance", "neighbours"]
        found += [f"{question.key}-{kind}.png" for kind in kinds]
    return found


@pytest.fixture(scope="module")
def folder(store: Store, study: Study) -> Path:
    out = store.layout.report_folder(study.name, PROFILE)
    out.mkdir(parents=True)
    (out / "noise.html").write_text(OLD)
    (out / "stale.csv").write_text(OLD)
    evidence, made_from = load_evidence(store, study, PROFILE), report.sources_checksum(study, PROFILE, store)
    paths = report.write(study_page(evidence), out, made_from)
    assert all(path.exists() for path in paths) and paths[0] == out / "noise.html"
    return out


def test_every_file_is_written_and_nothing_else(folder: Path, study: Study) -> None:
    names = ["verdicts", "overview", "costs", *(q.key for q in study.questions)]
    tables = {f"{name}{end}" for name in names for end in (".csv", ".tex")} | {"results.csv"}
    assert {p.name for p in folder.iterdir()} == {
        "noise.html",
        "noise.md",
        "noise.ipynb",
        "pictures",
        MADE_FROM,
        *tables,
    }
    assert {p.name for p in (folder / "pictures").iterdir()} == set(pictures_of(study))
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]  # nothing made aside is left


def test_a_report_lasts_until_its_sources_change(
    folder: Path, store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last(of: Store, protocol: str | None = None) -> list[Path]:
        return report.last(folder, study.name, report.sources_checksum(study, PROFILE, of, protocol))

    (html, *_) = there = last(store)
    assert html == folder / "noise.html" and {p.name for p in there} < {p.name for p in folder.iterdir()}
    assert report.last(tmp_path, study.name, report.sources_checksum(study, PROFILE, store)) == []
    assert last(store, "clip") == [], "by other scores"
    other = Store(shutil.copytree(store.root, tmp_path / "store"))
    assert last(other)
    reference = other.layout.reference(make_protocol().protocol_id)
    sealed = reference.read_bytes()
    reference.write_bytes(sealed + b" ")
    assert last(other) == [], "real images have other scores"
    reference.write_bytes(sealed)
    assert last(other)
    plan = other.read_plan(study.name, PROFILE)
    assert plan is not None
    score = next((other.trial_folder(plan["cells"][0]["trial_id"]) / "scores").iterdir())
    score.write_bytes(score.read_bytes() + b" ")
    assert last(other) == []
    (tmp_path / "study.ipynb").write_text("another notebook")
    monkeypatch.setattr(report, "NOTEBOOKS", tmp_path)
    assert last(store) == []


def test_html_stands_alone(folder: Path, study: Study) -> None:
    page = (folder / "noise.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "<script" not in page and "@import" not in page
    pictures = len(re.findall(r'<img[^>]*src="data:image/png;base64,', page))
    assert pictures == len(re.findall("<img", page)) == len(pictures_of(study))
    assert len(page) < 6_000_000
    assert all(re.search(r'alt="[^"]{10,}', image) for image in re.findall(r"<img[^>]*>", page))
    assert f"<title>{study.title}</title>" in page and 'name="viewport"' in page
    assert page.count("<table") == page.count('<div class="scroll"><table') == len(study.questions) + 5
    assert page.count("<details>") == page.count("</details>") > len(study.questions)
    assert page.index(">Answers</h2>") < page.index("<table") < page.index("<blockquote") < page.index("<img")
    assert "page.question(" not in page and "Traceback" not in page  # code is hidden


def test_contents_and_claims_lead_to_their_sections(folder: Path, store: Store, study: Study) -> None:
    page = (folder / "noise.html").read_text(encoding="utf-8")
    names = re.findall(r'<h2 id="([^"]+)"', page)
    assert names == ["answers", *(q.key for q in study.questions), "arms", "provenance"]
    contents = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', contents) == names
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(names)
    for claim in load_evidence(store, study, PROFILE).answers:
        assert f'<a href="#{claim.question}">{html.escape(claim.claim, quote=False)}</a>' in page
    assert page.count('<a href="#answers">↑ all answers</a>') == len(study.questions)
    text = (folder / "noise.md").read_text(encoding="utf-8")
    assert all(text.count(f'<a id="{name}"></a>\n\n## ') == 1 for name in names)


def test_html_names_its_weaknesses_and_its_origin(folder: Path, study: Study) -> None:
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
    assert all(question.text in html.unescape(page) for question in study.questions)


def test_every_claim_has_its_verdict_on_top(folder: Path, store: Store, study: Study) -> None:
    page = (folder / "noise.html").read_text(encoding="utf-8")
    answers = load_evidence(store, study, PROFILE).answers
    assert len(answers) > len(study.questions)
    for verdict in ("supported", "refuted", "unresolved"):
        assert page.count(f'<span class="{verdict}">') == sum(a.verdict == verdict for a in answers) > 0
    shown = html.unescape(page)
    assert all(answer.claim in shown and answer.sentence in shown for answer in answers)
    written = pd.read_csv(folder / "verdicts.csv")
    assert written.verdict.tolist() == [a.verdict for a in answers]
    assert written.effect.tolist() == pytest.approx([a.effect for a in answers], nan_ok=True)


def test_details_do_not_swallow_what_follows(folder: Path, study: Study) -> None:
    """No heading of the first three levels stands inside a fold."""
    page = (folder / "noise.html").read_text(encoding="utf-8")
    for inside in re.findall(r"<details>(.*?)</details>", page, re.DOTALL):
        assert not re.search("<h[123]", inside)
    assert page.count("<h2") == len(study.questions) + 3


def test_markdown_shows_pictures_that_are_there(folder: Path, study: Study) -> None:
    text = (folder / "noise.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
    assert [name for _, name in shown] and len(shown) == len(pictures_of(study))
    for alt, name in shown:
        assert len(alt) > 10
        with Image.open(folder / name) as picture:
            assert picture.width > 600
    assert "<table" not in text and "<img" not in text and "```" not in text


def test_csv_numbers_are_those_of_the_tables(folder: Path, store: Store, study: Study) -> None:
    rows = load(store, study=study.name, profile=PROFILE)
    page = (folder / "noise.html").read_text(encoding="utf-8")
    evidence = load_evidence(store, study, PROFILE)
    for question in study.questions:
        written = pd.read_csv(folder / f"{question.key}.csv", dtype={"level": str})
        pd.testing.assert_frame_equal(written, question_table(evidence, question), check_dtype=False)
        never = written.get(f"{question.metric}_not_reached", pd.Series(0, written.index)).fillna(0)
        for value, missed in zip(written[question.metric], never, strict=True):
            if missed:  # a level that some seeds never reached has no mean
                words = "never" if value == math.inf else f"median {number(value)}; {missed:.0f} never"
                assert f">{words}<" in page
            elif not math.isnan(value):
                assert f">{number(value)} [" in page or f">{number(value)}" in page
    overview = pd.read_csv(folder / "overview.csv")
    pd.testing.assert_frame_equal(overview, overview_table(evidence), check_dtype=False)
    results = pd.read_csv(folder / "results.csv")
    assert results.fid.tolist() == pytest.approx(rows.fid.tolist(), nan_ok=True, rel=1e-15)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_compiles(folder: Path, tmp_path: Path) -> None:
    tables = sorted(folder.glob("*.tex"))
    body = "\n".join(rf"\noindent\tiny\input{{{path}}}\clearpage" for path in tables)
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert f"({len(tables)} pages" in done.stdout and "Missing character" not in done.stdout


def outputs_of(notebook: Path) -> list[dict[str, str]]:
    cells = json.loads(notebook.read_text())["cells"]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    found = [output for cell in cells for output in cell.get("outputs", ())]
    assert found and all(output["output_type"] == "display_data" for output in found)
    joined = [{kind: "".join(data).strip() for kind, data in output["data"].items()} for output in found]
    return [{kind: data for kind, data in one.items() if kind != "text/plain"} for one in joined]


def executed(notebook: Path, out: Path) -> Path:
    """The notebook as a kernel leaves it, run cell by cell in a process of its own."""
    code = "import nbclient, nbformat, sys; notebook = nbformat.read(sys.argv[1], 4); "
    code += "nbclient.execute(notebook, kernel_name='python3'); nbformat.write(notebook, sys.argv[2])"
    places = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
    scratch = dict.fromkeys(places, str(out.parent / "jupyter"))
    done = subprocess.run(
        [sys.executable, "-c", code, notebook, out], env={**os.environ, **scratch}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_the_notebook_holds_its_outputs_and_runs(folder: Path, study: Study, tmp_path: Path) -> None:
    written = outputs_of(folder / "noise.ipynb")
    assert sum("image/png" in data for data in written) == len(pictures_of(study))
    assert outputs_of(executed(folder / "noise.ipynb", tmp_path / "again.ipynb")) == written


@pytest.mark.parametrize("name", ["study", "summary"])
def test_committed_notebooks_show_the_same_page(name: str, folder: Path, store: Store, tmp_path: Path) -> None:
    """They hold no outputs and no logic, and with other parameters they show what is written."""
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    parameters, *others = cells = notebook["cells"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    source = "\n".join("".join(cell["source"]) for cell in cells)
    assert source.count("\n") < 20 and "def " not in source and "if " not in source
    assert parameters["metadata"]["tags"] == ["parameters"] and len(others) == 2
    parameters["source"] = "".join(parameters["source"]).replace("../runs", str(store.root))
    (tmp_path / "notebook.ipynb").write_text(json.dumps(notebook))
    shown = outputs_of(executed(tmp_path / "notebook.ipynb", tmp_path / "run.ipynb"))
    if name == "study":
        text = (folder / "noise.md").read_text(encoding="utf-8")
    else:
        paths = report.write(summary_page(STUDIES, CLAIMS, PROFILE, store), tmp_path / "summary")
        text = paths[1].read_text(encoding="utf-8")
    assert all(data["text/markdown"] in text for data in shown if "text/markdown" in data)
    assert sum("image/png" in data for data in shown) == text.count("![")
    assert {p.name for p in NOTEBOOKS.glob("*.ipynb")} == {"study.ipynb", "summary.ipynb"}


def test_a_report_loads_nothing_it_does_not_need(store: Store, tmp_path: Path) -> None:
    unneeded = {"torch", "ray", "IPython", "nbclient", "nbconvert", "papermill"}
    shutil.copytree(store.root, tmp_path / "store")
    words = ("report", "noise", "--profile", PROFILE, "--store", "store")
    code = "import sys; from harness.cli import app; from studies.catalog import CATALOG; "
    code += f"app({words!r}, obj=CATALOG, standalone_mode=False); print('loaded:', *{unneeded!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_a_report_that_fails_leaves_the_old_one(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "noise.html").write_text(OLD)
    page = Page(name="noise", title="", lead="", sections=[], tables={}, notebook="study.ipynb", parameters={})
    monkeypatch.setattr(report, "to_notebook", lambda page: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(page, out)
    assert (out / "noise.html").read_text() == OLD
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    page = Page(name="noise", title="", lead="", sections=[], tables={}, notebook="study.ipynb", parameters={})
    with pytest.raises(UserError, match="something other than a report of noise"):
        report.write(page, tmp_path)
    assert (tmp_path / "thesis.tex").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write a report to .*file: .* copy it and name the copy with --store"):
        report.write(page, tmp_path / "file" / "noise-laptop")


def test_what_never_ran_is_refused(store: Store, study: Study) -> None:
    with pytest.raises(UserError, match=r"noise \(smoke\) never ran"):
        load_evidence(store, study, "smoke")
    with pytest.raises(UserError, match="unknown profile"):
        load_evidence(store, study, "nonsense")


def test_the_summary_is_published_like_a_report(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "summary"
    paths = report.write(summary_page(STUDIES, CLAIMS, PROFILE, store), out)
    assert paths[0] == out / "summary.html" and all(path.exists() for path in paths)
    assert {p.name for p in out.glob("*.tex")} == {"claims.tex", "verdicts.tex"}
    assert len(pd.read_csv(out / "claims.csv")) == len(CLAIMS)
    assert "Fully connected or convolutional?" in paths[0].read_text(encoding="utf-8")


def in_chromium(page: Path, width: int, folder: Path) -> dict[str, object]:
    """What a browser finds of a page at that width: seen in a frame, as its windows cannot be as narrow as a phone."""
    frame = folder / f"frame-{width}.html"
    frame.write_text(
        f"""<body style="margin:0"><iframe style="border:0;width:{width}px;height:900px"></iframe><pre></pre><script>
        const frame = document.querySelector("iframe");
        frame.onload = () => {{
          const page = frame.contentDocument, root = page.documentElement, images = [...page.images];
          for (const fold of page.querySelectorAll("details")) fold.open = true;
          document.querySelector("pre").textContent = JSON.stringify({{
            overflow: root.scrollWidth - root.clientWidth,
            images: images.length, loaded: images.filter(i => i.complete && i.naturalWidth > 300).length,
            wide: images.filter(i => !i.closest(".scroll") && i.getBoundingClientRect().right > {width}).length,
            cropped: images.filter(i => i.getBoundingClientRect().right > {width}).length,
            verdicts: page.querySelectorAll(".verdicts td").length,
            sideways: [...page.querySelectorAll("div.scroll")].filter(e => e.scrollWidth > e.clientWidth).length,
            cells: page.querySelectorAll(".stacks td").length,
            hidden: [...page.querySelectorAll(".stacks td, .stacks span")].filter(
              e => (e.textContent && !e.innerText) || e.getBoundingClientRect().right > {width}).length,
            facts: page.querySelectorAll(".facts td").length,
            cut: [...page.querySelectorAll(".facts td, nav a, p, li")].filter(
              e => e.getBoundingClientRect().right > {width}).length,
            right: Math.max(...[...page.querySelectorAll("main > p, main > .scroll, main > img")].map(
              e => e.getBoundingClientRect().right)),
            text: page.body.innerText.length,
            small: (page.querySelectorAll(".picture input").forEach(i => i.click()),
              images.filter(i => i.width < Math.min(i.naturalWidth, 570)).length) }});
        }};
        frame.srcdoc = new TextDecoder().decode(Uint8Array.from(
          atob("{base64.b64encode(page.read_bytes()).decode()}"), c => c.charCodeAt(0)));
        </script>""",
        encoding="utf-8",
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=20000",
        "--dump-dom", frame.as_uri()]  # fmt: skip
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<pre>({.*?})</pre>", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(found[1])


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, so no page was looked at in a browser")
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_browser_shows_everything_at_any_width(folder: Path, study: Study, tmp_path: Path, width: int) -> None:
    found = in_chromium(folder / "noise.html", width, tmp_path)
    assert found["overflow"] == 0 and found["wide"] == 0
    assert found["loaded"] == found["images"] == len(pictures_of(study))
    assert int(str(found["text"])) > 5000
    assert int(str(found["facts"])) > 10 and found["cut"] == 0
    answers = pd.read_csv(folder / "verdicts.csv")
    assert int(str(found["verdicts"])) == 8 * len(answers) and found["hidden"] == 0, "effects, intervals"
    assert int(str(found["cells"])) > 500 and found["sideways"] == 0, "tables that scroll sideways"
    assert found["cropped"] == 0, "pictures of which a part is out of sight"
    assert found["small"] == 0, "pictures whose text cannot be read, enlarged by a tap neither"
    assert float(str(found["right"])) > 0.9 * width, "the right of the page is blank"


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, so no page was looked at in a browser")
def test_the_browser_notices_what_phones_cannot_show(folder: Path, tmp_path: Path) -> None:
    page = (folder / "noise.html").read_text(encoding="utf-8")
    for rule in ("overflow-x: auto", "display: flex; flex-wrap: wrap", "max-width: none; width: 52rem"):
        assert rule in page
        page = page.replace(rule, "")
    (tmp_path / "wide.html").write_text(page, encoding="utf-8")
    found = in_chromium(tmp_path / "wide.html", 390, tmp_path)
    assert all(int(str(found[name])) > 0 for name in ("overflow", "hidden", "small", "sideways")), found
