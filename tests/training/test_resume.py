"""A trial killed at any point and resumed is bit for bit the trial that was never killed."""

import dataclasses
import hashlib
import itertools
import multiprocessing
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from harness.spec import TrialSpec
from harness.training import loop
from harness.training.checkpoint import (
    FORMAT,
    TENSORS,
    Snapshot,
    UnusableCheckpoint,
    decode_checkpoint,
    encode_checkpoint,
    remove_checkpoint,
    write_checkpoint,
)
from harness.training.loop import train
from tests.training.test_loop import spec

EVERY_TRICK = {
    "generator_steps": 2, "discriminator_steps": 2, "real_label_low": 0.8, "fake_label_high": 0.1,
    "label_flip_rate": 0.1, "instance_noise": 0.1, "instance_noise_schedule": "linear", "gradient_clip": 1.0,
    "augmentation": "brightness+translation+cutout", "discriminator_dropout": 0.2,
}  # fmt: skip
PENALTIES = {"discriminator_norm": "spectral", "r1_gamma": 1.0, "gradient_penalty": 1.0}
TRIALS = {  # with every trick on that goes together
    "fc": {"architecture": "fc"},
    "dc": {"architecture": "dc"},
    "fc, tricks": {
        "architecture": "fc", "generator_norm": "batch", "generator_dropout": 0.1, **EVERY_TRICK, **PENALTIES,
    },
    "dc, tricks": {
        "architecture": "dc", "generator_depth": 4, "generator_dropout": 0.1, "generator_width": 2, **EVERY_TRICK,
        **PENALTIES,
    },
    "dc, tricks, batch norm": {"architecture": "dc", "mixed_batches": True, **EVERY_TRICK},
    "resnet, schedules": {
        "architecture": "resnet", "generator_norm": "batch", "loss": "relativistic", "r1_gamma": 1.0, "r2_gamma": 1.0,
        "lr_end": 0.25, "penalty_end": 0.1, "adam_beta2_end": 0.9, "ema_ramp": 0.5,
    },
}  # fmt: skip
MADE_FOR = {"trial_id": "0" * 16, "torch": torch.__version__}


def trial(name: str, **changes) -> TrialSpec:
    return spec(**TRIALS[name], **changes)


def save(path: Path, snapshot: Snapshot) -> None:
    write_checkpoint(path, encode_checkpoint(snapshot, MADE_FOR, {}))


def saved(path: Path) -> Snapshot:
    return decode_checkpoint(path.read_bytes(), MADE_FOR)[0]


def differences(a: Snapshot, b: Snapshot) -> list[str]:
    """What of two snapshots is not bit for bit the same, but for the seconds."""
    found = []
    for part in TENSORS:
        ours, theirs = getattr(a, part), getattr(b, part)
        found += [f"{part}/{name}" for name in ours.keys() ^ theirs.keys()]
        found += [f"{part}/{name}" for name in ours.keys() & theirs.keys() if not torch.equal(ours[name], theirs[name])]
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in s.curves] for s in (a, b)]
    plain = [(s.step, s.batches_taken, curves) for s, curves in zip((a, b), rows, strict=True)]
    return found + ([] if plain[0] == plain[1] else ["step, batches_taken or curves"])


@pytest.fixture
def every_point(monkeypatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)


@pytest.mark.parametrize("name", TRIALS)
def test_resumed_from_any_checkpoint(name: str, images, tmp_path: Path, every_point) -> None:
    images = images[:60]  # an epoch leaves an incomplete batch out
    s = trial(name)
    snapshots: list[Snapshot] = []
    undisturbed = train(s, images, checkpoint=snapshots.append)
    assert not differences(undisturbed, train(s, images)), "looking on changed the trial"
    assert [x.step for x in snapshots] == list(range(1, s.num_steps + 1))
    assert differences(snapshots[-2], undisturbed)
    for snapshot in (snapshots[0], *random.Random(name).sample(snapshots[1:-1], 3), snapshots[-1]):
        save(tmp_path / "x.snapshot", snapshot)
        back = saved(tmp_path / "x.snapshot")
        assert not differences(back, snapshot)
        torch.manual_seed(snapshot.step)  # another process, with another past
        assert not differences(train(s, images, resume=back), undisturbed), f"resumed at step {snapshot.step}"


def test_an_observer_resumes_too(images, every_point) -> None:
    def observe(point: int, generator: torch.nn.Module) -> dict[str, float]:
        loop.recalibrate_batch_norm(generator, s)
        return {"fid_online": float(point)} if point % 2 == 0 else {}

    s = trial("dc")
    snapshots: list[Snapshot] = []
    undisturbed = train(s, images, observe, checkpoint=snapshots.append)
    assert "fid_online" in undisturbed.curves[-1] and "fid_online" not in undisturbed.curves[0]
    assert not differences(train(s, images, observe, resume=snapshots[8]), undisturbed)


def test_checkpoints_are_apart_in_time(images, monkeypatch) -> None:
    """No two closer than CHECKPOINT_SECONDS, and none in a trial shorter than that; what they take is not training."""
    times: list[float] = []

    def slowly(snapshot: Snapshot) -> None:
        times.append(time.perf_counter())
        time.sleep(0.02)

    s = spec(kimg=0.8)
    train(s, images, checkpoint=slowly)
    assert not times
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.01)
    snapshot = train(s, images, checkpoint=slowly)
    assert 2 <= len(times) < 64
    assert all(b - a >= 0.03 for a, b in itertools.pairwise(times))
    assert snapshot.train_seconds == snapshot.curves[-1]["seconds"] < times[-1] - times[0] + 1


