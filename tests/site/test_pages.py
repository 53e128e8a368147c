"""A site's content: its numbers are those of the store and of reports, its links lead somewhere, it names no paths."""

import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

from harness.analysis import results
from harness.analysis.evidence import Evidence, load_evidence
from harness.catalog import Catalog
from harness.reporting import tables
from harness.site.build import build
from harness.storage.store import Store
from studies import STUDIES
from studies.catalog import CATALOG
from tests.analysis.conftest import DIVERGED, EMPTY, SINGLE
from tests.execution.test_search import run, tuned
from tests.site.conftest import HOME, OTHER, PROFILE, PROTOCOL, UNKNOWN, lab


def data(site: Path, name: str) -> dict[str, Any]:
    """What a script gives a list."""
    found = re.fullmatch(rf'SITE\.list\("{name}", (.*)\);\n', (site / "assets" / f"{name}.js").read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def rows_of(site: Path, name: str, protocol: str = "") -> list[dict[str, Any]]:
    """A list's rows under a protocol, by the heads of their columns."""
    table = data(site, name)["table"]
    (rows,) = [one["rows"] for one in table["sets"] if one["name"] == protocol]
    return [dict(zip([column["head"] for column in table["columns"]], row, strict=True)) for row in rows]


class Links(HTMLParser):
    """Addresses that a page names, and places in it that others can name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.addresses.add(value)
            if name == "id" and value:
                self.places.add(value)


@pytest.fixture(scope="module")
def evidence(noise: Store) -> Evidence:
    return load_evidence(noise, STUDIES["noise"], PROFILE)


def test_every_link_leads_somewhere(site: Path) -> None:
    pages = {path: Links(path.read_text()) for path in site.rglob("*.html")}
    named = [(page, address) for page, links in pages.items() for address in links.addresses]
    claims = data(site, "claims")
    named += [(site / "index.html", row[0][1]) for row in claims["table"]["sets"][0]["rows"]]
    named += [(site / "index.html", page) for _, page in claims["studies"] if page]
    named += [
        (site / "trials.html", f"trials/{row[0]}.html")
        for one in data(site, "trials")["table"]["sets"]
        for row in one["rows"]
    ]
    assert len(pages) > 90 and len(named) > 500
    for page, address in named:
        path, place = urldefrag(address)
        target = (page.parent / unquote(path)).resolve() if path else page
        assert target.is_file() and target.is_relative_to(site.resolve()), f"{page}: {address}"
        assert not place or place in pages[target].places, f"{page}: {address}"


def test_a_page_for_every_trial(site: Path, noise: Store) -> None:
    assert [path.stem for path in sorted((site / "trials").glob("*.html"))] == noise.trial_ids()
    assert all((site / "trials" / f"{i}.png").exists() == noise.has_samples(i) for i in noise.trial_ids())


def test_claims_are_those_of_the_evidence(site: Path, evidence: Evidence) -> None:
    rows = rows_of(site, "claims")
    assert [row["claim"][0] for row in rows] == [answer.claim for answer in evidence.answers]
    for row, answer in zip(rows, evidence.answers, strict=True):
        assert row["verdict"] == answer.verdict and row["n"] == answer.n
        assert row["effect [95%]"][0] == (answer.effect if math.isfinite(answer.effect) else None)
        assert tables.effect_of(answer) in row["effect [95%]"][1]
    index = (site / "index.html").read_text()
    assert f'<a href="studies/noise-{PROFILE}.html">noise</a>' in index
    supported = sum(answer.verdict == "supported" for answer in evidence.answers)
    assert supported and f">{supported} supported<" in index


def test_arms_have_the_numbers_of_reports(site: Path, evidence: Evidence) -> None:
    rows = {row["arm"]: row for row in rows_of(site, "arms", PROTOCOL.protocol_id)}
    overview = tables.overview_table(evidence)
    words = tables.formatted(overview)
    for number, word in zip(overview.to_dict("records"), words.to_dict("records"), strict=True):
        if number["arm"] == EMPTY:
            assert EMPTY not in rows, "an arm without any trial"
            continue
        row = rows[number["arm"]]
        ends = [number["fid"], number["fid_low"], number["fid_high"]]
        assert [row["FID ↓"][i] for i in (0, 2, 3)] == [x if math.isfinite(x) else None for x in ends]
        assert row["FID ↓"][1] == word["FID ↓ [95%]"] and row["diverged"][1] == word["diverged [95%]"]
        assert row["seeds"] == number["n"] and row["IS ↑"][1] == word["IS ↑"]
    fids = [row["FID ↓"][0] for row in rows.values() if row["arm"] != DIVERGED]
    assert fids == sorted(fids) and list(rows)[-1] == DIVERGED, "one of whose trials diverged"
    assert rows[SINGLE]["seeds"] == 1 and rows[SINGLE]["FID ↓"][1].endswith("[–]")


def test_arms_with_diverged_trials_stand_below(tmp_path: Path, quick: None) -> None:
    """Their mean leaves out what is worse than any score."""
    store = lab(tmp_path / "runs", status={("dc", 0): "diverged"})
    build([store.root], tmp_path / "site", UNKNOWN)
    rows = rows_of(tmp_path / "site", "arms", PROTOCOL.protocol_id)
    assert rows[-1]["arm"] == "dc" and rows[-1]["FID ↓"][0] == min(row["FID ↓"][0] for row in rows)
    assert rows[-1]["diverged"][1].startswith("1 of 6 [")


def test_protocols_are_never_in_one_ranking(site: Path, noise: Store) -> None:
    for name, score in (("arms", "FID ↓"), ("trials", "FID ↓")):
        own, other = (rows_of(site, name, key.protocol_id) for key in (PROTOCOL, OTHER))
        values = [[row[score][0] if name == "arms" else row[score] for row in rows] for rows in (own, other)]
        assert max(v for v in values[0] if v is not None) < 500 < 1000 <= min(v for v in values[1] if v is not None)
    assert {row["arm"] for row in rows_of(site, "arms", OTHER.protocol_id)} == {"fc", "dc"}


def test_trials_have_the_scores_of_the_store(site: Path, noise: Store) -> None:
    rows = {row["trial"]: row for row in rows_of(site, "trials", PROTOCOL.protocol_id)}
    table = results.load(noise, study="noise", profile=PROFILE)
    assert rows.keys() == set(table.trial_id)
    for own in table.itertuples():
        row = rows[own.trial_id]
        assert row["status"] == own.status and row["seed"] == own.seed
        if own.status != "ok":
            assert row["FID ↓"] is None
            continue
        for head, value in (("FID ↓", own.fid), ("KID×10³ ↓", 1000 * own.kid), ("recall ↑", own.recall)):
            assert row[head] == pytest.approx(value, rel=1e-5), "six digits"
    assert {row["status"] for row in rows.values()} == {"ok", "diverged", "failed"}


def test_a_trials_page_has_all_of_it(site: Path, noise: Store) -> None:
    table = results.load(noise, study="noise", profile=PROFILE)
    own = table[(table.arm == "dc") & (table.seed == 1)].iloc[0]
    page = (site / "trials" / f"{own.trial_id}.html").read_text()
    for key, (_, scores) in noise.read_scores(own.trial_id).items():
        assert f"Protocol {key}" in page
        assert all(f'title="{value!r}"' in page for value in scores.values()), "to the last digit"
    names = set(re.findall(r"<li><strong>(.*?)</strong>: .{10,}</li>", page))
    assert {"FID ↓", "IS, spread over splits", "KID×10³, spread over subsets", "precision ↑"} <= names
    assert "is_std" not in page and "kid_subset_std" not in page
    assert "gan-ablation run noise --profile laptop --seeds 6" in page
    assert f'dc, seed 1, of <a href="../studies/noise-{PROFILE}.html">' in page
    assert "instance_noise" in page and "Imaginary CPU" in page and "2000-01-01T00:01:00Z" in page
    found = re.search(r'id="curves-data">(.*?)</script>', page)
    curves, stored = json.loads(found[1] if found else ""), noise.read_curves(own.trial_id)
    assert len(curves["rows"]) == len(stored) == 64
    for i, name in enumerate(curves["columns"]):
        for row, value in zip(curves["rows"], stored[name], strict=True):
            assert row[i] == (None if math.isnan(value) else pytest.approx(value, rel=1e-5)), name
    lost = table[table.status == "diverged"].iloc[0]
    assert "It diverged: d_loss is nan at step 120" in (site / "trials" / f"{lost.trial_id}.html").read_text()


def test_a_studys_page_is_its_report(site: Path, evidence: Evidence) -> None:
    page = (site / "studies" / f"noise-{PROFILE}.html").read_text()
    assert all(question.text in html.unescape(page) for question in evidence.design.questions)
    assert "<code>gan-ablation run noise --profile laptop --seeds 6</code>" in page and "base64" not in page
    assert all(f"../trials/{trial_id}.html" in page for trial_id in evidence.trials.trial_id)
    assert len(list((site / "studies" / f"noise-{PROFILE}").glob("*.png"))) > 20


def test_nothing_names_a_path_or_a_network(site: Path, noise: Store) -> None:
    for path in site.rglob("*"):
        if path.suffix in (".html", ".css", ".js", ".json") and path.name != "vega.js":
            text = path.read_text()
            for word in (HOME, str(noise.root), "gan-ablation-site-", "/tmp"):
                assert word not in text, f"{path}: {word}"
            assert not re.search(r"(?:src|href|url)\W{1,3}(?:https?:)?//", text), path
    assert "folder:faces" in (site / "assets" / "trials.js").read_text()


def test_profiles_on_folders_name_no_path(tmp_path: Path, quick: None) -> None:
    store = lab(tmp_path / "runs", range(1))
    plan = store.read_plan("architecture", PROFILE) or {}
    store.write_plan("architecture", f"{PROFILE}@folder:{HOME}", plan)
    build([store.root], tmp_path / "site", UNKNOWN)
    texts = [path.read_text() for path in (tmp_path / "site").rglob("*.*") if path.suffix in (".html", ".js", ".json")]
    assert not any(HOME in text for text in texts)
    assert sum("laptop@folder:faces" in text for text in texts) > 5


def test_studies_that_cannot_be_judged_are_said(tmp_path: Path, quick: None) -> None:
    store, told = lab(tmp_path / "runs"), []
    plan = store.read_plan("architecture", PROFILE) or {}
    store.write_plan("mine", PROFILE, {**plan, "file": "/home/somebody/mine.py"})
    build([store.root], tmp_path / "site", UNKNOWN, say=told.append)
    index = (tmp_path / "site" / "index.html").read_text()
    assert "it is declared in mine.py; `--code mine.py` makes its page" in index and "/home/somebody" not in index
    assert "no study of this name is known to this version of the code" in index
    assert any(line.startswith("mine (laptop) has no page") for line in told)
    assert len(rows_of(tmp_path / "site", "arms", PROTOCOL.protocol_id)) > 3, "its arms are ranked all the same"
    for row in rows_of(tmp_path / "site", "arms", PROTOCOL.protocol_id):
        assert row["study"] == [0, 1], "the same trials are one row, of both studies"


def test_searches_are_part_of_their_study(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search asks nothing, and its candidates are no arms: they are listed among the trials alone."""
    study, store = tuned(), Store(tmp_path / "runs", create=True)
    run(study, store, monkeypatch)
    build([store.root], tmp_path / "site", Catalog({study.name: study}, {}))
    site, page = tmp_path / "site", "studies/small-tuned-smoke.html"
    assert data(site, "claims")["studies"] == [["small-tuned (smoke)", page], ["small-tuned-search (smoke)", page]]
    assert '<h2 id="tuning">' in (site / page).read_text()
    (arms,) = [one["rows"] for one in data(site, "arms")["table"]["sets"]]
    assert sorted(row[0] for row in arms) == ["dc", "fc"]
    names = {row[2] for one in data(site, "trials")["table"]["sets"] for row in one["rows"]}
    assert {"dc", "fc / 3"} <= names
    assert "small-tuned-search" not in (site / "index.html").read_text()


def test_own_files_are_judged_when_named(tmp_path: Path, quick: None) -> None:
    lines = ["from dataclasses import replace", "from studies import STUDIES"]
    lines += ["STUDY = replace(STUDIES['architecture'], name='mine')"]
    (tmp_path / "mine.py").write_text("\n".join(lines))
    store = lab(tmp_path / "runs")
    plan = store.read_plan("architecture", PROFILE) or {}
    store.write_plan("mine", PROFILE, {**plan, "file": str(tmp_path / "mine.py")})
    store.layout.plan("architecture", PROFILE).unlink()
    build([store.root], tmp_path / "site", Catalog({}, {}), [str(tmp_path / "mine.py")], processes=2)
    page = (tmp_path / "site" / "studies" / f"mine-{PROFILE}.html").read_text()
    assert "gan-ablation run mine.py --profile laptop --seeds 6" in page and str(tmp_path) not in page


def test_what_users_write_cannot_run(tmp_path: Path, quick: None) -> None:
    """Arms, errors and names are words: they are neither tags nor the end of a script."""
    store = lab(tmp_path / "runs", range(1), status={("dc", 0): "failed"})
    plan = store.read_plan("architecture", PROFILE) or {}
    evil = "</script><img src=x onerror=alert(1)>"
    cells = [{**cell, "arm": evil + cell["arm"]} for cell in plan["cells"]]
    store.write_plan("architecture", PROFILE, {**plan, "cells": cells})
    build([store.root], tmp_path / "site", UNKNOWN)
    for path in (tmp_path / "site").rglob("*.*"):
        if path.suffix in (".html", ".js"):
            assert "<img src=x" not in path.read_text() and "</script><img" not in path.read_text(), path
    assert CATALOG.studies
