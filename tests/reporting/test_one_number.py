"""One number, one path: wherever a report shows the effect of a level, it is the verdict's own.

With a diverged trial among six, and in a study whose number of seeds depended on interim analyses.
"""

import io
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.analysis import evidence as evidence_module
from harness.analysis import results
from harness.analysis.compare import compare
from harness.analysis.evidence import Evidence, load_evidence
from harness.analysis.sentences import in_brief
from harness.analysis.statistics import Estimate, location
from harness.analysis.verdicts import Answer
from harness.analysis.wording import effect
from harness.cli import app
from harness.reporting import figures
from harness.reporting.latex import latex
from harness.reporting.report import write
from harness.reporting.study_page import study_page
from harness.reporting.terminal import study_for_terminal
from harness.storage.store import Store
from studies import STUDIES
from studies.catalog import CATALOG
from tests.published import PROFILE, diverge, published_store

STUDY, TREATED = STUDIES["noise"], "dc latent_std=10"
QUESTIONS = ("latent-std-dc", "balance-fc")
"""One of ratios, whose level 10 has the diverged trial, and one of differences."""


@dataclass(frozen=True)
class Report:
    evidence: Evidence
    folder: Path

    @property
    def answers(self) -> list[Answer]:
        return [answer for answer in self.evidence.answers if answer.question in QUESTIONS and answer.level]

    def csv(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / f"{name}.csv", dtype={"level": str})

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


def made_up_store(folder: Path, case: str) -> Store:
    store = published_store(folder, STUDY.name, sequential=case == "sequential")
    if case == "diverged":
        diverge(store, STUDY.name, TREATED, 3)
    return store


