"""Figures draw what the rows say, whatever is missing, and leave nothing behind."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.evidence import Evidence
from harness.analysis.memorization import of_trial
from harness.questions import Question
from harness.reporting import figures
from harness.reporting.axes import log_ticks
from harness.storage.store import Store
from harness.study import Study
from tests.analysis.conftest import against, asked, make_answer, with_reference


@pytest.fixture(scope="module")
def rows(evidence: Evidence) -> pd.DataFrame:
    return evidence.rows


def texts(figure: Figure) -> str:
    return " ".join(t.get_text() for t in figure.findobj(mpl.text.Text))


def drawn(axes: Axes, axis: str) -> np.ndarray:
    return np.concatenate([np.asarray(getattr(line, f"get_{axis}data")(), float) for line in axes.lines])


class ShrunkCurves(Store):
    """The same store, its trials with another budget."""

    def __init__(self, store: Store, factor: float) -> None:
        super().__init__(store.root)
        self.factor = factor

    def read_curves(self, trial_id: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        curves = super().read_curves(trial_id, columns)
        return curves.assign(kimg=curves.kimg * self.factor, seconds=curves.seconds * self.factor)


def by_kimg(study: Study, key: str) -> Question:
    """The question as it would be, were it decided by how soon a level of FID is reached."""
    return dataclasses.replace(study.question(key), metric="kimg_to_fid_300")


def test_every_seed_is_shown(evidence: Evidence, rows: pd.DataFrame) -> None:
    figure = figures.levels(evidence, evidence.design.question("latent-std-fc"))
    assert figure is not None
    expected = rows[rows.arm.str.match("fc$|fc latent_std") & (rows.status == "ok")].fid
    assert np.isin(expected.to_numpy(), drawn(figure.axes[0], "y")).all() and len(expected) == 29
    words = texts(figure)
    assert "1 diverged" in words and "real images 1.25" in words and "(baseline)" in words


@given(st.floats(1e-6, 1e4), st.floats(1.01, 1e8))
def test_a_logarithmic_axis_has_round_numbers_apart(low: float, span: float) -> None:
    ticks = log_ticks(low, low * span)
    assert 2 <= len(ticks) <= 8 and all(low <= tick <= low * span for tick in ticks)
    assert 1 in ticks or not low <= 1 <= low * span
    assert (np.diff(np.log(ticks)) > 0.09 * np.log(span)).all()


def test_a_ratio_axis_has_its_1(evidence: Evidence) -> None:
    for question in evidence.design.questions:
        figure = figures.effects(evidence, question)
        assert figure is not None
        (axes,) = figure.axes
        if axes.get_xscale() == "log":
            assert 1 in axes.get_xticks() and np.isin(1.0, drawn(axes, "x"))


def test_numbers_of_panels_do_not_touch(evidence: Evidence) -> None:
    for budget in (0.16, 25.0, 2000.0):
        question = evidence.design.question("latent-std-dc")
        shrunk = dataclasses.replace(evidence, store=ShrunkCurves(evidence.store, budget / 25))
        for figure in (
            figures.fid_over_training(shrunk, question, figures.curves(shrunk, question)),
            figures.balance(shrunk, question, figures.curves(shrunk, question)),
        ):
            assert figure is not None
            figure.canvas.draw()
            for axes in figure.axes:
                boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
                inside = [box for box in boxes if axes.bbox.x0 - 20 < box.x0 < axes.bbox.x1]
                assert all(a.x1 + 4 < b.x0 for a, b in itertools.pairwise(sorted(inside, key=lambda box: box.x0)))


def test_no_axis_of_what_was_never_reached(evidence: Evidence, rows: pd.DataFrame) -> None:
    never = rows.assign(kimg_to_fid_300=math.inf)
    question = by_kimg(evidence.design, "latent-std-dc")
    assert figures.levels(asked(evidence, question, never), question) is None


def test_effects_are_each_seed_over_its_own_baseline(evidence: Evidence, rows: pd.DataFrame) -> None:
    figure = figures.effects(evidence, evidence.design.question("latent-std-dc"))
    assert figure is not None
    fid = rows[rows.status == "ok"].pivot(index="seed", columns="arm", values="fid")
    shown = drawn(figure.axes[0], "x")
    for arm in ("dc latent_std=0.1", "dc latent_std=10"):
        ratios = (fid[arm] / fid["dc"]).to_numpy()
        assert np.isclose(ratios[:, None], shown, rtol=1e-12).any(1).all()
        assert np.isclose(shown, np.exp(np.log(ratios).mean()), rtol=1e-9).any()
    words = texts(figure)
    assert "baseline (latent standard deviation σ = 1)" in words.replace("\xa0", " ").replace("\n", " ")
    assert "ratio to the baseline" in words and "←\u00a0better" in words and "too small to matter" in words
    assert figure.axes[0].get_xscale() == "log"


def test_the_shade_is_the_smallest_effect_of_interest(evidence: Evidence) -> None:
    question = dataclasses.replace(evidence.design.question("latent-std-dc"), metric="recall", smallest_effect=0.07)
    figure = figures.effects(asked(evidence, question), question)
    assert figure is not None
    shade = next(p for p in figure.axes[0].patches if np.isclose(p.get_width(), 0.14))
    assert shade.get_x() == pytest.approx(-0.07)
    words = texts(figure).replace("\xa0", " ").replace("\n", " ")
    assert "recall, difference from the baseline (latent standard deviation σ = 1)  (better →)" in words


def test_what_was_never_reached_stands_at_the_edge(evidence: Evidence, rows: pd.DataFrame) -> None:
    never = rows.assign(kimg_to_fid_300=np.where(rows.arm == "dc latent_std=3", math.inf, 10.0 + rows.seed))
    question = by_kimg(evidence.design, "latent-std-dc")
    shown = with_reference(asked(evidence, question, never))
    effects, levels = figures.effects(shown, question), figures.levels(shown, question)
    assert effects is not None and levels is not None
    assert any(line.get_marker() == ">" for line in effects.axes[0].lines)
    assert "▲ 6 never" in texts(levels) and "kimg until online FID ≤ 300\n(lower is better ↓)" in texts(levels)
    assert "6 beyond the axis" in texts(effects)
    assert len(figures.as_png(effects)) > 5000 and len(figures.as_png(levels)) > 5000


def test_an_interaction_shows_both_networks(evidence: Evidence) -> None:
    question = against(evidence.design.question("latent-std-dc"), "fc")
    shown = asked(evidence, question)
    effects, levels = figures.effects(shown, question), figures.levels(shown, question)
    assert effects is not None and levels is not None
    assert "in dc, over the same in fc" in texts(effects)
    legend = " ".join(text.get_text() for text in levels.legends[0].get_texts())
    assert "mean of dc" in legend and "mean of fc" in legend


def test_long_names_of_metrics_stay_in_the_figure(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = dataclasses.replace(evidence.design.question("latent-std-dc"), metric="kimg_to_settle")
    figure = figures.levels(asked(evidence, question, rows.assign(kimg_to_settle=10.0 + rows.seed)), question)
    assert figure is not None
    figure.canvas.draw()
    axes = figure.axes[0]
    name, legend = axes.yaxis.label.get_window_extent(), figure.legends[0].get_window_extent()
    assert "within 10%" in axes.get_ylabel().replace("\n", " ")
    assert name.x0 >= 0 and name.y0 >= 0 and name.y1 <= legend.y0, "cut, or run into the legend"


def test_an_empty_level_is_said(evidence: Evidence) -> None:
    question = evidence.design.question("latent-dim-dc")
    figure = figures.levels(evidence, question)
    assert figure is not None and "no finished trial" in texts(figure)
    effects = figures.effects(evidence, question)
    assert effects is not None and "no pair of seeds" in texts(effects)


@pytest.mark.parametrize("reference", [{}, {"fid": 1.25}, {"fid": -0.001}])
def test_a_wide_range_is_logarithmic(evidence: Evidence, rows: pd.DataFrame, reference: dict[str, float]) -> None:
    wide = rows.copy()
    wide.loc[wide.arm == "fc latent_std=3", "fid"] *= 100
    question = evidence.design.question("latent-std-fc")
    figure = figures.levels(with_reference(asked(evidence, question, wide), **reference), question)
    assert figure is not None and figure.axes[0].get_yscale() == "log"
    low, high = figure.axes[0].get_ylim()
    shown = wide[wide.arm.str.match("fc$|fc latent_std")].fid.dropna()
    assert 0 < low < shown.min() and shown.max() < high and math.isfinite(high)
    assert len(figures.as_png(figure)) > 10_000


def test_real_images_far_above_do_not_flatten(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = dataclasses.replace(evidence.design.question("latent-std-fc"), metric="recall")
    poor = rows.assign(recall=rows.recall / 100)
    for recall, far in ((0.9, True), (0.9 * poor.recall.max(), False)):
        figure = figures.levels(with_reference(asked(evidence, question, poor), recall=recall), question)
        assert figure is not None and ("far above" in texts(figure)) is far
        assert figure.axes[0].get_ylim()[1] < 3 * poor.recall.max()


def test_an_axis_ends_where_the_metric_does(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = dataclasses.replace(evidence.design.question("latent-std-fc"), metric="recall")
    figure = figures.levels(asked(evidence, question, rows.assign(recall=0.0)), question)
    assert figure is not None
    low, high = figure.axes[0].get_ylim()
    assert 0 > low > -0.1 * high, "no recall below 0"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", ["precision", "recall"])
def test_real_images_above_notes_stay_inside(evidence: Evidence, rows: pd.DataFrame, metric: str) -> None:
    question = dataclasses.replace(evidence.design.question("latent-std-dc"), metric=metric)
    noted = rows.copy()
    noted.loc[(rows.arm == "dc") & (rows.seed == 1), "status"] = "diverged"
    spread = 9 if metric == "recall" else 1  # the second on a logarithmic axis
    noted[metric] = 0.3 * np.where(noted.arm == "dc", 1, 1 / spread) + 0.001 * noted.seed
    for score in (0.304, 0.3055, 0.312, 0.6):
        figure = figures.levels(with_reference(asked(evidence, question, noted), **{metric: score}), question)
        assert figure is not None and "diverged" in texts(figure)
        figures.as_png(figure)
        axes, (low, high) = figure.axes[0], figure.axes[0].get_ylim()
        assert (axes.get_yscale() == "log") is (spread > 1) and axes.get_window_extent().height > 200
        drawn = "far above" not in texts(figure)
        (label,) = [text for text in axes.texts if "real images" in text.get_text()]
        (note,) = [text for text in axes.texts if "diverged" in text.get_text()]
        assert bool(low < score < high) is drawn
        if drawn:
            assert label.get_window_extent().y1 < note.get_window_extent().y0


def test_nothing_finished_gives_no_figure(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = evidence.design.question("latent-std-dc")
    unfinished = rows.assign(status="failed", fid=np.nan)
    shown, nothing = asked(evidence, question, unfinished), asked(evidence, question, rows.iloc[:0])
    assert figures.effects(shown, question) is None
    assert figures.levels(shown, question) is None
    assert figures.samples(shown, question) is None
    assert figures.nearest_images(shown, question, {}) is None
    curves = figures.curves(nothing, question)
    assert figures.balance(nothing, question, curves) is None
    assert figures.fid_over_training(nothing, question, curves) is None
    assert figures.claims([], []) is None


def test_samples_name_level_fid_and_seed(evidence: Evidence, rows: pd.DataFrame) -> None:
    figure = figures.samples(evidence, evidence.design.question("latent-dim-dc"))
    assert figure is not None
    words = texts(figure)
    fid = rows[(rows.arm == "dc") & (rows.seed == 0)].fid.item()
    assert f"FID {fid:.1f}" in words and "seed 0" in words and "no samples" in words
    assert sum(bool(axes.images) for axes in figure.axes) == 3


def test_a_lost_picture_is_said(evidence: Evidence, rows: pd.DataFrame) -> None:
    lost = rows.copy()
    lost.loc[lost.arm == "dc", "trial_id"] = "0" * 16
    question = evidence.design.question("latent-std-dc")
    figure = figures.samples(asked(evidence, question, lost), question)
    assert figure is not None and "no samples" in texts(figure)


def test_training_has_a_line_a_level(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = evidence.design.question("latent-std-dc")
    curves = figures.curves(evidence, question)
    balance = figures.balance(evidence, question, curves)
    fid = figures.fid_over_training(evidence, question, curves)
    assert balance is not None and fid is not None
    for axes in (*balance.axes[:5], *fid.axes):
        assert len([line for line in axes.lines if len(line.get_xdata())]) == 5
    assert "D's accuracy" in texts(balance)
    assert [axes.get_xlabel() for axes in fid.axes] == ["kimg (1,000 real images)", "training seconds by the clock"]
    curves = evidence.store.read_curves(rows[rows.arm == "dc"].trial_id.iloc[0]).dropna()
    line = next(line for line in fid.axes[0].lines if line.get_label() == "1")
    assert line.get_xdata().tolist() == curves.kimg.tolist()


PANELS = ("d_loss", "g_loss", "d_real", "d_fake", "d_accuracy")


def test_lines_are_medians_and_bands_all_seeds(evidence: Evidence, rows: pd.DataFrame) -> None:
    question = evidence.design.question("latent-std-dc")
    figure = figures.balance(evidence, question, figures.curves(evidence, question))
    assert figure is not None
    curves = np.stack([evidence.store.read_curves(t).d_loss for t in rows[rows.arm == "dc"].trial_id])
    line = next(line for line in figure.axes[0].lines if line.get_label() == "1")
    assert np.allclose(line.get_ydata(), np.median(curves, 0))
    lost = figures.curves(evidence, question)
    at = lost.kimg == line.get_xdata()[3]
    lost.loc[at, "d_loss"] = np.where(lost.seed[at] % 2, np.inf, -np.inf)  # whose median is not a number
    lost.loc[at, "g_loss"] = np.nan
    without = figures.balance(evidence, question, lost)
    assert without is not None
    d, g = (next(line for line in axes.lines if line.get_label() == "1").get_xdata() for axes in without.axes[:2])
    assert len(d) == len(g) + 1, "a gap in the line, and no point where nothing was measured"
    assert figures.balance(evidence, question, lost.assign(**dict.fromkeys(PANELS, np.nan))) is None
    band = figure.axes[0].patches[2].get_xy()[:, 1]
    assert band.min() == pytest.approx(curves.min()) and band.max() == pytest.approx(curves.max())


def test_nearest_images_are_shown_with_their_distance(evidence: Evidence, rows: pd.DataFrame) -> None:
    found = {"dc": of_trial(evidence.store, rows[rows.arm == "dc"].trial_id.iloc[0])}
    question = evidence.design.question("latent-std-dc")
    figure = figures.nearest_images(evidence, question, {k: v for k, v in found.items() if v})
    assert figure is not None
    assert "1 (baseline): distance" in texts(figure) and "× that of held-out real images" in texts(figure)


def test_claims_are_in_units_of_their_smallest_effect() -> None:
    answers = [
        make_answer("supported", 1.25**2, 1.25, 1.25**3),
        make_answer("refuted", 0.01, -0.02, 0.04, "difference"),
        make_answer("unresolved", math.nan, math.nan, math.nan),
        make_answer("unresolved", math.inf, 1.25, math.inf),
    ]
    figure = figures.claims(answers, [1.25, 0.02, 1.25, 1.25])
    assert figure is not None
    shown = [np.asarray(line.get_xdata(), float) for line in figure.axes[0].lines]
    assert any(np.allclose(x, [1, 3]) for x in shown if len(x) == 2)
    assert any(np.allclose(x, [-1, 2]) for x in shown if len(x) == 2)
    assert {2.0, 0.5, 6.0} <= {round(float(x[0]), 9) for x in shown if len(x) == 1}  # infinite: at the edge
    words = texts(figure)
    assert "no effect known" in words and all(v in words for v in ("supported", "refuted", "unresolved"))


def test_drawing_changes_nothing_global(evidence: Evidence) -> None:
    before = dict(mpl.rcParams)
    figures.levels(evidence, evidence.design.question("latent-std-dc"))
    figures.effects(evidence, evidence.design.question("latent-std-dc"))
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
