import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.metrics import METRICS
from harness.study import Contrast, Factor, Interaction, Level, Question, Run, Study, SweetSpot, Trend
from studies import STUDIES
from studies.noise import NOISE
from studies.profiles import LAPTOP

SHARED = {name: study for name, study in STUDIES.items() if name != "reference"}  # has networks of its own


def expand(study: Study, profile: str = "laptop", seeds: int | Mapping[str, int] | None = None) -> list[Run]:
    return study.at(profile).runs(seeds, lambda *_: "0" * 16)


def test_relative_labels_hold_at_every_profile() -> None:
    modern = STUDIES["modern"]
    for profile in modern.profiles:
        design = modern.at(profile.name)
        specs = {c.arm: c.spec for c in expand(modern, profile.name, 1)}
        arms = {question.key: design.arms(question) for question in design.questions}
        slower = specs[arms["tricks"]["G learns 4× slower than D (TTUR)"].name]
        assert slower.generator_lr == pytest.approx(slower.discriminator_lr / 4)
        assert float(list(arms["moving-average"])[-1]) == specs["dc"].ema_kimg


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_study_expands_at_every_profile(study: Study) -> None:
    for profile in study.profiles:
        design = study.at(profile.name)
        cells = expand(study, profile.name)
        assert len({(c.arm, c.seed) for c in cells}) == len(cells)
        assert len({c.spec.trial_id for c in cells}) == len(cells), "two arms of a study are the same trial"
        for question in design.questions:
            names = {arm.name for arm in design.arms(question).values()}
            assert names <= {c.arm for c in cells} and len(names) == len(question.factor.levels) >= 2


def test_arms_share_seeds_and_seeds_are_blocks() -> None:
    cells = expand(NOISE, seeds=3)
    arms = list(dict.fromkeys(c.arm for c in cells))
    assert [(c.arm, c.seed) for c in cells] == [(arm, seed) for seed in range(3) for arm in arms]


def test_an_arm_differs_in_its_level_alone() -> None:
    cells = {c.arm: c.spec.to_dict() for c in expand(NOISE, seeds=1)}
    design = NOISE.at("laptop")
    for question in design.questions:
        base, arms = cells[question.baseline], design.arms(question)
        for level in question.factor.levels:
            arm = cells[arms[level.label].name]
            assert {k: v for k, v in arm.items() if v != base[k]} == {
                k: v for k, v in level.changes.items() if v != base[k]
            }


def test_more_seeds_keep_the_trials_there_are() -> None:
    few, many = expand(NOISE, seeds=2), expand(NOISE, seeds=3)
    assert {c.spec.trial_id for c in few} < {c.spec.trial_id for c in many}


def test_the_baseline_is_shared_between_questions() -> None:
    dc_questions = [q for q in NOISE.questions if q.baseline == "dc"]
    assert len(dc_questions) > 1
    assert sum(c.arm == "dc" for c in expand(NOISE, seeds=1)) == 1


WORDS = {"key": "k", "text": "?", "hypothesis": "!", "baseline": "dc"}


def question(**changes) -> Trend:
    factor = Factor.of_field("latent_std", (0.5, 1.0), label="σ")
    return Trend(**{**WORDS, "factor": factor, "expected": "rising", **changes})


def study(*questions: Trend) -> Study:
    return Study(name="s", title="t", baselines=NOISE.baselines, questions=questions, profiles=(LAPTOP,))


