import errno
import json
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pandas as pd
import pytest

import harness.store as store_module
from harness.errors import UserError
from harness.spec import ScoreProtocol, TrialSpec
from harness.store import Store, TrialResult
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
    assert not store.is_done(SPEC.trial_id, "another")


def test_diverged_is_done_and_failed_is_not(store: Store) -> None:
    store.write(result("failed", error="it broke"))
    assert not store.is_done(SPEC.trial_id, "any")
    store.write(result("diverged"))  # replaces the failed one
    assert store.is_done(SPEC.trial_id, "any")
    store.write(result("ok"))  # a finished trial is never replaced
    assert store.status(SPEC.trial_id) == "diverged"
    assert not list((store.root / "trials").glob(".*"))


@pytest.mark.parametrize("fails_at", ["spec.json", "curves.parquet", "weights.safetensors", "result.json"])
def test_a_full_disk_leaves_nothing_half_written(store: Store, monkeypatch, fails_at: str) -> None:
    """A mock of the system's answer; the real full disk is in tests/faults."""
    write = store_module._write_synced

    def full(path: Path, content: bytes) -> None:
        if path.name == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(store_module, "_write_synced", full)
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
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    store.sweep()
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
        store.require_free(2**60)
    store.require_free(0)
