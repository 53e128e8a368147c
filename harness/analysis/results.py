"""From the store to pandas: one row a trial, failures too."""

from pathlib import Path

import pandas as pd

from harness.errors import UserError, unknown_name
from harness.store import Store

SCORES = ("fid", "is_mean", "is_std", "kid", "kid_subset_std", "precision", "recall")
FIRST = ("trial_id", "study", "arm", "seed", "status", *SCORES, "seconds")


def load(
    store: Store | str | Path,
    *,
    study: str | None = None,
    profile: str | None = None,
    protocol_id: str | None = None,
) -> pd.DataFrame:
    """The results table: one row a trial.

    Columns: trial_id, study, arm, seed, status (ok, diverged, failed), the scores fid, is_mean, kid, precision,
    recall (NaN unless ok), seconds; then error, protocol_id, the other costs, every field of the spec, commit and
    date. A trial that several studies share is one row, with their names and arms joined by " | "; with `study`
    only that study's trials, under its own arm names.

    Args:
        store: A store or its folder.
        study: Keep only this study's trials.
        profile: Of that study at this profile; needs `study`.
        protocol_id: Which scores to take where trials were scored under several protocols.

    Raises:
        UserError: the study never ran here, no trial has scores of that protocol, or scores of several would be mixed.
    """
    if profile is not None and study is None:
        raise UserError(f"profile={profile!r} needs a study to belong to; name it with study")
    store = store if isinstance(store, Store) else Store(store)
    plans = [
        plan
        for plan in store.read_plans()
        if (study is None or plan["study"] == study) and (profile is None or plan["profile"] == profile)
    ]
    if study is not None and not plans:
        ran = sorted({f"{p['study']} ({p['profile']})" for p in store.read_plans()})
        wanted = study if profile is None else f"{study} ({profile})"
        raise UserError(f"{wanted} never ran in {store.root}; there: {', '.join(ran) or 'nothing'}")
    if protocol_id is None and profile is not None:
        protocol_id = plans[0]["protocol_id"]
    places: dict[str, list[tuple[str, str]]] = {}
    for plan in plans:
        for cell in plan["cells"]:
            places.setdefault(cell["trial_id"], []).append((plan["study"], cell["arm"]))

    rows, protocols, known = [], set(), {plan["protocol_id"] for plan in plans}
    for trial_id in store.trial_ids():
        if study is not None and trial_id not in places:
            continue
        result, spec = store.read_result(trial_id), store.read_spec(trial_id)
        scored = store.read_scores(trial_id)
        known |= scored.keys()
        if protocol_id is not None:
            scored = {k: v for k, v in scored.items() if k == protocol_id}
        protocols |= scored.keys()
        if len(protocols) > 1:
            raise UserError(
                f"the trials of {store.root} were scored under several protocols ({', '.join(sorted(protocols))}), "
                f"whose scores cannot be compared; choose one with protocol_id"
            )
        protocol, scores = next(iter(scored.values()), (None, {}))
        here = places.get(trial_id, [])
        rows.append(
            {
                "trial_id": trial_id,
                "study": " | ".join(dict.fromkeys(s for s, _ in here)),
                "arm": " | ".join(dict.fromkeys(a for _, a in here)),
                "seed": spec.seed,
                "status": result["status"],
                **{name: scores.get(name, float("nan")) for name in SCORES},
                "seconds": result["cost"].get("seconds", float("nan")),
                "error": result["error"],
                "protocol_id": protocol.protocol_id if protocol else "",
                **{k: v for k, v in result["cost"].items() if k not in ("seconds", "kimg")},
                **{k: v for k, v in spec.to_dict().items() if k != "seed"},
                "commit": result["provenance"].get("commit", ""),
                "date": result["provenance"].get("date", ""),
            }
        )
    if protocol_id is not None and protocol_id not in known:
        raise unknown_name("protocol_id", protocol_id, sorted(known))
    return pd.DataFrame(rows, columns=None if rows else list(FIRST))


def load_curves(store: Store, rows: pd.DataFrame) -> pd.DataFrame:
    """The curves of these trials, one row a report point: arm, seed, kimg, seconds, losses, D's answers, fid_online."""
    found = []
    for row in rows.itertuples():
        curves = store.read_curves(row.trial_id)
        if len(curves):
            found.append(curves.assign(arm=row.arm, seed=row.seed))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["arm", "seed", "kimg"])


def planned(store: Store, study: str, profile: str) -> pd.DataFrame:
    """What the study's last run at this profile set out to do: arm, seed, trial_id."""
    plan = store.read_plan(study, profile)
    return pd.DataFrame(plan["cells"] if plan else [], columns=["arm", "seed", "trial_id"])
