"""What a reader must know before believing a page: what weakens its numbers, and how they were made."""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from harness.analysis.effects import level_arms
from harness.analysis.evidence import Evidence
from harness.analysis.statistics import FEWEST_FOR_A_CLAIM
from harness.analysis.wording import agreeing, count
from harness.metrics import COLLAPSED_IS, collapsed_below, proof_in_words
from harness.reporting.tables import scored
from harness.spec import ScoreProtocol
from harness.storage.store import Store

FEW_IMAGES = 1000
"""Fewer real images than this to score against, and a report warns of it."""
MOST_LISTED = 4
"""More values than this of one fact, over the trials of a study, are summarised."""


def warnings(evidence: Evidence) -> list[str]:
    """What weakens the tables: too few seeds, missing, failed, diverged or collapsed trials.

    The first sentence of each is short and complete: the terminal shows no more.
    """
    rows, cells, finished = evidence.rows, evidence.plan["cells"], scored(evidence.rows)
    ended = pd.concat([rows[rows.status == "diverged"], finished])
    counts = ended.groupby("arm").size().reindex(evidence.arms, fill_value=0)
    found = _few_seeds(evidence, counts)
    if (file := evidence.plan.get("file", evidence.design.file)) != evidence.design.file:
        found.append(
            f"The last run here was of another study called {evidence.design.name}. It is that of {file}; what differs "
            "between the two is missing or not asked. Another name for one of them, or another store, keeps both."
        )
    protocol = _protocol(evidence)
    if protocol is not None and protocol.num_reference < FEW_IMAGES:
        found.append(
            f"Scored against {protocol.num_reference} real images: of so few, FID and the others say little. "
            f"At least {FEW_IMAGES:,} should be left that no GAN is trained on."
        )
    asked = [arm for q in evidence.design.questions for arm in level_arms(evidence.design, q).values()]
    if unknown := [arm for arm in dict.fromkeys(asked) if arm not in evidence.arms]:
        found.append(
            f"The study has since gained {count(len(unknown), 'arm')} never planned here: the next run adds what is "
            f"missing. That is: {'; '.join(unknown)}."
        )
    planned, trials = {cell["trial_id"] for cell in cells}, evidence.trials
    if missing := len(planned - set(trials.trial_id)):
        have, them = agreeing(missing, "has", "have"), agreeing(missing, "it", "them")
        of = f"{missing:,} of {count(len(planned), 'planned trial')}"
        found.append(f"{of} {have} not been run yet; the next run adds {them}.")
    if failed := int((trials.status == "failed").sum()):
        found.append(
            f"{count(failed, 'trial')} failed for reasons outside the model; the next run tries again. "
            f"Until then {agreeing(failed, 'it is', 'they are')} missing."
        )
    if diverged := int((trials.status == "diverged").sum()):
        found.append(
            f"{count(diverged, 'trial')} diverged: effects and verdicts count that as worse than any score. "
            "An arm's own means leave it out and flatter the arm: read them beside the column 'diverged'."
        )
    collapsed = _collapsed(evidence, finished).groupby("arm").size()
    if len(collapsed):
        found.append(
            f"Mode collapse in {collapsed.sum()} of {count(counts.sum(), 'trial')}: nearly all samples look alike. "
            f"That is, IS is below {COLLAPSED_IS}, and not a tenth of the way from 1, the least, to that of real "
            f"images. Found in: {'; '.join(f'{arm} ({n} of {counts[arm]})' for arm, n in collapsed.items())}."
        )
    if unscored := int((trials.status == "ok").sum()) - len(scored(trials)):
        last = evidence.store.read_plan(evidence.plan["study"], evidence.plan["profile"]) or evidence.plan
        scores = "the next run" if last["protocol_id"] == evidence.plan["protocol_id"] else "the command `score`"
        them = agreeing(unscored, "it", "them all")
        found.append(f"{count(unscored, 'trial')} finished but not scored under this protocol; {scores} scores {them}.")
    if finished.empty:
        found.append("No trial has finished: there is nothing to compare.")
    return found


def extractor_proof(evidence: Evidence) -> list[str]:
    """What each classifier that scored gets right of real pictures that it has not seen; none where none scored."""
    found = {protocol_id: proof_in_words(scores) for protocol_id, scores in evidence.references.items()}
    several = len(found) > 1
    return [f"{f'Protocol {key}: ' if several else ''}{words}." for key, words in found.items() if words]


