"""The yardstick: which network scores a data set, and whether it measures here as it did where it was made.

A classifier is, in this order, the file that the user names, the one that this package ships for the data, the one
that the store keeps, or one trained now and kept from then on. So a store has one yardstick for good, whatever becomes
of its cache, its machine and the versions of the libraries.
"""

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from harness import terminal
from harness.data import PreparedData
from harness.errors import UserError, unknown_name
from harness.files import checksum, file_checksum, write_file
from harness.metrics import least_accuracy
from harness.plugins import UserCode
from harness.scoring.classifier import (
    TRAINING,
    ClassifierCard,
    Network,
    by_channel,
    classifier_bytes,
    feature_dim,
    learned_from,
    one_thread,
    read_card,
    seconds_to_train,
    train_classifier,
)
from harness.scoring.extractors import (
    CLASSIFIER,
    EXTRACTORS,
    PRETRAINED,
    WEIGHTS_OPTION,
    Extractor,
    another_extractor,
    prepare_pretrained,
    require_labels,
)
from harness.scoring.fidelity import score_images
from harness.scoring.networks import FeatureNetwork, built, feature_network, register_own
from harness.scoring.own import prepare_own
from harness.sources import split_subset
from harness.spec import ScoreProtocol
from harness.storage.layout import cache_folder

SHIPPED = Path(__file__).with_name("shipped")
"""Classifiers that come with this package, for data sets that packages ship, too."""

DIGITS = SHIPPED / "mnist-5k.safetensors"
"""The classifier of grey digits, which knows each channel of stacked-mnist."""

STACKED_CARD = SHIPPED / "stacked-mnist.json"
"""The card of DIGITS shown each channel of stacked-mnist, and the hash of the weights that it is of. Measured on each
machine, its last digits, and with them the name of the protocol, would be the processor's."""

GOLDEN_IMAGES, GOLDEN_IMAGES_PRETRAINED = 500, 64  # of the second kind a laptop takes six a second
FEWEST_GOLDEN = 10
SHOWN = 16  # images, to a network that may be of no use
GOLDEN_NOISE = 32  # standard deviation, of 255
ALIKE = 1e-3
"""Difference of features of the same images in other batches, of the largest feature, from which on they are others."""
TOLERANCE = 1e-6
"""Relative difference of golden scores up to which two machines measure alike. In float32, instruction sets differ by
some 1e-7."""
KID_SCALE = 0.1
"""To the scale of at least this a golden KID is held: it is a difference of means of kernel values of 1 and more, whose
rounding it has however small it is. Between two processes of one machine 3e-8 was seen, of a KID of -0.02."""


def seconds_to_learn(data: PreparedData, kept: Path) -> float:
    """What `prepare_classifier` would take of a core to train one, roughly; 0 where that is there or cannot be had."""
    if data.num_classes is None or _has_digits_in_channels(data):
        return 0.0
    if _found(learned_from(*_tensors(data, "extractor")), kept) is not None:
        return 0.0
    return seconds_to_train(len(data.labels("extractor")), data.resolution)


