"""Trials of several ranks: a process group in the trial's own placement group, which lives and dies with the trial."""

import socket
from typing import Any

from harness.execution.assets import Shared
from harness.execution.environment import sanitise
from harness.execution.trial import run_trial, train_rank
from harness.spec import TrialSpec
from harness.storage.result import TrialResult
from harness.training.distributed import join

# ruff: noqa: E402
sanitise()  # before ray is imported, as in ray_backend.py

import ray
import ray.exceptions
import ray.util
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.TaskPlacementGroupRemoved,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.RayActorError,
)
"""What Ray raises for work whose process or node is gone."""

NODE_LOSS = 60.0
"""Seconds until Ray surely knows that a node is gone; the ranks that talked to it know at once."""


def run_ranks(spec: TrialSpec, shared: Shared) -> TrialResult:
    """Run a trial of several ranks: this process is rank 0, the others are tasks in the trial's placement group."""
    group = ray.util.get_current_placement_group()
    assert group is not None
    with socket.socket() as free:
        free.bind(("", 0))
        rendezvous = f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"
    context, reference = shared.context(spec), ray.put(shared)
    others = [
        _run_rank.options(
            num_cpus=group.bundle_specs[rank]["CPU"],
            num_gpus=group.bundle_specs[rank].get("GPU", 0),
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
        ).remote(spec, reference, rank, rendezvous)
        for rank in range(1, spec.world_size)
    ]
    try:
        with join(0, spec.world_size, rendezvous, _device()) as ranks:
            result = run_trial(spec, context, shared.checkpoint_folder(), ranks)
        ray.wait(others, num_returns=len(others), timeout=5)  # they end by themselves; what is left is ended below
        return result
    except Exception as error:
        raise RuntimeError(_reasons(error, others)) from error
    finally:
        for other in others:
            ray.cancel(other, force=True)


def _reasons(error: Exception, others: list[Any]) -> str:
    """Why a trial of several ranks failed, rank by rank: an error in one makes the others lose their connection to it.

    Raises:
        one of LOST: the process or node of a rank is gone.
    """
    reasons = [f"rank 0: {first_line(error)}"]
    ended, _ = ray.wait(others, num_returns=len(others), timeout=NODE_LOSS)
    for rank, other in enumerate(others, 1):
        if other in ended:
            try:
                ray.get(other)
            except ray.exceptions.RayTaskError as theirs:
                error.add_note(str(theirs))  # its traceback
                reasons.append(f"rank {rank}: {first_line(theirs.cause)}")
    return "; ".join(reasons)


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


@ray.remote(max_retries=0, max_calls=1)
def _run_rank(spec: TrialSpec, shared: Shared, rank: int, rendezvous: str) -> None:
    with join(rank, spec.world_size, rendezvous, _device()) as ranks:
        train_rank(spec, shared.context(spec), ranks)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
