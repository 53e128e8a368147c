"""The words of a report: what was asked, how to read it, and where the numbers come from."""

import pandas as pd
from IPython.display import Markdown

from harness.analysis.results import StudyResults

PROVENANCE = {  # heading -> columns of the results table
    "commit": ("commit",),
    "date": ("date",),
    "processor": ("cpu", "threads"),
    "accelerator": ("gpu",),
    "platform": ("platform", "python"),
}
LIBRARIES = ("torch", "torchvision", "ray", "torch_fidelity", "torchmetrics", "numpy", "pandas")


def opening(data: StudyResults) -> Markdown:
    """Title, what was asked, and how the tables are to be read."""
    done = int(data.cells["status"].isin(["ok", "diverged"]).sum())
    lines = [
        f"# {data.study.title}",
        f"Study **{data.study.name}**, profile **{data.profile.name}** ({data.profile.description}): "
        f"{len(data.study.questions)} {'question' if len(data.study.questions) == 1 else 'questions'}, "
        f"{done} of {len(data.cells)} trials finished.",
        "Each question varies one thing from a baseline, and every level trains the same seeds: the seed is the "
        "replicate. FID measures how far generated images are from real ones; real images themselves score the "
        "floor. Arrows point to better. Square brackets and ± are 95% t intervals over seeds; differences from the "
        "baseline are paired by seed, and their percentages come from paired log ratios. A trial that diverged is "
        "a failure, counted beside the scores with an exact 95% interval, and never part of a mean. "
        "These are estimates, one interval at a time: no verdict with its full statistics is given yet.",
    ]
    if data.cells["fid"].notna().sum() == 0:
        lines.append("**No trial of this study has been finished and scored yet, so there is nothing to compare.**")
    return Markdown("\n\n".join(lines))


def asked(data: StudyResults, key: str) -> Markdown:
    """The heading of a question, with the hypothesis that was declared before running."""
    question = data.study.question(key)
    return Markdown(
        f"## {question.text}\n\n**Expected beforehand:** {question.hypothesis}\n\n"
        f"Varied: {question.factor.label}, from the baseline *{question.baseline}*. "
        f"Looked for: a {question.kind.replace('-', ' ')} in {question.primary.upper()}."
    )


def provenance(data: StudyResults) -> Markdown:
    """Everything needed to judge the numbers or to make them again."""
    cells = data.cells
    seeds = cells["seed"].nunique()
    scored = cells.assign(scored=cells["fid"].notna()).groupby("arm")["scored"].sum()
    extra = f" SEEDS={seeds}" if seeds != data.profile.seeds else ""
    facts = {
        "profile": f"{data.profile.name}: {data.profile.description}",
        "seeds": f"{seeds} planned an arm; {scored.min()} to {scored.max()} of them finished and scored",
        "budget": ", ".join(f"{v:g} kimg" for v in sorted(cells["kimg"].dropna().unique())) or "nothing has run yet",
        "scores": data.protocol.describe() if data.protocol is not None else "nothing is scored yet",
        "protocol": data.protocol_id,
        "floor (real images)": ", ".join(f"{k} {v:.4g}" for k, v in data.reference.items()) or "not computed",
    }
    facts |= {heading: _distinct(cells, columns) for heading, columns in PROVENANCE.items()}
    versions = (f"{name.replace('_', '-')} {_distinct(cells, (name,))}" for name in LIBRARIES if name in cells)
    facts["libraries"] = ", ".join(versions)
    facts["to make it again"] = f"`make study-{data.study.name} PROFILE={data.profile.name}{extra}`"
    lines = [f"- **{name}:** {text}" for name, text in facts.items() if text]
    return Markdown("\n".join(["## Where these numbers come from", "", *lines]))


def _distinct(cells: pd.DataFrame, columns: tuple[str, ...]) -> str:
    """The distinct values of the trials; of dates, the first and the last."""
    rows = cells[[name for name in columns if name in cells]].drop_duplicates()
    found = (", ".join(_value(k, v) for k, v in row.items() if pd.notna(v) and v != "") for row in rows.to_dict("records"))
    texts = sorted({text for text in found if text})
    return f"{texts[0]} to {texts[-1]}" if columns == ("date",) and len(texts) > 1 else "; ".join(texts)


def _value(name: object, value: object) -> str:
    if name == "threads":
        return f"{value:g} {'thread' if value == 1 else 'threads'} a trial"
    return f"Python {value}" if name == "python" else str(value)
