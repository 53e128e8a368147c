"""The README's figures, read from the published reports, and its own example, run as it says."""

import re
from pathlib import Path

import pandas as pd
import pytest

from harness.analysis.results import load
from harness.errors import UserError
from harness.store import Store
from studies.catalog import find
from tests.cli.test_cli import ROOT, studies


def test_every_figure_of_the_readme_is_published() -> None:
    """Copied by hand, so looked up: each interval and each mean with its half interval stands in some report."""

    def plain(path: Path) -> str:
        return re.sub(r"[*`]", "", path.read_text())

    published = "".join(map(plain, (ROOT / "reports" / "published").rglob("*.md")))
    claimed, _ = plain(ROOT / "README.md").split("## Two commands")
    figures = re.findall(r"[×+−]?[\d,.]+ \[[^\]]*\]|[\d.,]+ ± [\d.,]+", claimed)
    assert len(figures) > 30
    assert not [figure for figure in figures if figure not in published]
    claims = pd.read_csv(ROOT / "reports" / "published" / "summary" / "claims.csv")
    assert f"the page has all {len(claims)} claims" in claimed


@pytest.mark.timeout(600)
def test_the_example_runs_until_its_budget_is_spent(tmp_path: Path) -> None:
    """A file outside the repository with an architecture and an augmentation of its own, through the real Ray."""
    (block,) = re.findall(r"```python\n(# mystudy\.py\n.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (tmp_path / "mystudy.py").write_text(block)
    words = ("./mystudy.py", "--profile", "smoke", "--store", "s")
    done = studies("run", *words, "--until-answered", "--budget", "45s", cwd=tmp_path, timeout=560)
    assert done.returncode == 0, done.stderr
    assert (
        "18 of 18 trials to run, and 2 untrained generators to score" in done.stderr and "claims settled" in done.stderr
    )
    assert re.search(r"stopped: (the budget is spent|every claim|what is left)", done.stderr)
    assert Store(tmp_path / "s").read_plan("mine", "smoke")["sequential"] is True
    rows = load(tmp_path / "s", study="mine", profile="smoke")
    assert set(rows.arm) == {"fc", "fc-silu", "fc augmentation=dimmed"} and (rows.status == "ok").all()
    code = rows.groupby("arm").code.unique()
    assert code["fc"] == [""] and len(code["fc-silu"][0]) == 16, "only what uses the file carries its hash"
    first = rows[rows.seed == 0].set_index("arm").fid
    assert first.nunique() == 3, "the file's own code does nothing"
    assert "mine (smoke)" not in done.stdout and (tmp_path / "s/reports/mine-smoke/mine.html").exists()
    assert isinstance(pd.read_csv(tmp_path / "s/reports/mine-smoke/overview.csv"), pd.DataFrame)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("STUDY = 1 / 0", "mine.py failed: ZeroDivisionError: division by zero"),
        ("", "mine.py declares no study"),
        (None, "cannot read mine.py: No such file"),
    ],
)
def test_a_file_that_is_no_study_is_one_line(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("mine.py").write_text(content)
    with pytest.raises(UserError) as refused:
        find("mine.py")
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
