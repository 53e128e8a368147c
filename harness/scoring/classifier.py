"""The classifier whose features score labelled data: the network, its training, and the file in which it is kept."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, affine_grid, cross_entropy, grid_sample, mse_loss

from harness.errors import UserError
from harness.files import checksum

FEATURE_DIM, FEATURE_SD = 64, 5.0
"""The second is a unit: with it FIDs of digits lie between about 3 and 2,000, where harness.metrics.THRESHOLDS are."""

TRAINING = 2
"""Raised by every change after which the same data gives another classifier."""

EPOCHS, FEWEST_EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 50, 10, 50, 2e-3, 0.05
MOST_SEEN = 300_000
"""Pictures seen in training, from which on there are fewer epochs."""

PIXELS_PER_SECOND = 1.5e6
"""That one core learns from, grey or in colour: measured at 32, 64 and 96 pixels a side (2026-11-27, an AMD EPYC)."""

MAX_DISTORTION, MAX_SHIFT = 0.2, 0.15
"""Of the four numbers of each picture's linear map (it rotates, scales, stretches and shears), and of its shift in
halves of the picture's side. Nothing is mirrored: a digit would be another."""

SKETCH, SKETCH_WEIGHT = 7, 3.0
"""Side of the small picture that the features must tell, too, and what an error of it counts beside one of the class.
Classes alone leave open what the features say of pictures of none, as generators make them."""


class Classifier(nn.Module):
    """A small convnet for images of any size of at least 8.

    uint8 images (N, C, H, W) -> (features (N, 64) float64, logits (N, num_classes) float64). Doubles, because
    torch-fidelity takes means in the features' own precision. The features come before the activation, and are of
    mean 0 and standard deviation FEATURE_SD over the images that they learned from, so that none is constant.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 24, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.MaxPool2d(2),
            nn.GELU(),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(64 * 3 * 3, FEATURE_DIM),
        )
        self.head = nn.Sequential(nn.GELU(), nn.Linear(FEATURE_DIM, num_classes))
        self.register_buffer("mean", torch.zeros(FEATURE_DIM))
        self.register_buffer("std", torch.ones(FEATURE_DIM))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of uint8 images."""
        features, logits = self.on_pixels(as_pixels(images))
        return features.double(), logits.double()

    def on_pixels(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of float images in [-1, 1]."""
        found = self.body(pixels)
        return (found - self.mean) / self.std, self.head(found)


class ByChannel(nn.Module):
    """A classifier of grey pictures, shown each channel of colour pictures by itself (Metz et al. 2017, 3.3.1).

    uint8 images (N, C, H, W) -> (features (N, C * 64) float64, logits (N, num_classes ** C) float64): of stacked digits
    the hundreds are red. The logits are log probabilities, as if what is in one channel said nothing of the others.
    """

    def __init__(self, each: Classifier) -> None:
        super().__init__()
        self.each = each

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of uint8 images."""
        number, channels = images.shape[:2]
        features, logits = self.each(images.reshape(number * channels, 1, *images.shape[2:]))
        together = torch.zeros(number, 1, dtype=torch.float64, device=images.device)
        for of_channel in logits.log_softmax(1).view(number, channels, -1).unbind(1):
            together = (together.unsqueeze(2) + of_channel.unsqueeze(1)).flatten(1)
        return features.view(number, -1), together


Network: TypeAlias = Classifier | ByChannel
AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


def _epochs(pictures: int) -> int:
    return min(EPOCHS, max(FEWEST_EPOCHS, MOST_SEEN // pictures))


def seconds_to_train(pictures: int, resolution: int) -> float:
    """What `train_classifier` takes of a core, roughly."""
    return _epochs(pictures) * pictures * resolution**2 / PIXELS_PER_SECOND


def train_classifier(images: Tensor, labels: Tensor, num_classes: int, seed: int = 0) -> Classifier:
    """Train on distorted pictures. Deterministic: in one thread, and with a random stream of its own.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,) of 0 to num_classes - 1.
        num_classes: How many classes there are.
        seed: Of the first weights, the order and the distortions. Stores take 0; others show what chance there is.
    """
    epochs = _epochs(len(images))
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        network = Classifier(images.shape[1], num_classes).train()
        draw = nn.Linear(FEATURE_DIM, images.shape[1] * SKETCH**2)
        weights = [*network.parameters(), *draw.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        steps = epochs * math.ceil(len(images) / BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
        for _ in range(epochs):
            for index in torch.randperm(len(images)).split(BATCH):
                pixels = distorted(as_pixels(images[index]))
                found = network.body(pixels)
                sketch = adaptive_avg_pool2d(pixels, SKETCH).flatten(1)
                loss = cross_entropy(network.head(found), labels[index]) + SKETCH_WEIGHT * mse_loss(draw(found), sketch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        network.eval().requires_grad_(False)
        found = torch.cat([network.body(as_pixels(batch)) for batch in images.split(500)])
        network.mean, network.std = found.mean(0), found.std(0).clamp(min=1e-6) / FEATURE_SD
    return network


def as_pixels(images: Tensor) -> Tensor:
    """uint8 images as floats in [-1, 1]."""
    return images.float() / 127.5 - 1


def distorted(pixels: Tensor) -> Tensor:
    """Each picture under a linear map and a shift of its own; what comes in at the edge repeats it."""
    change = torch.rand(len(pixels), 2, 3) * 2 - 1
    maps = torch.eye(2, 3) + change * torch.tensor([MAX_DISTORTION, MAX_DISTORTION, MAX_SHIFT])
    places = affine_grid(maps, list(pixels.shape), align_corners=False)
    return grid_sample(pixels, places, padding_mode="border", align_corners=False)


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


def classifier_bytes(network: Network, card: ClassifierCard) -> bytes:
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


def feature_dim(path: Path, channels: int) -> int:
    """How many features the classifier in that file gives of images with so many channels."""
    return FEATURE_DIM * channels if _is_by_channel(path) else FEATURE_DIM


def _is_by_channel(path: Path) -> bool:
    with safetensors.safe_open(path, "pt") as file:
        return any(name.startswith("each.") for name in file.keys())  # noqa: SIM118  it is no mapping


def load_classifier(path: Path, channels: int, num_classes: int) -> Network:
    """The network, in eval mode and without gradients."""
    with torch.device("meta"):  # no weights of its own, and so no draw from the global generator
        if _is_by_channel(path):
            network: Network = ByChannel(Classifier(1, round(num_classes ** (1 / channels))))
        else:
            network = Classifier(channels, num_classes)
    return _with_weights(network, path)


def by_channel(path: Path) -> ByChannel:
    """The classifier of grey pictures in that file, as one of each channel."""
    with torch.device("meta"):
        each = Classifier(1, read_card(path).num_classes)
    return ByChannel(_with_weights(each, path))


def _with_weights(network: AnyNetwork, path: Path) -> AnyNetwork:
    network.load_state_dict(safetensors.torch.load_file(path), assign=True)
    network.eval().requires_grad_(False)
    return network


def learned_from(images: Tensor, labels: Tensor) -> str:
    """16 hex digits that name pixels and labels."""
    return checksum(images.numpy().tobytes() + labels.numpy().tobytes())[:16]
