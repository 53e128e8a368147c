"""The classifier whose features score labelled data: the network, its training, and the file in which it is kept."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harness.errors import UserError
from harness.files import checksum

FEATURE_DIM = 64
TRAINING = 1
"""Raised by every change after which the same data gives another classifier."""

EPOCHS, BATCH, MAX_SHIFT = 30, 50, 2


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


def train_classifier(images: Tensor, labels: Tensor, num_classes: int) -> Classifier:
    """Train with small shifts. Deterministic: in one thread, and with a random stream of its own.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) of 0 to num_classes - 1.
        num_classes: How many classes there are.
    """
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(0)
        network = Classifier(images.shape[1], num_classes).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(EPOCHS):
            for index in torch.randperm(len(images)).split(BATCH):
                # Each batch is moved by up to MAX_SHIFT pixels each way; the edge comes in from the other side.
                shift = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,)).tolist()
                pixels = torch.roll(images[index].float() / 127.5 - 1, shift, (2, 3))
                optimizer.zero_grad()
                cross_entropy(network.on_pixels(pixels)[1], labels[index]).backward()
                optimizer.step()
    return network.eval().requires_grad_(False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums over several threads differ in their last digits, and those would reach the protocol's name."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, kw_only=True)
class ClassifierCard:
    """What the file of a classifier says of it, beside its weights."""

    channels: int
    num_classes: int
    learned_from: str  # 16 hex digits: the pixels and labels that it was trained on
    accuracy: float  # share of the reference part that it classifies rightly; it has not seen that part
    feature_rms: float  # root mean square of its features on its own training images
    training: int = TRAINING
    golden: Mapping[str, float] = field(default_factory=dict)  # what it measures; see harness.scoring.yardstick


def classifier_bytes(network: Classifier, card: ClassifierCard) -> bytes:
    """A classifier as a safetensors file, its card in the header."""
    return safetensors.torch.save(network.state_dict(), {"card": json.dumps(asdict(card), sort_keys=True)})


def read_card(path: Path) -> ClassifierCard:
    """The card of a classifier's file.

    Raises:
        UserError: the file is none of ours.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            values: dict[str, Any] = json.loads((file.metadata() or {})["card"])
        return ClassifierCard(**values)
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} does not hold a classifier that this program has trained; name one from the folder `extractors` "
            f"of a store or an export, or take the extractor whose weights these are"
        ) from None


def load_classifier(path: Path, channels: int, num_classes: int) -> Classifier:
    """The network, in eval mode and without gradients."""
    with torch.device("meta"):  # no weights of its own, and so no draw from the global generator
        network = Classifier(channels, num_classes)
    network.load_state_dict(safetensors.torch.load_file(path), assign=True)
    return network.eval().requires_grad_(False)


def learned_from(images: Tensor, labels: Tensor) -> str:
    """16 hex digits that name pixels and labels."""
    return checksum(images.numpy().tobytes() + labels.numpy().tobytes())[:16]
