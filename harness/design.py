"""From a study's declarations to its trials: the arms that its questions compare, and their runs over seeds."""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

from harness.errors import UserError, refused_of, unknown_name
from harness.plugin_identity import identity
from harness.plugins import UserCode
from harness.published import Published
from harness.questions import Changes, Level, Profile, Question, Value, first_seed, located, written
from harness.spec import TrialSpec, own_names
from harness.tuning import Tuning

FIELDS = TrialSpec.__dataclass_fields__
DEFAULTS: dict[str, Value] = {"seed": 0} | {
    name: field.default for name, field in FIELDS.items() if isinstance(field.default, int | float | str)
}

Fingerprint: TypeAlias = Callable[[str, int, int], str]
"""(dataset, resolution, channels) -> fingerprint of the prepared pixels; see harness.data.fingerprint."""

Seeds: TypeAlias = int | Mapping[str, int] | None
"""Replicates an arm, or of each arm by name; None for the profile's own number."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One combination of levels: the baseline that it is nearest to, and what it changes there."""

    baseline: str
    changes: Changes  # spec fields that differ from the baseline's; "seed" is where its seeds start
    values: Changes  # all spec fields that are set, those of the baseline too

    @cached_property
    def name(self) -> str:
        """The baseline's name and the changes in words: "dc", "dc latent_std=2", "fc seeds from 1000"."""
        words = [f"{field}={written(value)}" for field, value in self.changes.items() if field != "seed"]
        if "seed" in self.changes:
            words.append(f"seeds from {self.changes['seed']}")
        return " ".join([self.baseline, ", ".join(words)]).strip()

    @property
    def first_seed(self) -> int:
        """The spec's seed at the arm's seed 0."""
        return first_seed(_of(self.values, "seed"), f"arm {self.name!r}")

    def same_network(self, other: "Arm") -> bool:
        """Whether nothing but their seeds tells the two apart."""
        return all(_of(self.values, field) == _of(other.values, field) for field in FIELDS if field != "seed")


@dataclass(frozen=True, kw_only=True)
class Run:
    """An arm at a seed, and the trial that fills this place; runs whose specs are equal are one trial."""

    arm: str  # by name
    seed: int  # by which arms are paired; the spec's own, counted from the arm's first
    spec: TrialSpec


