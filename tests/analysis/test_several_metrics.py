"""Claims by several metrics: which of them decide, what is said where they disagree, and where it is shown."""

import importlib.util
import itertools
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.analysis.answers import answer_study
from harness.analysis.compare import compare
from harness.analysis.evidence import load_evidence
from harness.analysis.verdicts import Answer
from harness.analysis.wording import number
from harness.cli import app
from harness.errors import UserError
from harness.metrics import METRICS
from harness.reporting.blocks import Fold
from harness.reporting.report import write
from harness.reporting.study_page import study_page
from harness.reporting.summary_page import summary_page
from harness.reporting.tables import of_real_images
from harness.reporting.terminal import study_for_terminal
from harness.spec import ScoreProtocol
from harness.storage.store import Store
from harness.study import Contrast, Design, Expected, Factor, Profile, Study, Trend
from studies import STUDIES
from studies.catalog import CATALOG
from tests.published import PROFILE, PROTOCOL, published_store

WOBBLE = 0.02 * np.sin(np.arange(8) ** 2)
SECOND = replace(PROTOCOL, extractor="inception-v3", extractor_hash="1" * 16)


def design(expected: Expected = "lower", also: tuple[str, ...] = ("kid",), kind: type = Contrast) -> Design:
    """Levels 0 and 1 of one factor; the arms "b latent_std=0" and "b"."""
    factor = Factor.of_field("latent_std", (0.0, 1.0), label="σ")
    question = kind("q", "b", factor, text="", hypothesis="", expected=expected, also=also)
    profile = Profile(name="p", description="", changes={}, seeds=8, num_generated=1, core_seconds_per_trial=1)
    baselines = {"b": {"latent_std": 1.0}}
    return Study(name="s", title="", baselines=baselines, questions=(question,), profiles=(profile,)).at("p")


def rows(n: int = 8, **effects: float) -> pd.DataFrame:
    """The level 0 against the baseline, by each metric: a log ratio of FIDs, else a difference."""
    found = []
    for arm, share in (("b latent_std=0", 1.0), ("b", 0.0)):
        for seed in range(n):
            values = {
                name.replace("_at_", "@"): effect * share + WOBBLE[seed] * share for name, effect in effects.items()
            }
            scores = {name: math.exp(4 + x) if name.startswith("fid") else 0.5 + x / 10 for name, x in values.items()}
            place = {"arm": arm, "seed": seed, "status": "ok", "trial_id": f"{arm}/{seed}", "seconds": 1.0}
            found.append({**place, **scores})
    return pd.DataFrame(found)


@pytest.mark.parametrize(
    ("fid", "kid", "verdict"),
    [
        (-0.5, -3.0, "supported"),
        (0.5, 3.0, "refuted"),
        (-0.5, 3.0, "depends on the metric"),
        (0.5, -3.0, "depends on the metric"),
        (-0.5, 0.0, "depends on the metric"),  # KID shows that it changes by less than counts
    ],
)
def test_all_metrics_decide_together(fid: float, kid: float, verdict: str) -> None:
    (found,) = answer_study(design(), rows(fid=fid, kid=kid))
    assert found.verdict == verdict and found.seeds_needed is None
    assert [a.metric for a in found.by] == ["fid", "kid"] and found.effect == found.by[0].effect
    assert all(words in found.sentence for words in ("KID", "FID", verdict.split()[0].capitalize()))


def test_one_open_metric_leaves_the_claim_open() -> None:
    wide = rows(fid=-0.5, kid=-1.0)
    wide["kid"] += 0.1 * np.random.default_rng(0).normal(size=len(wide))
    (found,) = answer_study(design(), wide)
    assert [a.verdict for a in found.by] == ["supported", "unresolved"]
    assert found.verdict == "unresolved" and found.seeds_needed == max(9, found.by[1].seeds_needed or 0)
    assert "not all 2 metrics that must agree" in found.sentence
    (few,) = answer_study(design(), rows(n=5, fid=-0.5, kid=3.0))
    assert few.verdict == "unresolved"  # exploratory by each
    (absent,) = answer_study(design(), rows(fid=-0.5))
    assert absent.verdict == "unresolved" and absent.problem.startswith("by KID, no trial has a score yet")
    assert absent.sentence == f"Unresolved whether {absent.claim}: {absent.problem}."


def test_better_is_better_by_every_metric() -> None:
    """A lower FID agrees with a higher recall; along levels, too."""
    for expected, kind in (("lower", Contrast), ("rising", Trend)):
        for recall, verdict in ((3.0, "supported"), (-3.0, "depends on the metric")):
            (found,) = answer_study(design(expected, ("recall",), kind), rows(fid=-0.5, recall=recall))
            assert found.verdict == verdict
            assert found.by[1].claim.startswith("recall is higher" if kind is Contrast else "recall falls")


