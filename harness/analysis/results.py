"""From the store to pandas: one row a trial, failures too."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import index
from harness.errors import UserError, unknown_name
from harness.metrics import BY_FEATURES, SETTLED, THRESHOLDS
from harness.questions import located
from harness.spec import FOLDER
from harness.storage.store import Store

SCORES = (
    *("fid", "fid_raw", "is_mean", "is_std", "kid", "kid_subset_std", "precision", "recall"),
    *("density", "coverage", "memorization", "modes", "mode_kl"),
)
OF_ONLINE_FID = (*(f"kimg_to_fid_{level}" for level in THRESHOLDS), "kimg_to_settle")
FROM_CURVES = ("g_loss_early", "g_loss_late", "d_accuracy_early", "d_accuracy_late", *OF_ONLINE_FID)
OF_LOGITS = ("d_accuracy_early", "d_accuracy_late")
NO_LOGITS = ("least-squares", "wasserstein", "relativistic")
"""Losses whose D has no 0 between real and fake: its output's sigmoid and sign, as in the curves, say nothing."""

FIRST = ("trial_id", "study", "arm", "seed", "status", *SCORES, "seconds", "compute_seconds", *FROM_CURVES)


def load(
    store: Store | str | Path,
    *,
    study: str | None = None,
    profile: str | None = None,
    protocol_id: str | None = None,
    untrained: bool = False,
) -> pd.DataFrame:
    """The results table: one row a trial.

    Columns: trial_id, study, arm, seed, status (ok, diverged, failed), the scores fid, is_mean, kid, precision,
    recall, ... (NaN unless ok), seconds, compute_seconds (CPU time on a CPU, else as seconds; NaN on another
    kind of device than the newest trial's, with which it cannot be compared), FROM_CURVES
    (`curve_metrics`); then error, protocol_id, the other costs, every field of the spec, commit and date.

    With `study`: one row an arm and seed, by which the study's arms are paired; arms that share a trial have a row
    each. Without: one row a trial, with the names of all its studies and arms, joined by " | " for people to read;
    empty where no study in the store names it any more, as its arm has since been changed or taken out.

    Files that were read before and have not changed since are not read again (`harness.analysis.index`).

    Args:
        store: A store or its folder.
        study: Keep only this study's trials.
        profile: Of that study at this profile; needs `study`.
        protocol_id: Which scores to take where trials were scored under several protocols.
        untrained: With the baselines' generators as they are before training, too, one seed each, which every study
            scores beside its own: arm "NAME, untrained", kimg 0.

    Raises:
        UserError: the study never ran here, no trial has scores of that protocol, or scores of several would be mixed.
        Damaged: a file that goes into the table is not what was written.
    """
    if profile is not None and study is None:
        raise UserError(f"profile={profile!r} needs a study to belong to; name it with study")
    store = store if isinstance(store, Store) else Store(store)
    plans = _plans(store, study, profile)
    if study is not None and len(plans) == 1 and protocol_id is None:
        return of_plan(store, plans[0], untrained=untrained)
    places = _places(plans, untrained=untrained)
    left_out = {i for plan in plans for i in plan.get("ceilings", {}).values()} - places.keys()
    found = index.records(
        store, [i for i in store.trial_ids() if i in places or (study is None and i not in left_out)], record_of
    )
    scored = {protocol for record in found.values() for protocol in record["scores"]}
    known = scored | {c.get("protocol_id", p["protocol_id"]) for p in plans for c in p["cells"]}
    if protocol_id is None and len(scored) > 1:
        raise UserError(
            f"the trials of {store.root} were scored under several protocols ({', '.join(sorted(scored))}), "
            f"whose scores cannot be compared; choose one with protocol_id"
        )
    if protocol_id is not None and protocol_id not in known:
        raise unknown_name("protocol_id", protocol_id, sorted(known))
    protocol = protocol_id or next(iter(scored), "")
    rows = [
        _row(trial_id, place, record, protocol)
        for trial_id, record in _by_one_classifier(found).items()
        for place in (places[trial_id] if study is not None else [_joined(places.get(trial_id, []), record)])
    ]
    return _table(rows)


def of_plan(store: Store, plan: Mapping[str, Any], *, untrained: bool = False) -> pd.DataFrame:
    """As `load`, for one plan of the store: of each trial the scores under the protocol that the plan names for it.

    Those of further protocols that it names, by their extractors, stand in columns such as "fid@inception-v3".
    """
    places = _places([plan], untrained=untrained)
    protocols = dict.fromkeys(plan.get("ceilings", {}).values(), plan["protocol_id"])
    protocols |= {c["trial_id"]: c.get("protocol_id", plan["protocol_id"]) for c in plan["cells"]}
    also = {c["trial_id"]: c.get("also", {}) for c in plan["cells"]}
    found = index.records(store, [i for i in store.trial_ids() if i in places], record_of)
    rows = [
        _row(trial_id, place, record, protocols[trial_id], also.get(trial_id, {}))
        for trial_id, record in _by_one_classifier(found).items()
        for place in places[trial_id]
    ]
    return _table(rows)


