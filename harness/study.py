"""A question about GANs as a table: baselines × factors × seeds, with what is asked declared beforehand.

A study only declares; `study.at(profile)` is the design that follows from it. All that a study file needs is here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.declared import Declared
from harness.design import FIELDS, Arm, Design, Run
from harness.errors import UserError, unknown_name
from harness.plugins import UserCode
from harness.published import read_published
from harness.questions import (
    Changes,
    Contrast,
    Expected,
    Factor,
    Interaction,
    Level,
    Profile,
    Question,
    SweetSpot,
    Trend,
    located,
)
from harness.sources import natural_shape
from harness.tuning import Choice, LogUniform, Tuning

__all__ = [
    "Arm",
    "Changes",
    "Choice",
    "Contrast",
    "Design",
    "Expected",
    "Factor",
    "Interaction",
    "Level",
    "LogUniform",
    "Profile",
    "Question",
    "Run",
    "Study",
    "SweetSpot",
    "Trend",
    "Tuning",
]


@dataclass(frozen=True, kw_only=True)
class Study(metaclass=Declared):
    """Baselines, the questions asked of them, and the profiles they can be asked at.

    Raises:
        UserError: two questions with one key, two profiles of one name, a baseline or a spec field that is not
            there, or a question whose levels do not hold the baseline's own value (found by `Design.arms`).
    """

    name: str
    title: str
    baselines: Mapping[str, Changes]
    """Every spec field but data_fingerprint and what profiles set; "seed", where its seeds start, is 0 unless given."""
    questions: tuple[Question, ...]
    profiles: tuple[Profile, ...]
    note: str = ""  # what a reader of its answers must know
    published: Path | str | None = None  # a file of what a paper published of its arms; see harness/published.py
    own_code: UserCode | None = None  # the user's file that declares it, as it was read; None for those shipped here
    tuning: Tuning | None = None  # the search that each arm gets before its seeds run; None: arms are as declared
    scores_untrained: bool = True  # its baselines' generators before training, too, which a search has no use for
    untuned: str = ""  # the name of the same study without tuning, whose verdicts the report shows beside these
    chosen: Mapping[str, Sequence[Changes]] = field(default_factory=dict)  # arm -> what a search found, seed by seed

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise UserError(
                f"study name {self.name!r} cannot name files; allowed: letters, digits, hyphens, underscores"
            )
        keys = [q.key for q in self.questions]
        for kind, names in (("questions with key", keys), ("profiles named", [p.name for p in self.profiles])):
            for name in names:
                if names.count(name) > 1:
                    raise UserError(f"study {self.name!r} has two {kind} {name!r}; these must differ")
        for question in self.questions:
            if question.baseline not in self.baselines:
                raise unknown_name(f"baseline of question {question.key!r}:", question.baseline, self.baselines)
            if question.versus and question.versus not in self.baselines:
                raise unknown_name(f"versus of question {question.key!r}:", question.versus, self.baselines)
            for level in question.factor.levels:
                if level.baseline and level.baseline not in self.baselines:
                    raise unknown_name(
                        f"baseline of a level in question {question.key!r}:", level.baseline, self.baselines
                    )
            for name in {name for level in question.factor.levels for name in level.changes}:
                if name not in FIELDS:
                    raise unknown_name(f"spec field in question {question.key!r}:", name, FIELDS)
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
        if self.tuning is not None:
            self.tuning.require_apart(self.name, self.baselines, self.questions, self.profiles)

    def tuned(self, tuning: Tuning, *, name: str = "") -> "Study":
        """The same study with every arm tuned alike, under a name of its own; its report compares the verdicts."""
        if self.tuning is not None:
            raise UserError(f"study {self.name!r} is tuned already; call tuned() of the study without a tuning")
        if name == self.name:
            raise UserError(f"study {name!r} cannot be called so when it is tuned, too; leave name= out")
        title = f"{self.title}{'' if self.title.endswith(('.', '?', '!')) else '.'} Each arm tuned"
        return replace(self, name=name or f"{self.name}-tuned", title=title, tuning=tuning, untuned=self.name)

    def profile(self, name: str) -> Profile:
        """The profile of that name; an unknown one raises UserError and lists those there are.

        "NAME@DATASET" is the profile NAME on another data set, for example "paper@folder:faces"; see `Profile.fitted`.
        """
        for profile in self.profiles:
            if profile.name == name:
                return profile
        plain, _, dataset = name.partition("@")
        if dataset:
            base, dataset = self.profile(plain), located(dataset)
            fitted = base.fitted(*natural_shape(dataset), self.baselines, dataset)
            return replace(fitted, name=f"{plain}@{dataset}")
        raise unknown_name("profile", name, [p.name for p in self.profiles])

    def at(self, profile_name: str) -> Design:
        """The study as it is asked at one profile: with that profile's own baselines and factors."""
        profile = self.profile(profile_name)
        design = Design(
            name=self.name,
            title=self.title,
            note=self.note,
            profile=profile,
            baselines={name: {**base, **profile.baselines.get(name, {})} for name, base in self.baselines.items()},
            questions=tuple(replace(q, factor=profile.factors.get(q.key, q.factor)) for q in self.questions),
            own_code=self.own_code,
            tuning=self.tuning,
            chosen=self.chosen,
        )
        return replace(design, published=read_published(self.published, design.every_arm)) if self.published else design
