"""What a study declares of its tuning: which fields are searched over, and the budget that every arm gets alike."""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from harness.errors import UserError, unknown_name
from harness.questions import Changes, Profile, Question, Value, first_seed
from harness.spec import SHIPPED, TrialSpec, own_names

Searcher: TypeAlias = Literal["random", "optuna"]

SEEDS_APART = 10_000
"""So far above every arm's first seed the search's begin at least: more seeds than anybody adds to a verdict."""

SEARCH = "-search"
"""How the name of a search ends, and that of no study."""

FIXED = ("dataset", "data_fingerprint", "resolution", "channels", "kimg", "seed", "world_size", "code")
"""Fields that say what is asked, not how well an arm is set up for it: a search may not change them."""

MOST_COMBINATIONS = 1000
"""Of values, that are tried on an arm before work starts."""

DIGITS = 2
"""Significant ones of a value that a search draws: what differs by less trains alike, and a table shows all of it."""


@dataclass(frozen=True)
class LogUniform:
    """From `low` to `high`, both above 0, evenly on a logarithmic scale: learning rates, half-lives, weights."""

    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (self.low, self.high))
        if not numbers or not 0 < self.low < self.high < math.inf:
            raise UserError(f"{self} is out of range; allowed: numbers, 0 < low < high")

    def at(self, share: float) -> Value:
        """The value at this share, in [0, 1], of the way from low to high."""
        return self.rounded(self.low * (self.high / self.low) ** share)

    def rounded(self, value: float) -> float:
        """The value by DIGITS digits, and in the range."""
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of these values, each as likely: numbers of steps, switches, names."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        plain = isinstance(self.values, tuple) and all(isinstance(value, int | float | str) for value in self.values)
        if not plain or len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise UserError(f"{self} is not allowed; allowed: a tuple of at least two values, each once")

    def at(self, share: float) -> Value:
        """The value at this share, in [0, 1], of the way from the first to the last."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


Range: TypeAlias = LogUniform | Choice


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The same search for every arm of a study, before the seeds run that its verdicts are from (Lucic et al. 2018).

    Every seed of an arm has a search of its own: `trials` candidates, of which the first is the arm as it is declared,
    each trained once for the study's own budget, at a seed that no verdict uses. That with the lowest FID is what the
    arm is at this seed; one that diverged is not chosen, unless all did. So what a search finds by luck is part of the
    noise that verdicts allow for (Bouthillier et al. 2021): from one search an arm, up to 10% of studies would find two
    equal arms to differ (docs/statistics.md). Drawn at "random", all arms get the same candidates at a seed; "optuna"
    (Akiba et al. 2019, by Ray Tune's OptunaSearch) draws by what the earlier candidates of this arm and seed scored.

    Raises:
        UserError: an unknown field, one that may not be searched over, or a number out of range.
    """

    fields: Mapping[str, Range]  # spec fields
    trials: int = 4  # candidates of an arm at a seed, the declared one among them
    searcher: Searcher = "random"
    first_seed: int = 1_000_000  # of the search; an arm whose own seeds start above 0 is searched as much above this

    def __post_init__(self) -> None:
        if not isinstance(self.fields, Mapping):
            raise UserError(f"tuning: fields={self.fields!r} is not allowed; allowed: a dict of spec fields and ranges")
        for name, one in self.fields.items():
            if not isinstance(one, Range):
                raise UserError(f"tuning: {name}={one!r} is no range; allowed: LogUniform(low, high) or Choice(values)")
            if name not in TrialSpec.__dataclass_fields__:
                allowed = [field for field in TrialSpec.__dataclass_fields__ if field not in FIXED]
                raise unknown_name("spec field of a tuning", name, allowed)
            if name in FIXED:
                raise UserError(f"tuning: {name!r} says what is asked, and may not be searched over; take it out")
            kind = TrialSpec.__dataclass_fields__[name].type
            if isinstance(one, LogUniform) and kind is not float:
                takes = "whole numbers" if kind is int else "no numbers"
                raise UserError(
                    f"tuning: {name} takes {takes}, and LogUniform draws fractions; allowed: Choice(values)"
                )
            for value in one.values if isinstance(one, Choice) and name in SHIPPED else ():
                if own_names({name: str(value)}):  # whose code the identity of a trial would have to name
                    raise unknown_name(f"{name} of a tuning", value, SHIPPED[name], "which the laboratory ships")
        if not self.fields:
            raise UserError("tuning: fields={} is empty; name at least one spec field and its range")
        if self.searcher not in get_args(Searcher):
            raise unknown_name("searcher of a tuning", self.searcher, get_args(Searcher))
        for name, least in (("trials", 2), ("first_seed", SEEDS_APART)):
            if type(value := getattr(self, name)) is not int or value < least:
                raise UserError(
                    f"tuning: {name}={value!r} is out of range; allowed: a whole number of at least {least}"
                )

    def drawn(self, seed: int, candidate: int) -> Changes:
        """What the random candidate of that number, from 1 on, sets at a seed: for all arms, however many follow."""
        shares = np.random.default_rng([self.first_seed, seed, candidate]).random(len(self.fields))
        return {name: one.at(share) for (name, one), share in zip(sorted(self.fields.items()), shares, strict=True)}

    def combinations(self) -> Iterator[Changes]:
        """What a search may set where it goes furthest: each end of a scale with each other's, and every choice."""
        ends = [
            one.values if isinstance(one, Choice) else (float(one.low), float(one.high)) for one in self.fields.values()
        ]
        for values in itertools.islice(itertools.product(*ends), MOST_COMBINATIONS):
            yield dict(zip(self.fields, values, strict=True))

    def require_apart(
        self,
        study: str,
        baselines: Mapping[str, Changes],
        questions: Collection[Question],
        profiles: Collection[Profile],
    ) -> None:
        """Refuse a search over what the study itself varies, or at seeds that its verdicts use or may come to use.

        Args:
            study: Its name, for the message.
            baselines: Of the study, "seed" being where their seeds start.
            questions: Of the study.
            profiles: Of the study, with baselines and factors of their own.
        """
        arms = [*baselines.values(), *(changes for profile in profiles for changes in profile.baselines.values())]
        for question in questions:
            base = baselines[question.baseline]
            factors = [question.factor, *(p.factors[question.key] for p in profiles if question.key in p.factors)]
            for level in (level for factor in factors for level in factor.levels):
                arms.append(level.changes)
                values = {**baselines.get(level.baseline or question.baseline, {}), **level.changes}
                differ = {name for name in base.keys() | values.keys() if base.get(name) != values.get(name)}
                for name in self.fields:
                    if name in level.changes or (name in differ and differ <= self.fields.keys()):
                        raise UserError(
                            f"study {study!r} varies {name!r}, which its tuning searches over; leave it to one"
                        )
        for name, profile in itertools.product(self.fields, profiles):
            if name in profile.changes:
                raise UserError(
                    f"profile {profile.name!r} sets {name!r}, which the tuning of study {study!r} searches over"
                )
        starts = sorted({first_seed(changes.get("seed", 0), f"study {study!r}") for changes in arms})
        for start, other in itertools.product(starts, starts):
            if abs(self.first_seed + other - start) < SEEDS_APART:
                raise UserError(
                    f"study {study!r}: the search's seeds from {self.first_seed + other} overlap its verdicts', "
                    f"from {start}; allowed: first_seed at least {SEEDS_APART} above every arm's first seed"
                )


def candidate_name(arm: str, number: int) -> str:
    """What the search calls an arm's candidate of that number, from 0, the arm as it is declared, on."""
    return f"{arm} / {number}"


def search_name(study: str) -> str:
    """What the search of a study is called where studies are named."""
    return f"{study}{SEARCH}"
