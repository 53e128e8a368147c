"""The figures of a report. One style; readable in print and by colour-blind readers; every seed shown."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from harness.analysis.answers import Answer
from harness.analysis.memorization import Neighbours
from harness.analysis.results import load_curves
from harness.analysis.statistics import Estimate, location
from harness.analysis.wording import effect, number
from harness.metrics import METRICS
from harness.reporting.tables import arm_interval, paired_question, values
from harness.storage.store import Store
from harness.study import Question, Study

STYLE = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("notebook", font_scale=0.95),
    "figure.dpi": 130,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "0.9",
    "axes.edgecolor": "0.4",
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
}
WIDTH = 6.4  # inches: type stays large enough on a phone
DARK, LIGHT, ACCENT, ALARM = "0.15", "0.6", "#0072B2", "#B34E00"  # Okabe & Ito's blue and, darker, their vermilion
_MULTIPLES = ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
_MOST_TICKS = 8
_TICK_ROOM = 0.09
"""Share of an axis that a number on it needs."""
VERDICTS = {"supported": ("o", ACCENT), "refuted": ("X", ALARM), "unresolved": ("d", "0.45")}
"""verdict -> marker and colour: told apart by shape as well."""


def effects(study: Study, question: Question, rows: pd.DataFrame) -> Figure | None:
    """Each level against the baseline: a dot a seed, the mean with its 95% t interval, the smallest effect shaded.

    Of an interaction, what the level does to the baseline beyond what it does to the other.

    Ratios (geometric mean, logarithmic axis) or differences, as the question's metric is compared. A seed whose
    value is infinite stands as a triangle at the edge. None where no level can be paired with the baseline.
    """
    arms = {label: arm for label, arm in study.arms(question).items() if arm != question.baseline}
    found = paired_question(study, question, rows)
    if not any(len(v) for v in found.values()):
        return None
    metric = METRICS[question.metric]
    ratio = metric.scale == "ratio"
    null, least = (1.0, question.smallest_effect) if ratio else (0.0, question.smallest_effect)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 1.5 + 0.62 * len(arms)), layout="constrained")
        shade = (1 / least, least) if ratio else (-least, least)
        axes.axvspan(*shade, color="0.9", zorder=0, lw=0)
        axes.axvline(null, color=DARK, lw=1, zorder=1)
        estimates = {label: _located(v, ratio) for label, v in found.items()}
        if ratio:
            axes.set_xscale("log")
        _span(axes, [*shade, *(x for v in found.values() for x in v), *_ends(estimates.values())], ratio)
        for y, (label, arm) in enumerate(arms.items()):
            _seeds_at(axes, y + 0.16, found[label])
            _estimate_at(axes, y - 0.1, estimates[label])
            diverged = int(((rows.arm == arm) & (rows.status == "diverged")).sum())
            said = effect(estimates[label].mean, estimates[label].low, estimates[label].high, metric.scale)
            endless = int(np.isinf(found[label]).sum() + (ratio and (found[label] == 0).sum()))
            if not len(found[label]):
                said = "no pair of seeds"
            elif endless:  # one of the two never reached a level of FID
                said = ("" if said == "–" else f"{said}\n") + f"{endless} beyond the axis"
            colour = DARK if len(found[label]) else "0.4"
            axes.text(1.03, y, said, transform=axes.get_yaxis_transform(), va="center", fontsize=10, color=colour)
            if diverged:
                axes.text(
                    1.03, y + 0.36, f"✕ {diverged} diverged", transform=axes.get_yaxis_transform(), va="center",
                    fontsize=9, color=ALARM,
                )  # fmt: skip
        axes.set_yticks(range(len(arms)), list(arms))
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_ylabel(_wrapped(question.factor.label, 24))
        base = next(label for label, arm in study.arms(question).items() if arm == question.baseline)
        better = {"lower": "  (← better)", "higher": "  (better →)", "neither": ""}[metric.better]
        relation = f"{metric.label}, ratio to" if ratio else f"{metric.label}, difference from"
        said = f"{relation} the baseline ({base})"
        if question.versus:
            said = f"{said}\nin {question.baseline}, over the same in {question.versus}"
        axes.set_xlabel("\n".join(_wrapped(line, 56) for line in f"{said}{better}".splitlines()))
        axes.grid(visible=False, axis="y")
        mean = "geometric mean" if ratio else "mean"
        known = any(not math.isnan(e.low) for e in estimates.values())
        _legend(figure, axes, mean=f"{mean}, 95% t interval" if known else mean, shaded=True)
    return _finished(figure)


def levels(study: Study, question: Question, rows: pd.DataFrame, floor: Mapping[str, float]) -> Figure | None:
    """The question's metric at each level: a dot a seed, joined by thin lines, the mean with its 95% interval.

    Of an interaction, the means of both networks, each joined: lines that are not parallel interact.

    `floor` holds the scores of real images, whose own is drawn where it has one. None where no trial has a
    finite value.
    """
    arms, name = study.arms(question), question.metric
    found = {label: values(rows, arm, name) for label, arm in arms.items()}
    everything = np.concatenate([v.to_numpy(float) for v in found.values()])
    if not everything.size:
        return None
    finite = everything[np.isfinite(everything)]
    if not finite.size:
        return None
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
        for seed in sorted({s for v in found.values() for s in v.index}):
            line = np.array([found[label].get(seed, math.nan) for label in arms], dtype=float)
            line[~np.isfinite(line)] = math.nan
            axes.plot(range(len(arms)), line, color=LIGHT, lw=0.7, marker="o", ms=4, mec="white", mew=0.4, zorder=2)
        others = study.arms_versus(question).values()
        other_means = [arm_interval(v[np.isfinite(v)], name) for v in (values(rows, arm, name) for arm in others)]
        if any(e.n for e in other_means):
            own_means = [arm_interval(v[np.isfinite(v)], name).mean for v in found.values()]
            axes.plot(np.arange(len(arms)) + 0.12, own_means, color=ACCENT, lw=1.2, zorder=3)
            middle = np.array([e.mean for e in other_means])
            span = np.abs([[e.mean - e.low for e in other_means], [e.high - e.mean for e in other_means]])
            axes.errorbar(
                np.arange(len(arms)) - 0.12, middle, yerr=np.nan_to_num(span), fmt="s--", ms=6, capsize=4, lw=1.2,
                color=ALARM, zorder=3, label=f"mean of {question.versus}, 95% interval",
            )  # fmt: skip
            finite = np.concatenate([finite, middle[np.isfinite(middle)]])
        for x, (label, arm) in enumerate(arms.items()):
            reached = found[label][np.isfinite(found[label])]
            estimate = arm_interval(reached, name)
            if estimate.n and len(reached) == len(found[label]):  # a mean of those that did reach it would flatter
                known = not math.isnan(estimate.low)
                span = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]] if known else None
                axes.errorbar(
                    x + 0.12, estimate.mean, yerr=span, fmt="D", ms=6, capsize=4, lw=1.6, color=ACCENT, zorder=3
                )  # fmt: skip
            diverged = int(((rows.arm == arm) & (rows.status == "diverged")).sum())
            never = len(found[label]) - len(reached)
            notes = [f"✕ {diverged} diverged"] * bool(diverged) + [f"▲ {never} never"] * bool(never)
            if notes:
                axes.annotate(
                    "\n".join(notes), (x, 0.99), xycoords=("data", "axes fraction"), ha="center", va="top",
                    fontsize=10, color=ALARM,
                )  # fmt: skip
            if not len(found[label]):
                axes.text(
                    x, 0.5, "no finished trial", transform=axes.get_xaxis_transform(), rotation=90, ha="center",
                    va="center", fontsize=10, color="0.4",
                )  # fmt: skip
        wide = bool(finite.size and finite.min() > 0 and finite.max() > 8 * finite.min())
        logarithmic = wide or bool(question.versus and METRICS[name].scale == "ratio")
        if logarithmic:
            lowest = min(v for v in (finite.min(), floor.get(name, math.inf)) if v > 0)
            _log(axes.yaxis, lowest / 1.5, max(axes.get_ylim()[1], 1.25 * finite.max()))
        elif METRICS[name].scale == "ratio":
            axes.set_ylim(bottom=0)
        if axes.texts:
            low, high = axes.get_ylim()  # room above the data for what is written there
            axes.set_ylim(low, high * (high / low) ** 0.12 if logarithmic else high + 0.12 * (high - low))
        low, high = axes.get_ylim()
        if name in floor and floor[name] > high + 2 * (high - low):  # drawn to scale, it would flatten all else
            axes.text(
                1, 1.01, f"↑ real images {floor[name]:.3g}, far above", transform=axes.transAxes, ha="right",
                va="bottom", fontsize=9, color=DARK,
            )  # fmt: skip
        elif name in floor and low <= floor[name]:  # a logarithmic axis cannot show one below 0
            axes.axhline(floor[name], color=DARK, ls="--", lw=1, zorder=1)
            axes.annotate(
                f"real images {floor[name]:.3g}", (1, floor[name]), xycoords=("axes fraction", "data"),
                xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=9, color=DARK,
            )  # fmt: skip
        ticks = [_tick(_wrapped(label, 16), arm == question.baseline) for label, arm in arms.items()]
        long = max(map(len, arms)) * len(arms) > 60
        axes.set_xticks(range(len(arms)), ticks, rotation=40 if long else 0, ha="right" if long else "center")
        axes.set_xlim(-0.4, len(arms) - 0.6)
        axes.set_xlabel(question.factor.label)
        direction = {"lower": "(lower is better ↓)", "higher": "(higher is better ↑)", "neither": ""}
        joint = " " if len(METRICS[name].label) < 12 else "\n"
        axes.set_ylabel(f"{METRICS[name].label}{joint}{direction[METRICS[name].better]}".strip())
        axes.grid(visible=False, axis="x")
        whose = f"mean of {question.baseline}" if question.versus else "mean"
        known = any(not math.isnan(arm_interval(v[np.isfinite(v)], name).low) for v in found.values())
        _legend(figure, axes, mean=f"{whose}, 95% interval" if known else whose, joined=True)
    return _finished(figure)


def claims(answers: Sequence[Answer], smallest: Sequence[float]) -> Figure | None:
    """All claims on one axis: each effect in units of its smallest effect of interest, with its 95% interval.

    Args:
        answers: In the order to show them.
        smallest: Of each, its question's smallest effect of interest.

    Returns:
        None where no answer has an effect.
    """
    spans = []
    for answer, least in zip(answers, smallest, strict=True):
        ends = np.array([answer.effect, answer.low, answer.high], dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            spans.append(np.log(ends) / math.log(least) if answer.scale == "ratio" else ends / least)
    if not any(np.isfinite(s[0]) for s in spans):
        return None
    reach = 6.0  # further out one only needs to know that it is far
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 1.4 + 0.5 * len(answers)), layout="constrained")
        axes.axvspan(-1, 1, color="0.9", zorder=0, lw=0)
        axes.axvline(0, color=DARK, lw=1, zorder=1)
        for y, (answer, (middle, low, high)) in enumerate(zip(answers, spans, strict=True)):
            marker, colour = VERDICTS[answer.verdict]
            if np.isnan(middle) or answer.problem or (np.isinf(middle) and np.isnan(low)):
                said = "cannot be judged" if answer.problem else "no effect known"
                said = "a level that most never reached" if np.isinf(middle) and not answer.problem else said
                box = {"fc": "white", "ec": "none", "pad": 1}  # or the line at 0 runs through it
                axes.text(0, y, said, ha="center", va="center", fontsize=9, color="0.4", bbox=box)
                continue
            if not (math.isnan(low) or math.isnan(high)):
                axes.plot(np.clip([low, high], -reach, reach), [y, y], color=colour, lw=2, zorder=2)
            axes.plot(np.clip(middle, -reach, reach), y, marker, ms=8, color=colour, mec="white", mew=0.6, zorder=3)
        axes.set_yticks(range(len(answers)), [_wrapped(a.claim, 46) for a in answers], fontsize=9)
        axes.set_ylim(len(answers) - 0.5, -0.5)
        axes.set_xlim(-reach - 0.3, reach + 0.3)
        axes.set_xticks([-6, -3, -1, 0, 1, 3, 6], ["≤ −6", "−3", "−1", "0", "1", "3", "≥ 6"])
        axes.set_xlabel("effect, in smallest effects of interest\n← metric lower      metric higher →")
        axes.grid(visible=False, axis="y")
        for verdict in dict.fromkeys(a.verdict for a in answers):
            marker, colour = VERDICTS[verdict]
            axes.plot([], [], marker, color=colour, ms=8, mec="white", label=verdict)
        figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return _finished(figure)


def samples(study: Study, question: Question, rows: pd.DataFrame, store: Store) -> Figure | None:
    """Samples at each level, side by side: the same seed and latents everywhere, the lowest seed that most levels have.

    None where no finished trial has left a picture.
    """
    arms = study.arms(question)
    trials = same_seed(arms, rows, store)
    if not trials:
        return None
    metric = METRICS[question.metric]
    with mpl.rc_context(STYLE):
        columns = min(3, len(arms))  # more would be too small to judge
        lines = math.ceil(len(arms) / columns)
        figure, grid = plt.subplots(
            lines, columns, figsize=(WIDTH / 3 * columns, 2.5 * lines + 0.35), layout="constrained", squeeze=False
        )
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, (label, arm) in zip(grid.flat, arms.items(), strict=False):
            name = _tick(_wrapped(label, 26), arm == question.baseline, " ")
            if arm not in trials:
                axes.set_box_aspect(1)
                axes.set_title(f"{name}\nno samples", fontsize=10, loc="center")
                continue
            trial = trials[arm]
            with Image.open(io.BytesIO(store.read_samples(trial.trial_id))) as picture:
                axes.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            said = f"FID {number(trial.fid)}"
            if question.metric != "fid" and question.metric in rows:
                said += f", {metric.label} {number(getattr(trial, question.metric))}"
            axes.set_title(f"{name}\n{_wrapped(said, 30)}", fontsize=10, loc="center")
        figure.get_layout_engine().set(h_pad=0.08)  # else the title touches the captions
        seed = next(iter(trials.values())).seed
        figure.suptitle(_wrapped(f"{question.factor.label}: samples of seed {seed}", 24 * columns), fontsize=11)
    return _finished(figure)


def neighbours(study: Study, question: Question, found: Mapping[str, Neighbours]) -> Figure | None:
    """Some samples of each level above the training images nearest to them; `found` is by arm."""
    arms = {label: arm for label, arm in study.arms(question).items() if arm in found}
    if not arms:
        return None
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(arms), 1, figsize=(WIDTH, 1.45 * len(arms) + 0.3), layout="constrained", squeeze=False
        )
        for axes, (label, arm) in zip(grid.flat, arms.items(), strict=True):
            pair = found[arm]
            shown = min(10, len(pair.samples))
            sheet = np.concatenate([np.hstack(part[:shown]) for part in (pair.samples, pair.nearest)])
            axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
            side = pair.samples.shape[1]
            axes.set_yticks([side / 2, 1.5 * side], ["sample", "nearest"], fontsize=9)
            axes.set_xticks([])
            axes.grid(visible=False)
            sns.despine(ax=axes, left=True, bottom=True)
            name = _tick(label, arm == question.baseline, " ")
            axes.set_title(f"{name}: distance {pair.ratio:.2f} × that of held-out real images", fontsize=10)
        figure.suptitle(
            _wrapped(f"{question.factor.label}: samples and their nearest training images", 70), fontsize=11
        )
    return _finished(figure)


def fid_over_training(study: Study, question: Question, rows: pd.DataFrame, store: Store) -> Figure | None:
    """The online FID against images seen and against seconds of training; None where no curve has it."""
    found = _curves(study, question, rows, store)
    if "fid_online" not in found or not (found.fid_online > 0).any():
        return None
    found = found[found.fid_online > 0].copy()
    found["seconds"] = found.groupby(["level", "kimg"]).seconds.transform("median")  # seeds take their own time
    with mpl.rc_context(STYLE):
        figure, both = plt.subplots(1, 2, figsize=(WIDTH, 3.9), layout="constrained", sharey=True)
        for axes, x, label in (
            (both[0], "kimg", "kimg (1,000 real images)"),
            (both[1], "seconds", "training seconds by the clock"),
        ):
            _lines(axes, study, question, found, x, "fid_online")
            axes.set_xlabel(label)
            _few_numbers(axes)
            axes.set_title(f"by {'images seen' if x == 'kimg' else 'time'}", fontsize=11)
        both[0].set_ylabel("online FID (lower is better ↓)")
        _log(both[0].yaxis, found.fid_online.min() / 1.2, found.fid_online.max() * 1.2)
        _legend_of_levels(figure, both[0], question)
    return _finished(figure)


def balance(study: Study, question: Question, rows: pd.DataFrame, store: Store) -> Figure | None:
    """How G and D keep each other in balance: both losses, D's answers and its accuracy over images seen.

    None where no trial left curves.
    """
    found = _curves(study, question, rows, store)
    if found.empty:
        return None
    panels = [
        (column, title)
        for column, title in (
            ("d_loss", "D loss"),
            ("g_loss", "G loss"),
            ("d_real", "D(x): real taken for real"),
            ("d_fake", "D(G(z)): fake taken for real"),
            ("d_accuracy", "D's accuracy"),
        )
        if column in found and found[column].notna().any()
    ]
    with mpl.rc_context(STYLE):
        lines = math.ceil(len(panels) / 2)
        figure, grid = plt.subplots(
            lines, 2, figsize=(WIDTH, 2.5 * lines + 0.8), layout="constrained", sharex=True, squeeze=False
        )
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for i, (axes, (column, title)) in enumerate(zip(grid.flat, panels, strict=False)):
            _lines(axes, study, question, found, "kimg", column)
            axes.set_title(title, fontsize=11)
            axes.set_xlabel("kimg (1,000 real images)" if i >= len(panels) - 2 else "")
            axes.xaxis.set_tick_params(labelbottom=True)
            _few_numbers(axes)
            if column in ("d_real", "d_fake", "d_accuracy"):
                axes.set_ylim(0, 1)
            else:
                _robust_limits(axes, found[column])
        _legend_of_levels(figure, grid.flat[0], question)
    return _finished(figure)


def same_seed(arms: Mapping[str, str], rows: pd.DataFrame, store: Store) -> dict[str, Any]:
    """The row of each arm at the lowest seed at which most arms left samples; arms without are left out."""
    stored = [store.has_samples(trial_id) for trial_id in rows.trial_id]
    finished = rows[(rows.status == "ok") & rows.arm.isin(arms.values()) & pd.Series(stored, rows.index, dtype=bool)]
    if finished.empty:
        return {}
    seed = finished.groupby("seed").size().sort_index(kind="stable").idxmax()
    return {row.arm: row for row in finished[finished.seed == seed].itertuples()}


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG picture of 256 colours: a third of the bytes, no difference to the eye."""
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _curves(study: Study, question: Question, rows: pd.DataFrame, store: Store) -> pd.DataFrame:
    arms = study.arms(question)
    found = load_curves(store, rows[rows.arm.isin(arms.values())])
    return found.assign(level=found.arm.map({arm: label for label, arm in arms.items()}))