@dataclass(frozen=True, kw_only=True)
class Design:
    """A study at one profile: baselines and questions as they are there, and the arms and runs that follow."""

    name: str  # the study's, as its title and note
    title: str
    note: str
    profile: Profile
    baselines: Mapping[str, Changes]
    questions: tuple[Question, ...]
    own_code: UserCode | None
    tuning: Tuning | None = None
    chosen: Mapping[str, Sequence[Changes]] = field(default_factory=dict)  # arm -> what a search found, seed by seed
    published: tuple[Published, ...] = ()

    @property
    def file(self) -> str:
        """The path of the user's own file that declares it; "" for the studies of this repository."""
        return os.path.abspath(self.own_code.file) if self.own_code else ""

    def question(self, key: str) -> Question:
        """The question of that key; an unknown one raises UserError and lists those there are."""
        for question in self.questions:
            if question.key == key:
                return question
        raise unknown_name("question", key, [q.key for q in self.questions])

    def arms(self, question: Question) -> dict[str, Arm]:
        """Level label -> arm, in the factor's order; the baseline's own level is the bare baseline.

        Raises:
            UserError: no level is the baseline.
        """
        arms = {level.label: self._arm(question.baseline, level) for level in question.factor.levels}
        if question.baseline not in (arm.name for arm in arms.values()):
            varied = {name for level in question.factor.levels for name in level.changes}
            own = {name: self.baselines[question.baseline].get(name) for name in sorted(varied)}
            raise UserError(
                f"question {question.key!r} of study {self.name!r} has no level that is its baseline "
                f"{question.baseline!r}; add the baseline's own value ({own}) to the factor's levels"
            )
        return arms

    def arms_versus(self, question: Question) -> dict[str, Arm]:
        """As `arms`, for the baseline that the question's own is compared with; empty without an interaction."""
        return self.arms(replace(question, baseline=question.versus)) if question.versus else {}

    @cached_property
    def every_arm(self) -> dict[str, Arm]:
        """Name -> arm: the baselines, then what the questions compare, each once.

        Raises:
            UserError: two different arms have one name.
        """
        found = {name: Arm(baseline=name, changes={}, values=base) for name, base in self.baselines.items()}
        for question in self.questions:
            for label, arm in (*self.arms(question).items(), *self.arms_versus(question).items()):
                first = found.setdefault(arm.name, arm)
                if not first.same_network(arm) or first.first_seed != arm.first_seed:
                    raise UserError(
                        f"question {question.key!r}: the level {label!r} makes an arm called {arm.name!r}, and "
                        f"another is called so; give that baseline another name"
                    )
        return found

    def runs(self, seeds: Seeds, fingerprint: Fingerprint) -> list[Run]:
        """Every (arm, seed), each once, seed by seed so that an unfinished run of the study is balanced.

        Args:
            seeds: Replicates an arm. Seeds count from the arm's first, 0 unless it says otherwise.
            fingerprint: Tells the content of a data set, so that the spec names pixels and not a path.

        Raises:
            UserError: seeds below 1, or a spec that is refused, naming the arm.
        """
        arms, wanted = self.every_arm, self.seeds_of(seeds)
        fields = {name: self._fields(arm, fingerprint) for name, arm in arms.items()}
        _refuse_shared_seeds(arms, wanted)
        # Made with the highest seed, the only one that may be out of range: each further check would be the same.
        specs = {
            name: _spec(name, {**fields[name], "seed": arm.first_seed + wanted[name] - 1}) for name, arm in arms.items()
        }
        return [
            Run(arm=name, seed=seed, spec=self._chosen(name, seed, spec.at_seed(arms[name].first_seed + seed)))
            for seed in range(max(wanted.values()))
            for name, spec in specs.items()
            if seed < wanted[name]
        ]

    def seeds_of(self, seeds: Seeds) -> Mapping[str, int]:
        """Replicates of each arm; a number below 1 raises UserError."""
        seeds = self.profile.seeds if seeds is None else seeds
        if not isinstance(seeds, Mapping) and (type(seeds) is not int or seeds < 1):
            raise UserError(f"seeds={seeds!r} is out of range; allowed: a whole number of at least 1")
        return dict.fromkeys(self.every_arm, seeds) if isinstance(seeds, int) else seeds

    def _chosen(self, arm: str, seed: int, spec: TrialSpec) -> TrialSpec:
        """The spec with what a search has found for the arm at this seed; as it is where it has found nothing."""
        changes = list(self.chosen.get(arm, ()))[seed : seed + 1]
        with refused_of(f"arm {arm!r}"):
            return replace(spec, **changes[0]) if changes and changes[0] else spec

    def _arm(self, baseline: str, level: Level) -> Arm:
        """The arm that this level makes of a baseline. Equal networks have one name, however they are reached."""
        values = {**self.baselines[level.baseline or baseline], **level.changes}
        changed = {
            name: {k: _of(values, k) for k in FIELDS if _of(values, k) != _of(base, k)}
            for name, base in self.baselines.items()
        }
        nearest = min(changed, key=lambda name: len(changed[name]))
        return Arm(baseline=nearest, changes=changed[nearest], values=values)

    def _fields(self, arm: Arm, fingerprint: Fingerprint) -> dict[str, Value]:
        """All spec fields of an arm at this profile, but for its seed."""
        values = {**arm.values, **self.profile.changes}
        if self.own_code:  # what its file does on the way may change networks that are shipped, too
            with refused_of(f"arm {arm.name!r}"):
                values["code"] = identity(self.own_code, own_names(values))
        if "dataset" in values:
            values["dataset"] = located(str(values["dataset"]))
        sound = _spec(arm.name, {**values, "data_fingerprint": "0" * 16})  # refused before data are prepared
        return {**values, "data_fingerprint": fingerprint(sound.dataset, sound.resolution, sound.channels)}


def _refuse_shared_seeds(arms: Mapping[str, Arm], wanted: Mapping[str, int]) -> None:
    """A network compared with itself at other seeds must not share some of them: pairs would not be independent."""
    for (one, arm), (other, arm_there) in itertools.combinations(arms.items(), 2):
        apart = abs(arm.first_seed - arm_there.first_seed)
        if 0 < apart < max(wanted[one], wanted[other]) and arm.same_network(arm_there):
            raise UserError(
                f"arms {one!r} and {other!r} are one network whose seeds start {apart} apart, and would share some "
                f"of {max(wanted[one], wanted[other])}; let them start further apart"
            )


def _spec(arm: str, values: Changes) -> TrialSpec:
    with refused_of(f"arm {arm!r}"):
        return TrialSpec.from_dict({**DEFAULTS, **values})


def _of(values: Changes, field: str) -> Value:
    return values.get(field, DEFAULTS.get(field, ""))
