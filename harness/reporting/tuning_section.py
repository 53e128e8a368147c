"""The section of a tuned study's page: what the search gave each arm, what it cost, which verdicts it changed."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.analysis.evidence import Evidence
from harness.analysis.tuned import declared, failed_for_good
from harness.analysis.verdicts import Answer
from harness.analysis.wording import agreeing, count, number
from harness.questions import Value, written
from harness.reporting.blocks import Block, Section, Written
from harness.reporting.tables import effect_of


def tuning_tables(evidence: Evidence) -> dict[str, Written]:
    """The tables of the section, by the names of their files; none for a study without tuning."""
    found = {"tuning": search_table(evidence), "untuned": untuned_table(evidence)}
    shown = {"tuning": formatted_search, "untuned": formatted_untuned}
    return {name: Written(table, shown[name](table)) for name, table in found.items() if len(table)}


def tuning_section(evidence: Evidence, written: Mapping[str, Written]) -> list[Section]:
    """The section; none for a study without tuning.

    Args:
        evidence: Of the study.
        written: All tables of its page.
    """
    tuning = evidence.design.tuning
    if tuning is None or "tuning" not in written:
        return []
    table, shown = written["tuning"]
    fields = ", ".join(f"`{name}`" for name in tuning.fields)
    blocks: list[Block] = [
        f"Before the trial of a verdict ran, its arm got a search over {fields} at that seed: "
        f"{count(tuning.trials, 'candidate')}, the arm as it is declared among them, each trained once for the study's "
        "own budget, at seeds that are in no verdict. The candidate with the lowest FID is what the arm is at this "
        f"seed, in every table of this page. {DRAWN[tuning.searcher]} As every seed has a search of its own, what a "
        "search finds by luck is part of the noise that the verdicts allow for.",
        table if shown is None else shown,
        f"*FID in the search is the geometric mean over seeds, of the arm as declared and of what was chosen, which it "
        f"flatters: it was chosen by it. The searches cost {number(table.compute_seconds.sum())} compute seconds, the "
        f"trials of the verdicts {number(evidence.trials.compute_seconds.sum())}.*",
    ]
    if lost := failed_for_good(evidence.search):
        more = f", and {len(lost) - 3} more" if len(lost) > 3 else ""
        blocks.append(
            f"**{count(len(lost), 'candidate')} failed twice with the same error**, and "
            f"{agreeing(len(lost), 'was', 'were')} passed over, so that fewer were compared there: "
            f"`{'`, `'.join(lost[:3])}`{more}."
        )
    if "untuned" in written:
        pairs, shown = written["untuned"]
        same = count(int((pairs.verdict == pairs.verdict_untuned).sum()), "verdict")
        blocks += [f"**With and without tuning.** Of {len(pairs)}, {same} came out the same.", BESIDE]
        blocks.append(pairs if shown is None else shown)
    return [Section("tuning", "Tuning: what each arm was given", blocks)]


DRAWN = {
    "random": "Candidates were drawn at random, at each seed the same for every arm.",
    "optuna": (
        "Candidates were drawn by Optuna (Akiba et al. 2019), by what the earlier ones of the same arm and seed scored."
    ),
}
BESIDE = (
    "*Without tuning: the study with its arms as they are declared, from its own trials in the same store. Where a "
    "verdict differs, it depends on how well the arms are set up.*"
)


def search_table(evidence: Evidence) -> pd.DataFrame:
    """One row an arm and seed: each field as declared and as chosen, FID of both in the search, its compute seconds."""
    lines = []
    for arm, by_seed in evidence.search.items():
        before = declared(evidence.design, arm)
        if any(now.keys() != before.keys() for now in evidence.design.chosen.get(arm, ())):
            return pd.DataFrame()  # the study has come to search over others since it ran
        for seed, now in enumerate(evidence.design.chosen.get(arm, ())):
            candidates = by_seed.get(seed, [])
            if not candidates:
                continue
            line: dict[str, object] = {"arm": arm, "seed": seed}
            for name in before:
                line |= {f"{name} declared": before[name], f"{name} chosen": now[name]}
            taken = next((one for one in candidates if one.values == now), None)  # of fewer candidates by now, perhaps
            line |= {"fid_declared": candidates[0].fid, "fid_chosen": taken.fid if taken else math.nan}
            line["declared_was_best"] = candidates[0] == taken
            cost = {tuple(one.values.items()): one.compute_seconds for one in candidates}  # drawn alike is one trial
            lines.append(line | {"compute_seconds": sum(cost.values())})
    return pd.DataFrame(lines)


def formatted_search(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people: one row an arm, what was chosen over its seeds."""
    names = [column.removesuffix(" declared") for column in table if column.endswith(" declared")]
    lines = []
    for arm, seeds in table.groupby("arm", sort=False):
        line = {"arm": arm}
        line |= {name: _chosen(seeds[f"{name} declared"].iloc[0], seeds[f"{name} chosen"]) for name in names}
        line["kept as declared"] = f"{seeds.declared_was_best.sum()} of {len(seeds)}"
        line["FID in the search"] = f"{number(_mean(seeds.fid_declared))} → {number(_mean(seeds.fid_chosen))}"
        lines.append(line | {"compute seconds": number(seeds.compute_seconds.sum())})
    return pd.DataFrame(lines)


def untuned_table(evidence: Evidence) -> pd.DataFrame:
    """One row a claim: its verdict and effect with tuning and without; empty where the store has no such study."""
    if evidence.untuned is None:
        return pd.DataFrame()
    plain = {(one.question, one.level): one for one in evidence.untuned.answers}
    tuned = {(one.question, one.level): one for one in evidence.answers}
    return pd.DataFrame([_pair(tuned[claim], plain[claim]) for claim in tuned if claim in plain])


def formatted_untuned(table: pd.DataFrame) -> pd.DataFrame:
    """The table for people."""
    return pd.DataFrame(
        {
            "claim": table.claim,
            "without tuning": table.verdict_untuned,
            "tuned": table.verdict,
            "effect, without tuning [95%]": table.effect_untuned,
            "effect, tuned [95%]": table.effect,
        }
    )


def _pair(tuned: Answer, plain: Answer) -> dict[str, str]:
    return {
        "claim": tuned.claim,
        "verdict": tuned.verdict,
        "verdict_untuned": plain.verdict,
        "effect": effect_of(tuned),
        "effect_untuned": effect_of(plain),
    }


def _chosen(before: Value, now: pd.Series) -> str:
    """0.002 → 0.0001 to 0.003, or 1 → 1 (4×), 2 (2×)."""
    if pd.api.types.is_float_dtype(now):
        low, high = written(float(now.min())), written(float(now.max()))
        return f"{written(before)} → {low}" + f" to {high}" * (low != high)
    counts = now.value_counts().sort_index()
    return f"{written(before)} → " + ", ".join(f"{written(value)} ({times}×)" for value, times in counts.items())


def _mean(fids: pd.Series) -> float:
    """Geometric; inf where one is."""
    return float(np.exp(np.log(fids).mean()))
