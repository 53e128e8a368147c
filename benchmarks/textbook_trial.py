"""One GAN as a tutorial trains it, scored by torch-fidelity: what `study.py` calls eight times from a shell.

    python benchmarks/textbook_trial.py ARCHITECTURE SEED KIMG DIGITS CLASSIFIER

Plain Adam, two passes through G a step, no moving average, no curves, nothing stored. DIGITS is an .npz of `train` and
`reference`, uint8 (N, 1, 28, 28); CLASSIFIER the file of the feature network. So it prepares no data, which helps it.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.utils.data import Dataset
from torch_fidelity import (
    FeatureExtractorBase,
    GenerativeModelModuleWrapper,
    calculate_metrics,
    register_feature_extractor,
)

import architectures
from harness.scoring.classifier import load_classifier
from studies.baselines import DC, FC

SAMPLES = 2000


class Classifier(FeatureExtractorBase):
    """The classifier as torch-fidelity wants a feature extractor."""

    path = Path()

    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)
        self.network = load_classifier(self.path, 1, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features and logits, those that are wanted."""
        found = dict(zip(("pool", "logits"), self.network(images), strict=True))
        return tuple(found[name] for name in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """What there is."""
        return "pool", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """What each metric takes."""
        return "logits" if metric == "isc" else "pool"

    @staticmethod
    def can_be_compiled() -> bool:
        """No."""
        return False


class Bytes(torch.nn.Module):
    """A generator whose images are uint8."""

    def __init__(self, generator: torch.nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (N, Z) -> uint8 (N, C, H, W)."""
        return self.generator(latents).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


class Images(Dataset[Tensor]):
    """Images one by one."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def main(architecture: str, seed: str, kimg: str, digits: str, classifier: str) -> None:
    """Train and score; prints the FID."""
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    with np.load(digits) as parts:
        train, reference = torch.from_numpy(parts["train"]), parts["reference"][:SAMPLES]
    chosen = {"dc": DC, "fc": FC}[architecture]
    sizes = {name: value for name, value in chosen.items() if name.startswith(("generator_", "discriminator_"))}
    g_rate, d_rate = sizes.pop("generator_lr"), sizes.pop("discriminator_lr")
    batch, latent, betas = chosen["batch_size"], chosen["latent_dim"], (chosen["adam_beta1"], chosen["adam_beta2"])
    gan = architectures.build(architecture, resolution=28, channels=1, latent_dim=latent, **sizes)
    generator, discriminator = gan.generator.train(), gan.discriminator.train()
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=g_rate, betas=betas)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=d_rate, betas=betas)
    ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)
    for _ in range(round(1000 * float(kimg) / batch)):
        real = train[torch.randint(len(train), (batch,))].float() / 127.5 - 1
        fake = generator(torch.randn(batch, latent)).detach()
        d_loss = bce(discriminator(real), ones) + bce(discriminator(fake), zeros)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = bce(discriminator(generator(torch.randn(batch, latent))), ones)
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    Classifier.path = Path(classifier)
    register_feature_extractor("classifier", Classifier)
    scores = calculate_metrics(
        input1=GenerativeModelModuleWrapper(Bytes(generator.eval()), latent, "normal", 0),
        input1_model_num_samples=SAMPLES,
        input2=Images(reference),
        feature_extractor="classifier",
        fid=True,
        isc=True,
        kid=True,
        prc=True,
        kid_subsets=1,  # one estimate of all images, as the study's protocol has it, not a hundred
        kid_subset_size=SAMPLES,
        batch_size=250,
        save_cpu_ram=True,
        cuda=False,
        verbose=False,
    )
    print(f"{architecture}, seed {seed}: FID {scores['frechet_inception_distance']:.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
