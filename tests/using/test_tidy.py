"""The tables for pandas: columns, dtypes and units are those that are documented, whatever is in the store."""

from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.analysis import results
from harness.analysis.tidy import typed
from harness.storage.store import Store
from tests.analysis.conftest import fill


def documented(table: str) -> dict[str, str]:
    found = harness.columns()
    return dict(found[found.table == table][["column", "dtype"]].itertuples(index=False))


def held(table: pd.DataFrame) -> dict[str, str]:
    return {name: "str" if pd.api.types.is_string_dtype(kind) else str(kind) for name, kind in table.dtypes.items()}


def test_columns_and_dtypes_are_the_documented(trained: Store, store: Store, tmp_path: Path) -> None:
    empty = Store(tmp_path / "empty", create=True)
    for there, study in ((trained, "tiny"), (trained, None), (store, "noise"), (store, None), (empty, None)):
        table = harness.load(there, study=study)
        assert held(table) == documented("load"), "in this order, with these dtypes"
        assert held(harness.load_curves(there, study=study)) == documented("load_curves")
        assert len(table) == len(results.load(there, study=study))


def test_values_are_those_of_reports(trained: Store) -> None:
    table, plain = harness.load(trained, study="tiny", profile="smoke"), results.load(trained, study="tiny")
    assert table.fid.equals(plain.fid) and list(table.arm) == list(plain.arm)
    assert (table.status == "diverged").sum() == 1 and table[table.status == "diverged"].fid.isna().all()
    assert table.date[table.status == "ok"].dt.tz is not None and table.date.max() < pd.Timestamp.now("UTC")
    assert table.groupby("arm").fid.count().to_dict() == {"dc": 2, "fc": 2}
    curves = harness.load_curves(trained, study="tiny")
    assert curves.groupby(["arm", "seed"]).size().to_dict() == dict.fromkeys(
        [("dc", 0), ("dc", 1), ("fc", 0), ("fc", 1)], 10
    )
    assert curves.kimg.max() == pytest.approx(0.32)


def test_every_column_has_a_meaning() -> None:
    found = harness.columns()
    assert (found.meaning.str.len() >= 4).all() and not found.duplicated(["table", "column"]).any()
    units = found.set_index("column").unit
    assert units["seconds"].unique().tolist() == ["s"] and units["peak_memory_bytes"] == "B"
    assert found[found.column == "resolution"].unit.item() == "px"


def test_scores_by_others_stand_behind(store: Store) -> None:
    plain = results.load(store, study="noise").assign(**{"fid@inception-v3": 1})
    assert held(typed(plain))["fid@inception-v3"] == "float64" and typed(plain).columns[-1] == "fid@inception-v3"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    from studies import STUDIES

    made = Store(tmp_path_factory.mktemp("tidy") / "store", create=True)
    fill(made, STUDIES["noise"])
    return made
