"""What a reader must know before believing a page: what weakens its numbers, and how they were made."""

import math
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from harness.analysis.earlier import left_behind, runs_on_the_same_data, scored_otherwise
from harness.analysis.effects import arm_mean, arm_values, level_arms
from harness.analysis.evidence import Evidence
from harness.analysis.statistics import FEWEST_FOR_A_CLAIM
from harness.analysis.tuned import has_changed
from harness.analysis.wording import agreeing, count, duration, number
from harness.metrics import METRICS, collapsed_below, is_well_proven, proof_in_words
from harness.reporting.tables import scored
from harness.spec import ScoreProtocol
from harness.storage.store import Store
from harness.study import Design

ROOT = Path(__file__).parents[2]
"""Of this repository, where `make` takes the store "runs"."""
FEW_IMAGES = 1000
"""Fewer real images than this to score against, and a report warns of it."""
SOFTWARE = ("python", "torch", "torchvision", "torch_fidelity", "torchmetrics", "timm", "numpy", "scipy", "ray")
MOST_LISTED = 4
"""More values than this of one fact, over the trials of a study, are summarised."""


def warnings(evidence: Evidence) -> list[str]:
    """What weakens the tables: a weak classifier, too few seeds, missing, failed, diverged or collapsed trials.

    On the page and in the terminal. The first sentence of each is short and complete: the terminal shows no more.
    """
    store, rows, cells, finished = evidence.store, evidence.rows, evidence.plan["cells"], scored(evidence.rows)
    ended = pd.concat([rows[rows.status == "diverged"], finished])
    counts = ended.groupby("arm").size().reindex(evidence.arms, fill_value=0)
    found = [*extractor_proof(evidence, only_weak=True), *_few_seeds(evidence, counts)]
    if (file := evidence.plan.get("file", evidence.design.file)) != evidence.design.file:
        found.append(
            f"The last run here was of another study called {evidence.design.name}. It is that of {file}; what differs "
            "between the two is missing or not asked. Another name for one of them, or another store, keeps both."
        )
    protocol = _protocol(evidence)
    if protocol is not None and 0 < protocol.num_reference < FEW_IMAGES:  # 0 where moments are given
        lacking = protocol.num_reference < protocol.num_generated
        more = f"At least {FEW_IMAGES:,} should be left that no GAN is trained on."
        asked_for = f"As many are taken as are generated: let num_generated be {FEW_IMAGES:,} at the least."
        found.append(
            f"Scored against {protocol.num_reference} real images: of so few, FID and the others say little. "
            f"{more if lacking else asked_for}"
        )
    asked = [arm for q in evidence.design.questions for arm in level_arms(evidence.design, q).values()]
    if unknown := [arm for arm in dict.fromkeys(asked) if arm not in evidence.arms]:
        found.append(
            f"The study has since gained {count(len(unknown), 'arm')} never planned here: the next run adds what is "
            f"missing. That is: {'; '.join(unknown)}."
        )
    if earlier := left_behind(store, evidence.plan, runs_on_the_same_data(rows, evidence.plan, evidence.design)):
        were = "was" if len(earlier) == 1 else "were"
        arms = "; ".join(f"{arm} ({n})" for arm, n in Counter(earlier.values()).items())
        found.insert(
            0,
            f"{count(len(earlier), 'trial')} {were} made from an earlier version of this study's code or settings: "
            f"the next run makes others in their place. What is shown is of the earlier version, in: {arms}.",
        )
    if has_changed(store, evidence.design, evidence.plan.get("chosen", {})):
        found.insert(
            0,
            "The tuning was declared otherwise when it ran: the next run searches anew. Until then what is said of the "
            "search may be missing, or of a part of its candidates.",
        )
    found[:0] = other_versions(evidence)
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
    ran = trials[trials.status.isin(["ok", "diverged"])].trial_id
    on_gpus = sum(bool(store.read_result(trial_id)["provenance"].get("gpu")) for trial_id in ran)
    if 0 < on_gpus < len(ran):
        found.append(
            f"{count(on_gpus, 'trial')} ran on GPUs and {len(ran) - on_gpus} on processors, where seeds draw other "
            "latents. Such pairs have the order of the data and the first weights in common. Compute times are not "
            "compared."
        )
    collapsed = _collapsed(evidence, finished).groupby("arm").size()
    if len(collapsed):
        found.append(
            f"Mode collapse in {collapsed.sum()} of {count(counts.sum(), 'trial')}: nearly all samples look alike. "
            f"IS is 1 where all look the same; {_collapse_in_words(evidence, finished)}. "
            f"Found in: {'; '.join(f'{arm} ({n} of {counts[arm]})' for arm, n in collapsed.items())}."
        )
    found += _no_better_than_untrained(evidence)
    if unscored := int((trials.status == "ok").sum()) - len(scored(trials)):
        scores = "the next run" if evidence.of_run else "the command `score`"
        them = agreeing(unscored, "it", "them all")
        found.append(f"{count(unscored, 'trial')} finished but not scored under this protocol; {scores} scores {them}.")
    if finished.empty:
        found.append("No trial has finished: there is nothing to compare.")
    return found


