"""What a trial is: a frozen spec holding everything that affects its result, named by its content.

Imports nothing of the project but its error type.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args, get_type_hints

from harness.errors import UserError, unknown_name

RESULT_VERSION = 1
"""Raised by every change after which the same spec gives another result. Part of every trial_id."""

Architecture = Literal["fc", "dc"]
Norm = Literal["none", "batch"]
Loss = Literal["nonsaturating"]


def content_hash(payload: object, length: int = 16) -> str:
    """First `length` hex digits of SHA-256 over the canonical JSON of `payload` (sorted keys, no NaN)."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """Everything that affects the result of one trial; equal specs are the same trial.

    Every field is part of the identity, with no exceptions and no defaults left out: a changed default
    can never alias an old result. Where the work runs (CPU, GPU, threads) is provenance, not identity.

    Raises:
        UserError: a value outside its range, naming the field, the value and what is allowed.
    """

    # data
    dataset: str  # a name in harness.data.DATASETS, or "folder:PATH"
    data_fingerprint: str  # of the prepared pixels: content, resize, channels, split, subset
    resolution: int  # pixels, square images
    channels: int  # 1 grey, 3 RGB
    # networks; depth and width are defined by example in architectures/fc.py and dc.py
    architecture: Architecture
    latent_dim: int
    generator_depth: int
    generator_width: int
    generator_norm: Norm
    generator_dropout: float  # rate in [0, 1)
    discriminator_depth: int
    discriminator_width: int
    discriminator_dropout: float  # rate in [0, 1)
    # optimisation: separate Adam optimizers (Kingma & Ba 2015)
    loss: Loss
    batch_size: int  # images per step over all ranks
    kimg: float  # budget: thousand real images seen by D; 0 leaves the networks untrained
    generator_lr: float
    discriminator_lr: float
    adam_beta1: float
    adam_beta2: float
    ema_kimg: float  # half-life of the generator's moving average, in thousand images
    # noise
    latent_std: float = 1.0  # latents are drawn from N(0, latent_std²)
    instance_noise: float = 0.0  # std of Gaussian noise on every image that D sees (Sønderby et al. 2017)
    # the replicate
    seed: int
    world_size: int = 1  # ranks; each sees batch_size / world_size images, which batch norm notices

    def __post_init__(self) -> None:
        hints = get_type_hints(TrialSpec)
        for name, kind in hints.items():
            value = getattr(self, name)
            choices = get_args(kind)
            if choices and value not in choices:
                raise unknown_name(f"{name}", value, choices)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are the same level
            elif not choices and type(value) is not kind:
                raise UserError(f"{name}={value!r} must be of type {kind.__name__}")
        require = self._require
        require("resolution", 4 <= self.resolution <= 1024, "from 4 to 1024")
        require("channels", self.channels in (1, 3), "1 (grey) or 3 (RGB)")
        require("latent_dim", self.latent_dim >= 1, "at least 1")
        require("generator_depth", self.generator_depth >= 0, "at least 0")
        require("discriminator_depth", self.discriminator_depth >= 0, "at least 0")
        require("generator_width", self.generator_width >= 1, "at least 1")
        require("discriminator_width", self.discriminator_width >= 1, "at least 1")
        require("generator_dropout", 0 <= self.generator_dropout < 1, "in [0, 1)")
        require("discriminator_dropout", 0 <= self.discriminator_dropout < 1, "in [0, 1)")
        require("batch_size", self.batch_size >= 2, "at least 2")
        require("kimg", 0 <= self.kimg < math.inf, "at least 0 and finite")
        require("generator_lr", 0 < self.generator_lr < math.inf, "above 0 and finite")
        require("discriminator_lr", 0 < self.discriminator_lr < math.inf, "above 0 and finite")
        require("adam_beta1", 0 <= self.adam_beta1 < 1, "in [0, 1)")
        require("adam_beta2", 0 <= self.adam_beta2 < 1, "in [0, 1)")
        require("ema_kimg", 0 < self.ema_kimg < math.inf, "above 0 and finite")
        require("latent_std", 0 < self.latent_std < math.inf, "above 0 and finite")
        require("instance_noise", 0 <= self.instance_noise < math.inf, "at least 0 and finite")
        require("seed", 0 <= self.seed < 2**31, "from 0 to 2147483647")
        require("world_size", self.world_size >= 1, "at least 1")
        require(
            "batch_size",
            self.batch_size % self.world_size == 0,
            f"a multiple of world_size={self.world_size}",
        )

    def _require(self, name: str, ok: bool, allowed: str) -> None:
        if not ok:
            raise UserError(f"{name}={getattr(self, name)!r} is out of range; allowed: {allowed}")

    @cached_property
    def trial_id(self) -> str:
        """16 hex digits that name this trial: the hash of every field and of RESULT_VERSION."""
        return content_hash({"result_version": RESULT_VERSION, **self.to_dict()})

    @property
    def num_steps(self) -> int:
        """Updates of D (and of G) in the budget: kimg rounded up to whole batches."""
        return math.ceil(self.kimg * 1000 / self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialSpec":
        """The spec that `to_dict` wrote; unknown or missing fields raise UserError."""
        names = {f.name for f in dataclasses.fields(cls)}
        for name in values:
            if name not in names:
                raise unknown_name("spec field", name, sorted(names))
        missing = sorted(names - values.keys())
        if missing:
            raise UserError(f"spec lacks the fields {', '.join(missing)}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class ScoreProtocol:
    """Everything that a score depends on beside the trained weights. Tables refuse to mix two of them.

    Raises:
        UserError: a value outside its range.
    """

    extractor: str  # feature network, for example "classifier"
    extractor_hash: str  # SHA-256 of its weights, 16 digits
    reference: str  # which data the reference images are, for example "mnist-5k/reference"
    reference_hash: str  # SHA-256 of the reference pixels, 16 digits
    num_reference: int
    num_generated: int
    resolution: int
    channels: int
    weights: Literal["ema", "raw"] = "ema"  # which generator weights; always those at the end of the budget
    batch_norm: Literal["recalibrated"] = "recalibrated"  # statistics re-estimated for those weights
    quantisation: Literal["uint8-round"] = "uint8-round"
    precision: Literal["float32"] = "float32"
    latent_seed: int = 0  # the same evaluation latents for every trial of the same latent_dim
    kid_subset_size: int = 1000
    kid_subsets: int = 10
    kid_gamma: float  # of the kernel (gamma·x·y + 1)³; 1 / (dimension · mean square), so that scale cancels
    inception_splits: int = 10
    nearest_neighbours: int = 3  # of precision and recall
    versions: tuple[tuple[str, str], ...] = field(default=())  # of the libraries that compute the scores

    def __post_init__(self) -> None:
        object.__setattr__(self, "versions", tuple(tuple(v) for v in self.versions))
        for name in ("num_reference", "num_generated"):
            value = getattr(self, name)
            if value < self.kid_subset_size:
                raise UserError(
                    f"{name}={value} is out of range; allowed: at least kid_subset_size={self.kid_subset_size}"
                )

    @cached_property
    def protocol_id(self) -> str:
        """12 hex digits: the hash of every field."""
        return content_hash(self.to_dict(), 12)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ScoreProtocol":
        """The protocol that `to_dict` wrote."""
        return cls(**{**values, "versions": tuple((k, v) for k, v in values.get("versions", ()))})

    def describe(self) -> str:
        """One line for a table's caption."""
        return (
            f"FID/IS/KID/precision/recall by torch-fidelity, extractor {self.extractor}-{self.extractor_hash[:8]}, "
            f"{self.num_generated} generated against {self.num_reference} {self.reference} images "
            f"({self.reference_hash[:8]}) at {self.resolution}×{self.resolution}×{self.channels}, "
            f"{self.weights} weights at the end of the budget, {self.quantisation}"
        )