def require_plan(store: Store, study: str, profile: str) -> dict[str, Any]:
    """The plan of the study's last run at this profile; a UserError that lists what ran here if it never did."""
    return _plans(store, study, profile)[0]


def _plans(store: Store, study: str | None, profile: str | None) -> list[dict[str, Any]]:
    there, profile = store.read_plans(), profile and located(profile)
    plans = [p for p in there if study in (None, p["study"]) and profile in (None, p["profile"])]
    if study is not None and not plans:
        ran = sorted({f"{p['study']} ({p['profile']})" for p in there})
        wanted = study if profile is None else f"{study} ({profile})"
        moved = "; a run finds the same pictures in another folder" if profile and f"@{FOLDER}" in profile else ""
        raise UserError(f"{wanted} never ran in {store.root}; there: {', '.join(ran) or 'nothing'}{moved}")
    return plans


@dataclass(frozen=True)
class _Place:
    """Where a trial stands in a study. Several arms may share a trial, and several studies."""

    study: str
    arm: str
    seed: int  # by which the study pairs its arms


def _places(plans: Sequence[Mapping[str, Any]], *, untrained: bool) -> dict[str, list[_Place]]:
    """trial_id -> its places, each once."""
    places: dict[str, dict[_Place, None]] = {}
    for plan in plans:
        for cell in plan["cells"]:
            place = _Place(plan["study"], cell["arm"], cell["seed"])
            places.setdefault(cell["trial_id"], {})[place] = None
        for baseline, trial_id in plan.get("ceilings", {}).items() if untrained else ():
            places.setdefault(trial_id, {})[_Place(plan["study"], untrained_arm(baseline), 0)] = None
    return {trial_id: list(found) for trial_id, found in places.items()}


def _joined(places: Sequence[_Place], record: Mapping[str, Any]) -> _Place:
    """All places of a trial as one, for people to read: names joined, the seed its own."""
    studies, arms = ([getattr(place, name) for place in places] for name in ("study", "arm"))
    return _Place(" | ".join(dict.fromkeys(studies)), " | ".join(dict.fromkeys(arms)), record["spec"]["seed"])