def _lines(axes: Axes, study: Study, question: Question, found: pd.DataFrame, x: str, y: str) -> None:
    """A line a level through the median over seeds; the band spans all of them."""
    arms = study.arms(question)
    over_seeds = found.dropna(subset=[y]).groupby(["level", x])[y].agg(["median", "min", "max"])
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.88, len(arms)))  # without its yellow end
    dashes = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (6, 2, 1, 1, 1, 2)))
    for i, label in enumerate(arms):
        if label in over_seeds.index:
            line = over_seeds.loc[label]
            axes.plot(line.index, line["median"], color=colours[i], ls=dashes[i % len(dashes)], lw=1.7, label=label)
            axes.fill_between(line.index, line["min"], line["max"], color=colours[i], alpha=0.13, lw=0)


def _legend_of_levels(figure: Figure, first: Axes, question: Question) -> None:
    handles, labels = first.get_legend_handles_labels()
    figure.legend(
        handles, [_wrapped(label, 30) for label in labels], loc="outside lower center", frameon=False, fontsize=10,
        ncols=5 if max(map(len, labels), default=0) < 8 else 2,
        title=f"{question.factor.label} (line: median; band: all seeds)", title_fontsize=10,
    )  # fmt: skip


def _legend(figure: Figure, axes: Axes, *, mean: str, joined: bool = False, shaded: bool = False) -> None:
    axes.plot([], [], color=LIGHT, marker="o", ms=4, lw=0.7 if joined else 0, label="one seed")
    axes.errorbar(
        [], [], xerr=None if joined else [], yerr=[] if joined else None, fmt="D", color=ACCENT, capsize=4, label=mean
    )
    if shaded:
        axes.fill_between([], [], color="0.9", label="too small to matter")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9, columnspacing=1.2, handletextpad=0.5)


