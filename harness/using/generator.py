"""A trained generator for other code: a torch module that samples as the trial was scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.plugin_identity import identity
from harness.plugins import read_user_code
from harness.scoring.sampling import latents, to_uint8
from harness.spec import TrialSpec, own_names
from harness.training.loop import build_networks
from harness.training.stored import generators, read_weights


class TrainedGenerator(nn.Module):
    """Standard normal latents (N, latent_dim) -> images (N, C, H, W) in [-1, 1].

    In eval mode, with the batch-norm statistics that were scored; the spec's latent scale is inside.
    """

    def __init__(self, network: nn.Module, spec: TrialSpec) -> None:
        super().__init__()
        self.network = network
        self.latent_dim, self.latent_std = spec.latent_dim, spec.latent_std
        self.eval().requires_grad_(False)

    def forward(self, z: Tensor) -> Tensor:
        """Images of these latents, drawn from N(0, 1)."""
        return self.network(z * self.latent_std)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """(n, C, H, W) float32 images in [-1, 1], on the module's device.

        Seed 0 is what scores are made from: the first n of these are the first n images that were scored.

        Args:
            n: How many, at least 1.
            seed: Of the latents, from 0 to 2³² − 1.

        Raises:
            UserError: a number or a seed outside its range.
        """
        if n < 1:
            raise UserError(f"n={n} is out of range; allowed: at least 1")
        if not 0 <= seed < 2**32:
            raise UserError(f"seed={seed} is out of range; allowed: from 0 to {2**32 - 1}")
        device = next(self.parameters()).device
        with torch.no_grad():
            return torch.cat([self(z.to(device)) for z in latents(n, self.latent_dim, seed)])

    def pictures(self, n: int, seed: int = 0) -> Tensor:
        """The same as they are scored and shown: (n, C, H, W) uint8 on the CPU."""
        return to_uint8(self.sample(n, seed)).cpu()

    def interpolate(self, rows: int, steps: int, seed: int = 0) -> Tensor:
        """(rows · steps, C, H, W) images, row by row: in each, from one latent to another in equal angles.

        On a sphere rather than a line (White 2016), since latents of a normal distribution lie close to one; a line
        would pass where hardly any of them do.

        Raises:
            UserError: fewer than 1 row or 2 steps.
        """
        if rows < 1 or steps < 2:
            raise UserError(f"rows={rows}, steps={steps} are out of range; allowed: at least 1 and 2")
        ends = torch.cat(list(latents(2 * rows, self.latent_dim, seed))).view(rows, 2, 1, self.latent_dim)
        first, last = ends[:, 0], ends[:, 1]
        share = torch.linspace(0, 1, steps).view(1, steps, 1)
        angle = torch.acos(nn.functional.cosine_similarity(first, last, dim=-1).clamp(-1, 1)).unsqueeze(-1)
        between = (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * last) / torch.sin(angle)
        straight = (1 - share) * first + share * last  # where there is no angle, as between latents of one dimension
        between = torch.where(torch.sin(angle).abs() < 1e-4, straight, between)
        with torch.no_grad():
            return torch.cat([self(z.to(next(self.parameters()).device)) for z in between])


def trained_generator(
    spec: TrialSpec, weights: bytes, which: Literal["ema", "raw"], files: Sequence[Path] = ()
) -> TrainedGenerator:
    """The generator of a trial from what it stored.

    Args:
        spec: The trial's.
        weights: Its safetensors file.
        which: The moving average or the weights at the end.
        files: Of the user's own, where its network may be from.

    Raises:
        UserError: it is made from code of the user's own that none of these files holds as it was.
    """
    _load_own(spec, files)
    return TrainedGenerator(generators(spec, read_weights(weights))[which], spec)


def trained_network(spec: TrialSpec, files: Sequence[Path] = ()) -> nn.Module:
    """The network of such a generator, to be filled with weights; refused as by `trained_generator`."""
    _load_own(spec, files)
    return build_networks(spec).generator


def _load_own(spec: TrialSpec, files: Sequence[Path]) -> None:
    if not spec.code:
        return
    why = "nothing says where that is"
    for file in dict.fromkeys(files):
        try:
            code = read_user_code(file)
            if identity(code, own_names(spec.to_dict())) == spec.code:
                code.load()
                return
            why = f"{file} holds another version of it"
        except UserError as error:
            why = str(error)
    raise UserError(
        f"trial {spec.trial_id} is made from code of the user's own ({spec.code}): {why}; name its file, as it was "
        f"then, with code (on the command line: --code)"
    )
