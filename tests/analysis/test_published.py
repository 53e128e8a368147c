"""A file of published values: what is read, what is refused in one line, and how ours lie beside them."""

import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import published
from harness.analysis.evidence import Evidence
from harness.analysis.published import compare_with_published
from harness.errors import UserError
from harness.execution.plan import make_plan
from harness.published import read_published
from harness.study import Contrast, Factor, Profile, Study
from studies import STUDIES
from studies.baselines import DC
from studies.profiles import DIGITS

VALUES = """
source: somebody
protocol: theirs
values:
  - {arm: dc, metric: fid, value: 100}
  - {arm: dc batch_size=64, metric: fid, value: 150, source: somebody else}
  - {arm: dc batch_size=8, metric: fid, value: diverged}
"""


def study(path: Path | None) -> Study:
    return Study(
        name="refereed",
        title="?",
        baselines={"dc": DC},
        questions=(
            Contrast(
                key="batch",
                text="?",
                hypothesis="?",
                baseline="dc",
                factor=Factor.of_field("batch_size", (8, 32, 64), label="batch"),
                expected="higher",
            ),
        ),
        profiles=(
            Profile(
                name="laptop",
                description="",
                changes={**DIGITS, "kimg": 1.0},
                seeds=8,
                num_generated=1000,
                core_seconds_per_trial=1.0,
            ),
        ),
        published=path,
    )


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def evidence(path: Path, fids: dict[str, list[float]]) -> Evidence:
    """Trials with these FIDs, by arm; NaN diverged."""
    rows = [
        {"arm": arm, "seed": seed, "fid": fid, "status": "diverged" if np.isnan(fid) else "ok"}
        | {"seconds": 1.0, "trial_id": f"{arm} {seed}"}
        for arm, values in fids.items()
        for seed, fid in enumerate(values)
    ]
    design = study(path).at("laptop")
    return Evidence(design=design, store=None, plan={}, references={}, rows=pd.DataFrame(rows))  # type: ignore[arg-type]


def spread(centre: float, n: int = 8) -> list[float]:
    return [centre * np.exp(0.1 * (i - (n - 1) / 2) / n) for i in range(n)]


def test_published_values_lie_inside_or_outside(tmp_path: Path) -> None:
    path = written(tmp_path / "p.yaml", VALUES)
    fids = {"dc": spread(100), "dc batch_size=64": spread(200)[::-1], "dc batch_size=8": [np.nan] * 8}
    found = {one.what: one for one in compare_with_published(evidence(path, fids))}
    assert {what: one.verdict for what, one in found.items()} == {
        "dc": "inside our interval",
        "dc batch_size=64": "outside",
        "dc batch_size=8": "inside our interval",
        "dc batch_size=64 against dc": "outside",
    }
    effect = found["dc batch_size=64 against dc"]
    assert effect.published == "×1.50" and effect.ours.startswith("×2.00 [") and effect.source == "somebody else"
    assert found["dc batch_size=8"].ours == "8 of 8 diverged [63, 100%]" and found["dc"].protocol == "theirs"


