"""Figures draw what the rows say, whatever is missing, and leave nothing behind."""

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from harness.analysis import figures
from harness.analysis.results import load
from harness.store import Store
from harness.study import Study
from tests.analysis.conftest import PROFILE


@pytest.fixture(scope="module")
def rows(store: Store, study: Study) -> pd.DataFrame:
    return load(store, study=study.name, profile=PROFILE)


def texts(figure: Figure) -> str:
    return " ".join(t.get_text() for t in figure.findobj(mpl.text.Text))


def test_every_seed_is_shown(study: Study, rows: pd.DataFrame) -> None:
    figure = figures.levels(study, study.question("latent-std-fc"), rows, {"fid": 1.25})
    assert figure is not None
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in figure.axes[0].lines])
    expected = rows[rows.arm.str.match("fc$|fc latent_std") & (rows.status == "ok")].fid
    assert np.isin(expected.to_numpy(), drawn).all() and len(expected) == 29
    words = texts(figure)
    assert "1 diverged" in words and "real images 1.2" in words and "(baseline)" in words


def test_an_empty_level_is_said(study: Study, rows: pd.DataFrame) -> None:
    figure = figures.levels(study, study.question("latent-dim-dc"), rows, {})
    assert figure is not None and "no finished trial" in texts(figure)


@pytest.mark.parametrize("floor", [{}, {"fid": 1.25}, {"fid": -0.001}])
def test_a_wide_range_is_logarithmic_and_holds_every_seed(
    study: Study, rows: pd.DataFrame, floor: dict[str, float]
) -> None:
    wide = rows.copy()
    wide.loc[wide.arm == "fc latent_std=3", "fid"] *= 100
    figure = figures.levels(study, study.question("latent-std-fc"), wide, floor)
    assert figure is not None and figure.axes[0].get_yscale() == "log"
    low, high = figure.axes[0].get_ylim()
    shown = wide[wide.arm.str.match("fc$|fc latent_std")].fid.dropna()
    assert 0 < low < shown.min() and shown.max() < high and math.isfinite(high)
    assert len(figures.as_png(figure)) > 10_000


def test_nothing_finished_gives_no_figure(store: Store, study: Study, rows: pd.DataFrame) -> None:
    question = study.question("latent-std-dc")
    unfinished = rows.assign(status="failed", fid=np.nan)
    assert figures.levels(study, question, unfinished, {}) is None
    assert figures.samples(study, question, unfinished, store) is None
    assert figures.curves(study, question, rows.iloc[:0], store) is None


def test_samples_name_level_fid_and_seed(store: Store, study: Study, rows: pd.DataFrame) -> None:
    figure = figures.samples(study, study.question("latent-dim-dc"), rows, store)
    assert figure is not None
    words = texts(figure)
    fid = rows[(rows.arm == "dc") & (rows.seed == 0)].fid.item()
    assert f"FID {fid:.1f}" in words and "seed 0" in words and "no samples" in words
    assert sum(bool(axes.images) for axes in figure.axes) == 3


def test_a_lost_picture_is_said(store: Store, study: Study, rows: pd.DataFrame) -> None:
    lost = rows.copy()
    lost.loc[lost.arm == "dc", "trial_id"] = "0" * 16
    figure = figures.samples(study, study.question("latent-std-dc"), lost, store)
    assert figure is not None and "no samples" in texts(figure)


def test_curves_have_a_line_a_level(store: Store, study: Study, rows: pd.DataFrame) -> None:
    figure = figures.curves(study, study.question("latent-std-dc"), rows, store)
    assert figure is not None
    for axes in figure.axes[:5]:
        assert len([line for line in axes.lines if len(line.get_xdata())]) == 5


def test_drawing_changes_nothing_global(study: Study, rows: pd.DataFrame) -> None:
    before = dict(mpl.rcParams)
    figures.levels(study, study.question("latent-std-dc"), rows, {})
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
