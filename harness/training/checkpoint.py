"""What training leaves behind, and its file, which is whole or absent and says what it is of. No pickle.

    <sha256 of the rest> NEWLINE <JSON: what it was made for, counters, curves> NEWLINE <safetensors>

Paths may also be `UPath`s, on any file system that fsspec reaches; what goes wrong there arrives as OSError, too.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor

from harness.files import with_checksum, without_checksum, write_file

FORMAT = 1
"""Raised by every change of what a Snapshot holds, a further random stream included."""

TENSORS = ("generator", "generator_ema", "discriminator", "g_optimizer", "d_optimizer", "streams")
"""The parts of a Snapshot that are dictionaries of tensors; the others are plain numbers and curve rows."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The whole state of a trial after `step` updates, on the CPU. Training resumed from it goes on bit for bit.

    Taken at report points alone, where no partial sum of a curve row is pending.
    """

    step: int
    generator: dict[str, Tensor]
    generator_ema: dict[str, Tensor]  # at the end of the budget with batch-norm statistics re-estimated for it
    discriminator: dict[str, Tensor]
    g_optimizer: dict[str, Tensor]  # "0.exp_avg" is the first parameter's running mean of gradients
    d_optimizer: dict[str, Tensor]
    streams: dict[str, Tensor]  # name -> uint8 state of a random generator
    batches_taken: int  # of the epoch whose order the stream "data" is about to draw
    curves: list[dict[str, float]]  # one row a report point
    train_seconds: float  # without the time spent in observers


class UnusableCheckpoint(ValueError):
    """A checkpoint that is damaged, or of something else: of another spec, torch version or device."""


def encode_checkpoint(snapshot: Snapshot, made_for: Mapping[str, str], spent: Mapping[str, float]) -> bytes:
    """The content of the file.

    Args:
        snapshot: What to save.
        made_for: What training must have in common with it to resume from it: trial_id, torch, device, ...
        spent: What the trial had cost by then, for its bill.
    """
    plain = {f.name: getattr(snapshot, f.name) for f in dataclasses.fields(snapshot) if f.name not in TENSORS}
    content = {"format": FORMAT, "made_for": dict(made_for), "spent": dict(spent), "snapshot": plain}
    tensors = {f"{part}/{name}": value for part in TENSORS for name, value in getattr(snapshot, part).items()}
    body = json.dumps(content).encode() + b"\n" + safetensors.torch.save(tensors)
    return with_checksum(body)


def decode_checkpoint(data: bytes, made_for: Mapping[str, str]) -> tuple[Snapshot, dict[str, float]]:
    """The snapshot in the content of a file, and what the trial had cost by then.

    Raises:
        UnusableCheckpoint: it is damaged, or of something else than `made_for`.
    """
    body = without_checksum(data)
    if body is None:
        raise UnusableCheckpoint("the checkpoint is damaged: its checksum is wrong")
    content, _, tensors = body.partition(b"\n")
    try:
        found = json.loads(content)
        if found["format"] != FORMAT:
            raise UnusableCheckpoint(f"the checkpoint has format {found['format']}; this code reads {FORMAT}")
        for name in sorted(made_for.keys() | found["made_for"].keys()):
            theirs, ours = found["made_for"].get(name), made_for.get(name)
            if theirs != ours:
                raise UnusableCheckpoint(f"the checkpoint was made for {name}={theirs!r}, not {ours!r}")
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in TENSORS}
        for name, value in safetensors.torch.load(tensors).items():
            part, _, rest = name.partition("/")
            parts[part][rest] = value
        return Snapshot(**parts, **found["snapshot"]), found["spent"]
    except UnusableCheckpoint:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, safetensors.SafetensorError) as error:
        raise UnusableCheckpoint(f"the checkpoint holds something else: {type(error).__name__}: {error}") from None


def read_checkpoint(path: Path) -> bytes:
    """The content of the file.

    Raises:
        FileNotFoundError: there is none.
        OSError: it could not be read.
    """
    with _as_os_error():
        return path.read_bytes()


def write_checkpoint(path: Path, content: bytes) -> None:
    """Put the content in the place of the last one, atomically: a kill at any moment leaves one of the two.

    A kill can also leave a file beside it, named `.<name>-...`; `remove_checkpoint` takes that too. Where a file system
    elsewhere cannot rename in one step, a kill may leave a torn file, which its checksum tells.

    Raises:
        OSError: it could not be written; the last checkpoint is untouched.
    """
    with _as_os_error():
        write_file(path, content)


def quarantine_checkpoint(path: Path) -> Path:
    """Rename an unusable checkpoint, for whoever wants to know why; returns where it is now."""
    aside = path.with_name(f"{path.name}.unusable")
    with _as_os_error():
        path.rename(aside)
    return aside


def remove_checkpoint(path: Path) -> None:
    """Remove the trial's checkpoint, and what kills left half-written beside it; fine where there is nothing."""
    with contextlib.suppress(OSError), _as_os_error():  # a file left behind is no reason to lose a finished trial
        for leftover in (path, *path.parent.glob(f".{path.name}-*")):
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Each file system's client raises what it likes."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
