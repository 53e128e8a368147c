import contextlib
import errno
import json
import math
import multiprocessing
import os
import shutil
import signal
import stat
import time
from pathlib import Path

import pandas as pd
import pytest

from harness import files
from harness.errors import UserError
from harness.spec import ScoreProtocol, TrialSpec, content_hash
from harness.storage.integrity import check, prune, quarantine_damaged, remove_if_unused, require_free, sweep
from harness.storage.records import Damaged
from harness.storage.store import Store, TrialResult
from tests.unit.test_spec import PROTOCOL, VALUES

SPEC = TrialSpec(**VALUES)
SCORES = {"fid": 12.5, "kid": 0.1}


def result(status="ok", **changes) -> TrialResult:
    values = {
        "spec": SPEC,
        "status": status,
        "protocol": ScoreProtocol(**PROTOCOL),
        "scores": SCORES if status == "ok" else {},
        "cost": {"seconds": 1.0},
        "provenance": {"commit": "abc"},
        "curves": pd.DataFrame({"step": [1, 2], "d_loss": [1.0, 0.5]}),
        "samples_png": b"png",
        "weights": b"weights",
    }
    return TrialResult(**{**values, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", create=True)


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_what_is_written_is_read(store: Store) -> None:
    store.write(result())
    assert store.trial_ids() == [SPEC.trial_id]
    assert store.read_spec(SPEC.trial_id) == SPEC
    assert store.read_result(SPEC.trial_id)["status"] == "ok"
    protocol = ScoreProtocol(**PROTOCOL)
    assert store.read_scores(SPEC.trial_id) == {protocol.protocol_id: (protocol, SCORES)}
    assert store.read_curves(SPEC.trial_id).d_loss.tolist() == [1.0, 0.5]
    assert store.is_done(SPEC.trial_id, protocol.protocol_id)
    assert not store.is_done(SPEC.trial_id, "0123456789ab")


def test_diverged_is_done_and_failed_is_not(store: Store) -> None:
    store.write(result("failed", error="it broke"))
    assert not store.is_done(SPEC.trial_id, "0" * 12)
    store.write(result("diverged"))  # replaces the failed one
    assert store.is_done(SPEC.trial_id, "0" * 12)
    store.write(result("ok"))  # a finished trial is never replaced
    assert store.status(SPEC.trial_id) == "diverged"
    assert not list((store.root / "trials").glob(".*"))


@pytest.mark.parametrize("fails_at", ["spec.json", "curves.parquet", "weights.safetensors", "result.json"])
def test_a_full_disk_leaves_nothing_half_written(store: Store, monkeypatch, fails_at: str) -> None:
    """A mock of the system's answer; the real full disk is in tests/faults."""
    write = files.write_synced

    def full(path: Path, content: bytes) -> None:
        if path.name == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr("harness.storage.store.write_synced", full)
    before = everything(store.root)
    with pytest.raises(UserError, match="disk of .* is full"):
        store.write(result())
    assert everything(store.root) == before
    assert store.trial_ids() == []


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


def test_checksums_are_of_the_files(store: Store) -> None:
    import hashlib

    store.write(result())
    folder = store.trial_folder(SPEC.trial_id)
    sums = store.read_result(SPEC.trial_id)["sha256"]
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == sums.keys() | {"result.json"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_readable_with_nothing_but_pandas(store: Store) -> None:
    store.write(result())
    folder = store.trial_folder(SPEC.trial_id)
    assert pd.read_json(folder / "spec.json", typ="series")["seed"] == 0
    assert len(pd.read_parquet(folder / "curves.parquet")) == 2


def test_refusals_name_the_store_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no store at .*--store"):
        Store(tmp_path / "absent")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="exists and is not a store"):
        Store(foreign, create=True)
    assert everything(foreign) == {"thesis.tex": b"precious"}
    old = tmp_path / "old"
    Store(old, create=True)
    (old / "store.json").write_text(json.dumps({"format": 1, "result_version": 0}))
    for create in (False, True):
        with pytest.raises(UserError, match="another version of the code.*result version 0"):
            Store(old, create=create)
    (old / "store.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*store\.json"):
        Store(old)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="exists and is not a store"):
        Store(file, create=True)


def _make(root: Path, start) -> None:
    start.wait()
    Store(root, create=True).locks.acquire(SPEC.trial_id)


def test_several_processes_may_make_one_store(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for attempt in range(20):
        start = fork.Event()
        makers = [fork.Process(target=_make, args=(tmp_path / str(attempt), start)) for _ in range(4)]
        for process in makers:
            process.start()
        start.set()
        for process in makers:
            process.join()
        assert [process.exitcode for process in makers] == [0] * 4


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root may write anywhere; the read-only file system in tests/faults covers it"
)
def test_an_unwritable_store_is_refused(store: Store) -> None:
    store.root.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(UserError, match="not writable"):
            Store(store.root, create=True)
    finally:
        store.root.chmod(0o755)


def test_too_little_space_is_refused_before_work(store: Store) -> None:
    with pytest.raises(UserError, match="MiB are free"):
        require_free(store, 2**60)
    require_free(store, 0)


OTHER = TrialSpec(**{**VALUES, "seed": 1})
SECOND = ScoreProtocol(**{**PROTOCOL, "num_generated": 3000})


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def edit(path: Path) -> None:
    """Change one byte in the middle, to one that keeps JSON what it is."""
    content = bytearray(path.read_bytes())
    places = [i for i, byte in enumerate(content) if chr(byte).isdigit() and chr(content[i - 1]) not in "-0 "]
    place = places[len(places) // 2] if places else len(content) // 2
    content[place] = ord("7") if content[place] != ord("7") else ord("3")
    path.write_bytes(content)


def swap(path: Path) -> None:
    """Put another trial's file in its place."""
    other = Path(str(path).replace(SPEC.trial_id, OTHER.trial_id))
    path.write_bytes(other.read_bytes())


def add(path: Path) -> None:
    path.with_name("notes.txt").write_text("mine")


FILES = ("result.json", "spec.json", "curves.parquet", "weights.safetensors", "scores/first", "scores/second")


@pytest.mark.parametrize("harm", [truncate, edit, swap, Path.unlink, add])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_and_its_trial_set_aside(store: Store, file: str, harm) -> None:
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
    aside = {v for k, v in everything(store.root).items() if k.startswith("quarantine")}
    assert aside == set(before.values()), "what is set aside is kept as it was"
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


def test_a_foreign_folder_in_the_place_of_a_trial_is_set_aside_by_writing(store: Store) -> None:
    folder = store.trial_folder(SPEC.trial_id)
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("precious")
    assert store.status(SPEC.trial_id) is None
    store.write(result())
    assert store.status(SPEC.trial_id) == "ok"
    assert "precious" in [p.read_text() for p in (store.root / "quarantine").rglob("*.tex")]


def test_a_trial_from_before_a_revision_is_told_and_set_aside(store: Store) -> None:
    spec = TrialSpec(**{**VALUES, "discriminator_norm": "none", "r1_gamma": 1.0})
    store.write(result(spec=spec))
    store.trial_folder(spec.trial_id).rename(store.trial_folder(spec.former_id))
    with pytest.raises(Damaged, match="made before a trick of its spec was revised"):
        store.read_spec(spec.former_id)
    assert not store.is_done(spec.trial_id, "0" * 12)
    assert list(quarantine_damaged(store, [spec.trial_id, spec.former_id])) == [spec.former_id]
    assert not store.trial_ids()


def test_what_is_not_a_trial_is_reported_and_otherwise_passed_over(store: Store) -> None:
    store.write(result())
    (store.root / "trials" / "notes.txt").write_text("mine")
    assert store.trial_ids() == [SPEC.trial_id]
    assert [d.path.name for d in check(store)] == ["notes.txt"]


def test_damaged_plans_and_references_are_set_aside(store: Store) -> None:
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


def test_a_whole_file_in_anothers_place_is_damaged(store: Store) -> None:
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


@pytest.mark.parametrize("content", [None, "", "garbage", "[]", b"\xff"])
def test_a_store_whose_marker_is_damaged_keeps_its_trials(store: Store, content: str | bytes | None) -> None:
    store.write(result())
    marker, whole = store.root / "store.json", (store.root / "store.json").read_bytes()
    marker.unlink()
    if content is not None:
        marker.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"store\.json is (gone|damaged).*the next `run` makes it again"):
        Store(store.root)
    again = Store(store.root, create=True)
    assert marker.read_bytes() == whole and again.status(SPEC.trial_id) == "ok" and not list(check(again))
    assert len(list((store.root / "quarantine").glob("*"))) == (content is not None)


def test_a_trial_of_another_result_version_is_not_mixed_in(store: Store) -> None:
    store.write(result())
    path = store.trial_folder(SPEC.trial_id) / "result.json"
    content = {**json.loads(path.read_text()), "result_version": 0}
    content.pop("seal")
    path.write_text(json.dumps({**content, "seal": content_hash(content, 64)}))
    assert store.status(SPEC.trial_id) is None
    assert "result_version is 0" in next(check(store)).reason


def test_a_finished_trial_takes_scores_of_a_further_protocol_only(store: Store) -> None:
    store.write(result())
    before = everything(store.root)
    store.write(result(scores={"fid": 99.0}))
    assert everything(store.root) == before
    store.write(result(protocol=SECOND, scores={"fid": 7.0}))
    assert {k: v[1]["fid"] for k, v in store.read_scores(SPEC.trial_id).items()} == {
        ScoreProtocol(**PROTOCOL).protocol_id: 12.5,
        SECOND.protocol_id: 7.0,
    }


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".", "..", "0" * 17, "/" + "0" * 15, "A" * 16])
def test_no_path_leaves_the_store(store: Store, name: str) -> None:
    for refused in (
        lambda: store.trial_folder(name),
        lambda: store.read_reference(name),
        lambda: store.is_done(name, "0" * 12),
        lambda: store.layout.report_folder("../x", "smoke"),
        lambda: store.read_plan("../x", "smoke"),
    ):
        with pytest.raises(UserError, match="cannot name a file of the store"):
            refused()


