"""Claims about final quality: the arm that a verdict speaks against must have settled."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.analysis.answers import answer_study, arms_open
from harness.analysis.budget import NOT_TESTABLE, is_about_final_quality, settling
from harness.errors import UserError
from harness.questions import Kind
from harness.study import Design, Expected
from studies import STUDIES
from tests.analysis.test_answers import make_study

INF = math.inf


def asked(kind: Kind, expected: Expected, fids: list[float], settled: list[int], *, final: bool = True) -> tuple:
    """(design, rows) of 8 seeds whose arms have about these FIDs, of which so many trials have settled."""
    study = make_study(kind, expected, len(fids))
    study = replace(study, questions=(replace(study.questions[0], final=final),))
    noise = np.random.default_rng(0).normal(0, 0.02, (len(fids), 8))
    rows = [
        {
            "arm": arm.name,
            "seed": seed,
            "trial_id": f"{i}-{seed}",
            "status": "ok",
            "fid": fids[i] * math.exp(noise[i, seed]),
            "kimg_to_settle": 20.0 if seed < settled[i] else INF,
            "seconds": 1.0,
        }
        for i, arm in enumerate(study.arms(study.questions[0]).values())
        for seed in range(8)
    ]
    return study, pd.DataFrame(rows)


def verdict(*case: object, **words: bool) -> str:
    return answer_study(*asked(*case, **words))[0].verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "expected", "fids", "settled", "found"),
    [  # the baseline is the second level of two, and the middle of three
        ("contrast", "lower", [50, 100], [0, 8], "supported"),  # the worse one has settled, the better one may go on
        ("contrast", "lower", [50, 100], [8, 4], NOT_TESTABLE),
        ("contrast", "lower", [100, 50], [4, 8], NOT_TESTABLE),  # refuted, but the treated may still improve
        ("contrast", "lower", [100, 50], [5, 0], "refuted"),
        ("contrast", "higher", [100, 50], [4, 8], NOT_TESTABLE),
        ("contrast", "higher", [100, 50], [5, 0], "supported"),
        ("contrast", "higher", [50, 100], [8, 4], NOT_TESTABLE),
        ("contrast", "equal", [100, 100], [8, 8], "supported"),
        ("contrast", "equal", [100, 100], [8, 4], NOT_TESTABLE),
        ("contrast", "equal", [100, 50], [8, 0], "refuted"),
        ("contrast", "equal", [100, 50], [0, 8], NOT_TESTABLE),
        ("trend", "rising", [50, 75, 100], [0, 8, 8], "supported"),
        ("trend", "rising", [50, 75, 100], [8, 4, 8], NOT_TESTABLE),
        ("trend", "rising", [100, 75, 50], [4, 8, 8], NOT_TESTABLE),
        ("trend", "rising", [100, 75, 50], [8, 8, 0], "refuted"),
        ("sweet-spot", "worse outside", [100, 50, 100], [8, 0, 8], "supported"),
        ("sweet-spot", "worse outside", [100, 50, 100], [8, 8, 4], NOT_TESTABLE),
        ("sweet-spot", "worse outside", [100, 100, 100], [0, 8, 0], "refuted"),
        ("sweet-spot", "worse outside", [100, 100, 100], [8, 4, 8], NOT_TESTABLE),
    ],
)
def test_a_verdict_speaks_against_settled_arms_only(
    kind: Kind, expected: Expected, fids: list[float], settled: list[int], found: str
) -> None:
    assert verdict(kind, expected, fids, settled) == found
    assert verdict(kind, expected, fids, settled, final=False) in ("supported", "refuted")
    assert verdict(kind, expected, fids, [8] * len(fids)) in ("supported", "refuted")


def test_not_testable_is_said_with_its_reason() -> None:
    study, rows = asked("contrast", "lower", [100, 50], [3, 8])
    (found,) = answer_study(study, rows)
    assert (
        found.sentence.startswith("Not testable at this budget whether ") and "only 3 of 8 at 0 had" in found.sentence
    )
    assert found.seeds_needed is None and not arms_open(study, [found])  # no seed will help
    assert found.n == 8 and found.p < 0.001
    (budget,) = answer_study(*asked("contrast", "lower", [100, 50], [3, 8], final=False))
    assert budget.verdict == "refuted" and budget.sentence.endswith("at whose end only 3 of 8 at 0 had settled.")


def test_few_seeds_stay_exploratory() -> None:
    study, rows = asked("contrast", "lower", [100, 50], [0, 0])
    (found,) = answer_study(study, rows[rows.seed < 5])
    assert found.verdict == "unresolved" and found.sentence.startswith("Exploratory")


def test_settling_counts_diverged_trials_and_skips_unknown() -> None:
    rows = pd.DataFrame(
        {
            "arm": ["a"] * 5,
            "status": ["ok", "ok", "diverged", "ok", "failed"],
            "kimg_to_settle": [3.0, INF, INF, math.nan, math.nan],
        }
    )
    found = settling(rows, "a")
    assert (found.settled, found.known, found.enough) == (2, 3, True)
    assert settling(rows.drop(columns="kimg_to_settle"), "a").enough and settling(rows, "b").enough


def test_only_quality_can_be_final() -> None:
    question = make_study("contrast", "lower", 2).questions[0]
    with pytest.raises(UserError, match="final=True is about the quality of samples"):
        replace(question, metric="kimg_to_settle", final=True)


def test_speed_and_quality_never_rest_on_one_observation() -> None:
    """Wherever a study asks how fast some levels learn, their quality is that of trials that have settled."""
    asked_both = set()
    for study in STUDIES.values():
        for profile in study.profiles:
            design: Design = study.at(profile.name)
            for question in design.questions:
                if is_about_final_quality(question, design.questions):
                    asked_both.add(f"{study.name}/{question.key}")
    assert {"depth/quality-dc", "depth/quality-fc", "noise/variety-fc"} <= asked_both
    assert "depth/speed-dc" not in asked_both and "architecture/dc-or-fc" not in asked_both