def other_versions(evidence: Evidence) -> list[str]:
    """Of each network of the user's own that has changed since it scored: that it has, and what scores anew."""
    said = []
    for name, scores in scored_otherwise(evidence.store, evidence.plan, evidence.design.own_code).items():
        are, anew = (
            agreeing(scores, "is", "are"),
            "the next run" if evidence.of_run else f"`score --protocol {name}`",
        )
        said.append(
            f"{count(scores, 'score')} by {name} {are} of another version of it: {anew} scores the trials anew. "
            "Its code or its weights have changed since, and what is shown is by what they were."
        )
    return said


def scored_by(evidence: Evidence) -> str:
    """The network by whose scores a page is, with its protocol; the protocol alone where no trial has scores."""
    protocol, key = _protocol(evidence), evidence.plan["protocol_id"]
    return f"{protocol.extractor} (protocol {key})" if protocol else f"protocol {key}"


def extractor_proof(evidence: Evidence, *, only_weak: bool = False) -> list[str]:
    """What each classifier that scored gets right of real pictures that it has not seen; none where none scored.

    With `only_weak`, of those alone whose scores need a warning.
    """
    several, found = len(evidence.references) > 1, evidence.references.items()
    said = {key: proof_in_words(scores) for key, scores in found if not (only_weak and is_well_proven(scores))}
    return [f"{f'Protocol {key}: ' if several else ''}{words}." for key, words in said.items() if words]


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

    dates = sorted(p["date"] for p in made if p.get("date"))
    seeds, num_planned = evidence.num_seeds, len({cell["trial_id"] for cell in plan["cells"]})
    lines = {
        "command": f"`{command(design, store, seeds)}`",
        **({} if evidence.of_run or protocol is None else {"then": _by_its_scores(evidence, protocol)}),
        "trials": f"{len(rows)} of {num_planned} planned, {len(scored(rows))} scored",
        "protocol": f"{plan['protocol_id']}: {protocol.describe() if protocol else 'no scored trial'}",
        **{
            f"protocol of {name}": f"{key}: {further.describe()}" for name, (key, further) in _further(evidence).items()
        },
        "extractor": " ".join(extractor_proof(evidence)) or "–",
        "real against real": _scores(evidence.reference),
        **{
            f"real against real by {name}": _scores(store.read_reference(key))
            for name, (key, _) in _further(evidence).items()
        },
        **{
            f"untrained {name}": _scores(store.read_scores(trial_id)[plan["protocol_id"]][1])
            for name, trial_id in plan.get("ceilings", {}).items()
            if store.status(trial_id) == "ok" and plan["protocol_id"] in store.read_scores(trial_id)
        },
        "commit": distinct("commit") + (" (+ marks a changed working tree)" if "+" in distinct("commit") else ""),
        "dates": f"{dates[0]} to {dates[-1]}" if dates else "–",
        "hardware": f"{distinct('cpu')}; GPU: {distinct('gpu')}; {_threads(distinct('threads'))} per trial",
        "software": ", ".join(f"{name} {found}" for name in SOFTWARE if (found := distinct(name)) != "–"),
        "compute": f"{duration(rows.seconds.sum())}, the sum over trials",
    }
    return pd.DataFrame({"": lines.keys(), " ": lines.values()})


def command(design: Design, store: Store, seeds: int) -> str:
    """What runs the design again, for a shell in any folder; for one in this repository's, of its own studies.

    A page does not know where it will be read: what belongs to no repository has its whole path.
    """
    profile = design.profile.name
    if design.file:
        words = ["python", "-m", "studies", "run", design.file, "--profile", profile, "--seeds", str(seeds)]
        return shlex.join([*words, "--store", str(store.root)])
    return make_command(store, f"study-{design.name}", f"PROFILE={profile}", f"SEEDS={seeds}")


def _by_its_scores(evidence: Evidence, protocol: ScoreProtocol) -> str:
    """What gives a study that ran the scores of another protocol, and makes its page by them."""
    design, root = evidence.design, evidence.store.root
    study = [design.file or design.name, "--profile", design.profile.name]
    study += ["--store", "runs" if root == ROOT / "runs" else str(root)]
    by = ["--protocol", protocol.extractor, "--num-generated", str(protocol.num_generated)]
    score = ["score", *study, *by, *([] if protocol.num_reference else ["--reference-moments", "FILE"])]
    which = evidence.plan["protocol_id"] if len(evidence.references) == 1 else protocol.extractor
    report = ["report", *study, "--protocol", which]
    return "; ".join(f"`{shlex.join(['python', '-m', 'studies', *words])}`" for words in (score, report))


def make_command(store: Store, *words: str) -> str:
    """A call of `make` for a shell in this repository; the store is named where it is not the one taken by itself."""
    return shlex.join(["make", *words, *([] if store.root == ROOT / "runs" else [f"STORE={store.root}"])])