@pytest.fixture(scope="module", params=["diverged", "sequential"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp(request.param)
    store = made_up_store(folder / "store", request.param)
    evidence = load_evidence(store, STUDY, PROFILE)
    write(study_page(evidence), folder / "report")
    return Report(evidence, folder / "report")


def ends(found: Answer | Estimate) -> tuple[float, float, float]:
    return (found.effect if isinstance(found, Answer) else found.mean), found.low, found.high


def words(answer: Answer) -> str:
    return effect(*ends(answer), answer.scale)


def in_latex(cell: str) -> str:
    return latex(pd.DataFrame({"x": [cell]})).split("\\midrule\n")[1].split(" \\\\")[0]


def test_the_cases_are_hard(report: Report) -> None:
    """Survivors alone, or an interval for one analysis, would give other numbers."""
    answer = next(a for a in report.answers if a.level == "10")
    by_seed = np.log(report.evidence.effects[answer.question]["10"].by_seed)
    survivors = location(by_seed[np.isfinite(by_seed)])
    assert math.log(answer.low) <= survivors.low and math.log(answer.high) > survivors.high + 0.05
    diverged = not report.evidence.sequential
    assert (answer.failures, answer.n, math.isinf(answer.high)) == (diverged, 6, diverged)


def test_csv_files_show_the_verdicts_effect(report: Report) -> None:
    verdicts = report.csv("verdicts").set_index(["question", "level"])
    for answer in report.answers:
        row = verdicts.loc[(answer.question, answer.level)]
        assert (row.effect, row.low, row.high, row.n, row.failures) == (*ends(answer), answer.n, answer.failures)
        row = report.csv(answer.question).set_index("level").loc[answer.level]
        name = f"{report.evidence.design.question(answer.question).metric}_{answer.scale}"
        assert (row[name], row[f"{name}_low"], row[f"{name}_high"], row.pairs) == (*ends(answer), answer.n)


def test_pages_show_the_verdicts_effect(report: Report) -> None:
    page = report.text("noise.md")
    for answer in report.answers:
        table, level = page.split(f'<a id="{answer.question}">')[1], f"| {answer.level} "
        assert any(f"[{answer.claim}](#" in line and f" {words(answer)} |" in line for line in page.splitlines())
        assert any(line.startswith(level) and f" {words(answer)} |" in line for line in table.splitlines())
        assert answer.sentence in page and f"{words(answer)} over {answer.n} seeds" in answer.sentence


def test_latex_shows_the_verdicts_effect(report: Report) -> None:
    for answer in report.answers:
        shown = f"& {in_latex(words(answer))} &"
        claim, lines = in_latex(answer.claim), report.text("verdicts.tex").splitlines()
        assert any(line.startswith(claim) and shown in line for line in lines)
        lines = report.text(f"{answer.question}.tex").splitlines()
        assert any(line.startswith(f"{answer.level} &") and shown in line for line in lines)


def test_the_terminal_shows_the_verdicts_effect(report: Report) -> None:
    console = Console(file=io.StringIO(), width=300, markup=False, highlight=False)
    console.print(*study_for_terminal(report.evidence, width=300, lines=100), sep="\n")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    for answer in report.answers:
        claim = in_brief(answer.claim, report.evidence.design.question(answer.question))
        assert any(claim in line and words(answer) in line for line in lines)


@pytest.mark.parametrize("key", QUESTIONS)
def test_figures_draw_the_verdicts_effect(report: Report, key: str) -> None:
    figure = figures.effects(report.evidence, report.evidence.design.question(key))
    assert figure is not None
    (axes,) = figure.axes
    answers = {answer.level: answer for answer in report.answers if answer.question == key}
    drawn = dict(zip(report.evidence.effects[key], axes.containers, strict=False))
    said = [text.get_text() for text in axes.texts]
    for level, answer in answers.items():
        middle, _, (bar,) = drawn[level]
        assert middle.get_xdata()[0] == answer.effect
        expected = np.clip([answer.low, answer.high], *axes.get_xlim())
        assert bar.get_segments()[0][:, 0] == pytest.approx(expected, rel=1e-12)
        assert any(text.splitlines()[0] == words(answer) for text in said)
    assert sum("diverged" in text for text in said) == sum(answer.failures > 0 for answer in answers.values())
    triangles = [line for line in axes.lines if line.get_marker() in "<>" and line.get_xdata()[0] in axes.get_xlim()]
    assert len(triangles) == sum(math.isinf(answer.high) for answer in answers.values())


def test_the_figure_of_claims_draws_the_verdicts_effect(report: Report) -> None:
    smallest = [report.evidence.design.question(answer.question).smallest_effect for answer in report.answers]
    figure = figures.claims(report.answers, smallest)
    assert figure is not None
    drawn = [line.get_xdata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    for answer, least in zip(report.answers, smallest, strict=True):
        units = math.log(answer.effect) / math.log(least) if answer.scale == "ratio" else answer.effect / least
        assert np.isclose(np.clip(units, -6, 6), drawn, rtol=1e-12).any()


def test_compare_shows_the_verdicts_effect(report: Report, tmp_path: Path) -> None:
    """Of a store whose baseline has the scores of the treated arm, against the store as it is."""
    store = report.evidence.store
    other = Store(shutil.copytree(store.root, tmp_path / "other"))
    rows = report.evidence.rows.set_index(["arm", "seed"])
    for seed in range(6):
        treated, trial_id = rows.loc[(TREATED, seed)], rows.loc[("dc", seed)].trial_id
        if treated.status == "diverged":
            diverge(other, STUDY.name, "dc", seed)
            continue
        ((protocol, scores),) = store.read_scores(trial_id).values()
        shutil.rmtree(other.trial_folder(trial_id) / "scores")
        (other.trial_folder(trial_id) / "scores").mkdir()
        other.add_scores(trial_id, protocol, {**scores, "fid": treated.fid})
    row = compare(store, other).set_index("arm").loc["dc"]
    answer = next(a for a in report.answers if a.level == "10" and a.question == "latent-std-dc")
    assert (row.ratio, row.low, row.high, row.n) == (*ends(answer), answer.n)
    assert words(answer) in row.sentence


def test_a_report_loads_and_answers_once(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command, which writes the page and prints its answers."""
    called: list[str] = []
    for module, name in ((results, "of_plan"), (evidence_module, "ask_study")):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, f=function, **k: called.append(f.__name__) or f(*a, **k))
    place = report.folder.parent
    done = CliRunner().invoke(
        app, ["report", "noise", "--profile", PROFILE, "--store", str(place / "store")], obj=CATALOG
    )
    assert done.exit_code == 0 and sorted(called) == ["ask_study", "of_plan"]