def test_a_profile_on_other_data_has_a_file_of_its_own_inside_the_store(store: Store) -> None:
    profiles = ["paper", "paper@folder:/a/b", "paper@folder:/a-b", "paper@folder:../..", "smoke@cifar10"]
    for profile in profiles:
        store.write_plan("noise", profile, {"profile": profile, "cells": []})
    assert [store.read_plan("noise", profile)["profile"] for profile in profiles] == profiles
    assert len(list((store.root / "plans").iterdir())) == len(profiles)
    assert all(store.layout.report_folder("noise", p).parent == store.root / "reports" for p in profiles)


def _claim_and_wait(root: Path, ready) -> None:
    assert Store(root).locks.acquire(SPEC.trial_id)
    ready.set()
    time.sleep(60)


def _prepare_and_wait(root: Path, ready) -> None:
    with Store(root).locks.at_work(), Store(root).locks.at_work():
        ready.set()
        time.sleep(60)


def test_a_claim_keeps_others_out_and_ends_with_its_process(store: Store) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=_claim_and_wait, args=(store.root, ready))
    process.start()
    assert ready.wait(60)
    assert not store.locks.acquire(SPEC.trial_id)
    assert store.locks.acquire(OTHER.trial_id), "another trial is free"
    assert not Store(store.root).locks.acquire(OTHER.trial_id), "not twice in one process"
    staging = store.root / "trials" / f".{SPEC.trial_id}-1-x"
    staging.mkdir(parents=True)
    sweep(store)
    assert staging.exists(), "what a live process writes is not swept"
    process.kill()
    process.join()
    assert store.locks.acquire(SPEC.trial_id), "a dead process's claim is gone"
    store.locks.release(SPEC.trial_id, OTHER.trial_id)
    sweep(store)
    assert not staging.exists()