def prepare_extractor(
    name: str,
    data: PreparedData,
    cache: Path,
    weights: Path | None = None,
    kept: Path | None = None,
    code: UserCode | None = None,
) -> Extractor:
    """The extractor for this data, with its weights in the cache.

    Args:
        name: One of EXTRACTORS.
        data: What is to be scored.
        cache: Of a store.
        weights: A file: of a pretrained network (else the one that GAN_EXTRACTOR_WEIGHTS names, else torch.hub's copy,
            else a download), of one of the user's own, or a classifier that was trained on this data elsewhere.
        kept: The folder in which classifiers are kept; one in the cache if None.
        code: The user's file, which may have entries in EXTRACTORS.

    Raises:
        UserError: an unknown name, data without labels to train on, a classifier that learned too little of them to
            score by, or weights that cannot be had, read or used, or are damaged.
    """
    if name in PRETRAINED:
        return prepare_pretrained(name, data.channels, cache, weights, built)
    if name not in EXTRACTORS:
        raise unknown_name("extractor", name, EXTRACTORS)
    if name != CLASSIFIER:
        register_own(name)
        return prepare_own(name, code, data.channels, cache, weights)
    require_labels(name, data)
    extractor = prepare_classifier(data, cache, weights, kept)
    if not extractor.knows_its_classes:
        bar = least_accuracy(extractor.chance, extractor.num_unseen)
        raise UserError(
            f"the classifier that would score {data.dataset} gets {extractor.accuracy:.1%} of {extractor.num_unseen:,} "
            f"pictures right that it has not seen; {bar:.1%} are the least (always guessing one class: "
            f"{extractor.chance:.1%}), so its scores would mean nothing; see that each folder holds one kind of "
            f"picture (`{terminal.program()} inspect {shlex.quote(data.dataset)}`), add pictures, or "
            f"{another_extractor()}"
        )
    return extractor


def prepare_classifier(
    data: PreparedData, cache: Path, weights: Path | None = None, kept: Path | None = None
) -> Extractor:
    """The classifier for labelled data, whatever it has learned; see `prepare_extractor`."""
    copies = cache_folder(cache, "extractors")
    copies.mkdir(parents=True, exist_ok=True)
    kept = kept or copies
    images, labels = _tensors(data, "extractor")
    key = learned_from(images, labels)
    with FileLock(copies / "classifier.lock"):
        if weights is not None:
            _refuse_foreign(weights, data, key)
        source = weights or _found(key, kept)
        content = source.read_bytes() if source else _trained(data, images, labels, key)
        digest = checksum(content)[:16]
        if _found(key, kept) is None:
            write_file(kept / f"{key}-{digest}.safetensors", content)
        copy = copies / f"classifier-{digest}.safetensors"
        if not copy.exists() or file_checksum(copy)[:16] != digest:
            write_file(copy, content)
    card, unseen = read_card(copy), data.labels("reference")
    return Extractor(
        name=CLASSIFIER,
        weights_path=copy,
        weights_hash=digest,
        channels=card.channels,
        num_classes=card.num_classes,
        width=feature_dim(copy, card.channels),
        accuracy=card.accuracy,
        chance=np.bincount(unseen).max().item() / len(unseen),
        num_unseen=len(unseen),
        feature_rms=card.feature_rms,
        golden=card.golden,
    )


def prepare_online_extractor(
    extractor: Extractor, data: PreparedData, cache: Path, kept: Path | None = None
) -> Extractor | None:
    """The extractor for the FID in the curves: the classifier, which is cheap.

    None where the data has no labels, or they are not what can be learned from its images.

    Another network would take longer at each of the curve's points than the training between them.
    """
    if extractor.is_classifier:
        return extractor
    classifier = prepare_classifier(data, cache, kept=kept) if data.num_classes is not None else None
    return classifier if classifier is not None and classifier.knows_its_classes else None


def _found(key: str, kept: Path) -> Path | None:
    """The shipped or kept classifier that learned from these pictures."""
    for path in sorted(SHIPPED.glob("*.safetensors")):
        if read_card(path).learned_from == key:
            return path
    for path in sorted(kept.glob(f"{key}-*.safetensors")):
        if file_checksum(path)[:16] != path.stem.removeprefix(f"{key}-"):
            raise UserError(
                f"{path} is damaged: its checksum differs; put back what was there, or remove it: then another is "
                f"trained, whose scores get a protocol of their own"
            )
        return path
    return None


def _refuse_foreign(weights: Path, data: PreparedData, key: str) -> None:
    if not weights.is_file():
        raise UserError(f"{WEIGHTS_OPTION} {weights} is not a file; name a classifier that scores {data.dataset}")
    if read_card(weights).learned_from != key:
        raise UserError(
            f"{WEIGHTS_OPTION} {weights} was trained on other pictures than {data.dataset} at "
            f"{data.resolution}×{data.resolution}×{data.channels} sets aside for that; leave it out, or name one that "
            f"a store of this data keeps in its folder `extractors`"
        )


