"""Scores by a network of the user's own that has changed since: pages, plans and sites say so themselves."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis.evidence import load_evidence
from harness.catalog import Catalog
from harness.execution.plan import make_plan, what_changes
from harness.plugins import UserCode
from harness.reporting.provenance import warnings
from harness.scoring.extractors import EXTRACTORS
from harness.scoring.own import current_hash
from harness.site import build as building
from harness.site.build import build
from studies import STUDIES
from tests.scoring.test_own import FILE, emptied, read
from tests.site.conftest import PROTOCOL, lab, quick

__all__ = ["emptied", "quick"]  # fixtures


def said(store, code: UserCode | None, protocol: str | None = None) -> list[str]:
    study = replace(STUDIES["architecture"], own_code=code)
    found = warnings(load_evidence(store, study, "laptop", protocol))
    return [line.split(". ")[0] for line in found if "another version" in line]


def test_reports_tell_what_scored_earlier(tmp_path: Path) -> None:
    code = read(tmp_path, FILE)
    protocol = replace(PROTOCOL, extractor="cells", extractor_hash=current_hash("cells", code))
    store = lab(tmp_path / "runs", range(2), protocol=protocol)
    assert said(store, code) == said(store, None) == []
    assert said(store, read(tmp_path, FILE.replace("a comment", "another"))) == []
    edited = read(tmp_path, FILE.replace("/ 255", "/ 128"))
    told = "8 scores by cells are of another version of it: the next run scores the trials anew"
    assert said(store, edited) == [told]
    del EXTRACTORS["cells"]
    assert said(store, read(tmp_path, "X = 1")) == [], "an entry that is gone scores nothing anew"


def test_scores_that_were_added_name_score(tmp_path: Path) -> None:
    code = read(tmp_path, FILE)
    protocol = replace(PROTOCOL, extractor="cells", extractor_hash=current_hash("cells", code))
    store = lab(tmp_path / "runs", range(2))
    for trial_id in store.trial_ids():
        store.add_scores(trial_id, protocol, {"fid": 3.0, "is_mean": 2.0})
    edited = read(tmp_path, FILE.replace("/ 255", "/ 128"))
    told = "8 scores by cells are of another version of it: `score --protocol cells` scores the trials anew"
    assert said(store, edited, "cells") == [told]
    assert said(store, edited) == [], "they stand beside, under a name of their own"


def test_plans_and_sites_tell_it(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    code = read(tmp_path, FILE)
    protocol = replace(PROTOCOL, extractor="cells", extractor_hash=current_hash("cells", code))
    store = lab(tmp_path / "runs", range(2), protocol=protocol)
    study = replace(STUDIES["architecture"], own_code=read(tmp_path, FILE.replace("/ 255", "/ 128")))
    (line,) = [line for line in what_changes(make_plan(study, "laptop", 2, store)) if "cells" in line]
    assert line.startswith("8 scores by cells are of another version of it, in code or weights: `run` scores")
    plan = store.read_plan("architecture", "laptop") or {}
    store.write_plan("architecture", "laptop", {**plan, "file": str(tmp_path / "mine.py")})
    lines: list[str] = []
    monkeypatch.setattr(building, "page_of", lambda *_: pytest.fail("told only after all is drawn"))
    with pytest.raises(pytest.fail.Exception):
        build([store.root], tmp_path / "site", Catalog({study.name: study}, {}), say=lines.append)
    assert any(line.startswith("architecture (laptop): 8 scores by cells are of another version") for line in lines)