def test_few_or_lost_seeds_resolve_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "p.yaml", VALUES)
    five = {arm: spread(100, 5) for arm in ("dc", "dc batch_size=64", "dc batch_size=8")}
    assert {one.verdict for one in compare_with_published(evidence(path, five))} == {"unresolved"}
    lost = {"dc": [*spread(100, 7), np.nan], "dc batch_size=64": spread(150), "dc batch_size=8": spread(100)}
    found = {one.what: one for one in compare_with_published(evidence(path, lost))}
    assert found["dc"].verdict == "unresolved" and "1 of 8 diverged" in found["dc"].ours
    assert found["dc batch_size=8"].verdict == "outside", "none of ours diverged"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("values: [", "line 1 is no YAML: "),
        ("just words", "holds 'just words'; allowed: the keys source, protocol, values"),
        ("sauce: x", "unknown key in {path}: 'sauce' (did you mean 'source'?); valid: source, protocol, values"),
        ("source: x", "values=None is not possible; allowed: a list of at least one value"),
        (VALUES.replace("arm: dc,", "arm: dcc,"), "unknown arm in {path}, value 1: 'dcc' (did you mean 'dc'?); valid"),
        (
            VALUES.replace("metric: fid", "metric: fit"),
            "unknown metric in {path}, value 1: 'fit' (did you mean 'fid'?)",
        ),
        (
            VALUES.replace("value: 100", "value: many"),
            "value 1: value='many' is not possible; allowed: a number, or div",
        ),
        (VALUES.replace("value: 100", "value: .inf"), "value 1: value=inf is not possible"),
        (VALUES.replace("value: 100", "value: .nan"), "value 1: value=nan is not possible"),
        (VALUES.replace("value: 100", f"value: {10**400}"), "value 1: value=1000"),
        (VALUES.replace("value: 100", "value: -100"), "value=-100 is out of range; allowed: from 0 to inf, as fid is"),
        (
            VALUES.replace("metric: fid, value: 100", "metric: recall, value: 7"),
            "value 1: value=7 is out of range; allowed: from 0 to 1, as recall is measured here",
        ),
        (VALUES.replace("value: 100", "vaule: 100"), "unknown key in {path}, value 1: 'vaule' (did you mean 'value'?)"),
        (VALUES.replace(", value: 100", ""), "value 1 lacks 'value'; give it all of: arm, metric, value, source"),
        (VALUES.replace("source: somebody\n", ""), "value 1: source='' is not possible; allowed: where it is from"),
        (VALUES.replace("batch_size=64", ""), "value 2: fid of dc stands here twice"),
        (VALUES.replace("value: 100", "value: 100, value: 10"), "'value' stands twice; mend it there"),
        ("source: x" + VALUES, "line 2 is no YAML: 'source' stands twice"),
        ("source: !!map x\nvalues: []", "is no YAML: "),
        (VALUES.replace("{arm: dc, metric: fid, value: 100}", "7"), "value 1: 7 is not possible; allowed: {arm: ..."),
    ],
)
def test_a_bad_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """In one line, when the study is asked for a profile: before any work."""
    path = written(tmp_path / "p.yaml", text)
    with pytest.raises(UserError) as caught:
        study(path).at("laptop")
    told = str(caught.value)
    assert message.replace("{path}", str(path)) in told and str(path) in told and "\n" not in told


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read from none.yaml: No such file or directory"):
        replace(study(None), published="none.yaml").at("laptop")  # a path may be given as text, too
    with pytest.raises(UserError, match="cannot be read from .*: No such file or directory"):
        study(tmp_path / "none.yaml").at("laptop")
    assert read_published(None, ()) == () == study(None).at("laptop").published


def test_the_papers_values_are_read() -> None:
    referee = STUDIES["referee-r3gan"]
    for profile in referee.profiles:
        published = referee.at(profile.name).published
        assert {(one.arm, one.metric): one.value for one in published if not one.diverged} == {
            ("rpgan-r1-r2", "modes"): 1000,
            ("rpgan-r1-r2", "mode_kl"): 0.0781,
            ("gan-r1-r2", "modes"): 693,
            ("gan-r1-r2", "mode_kl"): 0.9270,
        }
        assert {one.arm for one in published if one.diverged} == {"rpgan-r1", "gan-r1"}
    assert len(replace(referee).at("laptop").every_arm) == 8, "a factorial of three"


def test_a_value_may_begin_as_another(tmp_path: Path) -> None:
    """YAML's merge keys: what stands in both is no key twice."""
    merged = VALUES.replace("{arm: dc, metric: fid, value: 100}", "&first {arm: dc, metric: fid, value: 100}")
    merged = merged.replace("{arm: dc batch_size=64, metric: fid,", "{<<: *first, arm: dc batch_size=64,")
    assert merged.count("first") == 2
    plain, other = (study(written(tmp_path / name, text)) for name, text in (("a", VALUES), ("b", merged)))
    assert plain.at("laptop").published == other.at("laptop").published


def test_published_values_by_unknown_networks_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "p.yaml", VALUES.replace("metric: fid, value: 100", "metric: fid@foo, value: 100"))
    with pytest.raises(UserError, match="extractor in the published values of study 'refereed': 'foo'"):
        make_plan(study(path), "laptop", 1, None)


def test_the_example_of_the_form_can_be_read(tmp_path: Path) -> None:
    example = (published.__doc__ or "").partition("By example:")[2].partition("Between braces")[0]
    found = read_published(
        written(tmp_path / "p.yaml", textwrap.dedent(example)), ("rpgan-r1-r2", "gan-r1", "gan-r1-r2")
    )
    assert [one.source for one in found][1:] == ["Huang et al. 2024, table 1", "the same, figure 2"]
