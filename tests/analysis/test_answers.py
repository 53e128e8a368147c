"""Verdicts worked out by hand, every kind of claim both ways, and whatever can be missing."""

import dataclasses
import importlib.util
import itertools
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis import results
from harness.analysis.answers import answer_study, arms_open
from harness.analysis.verdicts import Answer, judge
from harness.errors import UserError
from harness.metrics import METRICS
from harness.questions import Kind
from harness.storage.store import Store
from harness.study import Contrast, Design, Expected, Factor, Interaction, Profile, Study, SweetSpot, Trend
from tests.analysis.conftest import EMPTY

INF, NAN = math.inf, math.nan
WOBBLE = np.array([0.02, -0.03, 0.01, 0.03, -0.02, -0.01, 0.025, -0.025])  # sums to 0: a paired log ratio's spread
CLASSES = {"contrast": Contrast, "trend": Trend, "sweet-spot": SweetSpot}


def make_study(kind: Kind, expected: Expected, levels: int = 3, metric: str = "fid", base: int = 1) -> Design:
    """Levels 0, 1, 2, ... of one factor; arms "b" (level `base`) and "b latent_std=0", ..."""
    factor = Factor.of_field("latent_std", [float(i) for i in range(levels)], label="σ")
    smallest = 1.25 if METRICS[metric].scale == "ratio" else 0.05
    words = {"text": "", "hypothesis": "", "expected": expected, "metric": metric, "smallest_effect": smallest}
    question = CLASSES[kind]("q", "b", factor, **words)
    profile = Profile(name="p", description="", changes={}, seeds=8, num_generated=1, core_seconds_per_trial=1)
    baselines = {"b": {"latent_std": float(base)}}
    return Study(name="s", title="", baselines=baselines, questions=(question,), profiles=(profile,)).at("p")


def table(study: Design, scores: Sequence[Sequence[float]], metric: str = "fid") -> pd.DataFrame:
    """A results table from (levels, seeds); an infinite score is a diverged trial, a missing one failed."""
    arms = [arm.name for arm in study.arms(study.questions[0]).values()]
    rows = [
        {
            "trial_id": f"{arm}/{seed}",
            "study": "s",
            "arm": arm,
            "seed": seed,
            "status": "failed" if math.isnan(score) else "diverged" if math.isinf(score) else "ok",
            metric: score if math.isfinite(score) else NAN,
            "seconds": 2.0,
        }
        for arm, line in zip(arms, scores, strict=True)
        for seed, score in enumerate(line)
    ]
    return pd.DataFrame(rows)


def fids(*logs: float, n: int = 8) -> list[np.ndarray]:
    """(levels, n) FIDs whose log means are these; wobbling by level, so that pairs differ from one another."""
    block = 0.3 * np.sin(np.arange(n))
    return [np.exp(4 + mean + block + np.roll(np.resize(WOBBLE, n), i)) for i, mean in enumerate(logs)]


def ask(study: Design, scores: Sequence[Sequence[float]], sequential: bool = False) -> list[Answer]:
    return answer_study(study, table(study, scores, study.questions[0].metric), sequential)


def still_open(study: Design, rows: pd.DataFrame) -> set[str]:
    return arms_open(study, answer_study(study, rows, sequential=True))


# ---- what has no ratio ----


def test_fids_of_0_have_no_ratio() -> None:
    study = make_study("contrast", "equal", 2)
    (found,) = ask(study, [np.full(8, -4.8e-9), *fids(0)])
    assert found.verdict == "unresolved"
    assert found.problem == "FID is 0 in every trial of b latent_std=0, and 0 has no ratio"
    (found,) = ask(study, [[0.0, 0.0, *fids(0)[0][2:]], *fids(0)])
    assert found.n == 6 and "2 trials have FID 0, which has no ratio: left out." in found.sentence


def test_the_p_of_equality_is_said_in_words() -> None:
    (found,) = ask(make_study("contrast", "equal", 2), [np.exp(4.25 + 6 * WOBBLE), *fids(0)])
    assert found.verdict == "unresolved" and found.p > 0.5
    assert "to within ×1.25: ×1.26 [" in found.sentence
    assert "neither a smaller difference is shown (p = " in found.sentence and ") nor a larger one" in found.sentence