def _by_one_classifier(found: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records without the FIDs of curves that another classifier measured than those of the newest trial.

    Of each data set by itself. They cannot be compared, and a score under a protocol does not say who watched.
    """
    ended = [record for record in found.values() if record["status"] != "failed"]  # others had nobody watching
    newest = {r["spec"]["data_fingerprint"]: r["online_extractor"] for r in sorted(ended, key=lambda r: r["date"])}
    found = _on_one_kind_of_device(found)
    return {
        trial_id: record
        if record["online_extractor"] == newest.get(record["spec"]["data_fingerprint"])
        else {**record, "from_curves": {**record["from_curves"], **dict.fromkeys(OF_ONLINE_FID, math.nan)}}
        for trial_id, record in found.items()
    }


def _on_one_kind_of_device(found: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records without the compute seconds of trials on another kind of device, CPU or GPU, than the newest's.

    CPU time on the one and wall-clock time on the other cannot be compared.
    """
    ended = sorted((r for r in found.values() if r["status"] != "failed"), key=lambda r: r["date"])
    on_gpu = ended[-1]["on_gpu"] if ended else False
    return {
        trial_id: record if record["on_gpu"] == on_gpu else {**record, "compute_seconds": math.nan}
        for trial_id, record in found.items()
    }


def _row(
    trial_id: str,
    place: _Place,
    record: Mapping[str, Any],
    protocol_id: str,
    also: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    protocol = protocol_id if protocol_id in record["scores"] else ""
    scores = record["scores"].get(protocol, {})
    return {
        "trial_id": trial_id,
        **asdict(place),
        "status": record["status"],
        **{name: scores.get(name, float("nan")) for name in SCORES},
        "seconds": record["cost"].get("seconds", float("nan")),
        "compute_seconds": record["compute_seconds"],
        **record["from_curves"],
        **(dict.fromkeys(OF_LOGITS, math.nan) if record["spec"]["loss"] in NO_LOGITS else {}),
        "error": record["error"],
        "protocol_id": protocol,
        **{
            f"{name}@{extractor}": record["scores"].get(further, {}).get(name, math.nan)
            for extractor, further in also.items()
            for name in BY_FEATURES
        },
        **{k: v for k, v in record["cost"].items() if k not in ("seconds", "kimg")},
        **{k: v for k, v in record["spec"].items() if k != "seed"},
        "commit": record["commit"],
        "date": record["date"],
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=None if rows else list(FIRST))


def untrained_arm(baseline: str) -> str:
    """What the untrained generator of a baseline is called where arms are named."""
    return f"{baseline}, untrained"


def record_of(store: Store, trial_id: str) -> dict[str, Any]:
    """All that a row is made from, whatever the study and protocol; each file is checked as it is read."""
    result, spec = store.read_result(trial_id), store.read_spec(trial_id)
    return {
        **{name: result[name] for name in ("status", "error", "cost")},
        **{name: result["provenance"].get(name, "") for name in ("commit", "date", "online_extractor")},
        "on_gpu": bool(result["provenance"].get("gpu")),
        "compute_seconds": _compute_seconds(result),
        "spec": spec.to_dict(),
        "scores": {protocol_id: scores for protocol_id, (_, scores) in store.read_scores(trial_id).items()},
        "from_curves": curve_metrics(store, trial_id, result["status"], spec.kimg),
    }


def _compute_seconds(result: dict[str, Any]) -> float:
    on_cpu = not result["provenance"].get("gpu")
    return result["cost"].get("cpu_seconds" if on_cpu else "seconds", math.nan)


def curve_metrics(store: Store, trial_id: str, status: str, kimg: float) -> dict[str, float]:
    """The metrics FROM_CURVES of one trial.

    The G loss and D's accuracy are means over the report points of the budget's first and last quarter.
    kimg_to_fid_<level> is the first point at which the online FID was at most that level; kimg_to_settle the first from
    which on it stayed within SETTLED of its last value.

    Returns:
        NaN where there is no such curve; +inf where the level was not reached, where the last point alone is that near
        to itself, or where the trial diverged.
    """
    if status == "ok":
        return dict(zip(FROM_CURVES, _from_curves(store, trial_id, kimg), strict=True))
    unreached = math.inf if status == "diverged" else math.nan
    return {name: unreached if name.startswith("kimg_to") else math.nan for name in FROM_CURVES}


def _from_curves(store: Store, trial_id: str, kimg: float) -> tuple[float, ...]:
    curves = store.read_curves(trial_id, ("kimg", "g_loss", "d_accuracy", "fid_online"))
    if curves.empty:
        return (math.nan,) * len(FROM_CURVES)
    at = curves.kimg.to_numpy()
    quarters = at <= kimg / 4, at > 3 * kimg / 4
    values = [
        float(curves[name].to_numpy()[quarter].mean()) if name in curves and quarter.any() else math.nan
        for name in ("g_loss", "d_accuracy")
        for quarter in quarters
    ]
    online = curves.fid_online.to_numpy() if "fid_online" in curves else np.full(len(at), np.nan)
    for level in THRESHOLDS:
        reached = at[online <= level]
        unreached = math.nan if np.isnan(online).all() else math.inf
        values.append(float(reached[0]) if reached.size else unreached)
    return (*values, _settled(at[~np.isnan(online)], online[~np.isnan(online)]))


def _settled(at: np.ndarray, online: np.ndarray) -> float:
    """Where a curve comes to stay within SETTLED of its last value; +inf at its last point, NaN without one."""
    if not online.size:
        return math.nan
    apart = np.flatnonzero(~(np.abs(online - online[-1]) <= SETTLED * online[-1]))
    first = int(apart[-1]) + 1 if apart.size else 0
    return float(at[first]) if first < len(at) - 1 else math.inf


def load_curves(store: Store, rows: pd.DataFrame) -> pd.DataFrame:
    """The curves of these trials, one row a report point: arm, seed, kimg, seconds, losses, D's answers, fid_online.

    D's answers are missing where the loss gives D's output no such meaning (NO_LOGITS).
    """
    found = [curves_of(store, row).assign(arm=row["arm"], seed=row["seed"]) for _, row in rows.iterrows()]
    found = [curves for curves in found if len(curves)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["arm", "seed", "kimg"])


def curves_of(store: Store, row: Mapping[str, Any]) -> pd.DataFrame:
    """The curves of the trial in a row of the results table; empty if it has none."""
    curves = store.read_curves(row["trial_id"])
    if row["loss"] in NO_LOGITS:
        curves = curves.assign(d_real=math.nan, d_fake=math.nan, d_accuracy=math.nan)
    return curves


def planned(store: Store, study: str, profile: str) -> pd.DataFrame:
    """What the study's last run at this profile set out to do: arm, seed, trial_id."""
    plan = store.read_plan(study, profile)
    return pd.DataFrame(plan["cells"] if plan else [], columns=["arm", "seed", "trial_id"])
