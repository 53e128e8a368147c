"""Feature networks: a small classifier, trained on a part of the data of its own, and the published ones."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
from harness.files import checksum, file_checksum, write_file
from harness.metrics import least_accuracy
from harness.sources import impatient
from harness.storage.layout import cache_folder

FEATURE_DIM = 64
TRAINING = 1
"""Raised by every change after which the same data gives another classifier."""

EPOCHS, BATCH, MAX_SHIFT = 30, 50, 2


WEIGHTS_OPTION, WEIGHTS_VARIABLE = "--extractor-weights", "GAN_EXTRACTOR_WEIGHTS"
"""The program's option, and the environment variable that stands in for it: a local file with a pretrained
extractor's weights."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A published feature network, as torch-fidelity serves it."""

    served_as: str  # torch-fidelity's name
    layer: str  # for FID, KID, precision and recall
    logits: str  # for the inception score; "" where the network classifies nothing
    dim: int  # of the layer
    side: int  # of the square images that it takes
    file: str  # name of its weights among torch.hub's checkpoints
    url: str  # where they are; "" where torch.hub fetches code and weights together
    hub: str = ""  # "owner/repository:model" of torch.hub, for a network whose code is fetched, too


_CLIP_HASH = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"

PRETRAINED: dict[str, Pretrained] = {
    # Heusel et al. 2017 and Salimans et al. 2016, with the weights converted from TensorFlow's of 2015.
    "inception-v3": Pretrained(
        served_as="inception-v3-compat",
        layer="2048",
        logits="logits_unbiased",
        dim=2048,
        side=299,
        file="weights-inception-2015-12-05-6726825d.pth",
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
    ),
    # Oquab et al. 2023; proposed for generative models by Stein et al. 2023.
    "dinov2": Pretrained(
        served_as="dinov2-vit-b-14",
        layer="dinov2",
        logits="",
        dim=768,
        side=224,
        file="dinov2_vitb14_pretrain.pth",
        url="",
        hub="facebookresearch/dinov2:dinov2_vitb14",
    ),
    # Radford et al. 2021.
    "clip": Pretrained(
        served_as="clip-vit-b-32",
        layer="clip",
        logits="",
        dim=512,
        side=224,
        file=f"clip-vit-b-32-{_CLIP_HASH}.pt",
        url=f"https://openaipublic.azureedge.net/clip/models/{_CLIP_HASH}/ViT-B-32.pt",
    ),
}

