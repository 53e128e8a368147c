"""The weights that a trial leaves, and the generators that are made of them again."""

from collections.abc import Mapping

import safetensors.torch
from torch import Tensor, nn

from harness.spec import TrialSpec
from harness.training.checkpoint import Snapshot
from harness.training.loop import build_networks, recalibrate_batch_norm

NETWORKS = {"raw": "generator.", "ema": "ema.", "discriminator": "discriminator."}
"""What a file of weights holds -> how its names begin there: G at the end, its moving average, D at the end."""


def write_weights(snapshot: Snapshot) -> bytes:
    """A safetensors file of the networks at the end of training."""
    states = {"raw": snapshot.generator, "ema": snapshot.generator_ema, "discriminator": snapshot.discriminator}
    return safetensors.torch.save(
        {f"{prefix}{name}": value for net, prefix in NETWORKS.items() for name, value in states[net].items()}
    )


def read_weights(content: bytes) -> dict[str, dict[str, Tensor]]:
    """What `write_weights` wrote: "raw", "ema" and "discriminator" -> parameters and buffers by name."""
    stored = safetensors.torch.load(content)
    return {
        net: {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
        for net, prefix in NETWORKS.items()
    }


def generators(
    spec: TrialSpec, weights: Mapping[str, Mapping[str, Tensor]], device: str = "cpu"
) -> dict[str, nn.Module]:
    """The generator with averaged ("ema") and with raw weights, in eval mode, batch norm recalibrated for each."""
    found = {name: build_networks(spec).generator.to(device).eval() for name in ("ema", "raw")}
    for name, generator in found.items():
        generator.load_state_dict(weights[name])
    recalibrate_batch_norm(found["raw"], spec)  # as the average's was at the end of its training
    return found
