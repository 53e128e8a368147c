"""Studies that promise the same number of parameters keep the promise."""

import pytest

from architectures import count_parameters
from harness.training.loop import build_networks
from studies import STUDIES


def generator_sizes(name: str, key: str) -> list[int]:
    """Parameters of G at each level of a question, in the laptop profile."""
    study = STUDIES[name]
    cells = study.expand(study.profile("laptop"), 1, lambda *_: "0" * 16)
    specs = {cell.arm: cell.spec for cell in cells}
    arms = study.arms(study.question(key)).values()
    return [count_parameters(build_networks(specs[arm]).generator) for arm in arms]


@pytest.mark.parametrize("family", ["dc", "fc"])
def test_a_sweep_at_the_same_size_is_one(family: str) -> None:
    sizes = generator_sizes("depth", f"quality-{family}-same-size")
    assert max(sizes) < 1.04 * min(sizes)
    plain = generator_sizes("depth", f"quality-{family}")
    assert max(plain) > 2 * min(plain), "the plain sweep changes the size, or the other would not be needed"


def test_the_small_fc_generator_is_as_large_as_dcs() -> None:
    small, dc = generator_sizes("architecture", "size")
    assert small == pytest.approx(dc, rel=0.01)
