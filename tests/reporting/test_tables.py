"""Tables: the numbers are those of the seeds they name, and failures are told beside them."""

import io
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType
from scipy import stats

from harness.analysis.evidence import Evidence, load_evidence
from harness.analysis.sentences import in_brief
from harness.analysis.verdicts import Answer
from harness.analysis.wording import count, effect, number, p_value, with_interval
from harness.questions import Question
from harness.reporting import provenance, study_page
from harness.reporting.latex import latex
from harness.reporting.provenance import extractor_proof, warnings
from harness.reporting.tables import (
    AT_A_BOUND,
    FEW_SEEDS,
    NOT_FINITE,
    TOO_WIDE,
    cost_table,
    failure_table,
    formatted,
    formatted_costs,
    formatted_verdicts,
    markdown,
    overview_table,
    question_table,
    verdict_table,
    why_no_interval,
)
from harness.reporting.terminal import claims_for_terminal, study_for_terminal
from harness.storage.store import Store
from harness.study import Study
from tests.analysis.conftest import DIVERGED, FAILED, PROFILE, against, asked, make_answer, with_reference


@pytest.fixture(scope="module")
def rows(evidence: Evidence) -> pd.DataFrame:
    return evidence.rows


def table_of(evidence: Evidence, key: str, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    question = evidence.design.question(key)
    return question_table(asked(evidence, question, rows), question).set_index("level")


def by_seed(rows: pd.DataFrame, arm: str) -> pd.Series:
    return rows[(rows.arm == arm) & (rows.status == "ok")].set_index("seed").fid.sort_index()


def test_means_and_intervals_are_those_of_the_seeds(evidence: Evidence, rows: pd.DataFrame) -> None:
    row = table_of(evidence, "latent-std-dc").loc["0.3"]
    fid = by_seed(rows, "dc latent_std=0.3")
    interval = stats.ttest_1samp(fid, 0).confidence_interval(0.95)
    spread = np.log(fid).var(ddof=1)  # and Cox's interval for the mean of lognormal values, where that is wider
    cox = stats.t.ppf(0.975, 5) * np.sqrt(spread / 6 + spread**2 / (2 * 5))
    stretch = np.exp(max(interval.high / fid.mean() - 1, cox))  # FID is never negative: on the scale of its logarithm
    assert row.n == 6
    assert (row.fid, row.fid_low, row.fid_high) == pytest.approx(
        (fid.mean(), fid.mean() / stretch, fid.mean() * stretch)
    )


def test_differences_are_paired_by_seed(evidence: Evidence, rows: pd.DataFrame) -> None:
    row = table_of(evidence, "latent-std-dc").loc["0.3"]
    a, b = by_seed(rows, "dc latent_std=0.3"), by_seed(rows, "dc")
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert row.pairs == 6
    assert (row.fid_difference, row.fid_difference_low, row.fid_difference_high) == pytest.approx(
        # With six seeds the sign test refuses no median between the least and the largest difference.
        ((a - b).mean(), min(interval.low, (a - b).min()), max(interval.high, (a - b).max()))
    )
    logs, ratios = stats.ttest_rel(np.log(a), np.log(b)).confidence_interval(0.95), a / b
    ends = min(np.exp(logs.low), ratios.min()), max(np.exp(logs.high), ratios.max())
    assert (row.fid_ratio_low, row.fid_ratio_high) == pytest.approx(ends)
    assert row.seed_correlation == pytest.approx(np.corrcoef(np.log(a), np.log(b))[0, 1])  # as it is compared


def test_the_order_of_rows_does_not_matter(evidence: Evidence, rows: pd.DataFrame) -> None:
    expected = table_of(evidence, "instance-noise-dc")
    for seed in range(5):
        pd.testing.assert_frame_equal(
            table_of(evidence, "instance-noise-dc", rows.sample(frac=1, random_state=seed)), expected
        )


def test_a_diverged_seed_counts_in_its_pair(evidence: Evidence, rows: pd.DataFrame) -> None:
    table = table_of(evidence, "latent-std-fc")
    row, fid = table.loc["10"], by_seed(rows, "fc")
    assert (row.n, row.diverged, row.failed, row.pairs) == (5, 1, 0, 6)
    exact = stats.binomtest(1, 6).proportion_ci(0.95, method="exact")
    assert (row.diverged_low, row.diverged_high) == pytest.approx((exact.low, exact.high))
    worst = by_seed(rows, DIVERGED).reindex(fid.index, fill_value=math.inf)  # a diverged trial counts as the worst
    assert row.fid_difference == pytest.approx(np.median(worst - fid))
    ratios = np.sort(worst / fid)
    assert (row.fid_ratio_low, row.fid_ratio_high) == pytest.approx((ratios[0], math.inf))
    assert row.fid_ratio == pytest.approx(math.sqrt(ratios[2] * ratios[3]))
    shown = formatted(table.reset_index(), evidence.design.question("latent-std-fc"))
    assert shown["diverged [95%]"].iloc[-1] == "1 of 6 [0, 64%]"


def test_a_failed_trial_is_not_a_divergence(evidence: Evidence) -> None:
    row = table_of(evidence, "instance-noise-dc").loc["0.5"]
    assert (row.n, row.ended, row.diverged, row.failed) == (5, 5, 0, 1)


def test_one_seed_has_no_interval(evidence: Evidence) -> None:
    question = evidence.design.question("latent-dim-dc")
    table = question_table(evidence, question)
    shown = formatted(table, question).set_index("level")
    assert table.n.tolist() == [1, 6, 6, 0]
    assert shown.loc["2", "FID ↓ [95%]"].endswith(" [–]") and shown.loc["2", "IS ↑"].endswith(" [–]")
    assert (
        shown.loc["256", "FID ↓ [95%]"]
        == shown.loc["256", "ratio to the baseline [95%]"]
        == shown.loc["256", "recall ↑"]
        == "–"
    )
    assert "nan" not in markdown(shown.reset_index())


def test_the_baseline_is_marked_and_not_compared(evidence: Evidence) -> None:
    question = evidence.design.question("latent-std-dc")
    table = question_table(evidence, question)
    assert table[table.is_baseline].level.tolist() == ["1"]
    assert table[table.is_baseline][["pairs", "fid_difference", "fid_ratio"]].isna().all(axis=None)
    assert formatted(table, question).level.tolist() == ["0.1", "0.3", "1 (baseline)", "3", "10"]


def test_an_unscored_trial_is_left_out_and_told(evidence: Evidence, rows: pd.DataFrame) -> None:
    unscored = rows.copy()
    unscored.loc[(rows.arm == "dc latent_std=3") & (rows.seed == 1), "fid"] = np.nan
    row = table_of(evidence, "latent-std-dc", unscored).loc["3"]
    assert (row.n, row.pairs) == (5, 5) and np.isfinite([row.fid, row.fid_difference, row.fid_ratio]).all()
    assert any("1 trial finished but not scored" in line for line in warnings(replace(evidence, rows=unscored)))


def test_numbers_are_short(evidence: Evidence) -> None:
    for question in evidence.design.questions:
        text = markdown(formatted(question_table(evidence, question), question))
        digits = [word.strip("[],±×+−%") for word in text.split()]
        assert max(len(d) for d in digits if d.replace(".", "").isdigit()) <= 7


def test_warnings_tell_all_that_weakens_the_table(evidence: Evidence) -> None:
    told = "\n".join(warnings(evidence))
    assert "11 of 108 planned trials have not been run" in told
    assert "1 trial failed for reasons outside the model" in told
    assert "1 trial diverged" in told
    assert "Exploratory in part: 2 arms lack seeds, and a claim needs at least 6." in told
    assert "Finished so far: dc latent_dim=2 (1); dc instance_noise=0.5 (5)." in told
    assert all(len(re.split(r"(?<=[.!?])\s", line)[0]) <= 110 for line in told.splitlines()), "short at first"


def test_warnings_agree_with_their_numbers(evidence: Evidence, rows: pd.DataFrame) -> None:
    planned = {cell["trial_id"]: cell for cell in evidence.plan["cells"]}
    absent = next(trial_id for trial_id in planned if trial_id not in set(rows.trial_id))
    few = [c for i, c in planned.items() if i == absent or (i in set(rows.trial_id) and c["arm"] != "dc latent_dim=2")]
    kept = rows[rows.arm != "dc latent_dim=2"]
    told = "\n".join(warnings(replace(evidence, plan={**evidence.plan, "cells": few}, rows=kept)))
    assert f"1 of {len(few)} planned trials has not been run yet; the next run adds it." in told
    assert "Until then it is missing" in told and "in part: 1 arm lacks seeds" in told


def test_what_another_protocol_lacks_is_scored_apart(evidence: Evidence, rows: pd.DataFrame) -> None:
    unscored = replace(evidence, rows=rows.assign(fid=np.nan))
    assert "the next run scores them all" in "\n".join(warnings(unscored))
    other = replace(unscored, plan={**evidence.plan, "protocol_id": "0" * 16})
    told = "\n".join(warnings(other))
    assert "the command `score` scores them all" in told and "the next run scores" not in told


def test_every_arm_has_its_cost(evidence: Evidence, rows: pd.DataFrame) -> None:
    assert overview_table(evidence).arm.tolist() == cost_table(evidence).arm.tolist() == evidence.arms
    table = cost_table(evidence)
    dc = rows[(rows.arm == "dc") & (rows.status == "ok")]
    assert table.set_index("arm").loc["dc", "seconds"] == pytest.approx(dc.seconds.mean())
    shown = formatted_costs(table).set_index("arm").loc["dc"]
    assert shown["G parameters"] == f"{dc.generator_parameters.iloc[0]:,}" and shown["G MFLOPs / image"] == "2.50"
    assert shown["D steps"] == shown["G steps"] == f"{dc.d_steps.iloc[0]:,}" and shown["CPU seconds"] == "20.0"
    older = formatted_costs(cost_table(replace(evidence, rows=rows.drop(columns="cpu_seconds"))))
    assert "CPU seconds" not in older


def test_failures_are_listed_with_their_reason(rows: pd.DataFrame) -> None:
    assert failure_table(rows).values.tolist() == [
        [DIVERGED, 3, "diverged", "d_loss is nan at step 120"],
        [FAILED, 5, "failed", "worker lost"],
    ]


def test_another_metrics_question_is_told_by_it(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = replace(evidence.design.question("latent-std-dc"), metric="kimg_to_fid_300")
    never = rows.assign(kimg_to_fid_300=10.0 + rows.seed)
    never.loc[(never.arm == "dc latent_std=3") & (never.seed < 2), "kimg_to_fid_300"] = math.inf
    never.loc[never.arm == "dc latent_std=10", "kimg_to_fid_300"] = math.inf
    table = question_table(asked(evidence, question, never), question).set_index("level")
    assert table.loc["3", "kimg_to_fid_300"] == pytest.approx(14.5)  # the median of 12 to 15 and two that never did
    assert table.loc["3", "pairs"] == 6 and table.loc["3", "kimg_to_fid_300_ratio"] == pytest.approx(1)
    shown = formatted(table.reset_index(), question).set_index("level")
    head = "kimg until online FID ≤ 300 ↓ [95%]"
    assert list(shown.columns)[1:5] == [head, "ratio to the baseline [95%]", "diverged [95%]", "FID ↓ [95%]"]
    assert shown.loc["3", head] == "median 14.5, never in 2 of 6" and shown.loc["10", head] == "never"
    assert shown.loc["10", "ratio to the baseline [95%]"] == "above any ratio" and "nan" not in markdown(
        shown.reset_index()
    )


def test_an_infinite_median_is_told_by_counts(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = replace(evidence.design.question("latent-std-dc"), metric="kimg_to_fid_300")
    never = rows.assign(kimg_to_fid_300=np.where(rows.seed < 4, math.inf, 10.0))
    table = question_table(asked(evidence, question, never), question)
    assert set(formatted(table, question).iloc[:, 2]) == {"never in 4 of 6"}


def test_a_questions_own_metric_stands_once(evidence: Evidence) -> None:
    for metric, name in (("precision", "precision"), ("recall", "recall"), ("is_mean", "IS"), ("fid", "FID")):
        question = replace(evidence.design.question("latent-std-dc"), metric=metric, smallest_effect=1.5)
        heads = list(formatted(question_table(asked(evidence, question), question), question))
        assert [i for i, head in enumerate(heads) if head.startswith(name)] == [2], heads
        assert {head.split(" ")[0] for head in heads} >= {"FID", "IS", "precision", "recall", "KID×10³"}


def test_an_arms_fid_comes_first(evidence: Evidence) -> None:
    assert list(formatted(overview_table(evidence)))[:4] == ["arm", "seeds", "FID ↓ [95%]", "diverged [95%]"]


def test_no_interval_holds_what_cannot_be(evidence: Evidence, rows: pd.DataFrame) -> None:
    wild = rows.assign(fid=np.where(rows.seed == 0, 9.0, 1.0), precision=np.where(rows.seed == 0, 1.0, 0.01))
    shown = replace(evidence, rows=wild.where(rows.status == "ok", rows))
    for question in evidence.design.questions:
        for row in question_table(shown, question).itertuples():
            if row.n > 2:
                assert 0 < row.fid_low < row.fid < row.fid_high and 0 < row.precision_low < row.precision_high < 1
            else:
                assert math.isnan(row.fid_low) and math.isnan(row.precision_low)


def test_a_metric_not_recorded_is_a_dash(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = replace(evidence.design.question("latent-std-dc"), metric="d_accuracy_late", smallest_effect=0.1)
    without = rows.drop(columns="d_accuracy_late", errors="ignore")
    shown = formatted(question_table(asked(evidence, question, without), question), question)
    assert set(shown["D's accuracy in the last quarter [95%]"]) == {"–"}


def test_verdicts_are_told_in_words() -> None:
    answers = [
        make_answer("supported", 0.5, 0.4, 0.6),
        make_answer("unresolved", 0.01, -0.02, 0.04, "difference"),
        replace(make_answer("unresolved", math.nan, math.nan, math.nan), seeds_needed=14),
    ]
    shown = formatted_verdicts(answers)
    assert shown.verdict.tolist() == ["supported", "unresolved", "unresolved"]
    assert shown["effect [95%]"].tolist() == ["×0.50 [0.40, 0.60]", "+0.010 [−0.020, +0.040]", "–"]
    assert shown["exact p"].tolist() == ["0.030"] * 3
    assert shown["seeds needed"].tolist() == ["settled", "> 100", "14"]
    assert shown["p of the verdict (Holm)"].iloc[0] == "0.010 (0.020)"
    assert verdict_table([]).empty and "verdict" in verdict_table([])


def test_numbers_are_told_plainly() -> None:
    nan, inf = math.nan, math.inf
    assert effect(1.2, 0.0, inf, "ratio") == "×1.20 [0, ∞]"
    assert effect(0.0907, 0.0713, 0.1187, "ratio") == "×0.091 [0.071, 0.119]", "no ratio is shown as 0"
    assert effect(0.12, 0.004, 0.5, "ratio") == "×0.12 [0.0040, 0.50]"
    assert effect(2e-5, 1e-9, 1500, "ratio") == "×2.0e-05 [1.0e-09, 1.5e+03]"
    assert effect(1.0, nan, nan, "ratio") == "×1.00 [–]" and effect(-0.5, nan, nan, "difference") == "−0.500 [–]"
    assert effect(inf, inf, inf, "ratio") == effect(inf, nan, nan, "ratio") == "above any ratio"
    assert effect(inf, 2.0, inf, "ratio") == "above any ratio (at least ×2.00)"
    assert effect(inf, 0.0, inf, "ratio") == "above any ratio (interval: every ratio)"
    assert effect(0.0, 0.0, 0.4, "ratio") == "below any ratio (at most ×0.40)"
    assert effect(-inf, -inf, 0.1, "difference") == "below any difference (at most +0.100)"
    assert with_interval(150.2, 99.6, 1226.4) == "150 [100, 1,226]" and with_interval(0.5, nan, nan) == "0.500 [–]"
    assert number(-4.8e-9) == "0.000" and number(-0.25) == "−0.250"
    assert count(1, "trial") == "1 trial" and count(1200, "trial") == "1,200 trials"
    assert [p_value(p) for p in (1, 0.25, 0.0312, 0.00001, math.nan)] == ["1", "0.25", "0.031", "<0.001", "–"]


def test_latex_is_plain_and_complete(evidence: Evidence) -> None:
    table = pd.DataFrame(
        {"arm": ["50% of a_b & {c} #1 $x$ ^ ~ \\ σ γ ≤ ±1 − ∞ – · → ↑ Δ ² ³ < > …"], "FID ↓": ["×1.2"]}
    )
    text = latex(table)
    assert text.isascii() and r"50\% of a\_b \& \{c\} \#1 \$x\$" in text and r"FID $\downarrow$" in text
    for question in evidence.design.questions:
        text = latex(formatted(question_table(evidence, question), question))
        assert text.isascii()
        body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert len(body) == len(question.factor.levels)
        columns = re.search(r"tabular}{(\w+)}", text)
        assert columns and all(line.count("&") == len(columns[1]) - 1 for line in body)
        assert all(word in text for word in (r"\toprule", r"\begin{tabular}", r"\end{tabular}", "booktabs"))


def printed(parts: list[RenderableType], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    console.print(*parts, sep="\n")
    return console.file.getvalue()  # type: ignore[attr-defined]


def ended(evidence: Evidence, width: int = 300, lines: int = 60, *, full: bool = False) -> str:
    return printed(study_for_terminal(evidence, width=width, lines=lines, full=full), width)


def with_answers(evidence: Evidence, answers: list[Answer]) -> Evidence:
    other = replace(evidence)
    vars(other)["answers"] = answers
    return other


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_end_of_a_run_fits_the_screen(evidence: Evidence, width: int) -> None:
    found, refuted = evidence.answers, [replace(a, verdict="refuted") for a in evidence.answers]
    text = ended(
        with_answers(evidence, [replace(a, verdict="unresolved") for a in found[:-2]] + refuted[-2:]), width, 22
    )
    shown = text.splitlines()
    assert shown[1] == "14 claims: 0 supported, 2 refuted, 12 unresolved"
    words = " ".join(text.split())
    assert "11 of 108 planned trials have not been run" in words
    assert max(map(cell_len, shown)) <= width and len(shown) <= 22 and "nan" not in text
    listed = re.findall("  (refuted|unresolved)  ", text)
    assert listed.count("refuted") == min(2, len(listed)) >= 1 and (width < 80 or len(listed) >= 6), "settled first"
    left = f"{14 - len(listed)} more, {'unresolved' if len(listed) > 1 else '1 of them settled'}"
    assert f"and {left}: on the page below" in words
    settled = " ".join(ended(with_answers(evidence, refuted), width, 22).split())
    assert re.search(r"and (\d+) more, \1 of them settled", settled)


def test_each_claim_is_said_once(evidence: Evidence) -> None:
    answers, question_of = evidence.answers, evidence.design.question
    text = ended(evidence, width=120, lines=60)
    assert all(text.count(f"  {in_brief(a.claim, question_of(a.question))}  ") == 1 for a in answers if not a.level)
    assert text.count("FID is the same at 0.1 as at 1") == 1 and "more, " not in text
    assert text.count("latent standard deviation σ") == 2 and "\ndc: latent standard deviation σ " in text
    full = ended(evidence, width=80, lines=22, full=True)
    assert "FID ↓" in full and max(map(cell_len, full.splitlines())) <= 80
    assert all(a.sentence in " ".join(full.split()) for a in answers)


def test_no_interval_is_explained(evidence: Evidence) -> None:
    few = replace(evidence, rows=evidence.rows[evidence.rows.seed < 2])
    assert "[–]: fewer than 3 seeds give no interval." in ended(few) and "finite" not in ended(few)
    assert "[–]" not in ended(with_answers(evidence, [a for a in evidence.answers if a.n > 2]))
    ties = [replace(a, low=math.nan, high=math.nan, n=4) for a in evidence.answers]
    told = ended(with_answers(evidence, ties))
    assert "[–]: where trials have no finite value, fewer than 6 seeds give no interval." in told
    assert "fewer than 3" not in told
    hidden = [replace(a, verdict="refuted") for a in evidence.answers]
    hidden[-1] = replace(ties[-1], verdict="unresolved")
    assert "[–]" not in ended(with_answers(evidence, hidden), 80, 22), "of a claim that is not shown"


def test_each_table_has_its_own_reasons(evidence: Evidence, rows: pd.DataFrame) -> None:
    def why(of: pd.DataFrame, key: str = "latent-std-dc", metric: str = "recall") -> list[str]:
        question = replace(evidence.design.question(key), metric=metric, smallest_effect=1.5)
        return why_no_interval(table=question_table(asked(evidence, question, of), question))

    assert why(rows) == []
    assert why(rows[rows.seed < 2]) == [FEW_SEEDS]
    assert why(rows.assign(recall=0.0)) == [AT_A_BOUND]
    assert why(rows.assign(is_mean=np.where(rows.seed == 0, 9.0, 1.001)), metric="is_mean") == [TOO_WIDE]
    never = rows.assign(kimg_to_fid_300=np.where((rows.seed == 1) & (rows.arm == "dc"), math.inf, 10.0))
    assert why(never[never.seed < 4], metric="kimg_to_fid_300") == [NOT_FINITE]
    assert AT_A_BOUND not in why_no_interval(table=overview_table(evidence))


def test_many_warnings_are_five_short_sentences(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [f"Number {n} is so: b. Of this much more can be said." for n in range(7)]
    monkeypatch.setattr(provenance, "warnings", lambda *_: found)
    lines = ended(with_answers(evidence, [])).strip().splitlines()[-5:]
    assert lines[0] == "Number 0 is so: b." and lines[4] == "3 more warnings stand on the page."
    assert ended(with_answers(evidence, []), full=True).count("much more can be said") == 7


def test_the_summary_counts_and_lists_claims() -> None:
    table = pd.DataFrame(
        {
            "claim": ["a, b", "c", "d", "e"],
            "verdict": ["supported", "no results", "1 supported, 1 refuted", "1 refuted, 1 unresolved"],
            "n": ["6", "–", "6", "6"],
            "x": ["", "y", "", ""],
        }
    )
    lines = printed(claims_for_terminal(table, width=100, lines=21)).splitlines()
    verdicts = "1 supported, 0 refuted, 0 unresolved, 1 without results, 2 with answers that differ"
    assert lines[0] == f"4 claims: {verdicts}"
    assert "a, b" in lines[4] and "y" not in "".join(lines[1:])
    assert "y" in "".join(printed(claims_for_terminal(table, full=True)).splitlines()[1:])


@pytest.mark.parametrize("empty", [0, 15, 22])
def test_the_summary_fits_the_screen(empty: int) -> None:
    claims = [f"A claim of some {'many' if i % 3 else 'very, very, very many'} words, {i}" for i in range(22)]
    claims[20:] = ["... and goes on", "... and on"]
    seeds, verdicts = ["3", "3–6", *["6"] * 20], ["supported", "unresolved"] * 11
    table = pd.DataFrame({"claim": claims, "verdict": verdicts, "n": seeds})
    table.loc[: empty - 1, ["verdict", "n"]] = ["no results", "–"]
    text = printed(claims_for_terminal(table, width=80, lines=21), 80)
    assert len(text.splitlines()) <= 21 and "22 claims: " in text.splitlines()[0]
    assert (f"and {empty} without results" in text) is (empty == 15)
    assert ("No study has results of these claims yet." in text) is (empty == 22)
    listed = [line for line in text.splitlines() if re.search("  (supported|unresolved)", line)]
    assert len(listed) == {15: 7, 22: 0}.get(empty, len(listed)) and (empty or "more unresolved: on the page" in text)
    assert ("Exploratory: 2 of 22 claims with results had fewer than 6 seeds." in text) is (empty == 0)
    assert all(claim in printed(claims_for_terminal(table, full=True), 200) for claim in claims)


def test_a_claim_that_goes_on_has_its_head() -> None:
    table = pd.DataFrame({"claim": ["A is so", "... and b", "... and c"], "n": ["–", "–", "6"]})
    table["verdict"] = ["no results", "no results", "refuted"]
    lines = printed(claims_for_terminal(table)).splitlines()
    assert [line.split("  ")[0] for line in lines[4:6]] == ["A is so", "... and c"] and "1 without results" in lines[6]


def test_nothing_finished_is_said_and_not_a_crash(study: Study, store: Store, tmp_path: Path) -> None:
    plan = store.read_plan(study.name, PROFILE)
    empty = Store(tmp_path / "empty", create=True)
    empty.write_plan(study.name, PROFILE, plan or {})
    text = ended(load_evidence(empty, study, PROFILE))
    assert "No trial has finished: there is nothing to compare." in text
    assert "108 of 108 planned trials have not been run" in text and "nan" not in text


def test_arms_that_were_never_planned_are_named(study: Study, store: Store, tmp_path: Path) -> None:
    older = Store(shutil.copytree(store.root, tmp_path / "store"))
    plan = store.read_plan(study.name, PROFILE)
    assert plan is not None
    cells = [cell for cell in plan["cells"] if cell["arm"] != "fc latent_std=3"]
    older.write_plan(study.name, PROFILE, {**plan, "cells": cells})
    told = "\n".join(warnings(load_evidence(older, study, PROFILE)))
    assert "gained 1 arm never planned here: the next run adds what is missing. That is: fc latent_std=3." in told


def test_mode_collapse_is_said(evidence: Evidence, rows: pd.DataFrame) -> None:
    assert not any("Mode collapse" in line for line in warnings(evidence))
    collapsed = rows.copy()
    collapsed.loc[(rows.arm == "dc latent_std=3") & rows.seed.isin([1, 4]), "is_mean"] = 1.04
    (told,) = (line for line in warnings(replace(evidence, rows=collapsed)) if "Mode collapse in 2 of 9" in line)
    assert "dc latent_std=3 (2 of 6)" in told
    real = number(evidence.reference["is_mean"])
    assert f"IS is 1 where all look the same; a trial counts as collapsed below 1.10 (real images have {real})." in told


def test_trials_on_both_devices_are_said(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    read, ran = Store.read_result, set(evidence.trials[evidence.trials.status == "ok"].trial_id.iloc[:2])

    def on_a_gpu(store: Store, trial_id: str) -> dict:
        result = read(store, trial_id)
        return {**result, "provenance": {**result["provenance"], "gpu": "H200" if trial_id in ran else ""}}

    monkeypatch.setattr(Store, "read_result", on_a_gpu)
    (told,) = (line for line in warnings(evidence) if "on GPUs" in line)
    assert told.startswith("2 trials ran on GPUs and 94 on processors, where seeds draw other latents.")
    ran.clear()
    assert not any("on GPUs" in line for line in warnings(evidence))


def test_collapse_is_judged_by_real_images(evidence: Evidence, rows: pd.DataFrame) -> None:
    low = rows.assign(is_mean=np.where(rows.fid.notna(), 1.04, np.nan))
    for real, said in ((9.0, True), (1.5, True), (1.3, False), (1.0, False)):
        other = with_reference(replace(evidence, rows=low), is_mean=real)
        assert any("Mode collapse" in line for line in warnings(other)) == said, real


def test_the_extractors_accuracy_is_told(evidence: Evidence) -> None:
    """Where numbers were made, always; among the warnings of page and terminal where it is one."""

    def told(accuracy: float, weak: bool = True) -> str:
        proof = {"extractor_accuracy": accuracy, "extractor_chance": 0.1, "extractor_unseen": 2000.0}
        other = with_reference(evidence, **{**evidence.reference, **proof})
        (line,) = extractor_proof(other)
        assert (line in ended(other)) == (line in "".join(map(str, study_page.warnings(other)))) == weak
        assert line in markdown(provenance.provenance(other))
        return line

    good = "The classifier gets 97.6% of 2,000 unseen real pictures right (guessing: 10.0%)."
    assert told(0.976, weak=False) == good
    assert told(0.5).endswith("its features tell these pictures poorly apart, and its scores are coarse.")
    assert told(0.1175).endswith("too little to score by, 32.5% are the least.")


def test_an_interaction_is_paired_twice(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = against(evidence.design.question("latent-std-dc"), "fc")
    shown = asked(evidence, question)
    found = shown.effects[question.key]["0.3"]
    own = by_seed(rows, "dc latent_std=0.3") / by_seed(rows, "dc")
    other = by_seed(rows, "fc latent_std=0.3") / by_seed(rows, "fc")
    assert found.by_seed.tolist() == pytest.approx((own / other).tolist())
    table = question_table(shown, question)
    assert table.set_index("level").fid_ratio["0.3"] == found.mean
    assert "ratio to the baseline, relative to fc [95%]" in formatted(table, question)
    recall = replace(question, metric="recall", smallest_effect=0.05)
    at = rows.set_index(["arm", "seed"]).recall
    difference = at["dc latent_std=0.3"] - at["dc"] - (at["fc latent_std=0.3"] - at["fc"])
    found = asked(evidence, recall).effects[question.key]["0.3"]
    assert found.by_seed.tolist() == pytest.approx(difference.tolist())


def test_kid_is_shown_in_thousandths(evidence: Evidence) -> None:
    question: Question = evidence.design.question("latent-std-dc")
    table = question_table(evidence, question)
    shown = formatted(table, question)["KID×10³ ↓"]
    assert [float(text.split(" [")[0]) for text in shown] == pytest.approx((1000 * table.kid).tolist(), abs=0.06)
