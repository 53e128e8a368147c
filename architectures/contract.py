"""What every architecture gives: a generator and a discriminator that fit each other, made from one NetworkSpec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from torch import nn

Entry = TypeVar("Entry")

NORMS = ("none", "batch")

DEEPEST = 12
"""Layers of a shipped network, at most: 4,096 times its narrowest is wider than anybody trains."""

SMALLEST_MAP = 4
"""Side in pixels: convolutional families halve a picture no further."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Everything that a pair of networks is made from. Depth and width are defined by example in each family.

    Raises:
        ValueError: in one line: which value is outside its range, and what is allowed.
    """

    resolution: int  # side of the square images, in pixels, at least 4
    channels: int  # 1 for grey, 3 for RGB; any positive number works
    latent_dim: int  # size of the latent vector
    generator_depth: int  # hidden layers of G
    generator_width: int  # units or channels of G's narrowest hidden layer
    generator_norm: str  # one of NORMS
    generator_dropout: float  # rate in [0, 1)
    discriminator_depth: int  # hidden layers of D
    discriminator_width: int  # units or channels of D's narrowest hidden layer
    discriminator_norm: str  # "none", "spectral" (Miyato et al. 2018) or, for dc, "batch"
    discriminator_dropout: float  # rate in [0, 1)

    def __post_init__(self) -> None:
        require(self.resolution >= 4, "resolution", self.resolution, "at least 4")
        for name in ("channels", "latent_dim", "generator_width", "discriminator_width"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("generator_depth", "discriminator_depth"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("generator_dropout", "discriminator_dropout"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        require_choice("generator_norm", self.generator_norm, NORMS)

    @property
    def discriminator_has_batch_norm(self) -> bool:
        """Whether any layer of D normalises over the batch; the first layer never does (Radford et al. 2015)."""
        return self.discriminator_norm == "batch" and self.discriminator_depth > 1


def halvings(resolution: int) -> tuple[int, int]:
    """(side of the coarsest map, how often it is doubled to reach the resolution): halved while it stays even."""
    doublings = 0
    while resolution % 2 == 0 and resolution // 2 >= SMALLEST_MAP:
        resolution, doublings = resolution // 2, doublings + 1
    return resolution, doublings


Refusals = Iterator[tuple[str, str]]
"""What is wrong with a network: (field, what goes on after "field=value ", and says what is allowed)."""


def refuse(network: NetworkSpec, refusals: Refusals) -> None:
    """Raise the first of the refusals, if there is one.

    Raises:
        ValueError: there is one.
    """
    for name, reason in refusals:
        raise ValueError(f"{name}={getattr(network, name)!r} {reason}")


def too_deep(family: str, network: NetworkSpec) -> Refusals:
    """For families whose layers double in width."""
    for name in ("generator_depth", "discriminator_depth"):
        if getattr(network, name) > DEEPEST:
            allowed = f"at most {DEEPEST} for {family}, where each further layer doubles the widest"
            yield name, f"is out of range; allowed: {allowed}"


def idle_dropout(family: str, network: NetworkSpec, player: str, least_depth: int) -> Refusals:
    """For a player that has no dropout below some depth: with it, equal networks would be two trials."""
    if getattr(network, f"{player}_depth") < least_depth and getattr(network, f"{player}_dropout") > 0:
        reason = f"does nothing in {family} at {player}_depth below {least_depth}; allowed there: 0"
        yield f"{player}_dropout", reason


def _nothing_refused(network: NetworkSpec) -> Refusals:
    return iter(())


@dataclass(frozen=True)
class Architecture:
    """A family of networks: an entry of ARCHITECTURES."""

    build: Callable[..., GanPair]  # is called with every field of a NetworkSpec as a keyword argument
    defaults: Callable[[int], dict[str, Any]]  # resolution -> the reference network's values of what is left out
    refusals: Callable[[NetworkSpec], Refusals] = _nothing_refused  # what a trial of a shipped family may not ask for


class Registry(MutableMapping[str, Entry]):
    """Name -> entry. What is shipped keeps its meaning: stored results are named by it. Other names may be added.

    No dict, whose own methods would go past the refusal.
    """

    of: ClassVar[dict[str, Registry[Any]]] = {}
    """Spec field -> the registry that its values are names of. Those that nobody has imported yet are not here."""

    def __init__(self, shipped: Mapping[str, Entry], field: str) -> None:
        """Hold the shipped entries of a spec field."""
        self._entries = dict(shipped)
        self.shipped = tuple(shipped)
        self.of[field] = self

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

    generator: latents (N, Z) float32 -> images (N, C, H, W), black at -1 and white at 1; resnet's may go beyond.
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
