"""Damage is found and quarantined; what may go is pruned, and nothing else."""

import json
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import UserError
from harness.spec import ScoreProtocol, TrialSpec, content_hash
from harness.storage.integrity import check, prune, quarantine_damaged, remove_if_unused, require_free, summary, sweep
from harness.storage.records import Damaged
from harness.storage.store import Store
from tests.storage.test_store import OTHER, SCORES, SECOND, SPEC, edit, everything, result, truncate
from tests.unit.test_spec import PROTOCOL, VALUES

FILES = ("result.json", "spec.json", "curves.parquet", "weights.safetensors", "scores/first", "scores/second")


def _write_for_ever(root: Path) -> None:
    store = Store(root)
    for seed in range(10**6):
        spec = TrialSpec(**{**VALUES, "seed": seed})
        store.write(result(spec=spec, weights=b"w" * 200_000))


def test_a_killed_writer_leaves_whole_trials_only(store: Store) -> None:
    for delay in (0.05, 0.11, 0.17, 0.23):
        process = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(store.root,))
        process.start()
        while not store.trial_ids():
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    sweep(store)
    assert not list((store.root / "trials").glob(".*")), "sweep removes what the dead left"
    assert store.trial_ids()
    for trial_id in store.trial_ids():
        assert store.read_spec(trial_id).trial_id == trial_id
        assert (store.trial_folder(trial_id) / "weights.safetensors").stat().st_size == 200_000
        assert store.status(trial_id) == "ok"


def test_too_little_space_is_refused_before_work(store: Store) -> None:
    with pytest.raises(UserError, match="MiB are free"):
        require_free(store, 2**60)
    require_free(store, 0)


def swap(path: Path) -> None:
    """Put another trial's file in its place."""
    other = Path(str(path).replace(SPEC.trial_id, OTHER.trial_id))
    path.write_bytes(other.read_bytes())


def add(path: Path) -> None:
    path.with_name("notes.txt").write_text("mine")


@pytest.mark.parametrize("harm", [truncate, edit, swap, Path.unlink, add])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_and_quarantined(store: Store, file: str, harm) -> None:
    first = ScoreProtocol(**PROTOCOL)
    for spec, bias in ((SPEC, 0.0), (OTHER, 1.0)):
        scores = {name: value + bias for name, value in SCORES.items()}
        curves = pd.DataFrame({"d_loss": [bias]})
        store.write(result(spec=spec, scores=scores, curves=curves, weights=f"weights {bias}".encode()))
        store.add_scores(spec.trial_id, SECOND, scores)
    assert not list(check(store))
    names = {"scores/first": f"scores/{first.protocol_id}.json", "scores/second": f"scores/{SECOND.protocol_id}.json"}
    path = store.trial_folder(SPEC.trial_id) / names.get(file, file)
    harm(path)
    if file == "scores/second" and harm is Path.unlink:
        assert not store.is_done(SPEC.trial_id, SECOND.protocol_id)
        return
    found = list(check(store))
    assert [damage.path for damage in found] == [path.with_name("notes.txt") if harm is add else path]
    before = {k: v for k, v in everything(store.root).items() if SPEC.trial_id in k}
    other = {k: v for k, v in everything(store.root).items() if OTHER.trial_id in k}

    lines = quarantine_damaged(store, [SPEC.trial_id, OTHER.trial_id])

    assert list(lines) == [SPEC.trial_id]
    assert found[0].reason in lines[SPEC.trial_id] and found[0].path.name in lines[SPEC.trial_id]
    assert store.trial_ids() == [OTHER.trial_id] and not list(check(store))
    kept = {v for k, v in everything(store.root).items() if k.startswith("quarantine")}
    assert kept == set(before.values()), "the quarantine keeps it as it was"
    assert {k: v for k, v in everything(store.root).items() if OTHER.trial_id in k} == other
    store.write(result())
    assert store.is_done(SPEC.trial_id, first.protocol_id) and not list(check(store))


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("result.json", Store.read_result),
        ("spec.json", Store.read_spec),
        ("curves.parquet", Store.read_curves),
        ("weights.safetensors", Store.read_weights),
    ],
)
def test_reading_a_damaged_file_says_so(store: Store, file: str, read) -> None:
    store.write(result())
    truncate(store.trial_folder(SPEC.trial_id) / file)
    with pytest.raises(Damaged, match=f"{SPEC.trial_id}/{file} is damaged: .*studies check"):
        read(store, SPEC.trial_id)