def _located(found: pd.Series, ratio: bool) -> Estimate:
    """The mean effect with its interval; with an infinite one among them the median (`statistics.location`)."""
    with np.errstate(divide="ignore"):
        where = location(np.log(found) if ratio else found)
    return Estimate(*np.exp([where.mean, where.low, where.high]), where.n) if ratio else where


def _ends(estimates: Any) -> list[float]:
    return [end for e in estimates for end in (e.low, e.high)]


def _span(axes: Axes, shown: Sequence[float], ratio: bool) -> None:
    """Limits that hold all finite values, with a margin; on a logarithmic axis with plain numbers."""
    finite = np.array([x for x in shown if math.isfinite(x) and (x > 0 or not ratio)])
    low, high = finite.min(), finite.max()
    if ratio:
        margin = (high / low) ** 0.06
        _log(axes.xaxis, low / margin, high * margin)
    else:
        margin = 0.06 * (high - low)
        axes.set_xlim(low - margin, high + margin)


def _seeds_at(axes: Axes, y: float, found: pd.Series) -> None:
    low, high = axes.get_xlim()
    inside = found[np.isfinite(found) & (found >= low) & (found <= high)]
    axes.plot(inside, [y] * len(inside), "o", ms=4.5, color=LIGHT, mec="white", mew=0.4, zorder=2)
    for edge, beyond, marker in ((low, found < low, "<"), (high, found > high, ">")):
        if beyond.any():
            axes.plot([edge], [y], marker, ms=8, color=ALARM, clip_on=False, zorder=4)


