"""All that reports of the published studies say in tables, written down: a change here changes what they say.

tests/frozen/<study>.txt holds every CSV and LaTeX file of a report, one below the other, but results.csv, which is
compared with the published one. Text must be the same to the letter. Numbers in CSV files may differ in their last
digits, by RELATIVE: other vector units round logarithms and sums otherwise. Without AVX-512 they differ by 3e-16
(NPY_DISABLE_CPU_FEATURES and OPENBLAS_CORETYPE=Haswell), without AVX2 by 3e-15 (Nehalem), and what is shown does not.

`python -m tests.reporting.test_frozen_reports` writes what the code of today gives; do so only where a change is meant,
and read the diff.
"""

import csv
import io
import re
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

from harness.analysis.evidence import load_evidence
from harness.analysis.results import load
from harness.reporting.blocks import Written
from harness.reporting.report import write_tables
from harness.reporting.study_page import study_tables
from harness.reporting.summary_page import summary_page
from harness.spec import TrialSpec
from harness.storage.store import Store
from studies.catalog import STUDIES
from studies.claims import CLAIMS
from tests.published import PROFILE, PUBLISHED, STUDIES_PUBLISHED, add_profile, diverge, published_store

FROZEN = Path(__file__).parents[1] / "frozen"
RELATIVE = 1e-12

VARIANTS = {"noise-diverged": "noise", "noise-sequential": "noise"}

FILE = re.compile(r"^==> (.+) <==\n((?:(?!==> ).*\n)*)", re.M)
SAID_OTHERWISE = {
    "2 G steps a D step": "2 G steps per D step",
    "seconds a trial": "time per trial",
    "(accuracy|loss), (first|last) quarter": r"\1 in the \2 quarter",
}
"""Words of the published tables that have changed since."""
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]\d+)?(?![\w.])|(?<![\w.])-?\d+e[+-]\d+(?![\w.])")


def tables(written: Mapping[str, Written]) -> str:
    """Every CSV and LaTeX file that the report writes, one below the other, by name."""
    with tempfile.TemporaryDirectory() as folder:
        write_tables(written, Path(folder))
        files = sorted(path for path in Path(folder).iterdir() if path.name != "results.csv")
        return "".join(f"==> {path.name} <==\n{path.read_text(encoding='utf-8')}\n" for path in files)


def all_tables(store: Store) -> dict[str, str]:
    """Study, or "summary" -> the tables of its report."""
    found = {study: load_evidence(store, STUDIES[study], PROFILE) for study in STUDIES_PUBLISHED}
    summary = summary_page(STUDIES, CLAIMS, PROFILE, store)
    return {"summary": tables(summary.tables), **{study: tables(study_tables(one)) for study, one in found.items()}}


def variant(folder: Path, name: str) -> str:
    """The tables of one of VARIANTS: with one trial diverged, or with a plan that says that seeds were added."""
    study = VARIANTS[name]
    store = published_store(folder, study, sequential=name.endswith("sequential"))
    if name.endswith("diverged"):
        diverge(store, study, "dc latent_std=10", 3)
    return tables(study_tables(load_evidence(store, STUDIES[study], PROFILE)))


def file_of(text: str, name: str) -> str:
    """One of the files that `tables` put below each other."""
    return next(body for file, body in re.findall(FILE, text) if file == name)


def contradictions(text: str, study: str) -> list[str]:
    """Question and level wherever a question's table shows another effect, interval or n than its verdict.

    Of contrasts, which have a verdict a level.
    """
    found = []
    for answer in csv.DictReader(io.StringIO(file_of(text, "verdicts.csv"))):
        question, level, scale = (answer[name] for name in ("question", "level", "scale"))
        if not level:
            continue
        levels = csv.DictReader(io.StringIO(file_of(text, f"{question}.csv")))
        shown = next(row for row in levels if row["level"] == level)
        effect = f"{STUDIES[study].at(PROFILE).question(question).metric}_{scale}"
        ours = [float(answer[name] or "nan") for name in ("effect", "low", "high", "n")]
        theirs = [float(shown[name] or "nan") for name in (effect, f"{effect}_low", f"{effect}_high", "pairs")]
        if ours != pytest.approx(theirs, rel=RELATIVE, nan_ok=True):
            found.append(f"{question} {level}")
    return found


def split(text: str) -> tuple[list[str], list[float]]:
    """The text between the numbers, and the numbers."""
    return NUMBER.split(text), [float(found) for found in NUMBER.findall(text)]


