"""The figures of a report. One style; readable in print and by colour-blind readers; every seed shown."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from harness.analysis.effects import Effect, arm_mean, arm_values, level_arms
from harness.analysis.evidence import Evidence
from harness.analysis.memorization import NearestImages
from harness.analysis.results import load_curves
from harness.analysis.sentences import level_in_words
from harness.analysis.statistics import Estimate
from harness.analysis.verdicts import Answer
from harness.analysis.wording import effect as effect_in_words
from harness.analysis.wording import number
from harness.metrics import METRICS
from harness.questions import Question
from harness.reporting.axes import (
    ACCENT,
    ALARM,
    DARK,
    LIGHT,
    STYLE,
    WIDTH,
    few_numbers,
    log_axis,
    new_figure,
    real_images,
    robust_limits,
    room_above,
    set_span,
    wrapped,
)

VERDICTS = {
    "supported": ("o", ACCENT),
    "refuted": ("X", ALARM),
    "unresolved": ("d", "0.45"),
    "depends on the metric": ("s", "#7a4a9e"),
    "not testable at this budget": ("P", "#8a6d00"),
}
"""verdict -> marker and colour: told apart by shape as well."""


def effects(evidence: Evidence, question: Question) -> Figure | None:
    """Each level against the baseline: a dot a seed, the effect with its 95% interval, the smallest effect shaded.

    Of an interaction, what the level does to the baseline beyond what it does to the other. On a logarithmic axis where
    the metric is compared by ratios. A seed whose value is infinite, as one of its trials diverged or never reached a
    level of FID, stands as a triangle at the edge. None where no level can be paired with the baseline.
    """
    found = evidence.effects[question.key]
    if not any(len(effect.by_seed) for effect in found.values()):
        return None
    metric = METRICS[question.metric]
    ratio, least = metric.scale == "ratio", question.smallest_effect
    shade = (1 / least, least) if ratio else (-least, least)
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.5 + 0.62 * len(found))
        axes = figure.subplots()
        axes.axvspan(*shade, color="0.9", zorder=0, lw=0)
        axes.axvline(1 if ratio else 0, color=DARK, lw=1, zorder=1)
        ends = [end for effect in found.values() for end in (effect.low, effect.high)]
        set_span(axes, [*shade, *ends, *(x for effect in found.values() for x in effect.by_seed)], ratio)
        beside = {"transform": axes.get_yaxis_transform(), "va": "center"}
        for y, effect in enumerate(found.values()):
            _seeds_at(axes, y + 0.16, effect.by_seed)
            _effect_at(axes, y - 0.1, effect)
            axes.text(1.03, y, _said(effect), fontsize=10, color=DARK if len(effect.by_seed) else "0.4", **beside)
            if effect.failures:
                axes.text(1.03, y + 0.36, f"✕ {effect.failures} diverged", fontsize=9, color=ALARM, **beside)
        axes.set_yticks(range(len(found)), list(found))
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_ylabel(wrapped(question.factor.label, 24))
        base = next(label for label in level_arms(evidence.design, question) if label not in found)
        better = {"lower": "  (←\u00a0better)", "higher": "  (better\u00a0→)", "neither": ""}[metric.better]
        against = "ratio to" if ratio else "difference from"
        said = f"{metric.label}, {against} the baseline ({level_in_words(base, question)})"
        if question.versus:
            said = f"{said}\nin {question.baseline}, over the same in {question.versus}"
        axes.set_xlabel("\n".join(wrapped(line, 56) for line in f"{said}{better}".splitlines()))
        axes.grid(visible=False, axis="y")
        mean = "geometric mean" if ratio else "mean"
        mean += " or median" * any(_endless(effect) for effect in found.values())
        interval = "95% interval over interim analyses" if evidence.sequential else "95% interval"
        known = any(not math.isnan(effect.low) for effect in found.values())
        _legend(figure, axes, mean=f"{mean}, {interval}" if known else mean, shaded=True)
    return figure


def levels(evidence: Evidence, question: Question) -> Figure | None:
    """The question's metric at each level: a dot a seed, joined by thin lines, the mean with its 95% interval.

    Of an interaction, the means of both networks, each joined: lines that are not parallel interact. Real images' own
    score is drawn where it is known. None where no trial has a finite value.
    """
    rows, reference, name = evidence.rows, evidence.reference, question.metric
    arms, metric = level_arms(evidence.design, question), METRICS[question.metric]
    found = {label: arm_values(rows, arm, name) for label, arm in arms.items()}
    finite = np.concatenate([v.to_numpy(float) for v in found.values()])
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return None
    means = [_mean_drawn(values, name) for values in found.values()]
    others = level_arms(evidence.design, question, versus=True).values()
    other_means = [_mean_drawn(arm_values(rows, arm, name), name) for arm in others]
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 4.2)
        axes = figure.subplots()
        for seed in sorted({s for v in found.values() for s in v.index}):
            line = np.array([found[label].get(seed, math.nan) for label in arms], dtype=float)
            line[~np.isfinite(line)] = math.nan
            axes.plot(range(len(arms)), line, color=LIGHT, lw=0.7, marker="o", ms=4, mec="white", mew=0.4, zorder=2)
        if any(e.n for e in other_means):
            axes.plot(np.arange(len(arms)) + 0.12, [e.mean for e in means], color=ACCENT, lw=1.2, zorder=3)
            middle = np.array([e.mean for e in other_means])
            span = np.abs([[e.mean - e.low for e in other_means], [e.high - e.mean for e in other_means]])
            axes.errorbar(
                np.arange(len(arms)) - 0.12, middle, yerr=np.nan_to_num(span), fmt="s--", ms=6, capsize=4, lw=1.2,
                color=ALARM, zorder=3, label=f"mean of {question.versus}, 95% interval",
            )  # fmt: skip
            finite = np.concatenate([finite, middle[np.isfinite(middle)]])
        for x, ((label, arm), mean) in enumerate(zip(arms.items(), means, strict=True)):
            if mean.n:
                span = None if math.isnan(mean.low) else [[mean.mean - mean.low], [mean.high - mean.mean]]
                axes.errorbar(x + 0.12, mean.mean, yerr=span, fmt="D", ms=6, capsize=4, lw=1.6, color=ACCENT, zorder=3)
            diverged = int(((rows.arm == arm) & (rows.status == "diverged")).sum())
            never = int(np.isinf(found[label]).sum())
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
        wide = bool(finite.min() > 0 and finite.max() > 8 * finite.min())
        logarithmic = wide or bool(question.versus and metric.scale == "ratio")
        if logarithmic:
            lowest = min(v for v in (finite.min(), reference.get(name, math.inf)) if v > 0)
            log_axis(axes.yaxis, lowest / 1.5, max(axes.get_ylim()[1], 1.25 * finite.max()))
        elif metric.scale == "ratio":
            axes.set_ylim(bottom=0)
        else:  # no further below the least that there can be than marks need
            low, high = axes.get_ylim()
            axes.set_ylim(bottom=max(low, metric.limits[0] - 0.05 * (high - low)))
        notes = bool(axes.texts)
        real_images(axes, reference.get(name, math.nan))
        if notes:
            room_above(axes, axes.get_ylim()[1], 0.12)
        ticks = [_tick(wrapped(label, 16), arm == question.baseline) for label, arm in arms.items()]
        long = max(map(len, arms)) * len(arms) > 60
        axes.set_xticks(range(len(arms)), ticks, rotation=40 if long else 0, ha="right" if long else "center")
        axes.set_xlim(-0.4, len(arms) - 0.6)
        axes.set_xlabel(question.factor.label)
        direction = {"lower": "(lower is better ↓)", "higher": "(higher is better ↑)", "neither": ""}[metric.better]
        axes.set_ylabel(f"{wrapped(metric.label, 30)}{' ' if len(metric.label) < 12 else chr(10)}{direction}".strip())
        axes.grid(visible=False, axis="x")
        whose = f"mean of {question.baseline}" if question.versus else "mean"
        known = any(not math.isnan(mean.low) for mean in means)
        _legend(figure, axes, mean=f"{whose}, 95% interval" if known else whose, joined=True)
    return figure


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
        figure = new_figure(WIDTH, 1.4 + 0.5 * len(answers))
        axes = figure.subplots()
        axes.axvspan(-1, 1, color="0.9", zorder=0, lw=0)
        axes.axvline(0, color=DARK, lw=1, zorder=1)
        for y, (answer, (middle, low, high)) in enumerate(zip(answers, spans, strict=True)):
            marker, colour = VERDICTS[answer.verdict]
            if np.isnan(middle) or answer.problem or (np.isinf(middle) and np.isnan(low)):
                said = "cannot be judged" if answer.problem else "no effect known"
                said = "no finite value at most seeds" if np.isinf(middle) and not answer.problem else said
                box = {"fc": "white", "ec": "none", "pad": 1}  # or the line at 0 runs through it
                axes.text(0, y, said, ha="center", va="center", fontsize=9, color="0.4", bbox=box)
                continue
            if not (math.isnan(low) or math.isnan(high)):
                axes.plot(np.clip([low, high], -reach, reach), [y, y], color=colour, lw=2, zorder=2)
            axes.plot(np.clip(middle, -reach, reach), y, marker, ms=8, color=colour, mec="white", mew=0.6, zorder=3)
        axes.set_yticks(range(len(answers)), [wrapped(a.claim, 46) for a in answers], fontsize=9)
        axes.set_ylim(len(answers) - 0.5, -0.5)
        axes.set_xlim(-reach - 0.3, reach + 0.3)
        axes.set_xticks([-6, -3, -1, 0, 1, 3, 6], ["≤ −6", "−3", "−1", "0", "1", "3", "≥ 6"])
        axes.set_xlabel("effect, in smallest effects of interest\n← metric lower      metric higher →")
        axes.grid(visible=False, axis="y")
        for verdict in dict.fromkeys(a.verdict for a in answers):
            marker, colour = VERDICTS[verdict]
            axes.plot([], [], marker, color=colour, ms=8, mec="white", label=verdict)
        figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure


def samples(evidence: Evidence, question: Question) -> Figure | None:
    """Samples at each level, side by side: the same seed and latents everywhere, the lowest seed that most levels have.

    None where no finished trial has left a picture.
    """
    arms, trials = level_arms(evidence.design, question), same_seed(evidence, question)
    if not trials:
        return None
    with mpl.rc_context(STYLE):
        columns = min(3, len(arms))  # more would be too small to judge
        lines = math.ceil(len(arms) / columns)
        figure = new_figure(WIDTH / 3 * columns, 2.5 * lines + 0.35)
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, (label, arm) in zip(grid.flat, arms.items(), strict=False):
            name = wrapped(_tick(label, arm == question.baseline, " "), 26)
            if arm not in trials:
                axes.set_box_aspect(1)
                axes.set_title(f"{name}\nno samples", fontsize=10, loc="center")
                continue
            trial = trials[arm]
            with Image.open(io.BytesIO(evidence.store.read_samples(trial.trial_id))) as picture:
                axes.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            said = f"FID {number(trial.fid)}"
            if question.metric != "fid" and question.metric in evidence.rows:
                said += f", {METRICS[question.metric].label} {number(getattr(trial, question.metric))}"
            axes.set_title(f"{name}\n{wrapped(said, 24)}", fontsize=10, loc="center")
        figure.get_layout_engine().set(h_pad=0.08)  # else the title touches the captions
        seed = next(iter(trials.values())).seed
        figure.suptitle(wrapped(f"{question.factor.label}: samples of seed {seed}", 24 * columns), fontsize=11)
    return figure


def nearest_images(evidence: Evidence, question: Question, found: Mapping[str, NearestImages]) -> Figure | None:
    """Some samples of each level above the training images nearest to them; `found` is by arm."""
    arms = {label: arm for label, arm in level_arms(evidence.design, question).items() if arm in found}
    if not arms:
        return None
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 1.45 * len(arms) + 0.3)
        grid = figure.subplots(len(arms), 1, squeeze=False)
        for axes, (label, arm) in zip(grid.flat, arms.items(), strict=True):
            pair = found[arm]
            shown = min(10, len(pair.samples))
            sheet = np.concatenate([np.hstack(part[:shown]) for part in (pair.samples, pair.nearest)])
            axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
            side = pair.samples.shape[1]
            axes.set_yticks([side / 2, 1.5 * side], ["sample", "nearest"], fontsize=9)
            axes.set_xticks([])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            name = _tick(label, arm == question.baseline, " ")
            axes.set_title(f"{name}: distance {pair.ratio:.2f} × that of held-out real images", fontsize=10)
        figure.suptitle(wrapped(f"{question.factor.label}: samples and their nearest training images", 70), fontsize=11)
    return figure


def curves(evidence: Evidence, question: Question) -> pd.DataFrame:
    """The curves of a question's trials (`load_curves`), with the level of each."""
    labels = {arm: label for label, arm in level_arms(evidence.design, question).items()}
    found = load_curves(evidence.store, evidence.rows[evidence.rows.arm.isin(labels)])
    return found.assign(level=found.arm.map(labels))


