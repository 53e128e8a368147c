"""The program as a person meets it: real processes, exit codes, one line an error."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.storage.store import Store

ROOT = Path(__file__).parents[2]


def studies(*words: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "studies", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd)


def test_list_names_studies_profiles_and_questions(tmp_path: Path) -> None:
    done = studies("list", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("noise: ", "architecture: ", "8 questions; profiles smoke, laptop", " list NAME` tells"):
        assert word in done.stdout
    alone = studies("list", "noise", cwd=tmp_path).stdout
    assert alone.startswith("noise: ") and "architecture:" not in alone
    for word in ("  profile smoke: ", "  profile laptop: ", "  question latent-std-dc: "):
        assert word in alone


def test_plan_counts_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the temporary folder either, where torch's compiler would, which takes seconds to import."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = studies("plan", "noise", "--profile", "smoke", "--seeds", "3", "--store", "s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "18 arms × 3 seeds = 54 trials, 0 of them done; and 3 untrained generators to score" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nose"], "unknown study 'nose' (did you mean 'noise'?); valid: architecture"),
        (["plan", "noise", "--profile", "huge"], "unknown profile 'huge'; valid: smoke, laptop"),
        (["report", "noise", "--store", "absent"], "no store at"),
        (["run", "noise", "--seeds", "many"], "--seeds many is not a whole number; `python -m studies run --help`"),
        (["run", "noise", "--gpus-per-trial", "half"], "--gpus-per-trial half is not a number; `python"),
        (["run", "noise", "--gpus-per-trial", "nan"], "gpus_per_trial=nan is out of range; allowed: from 0 to 1, or a"),
        (["run", "noise", "--gpus-per-trial", "inf"], "gpus_per_trial=inf is out of range"),
        (["run", "noise", "--gpus-per-trial", "-1"], "gpus_per_trial=-1 is out of range"),
        pytest.param(
            ["run", "noise", "--gpus-per-trial", "0.5"],
            "0.5: torch sees no GPU on this machine; leave it out",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here"),
        ),
        (["run", "noise", "--snapshots", "nope://place"], "snapshots cannot be kept at nope://place: "),
        (["run", "noise", "--snapshots", "/proc/x"], "snapshots cannot be kept at /proc/x: No such file or directory"),
        (["run"], "Missing argument 'name'; `python -m studies run --help` lists what is allowed"),
        (["runn"], "No such command 'runn'"),
        (["plan", "noise", "--profil", "smoke"], "No such option: --profil (Possible options: --profile)"),
        (["run", "noise", "--profile", "smoke", "--seeds", "0"], "seeds=0 is out of range"),
        (["run", "noise", "--profile", "smoke", "--workers", "0"], "workers=0 is out of range"),
        (["plan", "noise", "--profile", "smoke", "--workers", "-2"], "workers=-2 is out of range"),
        (["run", "noise", "--profile", "smoke@folder:nowhere"], "nowhere"),
        (["run", "noise", "--until-answered", "--budget", "soon"], "budget 'soon' is not a length of time"),
        (["run", "noise", "--until-answered", "--seeds", "3"], "--seeds 3 fixes the number"),
        (["run", "noise", "--budget", "2h"], "--budget 2h belongs to --until-answered"),
        (["plan", "reference", "--profile", "laptop"], "unknown profile 'laptop'; valid: smoke, paper"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    done = studies(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "something half-made was left"


def test_the_studys_own_profile_is_the_default(tmp_path: Path) -> None:
    done = studies("plan", "noise", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("noise (laptop): ") and done.stderr == ""
    done = studies("plan", "reference", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("reference (smoke): ")
    assert done.stderr == "reference has no profile laptop; taking smoke, of: smoke, paper, gpu\n"
    made = subprocess.run(["make", "-n", "plan-reference"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--profile" not in made.stdout, "make types no profile for the user either"
    made = subprocess.run(["make", "-n", "plan-noise", "PROFILE=smoke"], cwd=ROOT, capture_output=True, text=True)
    assert "--profile 'smoke'" in made.stdout


def test_a_summary_of_nothing_has_status_2(tmp_path: Path) -> None:
    Store(tmp_path / "runs", create=True)
    done = studies("summary", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert "holds no trial of the profile laptop; it has no results" in done.stderr.splitlines()[-1]


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    done = studies("run", "noise", "--profile", "smoke", "--store", "thesis", cwd=tmp_path)
    assert done.returncode == 2 and "exists and is not a store" in done.stderr
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


@pytest.mark.parametrize("target", ["report-noise", "summary"])
def test_seeds_do_not_choose_what_a_report_shows(target: str) -> None:
    done = subprocess.run(["make", "-n", target, "SEEDS=3"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "SEEDS=3 is for plan-%, study-% and studies" in done.stderr
    assert subprocess.run(["make", "-n", "studies", "SEEDS=3"], cwd=ROOT, capture_output=True).returncode == 0


def test_make_hands_on_names_with_spaces() -> None:
    words = ["make", "-n", "--no-print-directory", "report-noise", "STORE=my 'store", "PROFILE=smoke@folder:a b"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert shlex.split(done.stdout.splitlines()[-1])[4:] == [
        "noise",
        "--profile",
        "smoke@folder:a b",
        "--store",
        "my 'store",
    ]


def test_a_flag_shows_no_value_in_help(tmp_path: Path) -> None:
    shown = studies("run", "--help", cwd=tmp_path).stdout
    assert "--until-answered" in shown and "--full" in shown
    assert [line for line in shown.splitlines() if "<bool>" in line and "--help" not in line] == []


def test_lines_of_help_and_list_fit(tmp_path: Path) -> None:
    # Run by `make test`, this make is a second one and would print its folder, which may be long.
    words = ["make", "--no-print-directory", "help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert max(map(len, done.stdout.splitlines())) <= 80
    command = f"stty cols 80; {sys.executable} -m studies list; {sys.executable} -m studies list stabilization"
    shown = subprocess.run(
        ["script", "-qec", command, "/dev/null"], cwd=tmp_path, capture_output=True, text=True
    ).stdout
    lines = shown.splitlines()
    assert len(lines) > 40 and max(map(len, lines)) <= 80 and any(line.startswith("    ") for line in lines)


def test_help_lists_every_target_with_one_line() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("study-%", "report-%", "plan-%", "test", "setup", "help", "smoke", "benchmark"):
        assert f"make {target} " in done.stdout
