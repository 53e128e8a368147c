"""A cheap FID for the curves, through torchmetrics; its only importer. Final scores are torch-fidelity's."""

import warnings

import torch
from torch import Tensor, nn

from harness.lean import lean_fid
from harness.scoring.extractors import Extractor
from harness.scoring.sampling import to_uint8

FrechetInceptionDistance = lean_fid()


class OnlineFid:
    """FID of `num_samples` generated images against the reference, at the same latents every time.

    Not comparable with a final score: fewer samples, and so a higher FID.
    """

    def __init__(
        self,
        extractor: Extractor,
        reference: Tensor,
        *,
        latent_dim: int,
        latent_std: float,
        num_samples: int = 250,
    ) -> None:
        """Extract the reference's features.

        Args:
            extractor: Whose features are compared.
            reference: (N, C, H, W) uint8.
            latent_dim: Size of the latent vector.
            latent_std: Standard deviation of the latents.
            num_samples: Generated images a call.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*will save all extracted features.*")
            self.metric = FrechetInceptionDistance(
                _Features(extractor),
                reset_real_features=False,
                normalize=False,
                sync_on_compute=False,  # rank 0 alone looks on: the others would not come
            )
        for batch in reference.split(500):
            self.metric.update(batch, real=True)
        # Its own generator: watching must not change what is watched.
        stream = torch.Generator().manual_seed(0)
        self.latents = torch.randn(num_samples, latent_dim, generator=stream) * latent_std

    @torch.no_grad()
    def __call__(self, generator: nn.Module) -> float:
        """FID ↓ of the generator now; infinite where its images are not finite."""
        was_training = generator.training
        device = next(generator.parameters()).device
        self.metric.reset()
        self.metric.to(device)
        generator.eval()
        try:
            for z in self.latents.to(device).split(125):
                images = generator(z)
                if not torch.isfinite(images).all():
                    return float("inf")
                self.metric.update(to_uint8(images), real=False)
        finally:
            generator.train(was_training)
        return float(self.metric.compute())


class _Features(nn.Module):
    """The extractor as torchmetrics wants it: uint8 images -> (N, num_features)."""

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.network, self.num_features = extractor.load(), extractor.dim

    def train(self, mode: bool = True) -> "_Features":
        """Stay in eval mode: torchmetrics puts its modules into training mode with their parent."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[0]
