"""What travels to nodes that do not see the driver's disk."""

from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserError
from harness.execution.assets import assets_key, pack, relocate, unpack
from tests.faults.sleepers import context


def test_packed_assets_are_found_after_unpacking(tmp_path: Path) -> None:
    here = context(tmp_path / "here")
    assets = pack([here])
    there = relocate(here, unpack(assets, assets_key(assets), tmp_path / "node"))
    assert there.cache.parent == tmp_path / "node" and not list((tmp_path / "node").glob(".*"))
    assert there.data.path("train").read_text() == "data/key/train.npy"
    assert there.extractor.weights_path.read_text() == "extractors/weights"
    assert len(list((there.cache / "features").iterdir())) == 1


@pytest.mark.parametrize("harm", ["gone", "cut off"])
def test_assets_that_a_cleaner_took_are_rewritten(harm: str, tmp_path: Path) -> None:
    assets = pack([context(tmp_path / "here")])
    target = unpack(assets, "key", tmp_path)
    before = (target / "extractors" / "weights").stat().st_ino
    assert unpack(assets, "key", tmp_path) == target
    assert (target / "extractors" / "weights").stat().st_ino == before, "what is whole is left as it is"
    victim = target / "data" / "key" / "train.npy"
    victim.unlink() if harm == "gone" else victim.write_text("")
    assert unpack(assets, "key", tmp_path) == target and victim.read_text() == "data/key/train.npy"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["/etc/gan", "../gan", "data/../../gan"])
def test_nothing_is_unpacked_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would lie outside"):
        unpack({name: np.zeros(1, dtype=np.uint8)}, "key", tmp_path)
    assert not list(tmp_path.iterdir())
