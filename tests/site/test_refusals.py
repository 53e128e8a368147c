"""What a site is not made of, and where it is not written: one line each, and nothing half-written stays."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.files import checksum
from harness.site import build as building
from harness.site import figures
from harness.site.build import build
from harness.storage import integrity
from harness.storage.records import checked_json
from harness.storage.store import Store
from tests.cli.test_cli import ROOT
from tests.site.conftest import PROTOCOL, UNKNOWN, lab, tree, trial_at


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return lab(tmp_path / "runs", range(2))


def result_by_hand(trial: Path) -> None:
    """As with an editor."""
    path = trial / "result.json"
    path.write_text(path.read_text().replace('"seconds": 21.0', '"seconds": 1.0'))


def scores_by_hand(trial: Path) -> None:
    path = trial / "scores" / f"{PROTOCOL.protocol_id}.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "scores": {**content["scores"], "fid": 1.0}}))


def scores_sealed_anew(trial: Path) -> None:
    """By somebody who knows how a seal is made."""
    path = trial / "scores" / f"{PROTOCOL.protocol_id}.json"
    content = json.loads(path.read_text())
    del content["seal"]
    path.write_bytes(checked_json({**content, "scores": {**content["scores"], "fid": 1.0}}))


def curves_of_another(trial: Path) -> None:
    other = next(path for path in trial.parent.iterdir() if path != trial)
    (trial / "curves.parquet").write_bytes((other / "curves.parquet").read_bytes())


def a_trial_of_nothing(trial: Path) -> None:
    (trial.parent / "mine").mkdir()


@pytest.mark.parametrize(
    "forge", [result_by_hand, scores_by_hand, scores_sealed_anew, curves_of_another, a_trial_of_nothing]
)
def test_forged_rows_are_refused(store: Store, tmp_path: Path, forge: Callable[[Path], None]) -> None:
    forge(store.layout.trial(trial_at(store, "dc", 0)))
    assert len(list(integrity.check(store))) == 1
    with pytest.raises(UserError, match=r"is not as a run wrote it: .*check .* lists them") as refused:
        build([store.root], tmp_path / "site", UNKNOWN)
    assert "\n" not in str(refused.value) and {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_the_command_says_it_in_one_line(store: Store, tmp_path: Path) -> None:
    scores_by_hand(store.layout.trial(trial_at(store, "dc", 0)))

    def studies(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "studies", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    assert studies("check", "runs").returncode == 1
    done = studies("site", "runs", "--out", "site")
    errors = [line for line in done.stderr.splitlines() if not line.startswith("checking")]
    assert done.returncode == 2 and len(errors) == 1 and errors[0].startswith("error: ") and done.stdout == ""
    assert not (tmp_path / "site").exists()


def empty(folder: Path) -> None:
    Store(folder, create=True)


def of_another_version(folder: Path) -> None:
    marker = lab(folder, range(1)).layout.marker
    marker.write_text(marker.read_text().replace('"format": 1', '"format": 7'))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no store at .*"),
        (empty, "holds no trial; run a study there first"),
        (of_another_version, r"written by another version of the code .*format 7"),
    ],
)
def test_what_is_no_whole_store_is_refused(store: Store, tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "second")
    with pytest.raises(UserError, match=message) as refused:
        build([store.root, tmp_path / "second"], tmp_path / "site", UNKNOWN)
    assert "\n" not in str(refused.value) and not (tmp_path / "site").exists()


def test_other_folders_are_left_alone(store: Store, tmp_path: Path, quick: None) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    for out, message in (
        (tmp_path / "thesis", "holds something other than a site"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "nowhere" / "site", "is not a folder"),
        (Path("/proc/site"), "cannot write /proc/site"),
        (store.root / "site", "lies in the store"),
        (store.root / "reports" / "site", "lies in the store"),
        (store.root, "lies in the store"),
        (store.root.parent, "holds the store"),
    ):
        with pytest.raises(UserError, match=message):
            build([store.root], out, UNKNOWN)
    assert tree(tmp_path / "thesis") == {"thesis.tex": b"years of work"}


def test_a_site_is_replaced_but_nothing_beside_it(store: Store, tmp_path: Path, quick: None) -> None:
    out = tmp_path / "site"
    (out).mkdir()
    build([store.root], out, UNKNOWN)
    first = tree(out)
    (out / "trials" / "old.html").write_text("of an earlier store")
    build([store.root], out, UNKNOWN)
    assert tree(out) == first, "and the same store gives the same bytes"
    (out / ".git").mkdir()
    with pytest.raises(UserError, match=r"holds, beside a site, \.git, which would be lost"):
        build([store.root], out, UNKNOWN)
    (out / ".git").rmdir()
    inner = lab(out / "assets" / "runs", range(1))
    with pytest.raises(UserError, match="holds the store"):
        build([inner.root], out, UNKNOWN)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_half_written_stays(store: Store, tmp_path: Path, quick: None, monkeypatch, error) -> None:
    out, made = tmp_path / "site", []
    build([store.root], out, UNKNOWN)
    first, page = tree(out), building.trial_page

    def failing(*words: object) -> object:
        made.append(1)
        if len(made) > 2:
            raise error
        return page(*words)

    monkeypatch.setattr(building, "trial_page", failing)
    with pytest.raises(type(error)):
        build([store.root], out, UNKNOWN)
    assert tree(out) == first and {path.name for path in tmp_path.iterdir()} == {"runs", "site"}


def test_a_missing_package_is_named(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(UserError, match=r"want altair, which is not installed; .*gan-ablation\[site\]"):
        build([store.root], tmp_path / "site", UNKNOWN)
    assert figures.PANELS and not (tmp_path / "site").exists()


def test_a_seal_that_lies_twice_is_beyond_checks(store: Store) -> None:
    """What SECURITY.md says: whoever can write a store can write its checksums. Another lab's copy then differs."""
    trial = store.layout.trial(trial_at(store, "dc", 0))
    scores_sealed_anew(trial)
    path = trial / "result.json"
    content = json.loads(path.read_text())
    del content["seal"]
    name = f"scores/{PROTOCOL.protocol_id}.json"
    path.write_bytes(
        checked_json({**content, "sha256": {**content["sha256"], name: checksum((trial / name).read_bytes())}})
    )
    assert not list(integrity.check(store))
