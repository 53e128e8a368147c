"""Feature networks of the user's own: what an entry of EXTRACTORS in their file becomes before it scores.

Its hash, which is part of the protocol, is that of the code that the entry is made from, as
`harness/plugin_identity.py` follows it, and of the network's weights. These are those of the entry's file, or else
those that the network begins with; either way they are kept in one file, which all workers load.
"""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.files import checksum, write_file
from harness.plugin_identity import identity, refusing_files
from harness.plugins import UserCode
from harness.scoring.extractors import EXTRACTORS, WEIGHTS_OPTION, Extractor, OwnNetwork, first_line
from harness.storage.layout import cache_folder


def own_network(name: str) -> OwnNetwork:
    """The entry of that name.

    Raises:
        UserError: it is none of the user's own.
    """
    if not isinstance(entry := EXTRACTORS.get(name), OwnNetwork):
        raise UserError(f"the extractor {name!r} is not in EXTRACTORS; give its entry to the study's file")
    return entry


def prepare_own(name: str, code: UserCode | None, channels: int, cache: Path, weights: Path | None) -> Extractor:
    """The extractor of that entry, with its weights in the cache.

    Args:
        name: Of the entry.
        code: The user's file, from which the entry is; None for one that the repository ships.
        channels: Of the images that it is given.
        cache: Of a store.
        weights: A file in place of the entry's.

    Raises:
        UserError: no such network can be built, it reads files itself, or the weights cannot be read or are another's.
    """
    entry = own_network(name)
    if code is None and name not in EXTRACTORS.shipped:
        raise UserError(f"the extractor {name!r} is of your own; allowed: with a study that your own file declares")
    digest, content = _named(name, code, weights)
    path = cache_folder(cache, "extractors") / f"{name}-{digest}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_file(path, content)
    return Extractor(
        name=name, weights_path=path, weights_hash=digest, channels=channels, width=entry.width, feature_rms=entry.rms
    )


def current_hash(name: str, code: UserCode) -> str:
    """The hash that scores by this entry of the user's file would have today; "" where there is no such entry.

    Raises:
        UserError: as `prepare_own` does.
    """
    code.load()
    return _named(name, code, None)[0] if isinstance(EXTRACTORS.get(name), OwnNetwork) else ""


def _named(name: str, code: UserCode | None, weights: Path | None) -> tuple[str, bytes]:
    """The hash of the entry's code and weights, and the weights as a file has them."""
    entry = own_network(name)
    made_from = identity(code, [("extractor", name)]) if code else ""
    source = weights or (Path(code.file if code else __file__).parent / entry.file if entry.file else None)
    with refusing_files(f"the extractor {name!r}"):
        network = built(name)
    if source is not None:
        _load(network, _tensors(source, weights is not None), source)
    content = safetensors.torch.save({k: v.clone().contiguous() for k, v in network.state_dict().items()})
    return checksum(made_from.encode() + content)[:16], content


def built(name: str) -> nn.Module:
    """The network as the entry builds it, the same each time.

    Raises:
        UserError: it fails, or is no module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network = own_network(name).build()
        except Exception as error:  # noqa: BLE001  whatever the user's code raises
            raise UserError(
                f"the extractor {name!r} cannot be built: {type(error).__name__}: {first_line(error)}"
            ) from None
    if not isinstance(network, nn.Module):
        raise UserError(f"the extractor {name!r} is built as {type(network).__name__}; wanted: a torch.nn.Module")
    return network


def filled(name: str, path: Path) -> nn.Module:
    """The network with the weights that `prepare_own` has written."""
    network = built(name)
    _load(network, safetensors.torch.load_file(path), path)
    return network


def _load(network: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        told = "; ".join(line.strip().rstrip(".") for line in str(error).splitlines()[1:])
        raise UserError(f"{source} does not hold the weights of {type(network).__name__}: {told:.200}") from None


def _tensors(source: Path, is_option: bool) -> dict[str, Tensor]:
    """A file of tensors by name. A pickle that holds more is refused, not run."""
    named = f"{WEIGHTS_OPTION} {source}" if is_option else f"{source}, which the extractor's entry names,"
    if not source.is_file():
        raise UserError(f"{named} is not a file; name the extractor's weights")
    try:
        if source.suffix == ".safetensors":
            return safetensors.torch.load_file(source)
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  a file that is something else trips both over anything
        raise UserError(f"{named} does not hold tensors by name: {first_line(error)}") from None
