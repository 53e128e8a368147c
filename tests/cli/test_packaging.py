"""The package outside a checkout: its wheel runs a study, its command completes, its name and version are one."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path

import pytest

from harness.commands import shared
from tests.cli.test_cli import ROOT

VERSION = "from importlib.metadata import version; print(version('gan-ablation'))"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gan-ablation` from a wheel, in an environment with the dependencies and without this project's folder."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = [sys.executable, "-m", "uv"]
    copy = folder / "source"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), copy], check=True)
    listed = ["git", "ls-files", "--modified", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():  # what is not committed yet
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*uv, "build", "-q", "--wheel", "-o", folder / "dist", copy], check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "-q", "--no-deps", "--python", python, wheel], check=True)
    (place,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (place / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "venv" / "bin" / "gan-ablation"


def gan_ablation(command: Path, *words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([command, *words], cwd=cwd, env={**kept, **variables}, capture_output=True, text=True)


@pytest.mark.timeout(600)
def test_the_wheel_runs_a_study_to_its_report(command: Path, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_bytes((ROOT / "tests" / "cli" / "small.py").read_bytes())
    done = gan_ablation(command, "run", "small.py", "--profile", "smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "runs" / "reports" / "small-smoke" / "small.html").read_text()
    version = gan_ablation(command.with_name("python"), "-c", VERSION, cwd=tmp_path).stdout.strip()
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?(\.dev\d+)?(\+\S+)?", version) and version != "0.0.0"
    assert f"version {version}" in page, "the provenance of an installed package"
    code = "import harness, studies; print(harness.__file__); print(len(harness.load('runs', study='small')))"
    told = gan_ablation(command.with_name("python"), "-c", code, cwd=tmp_path).stdout
    assert str(command.parents[1]) in told and told.splitlines()[1] == "6"
    done = gan_ablation(command, "site", "runs", "--code", "small.py", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("site/index.html\n"), done.stderr
    assert "gan-ablation run small.py" in (tmp_path / "site" / "studies" / "small-smoke.html").read_text()


def test_the_command_calls_itself_by_its_name(command: Path, tmp_path: Path) -> None:
    told = gan_ablation(command, "--help", cwd=tmp_path).stdout
    assert "Usage: gan-ablation [OPTIONS]" in told and "python -m studies" not in told
    wrong = gan_ablation(command, "runn", cwd=tmp_path)
    assert wrong.returncode == 2 and "`gan-ablation --help` lists what is allowed" in wrong.stderr


def test_the_shell_completes_commands_and_options(command: Path, tmp_path: Path) -> None:
    def completed(words: str) -> list[str]:
        variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        variables["_GAN_ABLATION_COMPLETE"] = "complete_bash"
        return gan_ablation(command, cwd=tmp_path, **variables).stdout.split()

    assert sorted(completed("gan-ablation exp")) == ["export", "export-model"]
    assert completed("gan-ablation run --until") == ["--until-answered"]
    script = gan_ablation(command, cwd=tmp_path, _GAN_ABLATION_COMPLETE="source_bash").stdout
    assert "complete -o default -F" in script and "gan-ablation" in script


@pytest.mark.parametrize("name", ["harness", "architectures"])
def test_another_package_of_that_name_is_told(command: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise ValueError('of somebody else')")
    assert gan_ablation(command, "list", cwd=tmp_path).returncode == 0, "the command does not look in this folder"
    told = f"the package {name!r} that Python finds ({tmp_path / name / '__init__.py'}) is not the one that belongs"
    for words, status in (["-m", "studies", "list"], 2), (["-c", "import studies"], 1):
        done = gan_ablation(command.with_name("python"), *words, cwd=tmp_path)
        assert done.returncode == status and told in done.stderr and done.stdout == ""
    done = gan_ablation(command.with_name("python"), "-m", "studies", "list", cwd=tmp_path)
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")


def test_the_version_is_the_last_tag(command: Path, tmp_path: Path) -> None:
    """In a shallow clone, in what git packs of it, and unpacked without either, where it is 0.0.0."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{command.parents[2] / 'source'}", clone], check=True)
    subprocess.run(["git", "tag", "v9.9.1"], cwd=clone, check=True)
    packed = subprocess.run(["git", "archive", "--prefix=packed/", "HEAD"], cwd=clone, capture_output=True, check=True)
    subprocess.run(["tar", "x"], input=packed.stdout, cwd=tmp_path, check=True)
    shutil.copytree(clone, tmp_path / "bare", ignore=shutil.ignore_patterns(".git*", "reports"))
    for folder, version in (("clone", "9.9.1"), ("packed", "9.9.1"), ("bare", "0.0.0")):
        build = [sys.executable, "-m", "uv", "build", "-q", "--sdist", "-o", tmp_path / "dist" / folder]
        subprocess.run([*build, tmp_path / folder], check=True)
        (made,) = (tmp_path / "dist" / folder).glob("*.tar.gz")
        assert made.name == f"gan_ablation-{version}.tar.gz"
        with tarfile.open(made) as opened:
            names = {name.partition("/")[2] for name in opened.getnames()}
            shipped = {f"harness/scoring/shipped/{name}" for name in ("mnist-5k.safetensors", "stacked-mnist.json")}
            assert names >= {*shipped, "studies/referee-r3gan.yaml"}
            assert not any(name.startswith("reports/") for name in names), "14 MB of pictures"
    assert "version" not in PROJECT and "version: " not in (ROOT / "CITATION.cff").read_text().partition("\n")[2]


def test_every_extra_is_pinned_for_the_tests() -> None:
    """What the optional tests need is installed by `make setup`, but for trackio, which wants an older Pillow."""
    extras, dev = PROJECT["optional-dependencies"], PROJECT["optional-dependencies"]["dev"]
    names = {re.split(r"[>=<\[]", line)[0].lower() for line in dev + PROJECT["dependencies"]}
    pinned = (ROOT / "constraints.txt").read_text().lower()
    for extra, packages in extras.items():
        for package in (re.split(r"[>=<\[]", line)[0].lower() for line in packages if extra != "trackio"):
            assert package in names or package == "tensorboardx", f"{package} of {extra}"
            assert f"{package}==" in pinned, package


def test_the_steps_of_the_dockerfile_work(tmp_path: Path) -> None:
    """Its steps are the README's: make, a C compiler, `make setup`, the command; as far as that goes without Docker."""
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    steps = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]
    assert all(f" {package} " in f"{steps[0]} " for package in ("make", "gcc"))
    assert steps[1:] == ["make setup", ".venv/bin/gan-ablation doctor"]
    assert subprocess.run(["make", "-n", "setup"], cwd=ROOT, capture_output=True).returncode == 0
    done = subprocess.run([sys.executable, "-m", "studies", "doctor"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert 'ENTRYPOINT [".venv/bin/gan-ablation"]' in lines and "make setup" in (ROOT / "README.md").read_text()
    assert ".venv" in (ROOT / ".dockerignore").read_text().split()


def test_open_shows_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    opened: list[str] = []
    monkeypatch.setattr(shared.webbrowser, "open", lambda url: opened.append(url) or len(opened) == 1)
    page, table = tmp_path / "a b.html", tmp_path / "t.csv"
    shared.wrote([page, table], full=False)
    assert opened == []
    for _ in range(2):
        shared.wrote([page, table], full=False, open_page=True)
    assert opened == [page.as_uri()] * 2 and "no browser was found here" in capsys.readouterr().err