def _estimate_at(axes: Axes, y: float, estimate: Estimate) -> None:
    if math.isfinite(estimate.mean) and estimate.mean != 0:  # an infinite ratio, or 0, is told in words
        low, high = axes.get_xlim()
        ends = np.clip([estimate.low, estimate.high], low, high)
        span = None if np.isnan(ends).any() else [[estimate.mean - ends[0]], [ends[1] - estimate.mean]]
        axes.errorbar(estimate.mean, y, xerr=span, fmt="D", ms=6, capsize=4, lw=1.8, color=ACCENT, zorder=3)


def _robust_limits(axes: Axes, shown: pd.Series) -> None:
    """Limits that a few extreme points cannot stretch."""
    low, high = shown.quantile([0.005, 0.995])
    if high > low:
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def _few_numbers(axes: Axes) -> None:
    """So few and short numbers below one of two panels side by side that none touch."""
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda v, _: f"{v:,.4g}"))


def _tick(label: str, is_baseline: bool, joint: str = "\n") -> str:
    return f"{label}{joint}(baseline)" if is_baseline else label


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width)) or text


def _log(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis with plain numbers at 1, 2, 5, 10, ..., as many as there is room for."""
    axes = axis.axes
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(low, high)
    axis.set_major_locator(mpl.ticker.FixedLocator(log_ticks(low, high)))
    axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 10 else f"{v:g}"))
    axis.set_minor_locator(mpl.ticker.NullLocator())


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


def _finished(figure: Figure) -> Figure:
    plt.close(figure)  # only taken off pyplot's list: notebooks would show it twice
    return figure
