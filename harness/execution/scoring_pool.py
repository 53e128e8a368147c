"""Scores of stored trials from their weights, in processes of this machine."""

import multiprocessing
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from harness import interrupts
from harness.errors import UserError
from harness.execution.trial import TrialContext, score_weights
from harness.scoring.fidelity import NonFiniteSamples
from harness.spec import TrialSpec
from harness.storage.store import Store


def score_stored(
    specs: Sequence[TrialSpec],
    contexts: Mapping[str, TrialContext],
    store: Store,
    workers: int,
    say: Callable[[str], None],
) -> None:
    """Score finished trials under their contexts' protocols. Each score is kept as soon as it is there.

    Args:
        specs: Of trials that the store holds.
        contexts: What trials share, by the fingerprint of their data.
        store: Where weights are, and where scores go.
        workers: Trials at once.
        say: Told of every score.

    Raises:
        UserError: a process died.
        Damaged: a trial's weights are not what was written.
    """
    if not specs:
        return
    spawn = multiprocessing.get_context("spawn")  # a fork of a process in which torch has run threads may hang
    pool = ProcessPoolExecutor(
        min(workers, len(specs)), mp_context=spawn, initializer=_take_gpu, initargs=(spawn.Value("i"),)
    )
    try:
        with interrupts.starting_processes(signal.SIGINT):
            jobs = {pool.submit(_score, spec, contexts[spec.data_fingerprint], store): spec for spec in specs}
        for done, job in enumerate(as_completed(jobs), 1):
            spec = jobs[job]
            try:
                scores = job.result()
            except NonFiniteSamples:  # one of more samples than there were when it was trained
                say(f"  {done}/{len(specs)} {spec.trial_id}: a sample is not finite, and so there is no score")
                continue
            store.add_scores(spec.trial_id, contexts[spec.data_fingerprint].protocol, scores)
            say(f"  {done}/{len(specs)} {spec.trial_id}: FID {scores['fid']:.2f}")
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.kill()
        raise
    except BrokenProcessPool:
        raise UserError(
            f"a process that scored died (for want of memory?); scores so far are kept: try again with fewer than "
            f"{workers} workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _take_gpu(turn: Any) -> None:
    """Give this process the GPU whose turn it is, where there are any; several may share one."""
    if count := torch.cuda.device_count():
        with turn.get_lock():
            mine, turn.value = turn.value % count, turn.value + 1
        torch.cuda.set_device(mine)


def _score(spec: TrialSpec, context: TrialContext, store: Store) -> dict[str, float]:
    return score_weights(spec, store.read_weights(spec.trial_id), context)