def test_writing_quarantines_a_foreign_folder(store: Store) -> None:
    folder = store.trial_folder(SPEC.trial_id)
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("precious")
    assert store.status(SPEC.trial_id) is None
    store.write(result())
    assert store.status(SPEC.trial_id) == "ok"
    assert "precious" in [p.read_text() for p in (store.root / "quarantine").rglob("*.tex")]


def test_what_a_live_process_works_on_stays(store: Store) -> None:
    store.write(result())
    folder = store.trial_folder(SPEC.trial_id)
    truncate(folder / "result.json")
    unfinished = folder.with_name(f".{SPEC.trial_id}-1")
    unfinished.mkdir()
    assert store.locks.acquire(SPEC.trial_id)
    sweep(store)
    assert quarantine_damaged(store, [SPEC.trial_id]) == {} and folder.exists() and unfinished.exists()
    store.locks.release(SPEC.trial_id)
    sweep(store)
    assert quarantine_damaged(store, [SPEC.trial_id]).keys() == {SPEC.trial_id}
    assert not folder.exists() and not unfinished.exists()


def test_trials_from_before_a_revision_are_quarantined(store: Store) -> None:
    spec = TrialSpec(**{**VALUES, "discriminator_norm": "none", "r1_gamma": 1.0})
    store.write(result(spec=spec))
    store.trial_folder(spec.trial_id).rename(store.trial_folder(spec.former_id))
    with pytest.raises(Damaged, match="made before a trick of its spec was revised"):
        store.read_spec(spec.former_id)
    assert not store.is_done(spec.trial_id, "0" * 12)
    assert list(quarantine_damaged(store, [spec.trial_id, spec.former_id])) == [spec.former_id]
    assert not store.trial_ids()


def test_planned_trials_that_are_absent_are_counted(store: Store) -> None:
    store.write(result())
    for name, trial_ids in (("noise", [SPEC.trial_id, OTHER.trial_id]), ("depth", [SPEC.trial_id])):
        cells = [{"arm": "dc", "seed": seed, "trial_id": trial_id} for seed, trial_id in enumerate(trial_ids)]
        store.write_plan(name, "smoke", {"cells": cells})
    assert "1 of 2 planned trials not there (not run yet, or taken away: `run` makes them)" in summary(store)
    truncate(store.layout.plan("noise", "smoke"))
    assert "planned" not in summary(store)


def test_what_is_no_trial_is_only_reported(store: Store) -> None:
    store.write(result())
    (store.root / "trials" / "notes.txt").write_text("mine")
    assert store.trial_ids() == [SPEC.trial_id]
    assert [d.path.name for d in check(store)] == ["notes.txt"]


def test_damaged_plans_and_references_are_quarantined(store: Store) -> None:
    store.write_reference(ScoreProtocol(**PROTOCOL), SCORES)
    whole = {"study": "noise", "profile": "smoke", "cells": []}
    store.write_plan("noise", "smoke", whole)
    assert store.read_plan("noise", "smoke") == whole
    plan = store.root / "plans" / "noise-smoke.json"
    plan.write_text(plan.read_text().replace('"noise"', '"noses"'))
    truncate(next((store.root / "references").glob("*.json")))
    with pytest.raises(Damaged):
        store.read_plan("noise", "smoke")
    assert len(quarantine_damaged(store, [])) == 2
    assert store.read_plan("noise", "smoke") is None
    assert store.read_reference(ScoreProtocol(**PROTOCOL).protocol_id) == {}


def test_a_file_without_a_checksum_is_damaged(store: Store) -> None:
    """Whatever stands in it: nothing that was written here lacks one."""
    store.write(result())
    store.write_reference(ScoreProtocol(**PROTOCOL), SCORES)
    store.write_plan("noise", "smoke", {"study": "noise", "profile": "smoke", "cells": []})
    folder = store.trial_folder(SPEC.trial_id)
    paths = [*folder.glob("scores/*"), *(store.root / "plans").iterdir(), *(store.root / "references").iterdir()]
    for path in (*paths, folder / "result.json"):
        whole = path.read_bytes()
        unsealed = {k: v for k, v in json.loads(whole).items() if k != "seal"}
        for content in ("{}", json.dumps(unsealed), json.dumps({**unsealed, "a": math.nan}), "[" * 10**5, whole + b"1"):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            assert path in {damage.path for damage in check(store)}
        path.write_bytes(whole)
    assert len(paths) == 3 and not list(check(store))