EXTRACTORS = ("classifier", *PRETRAINED)


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A feature network on disk. Small and picklable."""

    name: str  # one of EXTRACTORS
    weights_path: Path  # safetensors of the classifier; what torch-fidelity takes of the others
    weights_hash: str  # 16 hex digits of the file's bytes
    channels: int  # of the images that it is given
    # of the classifier alone
    num_classes: int = 0
    accuracy: float = 0.0  # share of the reference part that it classifies rightly; it has not seen that part
    chance: float = 0.0  # what always guessing the largest class gets right of it
    num_unseen: int = 1  # images of that part
    feature_rms: float = 1.0  # root mean square of its features on its own training images

    @property
    def pretrained(self) -> Pretrained | None:
        """What there is to know of a published network; None for the classifier."""
        return PRETRAINED.get(self.name)

    @property
    def knows_its_classes(self) -> bool:
        """Whether what it gets right is enough to believe in its features; see `harness.metrics.least_accuracy`."""
        return self.pretrained is not None or self.accuracy >= least_accuracy(self.chance, self.num_unseen)

    def proof(self) -> dict[str, float]:
        """What a reference record keeps of this, for reports; empty for a published network."""
        if self.pretrained:
            return {}
        return {
            "extractor_accuracy": self.accuracy,
            "extractor_chance": self.chance,
            "extractor_unseen": float(self.num_unseen),
        }

    @property
    def hashed_name(self) -> str:
        """Its name and its weights, for files that depend on both."""
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


def needs_training(name: str, data: PreparedData, cache: Path) -> bool:
    """Whether `prepare_extractor` would first train a classifier, which takes minutes at large sizes."""
    trains = name in EXTRACTORS and name not in PRETRAINED and data.num_classes is not None
    return trains and not Path(f"{_stem(name, data, cache)}.json").exists()


def _stem(name: str, data: PreparedData, cache: Path) -> Path:
    # The same training gives other floats under another torch, so the version is part of the name.
    version = torch.__version__.partition("+")[0]
    return cache_folder(cache, "extractors") / f"{name}-{data.fingerprint}-{TRAINING}-{version}"


def prepare_extractor(name: str, data: PreparedData, cache: Path, weights: Path | None = None) -> Extractor:
    """The extractor for this data, kept in the cache: the classifier is trained once for the data's content.

    The weights of a pretrained one are in the file `weights` or the one that GAN_EXTRACTOR_WEIGHTS names, else in
    torch.hub's copy, else they are downloaded.

    Raises:
        UserError: an unknown name, data without labels to train on, a classifier that learned too little of them to
            score by, or weights that cannot be had, read or used.
    """
    if name in PRETRAINED:
        return _prepare_pretrained(name, data.channels, cache, weights)
    if name not in EXTRACTORS:
        raise unknown_name("extractor", name, EXTRACTORS)
    if weights is not None:
        raise UserError(
            f"{WEIGHTS_OPTION} {weights} cannot be used with the extractor {name!r}, which is trained here; leave it "
            f"out, or take another extractor: {', '.join(PRETRAINED)}"
        )
    require_labels(name, data)
    extractor = train_extractor(data, cache)
    if not extractor.knows_its_classes:
        bar = least_accuracy(extractor.chance, extractor.num_unseen)
        raise UserError(
            f"the classifier that would score {data.dataset} gets {extractor.accuracy:.1%} of {extractor.num_unseen:,} "
            f"pictures right that it has not seen; {bar:.1%} are the least (always guessing one class: "
            f"{extractor.chance:.1%}), so its scores would mean nothing; see that each folder holds one kind of "
            f"picture (`python -m studies inspect {data.dataset}`), add pictures, or take another extractor: "
            f"{', '.join(PRETRAINED)}"
        )
    return extractor


def require_labels(name: str, data: PreparedData) -> None:
    """Refuse to score data without labels by a network that learns from them.

    Raises:
        UserError: the data have none.
    """
    if name == "classifier" and data.num_classes is None:
        raise UserError(
            f"{data.dataset} has no labels for the extractor {name!r} to learn from"
            f"{f' ({data.arrangement})' if data.arrangement else ''}; put its images into one sub-folder a class, at "
            f"least two, or take another extractor: {', '.join(PRETRAINED)}"
        )


def train_extractor(data: PreparedData, cache: Path) -> Extractor:
    """The classifier for labelled data, whatever it has learned; trained once for the data's content."""
    name = "classifier"
    stem = _stem(name, data, cache)
    stem.parent.mkdir(parents=True, exist_ok=True)
    weights_path, meta_path = Path(f"{stem}.safetensors"), Path(f"{stem}.json")
    with FileLock(f"{stem}.lock"):
        if not meta_path.exists():
            with _one_thread():
                network = train_classifier(data)
                images, labels = _tensors(data, "reference")
                guesses = torch.cat([network(batch)[1].argmax(1) for batch in images.split(500)])
                meta = {
                    "accuracy": (guesses == labels).double().mean().item(),
                    "feature_rms": network(_tensors(data, "extractor")[0])[0].square().mean().sqrt().item(),
                }
            write_file(weights_path, safetensors.torch.save(network.state_dict()))
            write_file(meta_path, json.dumps(meta).encode())  # last: it says that the weights are whole
    labels = data.labels("reference")
    return Extractor(
        name=name,
        chance=np.bincount(labels).max().item() / len(labels),
        num_unseen=len(labels),
        weights_path=weights_path,
        weights_hash=file_checksum(weights_path)[:16],
        channels=data.channels,
        num_classes=data.num_classes or 0,
        **json.loads(meta_path.read_text()),
    )


