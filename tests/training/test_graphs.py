"""Which trials' steps can be CUDA graphs; tests/gpu sees that they change nothing."""

from typing import Any

import pytest

from harness.training.graphs import can_be_graphs
from tests.training.test_loop import spec
from tests.training.test_resume import TRIALS, trial


@pytest.mark.parametrize(
    "changes",
    [{}, {"update_rule": "alternating"}, {"instance_noise": 0.1}, {"number_format": "bfloat16"}],
)
def test_trials_without_schedules_are_graphs(changes: dict[str, Any]) -> None:
    assert can_be_graphs(spec(**changes), "cuda")
    assert not can_be_graphs(spec(**changes), "cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"lr_end": 0.25},
        {"adam_beta2_end": 0.9},
        {"discriminator_norm": "spectral", "r1_gamma": 1.0, "penalty_end": 0.1},
        {"instance_noise": 0.1, "instance_noise_schedule": "linear"},
        {"world_size": 2},
        {"code": "0" * 16},
    ],
)
def test_what_changes_by_step_is_none(changes: dict[str, Any]) -> None:
    assert not can_be_graphs(spec(**changes), "cuda")


def test_every_scheduled_trial_is_launched_singly() -> None:
    assert not can_be_graphs(trial("resnet, schedules"), "cuda")
    assert {name for name in TRIALS if can_be_graphs(trial(name), "cuda")} == {"fc", "dc"}
