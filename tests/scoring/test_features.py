"""Scores of features against independent computations, and whether they see what they are for."""

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.spatial.distance import cdist

from harness.scoring.features import density_and_coverage, memorization, modes_and_kl


def drawn(number: int, seed: int, dim: int = 16, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((number, dim))) * scale


@pytest.mark.parametrize("number", [40, 1500])
def test_density_and_coverage_are_naeems(number: int) -> None:
    made, real = drawn(number, 0, scale=0.9), drawn(1200, 1)
    among = cdist(real.numpy(), real.numpy())
    radius = np.sort(among, axis=1)[:, 5]  # the 0th is itself
    inside = cdist(made.numpy(), real.numpy()) < radius
    density, coverage = density_and_coverage(made, real)
    assert density == pytest.approx(inside.sum() / (5 * number), rel=1e-6)
    assert coverage == pytest.approx(inside.any(0).mean(), rel=1e-6)


def test_density_is_1_of_the_same_kind() -> None:
    density, coverage = density_and_coverage(drawn(2000, 0), drawn(2000, 1))
    assert density == pytest.approx(1, abs=0.1) and coverage > 0.95
    two = torch.cat([drawn(1000, 1), drawn(1000, 2) + 9])
    assert density_and_coverage(drawn(2000, 0), two)[1] == pytest.approx(0.5, abs=0.02), "one of two modes is dropped"
    assert density_and_coverage(drawn(2000, 0, scale=20.0), drawn(2000, 1)) == (0, 0)


def test_memorization_is_mann_whitneys() -> None:
    made, train, unseen = drawn(1300, 0), drawn(700, 1), drawn(600, 2)
    made[:200] = train[:200]
    near, expected = (cdist(x.numpy(), train.numpy()).min(1) for x in (made, unseen))
    exact = 1 - scipy.stats.mannwhitneyu(near, expected).statistic / (len(near) * len(expected))
    assert memorization(made, train, unseen) == pytest.approx(exact, rel=1e-6)


def test_memorization_tells_copies_from_strangers() -> None:
    train, unseen = drawn(1000, 1), drawn(1000, 2)
    assert memorization(drawn(1000, 3), train, unseen) == pytest.approx(0.5, abs=0.03)
    assert memorization(train, train, unseen) == 1
    half = torch.cat([train[:500], drawn(500, 3)])
    assert memorization(half, train, unseen) == pytest.approx(0.75, abs=0.03)
    assert memorization(drawn(1000, 3, scale=10.0), train, unseen) == pytest.approx(0, abs=0.01)
    assert memorization(torch.ones(4, 2), torch.ones(3, 2), torch.ones(5, 2)) == 0.5, "ties count half"


def test_modes_and_kl_are_scipys() -> None:
    counts = torch.tensor([30, 0, 50, 20])
    classes = torch.tensor([0] * 10 + [2] * 25 + [3] * 5)
    modes, kl = modes_and_kl(classes, counts)
    assert modes == 3
    assert kl == pytest.approx(scipy.stats.entropy([10, 0, 25, 5], (counts + 1).numpy()), rel=1e-6)
    assert modes_and_kl(torch.zeros(9, dtype=torch.long), counts)[1] > 1 > modes_and_kl(classes, counts)[1]
    assert np.isfinite(modes_and_kl(torch.ones(9, dtype=torch.long), counts)[1]), "a class without real images"
