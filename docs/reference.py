"""The pages of docs/reference, made from the code. `make docs` writes them; a test holds them to it."""

import dataclasses
import inspect
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

import harness
from architectures import ARCHITECTURES
from architectures.contract import DEEPEST
from harness.cli import COMMANDS
from harness.metrics import BY_FEATURES, METRICS
from harness.scoring.extractors import EXTRACTORS, Pretrained
from harness.spec import AUGMENTATIONS, LOSSES, RANGES, ScoreProtocol, TrialSpec
from harness.terminal import CONSOLE_COMMAND

FOLDER = Path(__file__).with_name("reference")
MADE = "<!-- Made from the code by docs/reference.py; `make docs` writes it again. -->"
NAMES = {"architecture": ARCHITECTURES.shipped, "loss": LOSSES, "augmentation": ("none", *AUGMENTATIONS)}


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    cells = [list(heads), [":--" for _ in heads], *rows]
    lines = [[f" {cell} ".replace("|", "\\|") if cell != "" else " " for cell in row] for row in cells]
    return "\n".join(f"|{'|'.join(line)}|" for line in lines)


def words(names: Iterable[object]) -> str:
    """Values as a reader types them."""
    return ", ".join(f"`{name}`" for name in names)


def said_beside(kind: type) -> dict[str, str]:
    """Field -> the comment behind it in the source."""
    return dict(re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(kind), re.MULTILINE))


def type_name(kind: Any) -> str:
    """`int`, or the values of a Literal."""
    if get_origin(kind) is Literal:
        return words(get_args(kind))
    parts = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) in (types.UnionType, Union) and len(parts) == 1:
        kind = parts[0]
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}.get(
        getattr(kind, "__name__", ""), "text"
    )


def fields(kind: Any, ranges: Mapping[str, str]) -> str:
    """The table of a dataclass: name, what its comment says, type and range, default."""
    hints, meanings, rows = get_type_hints(kind), said_beside(kind), []
    for one in dataclasses.fields(kind):
        default = "" if one.default is dataclasses.MISSING else f"`{one.default!r}`".replace("'", '"')
        allowed = ranges.get(one.name, "")
        if one.name not in NAMES:
            allowed = ", ".join([type_name(hints[one.name]), *[allowed] * bool(allowed)])
        rows.append([f"`{one.name}`", meanings.get(one.name, ""), allowed, default])
    return table(["field", "meaning, and its source", "allowed", "default"], rows)


def spec_page() -> str:
    """Every field of TrialSpec."""
    ranges = {name: allowed for name, (_, allowed) in RANGES.items()}
    ranges |= {name: f"one of {words(names)}, or your own" for name, names in NAMES.items()}
    ranges |= {name: f"from 0 to {DEEPEST}" for name in ("generator_depth", "discriminator_depth")}
    ranges |= {name: "in [0, 1)" for name in ("generator_dropout", "discriminator_dropout")}
    return f"""# Fields of a trial

A trial is a function of its spec, which holds every field below. A study's baselines set them, the levels of its
questions change some, and its profile sets those that are the same for all arms. A field with a default may be left
out. The name of a trial, its `trial_id`, is a checksum of the spec, so that equal specs are one trial.

{fields(TrialSpec, ranges)}

Beside these limits, values that contradict each other are refused before anything runs, in one line that says what is
allowed: `mixed_batches` without batch norm in D, for example. Depth and width are defined by example in
`architectures/fc.py`, `dc.py` and `resnet.py`. What a loss or a trick computes is in `harness/training/losses.py` and
`tricks.py`.
"""


def bounds(name: str) -> str:
    """The least and the greatest value, in words."""
    low, high = METRICS[name].limits
    ends = ["−∞" if low == -math.inf else f"{low:g}", "∞" if high == math.inf else f"{high:g}"]
    return " to ".join(ends)


def metrics_page() -> str:
    """Every metric that a question may be decided by."""
    rows = [
        [
            f"`{name}`",
            f"{metric.meaning}{f' ({metric.source})' if metric.source else ''}",
            metric.better if metric.better != "neither" else "",
            bounds(name),
            metric.scale,
            f"{metric.smallest_effect:g}",
        ]
        for name, metric in METRICS.items()
    ]
    heads = ["metric", "what it is, and its source", "better", "range", "compared by", "smallest effect of interest"]
    return f"""# Metrics

A question names its metric, for example `metric="kid"`, or several that must agree, `also=("recall",)`. Two arms are
compared by the ratio or by the difference of their values. An effect that is smaller than the smallest of interest
counts as none; a question may declare another.

{table(heads, rows)}

Some may be asked of another network's features, too: `"fid@inception-v3"` is the FID by those of Inception. They are
{words(BY_FEATURES)}. [What the scores measure](../metrics.md) says what each sees, and
[What FID says](../fid.md) how far to trust it.
"""