# ---- verdicts ----


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    ("expected", "effect", "verdict"),
    [
        ("lower", -0.5, "supported"),
        ("lower", 0.5, "refuted"),
        ("lower", 0.0, "refuted"),  # any effect is below the smallest of interest
        ("lower", -0.1, "refuted"),  # shown, but ×1.1 counts as none
        ("higher", 0.5, "supported"),
        ("higher", -0.5, "refuted"),
        ("higher", 0.0, "refuted"),
        ("equal", 0.0, "supported"),
        ("equal", 0.1, "supported"),
        ("equal", 0.5, "refuted"),
        ("equal", -0.5, "refuted"),
    ],
)
def test_contrast(expected: Expected, effect: float, verdict: str, sequential: bool) -> None:
    (found,) = ask(make_study("contrast", expected, 2), fids(effect, 0), sequential)
    assert found.verdict == verdict
    assert found.effect == pytest.approx(math.exp(effect), rel=0.02)
    assert found.low < found.effect < found.high
    assert (found.n, found.level, found.scale, found.failures, found.seeds_needed) == (8, "0", "ratio", 0, None)
    assert found.seconds == 2 * 8 * 2
    assert found.sentence.startswith(verdict.capitalize()) and "FID" in found.sentence


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    ("logs", "verdict"),
    [
        ((0, 0.4, 0.8), "supported"),
        ((0, 0.8, 0.82), "supported"),  # a plateau is ordered, too
        ((0.8, 0.4, 0), "refuted"),
        ((0, 0, 0), "refuted"),
        ((0, 0.5, 0), "refuted"),  # the ends are the same
    ],
)
def test_trend(logs: tuple[float, ...], verdict: str, sequential: bool) -> None:
    (rising,) = ask(make_study("trend", "rising"), fids(*logs), sequential)
    (falling,) = ask(make_study("trend", "falling"), fids(*np.negative(logs)), sequential)
    assert (rising.verdict, falling.verdict) == (verdict, verdict)
    assert rising.effect == pytest.approx(math.exp(logs[-1] - logs[0]), rel=0.03)
    assert rising.level == "" and rising.n == 8


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    ("logs", "verdict", "smaller"),
    [
        ((0.5, 0, 0.8), "supported", 0.5),
        ((0.5, 0, 0), "refuted", 0),  # one side only
        ((0.8, 0, -0.5), "refuted", -0.5),
        ((0, 0, 0), "refuted", 0),
    ],
)
def test_sweet_spot(logs: tuple[float, ...], verdict: str, smaller: float, sequential: bool) -> None:
    (found,) = ask(make_study("sweet-spot", "worse outside"), fids(*logs), sequential)
    assert found.verdict == verdict
    assert found.effect == pytest.approx(math.exp(smaller), rel=0.05)


def test_sweet_spot_of_a_metric_better_higher() -> None:
    study = make_study("sweet-spot", "worse outside", metric="recall")
    recall = [0.3 + WOBBLE, 0.6 + np.roll(WOBBLE, 1), 0.4 + np.roll(WOBBLE, 2)]
    (found,) = ask(study, recall)
    assert found.verdict == "supported" and found.effect == pytest.approx(-0.2, abs=0.01)
    assert found.probability_of_improvement == 0  # an end is never better
    diverged = [[*recall[0][:-1], INF], recall[1], recall[2]]
    (found,) = ask(study, diverged)
    assert found.verdict == "supported" and "sign test" in found.method  # diverging is worse, here too


def test_a_sweet_spot_sought_has_its_price() -> None:
    study = make_study("sweet-spot", "worse outside", levels=4, base=0)
    (found,) = ask(study, fids(0.5, 0.4, 0, 0.6))
    assert found.verdict == "supported" and found.effect == pytest.approx(math.exp(0.5), rel=0.05)
    (declared,) = ask(make_study("sweet-spot", "worse outside", levels=4, base=2), fids(0.5, 0.4, 0, 0.6))
    assert found.p == pytest.approx(2 * declared.p)  # either of two levels may be it
    assert ask(study, fids(0, 0.4, 0.5, 0.6))[0].verdict == "refuted"
    (two,) = ask(make_study("sweet-spot", "worse outside", levels=2), fids(0, 0))
    assert two.verdict == "unresolved" and "at least three levels" in two.sentence


def test_numbers_beside_a_verdict_are_those_of_scipy() -> None:
    rng = np.random.default_rng(4)
    a, b = np.exp(rng.normal(0.2, 0.3, 8)), np.exp(rng.normal(0, 0.3, 8))
    (found,) = ask(make_study("contrast", "higher", 2), [a, b])
    x = np.log(a / b)
    test = stats.ttest_1samp(x, 0)
    low, high = test.confidence_interval()
    second, seventh = np.sort(x)[[1, 6]]  # a sign test of eight does not refuse what lies between
    ends = min(low, second), max(high, seventh)
    assert (found.effect, found.low, found.high) == pytest.approx(tuple(np.exp([x.mean(), *ends])))
    signs = 2 * stats.binomtest(int((x > 0).sum()), 8, alternative="greater").pvalue
    assert signs > 0.1 and found.p == found.p_holm == pytest.approx(max(test.pvalue, signs))
    assert found.p_exact == pytest.approx(stats.permutation_test((x,), np.mean, permutation_type="samples").pvalue)
    assert found.smallest_p == 2**-7
    assert found.seed_correlation == pytest.approx(stats.pearsonr(np.log(a), np.log(b))[0])
    assert found.probability_of_improvement == pytest.approx(stats.mannwhitneyu(b, a).statistic / 64)
    assert found.verdict == "unresolved" and (found.seeds_needed or 101) > 8