def test_a_disagreement_must_be_plain() -> None:
    """Two metrics are two tries: what supports and refutes at p = 0.035 may be chance."""
    x = np.array([-1.9, -0.3, -0.2, -0.1, 0.1, 0.2, 0.3, 1.9])  # seven of eight lie on the side that t shows
    x = (x - x.mean()) / x.std(ddof=1)
    for t, verdict in ((2.6, "unresolved"), (4.0, "depends on the metric")):  # p = 0.035 and 0.005
        table = rows(fid=0, kid=0)
        treated = table.arm != "b"
        table.loc[treated, "fid"] = np.exp(4 + 0.5 * (x - t / math.sqrt(8)))
        table.loc[treated, "kid"] = 0.5 - 0.01 + (x + t / math.sqrt(8))
        (found,) = answer_study(design(), table)
        assert {a.verdict for a in found.by} == {"supported", "refuted"} and found.verdict == verdict


def test_order_of_metrics_decides_nothing() -> None:
    for effects in itertools.product((-0.5, 0.0, 0.5), repeat=2):
        verdicts = {
            answer_study(design(also=also), rows(fid=effects[0], fid_at_clip=effects[1]))[0].verdict
            for also in (("fid@clip",),)
        }
        other = replace(design().questions[0], metric="fid@clip", also=("fid",))
        turned = replace(design(), questions=(other,))
        verdicts |= {answer_study(turned, rows(fid=effects[0], fid_at_clip=effects[1]))[0].verdict}
        assert len(verdicts) == 1


@pytest.mark.parametrize(
    ("also", "why"),
    [
        (("kids",), "unknown metric"),
        (("fid@",), "unknown metric"),
        (("compute_seconds@clip",), "valid: fid@clip"),
        (("kid", "kid"), "each once"),
        (("fid",), "other than 'fid'"),
        ("kid", "also='kid' is not possible; allowed: a tuple"),
        (("memorization",), "neither more nor less is better"),
    ],
)
def test_metrics_that_cannot_agree_are_refused(also: tuple[str, ...], why: str) -> None:
    with pytest.raises(UserError, match=why):
        design(also=also)


def test_smallest_effects_are_each_metrics_own() -> None:
    question = replace(design().questions[0], smallest_effect=1.5)
    assert question.by("fid@clip").smallest_effect == 1.5
    assert question.by("kid").smallest_effect == METRICS["kid"].smallest_effect


# ---- from a store ----


def scored_twice(folder: Path, protocol: ScoreProtocol = SECOND, *, named: bool = False) -> Store:
    """The published `architecture`, with the FID of a second network turned round: low is high."""
    store = published_store(folder, "architecture")
    for trial_id in store.trial_ids():
        (_, scores), *_ = store.read_scores(trial_id).values()
        store.add_scores(trial_id, protocol, {**scores, "fid": 1000 / scores["fid"]})
    if named:
        plan = store.read_plan("architecture", PROFILE) or {}
        cells = [{**cell, "also": {protocol.extractor: protocol.protocol_id}} for cell in plan["cells"]]
        store.write_plan("architecture", PROFILE, {**plan, "cells": cells})
    return store


def must_agree(study: Study, *names: str) -> Study:
    return replace(study, questions=tuple(replace(q, also=names) if q.metric == "fid" else q for q in study.questions))


def test_a_second_protocol_is_shown_beside(tmp_path: Path) -> None:
    """It decides nothing: verdicts, effects and all that one protocol said stay the same."""
    one = load_evidence(published_store(tmp_path / "one", "architecture"), STUDIES["architecture"], PROFILE)
    two = load_evidence(scored_twice(tmp_path / "two"), STUDIES["architecture"], PROFILE)

    def plainly(answer: Answer) -> Answer:
        return replace(answer, by=(), sentence="")

    assert list(map(plainly, two.answers)) == list(map(plainly, one.answers))
    assert not any(a.by for a in one.answers) and "fid@inception-v3" not in one.rows
    beside = {a.question: a.by[1] for a in two.answers if a.by}
    assert beside.keys() == {q.key for q in STUDIES["architecture"].questions if q.metric in ("fid", "recall")}
    assert beside["dc-or-fc"].verdict == "refuted" and beside["dc-or-fc"].effect == pytest.approx(1 / 0.0908, rel=0.01)
    assert "FID (inception-v3), which does not decide, would say refuted" in two.answers[0].sentence


def test_other_weights_of_one_network_have_names(tmp_path: Path) -> None:
    other = replace(PROTOCOL, extractor_hash="2" * 16)
    evidence = load_evidence(scored_twice(tmp_path / "store", other), STUDIES["architecture"], PROFILE)
    assert evidence.plan["beside"] == ["classifier-22222222"]
    same = replace(PROTOCOL, num_generated=1500)  # the same network, by fewer samples: no further metric
    evidence = load_evidence(scored_twice(tmp_path / "same", same), STUDIES["architecture"], PROFILE)
    assert evidence.plan["beside"] == []


