"""A program for the tests: trials that sleep instead of training, through the real Ray, Tune and store.

    python -m tests.faults.sleepers STORE TRIALS SECONDS WORKERS [ADDRESS [GPUS_PER_TRIAL]]

STORE.log gets a line, the trial's id, its node's and its GPUs, each time that a trial starts. As soon as STORE.hurry
exists, none sleeps any longer. What is tested with it lies between the trials, so that nothing is lost by leaving out
what happens inside them.
"""

import os
import signal
import sys
import time
from pathlib import Path

from harness import garbage
from harness.data import PreparedData
from harness.errors import UserError
from harness.execution.cluster import Cluster
from harness.execution.progress import Progress
from harness.execution.ray_backend import run_trials
from harness.execution.trial import TrialContext
from harness.scoring.extractors import Extractor
from harness.spec import ScoreProtocol, TrialSpec
from harness.storage.integrity import quarantine_damaged, sweep
from harness.storage.result import TrialResult
from harness.storage.store import Store
from tests.unit.test_spec import PROTOCOL, VALUES

PROTOCOL_ID = ScoreProtocol(**PROTOCOL).protocol_id


def specs(number: int) -> list[TrialSpec]:
    return [TrialSpec(**{**VALUES, "seed": seed}) for seed in range(number)]


def context(cache: Path, **provenance) -> TrialContext:
    """What trials share, made up but on disk, so that it can travel."""
    protocol = ScoreProtocol(**PROTOCOL)
    for name in ("data/key/train.npy", "extractors/weights", f"features/{protocol.reference_hash}-9-{'0' * 16}.pt"):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text(name)
    return TrialContext(
        data=PreparedData(
            dataset="none",
            resolution=28,
            channels=1,
            fingerprint="0" * 16,
            folder=cache / "data" / "key",
            num_classes=None,
        ),
        extractor=Extractor(
            name="classifier",
            weights_path=cache / "extractors" / "weights",
            weights_hash="0" * 16,
            channels=1,
            num_classes=10,
            accuracy=1.0,
            feature_rms=1.0,
        ),
        protocol=protocol,
        cache=cache,
        provenance=provenance,
    )


def sleep(spec: TrialSpec, context: TrialContext, snapshots: Path | None) -> TrialResult:
    import ray

    with Path(context.provenance["log"]).open("a") as log:
        node, gpus = ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
        log.write(f"{spec.trial_id} {node} {gpus}\n")
    if context.data.path("train").read_text() != "data/key/train.npy":
        raise ValueError("this is not the data")
    ends, hurry = (
        time.monotonic() + context.provenance["seconds"],
        Path(context.provenance["log"]).with_suffix(".hurry"),
    )
    while time.monotonic() < ends and not hurry.exists():
        time.sleep(0.1)
    return TrialResult(
        spec=spec,
        status="ok",
        protocol=context.protocol,
        scores={"fid": float(spec.seed)},
        cost={"seconds": context.provenance["seconds"]},
        provenance={"cache": str(context.cache), **context.provenance},
        weights=bytes(100_000),
    )


def main(store: str, trials: str, seconds: str, workers: str, address: str = "", gpus: str = "") -> None:
    wanted = specs(int(trials))
    place = Store(store, create=True)
    sweep(place)
    for name, damage in quarantine_damaged(place, (spec.trial_id for spec in wanted)).items():
        print(f"{name} was {damage}", file=sys.stderr)
    pending = [spec for spec in wanted if not place.is_done(spec.trial_id, PROTOCOL_ID)]
    progress = Progress(
        title="sleepers",
        total=len(wanted),
        already_done=len(wanted) - len(pending),
        arms={spec.trial_id: ("sleep", spec.seed) for spec in wanted},
    )
    shared = context(place.cache, driver=os.getpid(), seconds=float(seconds), log=f"{store}.log")
    with progress:
        run_trials(
            pending,
            dict.fromkeys({spec.data_fingerprint for spec in wanted}, shared),
            place,
            progress,
            int(workers) or None,
            Cluster(address=address, gpus_per_trial=float(gpus) if gpus else None),
            run=sleep,
        )
    print(f"{progress.done} done, {progress.failed} failed", file=sys.stderr)
    garbage.search_no_more()


if __name__ == "__main__":
    # A shell's background jobs begin with SIGINT ignored, and so does everything that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
