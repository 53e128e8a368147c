"""What a trial is: a frozen spec holding everything that affects its result, named by its content.

Imports nothing of the project but its error type and the networks' families and limits; no torch.

What is in the identities of a trial and of a protocol:

                                                trial_id  path_id  former_id | protocol_id  path_id
    RESULT_VERSION                                  x        x         x     |
    every field but tricks that are off             x        x         x     |      x          x
    the revision, from 2 on, of a trick that is on  x        x               |      x          x
    the path of a folder of images                           x         x     |                 x

Results are stored under the first of each. The others are earlier names of the same results; former_id, of a trial with
a trick that was revised, is the name of other results.
"""

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import ceil, inf
from typing import Any, Literal, get_args, get_type_hints

import architectures
from architectures import ARCHITECTURES, NetworkSpec
from architectures.contract import Registry, refuse
from harness.errors import UserError, unknown_name

RESULT_VERSION = 1
"""Raised by every change after which the same spec gives another result. Part of every trial_id."""

REVISION = ", revision"
"""Behind a trick's name in the identity, where its revision is above 1."""

WIDEST = 2**16
"""Of a latent, and of a network's narrowest layer, at most."""

Norm = Literal["none", "batch"]
DiscriminatorNorm = Literal["own", "none", "spectral"]
LOSSES = ("nonsaturating", "least-squares", "hinge", "wasserstein", "relativistic")
UNLABELLED = ("hinge", "wasserstein", "relativistic")
UpdateRule = Literal["simultaneous", "alternating"]
Schedule = Literal["constant", "linear"]
NumberFormat = Literal["float32", "bfloat16"]
AUGMENTATIONS = ("brightness", "translation", "cutout")
SHIPPED = {"architecture": ARCHITECTURES.shipped, "loss": LOSSES, "augmentation": AUGMENTATIONS}
"""What the repository ships; a user's own file may add to each, and then `code` tells its content."""

_NETWORK_FIELDS = tuple(f.name for f in dataclasses.fields(NetworkSpec))

FOLDER = "folder:"
"""What a data set's name begins with that is a path. In the identity it stands alone: the pixels say the rest."""


def _trick(off: Any, *, revision: int = 1) -> Any:  # Any, as dataclasses.field is
    """A field whose default means that its code is never reached, now and for ever: so a new trick renames no trial.

    `revision` is raised by every change after which trials with the trick on, and no others, give another result.
    CHANGELOG.md says what changed. No other default may be left out of the identity: those can change.
    """
    return field(default=off, metadata={"off": off, "revision": revision})