def fid_over_training(evidence: Evidence, question: Question, curves: pd.DataFrame) -> Figure | None:
    """The online FID against images seen and against seconds of training; None where none of `curves` has it."""
    if "fid_online" not in curves or not (curves.fid_online > 0).any():
        return None
    found = curves[curves.fid_online > 0].copy()
    found["seconds"] = found.groupby(["level", "kimg"]).seconds.transform("median")  # seeds take their own time
    with mpl.rc_context(STYLE):
        figure = new_figure(WIDTH, 3.9)
        both = figure.subplots(1, 2, sharey=True)
        for axes, x, label in (
            (both[0], "kimg", "kimg (1,000 real images)"),
            (both[1], "seconds", "training seconds by the clock"),
        ):
            _lines(axes, evidence, question, _over_seeds(found, x, ["fid_online"])["fid_online"])
            axes.set_xlabel(label)
            few_numbers(axes)
            axes.set_title(f"by {'images seen' if x == 'kimg' else 'time'}", fontsize=11)
        both[0].set_ylabel("online FID (lower is better ↓)")
        log_axis(both[0].yaxis, found.fid_online.min() / 1.2, found.fid_online.max() * 1.2)
        _legend_of_levels(figure, both[0], question)
    return figure


def balance(evidence: Evidence, question: Question, curves: pd.DataFrame) -> Figure | None:
    """How G and D keep each other in balance: both losses, D's answers and its accuracy over images seen.

    None without curves.
    """
    panels = [
        (column, title)
        for column, title in (
            ("d_loss", "D loss"),
            ("g_loss", "G loss"),
            ("d_real", "D(x): real taken for real"),
            ("d_fake", "D(G(z)): fake taken for real"),
            ("d_accuracy", "D's accuracy"),
        )
        if column in curves and curves[column].notna().any()
    ]
    if not panels:
        return None
    over_seeds = _over_seeds(curves, "kimg", [column for column, _ in panels])
    with mpl.rc_context(STYLE):
        lines = math.ceil(len(panels) / 2)
        figure = new_figure(WIDTH, 2.5 * lines + 0.8)
        grid = figure.subplots(lines, 2, sharex=True, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for i, (axes, (column, title)) in enumerate(zip(grid.flat, panels, strict=False)):
            _lines(axes, evidence, question, over_seeds[column])
            axes.set_title(title, fontsize=11)
            axes.set_xlabel("kimg (1,000 real images)" if i >= len(panels) - 2 else "")
            axes.xaxis.set_tick_params(labelbottom=True)
            few_numbers(axes)
            if column in ("d_real", "d_fake", "d_accuracy"):
                axes.set_ylim(0, 1)
            else:
                robust_limits(axes, curves[column])
        _legend_of_levels(figure, grid.flat[0], question)
    return figure


def same_seed(evidence: Evidence, question: Question) -> dict[str, Any]:
    """The row of each of a question's arms at the lowest seed at which most left samples; arms without are left out."""
    rows, store = evidence.rows, evidence.store
    rows = rows[(rows.status == "ok") & rows.arm.isin(level_arms(evidence.design, question).values())]
    stored = [store.has_samples(trial_id) for trial_id in rows.trial_id]
    finished = rows[pd.Series(stored, rows.index, dtype=bool)]
    if finished.empty:
        return {}
    seed = finished.groupby("seed").size().sort_index(kind="stable").idxmax()
    return {row.arm: row for row in finished[finished.seed == seed].itertuples()}


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG picture of 256 colours, or greys: a third of the bytes, no difference to the eye."""
    figure.canvas.draw()
    pixels, buffer = np.asarray(figure.canvas.buffer_rgba())[..., :3], io.BytesIO()
    picture, photos = Image.fromarray(pixels), any(axes.images for axes in figure.axes)
    if photos and (pixels == pixels[..., :1]).all():
        picture = picture.convert("L")
    else:  # the quicker way is good enough for lines
        method = Image.Quantize.MEDIANCUT if photos else Image.Quantize.FASTOCTREE
        picture = picture.quantize(256, method=method, dither=Image.Dither.NONE)
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _over_seeds(curves: pd.DataFrame, x: str, columns: list[str]) -> pd.DataFrame:
    """(level, x) -> of each column its median, min and max over seeds."""
    return curves.groupby(["level", x])[columns].agg(["median", "min", "max"])


def _lines(axes: Axes, evidence: Evidence, question: Question, over_seeds: pd.DataFrame) -> None:
    """A line a level through the median over seeds; the band spans all of them."""
    arms, over_seeds = level_arms(evidence.design, question), over_seeds[over_seeds["min"].notna()]
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.88, len(arms)))  # without its yellow end
    dashes = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (6, 2, 1, 1, 1, 2)))
    for i, label in enumerate(arms):
        if label in over_seeds.index:
            line = over_seeds.loc[label]
            axes.plot(line.index, line["median"], color=colours[i], ls=dashes[i % len(dashes)], lw=1.7, label=label)
            band = np.concatenate([line["min"], line["max"][::-1]])
            axes.fill([*line.index, *line.index[::-1]], band, color=colours[i], alpha=0.13, lw=0)


def _legend_of_levels(figure: Figure, first: Axes, question: Question) -> None:
    handles, labels = first.get_legend_handles_labels()
    figure.legend(
        handles, [wrapped(label, 30) for label in labels], loc="outside lower center", frameon=False, fontsize=10,
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


def _endless(effect: Effect) -> int:
    """Seeds that have no place on the axis: where one of the two compared has no finite value."""
    return int(np.isinf(effect.by_seed).sum() + (effect.scale == "ratio" and (effect.by_seed == 0).sum()))


def _said(effect: Effect) -> str:
    """The effect in words, as beside a verdict."""
    if not len(effect.by_seed):
        return "no pair of seeds"
    said = effect_in_words(effect.mean, effect.low, effect.high, effect.scale)
    beyond = _endless(effect)
    apart = bool(beyond) and beyond != effect.failures  # else the line of those that diverged says it
    return "\n".join([said] * (said != "–" or not apart) + [f"{beyond} beyond the axis"] * apart)


def _mean_drawn(values: pd.Series, metric: str) -> Estimate:
    """An arm's mean; nothing where some of its trials have no finite value: a mean of the others would flatter it."""
    return arm_mean(values if np.isfinite(values).all() else values.iloc[:0], metric)


def _seeds_at(axes: Axes, y: float, found: pd.Series) -> None:
    low, high = axes.get_xlim()
    inside = found[np.isfinite(found) & (found >= low) & (found <= high)]
    axes.plot(inside, [y] * len(inside), "o", ms=4.5, color=LIGHT, mec="white", mew=0.4, zorder=2)
    for edge, beyond, marker in ((low, found < low, "<"), (high, found > high, ">")):
        if beyond.any():
            axes.plot([edge], [y], marker, ms=8, color=ALARM, clip_on=False, zorder=4)


def _effect_at(axes: Axes, y: float, effect: Effect) -> None:
    if math.isfinite(effect.mean) and (effect.mean != 0 or effect.scale == "difference"):  # else it is told in words
        ends = np.clip([effect.low, effect.high], *axes.get_xlim())
        span = None if np.isnan(ends).any() else [[effect.mean - ends[0]], [ends[1] - effect.mean]]
        axes.errorbar(effect.mean, y, xerr=span, fmt="D", ms=6, capsize=4, lw=1.8, color=ACCENT, zorder=3)


def _tick(label: str, is_baseline: bool, joint: str = "\n") -> str:
    return f"{label}{joint}(baseline)" if is_baseline else label
