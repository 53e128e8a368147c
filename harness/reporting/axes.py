"""The look of all figures: one style, and axes with few, round, plain numbers."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.analysis.wording import number
from harness.lean import lean_seaborn

sns = lean_seaborn()

STYLE = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("notebook", font_scale=0.95),
    "image.cmap": "gray",  # seaborn's own is among what is not imported
    "figure.dpi": 130,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.4",
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # else looked for anew, at some cost, at every layout
    "grid.color": "0.9",
}
WIDTH = 6.4  # inches: type stays large enough on a phone
DARK, LIGHT, ACCENT, ALARM = "0.15", "0.6", "#0072B2", "#B34E00"  # Okabe & Ito's blue and, darker, their vermilion
_MULTIPLES = ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
_MOST_TICKS = 8
_TICK_ROOM = 0.09
"""Share of an axis that a number on it needs."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches. It is drawn without a screen and is not on pyplot's list, whatever runs the code."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_span(axes: Axes, shown: Sequence[float], ratio: bool) -> None:
    """Limits that hold all finite values, with a margin; on a logarithmic axis with plain numbers."""
    finite = np.array([x for x in shown if math.isfinite(x) and (x > 0 or not ratio)])
    low, high = finite.min(), finite.max()
    if ratio:
        margin = (high / low) ** 0.06
        log_axis(axes.xaxis, low / margin, high * margin)
    else:
        margin = 0.06 * (high - low)
        axes.set_xlim(low - margin, high + margin)


def real_images(axes: Axes, score: float) -> None:
    """A line at real images' own score; in words where, drawn to scale, it would flatten all else."""
    low, high = axes.get_ylim()
    if score > high + 2 * (high - low):
        axes.text(
            1, 1.01, f"↑ real images {number(score)}, far above", transform=axes.transAxes, ha="right", va="bottom",
            fontsize=9, color=DARK,
        )  # fmt: skip
    elif low <= score:  # a logarithmic axis cannot show one below 0
        axes.axhline(score, color=DARK, ls="--", lw=1, zorder=1)
        axes.annotate(
            f"real images {number(score)}", (1, score), xycoords=("axes fraction", "data"), xytext=(-4, 4),
            textcoords="offset points", ha="right", fontsize=9, color=DARK,
        )  # fmt: skip
        room_above(axes, score, 0.08)


def room_above(axes: Axes, y: float, share: float) -> None:
    """Raise the top of the y axis where less than this share of it lies above y, for what is written there."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        log_axis(axes.yaxis, low, max(high, y * (y / low) ** share))
    else:
        axes.set_ylim(low, max(high, y + share * (y - low)))


def robust_limits(axes: Axes, shown: pd.Series) -> None:
    """Limits that a few extreme points cannot stretch."""
    low, high = shown[np.isfinite(shown)].quantile([0.005, 0.995])
    if high > low:
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def few_numbers(axes: Axes) -> None:
    """So few and short numbers below one of two panels side by side that none touch."""
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,.4g}"))


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most so many characters."""
    return "\n".join(textwrap.wrap(text, width)) or text


def log_axis(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis with plain numbers at 1, 2, 5, 10, ..., as many as there is room for."""
    axes = axis.axes
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(low, high)
    axis.set_major_locator(ticker.FixedLocator(log_ticks(low, high)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 10 else f"{v:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def log_ticks(low: float, high: float) -> list[float]:
    """Where a logarithmic axis from low to high has its numbers: round ones, 1 among them where it is on the axis.

    As many as leave room between them, and at most eight.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [[10.0**k for k in range(first, last + 1) if k % stride == 0] for stride in (6, 3, 2, 1)]
    multiples = [[m * power for power in powers[-1] for m in some] for some in _MULTIPLES]
    steps = [m * 10.0**k for k in range(math.floor(math.log10(high - low)) - 1, last) for m in (1, 2, 5)]
    evenly = [[step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)] for step in steps]
    best: list[float] = []
    for family in (*powers, *multiples, *evenly):
        found = [float(f"{v:.9g}") for v in family if low <= v <= high]  # 0.3, not 0.30000000000000004
        room = np.diff(np.log(found)) / math.log(high / low)
        if len(best) < len(found) <= _MOST_TICKS and (room > _TICK_ROOM).all():
            best = found
    return best