def test_method_names_the_test_that_ran() -> None:
    study, rng = make_study("contrast", "higher", 2), np.random.default_rng(0)
    base, treated = np.exp(rng.normal(0, 0.2, (2, 8)))
    both = [np.where(np.arange(8) < 2, math.inf, arm) for arm in (treated, base)]  # ties, which are left out
    one = [np.where(np.arange(8) < 2, math.inf, treated), base]
    cases = {
        "paired t test of log ratios, and their sign test": (([treated, base], False), (both, False)),
        "exact sign test of paired log ratios": ((one, False), ([2 * base, base], False)),
        "anytime-valid t test of paired log ratios, and of their signs": (([treated, base], True), (both, True)),
    }
    for method, made in cases.items():
        for scores, sequential in made:
            assert ask(study, scores, sequential)[0].method == method
    sides = [one[0], base, treated]
    (found,) = ask(make_study("sweet-spot", "worse outside"), sides)
    assert found.method.endswith("; of one side: exact sign test of paired log ratios")


def test_trend_by_hand() -> None:
    first, outlier = np.roll(WOBBLE, 2) / 10, np.array([0.1] * 7 + [-0.68])
    rng = np.random.default_rng(0)
    noisy = np.exp(rng.normal(0, 0.3, (3, 8)) + 0.2 * np.arange(3)[:, None])
    ordered = np.exp([first, first + 0.05, first + outlier])  # in order but for one seed, whose ends are far apart
    decided = []
    for scores in (noisy, ordered):
        (found,) = ask(make_study("trend", "rising"), list(scores))
        page = 2 * stats.page_trend_test(scores.T, method="exact").pvalue
        above = int((scores[2] > scores[0]).sum())
        ends = stats.ttest_1samp(np.log(scores[2] / scores[0]), 0).pvalue
        assert 2 * stats.binomtest(above, 8, alternative="greater").pvalue <= 0.1  # at most seeds, too
        assert found.p == pytest.approx(max(page, ends))
        decided.append(page < ends)
    assert decided == [False, True] and found.verdict == "unresolved"
    (falling,) = ask(make_study("trend", "rising"), list(1 / ordered))
    assert falling.high > 1.25 and falling.verdict == "refuted"  # by the order alone


def test_equality_needs_both_bounds() -> None:
    for sign in (-1, 1):
        (found,) = ask(make_study("contrast", "equal", 2), fids(sign * math.log(1.25), 0))
        assert found.verdict == "unresolved" and found.p > 0.9


