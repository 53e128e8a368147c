"""What users write into study files: what is no field, or of another type, is one line, where it is written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.study import Contrast, Factor, Level, Profile, Study
from studies.baselines import DC, FC
from studies.profiles import SMOKE
from tests.unit.test_design import one_factor, question

TWO = Factor(label="f", levels=(Level(label="1"), Level(label="2", changes={"latent_std": 2.0})))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: one_factor(title=None), "Study: title=None is not possible; allowed: text"),
        (lambda: one_factor(baselines=["fc"]), "Study: baselines=['fc'] is not possible; allowed: a dict"),
        (lambda: one_factor(baselines={"fc": "FC"}), "Study: baselines['fc']='FC' is not possible; allowed: a dict"),
        (lambda: one_factor(baselines={"fc": {"kimg": None}}), "baselines['fc']['kimg']=None is not possible; allowed"),
        (lambda: one_factor(questions=question()), "a tuple, which has a comma even where it holds one: (..., )"),
        (lambda: one_factor(questions=("text",)), "questions[0]='text' is not possible; allowed: a Question(...)"),
        (lambda: one_factor(profiles=("smoke",)), "profiles[0]='smoke' is not possible; allowed: a Profile(...)"),
        (lambda: question(factor="latent_std"), "factor='latent_std' is not possible; allowed: a Factor(...)"),
        (lambda: question(baseline=FC), "Trend: baseline={'architecture': 'fc'"),
        (lambda: question(metric=None), "Trend: metric=None is not possible; allowed: text"),
        (lambda: question(smallest_effect="big"), "smallest_effect='big' is not possible; allowed: a number"),
        (lambda: question(final="no"), "final='no' is not possible; allowed: True or False"),
        (lambda: question(hypotesis="x"), "unknown field of Trend 'hypotesis' (did you mean 'hypothesis'?)"),
        (lambda: Contrast("k", "fc", "f", text="", hypothesis="", expected="equal"), "Contrast: factor='f' is not"),
        (lambda: Factor(label="f", levels=Level(label="1")), "Factor: levels=Level(label='1'"),
        (lambda: Level(label=1), "Level: label=1 is not possible; allowed: text"),
        (lambda: Level(label="1", changes={"kimg": [1]}), "changes['kimg']=[1] is not possible; allowed: float or int"),
        (
            lambda: Profile(name="p", description="d", changes={}),
            "Profile(name='p') lacks seeds, num_generated, core_seconds_per_trial",
        ),
        (lambda: Factor(label="f"), "Factor(label='f') lacks levels"),
        (lambda: Contrast("k"), "Contrast(key='k') lacks baseline, factor, text, hypothesis, expected"),
        (lambda: Profile(kimgs=3), "unknown field of Profile 'kimgs'"),
        (lambda: Profile(name="p", seeds=True), "Profile: seeds=True is not possible; allowed: a whole number"),
        (lambda: Profile(name="p", core_seconds_per_trial="x"), "core_seconds_per_trial='x' is not possible; allowed:"),
    ],
)
def test_another_type_is_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as refused:
        make()
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_numbers_lists_and_switches_may_stand() -> None:
    made = question(factor=TWO, smallest_effect=2, final=True)
    study = one_factor(questions=[made], profiles=[SMOKE], baselines={"fc": FC, "dc": {**DC, "fresh_latents": False}})
    assert isinstance(study, Study) and study.questions == [made]


def test_the_line_of_the_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from studies.catalog import find

    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from harness.study import Level\n\nLevel(\n    label=1)\n")
    with pytest.raises(UserError, match=r"^Level: label=1 is not possible; allowed: text \(line 3 of mine\.py\)$"):
        find("mine.py")
