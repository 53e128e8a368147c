"""What a study asks, and what it may spend: Factor, the four kinds of Question, Profile. Declarations only."""

import math
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias

from harness.declared import Declared
from harness.errors import UserError, unknown_name
from harness.metrics import BY_FEATURES, METRICS, Metric, is_metric, split

Value: TypeAlias = float | int | str
Changes: TypeAlias = Mapping[str, Value]


def located(name: str) -> str:
    """A data set's name, or that of a profile on one, with the absolute path of its folder, if it is one.

    So a folder is found again from elsewhere, and what belongs to it has one name however the path was typed, and
    through whatever symbolic link.
    """
    before, folder, path = name.partition("folder:")
    return before + folder + (os.path.realpath(os.path.expanduser(path)) if path else "")


def first_seed(value: Value, place: str) -> int:
    """Where the seeds of an arm start, as a baseline or a level gives it; `place` is of which arm or study.

    Raises:
        UserError: it is no whole number. Of one below 0, the spec says so.
    """
    if type(value) is not int:
        raise UserError(f"{place}: seed={value!r} is not possible; allowed: a whole number of at least 0")
    return value


def written(value: Value | None) -> str:
    """A field's value as tables and names of arms show it: by six digits where these are all."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


@dataclass(frozen=True, kw_only=True)
class Level(metaclass=Declared):
    """One value of a factor: what it is called in tables, and the spec fields it sets."""

    label: str
    changes: Changes = field(default_factory=dict)  # spec fields; "seed" is where the level's seeds start
    baseline: str = ""  # start from this baseline of the study instead of the question's own


@dataclass(frozen=True, kw_only=True)
class Factor(metaclass=Declared):
    """What varies in a question. `levels` are in their natural order, the baseline's own among them.

    Raises:
        UserError: fewer than two levels, or two with one label.
    """

    label: str  # with its symbol and unit, as on an axis
    levels: tuple[Level, ...]

    @classmethod
    def of_field(cls, field: str, values: Sequence[Value], *, label: str) -> "Factor":
        """The usual factor: one spec field, one level a value."""
        return cls(
            label=label,
            levels=tuple(Level(label=written(v), changes={field: v}) for v in values),
        )

    def __post_init__(self) -> None:
        labels = [level.label for level in self.levels]
        if len(labels) < 2:
            raise UserError(
                f"factor {self.label!r} has {len(labels) or 'no'} level{'s' * (not labels)}, and nothing varies; "
                f"allowed: at least two, the baseline's own among them"
            )
        for label in labels:
            if labels.count(label) > 1:
                raise UserError(f"factor {self.label!r} has two levels labelled {label!r}; labels must differ")


Kind: TypeAlias = Literal["contrast", "trend", "sweet-spot"]
Expected: TypeAlias = Literal["lower", "higher", "equal", "rising", "falling", "worse outside"]

KINDS: dict[Expected, Kind] = {
    **dict.fromkeys(("lower", "higher", "equal"), "contrast"),  # of each other level, against the baseline
    **dict.fromkeys(("rising", "falling"), "trend"),  # along the levels, in their order
    "worse outside": "sweet-spot",  # at both ends, against the baseline's level between them
}

OPPOSITE: dict[Expected, Expected] = {"lower": "higher", "higher": "lower", "rising": "falling", "falling": "rising"}


class _Kinds(Declared):
    """What makes questions: Question(kind=...), the form of earlier study files, still works."""

    def __call__(cls, *values: Any, **words: Any) -> Any:
        return super().__call__(*values, **words) if cls is not Question else _of_kind(*values, **words)


@dataclass(frozen=True)
class Question(metaclass=_Kinds):
    """What is asked, declared before running: one factor, applied to one baseline, and what is expected of it.

    Written as one of its four kinds. By example, with the levels 0.1, 1 and 10 of a factor whose baseline has 1:

        Contrast     expected="lower":  two claims, that 0.1 and that 10 lower the metric
                     expected="equal":  two claims, that 0.1 and that 10 change it by less than the smallest effect
        Trend        expected="rising": one claim, that the metric rises along 0.1, 1, 10
        SweetSpot    one claim, that both 0.1 and 10 are worse than 1
        Interaction  any of these, about what the levels do to `baseline` beyond what the same levels do to `versus`
                     (the ratio of the two ratios, or the difference of the two differences)

    The claims of one question are a family: their p values are corrected together.

    Where `also` names further metrics, all must show a claim for it to be supported, and all must refute it for it to
    be refuted; where some show what others refute, it depends on the metric. Each looks for the same: if FID is to be
    lower, which is better, then recall is to be higher.

    A claim is about the budget that all arms have. One about `final` quality has a verdict only where trials of the arm
    that it speaks against have settled; so has one about the same levels as another question of its study that asks how
    fast they learn.

    Raises:
        UserError: an expectation that the kind cannot have, an unknown metric, or an effect out of range.
    """

    key: str  # names files and headings: letters, digits, hyphens
    baseline: str  # a key of Study.baselines
    factor: Factor
    _: KW_ONLY
    text: str  # the question in words
    hypothesis: str  # what is expected, and why
    expected: Expected
    metric: str = "fid"  # a key of harness.metrics.METRICS, or "fid@EXTRACTOR": the one that decides
    also: tuple[str, ...] = ()  # further ones that must say the same, for example ("fid@inception-v3", "kid")
    smallest_effect: float = math.nan  # of interest: a ratio above 1 or a difference above 0; NaN for the metric's own
    versus: str = ""  # another key of Study.baselines, of an Interaction
    final: bool = False  # about quality once training has settled, not at the budget that there is

    allowed: ClassVar[tuple[Expected, ...]] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z0-9]+(-[A-Za-z0-9]+)*", self.key):
            raise UserError(
                f"question key {self.key!r} cannot name files; allowed: letters and digits, with single hyphens"
            )
        if self.expected not in self.allowed:
            raise unknown_name(
                f"{type(self).__name__} expectation in question {self.key!r}:", self.expected, self.allowed
            )
        if bool(self.versus) != isinstance(self, Interaction):
            raise UserError(
                f"question {self.key!r}: an Interaction names another baseline as `versus`, and no other does"
            )
        metric = self._measure(self.metric)
        if len({self.metric, *self.also}) <= len(self.also):
            raise UserError(
                f"question {self.key!r}: also={self.also!r} is not allowed; allowed: a tuple of metrics other than "
                f"{self.metric!r}, each once, such as ('kid',)"
            )
        for name in self.also:
            other, same = self._measure(name), split(name)[0] == split(self.metric)[0]
            if not same and "neither" in (metric.better, other.better):
                raise UserError(
                    f"question {self.key!r}: {self.metric} and {name} cannot be asked to agree, as of one of them "
                    f"neither more nor less is better"
                )
        if self.final and split(self.metric)[0] not in BY_FEATURES:
            raise UserError(
                f"question {self.key!r}: final=True is about the quality of samples, which {self.metric} does not "
                f"measure; allowed: {', '.join(BY_FEATURES)}"
            )
        if self.kind == "sweet-spot" and metric.better == "neither":
            raise UserError(f"question {self.key!r} seeks the best {self.metric}, but neither more nor less is better")
        least = 1 if metric.scale == "ratio" else 0
        if math.isnan(self.smallest_effect):
            object.__setattr__(self, "smallest_effect", metric.smallest_effect)
        if not self.smallest_effect > least:
            raise UserError(
                f"question {self.key!r}: smallest_effect={self.smallest_effect!r} is out of range; allowed: above "
                f"{least}, as {self.metric} is compared by its {metric.scale}"
            )

    @property
    def kind(self) -> Kind:
        """What the claims are about: single levels, their order, or the best of them."""
        return KINDS[self.expected]

    def by(self, metric: str) -> "Question":
        """The same question, decided by another metric alone: better is better, and worse is worse."""
        mine, other = METRICS[self.metric], METRICS[metric]
        turned = mine.better != other.better and self.expected in OPPOSITE
        same = split(metric)[0] == split(self.metric)[0]
        return replace(
            self,
            metric=metric,
            also=(),
            expected=OPPOSITE[self.expected] if turned else self.expected,
            smallest_effect=self.smallest_effect if same else other.smallest_effect,
        )

    def by_extractor(self, extractor: str) -> str:
        """The question's own metric by the features of that network; "" where it is not one of features."""
        metric = split(self.metric)[0]
        return f"{metric}@{extractor}" if metric in BY_FEATURES else ""

    def _measure(self, name: str) -> Metric:
        if not is_metric(name):
            metric, extractor = split(name)
            known = [f"{one}@{extractor}" for one in BY_FEATURES] if extractor and metric in METRICS else METRICS
            raise unknown_name(f"metric of question {self.key!r}:", name, known)
        return METRICS[name]