def test_disagreement_is_shown_everywhere(tmp_path: Path) -> None:
    store, study = scored_twice(tmp_path / "store", named=True), must_agree(STUDIES["architecture"], "fid@inception-v3")
    evidence = load_evidence(store, study, PROFILE)
    first, other = evidence.answers[0].by
    assert evidence.answers[0].verdict == "depends on the metric"
    out = tmp_path / "report"
    write(study_page(evidence), out)
    table = pd.read_csv(out / "metrics.csv")
    assert table[["effect", "low", "high", "p_holm"]].iloc[1].tolist() == pytest.approx(
        [other.effect, other.low, other.high, other.p_holm]
    )
    assert table.verdict[:2].tolist() == [first.verdict, other.verdict] == ["supported", "refuted"]
    assert table.decides.all() and pd.read_csv(out / "verdicts.csv").verdict[0] == "depends on the metric"
    for name in ("architecture.html", "architecture.md", "metrics.tex"):
        text = (out / name).read_text(encoding="utf-8")
        assert "FID (inception-v3)" in text and ("depends on the metric" in text or name == "metrics.tex")
    shown = "\n".join(map(str, rendered(study_for_terminal(evidence, width=120, lines=99))))
    assert "3 depends on the metric" in shown and "by FID (inception-v3)" in shown
    claims = {"DC is better": ("architecture/dc-or-fc",)}
    table = summary_page({"architecture": study}, claims, PROFILE, store).tables["claims"].numbers
    assert table.verdict[0] == "depends on the metric"
    assert "by FID (inception-v3): refuted, ×11" in table["effects [95%]"][0]


def test_scores_that_were_added_stand_beside_each_arm(tmp_path: Path) -> None:
    store = scored_twice(tmp_path / "store")
    store.write_reference(PROTOCOL, {"fid": 3.25})
    store.write_reference(SECOND, {"fid": 4.5, "modes": 10.0})
    evidence = load_evidence(store, STUDIES["architecture"], PROFILE)
    page = study_page(evidence)
    shown = page.tables["further"].shown
    assert list(shown.columns) == ["arm", "FID (inception-v3) ↓"]
    assert shown.iloc[-1].tolist() == ["real images", "4.50"]
    means = evidence.rows.groupby("arm")["fid@inception-v3"]
    for arm, values in means:
        told = shown[shown.arm == arm].iloc[0, 1]
        assert told.startswith(number(values.mean())), arm
    made = page.sections[-1].blocks[0].set_index("")[" "]
    assert made["real against real by inception-v3"] == "FID 4.50"
    (first,) = [block for block in page.sections[1].blocks if isinstance(block, Fold) and block.title[:6] == "Scores"]
    assert "*Real images, scored the same way: FID 3.25.*" in [text for text in first.blocks if isinstance(text, str)]
    assert not math.isfinite(of_real_images(evidence, "fid", ()))


def test_a_page_by_other_scores_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = scored_twice(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    words = ["report", "architecture", "--profile", PROFILE, "--store", "store"]
    for further in ([], ["--protocol", "inception-v3"]):
        app([*words, *further], obj=CATALOG, standalone_mode=False)
    first, second = (path / "architecture.md" for path in sorted(store.layout.reports.iterdir()))
    assert second.parent.name == f"architecture-{PROFILE}-{SECOND.protocol_id}"
    assert "--protocol" not in first.read_text(encoding="utf-8")
    by = f"This page goes by the scores of inception-v3 (protocol {SECOND.protocol_id})"
    assert [by in path.read_text(encoding="utf-8") for path in (first, second)] == [False, True]
    score = f"`python -m studies score architecture --profile {PROFILE} --store {store.root} --protocol inception-v3"
    report = f"report architecture --profile {PROFILE} --store {store.root} --protocol {SECOND.protocol_id}`"
    text = second.read_text(encoding="utf-8")
    assert f"{score} --num-generated {SECOND.num_generated}`; `python -m studies {report}" in text


def rendered(parts: list) -> list[str]:
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    return capture.get().splitlines()


def test_stores_are_compared_by_each_network(tmp_path: Path) -> None:
    a, b = (scored_twice(tmp_path / name, named=True) for name in "ab")
    table = compare(a, b)
    assert set(table.metric) == {"fid", "fid@inception-v3"} and set(table.outcome) == {"identical"}
    assert "by FID (inception-v3)" in table[table.metric != "fid"].sentence.iloc[0]


def test_a_cheat_on_one_metric_is_not_better() -> None:
    """Its features' moments are the reference's, and its images are junk: benchmarks/calibration.py says how."""
    path = Path(__file__).parents[2] / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration", path)
    calibration = importlib.util.module_from_spec(spec)
    sys.modules["calibration"] = calibration  # where its dataclasses look for their types
    spec.loader.exec_module(calibration)
    first, second = calibration.cheating(np.random.default_rng(0), studies=40)
    assert (calibration.agreed([first]) == "supported").mean() > 0.9  # the metric that it cheats on is deceived
    assert (calibration.agreed([first, second]) == "supported").mean() <= 0.05