def assert_same(found: str, name: str) -> None:
    """Line by line, so that a failure names the file and shows the line."""
    frozen, part = (FROZEN / f"{name}.txt").read_text(encoding="utf-8"), ""
    assert re.findall("^==>.*", found, re.M) == re.findall("^==>.*", frozen, re.M), "other files"
    for ours, theirs in zip(found.splitlines(), frozen.splitlines(), strict=True):
        part = theirs if theirs.startswith("==>") else part
        if ours == theirs:
            continue
        assert ".csv" in part, f"{name} {part}: {ours} (frozen: {theirs})"
        (words, numbers), (frozen_words, frozen_numbers) = split(ours), split(theirs)
        assert words == frozen_words, f"{name} {part}"
        assert numbers == pytest.approx(frozen_numbers, rel=RELATIVE, abs=1e-15), f"{name} {part}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return published_store(tmp_path_factory.mktemp("published") / "store", *STUDIES_PUBLISHED)


@pytest.fixture(scope="module")
def found(store: Store) -> dict[str, str]:
    return all_tables(store)


@pytest.mark.parametrize("name", ("summary", *STUDIES_PUBLISHED))
def test_published_tables_stay(name: str, found: dict[str, str]) -> None:
    assert_same(found[name], name)


@pytest.mark.parametrize("study", STUDIES_PUBLISHED)
def test_no_table_contradicts_a_verdict(study: str, found: dict[str, str]) -> None:
    assert contradictions(found[study], study) == []


@pytest.mark.parametrize("name", VARIANTS)
def test_diverged_and_sequential_tables_stay(name: str, tmp_path: Path) -> None:
    found = variant(tmp_path / "store", name)
    assert_same(found, name)
    assert contradictions(found, VARIANTS[name]) == []


@pytest.mark.parametrize("study", STUDIES_PUBLISHED)
def test_replay_gives_the_published_results(study: str, store: Store) -> None:
    """Of every trial all that was published, the curve metrics too; but for the protocol, which is made up."""
    ours = load(store, study=study, profile=PROFILE)
    published = (PUBLISHED / study / "results.csv").read_text(encoding="utf-8")
    theirs = pd.read_csv(io.StringIO(published))
    ours = pd.read_csv(io.StringIO(ours.to_csv(index=False)))
    pd.testing.assert_frame_equal(
        ours[theirs.columns].drop(columns="protocol_id"), theirs.drop(columns="protocol_id"), check_exact=True
    )
    younger = ours.drop(columns=theirs.columns)
    tricks = {f.name: f.metadata["off"] for f in fields(TrialSpec) if f.name in younger}
    assert (younger[list(tricks)] == pd.Series(tricks)).all(axis=None), (
        "fields that are younger than the results are off"
    )
    assert younger.drop(columns=list(tricks)).isna().all(axis=None), "scores that are younger than the results"


UNTESTABLE_NOW = {"quality-dc", "quality-fc", "quality-dc-same-size", "quality-fc-same-size"}
OPEN_NOW = {
    "aa": {"quality-fc", "fid-fc", "balance-fc", "loss-fc"},
    "combined": {"tricks-dc/2 G steps per D step"},
    "depth": {"speed-dc", "speed-fc"},
    "noise": {"instance-noise-dc", "visible-noise-dc"},
    "stabilization": {
        "remedies-dc/2 G steps per D step",
        "remedies-dc/one-sided smoothing",
        "balance-dc/one more D layer",
        "balance-fc/one fewer G layer",
        "balance-fc/one-sided smoothing",
        "batches/mixed for both",
        "faster-d-dc",
        "outrun-fc",
    },
}
"""Verdicts that were published while a question's claims shared an error rate, and not a study's."""


