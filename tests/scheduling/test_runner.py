"""What a plan promises: disk and workers."""

import safetensors.torch
import torch

from harness.scheduling.cluster import Cluster
from harness.scheduling.runner import SMALL_FILES, default_workers, make_plan
from harness.spec import TrialSpec
from harness.training.loop import build_networks
from studies.noise import NOISE


def weights_of(spec: TrialSpec) -> int:
    gan = build_networks(spec)
    state = {f"g.{k}": v for k, v in gan.generator.state_dict().items()}
    state |= {f"e.{k}": v.clone() for k, v in gan.generator.state_dict().items()}
    state |= {f"d.{k}": v for k, v in gan.discriminator.state_dict().items()}
    return len(safetensors.torch.save(state))


def test_a_plan_tells_the_disk_that_its_trials_need(tmp_path) -> None:
    plan = make_plan(NOISE, "smoke", 2, None)
    for arm in ("dc", "fc"):
        spec = next(cell.spec for cell in plan.cells if cell.arm == arm)
        rest = plan.bytes_of[arm] - weights_of(spec)
        assert 0 < rest < 4 * SMALL_FILES, "beside the weights: a picture and small files"
    assert plan.bytes_left() == 2 * sum(plan.bytes_of.values())


def test_workers_by_default(monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert default_workers() == 8
    assert default_workers(Cluster(address="host:1")) is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert default_workers() == 2
    assert default_workers(Cluster(gpus_per_trial=0.25)) == 8
    assert default_workers(Cluster(gpus_per_trial=2)) == 1
    assert default_workers(Cluster(gpus_per_trial=0)) == 8
