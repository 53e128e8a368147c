"""The bars that scores must pass before anything is said of them."""

import math

import pytest

from harness.metrics import COLLAPSED_IS, collapsed_below, least_accuracy


def test_the_bar_is_clearly_above_guessing() -> None:
    assert least_accuracy(0.1, 2000) == pytest.approx(0.325)
    assert least_accuracy(0.5, 10_000) == pytest.approx(0.625)
    assert least_accuracy(0.9, 10_000) == pytest.approx(0.925), "guessing the largest class is no knowledge"
    assert least_accuracy(0.5, 16) == pytest.approx(0.75), "few pictures prove little"
    assert least_accuracy(0.5, 1) == least_accuracy(1.0, 5) == 1


def test_collapse_needs_real_images_of_several_kinds() -> None:
    assert collapsed_below(math.nan) == collapsed_below(9.5) == COLLAPSED_IS
    assert collapsed_below(1.5) == pytest.approx(1.05) and collapsed_below(1.0) == collapsed_below(0.99) == 1
