"""The figures of a report. One style; readable in print and by colour-blind readers; every seed shown."""

import io
import math
from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from harness.analysis.results import load_curves
from harness.analysis.statistics import mean_interval
from harness.store import Store
from harness.study import Question, Study

STYLE = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("notebook", font_scale=0.95),
    "figure.dpi": 130,
    "savefig.bbox": "tight",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "0.9",
    "axes.edgecolor": "0.4",
}
DARK, LIGHT, ACCENT, ALARM = "0.15", "0.6", "#0072B2", "#B34E00"  # Okabe & Ito's blue and, darker, their vermilion


def levels(study: Study, question: Question, rows: pd.DataFrame, floor: Mapping[str, float]) -> Figure | None:
    """FID at each level: a dot a seed, seeds joined by thin lines, the mean with its 95% t interval, the floor.

    None where no trial of the question has finished.
    """
    arms = study.arms(question)
    values = {
        label: rows[(rows.arm == arm) & (rows.status == "ok")].set_index("seed").fid.dropna()
        for label, arm in arms.items()
    }
    if not any(len(v) for v in values.values()):
        return None
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        for seed in sorted({s for v in values.values() for s in v.index}):
            line = [values[label].get(seed, math.nan) for label in arms]
            axes.plot(range(len(arms)), line, color=LIGHT, lw=0.7, marker="o", ms=4, mec="white", mew=0.4, zorder=2)
        for x, label in enumerate(arms):
            estimate = mean_interval(values[label])
            if estimate.n:
                span = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]] if estimate.n > 1 else None
                axes.errorbar(
                    x + 0.12,
                    estimate.mean,
                    yerr=span,
                    fmt="D",
                    ms=6,
                    capsize=4,
                    lw=1.6,
                    color=ACCENT,
                    zorder=3,
                )
            diverged = int(((rows.arm == arms[label]) & (rows.status == "diverged")).sum())
            if diverged:
                axes.annotate(
                    f"✕ {diverged} diverged", (x, 0.99), xycoords=("data", "axes fraction"), ha="center", va="top",
                    fontsize=10, color=ALARM,
                )  # fmt: skip
            if not estimate.n:
                axes.text(
                    x, 0.5, "no finished trial", transform=axes.get_xaxis_transform(), rotation=90, ha="center",
                    va="center", fontsize=10, color="0.4",
                )  # fmt: skip
        everything = pd.concat([v for v in values.values() if len(v)])
        if everything.max() > 8 * everything.min():
            # An interval may reach below 0, which this axis cannot show: it then runs off the lower edge.
            lowest = min(v for v in (everything.min(), floor.get("fid", math.inf)) if v > 0)
            _log(axes, lowest / 1.5, axes.get_ylim()[1])
        else:
            axes.set_ylim(bottom=0)
        if (rows.arm.isin(arms.values()) & (rows.status == "diverged")).any():
            low, high = axes.get_ylim()  # room above the data for what is written there
            axes.set_ylim(low, high * (high / low) ** 0.1 if axes.get_yscale() == "log" else high + 0.1 * (high - low))
        if axes.get_ylim()[0] <= floor.get("fid", -math.inf):  # a logarithmic axis cannot show one below 0
            axes.axhline(floor["fid"], color=DARK, ls="--", lw=1, zorder=1)
            axes.annotate(
                f"real images {floor['fid']:.1f}", (1, floor["fid"]), xycoords=("axes fraction", "data"),
                xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=9, color=DARK,
            )  # fmt: skip
        axes.set_xticks(range(len(arms)), [_tick(label, arms[label] == question.baseline) for label in arms])
        axes.set_xlim(-0.4, len(arms) - 0.6)
        axes.set_xlabel(question.factor.label)
        axes.set_ylabel("FID (lower is better ↓)")
        axes.plot([], [], color=LIGHT, marker="o", ms=4, lw=0.7, label="one seed")
        axes.errorbar([], [], yerr=[], fmt="D", color=ACCENT, capsize=4, label="mean, 95% t interval")
        figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=9)
        axes.grid(visible=False, axis="x")
    return _finished(figure)


