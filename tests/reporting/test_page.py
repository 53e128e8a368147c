"""A report is rendered once from made-up results, and every file of it is looked at."""

import base64
import dataclasses
import html
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from harness.analysis.answers import answer_study
from harness.analysis.results import load
from harness.analysis.wording import number
from harness.errors import UserError
from harness.reporting import page as report
from harness.reporting import tables
from harness.reporting.page import MADE_FROM, NOTEBOOKS, Page, Summary, last_report, render, render_summary
from harness.reporting.tables import overview_table, question_table
from harness.storage.store import Store, TrialResult
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
        mine = set(study.arms(question).values())
        kinds = ["effects", "levels"]
        if not any(mine <= set(study.arms(other).values()) for other in study.questions[:i]):
            kinds += ["samples", "training", "balance", "neighbours"]
        found += [f"{question.key}-{kind}.png" for kind in kinds]
    return found


@pytest.fixture(scope="module")
def folder(store: Store, study: Study) -> Path:
    out = store.layout.report_folder(study.name, PROFILE)
    out.mkdir(parents=True)
    (out / "noise.html").write_text(OLD)
    (out / "stale.csv").write_text(OLD)
    paths = render(study, PROFILE, store)
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


def test_a_report_is_the_last_word_until_anything_it_rests_on_changes(
    folder: Path, store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (html, *_) = there = last_report(study, PROFILE, store)
    assert html == folder / "noise.html" and {p.name for p in there} < {p.name for p in folder.iterdir()}
    assert last_report(study, "smoke", store) == []
    other = Store(shutil.copytree(store.root, tmp_path / "store"))
    assert last_report(study, PROFILE, other)
    plan = other.read_plan(study.name, PROFILE)
    assert plan is not None
    score = next((other.trial_folder(plan["cells"][0]["trial_id"]) / "scores").iterdir())
    score.write_bytes(score.read_bytes() + b" ")
    assert last_report(study, PROFILE, other) == []
    (tmp_path / "noise.ipynb").write_text("another notebook")
    monkeypatch.setattr(report, "NOTEBOOKS", tmp_path)
    assert last_report(study, PROFILE, store) == []


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
    for claim in answer_study(study, load(store, study=study.name, profile=PROFILE)):
        assert f'<a href="#{claim.question}">{html.escape(claim.claim, quote=False)}</a>' in page
    assert page.count('<a href="#answers">↑ all answers</a>') == len(study.questions)
    text = (folder / "noise.md").read_text(encoding="utf-8")
    assert all(text.count(f'<a id="{name}"></a>\n\n## ') == 1 for name in names)


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


def test_every_claim_has_its_verdict_on_top(folder: Path, store: Store, study: Study) -> None:
    page = (folder / "noise.html").read_text(encoding="utf-8")
    answers = answer_study(study, load(store, study=study.name, profile=PROFILE))
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
    for question in study.questions:
        written = pd.read_csv(folder / f"{question.key}.csv", dtype={"level": str})
        pd.testing.assert_frame_equal(written, question_table(study, question, rows), check_dtype=False)
        never = written.get(f"{question.metric}_not_reached", pd.Series(0, written.index)).fillna(0)
        for value, missed in zip(written[question.metric], never, strict=True):
            if missed:  # a level that some seeds never reached has no mean
                words = "never" if value == math.inf else f"median {number(value)}; {missed:.0f} never"
                assert f">{words}<" in page
            elif not math.isnan(value):
                assert f">{number(value)} [" in page or f">{number(value)}" in page
    overview = pd.read_csv(folder / "overview.csv")
    pd.testing.assert_frame_equal(overview, overview_table(rows, overview.arm.tolist()), check_dtype=False)
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


def test_the_executed_notebook_names_no_place_but_its_store(folder: Path, store: Store) -> None:
    notebook = json.loads((folder / "noise.ipynb").read_text())
    assert {"input_path", "output_path"}.isdisjoint(notebook["metadata"]["papermill"])
    assert all(cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code")


def test_committed_notebooks_hold_no_outputs_and_no_logic() -> None:
    found = {path.stem: json.loads(path.read_text())["cells"] for path in NOTEBOOKS.glob("*.ipynb")}
    assert {"architecture", "depth", "stabilization", "noise", "summary", "study"} <= found.keys()
    for name, cells in found.items():
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), name
        source = "\n".join("".join(cell["source"]) for cell in cells)
        assert source.count("\n") < 20 and "def " not in source and "if " not in source, name
        if name in STUDIES:
            assert f'study = "{name}"' in source and "for question in page.study.questions" in source


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


def shown_by(page: Page | Summary, monkeypatch: pytest.MonkeyPatch, *keys: str) -> str:
    """All text of a page, and the names of its pictures; with keys, of these questions only."""
    shown: list[str] = []
    monkeypatch.setattr(report, "_text", shown.append)
    monkeypatch.setattr(report, "_figure", lambda figure, name, alt: figure is not None and shown.append(name))
    page.introduction()
    page.verdicts()
    if isinstance(page, Page):
        for key in keys or [question.key for question in page.study.questions]:
            page.question(key)
        page.overview()
    else:
        page.details()
    page.provenance()
    return "\n".join(shown)


def test_a_page_of_nothing_is_sentences(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Store(tmp_path / "empty", create=True)
    empty.write_plan(study.name, PROFILE, store.read_plan(study.name, PROFILE) or {})
    text = shown_by(Page(study, PROFILE, empty), monkeypatch)
    assert "No trial has finished: there is nothing to compare." in text
    assert text.count("so there is no effect to draw") == len(study.questions)
    assert "nan" not in text.lower().replace("provenance", "") and ".png" not in text and "-effects" not in text


def test_a_store_of_failed_trials_only_is_sentences(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Store(tmp_path / "failed", create=True)
    for cell in (store.read_plan(study.name, PROFILE) or {})["cells"]:
        if cell["trial_id"] in store.trial_ids():
            spec = store.read_spec(cell["trial_id"])
            failed.write(TrialResult(spec=spec, status="failed", error="worker lost"))
    failed.write_plan(study.name, PROFILE, store.read_plan(study.name, PROFILE) or {})
    text = shown_by(Page(study, PROFILE, failed), monkeypatch)
    assert "97 trials failed for reasons outside the model" in text and "worker lost" in text
    assert "No trial has finished" in text and "-effects" not in text and "-levels" not in text


def test_what_no_trial_ever_reached_is_sentences(store: Store, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(study, PROFILE, store)
    page.rows = page.rows.assign(kimg_to_settle=math.inf)
    text = shown_by(page, monkeypatch, "speed-fc")
    assert "At no seed did a level or its baseline come to a finite value" in text and "share a scored seed" not in text
    assert "speed-fc-effects" not in text.splitlines() and len(re.findall(r"\| +never \|", text)) == 3


@pytest.mark.filterwarnings("error")
def test_fids_of_0_are_sentences_without_warnings(store: Store, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(study, PROFILE, store)
    page.rows.loc[(page.rows.arm == "fc") & (page.rows.status == "ok"), "fid"] = -4.8e-9
    page.answers = answer_study(study, page.rows)
    text = shown_by(page, monkeypatch, "latent-std-fc")
    assert "FID is 0 in every trial of fc, and 0 has no ratio" in text and "no trial has a score yet of fc" not in text
    assert "Where FID is 0 there is no ratio" in text and "−0.000" not in text


def test_two_seeds_have_no_interval_and_why(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Store(shutil.copytree(store.root, tmp_path / "few"))
    plan = few.read_plan(study.name, PROFILE) or {}
    few.write_plan(study.name, PROFILE, {**plan, "cells": [c for c in plan["cells"] if c["seed"] < 2]})
    text = shown_by(Page(study, PROFILE, few), monkeypatch, "latent-std-dc")
    assert "[–]: no interval. Fewer than 3 seeds" in text
    shown = [line for line in text.splitlines() if line.startswith("| ")]
    assert shown and not any(re.search(r"\d \[[−+\d]", re.sub(r"of \d \[.*?%\]", "", line)) for line in shown)


def test_many_commits_are_summarised(store: Store, study: Study, tmp_path: Path) -> None:
    mixed = Store(shutil.copytree(store.root, tmp_path / "mixed"))
    rows = load(mixed, study=study.name, profile=PROFILE).sort_values("date")
    for i, trial_id in enumerate(rows.trial_id):
        result = mixed.read_result(trial_id)
        made = {**result["provenance"], "commit": f"commit-{i}", "date": f"2000-01-01T00:00:{i:02d}Z"}
        shutil.rmtree(mixed.trial_folder(trial_id))
        mixed.write(TrialResult(spec=store.read_spec(trial_id), status="failed", error="x", provenance=made))
    box = tables.provenance(study, PROFILE, mixed, rows).set_index("")[" "]
    assert box["commit"] == f"{len(rows)} in all, from commit-0 to commit-{len(rows) - 1}"


def test_too_few_seeds_and_missing_arms_are_said(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Store(shutil.copytree(store.root, tmp_path / "few"))
    plan = few.read_plan(study.name, PROFILE) or {}
    kept = [c for c in plan["cells"] if c["seed"] < 2 and not c["arm"].startswith("fc latent_std")]
    few.write_plan(study.name, PROFILE, {**plan, "cells": kept})
    text = shown_by(Page(study, PROFILE, few), monkeypatch, "latent-std-dc", "latent-std-fc")
    assert "Exploratory: 2 seeds an arm" in text and "never planned here: fc latent_std=0.1;" in text
    assert "No scored trial yet of: `fc latent_std=0.1`, `fc latent_std=0.3`" in text
    assert "latent-std-dc-effects" in text and "latent-std-fc-effects" not in text
    assert "| supported" not in text and "| refuted" not in text and "| unresolved" in text


def test_mixed_protocols_are_left_out_and_said(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = Store(shutil.copytree(store.root, tmp_path / "mixed"))
    rows = load(mixed, study=study.name, profile=PROFILE)
    trial_id = rows[(rows.arm == "dc") & (rows.seed == 0)].trial_id.item()
    shutil.rmtree(mixed.trial_folder(trial_id) / "scores")
    (mixed.trial_folder(trial_id) / "scores").mkdir()
    mixed.add_scores(trial_id, make_protocol(num_generated=1000), {"fid": 1e6})
    page = Page(study, PROFILE, mixed)
    text = shown_by(page, monkeypatch, "latent-dim-dc")
    assert "1 trial finished but not scored under this protocol" in text and "1,000,000" not in text
    assert (page.rows.fid.dropna() < 1000).all() and "real images: of so few" not in text


def test_few_real_images_are_said(store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poor = Store(shutil.copytree(store.root, tmp_path / "poor"))
    protocol = dataclasses.replace(make_protocol(), num_reference=600)
    plan = poor.read_plan(study.name, PROFILE) or {}
    trial_id = plan["cells"][0]["trial_id"]
    poor.add_scores(trial_id, protocol, {"fid": 20.0, "is_mean": 7.0})
    cells = [{**cell, "protocol_id": protocol.protocol_id} for cell in plan["cells"]]
    poor.write_plan(study.name, PROFILE, {**plan, "protocol_id": protocol.protocol_id, "cells": cells})
    text = shown_by(Page(study, PROFILE, poor), monkeypatch, "latent-dim-dc")
    assert "Scored against 600 real images: of so few, FID and the others" in text


def test_a_deleted_cache_is_said(store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = Store(shutil.copytree(store.root, tmp_path / "without"))
    shutil.rmtree(without.root / "cache")
    text = shown_by(Page(study, PROFILE, without), monkeypatch, "latent-dim-dc")
    assert "no longer in the store's cache" in text and "-neighbours" not in text and "-samples" in text


def test_the_summary_answers_every_claim_and_says_what_has_no_results(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Summary(STUDIES, CLAIMS, PROFILE, store)
    text = shown_by(page, monkeypatch)
    for words in CLAIMS:
        assert f"| [{words}](#" in text
    assert "No results yet of: architecture, depth, stabilization, modern, combined, aa." in text
    assert text.count("**No results.** The study") == 6 and "make study-depth PROFILE=laptop" in text
    verdicts = page._claim_table().set_index("claim").verdict
    answer = next(a for a in page.pages["noise"].answers if a.question == "latent-std-fc")
    assert verdicts["There is a sweet spot of noise: the latent's scale"] == answer.verdict
    assert verdicts["DC images are clearly better than FC images"] == "no results"
    assert verdicts["D converging faster than G is the common failure"] == "no results"
    assert "noise-claims" in text


def test_a_summary_of_nothing_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown profile 'laptp'"):
        Summary(STUDIES, CLAIMS, "laptp", store)
    with pytest.raises(UserError, match="holds no trial of the profile smoke; it has results of: laptop; name one"):
        Summary(STUDIES, CLAIMS, "smoke", store)
    with pytest.raises(UserError, match="holds no trial of the profile laptop; it has no results"):
        Summary(STUDIES, CLAIMS, PROFILE, Store(tmp_path / "empty", create=True))


def test_every_claim_names_questions_and_levels_that_are_there() -> None:
    for reference in (reference for references in CLAIMS.values() for reference in references):
        study, question, *level = reference.split("/", 2)
        labels = [one.label for one in STUDIES[study].question(question).factor.levels]
        assert not level or level[0] in labels, reference


def test_the_summary_is_published_like_a_report(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "summary"
    paths = render_summary(STUDIES, CLAIMS, PROFILE, store, out)
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
            wide: images.filter(i => i.getBoundingClientRect().right > {width}).length,
            facts: page.querySelectorAll(".facts td").length,
            cut: [...page.querySelectorAll(".facts td, nav a, p, li")].filter(
              e => e.getBoundingClientRect().right > {width}).length,
            right: Math.max(...[...page.querySelectorAll("main > p, main > .scroll, main > img")].map(
              e => e.getBoundingClientRect().right)),
            text: page.body.innerText.length }});
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
def test_a_browser_shows_everything_without_scrolling_sideways(
    folder: Path, study: Study, tmp_path: Path, width: int
) -> None:
    found = in_chromium(folder / "noise.html", width, tmp_path)
    assert found["overflow"] == 0 and found["wide"] == 0
    assert found["loaded"] == found["images"] == len(pictures_of(study))
    assert int(str(found["text"])) > 5000
    assert int(str(found["facts"])) > 10 and found["cut"] == 0
    assert float(str(found["right"])) > 0.9 * width, "the right of the page is blank"


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_profile_can_say_what_it_is_about(study: Study) -> None:
    """The reference networks' have a budget each, and the profile none."""
    for profile in study.profiles:
        assert f" of {profile.changes['dataset']}, 7 training seeds an arm" in report._scope(profile, 7)
        assert ", 1 training seed an arm" in report._scope(profile, 1)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, so no page was looked at in a browser")
def test_the_browser_notices_a_page_that_is_too_wide(folder: Path, tmp_path: Path) -> None:
    page = (folder / "noise.html").read_text(encoding="utf-8")
    (tmp_path / "wide.html").write_text(page.replace("overflow-x: auto", ""), encoding="utf-8")
    assert int(str(in_chromium(tmp_path / "wide.html", 390, tmp_path)["overflow"])) > 0
