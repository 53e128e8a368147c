"""What the trials of a study share, prepared once before the first one starts: data, extractor, protocol, features."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from harness.data import prepare
from harness.errors import UserError
from harness.execution.provenance import provenance
from harness.execution.resources import processors
from harness.execution.trial import TrialContext
from harness.metrics import proof_in_words
from harness.scoring.extractors import needs_training, prepare_extractor, prepare_online_extractor
from harness.scoring.fidelity import make_protocol, prepare_reference
from harness.spec import TrialSpec
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
) -> dict[str, TrialContext]:
    """What trials share, by the fingerprint of their data: extractor, protocol, reference features.

    Raises:
        UserError: an extractor that cannot be had, or data that are not those of the specs.
    """
    torch.set_num_threads(min(torch.get_num_threads(), processors()))  # torch knows nothing of a container's quota
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
        if needs_training(extractor_name, data, store.cache):
            at = f"{spec.dataset} at {spec.resolution}×{spec.resolution}×{spec.channels}"
            say(f"training the {extractor_name} that scores {at} (once)")
        extractor = prepare_extractor(extractor_name, data, store.cache, extractor_weights)
        if sentence := proof_in_words(extractor.proof()):
            say(f"{spec.dataset}: {sentence[0].lower()}{sentence[1:]}")
        protocol = make_protocol(extractor, data, num_generated=num_generated)
        reference, proof = store.read_reference(protocol.protocol_id), extractor.proof()
        if not reference:
            say(f"scoring the real images of {spec.dataset} (once a protocol)")
            reference = prepare_reference(protocol, extractor, data, store.cache)
            store.write_reference(protocol, {**reference, **proof})
        elif not proof.keys() <= reference.keys():  # written before reports asked for it
            store.write_reference(protocol, {**reference, **proof})
        online = prepare_online_extractor(extractor, data, store.cache)
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