def test_a_file_in_anothers_place_is_damaged(store: Store) -> None:
    store.write(result())
    store.write_reference(ScoreProtocol(**PROTOCOL), SCORES)
    store.write_plan("noise", "smoke", {"study": "noise", "profile": "smoke", "cells": []})
    plan, reference = store.root / "plans" / "noise-smoke.json", next((store.root / "references").iterdir())
    for source, target, reason in (
        (plan, plan.with_name("depth-smoke.json"), "it is the plan of noise (smoke)"),
        (reference, plan.with_name("depth-smoke.json"), "it holds something else"),
        (reference, reference.with_name(f"{'0' * 12}.json"), "it is the reference of protocol"),
        (plan, reference.with_name(f"{'0' * 12}.json"), "it holds something else"),
        (plan, reference.with_name("foreign.json"), "its name is not that of a protocol"),
        (plan, store.trial_folder(SPEC.trial_id) / "scores" / f"{'0' * 12}.json", "it holds something else"),
    ):
        target.write_bytes(source.read_bytes())
        (damage,) = check(store)
        assert damage.path == target and damage.reason.startswith(reason)
        target.unlink()
    assert not list(check(store))


def test_another_result_version_is_not_mixed_in(store: Store) -> None:
    store.write(result())
    path = store.trial_folder(SPEC.trial_id) / "result.json"
    content = {**json.loads(path.read_text()), "result_version": 0}
    content.pop("seal")
    path.write_text(json.dumps({**content, "seal": content_hash(content, 64)}))
    assert store.status(SPEC.trial_id) is None
    assert "result_version is 0" in next(check(store)).reason


def test_prune_takes_only_what_may_go(store: Store) -> None:
    store.write(result())
    sizes = {
        "data/key/train.npy": 1000,
        "features/x.pt": 200,
        "index/rows.jsonl": 5,
        "extractors/w": 30,
        "downloads/zip": 7,
    }
    snapshots = {f"snapshots/{SPEC.trial_id}.snapshot": 4000, f"snapshots/{OTHER.trial_id}.snapshot": 50_000}
    for name, size in (sizes | snapshots).items():
        (store.cache / name).parent.mkdir(parents=True, exist_ok=True)
        (store.cache / name).write_bytes(bytes(size))
    (store.root / "quarantine").mkdir()
    (store.root / "quarantine" / "x").write_bytes(bytes(11))
    before = everything(store.root)
    assert prune(store) == {"cache/data": 1000, "cache/features": 200, "cache/index": 5, "cache/snapshots": 4000}
    gone = before.keys() - everything(store.root).keys()
    remakeable = {"data/key/train.npy", "features/x.pt", "index/rows.jsonl", f"snapshots/{SPEC.trial_id}.snapshot"}
    assert gone == {f"cache/{name}" for name in remakeable}
    assert prune(store, also_quarantine=True)["quarantine"] == 11
    assert store.status(SPEC.trial_id) == "ok" and not list(check(store))


def test_prune_takes_half_written_checkpoints_only(store: Store) -> None:
    folder = store.cache / "snapshots"
    folder.mkdir()
    for name in (f".{OTHER.trial_id}.snapshot-0123abcd", "README", ".hidden", f"{OTHER.trial_id}.snapshot"):
        (folder / name).write_bytes(bytes(3))
    assert prune(store)["cache/snapshots"] == 3
    assert {path.name for path in folder.iterdir()} == {"README", ".hidden", f"{OTHER.trial_id}.snapshot"}


def test_an_unused_store_goes_unless_something_is_dear(tmp_path: Path) -> None:
    for place in ("plans", "cache/downloads", "cache/extractors"):
        store = Store(tmp_path / place.replace("/", "-"), create=True)
        (store.root / place).mkdir(parents=True)
        (store.root / place / "kept.json").write_text("{}")
        remove_if_unused(store)
        assert (store.root / place / "kept.json").exists()
    store = Store(tmp_path / "bare", create=True)
    (store.cache / "data").mkdir()
    remove_if_unused(store)
    assert not store.root.exists()
