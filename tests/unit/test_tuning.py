"""What a tuning declares and refuses, and that its draws are fixed for good."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.catalog import Catalog
from harness.errors import UserError
from harness.execution.search import search_study
from harness.study import Choice, Factor, Level, LogUniform, Study, Tuning
from studies.aa import AA
from studies.architecture import ARCHITECTURE
from studies.baselines import FC
from studies.rules import RULES
from studies.tuned import ARCHITECTURE_TUNED, LEARNING_RATES

RATES = {"generator_lr": LogUniform(1e-4, 1e-2)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tuning(fields={}), "name at least one spec field and its range"),
        (lambda: Tuning(fields={"learning_rate": LogUniform(1, 2)}), "unknown spec field of a tuning 'learning_rate'"),
        (
            lambda: Tuning(fields={"generator_lr": (1e-4, 1e-3)}),
            "generator_lr=(0.0001, 0.001) is no range; allowed: LogUniform(low, high) or Choice(",
        ),
        (lambda: Tuning(fields={"kimg": LogUniform(1, 2)}), "'kimg' says what is asked, and may not be searched over"),
        (lambda: Tuning(fields={"seed": Choice((1, 2))}), "'seed' says what is asked"),
        (lambda: Tuning(fields=RATES, trials=1), "trials=1 is out of range; allowed: a whole number of at least 2"),
        (lambda: Tuning(fields=RATES, first_seed=5), "first_seed=5 is out of range"),
        (lambda: Tuning(fields=RATES, searcher="grid"), "unknown searcher of a tuning 'grid'; valid: random, optuna"),
        (lambda: Tuning(fields=["generator_lr"]), "fields=['generator_lr'] is not allowed; allowed: a dict"),
        (lambda: Tuning(fields={"generator_lr": (1e-4, 1e-2)}), "generator_lr=(0.0001, 0.01) is no range; allowed"),
        (lambda: Tuning(fields={"batch_size": LogUniform(8, 64)}), "batch_size takes whole numbers, and LogUniform"),
        (lambda: Tuning(fields={"loss": LogUniform(1, 2)}), "loss takes no numbers, and LogUniform draws fractions"),
        (lambda: LogUniform(0, 1), "0 < low < high"),
        (lambda: LogUniform(2, 1), "0 < low < high"),
        (lambda: LogUniform("1e-4", "1e-2"), "allowed: numbers, 0 < low < high"),
        (lambda: LogUniform(True, 2), "allowed: numbers, 0 < low < high"),
        (lambda: ARCHITECTURE_TUNED.tuned(LEARNING_RATES), "study 'architecture-tuned' is tuned already; call tuned()"),
        (lambda: at_seeds("7"), "study 'aa-tuned': seed='7' is not possible; allowed: a whole number of at least 0"),
        (lambda: Choice([1, 2]), "a tuple of at least two values"),
        (lambda: Choice(2), "a tuple of at least two values"),
        (lambda: Choice((1,)), "a tuple of at least two values"),
        (lambda: Choice((1, 1)), "each once"),
        (lambda: Choice(([1], [2])), "a tuple of at least two values"),
        (
            lambda: Tuning(fields={"loss": Choice(("hinge", "mine"))}),
            "unknown loss of a tuning 'mine' (did you mean 'hinge'?); valid: nonsaturating, least-squares, hinge",
        ),
        (
            lambda: replace(ARCHITECTURE, tuning=RATES),
            "tuning={'generator_lr': LogUniform(low=0.0001, high=0.01)} is not possible; allowed: Tuning or None",
        ),
        (lambda: ARCHITECTURE.tuned(LEARNING_RATES, name="architecture"), "'architecture' cannot be called so when"),
        (lambda: two_rates().tuned(Tuning(fields=RATES)), "varies 'generator_lr', which its tuning searches over"),
        (lambda: at_a_profiles_seeds(1_000_000), "seeds from 1000000 overlap its verdicts', from 1000000"),
        (lambda: RULES.tuned(Tuning(fields={"ema_kimg": LogUniform(0.1, 1)})), "study 'rules-tuned' varies 'ema_kimg'"),
        (lambda: at_seeds(1_000_100), "seeds from 1000000 overlap its verdicts', from 1000100"),
        (lambda: at_seeds(995_000), "seeds from 1000000 overlap its verdicts', from 995000"),
        (
            lambda: set_in_profiles("generator_lr", 0.1).tuned(Tuning(fields=RATES)),
            "profile 'smoke' sets 'generator_lr', which the tuning of study 'architecture-tuned' searches over",
        ),
    ],
)
def test_what_is_refused(make, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def at_seeds(start: int | str) -> Study:
    question = AA.questions[0]
    levels = (question.factor.levels[0], Level(label="other", changes={"seed": start}))
    question = replace(question, factor=replace(question.factor, levels=levels))
    return replace(AA, questions=(question,)).tuned(LEARNING_RATES)


def two_rates() -> Study:
    """Its arms are baselines that differ in nothing but the rate."""
    baselines = {"slow": {**FC, "generator_lr": 1e-4}, "fast": {**FC, "generator_lr": 1e-3}}
    levels = (Level(label="slow"), Level(label="fast", baseline="fast"))
    question = replace(AA.questions[0], baseline="slow", factor=Factor(label="rate", levels=levels))
    return replace(AA, baselines=baselines, questions=(question,))


def at_a_profiles_seeds(start: int) -> Study:
    profile = replace(ARCHITECTURE.profile("laptop"), baselines={"fc": {"seed": start}})
    return replace(ARCHITECTURE, profiles=(profile,)).tuned(LEARNING_RATES)


def set_in_profiles(name: str, value: float) -> Study:
    profiles = [replace(p, changes={**p.changes, name: value}) for p in ARCHITECTURE.profiles]
    return replace(ARCHITECTURE, profiles=tuple(profiles))


def test_a_tuned_title_is_two_sentences() -> None:
    for title, tuned in (("FC or DC?", "FC or DC? Each arm tuned"), ("FC or DC", "FC or DC. Each arm tuned")):
        assert replace(ARCHITECTURE, title=title).tuned(LEARNING_RATES).title == tuned


def test_ranges_hold_their_ends() -> None:
    rate, steps = LogUniform(3e-5, 3e-3), Choice((1, 2, 5))
    assert (rate.at(0.0), rate.at(1.0), rate.at(0.5)) == (3e-5, 3e-3, 3e-4)
    assert [steps.at(share) for share in (0.0, 0.34, 0.999, 1.0)] == [1, 2, 5, 5]


def test_draws_are_fixed_for_good() -> None:
    """A change here names other trials in every search that anybody has run."""
    tuning = Tuning(fields={"generator_lr": LogUniform(3e-5, 3e-3), "discriminator_steps": Choice((1, 2))})
    drawn = [tuning.drawn(seed, candidate) for seed in (0, 1) for candidate in (1, 2)]
    assert drawn == [
        {"discriminator_steps": 1, "generator_lr": 0.0012},
        {"discriminator_steps": 1, "generator_lr": 0.00086},
        {"discriminator_steps": 2, "generator_lr": 0.0014},
        {"discriminator_steps": 1, "generator_lr": 0.001},
    ]
    assert replace(tuning, trials=9).drawn(1, 2) == drawn[3], "more candidates leave the first as they were"


def test_a_search_has_an_arm_for_each_candidate() -> None:
    candidates = {arm: [[{}, {}], [{"generator_lr": 0.5}, {"generator_lr": 0.25}]] for arm in ("fc", "dc")}
    search = search_study(ARCHITECTURE_TUNED, "laptop", candidates)
    runs = {(run.arm, run.seed): run.spec for run in search.at("laptop").runs(2, lambda *_: "0" * 16)}
    assert sorted(runs) == [(f"{arm} / {n}", seed) for arm in ("dc", "fc") for n in (0, 1) for seed in (0, 1)]
    assert [runs["fc / 1", seed].generator_lr for seed in (0, 1)] == [0.5, 0.25]
    assert {spec.seed for spec in runs.values()} == {1_000_000, 1_000_001}
    plain = {(run.arm, run.seed): run.spec for run in ARCHITECTURE.at("laptop").runs(2, lambda *_: "0" * 16)}
    assert runs["dc / 0", 1].at_seed(1) == plain["dc", 1], "the declared candidate is the arm itself"


def test_what_was_chosen_names_other_trials() -> None:
    found = {"fc": [{"generator_lr": 0.5}, {}]}
    runs = replace(ARCHITECTURE_TUNED, chosen=found).at("laptop").runs(3, lambda *_: "0" * 16)
    plain = {(run.arm, run.seed): run.spec for run in ARCHITECTURE.at("laptop").runs(3, lambda *_: "0" * 16)}
    changed = [(run.arm, run.seed) for run in runs if run.spec != plain[run.arm, run.seed]]
    assert changed == [("fc", 0)]
    assert next(run.spec for run in runs if (run.arm, run.seed) == ("fc", 0)).generator_lr == 0.5


def test_no_study_is_named_as_a_search(tmp_path: Path) -> None:
    """Both would keep their plans in one place of a store, each in the other's."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\nfrom studies.aa import AA\nSTUDY = replace(AA, name='aa-tuned-search')"
    )
    with pytest.raises(
        UserError, match="'aa-tuned-search', as the search of a tuned study 'aa-tuned' would be; rename it"
    ):
        Catalog({}, {}).find(str(file))