def provenance(evidence: Evidence) -> pd.DataFrame:
    """The box that says how the numbers were made: one line a subject."""
    design, store, rows, plan = evidence.design, evidence.store, evidence.trials, evidence.plan
    made = [store.read_result(trial_id)["provenance"] for trial_id in rows.trial_id]
    made.sort(key=lambda p: str(p.get("date", "")))
    protocol = _protocol(evidence)

    def distinct(key: str) -> str:
        """What trials have here, the earliest first; of many, the ends."""
        there = list(dict.fromkeys(str(p[key]) for p in made if p.get(key)))
        if len(there) > MOST_LISTED:
            return f"{len(there)} in all, from {there[0]} to {there[-1]}"
        return ", ".join(there) or "–"

    threads = f"{distinct('threads')} thread{'s' * (distinct('threads') != '1')}"
    dates = sorted(p["date"] for p in made if p.get("date"))
    profile, seeds = evidence.design.profile.name, evidence.num_seeds
    num_planned = len({cell["trial_id"] for cell in plan["cells"]})
    lines = {
        "command": f"`python -m studies run {Path(design.file).name} --profile {profile} --seeds {seeds}"
        f"{store_words(store, '--store ')}`"
        if design.file
        else f"`make study-{design.name} PROFILE={profile} SEEDS={seeds}{store_words(store, 'STORE=')}`",
        "trials": f"{len(rows)} of {num_planned} planned, {len(scored(rows))} scored",
        "protocol": f"{plan['protocol_id']}: {protocol.describe() if protocol else 'no scored trial'}",
        "extractor": " ".join(extractor_proof(evidence)) or "–",
        "real against real": _scores(evidence.reference),
        **{
            f"untrained {name}": _scores(store.read_scores(trial_id)[plan["protocol_id"]][1])
            for name, trial_id in plan.get("ceilings", {}).items()
            if store.status(trial_id) == "ok" and plan["protocol_id"] in store.read_scores(trial_id)
        },
        "commit": distinct("commit") + (" (+ marks a changed working tree)" if "+" in distinct("commit") else ""),
        "dates": f"{dates[0]} to {dates[-1]}" if dates else "–",
        "hardware": f"{distinct('cpu')}; GPU: {distinct('gpu')}; {threads} a trial",
        "software": ", ".join(
            f"{k} {distinct(k)}" for k in ("python", "torch", "torch_fidelity", "torchmetrics", "ray")
        ),
        "compute": f"{rows.seconds.sum() / 3600:.2f} hours of trials",
    }
    return pd.DataFrame({"": lines.keys(), " ": lines.values()})


def store_words(store: Store, option: str) -> str:
    """What a command needs to name the store: nothing where it is the folder that commands take by themselves."""
    return "" if store.root.name == "runs" else f" {option}{store.root.name}"


def _few_seeds(evidence: Evidence, counts: pd.Series) -> list[str]:
    """Whether a claim can rest on so many seeds; `counts` has each arm's trials that finished or diverged."""
    need = f"a claim needs at least {FEWEST_FOR_A_CLAIM}. With fewer, an exact paired test cannot reach p = 0.05."
    few = counts[(counts > 0) & (counts < FEWEST_FOR_A_CLAIM)]
    if evidence.num_seeds < FEWEST_FOR_A_CLAIM:
        return [f"Exploratory: {count(evidence.num_seeds, 'seed')} an arm, and {need}"]
    if len(few) and len(few) == (counts > 0).sum():
        return [f"Exploratory: at most {count(int(few.max()), 'finished seed')} an arm, and {need}"]
    listed = "; ".join(f"{arm} ({n})" for arm, n in few.items())
    lack = f"{count(len(few), 'arm')} {agreeing(len(few), 'lacks', 'lack')} seeds"
    return [f"Exploratory in part: {lack}, and {need} Finished so far: {listed}."] if listed else []


def _collapsed(evidence: Evidence, finished: pd.DataFrame) -> pd.DataFrame:
    """Those of scored trials whose IS says mode collapse, judged by the real images' own under the same protocol."""
    if finished.empty:  # a table without trials lacks some columns
        return finished
    real = {key: scores.get("is_mean", math.nan) for key, scores in evidence.references.items()}
    least = finished.protocol_id.map(lambda key: collapsed_below(real.get(key, math.nan)))
    return finished[finished.is_mean < least.astype(float)]


def _protocol(evidence: Evidence) -> ScoreProtocol | None:
    """The study's own protocol, from the first trial that has scores of it; None where none has."""
    for trial_id in evidence.rows.trial_id:
        scores = evidence.store.read_scores(trial_id)
        if evidence.plan["protocol_id"] in scores:
            return scores[evidence.plan["protocol_id"]][0]
    return None


def _scores(scores: Mapping[str, float]) -> str:
    if not scores:
        return "not computed"
    return (
        f"FID {scores['fid']:.2f}, KID×10³ {1000 * scores['kid']:.2f}, IS {scores['is_mean']:.2f}, "
        f"precision {scores['precision']:.3f}, recall {scores['recall']:.3f}"
    ).replace("-", "−")
