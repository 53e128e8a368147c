"""The updates of a step as a CUDA graph: all their kernels launched by one call.

Of small networks a GPU computes a kernel faster than Python asks for the next one, and so waits most of the time
(docs/performance.md has figures). A graph holds kernels with their arguments and has no Python in it. It does what was
recorded, on the same memory, so that a step may be one only if nothing in it depends on the step's number.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from harness.spec import TrialSpec
from harness.training.schedules import is_penalised
from harness.training.state import State

WARM_UP = 3
"""Steps of each kind that are launched kernel by kernel, since what libraries set up at first must not be recorded."""


def can_be_graphs(spec: TrialSpec, device: str) -> bool:
    """Whether the trial's steps differ in nothing but in whether they have penalties.

    On one GPU, without schedules, and of networks and losses that the repository ships: others may ask the device for
    a value and go on by it, which no graph can.
    """
    is_scheduled = (
        (spec.lr_end != 1)
        or (spec.adam_beta2_end != 0)
        or (spec.penalty_end != 1)
        or (spec.instance_noise > 0 and spec.instance_noise_schedule != "constant")
    )
    alone = torch.device(device).type == "cuda" and spec.world_size == 1
    return alone and not spec.code and not is_scheduled


@cache
def side_stream() -> torch.cuda.Stream:
    """Where steps are taken before their graph is recorded; the same for all trials of a process.

    torch's matrix products keep 65 MiB for each stream that they have been on, for as long as the process lives.
    """
    return torch.cuda.Stream()


class Graphs:
    """Takes a trial's steps: the first few as they are, then as the graph of their kind, penalised or not.

    The steps before a graph is there are the trial's own, and the recording changes nothing, so that a trial is the
    same with and without graphs. Random streams go on as if their numbers had been drawn one by one.
    """

    def __init__(self, updates: Callable[[int, Sequence[Tensor]], None], spec: TrialSpec, state: State) -> None:
        """Nothing is recorded yet.

        Args:
            updates: (step, D's batches) -> None; works in place on tensors that stay where they are.
            spec: Of the trial; `can_be_graphs` says of which.
            state: Of the trial, for its random streams. Dropout's are recorded by torch itself.
        """
        self.updates, self.spec = updates, spec
        self.streams = [draws.generator for draws in state.streams.values()]
        self.taken = Counter[bool]()
        self.graphs: dict[bool, tuple[torch.cuda.CUDAGraph, list[Tensor]]] = {}

    def __call__(self, step: int, reals: Sequence[Tensor]) -> None:
        """Take one step; `reals` are copied."""
        kind = is_penalised(self.spec, step)
        if self.taken[kind] < WARM_UP:
            side, current = side_stream(), torch.cuda.current_stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):  # as torch.cuda.CUDAGraph wants it
                self.updates(step, reals)
            current.wait_stream(side)
            self.taken[kind] += 1
            return
        if kind not in self.graphs:
            self.graphs[kind] = self._record(step, reals)
        graph, inputs = self.graphs[kind]
        for own, real in zip(inputs, reals, strict=True):
            own.copy_(real)
        graph.replay()

    def _record(self, step: int, reals: Sequence[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
        """The graph of this step, which is not taken by that, and where it reads its batches."""
        graph, inputs = torch.cuda.CUDAGraph(), [real.clone() for real in reals]
        for generator in self.streams:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self.updates(step, inputs)
        return graph, inputs
