"""A question about GANs as a table: baselines × factors × seeds, with what is asked declared beforehand.

A study expands to cells (arm, seed, TrialSpec); cells whose specs are equal are one trial.
"""

import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from harness.errors import UserError, unknown_name
from harness.metrics import METRICS
from harness.plugin_identity import identity
from harness.plugins import UserCode
from harness.spec import FOLDER, TrialSpec, own_names

Value: TypeAlias = float | int | str
Changes: TypeAlias = Mapping[str, Value]
Fingerprint: TypeAlias = Callable[[str, int, int], str]
"""(dataset, resolution, channels) -> fingerprint of the prepared pixels; see harness.data.fingerprint."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One value of a factor: what it is called in tables, and the spec fields it sets."""

    label: str
    changes: Changes = field(default_factory=dict)  # spec fields; "seed" is where the level's seeds start
    baseline: str = ""  # start from this baseline of the study instead of the question's own


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What varies in a question. `levels` are in their natural order, the baseline's own among them.

    Raises:
        UserError: two levels with one label.
    """

    label: str  # with its symbol and unit, as on an axis
    levels: tuple[Level, ...]

    @classmethod
    def of_field(cls, field: str, values: Sequence[Value], *, label: str) -> "Factor":
        """The usual factor: one spec field, one level a value."""
        return cls(
            label=label,
            levels=tuple(Level(label=_written(v), changes={field: v}) for v in values),
        )

    def __post_init__(self) -> None:
        labels = [level.label for level in self.levels]
        for label in labels:
            if labels.count(label) > 1:
                raise UserError(f"factor {self.label!r} has two levels labelled {label!r}; labels must differ")


Kind: TypeAlias = Literal["contrast", "trend", "sweet-spot"]
Expected: TypeAlias = Literal["lower", "higher", "equal", "rising", "falling", "worse outside"]

EXPECTATIONS: dict[Kind, tuple[Expected, ...]] = {
    "contrast": ("lower", "higher", "equal"),  # of each other level, against the baseline
    "trend": ("rising", "falling"),  # along the levels, in their order
    "sweet-spot": ("worse outside",),  # at both ends, against the baseline's level between them
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, declared before running: one factor, applied to one baseline, and what is expected of it.

    By example, with the levels 0.1, 1 and 10 of a factor whose baseline has 1:

        contrast    expected "lower":  two claims, that 0.1 and that 10 lower the metric
                    expected "equal":  two claims, that 0.1 and that 10 change it by less than the smallest effect
        trend       expected "rising": one claim, that the metric rises along 0.1, 1, 10
        sweet-spot  one claim, that both 0.1 and 10 are worse than 1

    With `versus`, each claim is about the interaction: about what the levels do to `baseline` beyond what the same
    levels do to `versus` (the ratio of the two ratios, or the difference of the two differences).

    The claims of one question are a family: their p values are corrected together.

    Raises:
        UserError: an expectation that the kind cannot have, an unknown metric, or an effect out of range.
    """

    key: str  # names files and headings: letters, digits, hyphens
    text: str  # the question in words
    hypothesis: str  # what is expected, and why
    baseline: str  # a key of Study.baselines
    factor: Factor
    kind: Kind
    expected: Expected
    metric: str = "fid"  # a key of harness.metrics.METRICS: the one that decides
    versus: str = ""  # another key of Study.baselines, for an interaction
    smallest_effect: float = 1.25
    """The smallest effect of interest: a ratio above 1 or a difference above 0, as the metric is compared. Less than
    that counts as none."""

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z0-9]+(-[A-Za-z0-9]+)*", self.key):
            raise UserError(
                f"question key {self.key!r} cannot name files; allowed: letters and digits, with single hyphens"
            )
        if self.kind not in EXPECTATIONS:
            raise unknown_name(f"kind of question {self.key!r}", self.kind, EXPECTATIONS)
        if self.expected not in EXPECTATIONS[self.kind]:
            raise unknown_name(
                f"{self.kind} expectation in question {self.key!r}", self.expected, EXPECTATIONS[self.kind]
            )
        if self.metric not in METRICS:
            raise unknown_name(f"metric of question {self.key!r}", self.metric, METRICS)
        metric = METRICS[self.metric]
        if self.kind == "sweet-spot" and metric.better == "neither":
            raise UserError(f"question {self.key!r} seeks the best {self.metric}, but neither more nor less is better")
        least = 1 if metric.scale == "ratio" else 0
        if not self.smallest_effect > least:
            raise UserError(
                f"question {self.key!r}: smallest_effect={self.smallest_effect!r} is out of range; allowed: above "
                f"{least}, as {self.metric} is compared by its {metric.scale}"
            )


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How much to spend: data, budget, seeds and scoring, the same for every arm of a study.

    A profile may ask the same questions of other networks, at levels that suit them: `baselines` and `factors`.
    """

    name: str  # smoke, laptop, paper; "paper@folder:faces" is paper on other data
    description: str
    changes: Changes  # spec fields set for every baseline: dataset, resolution, channels, kimg, ...
    baselines: Mapping[str, Changes] = field(default_factory=dict)  # what this profile changes in some baselines
    factors: Mapping[str, Factor] = field(default_factory=dict)  # question key -> its factor at this profile
    seeds: int  # replicates an arm
    num_generated: int  # samples a trial is scored on; the reference has at most as many
    extractor: str = "classifier"
    core_seconds_per_trial: float  # a guess for `plan`, the mean over arms, until the store holds trials to go by


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place in a study's table: an arm at a seed, and the trial that fills it."""

    arm: str
    seed: int  # by which arms are paired; the spec's own, counted from the arm's first
    spec: TrialSpec