def extractors_named(questions: Iterable[Question]) -> list[str]:
    """The extractors that metrics of these questions name, each once."""
    named = (split(name)[1] for question in questions for name in (question.metric, *question.also))
    return list(dict.fromkeys(name for name in named if name))


class Contrast(Question):
    """Each other level against the baseline: is the metric "lower", "higher" or "equal" there?"""

    allowed = ("lower", "higher", "equal")


class Trend(Question):
    """Along the levels in their order: is the metric "rising" or "falling"?"""

    allowed = ("rising", "falling")


@dataclass(frozen=True)
class SweetSpot(Question):
    """Is the metric worse at both ends than at the baseline's level between them?"""

    _: KW_ONLY
    expected: Expected = "worse outside"

    allowed = ("worse outside",)


class Interaction(Question):
    """Do the levels do more, less or the same to `baseline` as they do to `versus`?"""

    allowed = tuple(KINDS)


def _of_kind(*values: Any, kind: str = "", versus: str = "", **words: Any) -> Question:
    """A question in the form of earlier study files, which is told how to write it now.

    Raises:
        UserError: no known kind, or what the question itself refuses.
    """
    kinds: dict[str, type[Question]] = {"contrast": Contrast, "trend": Trend, "sweet-spot": SweetSpot}
    key = words.get("key", *values[:1] or [""])
    if not kind:
        written_now = ", ".join(made.__name__ for made in (*kinds.values(), Interaction))
        raise UserError(f"question {key!r} is of no kind; write one of {written_now} in place of Question")
    if kind not in kinds:
        raise unknown_name(f"kind of question {key!r}:", kind, kinds)
    made = Interaction if versus else kinds[kind]
    warnings.warn(
        f"Question(kind={kind!r}) is written {made.__name__}(...) now; put it in its place and leave `kind` out",
        FutureWarning,
        stacklevel=3,
    )
    return made(*values, versus=versus, **words)