def _few_seeds(evidence: Evidence, counts: pd.Series) -> list[str]:
    """Whether a claim can rest on so many seeds; `counts` has each arm's trials that finished or diverged."""
    need = f"a claim needs at least {FEWEST_FOR_A_CLAIM}. With fewer, an exact paired test cannot reach p = 0.05."
    few = counts[(counts > 0) & (counts < FEWEST_FOR_A_CLAIM)]
    if evidence.num_seeds < FEWEST_FOR_A_CLAIM:
        return [f"Exploratory: {count(evidence.num_seeds, 'seed')} per arm, and {need}"]
    if len(few) and len(few) == (counts > 0).sum():
        return [f"Exploratory: at most {count(int(few.max()), 'finished seed')} per arm, and {need}"]
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


def _collapse_in_words(evidence: Evidence, finished: pd.DataFrame) -> str:
    """Below which IS a trial of each protocol counts as collapsed, and the IS of real images, which it depends on."""
    said = []
    for key in dict.fromkeys(finished.protocol_id):
        real = evidence.references.get(key, {}).get("is_mean", math.nan)
        ours = "" if math.isnan(real) else f" (real images have {number(real)})"
        said.append(f"a trial counts as collapsed below {number(collapsed_below(real))}{ours}")
    return "; ".join(dict.fromkeys(said))


def _no_better_than_untrained(evidence: Evidence) -> list[str]:
    """Of each FID that is shown: the arms whose mean is no lower than that of their baseline before any training."""
    own, said = evidence.plan["protocol_id"], []
    shown = {"fid": own, **{f"fid@{name}": key for name, (key, _) in _further(evidence).items()}}
    arms = {arm: found.baseline for arm, found in evidence.design.every_arm.items() if arm in evidence.arms}
    for metric, key in shown.items():
        if metric not in evidence.rows or evidence.rows.empty:  # a table without trials lacks some columns
            continue
        before, worse = _untrained_fids(evidence, key), []
        rows = evidence.rows[evidence.rows.protocol_id == own]  # arms on other data have untrained generators of theirs
        for arm, baseline in arms.items():
            mean = arm_mean(arm_values(rows, arm, metric), metric).mean
            if math.isfinite(mean) and mean >= before.get(baseline, math.inf):
                worse.append(f"{arm} ({number(mean)}, untrained {number(before[baseline])})")
        if worse:
            of = "" if metric == "fid" else f" by {METRICS[metric].label}"
            said.append(
                f"No better than an untrained generator{of}: {len(worse)} of {count(len(arms), 'arm')}. Either "
                "training has failed (too short, collapsed), or these features see little of what matters. Mean FID, "
                f"and that of the baseline's generator before training: {'; '.join(worse)}."
            )
    return said


def _untrained_fids(evidence: Evidence, protocol: str) -> dict[str, float]:
    """Baseline -> the FID of its generator before training."""
    store, found = evidence.store, dict[str, float]()
    for baseline, trial_id in evidence.plan.get("ceilings", {}).items():
        if store.status(trial_id) == "ok" and protocol in (scores := store.read_scores(trial_id)):
            found[baseline] = scores[protocol][1]["fid"]
    return found


def _threads(found: str) -> str:
    """1 thread; 1, 2 threads."""
    return f"{found} thread" if found in ("1", "–") else f"{found} threads"


def _protocol(evidence: Evidence) -> ScoreProtocol | None:
    """The study's own protocol, from the first trial that has scores of it; None where none has."""
    for trial_id in evidence.rows.trial_id:
        scores = evidence.store.read_scores(trial_id)
        if evidence.plan["protocol_id"] in scores:
            return scores[evidence.plan["protocol_id"]][0]
    return None


def _further(evidence: Evidence) -> dict[str, tuple[str, ScoreProtocol]]:
    """Name of a further extractor -> the protocol's id and itself; those of a first trial that has scores of it."""
    found: dict[str, tuple[str, ScoreProtocol]] = {}
    for cell in evidence.plan["cells"]:
        for name, key in cell.get("also", {}).items():
            if name not in found and evidence.store.status(cell["trial_id"]) == "ok":
                scores = evidence.store.read_scores(cell["trial_id"])
                found |= {name: (key, scores[key][0])} if key in scores else {}
    return found


def _scores(scores: Mapping[str, float]) -> str:
    if not scores:
        return "not computed"
    shown = {
        "fid": "FID {:.2f}",
        "kid": "KID×10³ {:.2f}",
        "is_mean": "IS {:.2f}",
        "precision": "precision {:.3f}",
        "recall": "recall {:.3f}",
    }  # not every extractor, nor every reference, gives all of them
    values = {**scores, "kid": 1000 * scores.get("kid", math.nan)}
    return ", ".join(form.format(values[name]) for name, form in shown.items() if name in scores).replace("-", "−")
