"""The README: its figures are published, its commands are all run, its example runs as it says."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from harness.analysis.results import load
from harness.cli import app
from harness.errors import UserError
from harness.storage.store import Store
from studies import STUDIES
from studies.catalog import CATALOG, find
from tests.analysis.conftest import fill
from tests.cli.test_cli import ROOT, studies
from tests.data.shipped_digits import shipped_digits


def test_every_figure_of_the_readme_is_published() -> None:
    """Copied by hand, so looked up: each interval and each mean with its half interval stands in some report."""

    def plain(path: Path) -> str:
        return re.sub(r"[*`]", "", path.read_text())

    published = "".join(map(plain, (ROOT / "reports" / "published").rglob("*.md")))
    claimed = plain(ROOT / "README.md")
    figures = re.findall(r"[×+−]?[\d,.]+ \[\d[^\]]*\]", claimed)
    assert len(figures) >= 6
    assert not [figure for figure in figures if figure not in published]
    claims = pd.read_csv(ROOT / "reports" / "published" / "summary" / "claims.csv")
    assert f"All {len(claims)} claims" in claimed and f"makes {len(claims)} claims" in claimed


ELSEWHERE = {
    "run noise --seeds 8": "make study-noise PROFILE=smoke",  # in .ci/run, under a terminal
    "run ./mystudy.py": "",  # these two in the example's own test below
    "run NAME --until-answered --budget 2h": "",
    "score noise --protocol imagenet-lite0": "",  # of trials with weights: tests/scoring, tests/execution
    "run reference --profile paper": "",  # wants a GPU and a download; its smoke profile is in tests/execution
}
"""Commands of the README that are not run here -> what of .ci/run runs them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores of made-up trials of the noise study, and a folder of real pictures."""
    folder = tmp_path_factory.mktemp("readme")
    fill(Store(folder / "runs", create=True), STUDIES["noise"])
    shutil.copytree(folder / "runs", folder / "other-runs")
    pixels, labels = shipped_digits()
    for i in range(0, 5000, 50):
        picture = folder / "pictures" / str(labels[i]) / f"{i}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).save(picture)
    return folder


def test_every_command_of_the_readme_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text()
    commands = {c.strip() for c in re.findall(r"python -m\s+studies\s+([^`#\n]+)", readme)}
    assert len(commands) >= 15 and commands >= ELSEWHERE.keys()
    assert all(done in (ROOT / ".ci" / "run").read_text() for done in ELSEWHERE.values())
    monkeypatch.chdir(folder)
    for command in sorted(commands - ELSEWHERE.keys()):
        words = command.replace("folder:PATH", "folder:pictures").split()
        if words[0] in ("report", "summary"):  # whose notebook leaves sockets to the end of its process
            done = studies(*words, cwd=folder)
            assert done.returncode == 0, done.stderr
        else:
            app(words, obj=CATALOG, standalone_mode=False)
    for target in {t.strip() for t in re.findall(r"(?:^|`)make ([a-z-]+(?: [A-Z]+=\w+)*)", readme, re.MULTILINE)}:
        dry = subprocess.run(["make", "-n", *target.split()], cwd=ROOT, capture_output=True, text=True)
        assert dry.returncode == 0, f"make {target}: {dry.stderr}"


@pytest.mark.timeout(600)
def test_the_example_runs_until_its_budget_is_spent(tmp_path: Path) -> None:
    """A file outside the repository with an architecture and an augmentation of its own, through the real Ray."""
    (block,) = re.findall(r"```python\n(# mystudy\.py\n.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (tmp_path / "mystudy.py").write_text(block)
    words = ("./mystudy.py", "--profile", "smoke", "--store", "s")
    done = studies("run", *words, "--until-answered", "--budget", "45s", cwd=tmp_path, timeout=560)
    assert done.returncode == 0 and done.stderr.startswith("planning mine (smoke)\n"), done.stderr
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
def test_a_file_without_study_is_one_line(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("mine.py").write_text(content)
    with pytest.raises(UserError) as refused:
        find("mine.py")
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
