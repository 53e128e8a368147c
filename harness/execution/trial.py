"""One trial end to end: train, score, draw. A function of its spec, whatever process it runs in."""

import contextlib
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

import architectures
from harness.data import PreparedData
from harness.execution.attempt import Attempt
from harness.execution.provenance import cpu_name
from harness.execution.watching import ONLINE_FID_REVISION, online_fid, shared_images
from harness.plugins import UserCode
from harness.scoring.extractors import Extractor
from harness.scoring.fidelity import NonFiniteSamples, score_generator
from harness.scoring.sampling import AT_ONCE, to_uint8
from harness.spec import ScoreProtocol, TrialSpec
from harness.storage.layout import checkpoint_path
from harness.storage.result import TrialResult
from harness.storage.samples import GRID, to_png
from harness.training.checkpoint import Snapshot, decode_checkpoint
from harness.training.distributed import ALONE, Ranks
from harness.training.loop import Diverged, build_networks, train
from harness.training.number_format import require_format
from harness.training.random import stream
from harness.training.stored import generators, read_weights, write_weights


@dataclass(frozen=True, kw_only=True)
class TrialContext:
    """What all trials of a study share: prepared once, before the first one starts. Small and picklable."""

    data: PreparedData
    extractor: Extractor
    protocol: ScoreProtocol
    cache: Path
    online: Extractor | None = None  # for the FID in the curves if `extractor` is slow; None: no such FID there
    user_code: UserCode | None = None  # what a user's own file adds to the registries
    provenance: dict[str, Any] = field(default_factory=dict)  # of the driver: commit, versions

    @property
    def watching(self) -> Extractor | None:
        """Whose features give the FID in the curves; None where none is cheap enough."""
        return self.extractor if self.extractor.is_classifier else self.online

    def made_for(self, spec: TrialSpec, device: str) -> dict[str, str]:
        """What an attempt must share with a checkpoint to resume from it; an extractor made a column of its curves."""
        return {
            "trial_id": spec.trial_id,
            "torch": torch.__version__,
            "device": device,
            "extractor": self.protocol.extractor_hash,
            "online": self.online.weights_hash + ONLINE_FID_REVISION if self.online else "",
        }


