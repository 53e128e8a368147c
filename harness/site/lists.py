"""The lists that a site's pages sort, filter and search: claims, arms by protocol, trials by protocol.

Every number and its words are those of the reports: `tables.arm_row` and `tables.formatted` for arms, the answers of a
study's evidence for claims, the store's own scores for trials.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from harness.analysis import index, results
from harness.analysis.wording import p_value
from harness.metrics import METRICS
from harness.reporting import tables
from harness.site.merge import Merged
from harness.site.studies import Told
from harness.spec import FOLDER, ScoreProtocol
from harness.using.trial import Place

SCORES = tables.SCORES
UNITS = {"kid": 1000}
"""By what a list multiplies a score, as the reports' tables do."""

NO_SCORES = "trials without scores: diverged, failed, or not scored yet"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a list; site.js says what its kinds show."""

    head: str
    kind: str
    filter: bool = False  # whether people choose among its values
    least: bool = False  # whether they can ask for at least so many
    score: str = ""  # the metric, where a figure can show it


@dataclass(kw_only=True)
class Rows:
    """The rows of a list under one protocol, or all of them where it has none."""

    name: str = ""
    label: str = ""
    note: str = ""
    rows: list[list[Any]] = field(default_factory=list)


def as_data(columns: Sequence[Column], sets: Sequence[Rows], caption: str) -> dict[str, Any]:
    """A list as site.js takes it."""
    heads = [{k: v for k, v in asdict(column).items() if v} for column in columns]
    return {"columns": heads, "sets": [asdict(one) for one in sets], "caption": caption}


def claims(studies: Sequence[Told]) -> dict[str, Any]:
    """Every claim of every study that was judged."""
    columns = [
        Column(head="claim", kind="link"),
        Column(head="study", kind="studies", filter=True),
        Column(head="verdict", kind="verdict", filter=True),
        Column(head="effect [95%]", kind="interval"),
        Column(head="p (Holm)", kind="interval"),
        Column(head="n", kind="whole"),
        Column(head="diverged", kind="whole"),
    ]
    rows = [
        [
            [answer.claim, f"{told.page}#{answer.question}"],
            [code],
            answer.verdict,
            [finite(answer.effect), f"{tables.compared(answer)} {tables.effect_of(answer)}".strip()],
            [finite(answer.p_holm), f"{p_value(answer.p)} ({p_value(answer.p_holm)})"],
            answer.n,
            answer.failures,
        ]
        for code, told in enumerate(studies)
        for answer in (told.evidence.answers if told.evidence else ())
    ]
    return as_data(columns, [Rows(rows=rows)], "Claims and their verdicts")


def arms(
    studies: Sequence[Told], protocols: Mapping[str, ScoreProtocol], scored: Mapping[str, set[str]]
) -> dict[str, Any]:
    """Arms ranked by FID, under each protocol by itself.

    Args:
        studies: All.
        protocols: By id.
        scored: Trial -> the protocols under which it has scores.
    """
    columns = [
        Column(head="arm", kind="words"),
        Column(head="study", kind="studies", filter=True),
        Column(head="seeds", kind="whole", least=True),
        Column(head="diverged", kind="interval"),
        *(Column(head=short_heading(name), kind="interval", score=name) for name in SCORES),
        Column(head="kimg", kind="number"),
        Column(head="s/trial", kind="number"),
    ]
    found: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {}
    for code, told in enumerate(studies):
        if told.is_search:
            continue
        own = told.plan["protocol_id"]
        mine = {cell["trial_id"]: cell.get("protocol_id", own) for cell in told.plan["cells"]}
        for protocol in sorted({p for i in mine for p in scored.get(i, ())}):
            for row in _arm_rows(told, protocol):
                planned = {mine[trial_id] for trial_id in row["trials"]}
                if row["n"] or (row["diverged"] and planned == {protocol}):
                    there = found.setdefault(protocol, {}).setdefault(row["trials"], {**row, "studies": []})
                    there["studies"].append(code)
    sets = []
    for key, rows in found.items():
        # A diverged trial is worse than any score, and an arm's mean leaves it out: such arms stand below.
        ranked = sorted(rows.values(), key=lambda row: (row["diverged"] > 0, math.isnan(row["fid"]), row["fid"]))
        sets.append(_under(key, protocols, [_arm_cells(row) for row in ranked]))
    return as_data(columns, _most_first(sets), "Arms under this protocol")


def _arm_rows(told: Told, protocol: str) -> Iterable[dict[str, Any]]:
    """Of every arm of a study its numbers under a protocol, the words for them, and its trials."""
    cells = [{**cell, "protocol_id": protocol, "also": {}} for cell in told.plan["cells"]]
    rows = results.of_plan(told.view.store, {**told.plan, "protocol_id": protocol, "cells": cells})
    names = list(dict.fromkeys(cell["arm"] for cell in cells))
    numbers = pd.DataFrame(tables.arm_row(rows, arm) for arm in names)
    shown = tables.formatted(numbers)
    for own, words in zip(numbers.to_dict("records"), shown.to_dict("records"), strict=True):
        mine = rows[rows.arm == own["arm"]]
        budgets = sorted(set(mine.kimg)) if len(mine) else []
        yield {
            **{str(name): value for name, value in own.items()},
            "words": words,
            "trials": tuple(sorted(mine.trial_id)) if len(mine) else (),
            "kimg": budgets[0] if len(budgets) == 1 else None,
        }


def _arm_cells(row: Mapping[str, Any]) -> list[Any]:
    words, heads = row["words"], {"fid": "FID ↓ [95%]"}

    def score(name: str) -> list[Any]:
        mean, low, high = (finite(UNITS.get(name, 1) * row[f"{name}{end}"]) for end in ("", "_low", "_high"))
        return [mean, words[heads.get(name, short_heading(name))], low, high]

    return [
        row["arm"],
        row["studies"],
        int(row["n"]),
        [row["diverged"] / row["ended"] if row["ended"] else None, words["diverged [95%]"]],
        *map(score, SCORES),
        row["kimg"],
        finite(row["seconds"]),
    ]


def trials(
    records: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, Sequence[tuple[int, Place]]],
    protocols: Mapping[str, ScoreProtocol],
) -> dict[str, Any]:
    """Every trial, under each protocol by which it has scores; one without any stands under that of its study.

    Args:
        records: Trial -> what `results.record_of` makes of it.
        places: Trial -> (number of the study, place).
        protocols: By id.
    """
    columns = [
        Column(head="trial", kind="trial"),
        Column(head="study", kind="studies", filter=True),
        Column(head="arm", kind="words"),
        Column(head="seed", kind="whole"),
        Column(head="status", kind="words", filter=True),
        *(Column(head=short_heading(name), kind="number") for name in SCORES),
        Column(head="kimg", kind="number"),
        Column(head="seconds", kind="number"),
        Column(head="data", kind="words", filter=True),
    ]
    sets: dict[str, Rows] = {}
    for trial_id, record in records.items():
        mine = places.get(trial_id, [])
        spec, planned = record["spec"], [place.protocol_id for _, place in mine]
        for protocol in record["scores"] or [key for key in dict.fromkeys(planned) if key in protocols] or [""]:
            scores = record["scores"].get(protocol, {})
            row = [
                trial_id,
                list(dict.fromkeys(code for code, _ in mine)),
                "; ".join(dict.fromkeys(place.arm for _, place in mine)),
                spec["seed"],
                record["status"],
                *(digits(scores.get(name), UNITS.get(name, 1)) for name in SCORES),
                spec["kimg"],
                digits(record["cost"].get("seconds")),
                data_name(spec["dataset"]),
            ]
            sets.setdefault(protocol, _under(protocol, protocols, [])).rows.append(row)
    return as_data(columns, _most_first(sets.values()), "Trials under this protocol")


def protocols_of(merged: Merged) -> tuple[dict[str, ScoreProtocol], dict[str, dict[str, Any]]]:
    """Every protocol of the stores by its id, and of each trial what the results table is made from."""
    store = merged.views[0].store
    records = index.records(store, store.trial_ids(), results.record_of)
    known: dict[str, ScoreProtocol] = {}
    for trial_id, record in records.items():
        if not record["scores"].keys() <= known.keys():
            known |= {key: protocol for key, (protocol, _) in store.read_scores(trial_id).items()}
    return known, records


def data_name(dataset: str) -> str:
    """A data set's name; of a folder its own name alone, as no path of anybody's machine belongs on a site."""
    return f"{FOLDER}{dataset.rstrip('/').rpartition('/')[2]}" if dataset.startswith(FOLDER) else dataset


def finite(value: float | None) -> float | None:
    """The value, None where it is no number that JSON has."""
    return float(value) if value is not None and math.isfinite(value) else None


def digits(value: float | None, unit: float = 1) -> float | None:
    """By six significant digits: what a list and a figure show, in a third of the bytes."""
    return None if finite(value) is None else float(f"{unit * (value or 0):.6g}")


def short_heading(name: str) -> str:
    """A score's name with its unit, and an arrow towards better."""
    return f"{METRICS[name].label}{'×10³' if name == 'kid' else ''} {METRICS[name].arrow}"


def _under(key: str, protocols: Mapping[str, ScoreProtocol], rows: list[list[Any]]) -> Rows:
    if key not in protocols:
        return Rows(name="none", label=NO_SCORES, note="", rows=rows)
    protocol = protocols[key]
    label = f"{protocol.extractor}, {protocol.reference}, {protocol.num_generated:,} images, {key}"
    return Rows(name=key, label=label, note=f"Protocol {key}: {protocol.describe()}.", rows=rows)


def _most_first(sets: Iterable[Rows]) -> list[Rows]:
    """The protocols with most rows first; a list that has none gets an empty one."""
    return sorted(sets, key=lambda one: (one.name == "none", -len(one.rows), one.name)) or [Rows()]
