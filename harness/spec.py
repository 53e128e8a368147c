"""What a trial is: a frozen spec holding everything that affects its result, named by its content.

Imports nothing of the project but its error type.
"""

import copy
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal, get_args, get_type_hints

from harness.errors import UserError, unknown_name

RESULT_VERSION = 1
"""Raised by every change after which the same spec gives another result. Part of every trial_id."""

REVISION = ", revision"
"""Behind a trick's name in the identity, where its revision is above 1."""

ARCHITECTURES = ("fc", "dc")
WIDEST = 2**16
"""Of a latent, and of a network's narrowest layer, at most."""

DEEPEST = 12
"""Layers of a shipped network, at most: 4,096 times its narrowest is wider than anybody trains."""

Norm = Literal["none", "batch"]
DiscriminatorNorm = Literal["own", "none", "spectral"]
LOSSES = ("nonsaturating", "least-squares", "hinge", "wasserstein")
Schedule = Literal["constant", "linear"]
AUGMENTATIONS = ("brightness", "translation", "cutout")
"""These three name what the repository ships; a user's own file may add to each, and then `code` tells its content."""

FOLDER = "folder:"
"""What a data set's name begins with that is a path. In the identity it stands alone: the pixels say the rest."""


def _trick(off: Any, *, revision: int = 1) -> Any:  # Any, as dataclasses.field is
    """A field whose default means that its code is never reached, now and for ever.

    While it is off it is left out of the identity, so that a new trick does not rename the trials that do
    without it. No other default may be left out: those can change.

    `revision` is raised by every change after which trials with the trick on, and no others, give another result;
    from 2 on it is part of their identity. CHANGELOG.md says what changed.
    """
    return field(default=off, metadata={"off": off, "revision": revision})