def _has_digits_in_channels(data: PreparedData) -> bool:
    return split_subset(data.dataset)[0] == "stacked-mnist"


def _trained(data: PreparedData, images: Tensor, labels: Tensor, key: str) -> bytes:
    """A classifier made now, as its file: trained, or where each channel is a picture that one knows, made of that."""
    if _has_digits_in_channels(data):
        network: Network = by_channel(DIGITS)
        if recorded := _stacked_card(key):
            return classifier_bytes(network, recorded)
    else:
        network = train_classifier(images, labels, int(data.num_classes or 0))
    return classifier_bytes(network, describe_classifier(network, data, key))


def _stacked_card(key: str) -> ClassifierCard | None:
    """The shipped card; None where it is of other pictures, other weights or another way to train them."""
    try:
        recorded = json.loads(STACKED_CARD.read_text())
        card, weights = ClassifierCard(**recorded["card"]), recorded["weights"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{STACKED_CARD} is damaged ({error}); install this program anew") from None
    is_its = weights == file_checksum(DIGITS)[:16] and (card.learned_from, card.training) == (key, TRAINING)
    return card if is_its else None


def describe_classifier(network: Network, data: PreparedData, key: str) -> ClassifierCard:
    """What there is to say of a trained classifier: what it gets right, the scale of its features, what it measures."""
    with one_thread(), torch.no_grad():
        unseen, labels = _tensors(data, "reference")
        guesses = torch.cat([network(batch)[1].argmax(1) for batch in unseen.split(500)])
        seen, _ = _tensors(data, "extractor")
        features = torch.cat([network(batch)[0] for batch in seen.split(500)])
        rms = features.square().mean().sqrt().item()
        return ClassifierCard(
            channels=data.channels,
            num_classes=int(data.num_classes or 0),
            learned_from=key,
            accuracy=(guesses == labels).double().mean().item(),
            feature_rms=rms,
            golden=_golden_scores(
                network, data, GOLDEN_IMAGES, nameless(data, 1 / (features.shape[1] * rms**2)), "cpu"
            ),
        )


def nameless(data: PreparedData, kid_gamma: float) -> ScoreProtocol:
    """A protocol for scores whose extractor has no hash yet: its numbers alone are of use."""
    return ScoreProtocol(
        extractor="classifier",
        extractor_hash="",
        reference="",
        reference_hash="",
        num_reference=GOLDEN_IMAGES,
        num_generated=GOLDEN_IMAGES,
        resolution=data.resolution,
        channels=data.channels,
        kid_subset_size=GOLDEN_IMAGES // 2,
        kid_gamma=kid_gamma,
    )


def _tensors(data: PreparedData, part: str) -> tuple[Tensor, Tensor]:
    """The part's images and labels."""
    return torch.from_numpy(np.array(data.images(part))), torch.from_numpy(data.labels(part))


def golden_scores(extractor: Extractor, protocol: ScoreProtocol, data: PreparedData, cache: Path) -> dict[str, float]:
    """What the extractor measures on this machine, with these libraries, of images that are the same everywhere.

    FID and KID of real images of the reference part against others of it, and of the same with fixed noise. Measured
    once for the machine and the versions. Empty for data with too few images.

    Raises:
        UserError: an extractor of no use.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    number = GOLDEN_IMAGES if extractor.is_classifier else GOLDEN_IMAGES_PRETRAINED
    name = {
        "extractor": extractor.hashed_name,
        "reference": protocol.reference_hash,
        "preparation": protocol.preparation,
        "machine": machine(device),
    }
    path = cache_folder(cache, "golden") / f"{checksum(json.dumps(name, sort_keys=True).encode())[:16]}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        network = feature_network(extractor, device)
        shown = torch.from_numpy(np.array(data.images("reference")[:SHOWN])).to(device)
        refuse_unusable(extractor, network(shown)[0], torch.cat([network(part)[0] for part in shown.split(SHOWN // 2)]))
        found = _golden_scores(network, data, number, protocol, device)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(found).encode())
        return found


def refuse_unusable(extractor: Extractor, features: Tensor, again: Tensor | None = None) -> None:
    """Refuse a network whose features say nothing, before anything is scored by it.

    Args:
        extractor: Whose features they are.
        features: (N, D) of some real images.
        again: Of the same images, shown in other batches.

    Raises:
        UserError: they are of another width than the extractor's, not finite, the same for all of the images, or others
            when they are computed again.
    """
    if features.ndim != 2 or features.shape[1] != extractor.dim:
        wrong = f"are of shape {'×'.join(map(str, features.shape[1:]))} an image, and {extractor.dim} are wanted"
    elif not features.isfinite().all():
        wrong = "are not finite"
    elif len(features) > 1 and not (features != features[0]).any():
        wrong = f"are the same for {len(features)} images"
    elif again is not None and (features - again).abs().max() > ALIKE * features.abs().max():
        wrong = "change from one call to the next, by chance or with the images that are shown together"
    else:
        return
    own = not (extractor.is_classifier or extractor.pretrained)
    where = f"its weights are in {extractor.weights_path}: name others with {WEIGHTS_OPTION}"
    raise UserError(
        f"the features of the extractor {extractor.name!r} {wrong}, so its scores would mean nothing; "
        f"{'mend its network' if own else where}, or name another extractor in the study's profile"
    )


def _golden_scores(
    network: FeatureNetwork, data: PreparedData, number: int, protocol: ScoreProtocol, device: str
) -> dict[str, float]:
    number = min(number, len(data.images("reference")) // 2)
    if number < FEWEST_GOLDEN:
        return {}
    kid = {"kid_subset_size": number // 2, "kid_subsets": 10}  # as recorded, whatever the protocol's KID is
    protocol = replace(protocol, num_reference=number, num_generated=number, **kid)
    images = np.array(data.images("reference")[: 2 * number])
    real, others = images[:number], images[number:]
    noise = np.random.RandomState(0).standard_normal(real.shape) * GOLDEN_NOISE  # this stream never changes
    noisy = (real + noise.round().astype(np.int64)).clip(0, 255).astype(np.uint8)
    found = {}
    scored = score_images(network, (real, noisy), others, protocol, device)
    for name, scores in zip(("real", "noisy"), scored, strict=True):
        found |= {f"golden_{metric}_{name}": scores[metric] for metric in ("fid", "kid")}
    return found


def recorded_golden(extractor: Extractor, reference: Mapping[str, float]) -> dict[str, float]:
    """What was measured where the classifier was made; else where the store first used the protocol."""
    return dict(extractor.golden) or {key: value for key, value in reference.items() if key.startswith("golden_")}


def deviation(measured: Mapping[str, float], recorded: Mapping[str, float]) -> str:
    """In words, the golden score that differs most by more than TOLERANCE; "" where all agree.

    Of real images KID is about 0, so that it is held to the scale of that of the noisy ones, or to KID_SCALE.
    """

    def relative(name: str) -> float:
        scale = max(abs(recorded["golden_kid_noisy"]), KID_SCALE) if "_kid_" in name else abs(recorded[name])
        apart = abs(measured.get(name, math.nan) - recorded[name])
        return apart / scale if scale and not math.isnan(apart) else math.inf

    worst = max(recorded, key=relative, default="")
    if not worst or relative(worst) <= TOLERANCE:
        return ""
    kind, images = worst.removeprefix("golden_").split("_")
    here = measured.get(worst, math.nan)
    return f"{kind.upper()} of the {images} golden images is {here:.9g} here, and {recorded[worst]:.9g} on record"


def machine(device: str) -> dict[str, Any]:
    """What decides the last digits of a score: libraries, instruction set, and the GPU where there is one."""
    return {
        **{name: version(name) for name in ("torch", "torch-fidelity", "timm", "numpy")},
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "",
    }
