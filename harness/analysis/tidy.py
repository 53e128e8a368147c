"""The results of a store for pandas: one row a trial, one row a point of its curves; each column with dtype and unit.

A table is wide, as people group and plot it (`load("runs", study="noise").groupby("arm").fid.describe()`); one row a
metric is `melt` away. Which trials, and by whose scores, is decided where reports decide it: in results.py.
"""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, get_type_hints

import pandas as pd

from harness.analysis import results
from harness.metrics import BY_FEATURES, METRICS, is_metric, split
from harness.spec import TrialSpec
from harness.storage.store import Store


class Column(NamedTuple):
    """What a column holds."""

    dtype: str  # as pandas names it; "str" is the default type of strings of the installed pandas
    unit: str  # "" where there is none
    meaning: str


TIME = "datetime64[us, UTC]"
TEXT, WHOLE, REAL, TRUTH = "str", "int64", "float64", "bool"

FIRST = {
    "trial_id": Column(TEXT, "", "16 hex digits of the spec's content; names the trial's folder"),
    "study": Column(TEXT, "", "its studies, joined by ' | ' where no study was asked for"),
    "arm": Column(TEXT, "", "the variant under test, likewise"),
    "seed": Column(WHOLE, "", "the replicate, by which arms are paired"),
    "status": Column(TEXT, "", "ok, diverged or failed; scores are NaN unless ok"),
}
SPREADS = {
    "is_std": Column(REAL, "", "spread of IS over splits of one sample, not over seeds"),
    "kid_subset_std": Column(REAL, "", "spread of KID over overlapping subsets, no standard error; NaN of one set"),
}
OF_RUN = {
    "seconds": Column(REAL, "s", "wall-clock time of the trial"),
    "compute_seconds": Column(REAL, "s", "CPU time on a CPU, else wall-clock time"),
}
COSTS = {
    "error": Column(TEXT, "", "why a trial diverged or failed"),
    "protocol_id": Column(TEXT, "", "12 hex digits of the protocol of the scores; empty without any"),
    "d_steps": Column(REAL, "updates", "of D in all"),
    "g_steps": Column(REAL, "updates", "of G in all"),
    "generator_parameters": Column(REAL, "", "of G"),
    "discriminator_parameters": Column(REAL, "", "of D"),
    "generator_flops_per_image": Column(REAL, "FLOP", "of one pass of G"),
    "discriminator_flops_per_image": Column(REAL, "FLOP", "of one pass of D"),
    "train_seconds": Column(REAL, "s", "of the training alone"),
    "score_seconds": Column(REAL, "s", "of the scores"),
    "cpu_seconds": Column(REAL, "s", "of all threads of the process"),
    "peak_memory_bytes": Column(REAL, "B", "of the process or, on a GPU, of the card"),
}
LAST = {
    "commit": Column(TEXT, "", "of the code, with + where it was changed; or the installed version"),
    "date": Column(TIME, "", "when the trial began"),
}

WHOSE = ("trial_id", "study", "arm", "seed")
CURVES = {
    **{name: FIRST[name] for name in WHOSE},
    "step": Column(WHOLE, "steps", "of the loop"),
    "kimg": Column(REAL, "kimg", "thousand real images that D has seen"),
    "seconds": Column(REAL, "s", "of training so far"),
    "d_loss": Column(REAL, "", "of D, mean since the last point"),
    "g_loss": Column(REAL, "", "of G, likewise"),
    "d_real": Column(REAL, "", "mean D(x), from 0 to 1; NaN for losses whose D has no such output"),
    "d_fake": Column(REAL, "", "mean D(G(z)), likewise"),
    "d_accuracy": Column(REAL, "", "share of both that D puts on the right side, likewise"),
    "fid_online": Column(REAL, "", "a cheap FID while training; NaN between its points; not comparable with fid"),
}
UNITS = {"resolution": "px", "kimg": "kimg", "ema_kimg": "kimg", "batch_size": "images", "penalty_interval": "steps"}


def load(
    store: Store | str | Path,
    *,
    study: str | None = None,
    profile: str | None = None,
    protocol_id: str | None = None,
    untrained: bool = False,
) -> pd.DataFrame:
    """The results of a store: one row a trial, diverged and failed ones too, with the columns that `columns` lists.

    With `study`, one row an arm and seed of it, so that arms are paired by seed. `harness.analysis.results.load` says
    what the arguments are and when they are refused.
    """
    found = results.load(store, study=study, profile=profile, protocol_id=protocol_id, untrained=untrained)
    return typed(found)


def load_curves(
    store: Store | str | Path,
    *,
    study: str | None = None,
    profile: str | None = None,
    protocol_id: str | None = None,
    untrained: bool = False,
) -> pd.DataFrame:
    """The curves of the trials that `load` lists, one row a point, with the columns CURVES."""
    store = store if isinstance(store, Store) else Store(store)
    rows = results.load(store, study=study, profile=profile, protocol_id=protocol_id, untrained=untrained)
    found = [results.curves_of(store, row).assign(**{n: row[n] for n in WHOSE}) for _, row in rows.iterrows()]
    found = [curves for curves in found if len(curves)]
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    return _typed(table, CURVES)


def columns() -> pd.DataFrame:
    """What the columns of `load` and `load_curves` hold: table, column, dtype, unit, meaning; one row a column."""
    tables = {"load": _columns(), "load_curves": CURVES}
    rows = [(table, name, *column) for table, found in tables.items() for name, column in found.items()]
    return pd.DataFrame(rows, columns=["table", "column", "dtype", "unit", "meaning"])


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `results.load` with the columns, in the order and of the dtypes that `columns` lists.

    Scores by further extractors ("fid@inception-v3") stand behind the others.
    """
    also = {name: _score(name) for name in table if "@" in name and is_metric(name)}
    return _typed(table, {**_columns(), **also})


def _typed(table: pd.DataFrame, wanted: Mapping[str, Column]) -> pd.DataFrame:
    table = table.reindex(columns=list(wanted))
    for name, column in wanted.items():
        if column.dtype == TIME:
            table[name] = pd.to_datetime(table[name].replace("", None), utc=True, format="ISO8601").astype(TIME)
        else:
            table[name] = table[name].astype(column.dtype)
    return table


def _columns() -> dict[str, Column]:
    scores = {name: SPREADS[name] if name in SPREADS else _score(name) for name in results.SCORES}
    curves = {name: _score(name) for name in results.FROM_CURVES}
    return {**FIRST, **scores, **OF_RUN, **curves, **COSTS, **_fields(), **LAST}


def _score(name: str) -> Column:
    metric = METRICS[name]
    unit = "kimg" if name.startswith("kimg_to") else ""
    better = f"; {metric.better} is better" if metric.better != "neither" else ""
    by = f" by the features of {split(name)[1]}" if split(name)[0] in BY_FEATURES and "@" in name else ""
    unreached = "; inf where it was not reached" if unit else ""
    return Column(REAL, unit, f"{METRICS[split(name)[0]].label}{by}{better}{unreached}")


def _fields() -> dict[str, Column]:
    """The fields of the spec but the seed, with what harness/spec.py says of each beside it."""
    said = dict(re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(TrialSpec), re.MULTILINE))
    kinds = {str: TEXT, int: WHOLE, float: REAL, bool: TRUTH}
    hints = {name: kind for name, kind in get_type_hints(TrialSpec).items() if name != "seed"}
    return {
        name: Column(kinds.get(kind, TEXT), UNITS.get(name, ""), said.get(name, "a field of the spec"))
        for name, kind in hints.items()
    }