def at_p(p: float, margin: float = 0.0) -> np.ndarray:
    """Eight differences that lie above the margin with exactly this p, seven of them each by itself."""
    x = np.array([-2.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    x = (x - x.mean()) / x.std(ddof=1)
    return margin + 0.1 * (x + stats.t.isf(p / 2, 7) / math.sqrt(8))


def test_either_side_may_refute_a_sweet_spot() -> None:
    study, flat, steep = make_study("sweet-spot", "worse outside"), np.ones(8), np.exp(at_p(1e-6, 1))
    for p, verdict in ((0.04, "supported"), (0.06, "unresolved")):
        (found,) = ask(study, [steep, flat, np.exp(at_p(p, 0.0) * 10)])
        assert found.p == pytest.approx(p) and found.verdict == verdict
    for p, verdict in ((0.024, "refuted"), (0.026, "supported")):  # either of two sides: half of 0.05 each
        (found,) = ask(study, [steep, flat, 1.25 / np.exp(at_p(p, 0.0))])
        assert found.verdict == verdict


def test_holm_within_the_question() -> None:
    """The second level alone would be supported at n = 8; beside a first that is just so, it must pay for two."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, 8)
    x = (x - x.mean()) / x.std(ddof=1)
    t = stats.t.isf(0.02, 7) / math.sqrt(8)  # p = 0.04 either way
    scores = [np.exp(x + t), np.ones(8), np.exp(x[::-1] + t)]
    both = ask(make_study("contrast", "higher"), scores)
    assert [a.p for a in both] == pytest.approx([0.04, 0.04]) and [a.p_holm for a in both] == pytest.approx(
        [0.08, 0.08]
    )
    assert {a.verdict for a in both} == {"unresolved"}
    (alone,) = ask(make_study("contrast", "higher", 2), scores[:2])
    assert alone.verdict == "supported"
    small = [1.25 / scores[0], np.ones(8), 1.25 / scores[2]]  # as far below the smallest effect as those above none
    assert {a.verdict for a in ask(make_study("contrast", "higher"), small)} == {"unresolved"}
    assert ask(make_study("contrast", "higher", 2), small[:2])[0].verdict == "refuted"


def test_the_opposite_refutes_beside_claims_that_are_supported() -> None:
    """As an effect below the smallest it would pay for four claims; as the opposite it comes after three shown ones."""
    study = make_study("contrast", "higher", levels=5, base=4)
    opposite = np.exp(-10 * at_p(0.04))  # of spread 1
    scores = [*(np.exp(at_p(1e-4)) for _ in range(3)), opposite, np.ones(8)]
    found = ask(study, scores)
    assert [a.verdict for a in found] == ["supported"] * 3 + ["refuted"]
    assert "the opposite is shown" in found[3].sentence


def test_a_large_p_alone_refutes_nothing() -> None:
    rng = np.random.default_rng(3)
    scores = np.exp(rng.normal(0, 1.5, (2, 8)))
    for expected in ("lower", "higher", "equal"):
        (found,) = ask(make_study("contrast", expected, 2), list(scores))
        assert found.verdict == "unresolved" and "Unresolved" in found.sentence


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_a_metric_at_its_bound_answers_nothing(bound: float) -> None:
    """Recall that is 0 everywhere says nothing of whether it would rise in networks that have any."""
    study = make_study("trend", "rising", metric="recall")
    near = [np.abs(bound - 0.01 * np.abs(WOBBLE)) for _ in range(3)]
    (found,) = ask(study, near)
    assert found.verdict == "unresolved" and f"within 0.05 of {bound:g} at every level" in found.sentence
    away = [0.5 + 0.1 * WOBBLE + 0.001 * np.roll(WOBBLE, i) for i in range(3)]
    (found,) = ask(study, [*near[:2], near[2] + (0.1 if bound == 0 else -0.1)])
    assert not found.problem
    assert ask(study, away)[0].verdict == "refuted"


def test_diverged_is_not_a_metric_at_its_bound() -> None:
    scores = [np.full(8, 0.01), np.full(8, 0.01), np.full(8, 0.01)]
    scores[2][:6] = INF
    (found,) = ask(make_study("trend", "rising", metric="recall"), scores)
    assert found.failures == 6 and not found.problem


def test_an_infinite_effect_never_counts_as_none() -> None:
    for expected, first, last in (("falling", INF, 10.0), ("rising", 10.0, INF)):
        study = make_study("trend", expected, levels=2, metric="kimg_to_fid_300", base=0)
        rows = table(study, [[10.0] * 8, [10.0] * 8], "kimg_to_fid_300")
        rows["kimg_to_fid_300"] = [first] * 8 + [last] * 8  # status ok: they ran to their end without
        (found,) = answer_study(study, rows)
        assert found.verdict == "supported" and "less than" not in found.sentence
    (small,) = ask(make_study("contrast", "higher", 2), fids(-0.05, 0))
    assert "though smaller than ×1.25, which counts as none" in small.sentence


def test_p_is_that_of_the_verdict() -> None:
    (shown,) = ask(make_study("contrast", "equal", 2), fids(0.5, 0))
    assert shown.verdict == "refuted" and shown.p < 0.001 and "p <0.001" in shown.sentence
    (small,) = ask(make_study("contrast", "higher", 2), fids(0.0, 0))
    x = np.log(fids(0.0, 0)[0] / fids(0.0, 0)[1])
    assert small.verdict == "refuted"
    assert small.p == pytest.approx(2 * stats.ttest_1samp(x, math.log(1.25), alternative="less").pvalue)
    (opposite,) = ask(make_study("contrast", "higher", 2), fids(-0.5, 0))
    assert opposite.verdict == "refuted" and "the opposite is shown" in opposite.sentence
    assert opposite.p == pytest.approx(stats.ttest_1samp(np.log(np.divide(*fids(-0.5, 0))), 0).pvalue)


def test_a_sweet_spot_names_the_best_level_seen() -> None:
    (found,) = ask(make_study("sweet-spot", "worse outside", levels=4), fids(0.8, 0, -0.3, 0.8))
    assert found.verdict == "supported" and "The best of all levels, by its mean: 2 (not tested)." in found.sentence


def test_what_lies_between_a_trends_ends_is_said() -> None:
    (found,) = ask(make_study("trend", "rising"), fids(0.5, 0, 0.45))
    assert "At 1, between, its mean is lower than at both ends, by more than ×1.25 (not tested)." in found.sentence
    (found,) = ask(make_study("trend", "rising"), fids(0, 0.3, 0.05))
    assert "At 1, between, its mean is higher than at both ends" in found.sentence
    for logs in ((0, 0.3, 0.6), (0.1, 0, 0.1)):
        (found,) = ask(make_study("trend", "rising"), fids(*logs))
        assert "between" not in found.sentence


def test_levels_never_reached_are_counted() -> None:
    study = make_study("trend", "rising", metric="kimg_to_fid_300")
    rows = table(study, [[10.0] * 8, [12.0] * 8, [14.0] * 8], "kimg_to_fid_300")
    rows.loc[rows.index[-3:], "kimg_to_fid_300"] = INF  # status ok: it ran to its end without
    (found,) = answer_study(study, rows)
    assert found.failures == 0 and "3 trials never reached it and count as later than any that did." in found.sentence


# ---- failures ----


def test_diverged_trials_are_the_worst_and_are_counted() -> None:
    worse, base = fids(0.1, 0)
    worse[[0, 3, 5]] = INF
    (found,) = ask(make_study("contrast", "higher", 2), [worse, base])
    assert found.failures == 3 and "3 trials diverged and count as the worst" in found.sentence
    assert found.p == found.p_exact == pytest.approx(2 / 2**8) and found.verdict == "supported"
    assert found.high == INF and "sign test" in found.method
    (found,) = ask(make_study("contrast", "lower", 2), [worse, base])
    assert found.verdict == "refuted"


def test_survivors_do_not_flatter_an_arm() -> None:
    """Without its diverged half the arm would be shown to be better."""
    better, base = fids(-0.5, 0, n=12)
    better[::2] = INF
    (found,) = ask(make_study("contrast", "lower", 2), [better, base])
    assert found.verdict == "unresolved"
    assert ask(make_study("contrast", "lower", 2), [better[1::2], base[1::2]])[0].verdict == "supported"


def test_effects_are_over_the_seeds_they_name() -> None:
    """A trend's and a sweet spot's over those that have all their levels, as their tests."""
    first, between, last = fids(0, 0.5, 1)
    between[0], last[0] = NAN, 100 * last[0]
    (found,) = ask(make_study("trend", "rising"), [first, between, last])
    assert found.n == 7 and "over 7 seeds" in found.sentence
    assert found.effect == pytest.approx(np.exp(np.log(last[1:] / first[1:]).mean()))
    low, peak, high = fids(0.5, 0, 0.8)
    high[0] = NAN
    (found,) = ask(make_study("sweet-spot", "worse outside"), [low, peak, high])
    assert found.n == 7 and "smaller side" in found.sentence and "over 7 seeds" in found.sentence
    assert found.effect == pytest.approx(np.exp(np.log(low[1:] / peak[1:]).mean()))


@pytest.mark.parametrize("sequential", [False, True])
def test_two_arms_that_always_diverge_show_nothing(sequential: bool) -> None:
    for expected in ("lower", "equal"):
        (found,) = ask(make_study("contrast", expected, 2), np.full((2, 8), INF), sequential)
        assert (found.verdict, found.p, found.n, found.failures) == ("unresolved", 1, 0, 16)
        assert math.isnan(found.effect) and "At 8 seeds this holds for both that are compared: a tie" in found.sentence


@pytest.mark.parametrize("kind", ["contrast", "trend", "sweet-spot"])
def test_ties_of_the_diverged_are_no_seeds(kind: Kind) -> None:
    """Three pairs that tell something are too few, however many there are at which both diverged."""
    expected: Expected = {"contrast": "higher", "trend": "rising", "sweet-spot": "worse outside"}[kind]
    ends, between = fids(1.0, 0.0)
    levels = [ends, between, ends] if kind == "sweet-spot" else [between, ends][:: 1 if kind == "trend" else -1]
    values = np.stack(levels)
    values[:, 3:] = INF
    study = make_study(kind, expected, len(values))
    (found,) = ask(study, values)
    assert (found.verdict, found.n) == ("unresolved", 3) and "over 3 seeds" in found.sentence
    values[:, 3:6] = np.stack(levels)[:, 3:6]
    (found,) = ask(study, values)
    assert (found.verdict, found.n) == ("supported", 6)


def test_an_arm_against_itself_shows_nothing() -> None:
    study = make_study("contrast", "equal", 2)
    rows = table(study, fids(0, 0)).assign(trial_id=lambda found: found.seed.astype(str))
    (found,) = answer_study(study, rows)
    assert found.verdict == "unresolved" and "are the same trials, as nothing tells the two apart" in found.sentence
    apart = rows.assign(trial_id=rows.arm + rows.trial_id)
    assert answer_study(study, apart)[0].verdict == "supported"
    twice = table(study, [fids(0)[0]] * 2)
    measured = twice.assign(kid=twice.fid / 1000, g_loss_late=twice.seed + 0.5)
    (found,) = answer_study(study, measured)
    assert found.verdict == "unresolved" and "are the same trials" in found.sentence, "one training under two names"
    nearly = measured.assign(g_loss_late=measured.g_loss_late + (measured.arm == measured.arm.iloc[0]) * 1e-12)
    assert answer_study(study, nearly)[0].verdict == "supported"


def test_failed_trials_are_missing() -> None:
    worse, base = fids(0.5, 0)
    worse[2] = base[4] = NAN
    (found,) = ask(make_study("contrast", "higher", 2), [worse, base])
    assert (found.n, found.failures, found.verdict) == (6, 0, "supported")
    base[5] = NAN
    (found,) = ask(make_study("contrast", "higher", 2), [worse, base])
    assert (found.n, found.verdict) == (5, "unresolved")


def test_diverged_without_an_order_leaves_claims_open() -> None:
    study = make_study("contrast", "higher", 2, metric="g_loss_late")
    scores = [1 + WOBBLE, np.roll(WOBBLE, 1)]
    assert ask(study, scores)[0].verdict == "supported"
    scores[0][3] = INF
    (found,) = ask(study, scores)
    assert found.verdict == "unresolved" and "1 trial diverged without G loss" in found.sentence


def test_a_level_not_reached_is_no_failure() -> None:
    study = make_study("contrast", "higher", 2, metric="kimg_to_fid_100")
    rows = table(study, [[40.0] * 8, [20.0] * 8], "kimg_to_fid_100")
    rows.loc[rows.seed < 3, "kimg_to_fid_100"] = [INF] * 3 + [15.0] * 3
    (found,) = answer_study(study, rows)
    assert (found.verdict, found.failures) == ("supported", 0)


# ---- what is missing ----


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("sequential", [False, True])
def test_few_seeds_are_exploratory(n: int, sequential: bool) -> None:
    for study, scores in (
        (make_study("contrast", "lower"), fids(-3, 0, -3, n=n)),
        (make_study("contrast", "lower"), fids(3, 0, 3, n=n)),
        (make_study("trend", "falling"), fids(3, 0, -3, n=n)),
        (make_study("sweet-spot", "worse outside"), fids(3, 0, 3, n=n)),
    ):
        for found in ask(study, scores, sequential):
            assert found.verdict == "unresolved" and found.seeds_needed >= 6
            assert found.sentence.startswith("Exploratory")


def test_missing_arms_and_columns_are_said() -> None:
    study = make_study("contrast", "lower")
    rows = table(study, fids(-0.5, 0, -0.5))
    first, second = answer_study(study, rows[rows.arm != "b latent_std=2"])
    assert first.verdict == "supported"
    assert second.verdict == "unresolved" and "no trial has a score yet of b latent_std=2" in second.sentence
    assert (second.n, second.p, second.seeds_needed) == (0, 1, None)
    for nothing in (rows.iloc[:0], rows.assign(status="failed"), rows.drop(columns="fid")):
        assert {a.verdict for a in answer_study(study, nothing)} == {"unresolved"}
        assert all("no trial has a score yet" in a.sentence for a in answer_study(study, nothing))


def test_two_profiles_in_one_table_are_refused() -> None:
    study = make_study("contrast", "lower", 2)
    rows = table(study, fids(-0.5, 0))
    with pytest.raises(UserError, match="several trials of arm 'b latent_std=0' at seed 0"):
        answer_study(study, pd.concat([rows, rows]))


def test_every_question_has_its_answers(design: Design, store: Store) -> None:
    study, rows = design, results.load(store, study=design.name)
    answers = answer_study(study, rows)
    assert {a.question for a in answers} == {q.key for q in study.questions}
    assert any(EMPTY in a.sentence for a in answers)
    assert all(a.sentence.endswith(".") and a.method for a in answers)


# ---- more seeds ----


def test_arms_of_open_claims_stay_open() -> None:
    study = make_study("contrast", "higher")
    scores = fids(2, 0, 0.2, n=8)
    scores[2] = np.exp(4 + np.random.default_rng(0).normal(0, 0.8, 8))
    rows = table(study, scores)
    assert [a.verdict for a in answer_study(study, rows, sequential=True)] == ["supported", "unresolved"]
    assert still_open(study, rows) == {"b", "b latent_std=2"}
    assert still_open(study, rows[rows.seed < 3]) == {"b", "b latent_std=0", "b latent_std=2"}
    assert still_open(study, rows.iloc[:0]) == {"b", "b latent_std=0", "b latent_std=2"}
    assert still_open(study, table(study, fids(2, 0, 2))) == set()


def test_a_sweet_spot_leaves_the_levels_between_alone() -> None:
    study = make_study("sweet-spot", "worse outside", levels=5, base=2)
    assert still_open(study, table(study, fids(0, 0, 0, 0, 0, n=3))) == {"b", "b latent_std=0", "b latent_std=4"}
    hopeless = make_study("sweet-spot", "worse outside", levels=2)
    assert still_open(hopeless, table(hopeless, fids(0, 0))) == set()


def test_seeds_needed_are_enough_most_of_the_time() -> None:
    study = make_study("contrast", "higher", 2)
    x = np.array([-1.5, -0.8, -0.4, 0, 0.2, 0.5, 0.8, 1.2])
    x = (x - x.mean()) / x.std(ddof=1)
    rng = np.random.default_rng(0)
    for sequential, most in ((False, 0.86), (True, 0.97)):
        (found,) = ask(study, [np.exp(0.4 * x + 0.33), np.ones(8)], sequential)
        assert found.verdict == "unresolved" and found.seeds_needed > 8
        differences = rng.normal(0.33, 0.4, (2000, found.seeds_needed))
        scores = np.stack([differences, np.zeros_like(differences)], 1)
        _, verdicts = judge(study.questions[0], 1, scores, sequential=sequential)
        assert 0.77 < (verdicts == "supported").mean() < most


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2]))
@settings(max_examples=8)
def test_anytime_p_only_falls_and_batches_agree(seed: int, diverging: float) -> None:
    rng = np.random.default_rng(seed)
    for study in (
        make_study("contrast", "lower"),
        make_study("contrast", "equal"),
        make_study("trend", "rising"),
        make_study("sweet-spot", "worse outside"),
    ):
        w = rng.normal(0.1, 0.3, (2, 3, 14))
        w[rng.random(w.shape) < diverging] = INF
        question = study.questions[0]
        analyses = [judge(question, 1, w[..., :n], sequential=True)[0] for n in range(1, 15)]
        for earlier, later in itertools.pairwise(analyses):
            assert (later.p <= earlier.p + 1e-12).all() and (later.against <= earlier.against + 1e-12).all()
        for sequential in (False, True):
            _, verdicts = judge(question, 1, w, sequential=sequential)
            for i in range(2):  # the calibration's batches against the answers of one study
                alone = [a.verdict for a in ask(study, list(np.exp(w[i])), sequential)]
                assert alone == verdicts[i].tolist()


def test_twenty_questions_are_answered_within_a_second() -> None:
    study = make_study("contrast", "equal", levels=5)
    rows = table(study, fids(0.1, 0, 0.2, 0.5, 1, n=10))
    answer_study(study, rows)
    for sequential in (False, True):
        started = time.process_time()
        for _ in range(20):
            answer_study(study, rows, sequential)
        assert time.process_time() - started < 1.5  # 0.3 s on an idle core


def test_verdicts_are_rarely_wrong_in_families() -> None:
    """A small part of the calibration, with the script's own code; docs/statistics.md has the whole."""
    path = Path(__file__).parents[2] / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration", path)
    assert spec is not None and spec.loader is not None
    calibration = importlib.util.module_from_spec(spec)
    sys.modules["calibration"] = calibration  # dataclasses look their module up
    spec.loader.exec_module(calibration)
    rng, num = np.random.default_rng(0), 0
    for (kind, expected), cases in calibration.CASES.items():
        for case in cases:
            if "4 claims" in case.name and not any(case.diverging):
                quick = dataclasses.replace(case, covered=False)
                _, worst = calibration.row(kind, expected, quick, rng, 300)
                assert worst < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300), case
                num += 1
    assert num == 6


def test_an_interaction_is_the_ratio_of_the_ratios() -> None:
    """Halved for b, and for c by a third: b's ratio is 0.75 times c's. Same seeds, so that their wobble cancels."""
    plain = make_study("contrast", "lower", levels=2, base=0)
    (plain_question,) = plain.questions
    question = Interaction("q", "b", plain_question.factor, text="", hypothesis="", expected="lower", versus="c")
    study = dataclasses.replace(
        plain, baselines={"b": {"latent_std": 0.0}, "c": {"latent_dim": 9}}, questions=(question,)
    )
    study = dataclasses.replace(study, baselines={**study.baselines, "c": {"latent_std": 0.0, "latent_dim": 9}})
    assert [arm.name for arm in study.arms_versus(question).values()] == ["c", "c latent_std=1"]
    noise = np.exp(WOBBLE)
    columns = {
        "b": 100 * noise,
        "b latent_std=1": 50 * noise[::-1],
        "c": 300 * noise,
        "c latent_std=1": 200 * noise[::-1],
    }
    rows = pd.DataFrame(
        {"trial_id": f"{arm}/{i}", "study": "s", "arm": arm, "seed": i, "status": "ok", "fid": value, "seconds": 1.0}
        for arm, values in columns.items()
        for i, value in enumerate(values)
    )
    (one,) = answer_study(study, rows)
    assert one.effect == pytest.approx(0.75) and one.verdict == "supported" and "b relative to c" in one.claim
    assert one.seconds == 32
    (other,) = answer_study(study, rows[rows.arm != "c latent_std=1"])
    assert other.verdict == "unresolved"
    (lost,) = answer_study(study, rows.assign(status=np.where(rows.trial_id == "c latent_std=1/3", "diverged", "ok")))
    assert lost.failures == 1
    two = answer_study(study, rows.assign(fid=np.where(rows.arm == "c latent_std=1", 0.5, 2 / 3) * rows.fid))
    assert two[0].effect == pytest.approx(1.0) and two[0].verdict != "supported"


# ---- one error rate for a page ----


def two_questions(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> tuple[Design, pd.DataFrame]:
    """A study that asks two networks the same; each has levels 0 and 1, whose scores are given."""
    one = make_study("contrast", "higher", 2)
    (question,) = one.questions
    other = dataclasses.replace(question, key="r", baseline="c")
    baselines = {**one.baselines, "c": {"latent_std": 1.0, "latent_dim": 9}}
    both = dataclasses.replace(one, baselines=baselines, questions=(question, other))
    rows = [table(one, first), table(one, second)]
    rows[1] = rows[1].assign(arm=rows[1].arm.str.replace("b", "c"), trial_id="c" + rows[1].trial_id)
    return both, pd.concat(rows, ignore_index=True)


def test_claims_of_a_study_share_one_rate() -> None:
    """p = 0.04 in each of two questions is a verdict in neither; 0.02 in one leaves 0.05 to the other."""

    def wide(p: float) -> list[np.ndarray]:  # of spread 1: no small effect is shown
        return [np.exp(10 * at_p(p)), np.ones(8)]

    found = answer_study(*two_questions(wide(0.04), wide(0.04)))
    assert [a.verdict for a in found] == ["unresolved"] * 2
    assert [a.p_holm for a in found] == pytest.approx([0.08, 0.08])
    found = answer_study(*two_questions(wide(0.02), wide(0.04)))
    assert [a.verdict for a in found] == ["supported"] * 2
    small = [1.25 / np.exp(10 * at_p(0.04)), np.ones(8)]  # refutations share a rate of their own
    found = answer_study(*two_questions(wide(1e-5), small))
    assert [a.verdict for a in found] == ["supported", "unresolved"]


def test_what_cannot_be_judged_helps_no_other() -> None:
    """A claim without enough seeds is never shown, so that Holm's next step does not get easier by it."""
    few = [np.full(8, math.nan), np.ones(8)]
    few[0][:5] = 3.0 + WOBBLE[:5]
    found = answer_study(*two_questions(few, [np.exp(10 * at_p(0.04)), np.ones(8)]))
    assert found[0].p < 0.001 and [a.verdict for a in found] == ["unresolved"] * 2
    assert found[1].p_holm == pytest.approx(0.08)


@pytest.mark.parametrize("sequential", [False, True])
def test_pages_without_effects_stay_under_5_percent(sequential: bool) -> None:
    """Of 28 claims in seven questions; a question's own rate would give a false verdict in 14%."""
    path = Path(__file__).parents[2] / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration", path)
    assert spec is not None and spec.loader is not None
    calibration = importlib.util.module_from_spec(spec)
    sys.modules["calibration"] = calibration
    spec.loader.exec_module(calibration)
    question, scores, _ = calibration.page("no effect", np.random.default_rng(0), 600, 8)
    found = calibration.of_page(question, scores, alone=False, sequential=sequential)
    assert found.shape == (600, 28) and (found == "supported").any(-1).mean() < 0.05
    if not sequential:
        assert (calibration.of_page(question, scores, alone=True, sequential=False) == "supported").any(-1).mean() > 0.1


def test_an_interaction_at_a_bound_answers_nothing() -> None:
    """A recall near 0 in all four arms cannot tell what the levels do; away from 0 it can."""
    plain = make_study("contrast", "equal", levels=2, metric="recall", base=0)
    (one,) = plain.questions
    words = {"text": "", "hypothesis": "", "expected": "equal", "metric": "recall", "smallest_effect": 0.05}
    asked = Interaction("q", "b", one.factor, versus="c", **words)
    study = dataclasses.replace(
        plain, baselines={"b": {"latent_std": 0.0}, "c": {"latent_std": 0.0, "latent_dim": 9}}, questions=(asked,)
    )
    for level, verdict in ((0.01, "unresolved"), (0.5, "supported")):
        arms = ("b", "b latent_std=1", "c", "c latent_std=1")
        rows = pd.DataFrame(
            {"trial_id": f"{arm}/{i}", "study": "s", "arm": arm, "seed": i, "status": "ok", "seconds": 1.0}
            | {"recall": level + 0.1 * np.roll(WOBBLE, place)[i] ** 2}
            for place, arm in enumerate(arms)
            for i in range(8)
        )
        (found,) = answer_study(study, rows)
        assert found.verdict == verdict and ("within 0.05 of 0" in found.problem) == (verdict == "unresolved")