def test_prune_takes_what_may_go_and_nothing_else(store: Store) -> None:
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


@pytest.mark.parametrize("work", [_claim_and_wait, _prepare_and_wait])
def test_prune_waits_for_those_at_work(work, store: Store) -> None:
    """Those that run a trial, and those that make ready for one: both need what is in the cache."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=work, args=(store.root, ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match="a live process is at work"):
        prune(store)
    with store.locks.at_work(), store.locks.at_work():
        pass  # any number may be at work
    remove_if_unused(store)
    assert (store.root / "store.json").exists(), "it was taken away under somebody's hands"
    process.kill()
    process.join()
    with store.locks.at_work(), pytest.raises(UserError, match="a live process is at work"):
        prune(store)
    prune(store)
    assert store.locks.acquire(SPEC.trial_id)
    store.locks.release(SPEC.trial_id)
    remove_if_unused(store)
    assert not store.root.exists()


def test_prune_takes_what_kills_left_of_snapshots_and_leaves_what_it_does_not_know(store: Store) -> None:
    folder = store.cache / "snapshots"
    folder.mkdir()
    for name in (f".{OTHER.trial_id}.snapshot-0123abcd", "README", ".hidden", f"{OTHER.trial_id}.snapshot"):
        (folder / name).write_bytes(bytes(3))
    assert prune(store)["cache/snapshots"] == 3
    assert {path.name for path in folder.iterdir()} == {"README", ".hidden", f"{OTHER.trial_id}.snapshot"}


def test_a_failed_trial_that_is_tried_again_is_whole_whenever_its_writer_dies(store: Store, monkeypatch) -> None:
    """Killed between any two renames: the old one, none, or the new one; and the next run goes on."""
    rename = Path.rename
    for survives in range(3):
        store.write(result(spec=OTHER, status="failed", error="it broke"))
        renames = iter(range(10))

        def dies(self: Path, target: Path, renames=renames, survives=survives) -> Path:
            if next(renames) == survives:
                raise KeyboardInterrupt
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", dies)
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # nothing runs after a SIGKILL
            patch.setattr(files, "sync_folder", lambda _: None)
            with contextlib.suppress(KeyboardInterrupt):
                store.write(result(spec=OTHER))
        assert store.status(OTHER.trial_id) == ("failed", None, "ok")[survives]
        assert not list(check(store))
        sweep(store)
        store.write(result(spec=OTHER))
        assert [path.name for path in (store.root / "trials").iterdir()] == [OTHER.trial_id]
        assert store.status(OTHER.trial_id) == "ok" and not list(check(store))
        shutil.rmtree(store.trial_folder(OTHER.trial_id))


def test_a_store_made_for_nothing_goes_but_not_what_is_dear(tmp_path: Path) -> None:
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


def test_a_trial_under_its_path_is_still_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As stores hold them in which a folder's path was part of a trial's name, some of them twice."""
    values = {**VALUES, "dataset": "folder:/here"}
    protocol = {**PROTOCOL, "reference": "folder:/here/reference"}
    with monkeypatch.context() as earlier:
        earlier.setattr("harness.spec._without_path", lambda name: name)
        for path, status in (("/away", "failed"), ("/here", "ok"), ("/there", "failed")):
            spec = TrialSpec(**{**values, "dataset": f"folder:{path}"})
            store.write(result(status, spec=spec, protocol=ScoreProtocol(**protocol)))
        assert len(store.trial_ids()) == 3
    moved = TrialSpec(**{**values, "dataset": "folder:/moved/"})
    here = TrialSpec(**values)
    assert moved.trial_id == here.trial_id != here.path_id
    store = Store(store.root, create=True)
    assert store.stored_name(moved.trial_id) == here.path_id
    assert store.status(moved.trial_id) == "ok" and store.read_spec(moved.trial_id) == here
    assert list(store.read_scores(moved.trial_id)) == [ScoreProtocol(**protocol).path_id]
    assert store.read_weights(moved.trial_id) == b"weights"
    store.write(result(spec=moved, protocol=ScoreProtocol(**protocol)))  # done, so that only scores are taken over
    assert list(store.read_scores(moved.trial_id)) == [ScoreProtocol(**protocol).protocol_id], "it is one protocol"
    assert len(store.trial_ids()) == 3
    assert not list(check(store))
    other = TrialSpec(**{**values, "data_fingerprint": "2" * 16})
    assert store.status(other.trial_id) is None and store.stored_name(other.trial_id) == other.trial_id
