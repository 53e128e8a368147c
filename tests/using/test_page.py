"""docs/using.md: every snippet and command of it is run, on a store of made-up trials and one that was trained."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.cli import app
from harness.storage.store import Store
from studies import STUDIES
from studies.catalog import CATALOG
from tests.analysis.conftest import fill

PAGE = (Path(__file__).parents[2] / "docs" / "using.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
WANTED = {
    "site runs": "altair",
    "--to onnx": "onnxscript",
    "--to mlflow": "mlflow",
    "--to wandb": "wandb",
    "--to trackio": "trackio",
}
pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporters


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, trained: Store) -> Path:
    """A store `runs` of the noise study, and beside it the trials that were trained."""
    folder = tmp_path_factory.mktemp("page")
    fill(Store(folder / "runs", create=True), STUDIES["noise"])
    for path in trained.layout.trials.iterdir():
        shutil.copytree(path, folder / "runs" / "trials" / path.name, dirs_exist_ok=True)
    return folder


def test_snippets_for_pandas_and_duckdb_run(folder: Path, monkeypatch, trial_ids) -> None:
    monkeypatch.chdir(folder)
    app(["export"], obj=CATALOG, standalone_mode=False)
    known: dict = {}
    tables = 0
    for snippet in SNIPPETS:
        if "import duckdb" in snippet and importlib.util.find_spec("duckdb") is None:
            continue
        if "open_trial" in snippet:  # of a trial that left weights
            snippet = re.sub(r'rows.sort_values\("fid"\).trial_id.iloc\[0\]', repr(trial_ids["dc", 0]), snippet)
        *lines, last = snippet.strip().rpartition("\n")[::2] if "duckdb" not in snippet else ("", snippet)
        exec("\n".join(lines), known)
        found = eval(last, known) if not last.startswith(("way", "import")) else exec(last, known)
        tables += isinstance(found, pd.DataFrame | pd.Series) and len(found) > 0
    assert known["images"].shape[0] == 64 and known["way"].shape[0] == 32
    assert tables == 2


@pytest.mark.skipif(importlib.util.find_spec("duckdb") is None, reason="duckdb is not installed")
def test_duckdb_reads_what_pandas_reads(folder: Path, monkeypatch) -> None:
    import duckdb

    monkeypatch.chdir(folder)
    app(["export"], obj=CATALOG, standalone_mode=False)
    (snippet,) = [snippet for snippet in SNIPPETS if "import duckdb" in snippet]
    found = eval(snippet.split("import duckdb")[1].strip(), {"duckdb": duckdb}).set_index("arm")
    table = pd.read_parquet("runs/reports/results.parquet")
    means = table[(table.status == "ok") & (table.arm != "")].groupby("arm").fid.mean()
    pd.testing.assert_series_equal(found.fid.sort_index(), means.sort_index(), check_dtype=False)
    kinds = (
        duckdb.sql("DESCRIBE SELECT * FROM 'runs/reports/results.parquet'").df().set_index("column_name").column_type
    )
    assert (kinds["seed"], kinds["fid"], kinds["arm"]) == ("BIGINT", "DOUBLE", "VARCHAR")
    assert kinds["date"].startswith("TIMESTAMP")
    documented = harness.columns()
    assert list(kinds.index)[: len(documented[documented.table == "load"])] == list(
        documented[documented.table == "load"].column
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_works(command: str, folder: Path, monkeypatch, trial_ids) -> None:
    wanted = next((package for words, package in WANTED.items() if words in command), None)
    if wanted and importlib.util.find_spec(wanted) is None:
        pytest.skip(f"{wanted} is not installed")
    words = shlex.split(command.replace("TRIAL", trial_ids["dc", 0]))
    assert words[0] == "gan-ablation"
    monkeypatch.chdir(folder)
    if "--watch" in words:
        words.remove("--watch")  # until nothing is left; tests/using/test_status.py watches
    if "--to" in words and words[1] == "export":
        words += ["--profile", "laptop", "--store", "few"]
        few(folder)
    app(words[1:], obj=CATALOG, standalone_mode=False)
    if "--out" in words:
        assert (folder / words[words.index("--out") + 1]).exists()


def few(folder: Path) -> None:
    """A store with a plan of two trials, as trackers take their time."""
    if not (folder / "few").exists():
        shutil.copytree(folder / "runs", folder / "few")
        store = Store(folder / "few")
        plan = store.read_plan("noise", "laptop") or {}
        store.write_plan("noise", "laptop", {**plan, "cells": plan["cells"][:2]})