def samples(study: Study, question: Question, rows: pd.DataFrame, store: Store) -> Figure | None:
    """Samples at each level, side by side: the same seed everywhere, the lowest that most levels have."""
    arms = study.arms(question)
    stored = [(store.trial_folder(trial_id) / "samples.png").exists() for trial_id in rows.trial_id]
    finished = rows[(rows.status == "ok") & rows.arm.isin(arms.values()) & pd.Series(stored, rows.index, dtype=bool)]
    if finished.empty:
        return None
    seed = finished.groupby("seed").size().sort_index(kind="stable").idxmax()
    with mpl.rc_context(STYLE):
        columns = min(3, len(arms))  # more would be too small to judge
        lines = math.ceil(len(arms) / columns)
        figure, grid = plt.subplots(
            lines, columns, figsize=(2.5 * columns, 3.0 * lines + 0.4), layout="constrained", squeeze=False
        )
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, (label, arm) in zip(grid.flat, arms.items(), strict=False):
            found = finished[(finished.arm == arm) & (finished.seed == seed)]
            if found.empty:
                axes.set_box_aspect(1)
                axes.set_title(f"{_tick(label, arm == question.baseline, ' ')}\nno samples", fontsize=10)
                continue
            trial = found.iloc[0]
            with Image.open(store.trial_folder(trial.trial_id) / "samples.png") as picture:
                axes.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(f"{_tick(label, arm == question.baseline, ' ')}\nFID {trial.fid:.1f}", fontsize=10)
        figure.get_layout_engine().set(h_pad=0.1)  # else the title touches the captions
        figure.suptitle(f"{question.factor.label}: samples of seed {seed}", fontsize=11)
    return _finished(figure)


def curves(study: Study, question: Question, rows: pd.DataFrame, store: Store) -> Figure | None:
    """Training by level: both losses, D's answers, and the online FID over kimg; mean and spread over seeds."""
    arms = study.arms(question)
    found = load_curves(store, rows[rows.arm.isin(arms.values())])
    if found.empty:
        return None
    found["level"] = found.arm.map({arm: label for label, arm in arms.items()})
    order = [label for label in arms if label in set(found.level)]
    colours = dict(zip(arms, sns.color_palette("viridis", len(arms)), strict=True))
    dashes = dict(zip(arms, ["", (4, 1.5), (1, 1), (3, 1, 1, 1), (5, 1, 1, 1, 1, 1)] * len(arms), strict=False))
    panels = (
        ("d_loss", "D loss (nats)"),
        ("g_loss", "G loss (nats)"),
        ("d_real", "D(x): real taken for real"),
        ("d_fake", "D(G(z)): fake taken for real"),
        ("fid_online", "online FID, 500 samples ↓"),
    )
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(3, 2, figsize=(7.5, 8.2), layout="constrained", sharex=True)
        flat: list[Axes] = list(grid.flat)
        for axes, (column, title) in zip(flat, panels, strict=False):
            shown = found.dropna(subset=[column])
            sns.lineplot(
                shown, x="kimg", y=column, hue="level", hue_order=order, palette=colours, style="level",
                style_order=order, dashes=dashes, errorbar="sd", err_kws={"alpha": 0.15, "lw": 0}, lw=1.6, ax=axes,
                legend=axes is flat[0],
            )  # fmt: skip
            axes.set_title(title, fontsize=11, loc="left")
            axes.set_ylabel("")
            axes.set_xlabel("kimg (1,000 real images seen by D)" if column in ("d_fake", "fid_online") else "")
            axes.xaxis.set_tick_params(labelbottom=True)
            if column in ("d_real", "d_fake"):
                axes.set_ylim(0, 1)
            if column == "fid_online" and (shown[column] > 0).any():
                positive = shown.loc[shown[column] > 0, column]
                _log(axes, positive.min() / 1.2, positive.max() * 1.2)
        handles, labels = flat[0].get_legend_handles_labels()
        if flat[0].get_legend():
            flat[0].get_legend().remove()
        flat[5].set_axis_off()
        flat[5].legend(
            handles,
            labels,
            title=f"{question.factor.label}\n(mean; band: ± 1 SD over seeds)",
            frameon=False,
            loc="center",
        )
    return _finished(figure)


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _tick(label: str, is_baseline: bool, joint: str = "\n") -> str:
    return f"{label}{joint}(baseline)" if is_baseline else label


def _log(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis with plain numbers at 1, 2, 5, 10, ..."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    subs = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}"))
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())


def _finished(figure: Figure) -> Figure:
    plt.close(figure)  # only taken off pyplot's list: notebooks would show it twice
    return figure
