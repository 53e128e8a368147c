"""What every architecture gives: a generator and a discriminator that fit each other."""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

Entry = TypeVar("Entry")


class Registry(MutableMapping[str, Entry]):
    """Name -> entry. What is shipped keeps its meaning: stored results are named by it. Other names may be added.

    No dict, whose own methods would go past the refusal.
    """

    def __init__(self, shipped: Mapping[str, Entry]) -> None:
        """Hold the shipped entries."""
        self._entries = dict(shipped)
        self.shipped = frozenset(shipped)

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __setitem__(self, name: str, entry: Entry) -> None:
        """Add or replace an entry.

        Raises:
            ValueError: the name is that of a shipped one.
        """
        self._refuse_shipped(name)
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        """Take an added entry out again; a shipped one raises ValueError."""
        self._refuse_shipped(name)
        del self._entries[name]

    def _refuse_shipped(self, name: str) -> None:
        if name in self.shipped:
            raise ValueError(f"{name!r} is shipped, and results are stored under it; give yours another name")


@dataclass(frozen=True)
class GanPair:
    """Two networks of one family.

    generator: latents (N, Z) float32 -> images (N, C, H, W) in [-1, 1].
    discriminator: images (N, C, H, W) -> logits (N, 1), above 0 for "real".
    """

    generator: nn.Module
    discriminator: nn.Module


def require(ok: bool, what: str, value: object, allowed: str) -> None:
    """Refuse an argument in one line: what, its value, what is allowed.

    Raises:
        ValueError: not `ok`.
    """
    if not ok:
        raise ValueError(f"{what}={value!r} is not possible; allowed: {allowed}")


def require_choice(what: str, value: str, valid: Iterable[str]) -> None:
    """Refuse a name that is not on the list, and list it.

    Raises:
        ValueError: `value` is not in `valid`.
    """
    valid = list(valid)
    require(value in valid, what, value, ", ".join(valid))
