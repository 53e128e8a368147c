"""What only a GPU can show. Where there is none these tests are skipped, and say so."""

import multiprocessing
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.execution.trial import TrialContext, run_trial, score_stored
from harness.scoring.fidelity import make_protocol, score_generator
from harness.spec import TrialSpec
from harness.storage.store import Store
from harness.training import graphs, loop
from harness.training.checkpoint import Snapshot
from harness.training.distributed import join
from harness.training.loop import build_networks, train
from tests.execution.test_trial import spec as small_trial
from tests.training.test_resume import PENALTIES, TRIALS, differences, save, saved, trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

IMAGES = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def context(digits, extractor, cache) -> TrialContext:
    protocol = make_protocol(extractor, digits, num_generated=500)
    return TrialContext(data=digits, extractor=extractor, protocol=protocol, cache=cache)


def assert_near(a: Snapshot, b: Snapshot) -> None:
    """Up to the order of sums, which a GPU does not promise."""
    for part in ("generator", "generator_ema", "discriminator"):
        ours, theirs = getattr(a, part), getattr(b, part)
        for name in ours:
            scale = float(theirs[name].abs().max())
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-3 * scale + 1e-6, msg=name)
    for ours, theirs in zip(a.curves, b.curves, strict=True):
        assert [ours[c] for c in loop.CURVES] == pytest.approx([theirs[c] for c in loop.CURVES], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["fc", "dc"])
def test_a_gpu_trial_is_whole_and_scored_again(name: str, context: TrialContext) -> None:
    s = small_trial(**TRIALS[name])
    result = run_trial(s, context)
    assert result.status == "ok" and result.provenance["gpu"] and result.cost["peak_memory_bytes"] > 0
    assert result.weights is not None
    assert score_stored(s, result.weights, context).scores["fid"] == pytest.approx(result.scores["fid"], rel=1e-5)


def test_a_gpu_scores_as_a_cpu_does(context: TrialContext) -> None:
    s = small_trial()
    generator = build_networks(s).generator
    words = {"protocol": context.protocol, "extractor": context.extractor, "data": context.data, "cache": context.cache}
    scores = [
        score_generator(generator.to(d), latent_dim=s.latent_dim, latent_std=1.0, device=d, **words)
        for d in ("cpu", "cuda")
    ]
    for name in ("fid", "kid", "is_mean"):
        assert scores[1][name] == pytest.approx(scores[0][name], rel=1e-2), name


GRAPHS = {  # trials without schedules, whose steps are CUDA graphs
    "fc": {}, "dc": {},
    **{name: {"instance_noise_schedule": "constant"} for name in TRIALS if "tricks" in name},
    "fc, tricks, lazy": {"instance_noise_schedule": "constant", "penalty_interval": 4},
    "dc, tricks, alternating": {"instance_noise_schedule": "constant", "update_rule": "alternating"},
    "dc, bfloat16": {"number_format": "bfloat16"},
    "dc, spectral, bfloat16": {"number_format": "bfloat16", **PENALTIES},
}  # fmt: skip