@pytest.mark.parametrize("study", STUDIES_PUBLISHED)
def test_replay_gives_the_published_verdicts(study: str, found: dict[str, str]) -> None:
    """To the last digits; but for their sentences, and for what sharing one error rate over the study has changed."""
    published = (PUBLISHED / study / "verdicts.csv").read_text(encoding="utf-8")
    ours, theirs = (
        pd.read_csv(io.StringIO(text)).drop(columns="sentence")
        for text in (file_of(found[study], "verdicts.csv"), published)
    )
    # Seeds at which neither of two reached a level of FID are ties, which were counted once.
    tied = ours.n < theirs.n
    assert set(ours[tied].question) <= {"speed-fc"} and (ours.n <= theirs.n).all()
    theirs = theirs.replace(SAID_OTHERWISE, regex=True)
    theirs.loc[tied, ["n", "smallest_p"]] = ours.loc[tied, ["n", "smallest_p"]]
    untestable = ours.verdict == "not testable at this budget"
    assert set(ours.question[untestable]) == (UNTESTABLE_NOW if study == "depth" else set())
    assert (theirs.verdict[untestable] == "refuted").all()
    theirs.loc[untestable, "verdict"] = ours.verdict[untestable]
    changed = ours.verdict != theirs.verdict
    named = set(ours.question[changed]) | set((ours.question + "/" + ours.level.astype(str))[changed])
    assert (ours.verdict[changed] == "unresolved").all() and OPEN_NOW.get(study, set()) <= named
    assert changed.sum() == len(OPEN_NOW.get(study, ()))
    shared = ["verdict", "p_holm", "seeds_needed", "low", "high", "method"]
    # Refuted as before, and as too small an effect, where the opposite is no longer shown as well.
    otherwise = (ours.p < theirs.p * (1 - RELATIVE)) & (ours.verdict == "refuted")
    assert otherwise.sum() == (study == "combined")
    changed |= otherwise
    signs = ours.p > theirs.p * (1 + RELATIVE)  # which the sign test beside the t test has made larger
    assert (ours.p[signs & ~changed & ~untestable] > 0.1).all() and not (ours.verdict[signs] == "supported").any()
    changed |= signs | untestable
    theirs.loc[changed, ["p", "p_exact"]] = ours.loc[changed, ["p", "p_exact"]]  # of the claim, not of its refutation
    ours, theirs = ours.drop(columns=shared), theirs.drop(columns=shared)
    pd.testing.assert_frame_equal(ours, theirs, rtol=RELATIVE, atol=0)


def test_the_summary_judges_its_claims_together(store: Store) -> None:
    """Of 39 claims that the document makes in all studies, some that their own study supports stay open."""
    page = summary_page(STUDIES, CLAIMS, PROFILE, store)
    table = page.tables["claims"].numbers.set_index("claim")
    sweet = table.loc["There is a sweet spot of noise: the latent's scale"]
    assert (sweet.verdict, sweet["in its study"]) == ("unresolved", "supported")
    assert table.loc["DC images are clearly better than FC images", "verdict"] == "supported"
    text = "\n".join(str(block) for block in page.sections[0].blocks)
    assert "at most 5% get a false verdict on any of the 39 claims that the document makes" in text
    (alone,) = summary_page({"noise": STUDIES["noise"]}, CLAIMS, PROFILE, store).tables["claims"].numbers.verdict[[15]]
    assert alone == "supported"  # one study's page: its six claims of these share the rate


def test_claims_without_results_share_the_rate(tmp_path: Path) -> None:
    """A store that lacks the other studies gives no easier verdicts."""
    one = published_store(tmp_path / "store", "noise")
    table = summary_page(STUDIES, CLAIMS, PROFILE, one).tables["claims"].numbers.set_index("claim")
    assert table.loc["There is a sweet spot of noise: the latent's scale", "verdict"] == "unresolved"


def test_a_larger_budget_stands_beside(tmp_path: Path) -> None:
    """Made up: with four times the budget, the FID that was high is low, and the verdict turns."""
    claim, one = "DC images are clearly better than FC images", published_store(tmp_path / "store", "architecture")
    assert "at long" not in summary_page(STUDIES, CLAIMS, PROFILE, one).tables["claims"].numbers
    add_profile(one, "architecture", "long", lambda fid: 1e5 / fid)
    table = summary_page(STUDIES, CLAIMS, PROFILE, one).tables["claims"].numbers.set_index("claim")
    assert table.loc[claim, "verdict"] == "supported"
    assert table.loc[claim, "at long"] == summary_page(STUDIES, CLAIMS, "long", one).tables["claims"].numbers.verdict[0]
    assert table.loc[claim, "at long"] in ("refuted", "not testable at this budget")
    assert table.loc["A generator with fewer layers learns faster", "at long"] == "–"
    assert "at alternating" not in table
    add_profile(one, "architecture", "alternating", lambda fid: 1e5 / fid)
    table = summary_page(STUDIES, CLAIMS, PROFILE, one).tables["claims"].numbers.set_index("claim")
    assert list(table)[2:4] == ["at alternating", "at long"] and table.loc[claim, "at alternating"] == "refuted"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        texts = all_tables(published_store(Path(folder) / "store", *STUDIES_PUBLISHED))
        texts |= {name: variant(Path(folder) / name, name) for name in VARIANTS}
    for name, text in texts.items():
        (FROZEN / f"{name}.txt").write_text(text, encoding="utf-8")
