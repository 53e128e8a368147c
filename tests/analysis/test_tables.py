"""Tables: the numbers are those of the seeds they name, and failures are told beside them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis.results import load
from harness.analysis.tables import cautions, formatted, markdown, overview_table, question_table, summary_table
from harness.store import Store
from harness.study import Question, Study
from tests.analysis.conftest import DIVERGED, PROFILE


@pytest.fixture(scope="module")
def rows(store: Store, study: Study) -> pd.DataFrame:
    return load(store, study=study.name, profile=PROFILE)


def table_of(study: Study, key: str, rows: pd.DataFrame) -> pd.DataFrame:
    return question_table(study, study.question(key), rows).set_index("level")


def by_seed(rows: pd.DataFrame, arm: str) -> pd.Series:
    return rows[(rows.arm == arm) & (rows.status == "ok")].set_index("seed").fid.sort_index()


def test_means_and_intervals_are_those_of_the_seeds(study: Study, rows: pd.DataFrame) -> None:
    row = table_of(study, "latent-std-dc", rows).loc["0.3"]
    fid = by_seed(rows, "dc latent_std=0.3")
    interval = stats.ttest_1samp(fid, 0).confidence_interval(0.95)
    assert row.n == 6
    assert (row.fid, row.fid_low, row.fid_high) == pytest.approx((fid.mean(), interval.low, interval.high))


def test_differences_are_paired_by_seed(study: Study, rows: pd.DataFrame) -> None:
    row = table_of(study, "latent-std-dc", rows).loc["0.3"]
    a, b = by_seed(rows, "dc latent_std=0.3"), by_seed(rows, "dc")
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert row.pairs == 6
    assert (row.fid_difference, row.fid_difference_low, row.fid_difference_high) == pytest.approx(
        ((a - b).mean(), interval.low, interval.high)
    )
    logs = stats.ttest_rel(np.log(a), np.log(b)).confidence_interval(0.95)
    assert (row.fid_ratio_low, row.fid_ratio_high) == pytest.approx((np.exp(logs.low), np.exp(logs.high)))
    assert row.seed_correlation == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_the_order_of_rows_does_not_matter(study: Study, rows: pd.DataFrame) -> None:
    expected = table_of(study, "instance-noise-dc", rows)
    for seed in range(5):
        pd.testing.assert_frame_equal(
            table_of(study, "instance-noise-dc", rows.sample(frac=1, random_state=seed)), expected
        )


def test_a_diverged_seed_is_counted_and_leaves_its_pair_out(study: Study, rows: pd.DataFrame) -> None:
    row = table_of(study, "latent-std-fc", rows).loc["10"]
    a, b = by_seed(rows, DIVERGED), by_seed(rows, "fc").drop(3)
    assert (row.n, row.diverged, row.failed, row.pairs) == (5, 1, 0, 5)
    exact = stats.binomtest(1, 6).proportion_ci(0.95, method="exact")
    assert (row.diverged_low, row.diverged_high) == pytest.approx((exact.low, exact.high))
    assert row.fid_difference == pytest.approx((a - b).mean())
    assert (
        formatted(table_of(study, "latent-std-fc", rows).reset_index())["diverged [95%]"].iloc[-1] == "1 of 6 [0, 64%]"
    )


def test_a_failure_outside_the_model_is_not_a_divergence(study: Study, rows: pd.DataFrame) -> None:
    row = table_of(study, "instance-noise-dc", rows).loc["0.5"]
    assert (row.n, row.ended, row.diverged, row.failed) == (5, 5, 0, 1)


def test_one_seed_has_no_interval_and_none_has_no_number(study: Study, rows: pd.DataFrame) -> None:
    table = question_table(study, study.question("latent-dim-dc"), rows)
    shown = formatted(table).set_index("level")
    assert table.n.tolist() == [1, 6, 6, 0]
    assert "[" not in shown.loc["2", "FID ↓ [95%]"] and "±" not in shown.loc["2", "IS ↑"]
    assert shown.loc["256", "FID ↓ [95%]"] == shown.loc["256", "ΔFID [95%]"] == shown.loc["256", "recall ↑"] == "–"
    assert "nan" not in markdown(shown.reset_index())


def test_the_baseline_is_marked_and_not_compared_with_itself(study: Study, rows: pd.DataFrame) -> None:
    table = question_table(study, study.question("latent-std-dc"), rows)
    assert table[table.is_baseline].level.tolist() == ["1"]
    assert table[table.is_baseline][["pairs", "fid_difference", "fid_ratio"]].isna().all(axis=None)
    assert formatted(table).level.tolist() == ["0.1", "0.3", "1 (baseline)", "3", "10"]


def test_a_trial_not_scored_under_the_protocol_is_left_out_and_told(
    store: Store, study: Study, rows: pd.DataFrame
) -> None:
    unscored = rows.copy()
    unscored.loc[(rows.arm == "dc latent_std=3") & (rows.seed == 1), "fid"] = np.nan
    row = table_of(study, "latent-std-dc", unscored).loc["3"]
    assert (row.n, row.pairs) == (5, 5) and np.isfinite([row.fid, row.fid_difference, row.fid_ratio]).all()
    assert any("1 trial finished but not scored" in c for c in cautions(study, PROFILE, store, unscored))


def test_numbers_are_short(study: Study, rows: pd.DataFrame) -> None:
    for question in study.questions:
        text = markdown(formatted(question_table(study, question, rows)))
        digits = [word.strip("[],±×+−%") for word in text.split()]
        assert max(len(d) for d in digits if d.replace(".", "").isdigit()) <= 7


def test_cautions_tell_all_that_weakens_the_table(store: Store, study: Study, rows: pd.DataFrame) -> None:
    told = "\n".join(cautions(study, PROFILE, store, rows))
    assert "11 of 108 planned trials have not been run" in told
    assert "1 trial failed for reasons outside the model" in told
    assert "1 trial diverged" in told
    assert "dc latent_dim=2 (1)" in told and "Exploratory" in told


def test_overview_has_every_arm_with_its_cost(study: Study, rows: pd.DataFrame) -> None:
    arms = list(dict.fromkeys(rows.arm))
    table = overview_table(rows, arms)
    assert table.arm.tolist() == arms
    shown = formatted(table)
    assert shown["G parameters"].str.startswith("123,").all() and (shown["G MFLOPs/image"] == "2.50").all()


def test_summary_is_plain_text_for_a_terminal(store: Store, study: Study) -> None:
    text = summary_table(study, PROFILE, store)
    assert all(question.text in text for question in study.questions)
    tables = [line for line in text.splitlines() if "  " in line]  # words have single spaces
    assert len(tables) == 4 * 2 + 5 + 5 + 4 + 5
    assert max(map(len, tables)) <= 120
    assert "nan" not in text


def test_nothing_finished_is_said_and_not_a_crash(store: Store, study: Study, tmp_path: Path) -> None:
    plan = store.read_plan(study.name, PROFILE)
    empty = Store(tmp_path / "empty", create=True)
    empty.write_plan(study.name, PROFILE, plan or {})
    text = summary_table(study, PROFILE, empty)
    assert "No trial has finished: there is nothing to compare." in text
    assert "108 of 108 planned trials have not been run" in text and "nan" not in text


def test_kid_is_shown_in_thousandths(study: Study, rows: pd.DataFrame) -> None:
    question: Question = study.question("latent-std-dc")
    table = question_table(study, question, rows)
    shown = formatted(table)["KID×10³ ↓"]
    assert [float(text.split(" ± ")[0]) for text in shown] == pytest.approx((1000 * table.kid).tolist(), abs=0.06)
