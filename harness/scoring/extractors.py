"""Feature networks. On data without a published protocol: a small classifier, trained on a part of its own."""

import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.data import PreparedData
from harness.errors import UserError, unknown_name

EXTRACTORS = ("classifier",)
FEATURE_DIM = 64
TRAINING = 1
"""Raised by every change after which the same data gives another classifier."""

EPOCHS, BATCH, MAX_SHIFT = 30, 50, 2


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A feature network on disk. Small and picklable."""

    name: str  # "classifier"
    weights_path: Path  # safetensors
    weights_hash: str  # 16 hex digits of the file's bytes
    channels: int
    num_classes: int
    accuracy: float  # share of the reference part that it classifies rightly; it has not seen that part
    feature_rms: float  # root mean square of its features on its own training images

    @property
    def registered_name(self) -> str:
        """Its name for torch-fidelity, which caches by name: so the weights are in it."""
        return f"{self.name}-{self.weights_hash}"

    def load(self) -> "Classifier":
        """The network, in eval mode and without gradients."""
        with torch.device("meta"):  # no weights of its own, and so no draw from the global generator
            network = Classifier(self.channels, self.num_classes)
        network.load_state_dict(safetensors.torch.load_file(self.weights_path), assign=True)
        return network.eval().requires_grad_(False)


class Classifier(nn.Module):
    """A small convnet in the spirit of LeNet-5 (LeCun et al. 1998), for images of any size of at least 8.

    uint8 images (N, C, H, W) -> (features (N, 64) float64, logits (N, num_classes) float64). Doubles, because
    torch-fidelity takes means in the features' own precision. What is left is its error in the eigenvalues of
    features that are always 0, some 1e-5 of the FID.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(7),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, FEATURE_DIM),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURE_DIM, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of uint8 images."""
        features, logits = self.on_pixels(images.float() / 127.5 - 1)
        return features.double(), logits.double()

    def on_pixels(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of float images in [-1, 1]."""
        features = self.body(pixels)
        return features, self.head(features)


def prepare_extractor(name: str, data: PreparedData, cache: Path) -> Extractor:
    """The extractor for this data; trained once for its content, and kept.

    Raises:
        UserError: an unknown name, or data without labels to train on.
    """
    if name not in EXTRACTORS:
        raise unknown_name("extractor", name, EXTRACTORS)
    if data.num_classes is None:
        raise UserError(
            f"{data.dataset} has no labels for the extractor {name!r} to learn from; put its images into one "
            f"sub-folder a class, at least two"
        )
    folder = cache / "extractors"
    folder.mkdir(parents=True, exist_ok=True)
    # The same training gives other floats under another torch, so the version is part of the name.
    stem = folder / f"{name}-{data.fingerprint}-{TRAINING}-{torch.__version__.partition('+')[0]}"
    weights_path, meta_path = Path(f"{stem}.safetensors"), Path(f"{stem}.json")
    with FileLock(f"{stem}.lock"):
        if not meta_path.exists():
            network = _train_classifier(data)
            meta = {"accuracy": _accuracy(network, data), "feature_rms": _feature_rms(network, data)}
            for path, content in (
                (weights_path, safetensors.torch.save(network.state_dict())),
                (meta_path, json.dumps(meta).encode()),  # last: it says that the weights are whole
            ):
                staging = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
                staging.write_bytes(content)
                staging.replace(path)
    return Extractor(
        name=name,
        weights_path=weights_path,
        weights_hash=hashlib.sha256(weights_path.read_bytes()).hexdigest()[:16],
        channels=data.channels,
        num_classes=data.num_classes,
        **json.loads(meta_path.read_text()),
    )


def _train_classifier(data: PreparedData) -> Classifier:
    """Train on the extractor's own part, with small shifts. Deterministic: one thread, its own random stream."""
    images, labels = (
        torch.from_numpy(np.array(data.images("extractor"))),
        torch.from_numpy(data.labels("extractor")),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Classifier(data.channels, int(data.num_classes or 0)).train()
            optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
            for _ in range(EPOCHS):
                for index in torch.randperm(len(images)).split(BATCH):
                    pixels = _shifted(images[index].float() / 127.5 - 1)
                    optimizer.zero_grad()
                    cross_entropy(network.on_pixels(pixels)[1], labels[index]).backward()
                    optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return network.eval().requires_grad_(False)


def _shifted(pixels: Tensor) -> Tensor:
    """The batch moved by up to MAX_SHIFT pixels each way; the edge comes in from the other side."""
    down, right = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,)).tolist()
    return torch.roll(pixels, (down, right), (2, 3))


def _feature_rms(network: Classifier, data: PreparedData) -> float:
    return network(torch.from_numpy(np.array(data.images("extractor"))))[0].square().mean().sqrt().item()


def _accuracy(network: Classifier, data: PreparedData) -> float:
    images, labels = (
        torch.from_numpy(np.array(data.images("reference"))),
        torch.from_numpy(data.labels("reference")),
    )
    guesses = torch.cat([network(batch)[1].argmax(1) for batch in images.split(500)])
    return (guesses == labels).double().mean().item()