def test_bad_declarations_are_refused() -> None:
    with pytest.raises(UserError, match="two questions with key 'k'"):
        study(question(), question())
    with pytest.raises(UserError, match="two profiles named 'laptop'"):
        replace(study(question()), profiles=(LAPTOP, LAPTOP))
    for name in ("", " ", "-laptop", "@faces", "two\nlines"):
        with pytest.raises(UserError, match=re.escape(f"profile name {name!r} cannot be typed")):
            replace(LAPTOP, name=name)
    for name in ("prüfung", "laptop (gpu)", "_x", "laptop@folder:/tmp/two\nlines"):  # stores have such
        assert replace(LAPTOP, name=name).name == name
    for values, told in (((1.0,), "has 1 level, and nothing varies"), ((), "has no levels")):
        with pytest.raises(UserError, match=told):
            Factor.of_field("latent_std", values, label="σ")
    with pytest.raises(UserError, match="unknown baseline of question 'k': 'cd'; valid: dc, fc"):
        study(question(baseline="cd"))
    with pytest.raises(UserError, match="no level that is its baseline"):
        expand(study(question(factor=Factor.of_field("latent_std", (0.5, 2.0), label="σ"))))
    with pytest.raises(UserError, match="unknown spec field in question 'k': 'latent_sd'.*did you mean 'latent_std'"):
        expand(study(question(factor=Factor.of_field("latent_sd", (0.5, 1.0), label="σ"))))
    with pytest.raises(UserError, match="varies 'kimg', which profile 'laptop' sets"):
        study(question(factor=Factor.of_field("kimg", (1.0, 2.0), label="kimg")))
    with pytest.raises(UserError, match="unknown profile 'lapto'.*did you mean 'laptop'"):
        NOISE.profile("lapto")
    with pytest.raises(UserError, match="seeds=0"):
        expand(NOISE, seeds=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expected": "rising"}, "unknown Contrast expectation in question 'k'.*valid: lower, higher, equal"),
        ({"metric": "fdi"}, "unknown metric of question 'k': 'fdi' .did you mean 'fid'"),
        ({"smallest_effect": 0.9}, "smallest_effect=0.9 is out of range; allowed: above 1"),
        ({"key": "../k"}, "question key '../k' cannot name files; allowed: letters and digits, with single hyphens"),
        ({"metric": "recall", "smallest_effect": 0.0}, "allowed: above 0"),
        ({"versus": "fc"}, "an Interaction names another baseline as `versus`, and no other does"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Contrast(**{**WORDS, "factor": NOISE.questions[0].factor, "expected": "lower", **changes})


def test_a_sweet_spot_needs_a_better_direction() -> None:
    with pytest.raises(UserError, match="neither more nor less is better"):
        SweetSpot(**WORDS, factor=NOISE.questions[0].factor, metric="g_loss_late")


def test_the_old_form_works_and_is_told() -> None:
    words = {**WORDS, "factor": NOISE.questions[0].factor}
    for kind, expected, made in (("contrast", "lower", Contrast), ("trend", "rising", Trend)):
        with pytest.warns(FutureWarning, match=rf"Question\(kind='{kind}'\) is written {made.__name__}\(...\) now"):
            assert Question(**words, kind=kind, expected=expected) == made(**words, expected=expected)
    with pytest.warns(FutureWarning, match="is written Interaction"):
        assert Question(**words, kind="contrast", expected="equal", versus="fc").versus == "fc"
    with pytest.warns(FutureWarning, match="is written SweetSpot"):
        assert Question(**words, kind="sweet-spot", expected="worse outside") == SweetSpot(**words)
    with pytest.warns(FutureWarning) as told:
        Question(**words, kind="trend", expected="rising")
    assert [warning.filename for warning in told] == [__file__], "where it is written"
    with pytest.raises(UserError, match="unknown kind of question 'k': 'guess'.*valid: contrast, trend, sweet-spot"):
        Question(**words, kind="guess", expected="lower")
    with pytest.raises(UserError, match="question 'k' is of no kind; write one of Contrast, .*, Interaction in place"):
        Question(**words, expected="lower")
    with pytest.raises(UserError, match="question 'k' is of no kind"):
        Question("k", "dc", NOISE.questions[0].factor, expected="lower")
    with pytest.warns(FutureWarning, match="is written Trend"):
        old = Question("k", "dc", words["factor"], text="?", hypothesis="!", kind="trend", expected="rising")
    assert old == Trend(**words, expected="rising")


def test_the_smallest_effect_is_the_metrics_own() -> None:
    assert question().smallest_effect == METRICS["fid"].smallest_effect == 1.25
    assert question(metric="recall").smallest_effect == 0.05
    assert question(smallest_effect=2.0).smallest_effect == 2.0


def test_a_profile_on_other_data() -> None:
    assert NOISE.profile("smoke@folder:/a/faces@2").changes["dataset"] == "folder:/a/faces@2"
    assert NOISE.profile("smoke@cifar10").name == "smoke@cifar10"


@pytest.mark.parametrize("typed", ["../faces é", "/a/faces é/", "/a/b/.././faces é", "~/faces é"])
def test_a_profile_on_a_folder_has_one_name(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By it the store names plans and reports."""
    monkeypatch.setenv("HOME", "/a")
    monkeypatch.setattr("os.getcwd", lambda: "/a/b")
    profile = NOISE.profile(f"smoke@folder:{typed}")
    assert profile.name == "smoke@folder:/a/faces é" and profile.changes["dataset"] == "folder:/a/faces é"
    assert NOISE.profile(profile.name) == profile


def test_a_linked_folder_has_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "disk" / "faces").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert NOISE.profile(f"smoke@folder:{tmp_path}/link/faces").name == f"smoke@folder:{tmp_path}/disk/faces"


def test_a_misspelled_profile_on_other_data_is_refused() -> None:
    with pytest.raises(UserError, match="unknown profile 'smoek'.*did you mean 'smoke'"):
        NOISE.profile("smoek@cifar10")


def test_a_profile_may_change_baselines_and_factors() -> None:
    wide = Factor.of_field("latent_std", (1.0, 100.0), label="σ")
    profile = replace(NOISE.profile("smoke"), baselines={"fc": {"latent_dim": 7}}, factors={"latent-std-fc": wide})
    study = replace(NOISE, profiles=(profile,))
    design, cells = study.at("smoke"), {c.arm: c.spec for c in expand(study, "smoke", 1)}
    assert cells["fc"].latent_dim == 7 and cells["dc"].latent_dim == 64
    arms = design.arms(design.question("latent-std-fc"))
    assert [arm.name for arm in arms.values()] == ["fc", "fc latent_std=100"]


def test_a_level_may_be_another_baseline() -> None:
    design = STUDIES["architecture"].at("laptop")
    assert [arm.name for arm in design.arms(design.question("dc-or-fc")).values()] == ["fc", "dc"]


def test_studies_share_the_trials_of_their_baselines() -> None:
    cells = [cell for study in SHARED.values() for cell in expand(study, seeds=1)]
    for baseline in ("dc", "fc"):
        found = [cell.spec.trial_id for cell in cells if cell.arm == baseline]
        assert len(found) > 1 and len(set(found)) == 1


def test_equal_networks_have_one_name() -> None:
    design = STUDIES["combined"].at("laptop")
    assert [arm.name for arm in design.arms(design.question("tricks-dc")).values()][:2] == ["dc", "dc-2g"]
    assert design.arms(design.question("trick-interaction-dc"))["with"].name.startswith("dc-2g real_label_low=0.9")


def test_an_interaction_runs_the_arms_of_both_baselines() -> None:
    factor = Factor.of_field("latent_std", (1.0, 2.0), label="σ")
    words = {"key": "k", "text": "?", "hypothesis": "!", "factor": factor, "expected": "equal"}
    study = replace(NOISE, questions=(Interaction(**words, baseline="dc", versus="fc"),), profiles=(LAPTOP,))
    assert {c.arm for c in expand(study, seeds=1)} >= {"dc", "dc latent_std=2", "fc", "fc latent_std=2"}
    with pytest.raises(UserError, match="unknown versus of question 'k': 'cf'"):
        replace(study, questions=(Interaction(**words, baseline="dc", versus="cf"),))


def test_seeds_by_arm() -> None:
    seeds = {c.arm: 1 for c in expand(NOISE, seeds=1)} | {"dc": 3}
    cells = expand(NOISE, seeds=seeds)
    assert [c.seed for c in cells if c.arm == "dc"] == [0, 1, 2] and [c.seed for c in cells if c.arm == "fc"] == [0]


def test_an_arm_against_itself_at_other_seeds() -> None:
    study = STUDIES["aa"]
    cells = [c for c in expand(study, seeds=2) if c.arm.startswith("dc")]
    assert [(c.arm, c.seed, c.spec.seed) for c in cells] == [
        *(("dc", 0, 0), ("dc seeds from 1000", 0, 1000)),
        *(("dc", 1, 1), ("dc seeds from 1000", 1, 1001)),
    ]
    assert len({replace(c.spec, seed=0) for c in cells}) == 1  # nothing else differs


def test_a_baseline_at_seeds_of_its_own() -> None:
    new = {**NOISE.baselines["dc"], "seed": 500}
    factor = Factor.of_field("latent_std", (1.0, 2.0), label="σ")
    words = {"key": "k", "text": "?", "hypothesis": "!", "factor": factor, "expected": "equal"}
    study = replace(
        NOISE,
        baselines={"dc": NOISE.baselines["dc"], "new": new},
        questions=(Contrast(**words, baseline="new"),),
        profiles=(LAPTOP,),
    )
    cells = expand(study, seeds=2)
    assert [(c.arm, c.seed, c.spec.seed) for c in cells] == [
        *(("dc", 0, 0), ("new", 0, 500), ("new latent_std=2", 0, 500)),
        *(("dc", 1, 1), ("new", 1, 501), ("new latent_std=2", 1, 501)),
    ]
    with pytest.raises(UserError, match="arm 'new': seed=-1 is out of range"):
        expand(replace(study, baselines={**study.baselines, "new": {**new, "seed": -1}}), seeds=2)


def one_factor(*levels: Level, **changes) -> Study:
    levels = levels or (Level(label="other", changes={"latent_std": 2.0}),)
    factor = Factor(label="x", levels=(Level(label="own"), *levels))
    words = {"key": "k", "text": "?", "hypothesis": "!", "factor": factor, "expected": "equal"}
    baselines = {"dc": NOISE.baselines["dc"]}
    return Study(
        **{
            "name": "s",
            "title": "t",
            "baselines": baselines,
            "questions": (Contrast(**words, baseline="dc"),),
            "profiles": (LAPTOP,),
            **changes,
        }
    )


def test_nearly_equal_levels_are_two_arms() -> None:
    study = one_factor(*(Level(label=f"{v}", changes={"latent_std": v}) for v in (1.00000001, 1.00000002)))
    assert len({c.spec.trial_id for c in expand(study, seeds=1)}) == len(expand(study, seeds=1)) == 3
    with pytest.raises(UserError, match="two levels labelled 'own'; labels must differ"):
        one_factor(Level(label="own", changes={"latent_std": 2.0}))


def test_no_arm_takes_the_place_of_another() -> None:
    dc = NOISE.baselines["dc"]
    study = one_factor(
        Level(label="2", changes={"latent_std": 2.0}),
        baselines={"dc": dc, "dc latent_std=2": {**dc, "latent_std": 5.0}},
    )
    with pytest.raises(UserError, match="makes an arm called 'dc latent_std=2', and another is called so"):
        expand(study, seeds=1)


def test_seeds_that_two_arms_would_share_are_refused() -> None:
    study = one_factor(Level(label="later", changes={"seed": 4}))
    assert len({c.spec.trial_id for c in expand(study, seeds=4)}) == 8
    with pytest.raises(UserError, match="are one network whose seeds start 4 apart, and would share some of 5"):
        expand(study, seeds=5)
    other = one_factor(Level(label="later", changes={"seed": 4, "latent_std": 2.0}))
    assert len(expand(other, seeds=5)) == 10, "two networks may share seeds: they are paired by them"
    with pytest.raises(UserError, match="profile 'laptop' sets 'seed' for every arm"):
        one_factor(profiles=(replace(LAPTOP, changes={**LAPTOP.changes, "seed": 1}),))


@pytest.mark.parametrize("name", ["../evil", "", "a b"])
def test_a_studys_name_must_name_files(name: str) -> None:
    with pytest.raises(UserError, match="cannot name files; allowed: letters"):
        one_factor(name=name)