@dataclasses.dataclass
class Attempt:
    """What a process does that may be killed: resumes from the checkpoint there is, and writes others."""

    spec: TrialSpec
    images: torch.Tensor
    path: Path

    def __call__(self) -> None:
        torch.set_num_threads(1)
        loop.CHECKPOINT_SECONDS = 0.0
        resume = saved(self.path) if self.path.exists() else None
        done = train(
            self.spec,
            self.images,
            resume=resume,
            checkpoint=lambda snapshot: save(self.path, snapshot),
        )
        save(self.path.with_name("done"), done)


@pytest.mark.parametrize("name", ["fc, tricks", "dc, tricks, batch norm"])
def test_killed_again_and_again(name: str, images, tmp_path: Path) -> None:
    """SIGKILL at random moments, those of writing a snapshot included."""
    s = trial(name, kimg=0.64)
    path = tmp_path / "x.snapshot"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_resume"])
    moments = random.Random(name)
    steps = [0]
    for kill in (True, True, True, True, False):
        process = context.Process(target=Attempt(s, images, path))
        before = path.stat().st_mtime_ns if path.exists() else 0
        process.start()
        while kill and (not path.exists() or path.stat().st_mtime_ns == before):
            assert process.is_alive()
            time.sleep(0.001)
        if kill:
            time.sleep(moments.random() * 0.05)
            process.kill()
        process.join(60)
        assert process.exitcode == (-9 if kill else 0)
        steps.append(saved(path).step)
    assert steps == sorted(set(steps)) and steps[-2] < s.num_steps, "each attempt got on, and each kill was in time"
    done = saved(tmp_path / "done")
    assert not differences(done, train(s, images))
    remove_checkpoint(path)
    assert {p.name for p in tmp_path.iterdir()} == {"done"}


# ---- the file ----


@pytest.fixture
def snapshot(images, every_point) -> Snapshot:
    snapshots: list[Snapshot] = []
    train(spec(kimg=0.024), images, checkpoint=snapshots.append)
    return snapshots[1]


def write_until_half(path: Path, content: bytes) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, len(content) // 2))
    write_checkpoint(path, content)


def test_killed_in_mid_write(snapshot: Snapshot, tmp_path: Path) -> None:
    """The kernel kills the writer at half of the file: the last snapshot is whole, and what is left is swept up."""
    path = tmp_path / "x.snapshot"
    save(path, snapshot)
    context = multiprocessing.get_context("forkserver")
    content = encode_checkpoint(dataclasses.replace(snapshot, step=99), MADE_FOR, {})
    process = context.Process(target=write_until_half, args=(path, content))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGXFSZ
    assert not differences(saved(path), snapshot)
    assert len(list(tmp_path.iterdir())) == 2
    remove_checkpoint(path)
    assert not list(tmp_path.iterdir())


def test_every_damage_is_noticed(snapshot: Snapshot) -> None:
    whole = encode_checkpoint(snapshot, MADE_FOR, {"seconds": 1.5})
    assert decode_checkpoint(whole, MADE_FOR)[1] == {"seconds": 1.5}
    places = [0, 64, 65, 100, len(whole) // 2, len(whole) - 1]
    for damaged in (
        *(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in places),
        *(whole[:i] for i in (0, 10, 64, 65, 1000, len(whole) - 1)),
        whole + b"x",
        b"\n\n\n",
    ):
        with pytest.raises(UnusableCheckpoint, match="is damaged"):
            decode_checkpoint(damaged, MADE_FOR)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"{}\n", b'{"format": 1}\n', b'{"format": 1, "made_for": 3}\n', b"[" * 10**5]
)
def test_other_content_is_unusable_despite_its_checksum(body: bytes) -> None:
    with pytest.raises(UnusableCheckpoint):
        decode_checkpoint(hashlib.sha256(body).hexdigest().encode() + b"\n" + body, MADE_FOR)


@pytest.mark.parametrize("other", [{"trial_id": "1" * 16}, {"torch": "1.13"}, {"device": "cuda"}])
def test_a_checkpoint_of_something_else_is_refused(other: dict, snapshot: Snapshot) -> None:
    content = encode_checkpoint(snapshot, {**MADE_FOR, **other}, {})
    (name,) = other
    with pytest.raises(UnusableCheckpoint, match=f"made for {name}='{other[name]}', not "):
        decode_checkpoint(content, MADE_FOR)


def test_an_infinite_value_in_the_curves_survives(snapshot: Snapshot, tmp_path: Path) -> None:
    """The online FID of images that are not finite."""
    snapshot.curves[0]["fid_online"] = float("inf")
    save(tmp_path / "x.snapshot", snapshot)
    assert saved(tmp_path / "x.snapshot").curves == snapshot.curves


def test_what_a_snapshot_holds(snapshot: Snapshot) -> None:
    """Other contents than these are another format: raise FORMAT, so that older checkpoints are not used."""
    assert FORMAT == 1
    assert snapshot.streams.keys() == {
        "data", "latents", "dropout", "instance noise", "labels", "augmentation", "gradient penalty",
    }  # fmt: skip
    assert {name.split(".", 1)[1] for name in snapshot.g_optimizer} == {"step", "exp_avg", "exp_avg_sq"}
    assert [f.name for f in dataclasses.fields(Snapshot) if f.name not in TENSORS] == [
        "step", "batches_taken", "curves", "train_seconds",
    ]  # fmt: skip
