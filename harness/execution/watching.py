"""The FID in a trial's curves: at which points it is taken, and at what cost. Nothing of it reaches the training."""

import itertools
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from harness.data import PreparedData
from harness.scoring.extractors import Extractor
from harness.scoring.online import OnlineFid
from harness.spec import TrialSpec
from harness.training.loop import Observe, recalibrate_batch_norm, report_points

ONLINE_FID_AT = (2, 4, 6, 8, 12, 16, 24, 32, 40, 48, 56, 64)
"""The report points, of 64, at which it is taken: denser where it falls fast, since times are compared as ratios."""

RECALIBRATION_BATCHES = 5
"""Before each of them, where the final scores take 20: the FIDs are the same but for 1% (docs/performance.md)."""

ONLINE_FID_REVISION = ", revision 2"
"""Behind the extractor's hash in the provenance: FIDs of curves that were made otherwise are not compared with these.
Raised by every change of the values or their points."""


@lru_cache(maxsize=4)
def shared_images(data: PreparedData, part: str) -> Tensor:
    """(N, C, H, W) uint8, backed by the file itself: all trials on a machine share the same pages."""
    # Opened copy-on-write, because torch wants a writable array; nothing ever writes, so no page is copied.
    return torch.from_numpy(np.load(data.path(part), mmap_mode="c"))


def online_fid(spec: TrialSpec, extractor: Extractor | None, reference: Tensor) -> Observe:
    """What adds the cheap FID to the curves, at the same points of every attempt.

    Args:
        spec: Whose training is watched.
        extractor: Whose features are compared; without one nothing is added.
        reference: (N, C, H, W) uint8.
    """
    if extractor is None:
        return lambda point, generator: {}
    online = OnlineFid(extractor, reference, latent_dim=spec.latent_dim, latent_std=spec.latent_std)
    points = report_points(spec).values()  # a trial of few steps skips some
    taken = {now for last, now in itertools.pairwise((0, *points)) if any(last < at <= now for at in ONLINE_FID_AT)}

    def observe(point: int, generator: nn.Module) -> Mapping[str, float]:
        if point not in taken:
            return {}
        recalibrate_batch_norm(generator, spec, RECALIBRATION_BATCHES)
        return {"fid_online": online(generator)}

    return observe