@dataclass(frozen=True, kw_only=True)
class Study:
    """Baselines, the questions asked of them, and the profiles they can be asked at.

    Raises:
        UserError: two questions with one key, a baseline or a spec field that is not there, or a question
            whose levels do not hold the baseline's own value (found by `expand`).
    """

    name: str
    title: str
    baselines: Mapping[str, Changes]
    """Every spec field but data_fingerprint and what profiles set; "seed", where its seeds start, is 0 unless given."""
    questions: tuple[Question, ...]
    profiles: tuple[Profile, ...]
    note: str = ""  # what a reader of its answers must know
    own_code: UserCode | None = None  # the user's file that declares it, as it was read; None for those shipped here

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise UserError(
                f"study name {self.name!r} cannot name files; allowed: letters, digits, hyphens, underscores"
            )
        keys = [q.key for q in self.questions]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f"study {self.name!r} has two questions with key {key!r}; keys must differ")
        for question in self.questions:
            if question.baseline not in self.baselines:
                raise unknown_name(f"baseline of question {question.key!r}", question.baseline, self.baselines)
            if question.versus and question.versus not in self.baselines:
                raise unknown_name(f"versus of question {question.key!r}", question.versus, self.baselines)
            for level in question.factor.levels:
                if level.baseline and level.baseline not in self.baselines:
                    raise unknown_name(
                        f"baseline of a level in question {question.key!r}", level.baseline, self.baselines
                    )
            for name in {name for level in question.factor.levels for name in level.changes}:
                if name not in _FIELDS:
                    raise unknown_name(f"spec field in question {question.key!r}:", name, _FIELDS)
                for profile in self.profiles:
                    if name in profile.changes:
                        raise UserError(
                            f"question {question.key!r} varies {name!r}, which profile {profile.name!r} sets for "
                            f"every arm; take it out of the profiles and into the baselines"
                        )
        for profile in self.profiles:
            if "seed" in profile.changes:
                raise UserError(
                    f"profile {profile.name!r} sets 'seed' for every arm; let baselines or levels say where seeds start"
                )
            for name in profile.baselines:
                if name not in self.baselines:
                    raise unknown_name(f"baseline in profile {profile.name!r}:", name, self.baselines)
            for key in profile.factors:
                if key not in keys:
                    raise unknown_name(f"question in profile {profile.name!r}:", key, keys)

    @property
    def file(self) -> str:
        """The path of the user's own file that declares it; "" for the studies of this repository."""
        return os.path.abspath(self.own_code.file) if self.own_code else ""

    def profile(self, name: str) -> Profile:
        """The profile of that name; an unknown one raises UserError and lists those there are.

        "NAME@DATASET" is the profile NAME on another data set, for example "paper@folder:faces".
        """
        for profile in self.profiles:
            if profile.name == name:
                return profile
        plain, _, dataset = name.partition("@")
        if dataset:
            base = self.profile(plain)
            return replace(base, name=name, changes={**base.changes, "dataset": dataset})
        raise unknown_name("profile", name, [p.name for p in self.profiles])

    def at(self, profile_name: str) -> "Study":
        """The study as it is asked at one profile: with that profile's baselines and factors, and no other profile."""
        profile = self.profile(profile_name)
        return replace(
            self,
            baselines={name: {**base, **profile.baselines.get(name, {})} for name, base in self.baselines.items()},
            questions=tuple(replace(q, factor=profile.factors.get(q.key, q.factor)) for q in self.questions),
            profiles=(replace(profile, baselines={}, factors={}),),
        )

    def question(self, key: str) -> Question:
        """The question of that key; an unknown one raises UserError and lists those there are."""
        for question in self.questions:
            if question.key == key:
                return question
        raise unknown_name("question", key, [q.key for q in self.questions])

    def arm_name(self, question: Question, level: Level) -> str:
        """The arm that this level of the question is: the baseline it is nearest to, and what it changes there.

        Equal networks have one name, whatever baseline a question reaches them from.
        """
        made = {**self.baselines[level.baseline or question.baseline], **level.changes}
        changed = {
            name: {k: _of(made, k) for k in _FIELDS if _of(made, k) != _of(base, k)}
            for name, base in self.baselines.items()
        }
        nearest = min(changed, key=lambda name: len(changed[name]))
        first = changed[nearest].pop("seed", None)
        changes = [f"{k}={_written(v)}" for k, v in changed[nearest].items()]
        changes += [f"seeds from {first}"] * (first is not None)
        return " ".join([nearest, ", ".join(changes)]).strip()

    def arms(self, question: Question) -> dict[str, str]:
        """Level label -> arm name, in the factor's order. The baseline's own level maps to the bare baseline."""
        arms = {level.label: self.arm_name(question, level) for level in question.factor.levels}
        if question.baseline not in arms.values():
            raise UserError(
                f"question {question.key!r} of study {self.name!r} has no level that is its baseline "
                f"{question.baseline!r}; add the baseline's own value to the factor's levels"
            )
        return arms

    def arms_versus(self, question: Question) -> dict[str, str]:
        """As `arms`, for the baseline that the question's own is compared with; empty without an interaction."""
        return self.arms(replace(question, baseline=question.versus, versus="")) if question.versus else {}

    def expand(self, profile: Profile, seeds: int | Mapping[str, int] | None, fingerprint: Fingerprint) -> list[Cell]:
        """Every (arm, seed) of the study, each once, seed by seed so that an unfinished run is balanced.

        Args:
            profile: The profile to spend.
            seeds: Replicates an arm, or of each arm by name; None for the profile's own number. Seeds count from the
                arm's first, 0 unless it says otherwise.
            fingerprint: Tells the content of a data set, so that the spec names pixels and not a path.

        Raises:
            UserError: seeds below 1, or a spec that is refused, naming the arm.
        """
        if profile.baselines or profile.factors:
            resolved = self.at(profile.name)
            return resolved.expand(resolved.profiles[0], seeds, fingerprint)
        seeds = profile.seeds if seeds is None else seeds
        if not isinstance(seeds, Mapping) and (type(seeds) is not int or seeds < 1):
            raise UserError(f"seeds={seeds!r} is out of range; allowed: a whole number of at least 1")
        arms: dict[str, dict[str, Value]] = {}
        for name, base in self.baselines.items():
            arms[name] = {**base, **profile.changes}
        for question in self.questions:
            self.arms(question)  # refuses a question without its baseline
            for asked in (question, *([replace(question, baseline=question.versus)] if question.versus else [])):
                for level in question.factor.levels:
                    base = {**self.baselines[level.baseline or asked.baseline], **profile.changes}
                    name, made = self.arm_name(asked, level), {**base, **level.changes}
                    if any(_of(arms.setdefault(name, made), k) != _of(made, k) for k in _FIELDS):
                        raise UserError(
                            f"question {question.key!r}: the level {level.label!r} makes an arm called {name!r}, and "
                            f"another is called so; give that baseline another name"
                        )
        for arm, values in arms.items():
            if self.own_code:  # what its file does on the way may change networks that are shipped, too
                values["code"] = identity(self.own_code, own_names(values))
            if str(values["dataset"]).startswith(FOLDER):  # so that it is found again from another working folder
                path = str(values["dataset"]).removeprefix(FOLDER)
                values["dataset"] = FOLDER + (os.path.abspath(os.path.expanduser(path)) if path else "")
            sound = _spec(arm, {**values, "data_fingerprint": "0" * 16})  # refused before data are prepared
            values["data_fingerprint"] = fingerprint(sound.dataset, sound.resolution, sound.channels)
        first = {arm: int(values.pop("seed", 0)) for arm, values in arms.items()}
        wanted = dict.fromkeys(arms, seeds) if isinstance(seeds, int) else seeds
        self._refuse_shared_seeds(arms, first, wanted)
        # Made with the highest seed, the only one that may be out of range: each further check would be the same.
        specs = {arm: _spec(arm, {**v, "seed": first[arm] + wanted[arm] - 1}) for arm, v in arms.items()}
        return [
            Cell(arm=arm, seed=seed, spec=spec.at_seed(first[arm] + seed))
            for seed in range(max(wanted.values()))
            for arm, spec in specs.items()
            if seed < wanted[arm]
        ]

    def _refuse_shared_seeds(
        self, arms: Mapping[str, Changes], first: Mapping[str, int], wanted: Mapping[str, int]
    ) -> None:
        """A network compared with itself at other seeds must not share some of them: pairs would not be independent."""
        for (one, values), (other, values_there) in itertools.combinations(arms.items(), 2):
            apart = abs(first[one] - first[other])
            if 0 < apart < max(wanted[one], wanted[other]) and all(
                _of(values, k) == _of(values_there, k) for k in _FIELDS
            ):
                raise UserError(
                    f"arms {one!r} and {other!r} are one network whose seeds start {apart} apart, and would share some "
                    f"of {max(wanted[one], wanted[other])}; let them start further apart"
                )


_FIELDS = TrialSpec.__dataclass_fields__
_SPEC_DEFAULTS: dict[str, Value] = {"seed": 0} | {
    name: f.default for name, f in _FIELDS.items() if isinstance(f.default, int | float | str)
}


def _spec(arm: str, values: Changes) -> TrialSpec:
    try:
        return TrialSpec.from_dict({**_SPEC_DEFAULTS, **values})
    except UserError as error:
        raise UserError(f"arm {arm!r}: {error}") from None


def _written(value: Value | None) -> str:
    """A level's value, by six digits where these are all."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _of(values: Changes, field: str) -> Value | None:
    return values.get(field, _SPEC_DEFAULTS.get(field))