@dataclass(frozen=True, kw_only=True)
class Profile(metaclass=Declared):
    """How much to spend: data, budget, seeds and scoring, the same for every arm of a study.

    A profile may ask the same questions of other networks, at levels that suit them: `baselines` and `factors`.

    Raises:
        UserError: a name that would not be read as it is typed after `--profile`.
    """

    name: str  # smoke, laptop, paper; "paper@folder:faces" is paper on other data
    description: str
    changes: Changes  # spec fields set for every baseline: dataset, resolution, channels, kimg, ...
    baselines: Mapping[str, Changes] = field(default_factory=dict)  # what this profile changes in some baselines
    factors: Mapping[str, Factor] = field(default_factory=dict)  # question key -> its factor at this profile
    seeds: int  # replicates an arm
    num_generated: int  # samples a trial is scored on; the reference has at most as many
    extractor: str = ""  # one of harness.scoring.extractors; "" for what suits the data, see its `default_extractor`
    core_seconds_per_trial: float  # a guess for `plan` where trials run on a GPU, until the store holds like ones
    beside: tuple[str, ...] = ()  # profiles that change one thing, such as the budget; the summary shows their verdicts

    def __post_init__(self) -> None:
        plain = self.name.partition("@")[0]
        if not plain.strip() or not plain.isprintable() or plain.startswith("-"):
            raise UserError(
                f"profile name {self.name!r} cannot be typed after --profile; allowed: a word such as 'laptop', which "
                f"does not begin with - or @"
            )

    def fitted(
        self, shape: Mapping[str, int], stages: int, baselines: Mapping[str, Changes], dataset: str
    ) -> "Profile":
        """The profile on other data, at the resolution and channels that these need, where it sets any itself.

        A DC generator reaches a resolution by doubling, once a stage: those of the baselines get `stages` at the least.
        """
        changes = {**self.changes, "dataset": dataset}
        deeper = dict(self.baselines)
        if shape and "resolution" in changes:
            changes |= shape
            for name, values in baselines.items():
                if values.get("architecture") == "dc" and 0 < int(values.get("generator_depth", 0)) < stages:
                    deeper[name] = {**deeper.get(name, {}), "generator_depth": stages}
        return replace(self, changes=changes, baselines=deeper)
