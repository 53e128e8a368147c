"""The index of a store: as good as the files, or not believed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness.analysis import index, results
from harness.analysis.results import load
from harness.spec import ScoreProtocol, TrialSpec
from harness.storage.integrity import read_index, write_index
from harness.storage.records import Damaged
from harness.storage.result import TrialResult
from harness.storage.store import Store
from tests.analysis.conftest import SEEDS
from tests.storage.test_store import edit, everything, truncate
from tests.unit.test_imports import ROOT, imports
from tests.unit.test_spec import PROTOCOL, VALUES

FIRST = ScoreProtocol(**PROTOCOL)


def write(store: Store, seed: int, status: str = "ok") -> str:
    spec = TrialSpec(**{**VALUES, "seed": seed})
    curves = pd.DataFrame({"kimg": [1.0, 2.0], "g_loss": [1.5, 1.25], "fid_online": [500.0 + seed, 90.0]})
    scores = {"fid": 12.5 + seed, "kid": 0.25} if status == "ok" else {}
    cost = {"seconds": 3.0}
    store.write(
        TrialResult(spec=spec, status=status, protocol=FIRST, scores=scores, cost=cost, curves=curves, weights=b"w")
    )
    return spec.trial_id


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, list[str]]:
    """A store of three trials, and their ids; it has no index yet."""
    store = Store(tmp_path / "store", create=True)
    return store, [write(store, seed) for seed in range(3)]


def index_file(store: Store) -> Path:
    (path,) = (store.root / "cache" / "index").iterdir()
    return path


def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[pd.DataFrame, list[str]]:
    """The table, and whose files were read for it."""
    read, record = [], results.record_of
    with monkeypatch.context() as patch:
        patch.setattr(results, "record_of", lambda store, trial_id: read.append(trial_id) or record(store, trial_id))
        rows = load(store) if (store.root / "plans").exists() else load(store, protocol_id=FIRST.protocol_id)
        return rows, read


def test_the_second_table_reads_no_trial(store: Store, tmp_path: Path, monkeypatch) -> None:
    store = Store(shutil.copytree(store.root, tmp_path / "store", ignore=shutil.ignore_patterns("index")))
    first, read = reads(store, monkeypatch)
    assert len(read) == len(store.trial_ids()) > 15 * SEEDS
    for name in ("read_result", "read_spec", "read_scores", "read_curves"):
        monkeypatch.delattr(Store, name)
    second = load(store)
    pd.testing.assert_frame_equal(first, second, check_exact=True)  # NaN, infinity, types and the order of columns
    assert len(load(store, study="noise", profile="laptop")) == len(first)


@pytest.mark.parametrize("harm", [truncate, edit, Path.unlink])
@pytest.mark.parametrize("file", ["result.json", "spec.json", "curves.parquet", f"scores/{FIRST.protocol_id}.json"])
def test_damage_shows_in_spite_of_the_index(filled: tuple[Store, list[str]], file: str, harm: Callable) -> None:
    store, trial_ids = filled
    load(store)
    path = store.trial_folder(trial_ids[1]) / file
    before = path.stat()
    harm(path)
    if path.exists():
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nobody had been there
    if harm is Path.unlink and file.startswith("scores"):
        assert load(store).fid.isna().sum() == 1
        return
    with pytest.raises(FileNotFoundError if harm is Path.unlink and file != "curves.parquet" else Damaged):
        load(store)


def test_what_changes_is_read_again_and_nothing_else(filled: tuple[Store, list[str]], monkeypatch) -> None:
    store, trial_ids = filled
    failed = write(store, 3, "failed")
    assert reads(store, monkeypatch)[1] == sorted([*trial_ids, failed])
    write(store, 3)  # tried again
    new = write(store, 4)
    store.add_scores(trial_ids[0], ScoreProtocol(**{**PROTOCOL, "num_generated": 3000}), {"fid": 1.0})
    rows, read = reads(store, monkeypatch)
    assert read == sorted([failed, new, trial_ids[0]])
    rows = rows.set_index("trial_id")
    assert rows.status.eq("ok").all() and rows.fid[failed] == 15.5 and rows.fid[new] == 16.5
    shutil.rmtree(store.trial_folder(new))
    rows, read = reads(store, monkeypatch)
    assert not read and new not in set(rows.trial_id) and new not in index_file(store).read_text()


def forge_code(path: Path) -> None:
    """The index of another version of the code."""
    store = Store(path.parents[2])
    _, *lines = read_index(store).splitlines()
    write_index(store, b"\n".join([json.dumps("0" * 64).encode(), *lines]).replace(b"12.5", b"99.5"))


def cut_a_line(path: Path) -> None:
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:-1]))


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        truncate,
        edit,
        cut_a_line,
        forge_code,
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"\xff\n[]"),
    ],
)
def test_a_changed_index_is_made_again(filled: tuple[Store, list[str]], harm, monkeypatch) -> None:
    store, trial_ids = filled
    first = load(store)
    path = index_file(store)
    whole = path.read_bytes()
    harm(path)
    second, read = reads(store, monkeypatch)
    assert read == sorted(trial_ids), "the index was believed"
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert path.read_bytes() == whole and not reads(store, monkeypatch)[1]


def test_a_store_that_cannot_be_written_is_read(filled: tuple[Store, list[str]]) -> None:
    """Also where the reader may write anywhere, as root may: there is no place for the index."""
    store, _ = filled
    (store.root / "cache").write_text("in the way")
    before = everything(store.root)
    assert load(store).fid.tolist() == load(store).fid.tolist() and len(load(store)) == 3
    assert everything(store.root) == before


def test_records_of_other_code_are_told() -> None:
    """SOURCES are results.py and index.py with all of ours that these import, but for the type of errors."""
    found, new = set(), {"harness.analysis.results"}
    while new:
        found |= new
        files = [ROOT / f"{name.replace('.', '/')}.py" for name in new]
        new = {
            name for file in files for name in imports(file) if (ROOT / f"{name.replace('.', '/')}.py").exists()
        } - found
    assert set(index.SOURCES) == {f"{name.replace('.', '/')}.py" for name in found - {"harness.errors"}}
