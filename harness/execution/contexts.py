"""What the trials of a study share, prepared once before the first one starts: data, extractor, protocol, features."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch

from harness.analysis.wording import duration
from harness.data import PreparedData, prepare
from harness.errors import UserError, unknown_name
from harness.execution.estimates import WORTH_SAYING, feature_seconds
from harness.execution.provenance import provenance
from harness.execution.resources import processors
from harness.execution.trial import TrialContext
from harness.files import checksum
from harness.metrics import proof_in_words
from harness.scoring.extractors import CLASSIFIER, EXTRACTORS, Extractor, default_extractor
from harness.scoring.fidelity import make_protocol, prepare_reference
from harness.scoring.kept import keep_moments
from harness.scoring.moments import Moments, read_moments
from harness.scoring.yardstick import (
    GOLDEN_IMAGES_PRETRAINED,
    deviation,
    golden_scores,
    prepare_extractor,
    prepare_online_extractor,
    recorded_golden,
    seconds_to_learn,
)
from harness.spec import ScoreProtocol, TrialSpec
from harness.storage.store import Store
from harness.study import Study


def scoring_contexts(
    study: Study,
    specs: Iterable[TrialSpec],
    extractor_name: str,
    num_generated: int,
    store: Store,
    say: Callable[[str], None],
    extractor_weights: Path | None = None,
    reference_moments: Path | None = None,
) -> dict[str, TrialContext]:
    """What trials share, by the fingerprint of their data: extractor, protocol, reference features.

    Raises:
        UserError: an extractor or moments that cannot be had or used, or data that are not those of the specs.
    """
    if extractor_name and extractor_name not in EXTRACTORS:
        raise unknown_name("extractor", extractor_name, EXTRACTORS)
    moments = read_moments(reference_moments, extractor_name) if reference_moments else None
    if moments:
        say(f"FID against the moments {moments.hash}: KID, precision and the like want the images themselves")
    torch.set_num_threads(min(torch.get_num_threads(), processors()))  # torch knows nothing of a container's quota
    if torch.cuda.is_available():  # in strict float32, as trials are scored: else golden images score otherwise
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    contexts: dict[str, TrialContext] = {}
    for spec in specs:
        if spec.data_fingerprint in contexts:
            continue
        data = prepare(spec.dataset, resolution=spec.resolution, channels=spec.channels, cache=store.cache, check=True)
        if data.fingerprint != spec.data_fingerprint:
            raise UserError(
                f"{spec.dataset} changed since its trials were planned (fingerprint {data.fingerprint}, then "
                f"{spec.data_fingerprint}); put the images back as they were"
            )
        kept = store.layout.extractors
        name = extractor_name or default_extractor(data)
        learning = seconds_to_learn(data, kept)
        if name != CLASSIFIER:
            say(f"preparing {name}, by whose features {spec.dataset} is scored")
        elif learning and extractor_weights is None:
            say(f"training the classifier that scores {_shape(spec)} (once){_if_long(learning)}")
        extractor = prepare_extractor(name, data, store.cache, extractor_weights, kept, study.own_code)
        if sentence := proof_in_words(extractor.proof()):
            say(f"{spec.dataset}: {sentence[0].lower()}{sentence[1:]}")
        protocol, golden = _protocol(extractor, data, num_generated, moments, store, say)
        if moments:
            keep_moments(protocol, extractor, moments, store.cache)
        reference, wanted = store.read_reference(protocol.protocol_id), {**extractor.proof(), **golden}
        if not reference:
            images = protocol.num_generated + protocol.num_reference
            about = _if_long(feature_seconds(extractor.name, images))
            say(f"scoring the real images of {spec.dataset} by {extractor.name} (once per protocol){about}")
            reference = prepare_reference(protocol, extractor, data, store.cache)
            store.write_reference(protocol, {**reference, **wanted})
        elif not wanted.keys() <= reference.keys():  # written before reports asked for it
            store.write_reference(protocol, {**wanted, **reference})
        if name != CLASSIFIER and learning:
            say(f"training the classifier that follows the curves on {_shape(spec)} (once){_if_long(learning)}")
        online = prepare_online_extractor(extractor, data, store.cache, kept)
        if online is None and data.num_classes is not None:
            say(f"no FID in the curves on {spec.dataset}: its classes cannot be learned from its pictures")
        contexts[spec.data_fingerprint] = TrialContext(
            data=data,
            extractor=extractor,
            protocol=protocol,
            cache=store.cache,
            online=online,
            user_code=study.own_code,
            provenance=provenance(),
        )
    return contexts


def _shape(spec: TrialSpec) -> str:
    return f"{spec.dataset} at {spec.resolution}×{spec.resolution}×{spec.channels}"


def _if_long(seconds: float) -> str:
    """How long something takes, where that is long."""
    return f", about {duration(seconds)}" if seconds >= WORTH_SAYING else ""


def _protocol(
    extractor: Extractor,
    data: PreparedData,
    num_generated: int,
    moments: Moments | None,
    store: Store,
    say: Callable[[str], None],
) -> tuple[ScoreProtocol, dict[str, float]]:
    """The protocol of the scores that are made here, and what the golden images score.

    Where this machine and its libraries do not measure as those did that the yardstick was made with, the scores get a
    protocol of their own.
    """
    protocol = make_protocol(extractor, data, num_generated=num_generated, moments=moments)
    if about := _if_long(feature_seconds(extractor.name, 3 * GOLDEN_IMAGES_PRETRAINED)):
        say(f"seeing whether {extractor.name} measures here as it should{about}, unless it was seen before")
    golden = golden_scores(extractor, protocol, data, store.cache)
    recorded = recorded_golden(extractor, store.read_reference(protocol.protocol_id))
    if why := deviation(golden, recorded):
        own = replace(protocol, golden=checksum(json.dumps(golden, sort_keys=True).encode())[:12])
        say(
            f"{data.dataset}: this machine, with its versions of the libraries, measures otherwise ({why}): its scores "
            f"get protocol {own.protocol_id}, and cannot be compared with those of protocol {protocol.protocol_id}"
        )
        return own, golden
    return protocol, golden