def prepare_online_extractor(extractor: Extractor, data: PreparedData, cache: Path) -> Extractor | None:
    """The extractor for the FID in the curves: the classifier, which is cheap.

    None where the data has no labels, or they are not what can be learned from its images.

    A pretrained network would take longer at each of the curve's points than the training between them.
    """
    if extractor.pretrained is None:
        return extractor
    classifier = train_extractor(data, cache) if data.num_classes is not None else None
    return classifier if classifier is not None and classifier.knows_its_classes else None


def _prepare_pretrained(name: str, channels: int, cache: Path, weights: Path | None) -> Extractor:
    """A copy of the weights in the cache, under their hash: what is scored with cannot change under a study."""
    pretrained = PRETRAINED[name]
    given = str(weights or os.environ.get(WEIGHTS_VARIABLE, ""))
    named = f"{WEIGHTS_OPTION if weights else WEIGHTS_VARIABLE}={given}"
    if given and pretrained.hub:
        raise UserError(
            f"{named} cannot be used with the extractor {name!r}, which torch-fidelity takes from torch.hub alone; "
            f"leave it out, and put code and weights into {torch.hub.get_dir()}"
        )
    source = Path(given).expanduser() if given else Path(torch.hub.get_dir()) / "checkpoints" / pretrained.file
    if given and not source.is_file():
        raise UserError(f"{named} is not a file; name the weights of the extractor {name!r}")
    folder = cache_folder(cache, "extractors")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        if not source.is_file() or (pretrained.hub and not _hub_code(pretrained).is_dir()):
            _download(name, source)
        _refuse_unreadable(source, pretrained)
        content = source.read_bytes()
        digest = checksum(content)[:16]
        kept = folder / f"{name}-{digest}{source.suffix}"
        if not kept.exists():
            write_file(kept, content)
    return Extractor(name=name, weights_path=kept, weights_hash=digest, channels=channels)


def _hub_code(pretrained: Pretrained) -> Path:
    return Path(torch.hub.get_dir()) / f"{pretrained.hub.partition(':')[0].replace('/', '_')}_main"


def _download(name: str, target: Path) -> None:
    pretrained = PRETRAINED[name]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with impatient():
            if pretrained.hub:
                torch.hub.load(*pretrained.hub.split(":"), verbose=False)
            else:
                torch.hub.download_url_to_file(pretrained.url, str(target), progress=False)
    except Exception as error:  # noqa: BLE001  torch.hub runs code of others, and raises as it likes
        reason = first_line(error)
        if pretrained.hub:
            code = f"its code (github.com/{pretrained.hub.partition(':')[0]}) at {_hub_code(pretrained)}"
            wanted = f"{code} and its weights at {target} by hand"
        else:
            wanted = f"{pretrained.url} at {target} by hand, or name a local copy with {WEIGHTS_OPTION}"
        raise UserError(f"cannot download the extractor {name!r} ({reason}); put {wanted}") from None


def _refuse_unreadable(path: Path, pretrained: Pretrained) -> None:
    """Before anything starts; and a pickle that holds more than tensors never reaches torch-fidelity, which runs it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript, the format of CLIP's weights, is deprecated
            if path.suffix == ".pt":
                torch.jit.load(path, map_location="cpu")
            else:
                torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  a file that is something else trips torch over anything
        raise UserError(f"{path} does not hold the weights of {pretrained.served_as}: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """What an error of somebody else's code says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def train_classifier(data: PreparedData) -> Classifier:
    """Train on the extractor's own part, with small shifts. Deterministic in one thread: a random stream of its own."""
    images, labels = _tensors(data, "extractor")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Classifier(data.channels, int(data.num_classes or 0)).train()
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


def _tensors(data: PreparedData, part: str) -> tuple[Tensor, Tensor]:
    """The part's images and labels."""
    return torch.from_numpy(np.array(data.images(part))), torch.from_numpy(data.labels(part))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over several threads differ in their last digits, and those would reach the protocol's name."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