def content_hash(payload: object, length: int = 16) -> str:
    """First `length` hex digits of SHA-256 over the canonical JSON of `payload` (sorted keys, no NaN)."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """Everything that affects the result of one trial; equal specs are the same trial.

    Every field is part of the identity; only a trick that is off is left out of it, since off means that its code
    is not reached, and of a folder of images its path, since data_fingerprint names the pixels wherever they lie.
    Where the work runs (CPU, GPU, threads) is provenance, not identity.

    Raises:
        UserError: a value outside its range, naming the field, the value and what is allowed.
    """

    # data
    dataset: str  # a name in harness.data.DATASETS, or "folder:PATH", no part of the identity; "@N": N training images
    data_fingerprint: str  # of the prepared pixels: content, resize, channels, split, subset
    resolution: int  # pixels, square images
    channels: int  # 1 grey, 3 RGB
    # networks; depth and width are defined by example in architectures/fc.py and dc.py
    architecture: str  # one of ARCHITECTURES, or the user's own
    latent_dim: int
    generator_depth: int
    generator_width: int
    generator_norm: Norm
    generator_dropout: float  # rate in [0, 1)
    discriminator_depth: int
    discriminator_width: int
    discriminator_dropout: float  # rate in [0, 1)
    # optimisation: separate Adam optimizers (Kingma & Ba 2015)
    loss: str  # one of LOSSES, or the user's own
    batch_size: int  # images per step over all ranks
    kimg: float  # budget: thousand real images seen by D; 0 leaves the networks untrained
    generator_lr: float  # of its own (two time-scale update rule, Heusel et al. 2017)
    discriminator_lr: float
    adam_beta1: float
    adam_beta2: float
    ema_kimg: float  # half-life of the generator's moving average, in thousand images (Yazıcı et al. 2019)
    # noise
    latent_std: float = 1.0  # latents are drawn from N(0, latent_std²)
    instance_noise: float = 0.0  # std of Gaussian noise on every image that D sees (Sønderby et al. 2017)
    instance_noise_schedule: Schedule = _trick("constant")  # "linear" takes the noise to 0 at the budget's end
    # other stabilisation tricks; harness/training/tricks.py gives their sources
    generator_steps: int = _trick(1)  # updates of G a step (the founding document's remedy a)
    discriminator_steps: int = _trick(1)  # updates of D a step, each on a batch of its own (Goodfellow et al. 2014)
    mixed_batches: bool = _trick(False)  # D is taught on real and fake images in one batch
    mixed_generator: bool = _trick(False)  # G's fakes, too, are judged in that batch, not in one of their own
    real_label_low: float = _trick(1.0)  # D's targets are drawn from [low, high] for each image
    real_label_high: float = _trick(1.0)
    fake_label_low: float = _trick(0.0)
    fake_label_high: float = _trick(0.0)
    label_flip_rate: float = _trick(0.0)  # share of D's targets that are the other side's, in [0, 0.5)
    discriminator_norm: DiscriminatorNorm = _trick("own")  # "own" is the family's: batch norm in dc, none in fc
    r1_gamma: float = _trick(0.0, revision=2)  # weight of the penalty on D's gradient at real images
    gradient_penalty: float = _trick(0.0, revision=2)  # likewise on the norm of D's gradient, between real and fake
    gradient_clip: float = _trick(0.0)  # largest norm of each player's gradient (Pascanu et al. 2013); 0 for none
    augmentation: str = _trick("none")  # of all that D sees: names of AUGMENTATIONS joined by "+"
    code: str = _trick("", revision=2)  # hash of what the user's own architecture, loss or augmentation is made from
    sync_batch_norm: bool = _trick(False)  # batch norm's moments are over all ranks, not over each rank's own images
    # the replicate
    seed: int
    world_size: int = 1  # ranks; each sees batch_size / world_size images, which batch norm notices

    def __post_init__(self) -> None:
        for name, (kind, choices) in _field_types().items():
            value = getattr(self, name)
            if choices and value not in choices:
                raise unknown_name(f"{name}", value, choices)
            if kind is float and type(value) is int and abs(value) < 2**53:
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are the same level
            elif kind is float and value == 0:
                object.__setattr__(self, name, 0.0)  # and so are 0.0 and -0.0
            elif not choices and type(value) is not kind:
                raise UserError(f"{name}={value!r:.60} must be of type {kind.__name__}")
        require = self._require
        require("resolution", 4 <= self.resolution <= 1024, "from 4 to 1024")
        require("channels", self.channels in (1, 3), "1 (grey) or 3 (RGB)")
        require("latent_dim", 1 <= self.latent_dim <= WIDEST, f"from 1 to {WIDEST}")
        require("generator_depth", self.generator_depth >= 0, "at least 0")
        require("discriminator_depth", self.discriminator_depth >= 0, "at least 0")
        require("generator_width", 1 <= self.generator_width <= WIDEST, f"from 1 to {WIDEST}")
        require("discriminator_width", 1 <= self.discriminator_width <= WIDEST, f"from 1 to {WIDEST}")
        require("generator_dropout", 0 <= self.generator_dropout < 1, "in [0, 1)")
        require("discriminator_dropout", 0 <= self.discriminator_dropout < 1, "in [0, 1)")
        require("batch_size", self.batch_size >= 2, "at least 2")
        require("kimg", 0 <= self.kimg <= 1e9, "from 0 to 1e9")
        require("generator_lr", 0 < self.generator_lr < math.inf, "above 0 and finite")
        require("discriminator_lr", 0 < self.discriminator_lr < math.inf, "above 0 and finite")
        require("adam_beta1", 0 <= self.adam_beta1 < 1, "in [0, 1)")
        require("adam_beta2", 0 <= self.adam_beta2 < 1, "in [0, 1)")
        require("ema_kimg", 0 < self.ema_kimg < math.inf, "above 0 and finite")
        require("latent_std", 0 < self.latent_std < math.inf, "above 0 and finite")
        require("instance_noise", 0 <= self.instance_noise < math.inf, "at least 0 and finite")
        self._require_seed()
        require("world_size", self.world_size >= 1, "at least 1")
        for name in ("generator_steps", "discriminator_steps"):
            require(name, 1 <= getattr(self, name) <= 100, "from 1 to 100")
        for name in ("real_label_low", "real_label_high", "fake_label_low", "fake_label_high"):
            require(name, -1 <= getattr(self, name) <= 2, "from -1 to 2")
        require(
            "real_label_high",
            self.real_label_low <= self.real_label_high,
            f"at least real_label_low={self.real_label_low}",
        )
        require(
            "fake_label_high",
            self.fake_label_low <= self.fake_label_high,
            f"at least fake_label_low={self.fake_label_low}",
        )
        require("label_flip_rate", 0 <= self.label_flip_rate < 0.5, "in [0, 0.5): from 0.5 on, labels mislead D")
        for name in ("r1_gamma", "gradient_penalty", "gradient_clip"):
            require(name, 0 <= getattr(self, name) < math.inf, "at least 0 and finite")
        if not self.code:
            for name, value, known in _names(self.architecture, self.loss, self.augmentations):
                if value not in known:
                    alone = name == "augmentation" and value == self.augmentation
                    raise unknown_name(name, value, ("none", *known) if alone else known)
        require("augmentation", len(set(self.augmentations)) == len(self.augmentations), "each name once")
        require("code", not self.code or re.fullmatch("[0-9a-f]{16}", self.code) is not None, "'' or 16 hex digits")
        self._refuse_impossible_depths()
        self._refuse_contradictions()
        require(
            "batch_size",
            self.batch_size % self.world_size == 0 and self.batch_size >= 2 * self.world_size,
            f"a multiple of world_size={self.world_size}, at least 2 images a rank",
        )

    def _require(self, name: str, ok: bool, allowed: str) -> None:
        if not ok:
            raise UserError(f"{name}={getattr(self, name)!r} is out of range; allowed: {allowed}")

    def _require_seed(self) -> None:
        self._require("seed", 0 <= self.seed < 2**31, "from 0 to 2147483647")

    def _refuse_impossible_depths(self) -> None:
        """Refuse what architectures/dc.py could not build, without importing it, and torch with it.

        A test holds the two together at every resolution. Networks of a user's own are tried when a study is planned.
        """
        if self.architecture in ARCHITECTURES:
            for name in ("generator_depth", "discriminator_depth"):
                allowed = f"at most {DEEPEST} for {self.architecture}, where each further layer doubles the widest"
                self._require(name, getattr(self, name) <= DEEPEST, allowed)
        if self.architecture != "dc":
            return
        doublings, base = 0, self.resolution
        while base % 2 == 0 and base >= 8:
            doublings, base = doublings + 1, base // 2
        halvings = (self.resolution - 1).bit_length()
        at = f"for dc at resolution={self.resolution}"
        self._require(
            "generator_depth",
            self.generator_depth >= doublings,
            f"at least {doublings} {at}, which takes {doublings} stride-2 blocks from {base}×{base}",
        )
        self._require(
            "discriminator_depth",
            self.discriminator_depth <= halvings,
            f"at most {halvings} {at}, where 1×1 is reached",
        )

    def _refuse_contradictions(self) -> None:
        """Refuse tricks that make no sense together, with the reason."""
        targets = (self.real_label_low, self.real_label_high, self.fake_label_low, self.fake_label_high)
        relabels = targets != (1.0, 1.0, 0.0, 0.0) or self.label_flip_rate > 0
        penalises = self.r1_gamma > 0 or self.gradient_penalty > 0
        # The first layer of dc's D has none.
        batch_norm = self.architecture == "dc" and self.discriminator_norm == "own" and self.discriminator_depth > 1
        no_batch_norm = not batch_norm and self.architecture in ARCHITECTURES  # of a user's own network, who knows
        smooth = self.gradient_penalty > 0 or self.discriminator_norm == "spectral"
        for contradicts, name, reason in (
            (
                relabels and self.loss in ("hinge", "wasserstein"),
                "loss",
                "has no labels to smooth or flip; allowed with them: nonsaturating, least-squares",
            ),
            (
                penalises and batch_norm,
                "discriminator_norm",
                "is batch norm here, which mixes the images whose own gradients are penalised; allowed: none, spectral",
            ),
            (
                self.loss == "wasserstein" and not smooth,
                "loss",
                "needs a smooth D; allowed with gradient_penalty above 0 or discriminator_norm='spectral'",
            ),
            (
                self.real_label_low <= self.fake_label_high,
                "real_label_low",
                f"tells D that real images are no more real than fake ones; allowed: above fake_label_high="
                f"{self.fake_label_high!r}",
            ),
            (
                self.architecture == "fc" and self.discriminator_norm == "none",
                "discriminator_norm",
                "is what fc has anyway, and would be one trial under two names; allowed with it: own, spectral",
            ),
            (
                self.architecture == "dc" and self.discriminator_norm == "none" and self.discriminator_depth < 2,
                "discriminator_norm",
                "is what dc has anyway at discriminator_depth below 2; allowed with it: own, spectral",
            ),
            *self._without_effect(),
            (
                self.mixed_batches and no_batch_norm,
                "mixed_batches",
                "does nothing without batch norm in D; allowed with architecture='dc', discriminator_norm='own' and "
                "discriminator_depth above 1",
            ),
            (
                self.mixed_generator and (not self.mixed_batches or self.generator_steps > 1),
                "mixed_generator",
                "judges G in the batch that D is taught on; allowed with mixed_batches=True and generator_steps=1",
            ),
            (
                self.sync_batch_norm and self.world_size == 1,
                "sync_batch_norm",
                "does nothing on one rank; allowed with world_size above 1",
            ),
            (
                self.sync_batch_norm and no_batch_norm and self.generator_norm != "batch",
                "sync_batch_norm",
                "does nothing without batch norm; allowed with generator_norm='batch', or with architecture='dc' and "
                "discriminator_norm='own'",
            ),
            (
                self.instance_noise_schedule != "constant" and self.instance_noise == 0,
                "instance_noise_schedule",
                "has no noise to take down; allowed with instance_noise above 0",
            ),
        ):
            if contradicts:
                raise UserError(f"{name}={getattr(self, name)!r} {reason}")

    def _without_effect(self) -> Iterator[tuple[bool, str, str]]:
        """Of the shipped networks: what no layer would ever see, so that equal networks would be two trials."""
        for name, architecture, depth, least in (
            ("generator_dropout", "dc", "generator_depth", 4),  # none in the last three blocks
            ("generator_dropout", "fc", "generator_depth", 1),
            ("discriminator_dropout", "dc", "discriminator_depth", 1),
            ("discriminator_dropout", "fc", "discriminator_depth", 1),
        ):
            idle = self.architecture == architecture and getattr(self, depth) < least and getattr(self, name) > 0
            yield idle, name, f"does nothing in {architecture} at {depth} below {least}; allowed there: 0"
        idle = self.architecture == "fc" and self.generator_depth == 0 and self.generator_norm != "none"
        yield (
            idle,
            "generator_norm",
            "normalises hidden layers, and fc has none at generator_depth=0; allowed there: none",
        )

    def at_seed(self, seed: int) -> "TrialSpec":
        """The same trial with another seed. Only that is checked: all else was when this spec was made."""
        other = copy.copy(self)
        vars(other).pop("trial_id", None)
        object.__setattr__(other, "seed", seed)
        other._require_seed()
        return other

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The names in `augmentation`; none for "none"."""
        return _split(self.augmentation)

    @cached_property
    def trial_id(self) -> str:
        """16 hex digits that name this trial: the hash of RESULT_VERSION and of every field but tricks that are off."""
        named = {**_identity(self), "dataset": _without_path(self.dataset)}
        return content_hash({"result_version": RESULT_VERSION, **named})

    @property
    def path_id(self) -> str:
        """What `trial_id` was while a folder's path was part of it: another name of the same results."""
        return content_hash({"result_version": RESULT_VERSION, **_identity(self)})

    @property
    def former_id(self) -> str:
        """What `path_id` was before any trick was revised: of trials that use one, the name of other results."""
        former = {name: value for name, value in _identity(self).items() if not name.endswith(REVISION)}
        return content_hash({"result_version": RESULT_VERSION, **former})

    @property
    def num_steps(self) -> int:
        """Steps in the budget: kimg rounded up to whole steps, each of discriminator_steps batches of real images."""
        return math.ceil(self.kimg * 1000 / (self.batch_size * self.discriminator_steps))

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {name: getattr(self, name) for name in _field_types()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialSpec":
        """The spec that `to_dict` wrote; unknown or missing fields raise UserError.

        A trick that was not there yet when it was written is off.
        """
        names, off = _field_types().keys(), _off(cls)
        for name in sorted(values.keys() - names):
            raise unknown_name("spec field", name, sorted(names))
        missing = sorted(names - values.keys() - off.keys())
        if missing:
            raise UserError(f"spec lacks the fields {', '.join(missing)}")
        return cls(**{**off, **values})


def _identity(spec: Any) -> dict[str, Any]:
    """The fields of a frozen dataclass without those that are off; revisions from 2 on of those that are on."""
    off = _off(type(spec))
    on = {name: value for name, value in spec.to_dict().items() if name not in off or value != off[name]}
    return {**on, **{name + REVISION: number for name, number in _revised(type(spec)).items() if name in on}}


def _without_path(name: str) -> str:
    """A data set's name, or that of its reference, as it is in an identity: "folder:" of "folder:/home/me/faces"."""
    return FOLDER if name.startswith(FOLDER) else name


@cache
def _revised(kind: Any) -> Mapping[str, int]:
    """Field -> its revision, of those that have had more than one."""
    revisions = {f.name: f.metadata.get("revision", 1) for f in dataclasses.fields(kind)}
    return {name: number for name, number in revisions.items() if number > 1}


@cache
def _off(kind: Any) -> Mapping[str, Any]:
    """Field -> its value when off, of the fields that `_trick` made."""
    return {f.name: f.metadata["off"] for f in dataclasses.fields(kind) if "off" in f.metadata}


def own_names(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, name) of each architecture, loss and augmentation in these spec fields that the repository lacks."""
    names = _names(values["architecture"], values["loss"], _split(values.get("augmentation", "none")))
    return [(field, value) for field, value, known in names if value not in known]


def _names(architecture: str, loss: str, augmentations: tuple[str, ...]) -> list[tuple[str, str, tuple[str, ...]]]:
    """(field, the name it holds, the names that the repository ships)."""
    augmented = [("augmentation", name, AUGMENTATIONS) for name in augmentations]
    return [("architecture", architecture, ARCHITECTURES), ("loss", loss, LOSSES), *augmented]


def _split(augmentation: str) -> tuple[str, ...]:
    return () if augmentation == "none" else tuple(augmentation.split("+"))


@cache
def _field_types() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Field -> its type, and the values that a Literal allows."""
    return {name: (kind, get_args(kind)) for name, kind in get_type_hints(TrialSpec).items()}


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
    # of the pretrained extractors; off for the classifier, which has one layer and takes images as they are
    feature_layer: str = _trick("")  # for FID, KID, precision and recall
    preparation: str = _trick("")  # what is done to images before they reach the network

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
        """12 hex digits: the hash of every field but those that are off, and but a folder's path."""
        return content_hash({**_identity(self), "reference": _without_path(self.reference)}, 12)

    @property
    def path_id(self) -> str:
        """What `protocol_id` was while a folder's path was part of it: another name of the same scores."""
        return content_hash(_identity(self), 12)

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
            f"FID/IS/KID/precision/recall by torch-fidelity, extractor {self.extractor}-{self.extractor_hash[:8]}"
            f"{f' (layer {self.feature_layer}; {self.preparation})' if self.feature_layer else ''}, "
            f"{self.num_generated} generated against {self.num_reference} {self.reference} images "
            f"({self.reference_hash[:8]}) at {self.resolution}×{self.resolution}×{self.channels}, "
            f"{self.weights} weights at the end of the budget, {self.quantisation}"
        )