def content_hash(payload: object, length: int = 16) -> str:
    """First `length` hex digits of SHA-256 over the canonical JSON of `payload` (sorted keys, no NaN)."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {  # field -> (what is allowed, the same in words)
    name: (allowed, words)
    for names, allowed, words in (
        ("resolution", lambda v: 4 <= v <= 1024, "from 4 to 1024"),
        ("channels", lambda v: v in (1, 3), "1 (grey) or 3 (RGB)"),
        ("latent_dim generator_width discriminator_width", lambda v: 1 <= v <= WIDEST, f"from 1 to {WIDEST}"),
        ("batch_size", lambda v: v >= 2, "at least 2"),
        ("kimg", lambda v: 0 <= v <= 1e9, "from 0 to 1e9"),
        ("generator_lr discriminator_lr ema_kimg ema_ramp latent_std", lambda v: 0 < v < inf, "above 0 and finite"),
        ("adam_beta1 adam_beta2 adam_beta2_end", lambda v: 0 <= v < 1, "in [0, 1)"),
        ("instance_noise gradient_penalty gradient_clip", lambda v: 0 <= v < inf, "at least 0 and finite"),
        ("r1_gamma r2_gamma lr_end penalty_end", lambda v: 0 <= v < inf, "at least 0 and finite"),
        ("generator_steps discriminator_steps penalty_interval", lambda v: 1 <= v <= 100, "from 1 to 100"),
        ("real_label_low real_label_high fake_label_low fake_label_high", lambda v: -1 <= v <= 2, "from -1 to 2"),
        ("label_flip_rate", lambda v: 0 <= v < 0.5, "in [0, 0.5): from 0.5 on, labels mislead D"),
        ("code", lambda v: re.fullmatch("([0-9a-f]{16})?", v) is not None, "'' or 16 hex digits"),
        ("seed", lambda v: 0 <= v < 2**31, "from 0 to 2147483647"),
        ("world_size", lambda v: v >= 1, "at least 1"),
    )
    for name in names.split()
}
"""Limits of networks beside these are in architectures/contract.py, and in each family's own rules."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """Everything that affects the result of one trial; equal specs are the same trial.

    Where the work runs (CPU, GPU, threads) is provenance, not identity.

    Raises:
        UserError: a value outside its range, naming the field, the value and what is allowed.
    """

    # data
    dataset: str  # a name in harness.data.DATASETS, or "folder:PATH", no part of the identity; "@N": N training images
    data_fingerprint: str  # of the prepared pixels: content, resize, channels, split, subset
    resolution: int  # pixels, square images
    channels: int  # 1 grey, 3 RGB
    # networks: the fields of architectures.NetworkSpec; depth and width by example in architectures/fc.py and dc.py
    architecture: str  # one that architectures.ARCHITECTURES ships, or the user's own
    latent_dim: int  # size of the latent vector
    generator_depth: int  # hidden layers of G
    generator_width: int  # units or channels of its narrowest hidden layer
    generator_norm: Norm  # batch norm behind its hidden layers, or none (Ioffe & Szegedy 2015)
    generator_dropout: float  # rate in G
    discriminator_depth: int  # hidden layers of D
    discriminator_width: int  # units or channels of its narrowest hidden layer
    discriminator_dropout: float  # rate in D
    # optimisation: separate Adam optimizers (Kingma & Ba 2015)
    loss: str  # one of LOSSES, or the user's own
    batch_size: int  # images per step over all ranks
    kimg: float  # budget: thousand real images seen by D; 0 leaves the networks untrained
    generator_lr: float  # learning rate of G, apart from D's (two time-scale update rule, Heusel et al. 2017)
    discriminator_lr: float  # learning rate of D
    adam_beta1: float  # decay of both optimizers' mean gradient
    adam_beta2: float  # decay of their mean squared gradient
    ema_kimg: float  # half-life of G's moving average (Yazıcı et al. 2019), in kimg
    number_format: NumberFormat = _trick("float32")  # of networks in training; harness/training/number_format.py
    lr_end: float = _trick(1.0)  # both learning rates end at this share, along a cosine; training/schedules.py
    adam_beta2_end: float = _trick(0.0)  # adam_beta2 ends here, likewise; 0 for no schedule
    ema_ramp: float = _trick(0.05)  # the average's half-life is at most this share of what was seen so far
    # noise
    latent_std: float = 1.0  # latents are drawn from N(0, latent_std²)
    instance_noise: float = 0.0  # std of Gaussian noise on every image that D sees (Sønderby et al. 2017)
    instance_noise_schedule: Schedule = _trick("constant")  # "linear" takes the noise to 0 at the budget's end
    # the order of updates; harness/training/loop.py
    update_rule: UpdateRule = _trick("simultaneous")  # "alternating": G is judged by the D that was just updated
    fresh_latents: bool = _trick(False)  # of an alternating G: from latents that D was not just taught on
    # other stabilisation tricks; harness/training/tricks.py gives their sources
    generator_steps: int = _trick(1)  # updates of G a step (the founding document's remedy a)
    discriminator_steps: int = _trick(1)  # updates of D a step, each on a batch of its own (Goodfellow et al. 2014)
    mixed_batches: bool = _trick(False)  # D is taught on real and fake images in one batch
    mixed_generator: bool = _trick(False)  # G's fakes, too, are judged in that batch, not in one of their own
    real_label_low: float = _trick(1.0)  # D's targets for real images are drawn from [low, high]
    real_label_high: float = _trick(1.0)  # likewise; low below 1 is smoothing (Salimans et al. 2016)
    fake_label_low: float = _trick(0.0)  # the same of fake images
    fake_label_high: float = _trick(0.0)  # likewise
    label_flip_rate: float = _trick(0.0)  # share of D's targets that are the other side's, in [0, 0.5)
    discriminator_norm: DiscriminatorNorm = _trick("own")  # own: batch in dc, else none; spectral: Miyato et al. 2018
    r1_gamma: float = _trick(0.0, revision=2)  # penalty on D's gradient at real images (Mescheder et al. 2018)
    r2_gamma: float = _trick(0.0)  # likewise at fake images
    gradient_penalty: float = _trick(0.0, revision=2)  # of a penalty on its norm between both (Gulrajani et al. 2017)
    penalty_interval: int = _trick(1)  # steps from one with penalties to the next; they are as many times as large
    penalty_end: float = _trick(1.0)  # penalties end at this share of their weight, along a cosine
    gradient_clip: float = _trick(0.0)  # largest norm of each player's gradient (Pascanu et al. 2013); 0 for none
    augmentation: str = _trick("none")  # of all that D sees: AUGMENTATIONS joined by "+" (Zhao et al. 2020)
    code: str = _trick("", revision=2)  # hash of what the user's own architecture, loss or augmentation is made from
    sync_batch_norm: bool = _trick(False)  # batch norm's moments are over all ranks, not over each rank's own images
    # the replicate
    seed: int  # from which all its randomness comes
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
        for name in RANGES:
            self._require_in_range(name)
        for low, high in (("real_label_low", "real_label_high"), ("fake_label_low", "fake_label_high")):
            least = getattr(self, low)
            self._require(high, least <= getattr(self, high), f"at least {low}={least}")
        for name, value, known in [] if self.code else _names(vars(self)):
            if value not in known:
                alone = name == "augmentation" and value == self.augmentation
                raise unknown_name(name, value, ("none", *known) if alone else known)
        self._require("augmentation", len(set(self.augmentations)) == len(self.augmentations), "each name once")
        for name, reason in self._contradictions(self._own_batch_norm()):
            raise UserError(f"{name}={getattr(self, name)!r} {reason}")
        shared = self.batch_size % self.world_size == 0 and self.batch_size >= 2 * self.world_size
        self._require("batch_size", shared, f"a multiple of world_size={self.world_size}, at least 2 images a rank")

    def _require(self, name: str, ok: bool, allowed: str) -> None:
        if not ok:
            raise UserError(f"{name}={getattr(self, name)!r} is out of range; allowed: {allowed}")

    def _require_in_range(self, name: str) -> None:
        allowed, words = RANGES[name]
        self._require(name, allowed(getattr(self, name)), words)

    def _own_batch_norm(self) -> bool | None:
        """Whether D has batch norm where its norm is its family's own; None for a user's own network: who knows.

        Raises:
            UserError: no network has these values, or the shipped family refuses them. Others are built when planned.
        """
        try:
            if self.architecture not in ARCHITECTURES.shipped:
                NetworkSpec(**self.network_choices)
                return None
            network = architectures.describe(self.architecture, **self.network_choices)
            refuse(network, ARCHITECTURES[self.architecture].refusals(network))
        except ValueError as error:
            raise UserError(str(error)) from None
        own = architectures.defaults(self.architecture, resolution=self.resolution)["discriminator_norm"]
        return dataclasses.replace(network, discriminator_norm=own).discriminator_has_batch_norm

    def _contradictions(self, own_batch_norm: bool | None) -> Iterator[tuple[str, str]]:
        """(field, why its value makes no sense beside the others, and what is allowed)."""
        targets = (self.real_label_low, self.real_label_high, self.fake_label_low, self.fake_label_high)
        relabels = targets != (1.0, 1.0, 0.0, 0.0) or self.label_flip_rate > 0
        penalises = self.r1_gamma > 0 or self.r2_gamma > 0 or self.gradient_penalty > 0
        batch_norm = bool(own_batch_norm) and self.discriminator_norm == "own"
        no_batch_norm = own_batch_norm is not None and not batch_norm
        if relabels and self.loss in UNLABELLED:
            yield "loss", "has no labels to smooth or flip; allowed with them: nonsaturating, least-squares"
        if penalises and batch_norm:
            why = "is batch norm here, which mixes the images whose own gradients are penalised"
            yield "discriminator_norm", f"{why}; allowed: none, spectral"
        if self.loss == "wasserstein" and self.gradient_penalty == 0 and self.discriminator_norm != "spectral":
            yield "loss", "needs a smooth D; allowed with gradient_penalty above 0 or discriminator_norm='spectral'"
        for name in ("penalty_interval", "penalty_end"):
            if getattr(self, name) != 1 and not penalises:
                yield name, "has no penalty to act on; allowed with r1_gamma, r2_gamma or gradient_penalty above 0"
        if self.adam_beta2_end == self.adam_beta2:
            yield "adam_beta2_end", "is adam_beta2, one trial under two names; allowed: another value, or 0 for none"
        if self.fresh_latents and self.update_rule == "simultaneous":
            yield "fresh_latents", "is for a G that is updated after D; allowed with update_rule='alternating'"
        if self.real_label_low <= self.fake_label_high:
            allowed = f"above fake_label_high={self.fake_label_high!r}"
            yield "real_label_low", f"tells D that real images are no more real than fake ones; allowed: {allowed}"
        if self.discriminator_norm == "none" and own_batch_norm is False:
            at = f"{self.architecture} has anyway at discriminator_depth={self.discriminator_depth}"
            yield "discriminator_norm", f"is what {at}, one trial under two names; allowed with it: own, spectral"
        if self.mixed_batches and no_batch_norm:
            allowed = "architecture='dc', discriminator_norm='own' and discriminator_depth above 1"
            yield "mixed_batches", f"does nothing without batch norm in D; allowed with {allowed}"
        if self.mixed_generator and (not self.mixed_batches or self.generator_steps > 1):
            allowed = "mixed_batches=True and generator_steps=1"
            yield "mixed_generator", f"judges G in the batch that D is taught on; allowed with {allowed}"
        if self.sync_batch_norm and self.world_size == 1:
            yield "sync_batch_norm", "does nothing on one rank; allowed with world_size above 1"
        if self.sync_batch_norm and no_batch_norm and self.generator_norm != "batch":
            allowed = "generator_norm='batch', or with architecture='dc' and discriminator_norm='own'"
            yield "sync_batch_norm", f"does nothing without batch norm; allowed with {allowed}"
        if self.instance_noise_schedule != "constant" and self.instance_noise == 0:
            yield "instance_noise_schedule", "has no noise to take down; allowed with instance_noise above 0"

    def at_seed(self, seed: int) -> "TrialSpec":
        """The same trial with another seed. Only that is checked: all else was when this spec was made."""
        other = copy.copy(self)
        vars(other).pop("trial_id", None)
        object.__setattr__(other, "seed", seed)
        other._require_in_range("seed")
        return other

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The names in `augmentation`; none for "none"."""
        return _split(self.augmentation)

    @property
    def network_choices(self) -> dict[str, Any]:
        """The arguments of `architectures.build` for this trial's networks; None where the family's own is meant."""
        norm = None if self.discriminator_norm == "own" else self.discriminator_norm
        return {name: getattr(self, name) for name in _NETWORK_FIELDS} | {"discriminator_norm": norm}

    @cached_property
    def trial_id(self) -> str:
        """16 hex digits that name this trial."""
        named = {**_identity(self), "dataset": _without_path(self.dataset)}
        return content_hash({"result_version": RESULT_VERSION, **named})

    @property
    def path_id(self) -> str:
        """What `trial_id` was while a folder's path was part of it: another name of the same results."""
        return content_hash({"result_version": RESULT_VERSION, **_identity(self)})

    @property
    def former_id(self) -> str:
        """What `path_id` was before any trick was revised: of trials that use one, the name of other results."""
        return content_hash({"result_version": RESULT_VERSION, **_identity(self, revisions=False)})

    @property
    def num_steps(self) -> int:
        """Steps in the budget: kimg rounded up to whole steps, each of discriminator_steps batches of real images."""
        return ceil(self.kimg * 1000 / (self.batch_size * self.discriminator_steps))

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {name: getattr(self, name) for name in _field_types()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialSpec":
        """The spec that `to_dict` wrote, with tricks off that are newer; unknown or missing fields raise UserError."""
        names, off = _field_types().keys(), {name: trick["off"] for name, trick in _tricks(cls).items()}
        for name in sorted(values.keys() - names):
            raise unknown_name("spec field", name, sorted(names))
        if missing := sorted(names - values.keys() - off.keys()):
            raise UserError(f"spec lacks the fields {', '.join(missing)}")
        return cls(**{**off, **values})


def _identity(spec: Any, *, revisions: bool = True) -> dict[str, Any]:
    """The fields of a frozen dataclass without those that are off; revisions from 2 on of those that are on."""
    tricks, values = _tricks(type(spec)), spec.to_dict()
    on = {name: value for name, value in values.items() if name not in tricks or value != tricks[name]["off"]}
    revised = {name: tricks[name]["revision"] for name in on.keys() & tricks.keys() if tricks[name]["revision"] > 1}
    return {**on, **({name + REVISION: number for name, number in revised.items()} if revisions else {})}


def _without_path(name: str) -> str:
    """A data set's name, or that of its reference, as it is in an identity: "folder:" of "folder:/home/me/faces"."""
    return FOLDER if name.startswith(FOLDER) else name


@cache
def _tricks(kind: Any) -> Mapping[str, Mapping[str, Any]]:
    """Field -> its "off" and its "revision", of the fields that `_trick` made."""
    return {f.name: f.metadata for f in dataclasses.fields(kind) if "off" in f.metadata}


def own_names(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, name) of each architecture, loss and augmentation in these spec fields that the repository lacks."""
    return [(field, value) for field, value, shipped in _names(values) if value not in shipped]


def registered(field: str) -> tuple[str, ...]:
    """All names that this spec field may hold in this process: those shipped, and what a user's own file has added."""
    return tuple(Registry.of[field]) if field in Registry.of else SHIPPED[field]  # nobody adds to what is not imported


def _names(values: Mapping[str, Any]) -> list[tuple[str, str, tuple[str, ...]]]:
    """(field, the name it holds, the names that the repository ships)."""
    augmented = [("augmentation", name, AUGMENTATIONS) for name in _split(values.get("augmentation", "none"))]
    named = [(field, values[field], SHIPPED[field]) for field in ("architecture", "loss") if field in values]
    return named + augmented


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
    num_reference: int  # images of it
    num_generated: int  # images of the generator
    resolution: int  # pixels, of both
    channels: int  # 1 or 3, of both
    weights: Literal["ema", "raw"] = "ema"  # which generator weights; always those at the end of the budget
    batch_norm: Literal["recalibrated"] = "recalibrated"  # statistics re-estimated for those weights
    quantisation: Literal["uint8-round"] = "uint8-round"  # of generated images
    precision: Literal["float32"] = "float32"  # of the generator and the network
    latent_seed: int = 0  # the same evaluation latents for every trial of the same latent_dim
    kid_subset_size: int = 1000  # images of each side at once
    kid_subsets: int = 10  # of which KID is the mean
    kid_gamma: float  # of the kernel (gamma·x·y + 1)³; 1 / (dimension · mean square), so that scale cancels
    inception_splits: int = 10  # of which IS is the mean
    nearest_neighbours: int = 3  # of precision and recall
    versions: tuple[tuple[str, str], ...] = field(default=())  # of the libraries, in protocols of before; now none
    # of the pretrained extractors; off for the classifier, which has one layer and takes images as they are
    feature_layer: str = _trick("")  # for FID, KID, precision and recall
    preparation: str = _trick("")  # what is done to images before they reach the network
    golden: str = _trick("")  # of scores made where golden images score otherwise than on record: what they score there

    def __post_init__(self) -> None:
        object.__setattr__(self, "versions", tuple(tuple(v) for v in self.versions))
        least = f"at least kid_subset_size={self.kid_subset_size}"
        for name, value in (("num_reference", self.num_reference), ("num_generated", self.num_generated)):
            if value < self.kid_subset_size:
                raise UserError(f"{name}={value} is out of range; allowed: {least}")

    @cached_property
    def protocol_id(self) -> str:
        """12 hex digits that name this protocol."""
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
        return cls(**values)

    def describe(self) -> str:
        """One line for a table's caption."""
        images = f"{self.num_reference} {self.reference} images" if self.num_reference else f"given {self.reference}"
        return (
            f"FID/IS/KID/precision/recall by torch-fidelity, extractor {self.extractor}-{self.extractor_hash[:8]}"
            f"{f' (layer {self.feature_layer}; {self.preparation})' if self.feature_layer else ''}, "
            f"{self.num_generated} generated against {images} "
            f"({self.reference_hash[:8]}) at {self.resolution}×{self.resolution}×{self.channels}, "
            f"{self.weights} weights at the end of the budget, {self.quantisation}"
        )