def columns_page() -> str:
    """The columns of the tables for pandas."""
    found = harness.columns()
    heads = ["column", "meaning", "dtype", "unit"]

    def listed(name: str) -> str:
        rows = found[found.table == name][heads].itertuples(index=False)
        return table(heads, ([f"`{row[0]}`", *row[1:]] for row in rows))

    return f"""# Columns of results

`harness.columns()` gives these tables as a DataFrame. [Using results](../using.md) shows what to do with them.

## Of `harness.load`, and of `results.parquet`

Scores by further networks, such as `fid@inception-v3`, stand behind these.

{listed("load")}

## Of `harness.load_curves`

{listed("load_curves")}
"""


def extractors() -> str:
    """The table of extractors."""
    own = "made for the data"
    rows = [["`classifier`", "3 convolutions", "last, before the classes", "64", "the data's", own]]
    for name, one in EXTRACTORS.items():
        if isinstance(one, Pretrained):
            source = f"package `{one.package.replace('_', '-')}`" if one.package else "download, or a local file"
            source = "torch.hub" if one.hub else source
            checked = f", SHA-256 `{one.sha256[:8]}…`" if one.sha256 else ""
            rows.append([f"`{name}`", f"`{one.served_as}`", f"`{one.layer}`", one.dim, one.side, source + checked])
    return table(["extractor", "network", "layer", "features", "side of its images", "weights"], rows)


def protocols_page() -> str:
    """What a protocol is, and the extractors."""
    return f"""# Protocols and extractors

A score means nothing without what it was measured with. That is its protocol, which is kept beside every score. Its
name, the `protocol_id`, is a checksum of the fields below. Tables refuse to mix two protocols.

{fields(ScoreProtocol, {})}

## Extractors

An extractor is the network whose features are compared. Unless a profile or `--protocol` names one, grey pictures with
labels are scored by a classifier of their own classes, and all others by features of ImageNet (`imagenet-lite0`).

{extractors()}

`score --protocol NAME` adds the scores of another extractor to trials that are done, from their stored weights. An
extractor of your own is an entry like these: [how to add one](../howto/extractor.md). Where nothing can be downloaded,
see [Inception offline](../howto/inception.md).
"""


def command_section(name: str, function: Callable[..., None]) -> str:
    """One command: how it is called, what it does, its arguments and options."""
    hints, rows, usage = get_type_hints(function, include_extras=True), [], [CONSOLE_COMMAND, name]
    for parameter in inspect.signature(function).parameters.values():
        kind, *extras = get_args(hints[parameter.name]) or (None,)
        info = next((extra for extra in extras if isinstance(extra, typer.models.ParameterInfo)), None)
        if info is None:
            continue
        needed = parameter.default is inspect.Parameter.empty
        if isinstance(info, typer.models.ArgumentInfo):
            names = [parameter.name.upper()]
            usage.append(names[0] if needed else f"[{names[0]}]")
        else:
            names = [d for d in (info.default, *(info.param_decls or ())) if isinstance(d, str) and d.startswith("-")]
        takes = "" if kind is bool else type_name(kind)
        default = "" if parameter.default in (None, "", False) else f"`{parameter.default}`"
        rows.append([words(names), info.help, takes, "must be given" if needed else default])
    parts = [f"### {name}", f"`{' '.join(usage)}`", inspect.cleandoc(function.__doc__ or "")]
    return "\n\n".join(parts + [table(["argument or option", "meaning", "takes", "default"], rows)] * bool(rows))


def cli_page() -> str:
    """Every command with its options."""
    rooms = []
    for heading, commands in COMMANDS.items():
        rooms += [f"## {heading}", *(command_section(name, function) for name, function in commands.items())]
    body = "\n\n".join(rooms)
    return f"""# Commands

`{CONSOLE_COMMAND}` is the command of the installed package; in a checkout, `python -m studies` is the same. `--help`
behind a command prints what is below. A command that is refused prints one line and ends with status 2; one that found
something wrong ends with 1. `{CONSOLE_COMMAND} --install-completion` teaches your shell the commands.

{body}
"""


PAGES: dict[str, Callable[[], str]] = {
    "spec": spec_page,
    "metrics": metrics_page,
    "columns": columns_page,
    "protocols": protocols_page,
    "commands": cli_page,
}


def pages() -> dict[Path, str]:
    """Path -> text of each page of the reference."""
    return {FOLDER / f"{name}.md": f"{MADE}\n\n{make()}" for name, make in PAGES.items()}


def write() -> None:
    """Write those that are not as the code has them."""
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    write()