def graph_trial(name: str, **changes) -> TrialSpec:
    known = name if name in TRIALS else name.rsplit(", ", 1)[0]
    return replace(trial(known if known in TRIALS else "dc"), **GRAPHS[name], **changes)


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial whose steps are launched as graphs is the trial whose kernels are launched one by one.

    The first training of its kind in a process is not compared: one was seen that differed from the second, which was
    launched kernel by kernel as it was, from the last bit of one loss on.
    """
    s = graph_trial(name, kimg=0.512)
    train(s, IMAGES, device="cuda")
    replayed = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replayed.append(1), replay(graph)))
    torch.cuda.manual_seed(5)
    torch.backends.cudnn.deterministic = True
    with_graphs = train(s, IMAGES, device="cuda")
    launched_whole = s.num_steps - (2 if s.penalty_interval > 1 else 1) * graphs.WARM_UP
    assert len(replayed) == launched_whole
    monkeypatch.setattr(loop, "can_be_graphs", lambda *_: False)
    torch.cuda.manual_seed(6)
    one_by_one = train(s, IMAGES, device="cuda")
    assert len(replayed) == launched_whole
    assert differences(with_graphs, one_by_one) == []
    for stream, state in one_by_one.streams.items():
        assert torch.equal(with_graphs.streams[stream], state), stream


def test_trials_leave_no_memory_behind() -> None:
    """Of a process that trains one after the other on a GPU."""
    held = []
    for seed in range(4):
        train(trial("fc", seed=seed, kimg=0.512), IMAGES, device="cuda")
        held.append(torch.cuda.memory_allocated())
    assert held[-1] == held[1], held


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_go_on_from_a_snapshot(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    torch.backends.cudnn.deterministic = True
    s = graph_trial(name, kimg=0.256)
    snapshots: list[Snapshot] = []
    undisturbed = train(s, IMAGES, device="cuda", checkpoint=snapshots.append)
    middle = snapshots[len(snapshots) // 2]
    assert graphs.WARM_UP < middle.step < s.num_steps - graphs.WARM_UP
    save(tmp_path / "x.snapshot", middle)
    torch.cuda.manual_seed(7)  # another process, with another past
    resumed = train(s, IMAGES, device="cuda", resume=saved(tmp_path / "x.snapshot"))
    assert differences(resumed, undisturbed) == []


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_goes_on_from_its_snapshot(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    s = trial(name, kimg=0.064)
    snapshots: list[Snapshot] = []
    undisturbed = train(s, IMAGES, device="cuda", checkpoint=snapshots.append)
    save(tmp_path / "x.snapshot", snapshots[1])
    torch.cuda.manual_seed(7)  # another process, with another past
    resumed = train(s, IMAGES, device="cuda", resume=saved(tmp_path / "x.snapshot"))
    assert_near(resumed, undisturbed)
    for stream, state in undisturbed.streams.items():
        assert torch.equal(resumed.streams[stream], state), stream


def waits(s: TrialSpec) -> int:
    """How often training waited for the device, as torch itself counts."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            train(s, IMAGES, device="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in seen)


@pytest.mark.parametrize("name", TRIALS)
def test_training_waits_only_to_report(name: str) -> None:
    """A report and an epoch's order may make it wait: so many further steps at as many reports add next to nothing."""
    s = trial(name)
    of_a_step = s.batch_size * s.discriminator_steps
    waits(trial(name, kimg=of_a_step / 1000))  # what a process does but once
    fewer, more = (waits(trial(name, kimg=steps * of_a_step / 1000)) for steps in (128, 256))
    assert fewer >= loop.REPORT_POINTS  # they are seen
    assert more - fewer <= 128 * of_a_step / len(IMAGES)


def rank_process(rank: int, folder: Path, s: TrialSpec) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = str(rank)  # before CUDA starts in this process
    with join(rank, 2, f"file://{folder}/rendezvous", "cuda") as ranks:
        save(folder / str(rank), train(s, IMAGES, device="cuda", ranks=ranks))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices on this machine")
@pytest.mark.parametrize("name", ["fc", "dc"])
def test_two_gpus_are_one(name: str, tmp_path: Path) -> None:
    """nccl, and for dc torch's own SyncBatchNorm."""
    one = trial(name, kimg=0.008)
    two = TrialSpec(**{**one.to_dict(), "world_size": 2, "sync_batch_norm": name == "dc"})
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=rank_process, args=(rank, tmp_path, two)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    assert_near(saved(tmp_path / "0"), train(one, IMAGES, device="cuda"))


def test_trials_share_a_gpu(tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "-m", "studies", "run", "noise", "--profile", "smoke", "--seeds", "1"]
    command += ["--gpus-per-trial", "0.25", "--store", str(store)]
    subprocess.run(command, check=True, timeout=500)
    stored = Store(store)
    results = [stored.read_result(trial_id) for trial_id in stored.trial_ids()]
    assert results and all(r["status"] == "ok" and r["provenance"]["gpu"] for r in results)
