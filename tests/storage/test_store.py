import contextlib
import dataclasses
import errno
import json
import os
import shutil
import stat
from pathlib import Path

import pandas as pd
import pytest

from harness import files
from harness.errors import UserError
from harness.spec import ScoreProtocol, TrialSpec
from harness.storage.integrity import check, sweep
from harness.storage.records import checked_json
from harness.storage.result import TrialResult
from harness.storage.store import Store
from tests.unit.test_spec import PROTOCOL, VALUES

SPEC = TrialSpec(**VALUES)
OTHER = TrialSpec(**{**VALUES, "seed": 1})
SCORES = {"fid": 12.5, "kid": 0.1}
SECOND = ScoreProtocol(**{**PROTOCOL, "num_generated": 3000})


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


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def edit(path: Path) -> None:
    """Change one byte in the middle, to one that keeps JSON what it is."""
    content = bytearray(path.read_bytes())
    places = [i for i, byte in enumerate(content) if chr(byte).isdigit() and chr(content[i - 1]) not in "-0 "]
    place = places[len(places) // 2] if places else len(content) // 2
    content[place] = ord("7") if content[place] != ord("7") else ord("3")
    path.write_bytes(content)


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


def test_a_results_text_leaves_its_files_out() -> None:
    """Tune makes that text of all that a trial reports: with 350 MB of weights in it the driver took 20 s a trial."""
    large = result(weights=bytes(10**6), samples_png=bytes(10**6), curves=pd.DataFrame({"kimg": range(10**4)}))
    assert len(repr({"trial": "a", "result": large})) < 20_000 and "status='ok'" in repr(large)


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


def test_refusals_name_store_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no store at .*; name another store, or run a study"):
        Store(tmp_path / "absent")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    for create in (False, True):
        with pytest.raises(UserError, match="exists and is not a store"):
            Store(foreign, create=create)
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
    for create in (False, True):
        with pytest.raises(UserError, match="exists and is not a store"):
            Store(file, create=create)


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


@pytest.mark.parametrize("content", [None, "", "garbage", "[]", b"\xff"])
def test_a_damaged_marker_costs_no_trial(store: Store, content: str | bytes | None) -> None:
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


def test_finished_trials_take_only_further_scores(store: Store) -> None:
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


def test_profiles_on_other_data_have_own_files(store: Store) -> None:
    profiles = ["paper", "paper@folder:/a/b", "paper@folder:/a-b", "paper@folder:../..", "smoke@cifar10"]
    for profile in profiles:
        store.write_plan("noise", profile, {"profile": profile, "cells": []})
    assert [store.read_plan("noise", profile)["profile"] for profile in profiles] == profiles
    assert len(list((store.root / "plans").iterdir())) == len(profiles)
    assert all(store.layout.report_folder("noise", p).parent == store.root / "reports" for p in profiles)


def test_a_plan_on_a_folder_has_one_name(store: Store) -> None:
    """However the path was typed; plans that were called by what was typed are found, and renamed by the next run."""
    spec = dataclasses.replace(result().spec, dataset="folder:/pictures/my faces")
    store.write(result(spec=spec))
    cells = [{"arm": "dc", "seed": 0, "trial_id": spec.trial_id}]
    for typed in ("paper@folder:../my faces", "paper@folder:/pictures/my faces/"):
        content = {"cells": cells, "study": "noise", "profile": typed}
        store.layout.plans.mkdir(exist_ok=True)
        store.layout.plan("noise", typed).write_bytes(checked_json(content))
    name = "paper@folder:/pictures/my faces"
    assert store.read_plan("noise", name) == {"cells": cells, "study": "noise", "profile": name}
    assert store.read_plan("noise", "paper@folder:/pictures") is None and store.read_plan("aa", name) is None
    assert {plan["profile"] for plan in store.read_plans()} == {name}
    store.write_plan("noise", name, {"cells": []})
    assert [plan["cells"] for plan in store.read_plans()] == [[]]


def test_a_retried_trial_is_whole_whenever_killed(store: Store, monkeypatch) -> None:
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


def test_a_trial_under_its_path_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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