def run_trial(
    spec: TrialSpec, context: TrialContext, checkpoints: Path | None = None, ranks: Ranks = ALONE
) -> TrialResult:
    """Train and score one GAN.

    A loss, a weight or a sample that is not finite ends the trial with status `diverged`: an outcome.
    Anything else that goes wrong is raised.

    Args:
        spec: What to train.
        context: What all trials of the study share.
        checkpoints: A folder for them, one file a trial, made if it is missing; a `UPath` for one elsewhere. A
            trial that was killed and is called again with the same folder, on any node that sees it, resumes from its
            checkpoint, with the result of an undisturbed run. Its cost counts what led to the result, not what the
            kill lost. The file is removed when the trial is done, and stays when an exception is raised. A checkpoint
            that cannot be used is renamed, one that cannot be read or written is done without, and the provenance
            says so. None keeps no checkpoints.
        ranks: The process group, in a trial of several ranks; this is rank 0, and the others call `train_rank`.
            harness/training/distributed.py says how to start them.
    """
    attempt = Attempt()
    device = _ready(context)
    require_format(spec.number_format, device)
    cost: dict[str, float] = {
        "kimg": spec.kimg,
        "d_steps": spec.num_steps * spec.discriminator_steps,
        "g_steps": spec.num_steps * spec.generator_steps,
        **_sizes(spec.at_seed(0)),
    }
    provenance = _provenance(context, device)
    if context.online:
        provenance["online_extractor"] = context.online.weights_hash + ONLINE_FID_REVISION
    if checkpoints is not None:
        attempt.resume_from(checkpoint_path(checkpoints, spec.trial_id), context.made_for(spec, device))
    ranks.share(attempt.found)
    outcome: dict[str, Any] = {"status": "ok"}
    try:
        images = shared_images(context.data, "train")
        snapshot = train(
            spec,
            images,
            online_fid(spec, context.watching, shared_images(context.data, "reference")),
            device=device,
            ranks=ranks,
            resume=attempt.resume,
            checkpoint=attempt.write if checkpoints is not None else None,
        )
        outcome |= {"curves": _curves(snapshot), "weights": write_weights(snapshot)}
        cost["train_seconds"] = snapshot.train_seconds
        trained = generators(spec, {"ema": snapshot.generator_ema, "raw": snapshot.generator}, device)
        outcome["samples_png"] = _sample_grid(trained[context.protocol.weights], spec, device)
        scoring_started = time.perf_counter()
        outcome["scores"] = _scores(trained, spec, context, device)
        cost["score_seconds"] = time.perf_counter() - scoring_started
    except (Diverged, NonFiniteSamples) as error:
        outcome |= {"status": "diverged", "error": str(error)}
    cost |= attempt.spent()
    if device == "cuda":
        cost["peak_memory_bytes"] = float(torch.cuda.max_memory_allocated())
    else:  # of the process, over all its trials
        cost["peak_memory_bytes"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
    provenance |= attempt.notes
    attempt.remove_checkpoint()
    return TrialResult(spec=spec, protocol=context.protocol, cost=cost, provenance=provenance, **outcome)


def train_rank(spec: TrialSpec, context: TrialContext, ranks: Ranks) -> None:
    """The part of every rank but 0 in a trial: train with rank 0, from the checkpoint that it found."""
    device = _ready(context)
    found = ranks.share(b"")
    resume = decode_checkpoint(found, context.made_for(spec, device))[0] if found else None
    with contextlib.suppress(Diverged):  # rank 0's to tell
        train(spec, shared_images(context.data, "train"), device=device, ranks=ranks, resume=resume)


def score_stored(spec: TrialSpec, weights: bytes, context: TrialContext) -> TrialResult:
    """Score a trial from what it stored: scores alone; under the protocol of its training exactly its own.

    Args:
        spec: The trial's.
        weights: Its safetensors file.
        context: The protocol and what belongs to it.
    """
    started, device = time.perf_counter(), _ready(context)
    outcome: dict[str, Any] = {"status": "ok"}
    try:
        outcome["scores"] = _scores(generators(spec, read_weights(weights), device), spec, context, device)
    except NonFiniteSamples:  # among more samples than there were when it was trained
        outcome = {"status": "diverged", "error": "a sample is not finite, and so there is no score"}
    outcome |= {"cost": {"seconds": time.perf_counter() - started}, "provenance": _provenance(context, device)}
    return TrialResult(spec=spec, protocol=context.protocol, **outcome)


def _provenance(context: TrialContext, device: str) -> dict[str, Any]:
    return {
        **context.provenance,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu_name(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "",
        "threads": torch.get_num_threads(),
    }


def _scores(trained: Mapping[str, nn.Module], spec: TrialSpec, context: TrialContext, device: str) -> dict[str, float]:
    return score_generator(
        trained[context.protocol.weights],
        raw=trained["raw"],
        latent_dim=spec.latent_dim,
        latent_std=spec.latent_std,
        protocol=context.protocol,
        extractor=context.extractor,
        data=context.data,
        cache=context.cache,
        device=device,
        batch_size=AT_ONCE if context.extractor.is_classifier else 50,  # beside larger networks
    )


def _ready(context: TrialContext) -> str:
    """Put what a process carries from one trial to the next into a known state; the device to use."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)  # trials are parallel, not their operators
    else:
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(0)  # nothing may draw from it unforked; if something does, it at least repeats
    if context.user_code is not None:
        context.user_code.load()
    return device


def _curves(snapshot: Snapshot) -> pd.DataFrame:
    columns = ["step", "kimg", "seconds", "d_loss", "g_loss", "d_real", "d_fake", "d_accuracy", "fid_online"]
    return pd.DataFrame(snapshot.curves, columns=columns).astype({"step": "int64"})


def sample_latents(latent_dim: int) -> Tensor:
    """The latents of every stored picture: (GRID², latent_dim), N(0, 1), the same for all arms and seeds."""
    return torch.randn(GRID * GRID, latent_dim, generator=stream(0, "samples"))


def _sample_grid(generator: nn.Module, spec: TrialSpec, device: str) -> bytes:
    generator.eval()
    with torch.no_grad():
        images = generator(sample_latents(spec.latent_dim).to(device) * spec.latent_std)
    if not torch.isfinite(images).all():
        raise NonFiniteSamples("the generator's samples are not finite")
    return to_png(to_uint8(images).cpu().numpy())


@lru_cache(maxsize=256)
def _sizes(spec: TrialSpec) -> dict[str, float]:
    """Parameters and FLOPs per image: the same for every seed of an arm."""
    gan = build_networks(spec)
    shape = (spec.channels, spec.resolution, spec.resolution)
    return {
        "generator_parameters": architectures.count_parameters(gan.generator),
        "discriminator_parameters": architectures.count_parameters(gan.discriminator),
        "generator_flops_per_image": architectures.flops_per_image(gan.generator, (spec.latent_dim,)),
        "discriminator_flops_per_image": architectures.flops_per_image(gan.discriminator, shape),
    }
