"""The pages of docs/: what they show is run, or says why not; they build without warnings, and load nothing."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import harness
from architectures.contract import Registry
from harness.cli import app
from harness.sources import DATASETS
from studies import STUDIES
from studies.catalog import CATALOG, find
from tests.cli.test_cli import ROOT, studies

ELSEWHERE = {
    "python3 -m venv lab": "tests/cli/test_packaging.py installs the wheel into an environment",
    ". lab/bin/activate": "likewise",
    "pip install '.[site,tensorboard]'": "likewise; 7 GB",
    "tensorboard --logdir runs/reports/tensorboard": "tests/using/test_trackers.py reads what was written",
    "curl -LO": "a download; the address is torch-fidelity's own, which tests/scoring/test_pretrained.py looks up",
    "sha256sum": "of that download",
    "gan-ablation score noise --protocol inception-v3": "tests/scoring/test_pretrained.py, with weights of its own",
    "gan-ablation report noise --protocol inception-v3": "likewise; reports by a further protocol: tests/execution",
    "gan-ablation score architecture --profile laptop@openclipart": "of a package of Debian; tests/execution on digits",
    "gan-ablation report architecture --profile laptop@openclipart": "likewise; tests/analysis/test_several_metrics.py",
    "(umask 077; ray get-auth-token": "a cluster: tests/faults/test_cluster.py, as all of Ray below",
    "export RAY_AUTH_MODE": "",
    "ray start": "",
    "python -m studies run noise --address": "",
    "kubectl": "Kubernetes was not tried, and the page says so",
}
"""How commands begin that are not run here -> where they are, or why they are not."""

PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "howto").glob("*.md"))]
PAGES = [path for path in (*PAGES, ROOT / "deploy" / "README.md") if path.stem != "using"]  # tests/using/test_page.py
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SMALLER = {
    '"kimg": 10.0': '"kimg": 0.1',
    "seeds=6": "seeds=1",
    "num_generated=500": "num_generated=100",
    "profiles=(SMOKE, replace(": "profiles=(replace(SMOKE, seeds=1, num_generated=100), replace(",
}
"""What pages ask for -> what is run here."""


def blocks(path: Path) -> list[tuple[str, str]]:
    """(language, text) of each block of code."""
    return BLOCK.findall(path.read_text())


def commands(text: str) -> list[str]:
    """The lines of a block for the shell, without what is said behind them."""
    return [line for line in (line.split(" #")[0].strip() for line in text.splitlines()) if line]


def elsewhere(command: str) -> bool:
    return any(command.startswith(start) for start in ELSEWHERE)


@pytest.fixture
def registries():
    """What a page's files add is taken out again."""
    known = dict(DATASETS)
    yield
    DATASETS.clear()
    DATASETS.update(known)
    for registry in Registry.of.values():
        for name in [name for name in registry if name not in registry.shipped]:
            del registry[name]


def run_python(text: str, folder: Path, known: dict) -> None:
    """A snippet, or a study's file, which is kept for the commands behind it."""
    if named := re.match(r"# (\w+\.py)\n", text):
        for old, new in SMALLER.items():
            text = text.replace(old, new)
        (folder / named[1]).write_text(text)
        return
    exec(compile(text, "snippet", "exec"), known)
    pictures = sorted((folder / "pictures").rglob("*.png"))
    for number, path in enumerate(pictures):
        if len(pictures) > 1000 and number % 10:
            path.unlink()


def run_command(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of the program, in this process unless it starts Ray, or a notebook that leaves sockets behind."""
    if " TRIAL " in command:
        command = command.replace("TRIAL", harness.load("runs").trial_id[0])
    command = command.replace("folder:PATH", "folder:pictures").replace("gan-ablation ", "python -m studies ")
    assert command.startswith("python -m studies "), command
    words = shlex.split(command)[3:]
    if words[0] in ("run", "report", "score"):
        monkeypatch.setenv("BROWSER", "true")
        done = studies(*words, cwd=folder, timeout=300)
        assert done.returncode == 0, done.stderr
    else:
        app(words, obj=CATALOG, standalone_mode=False)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path)], ids=lambda path: path.stem)
def test_what_a_page_shows_works(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    if path.stem == "data":  # the pictures that the tutorial makes
        _, text = next(block for block in blocks(ROOT / "docs" / "tutorial.md") if block[0] == "python")
        run_python(text, tmp_path, known)
    for language, text in blocks(path):
        if language == "python":
            run_python(text, tmp_path, known)
        elif language == "sh":
            for command in commands(text):
                if not elsewhere(command):
                    run_command(command, tmp_path, monkeypatch)
        else:
            assert language == "", f"{language} is a language of which this test knows nothing"
    if path.stem == "tutorial":
        rows = harness.load("runs", study="first")
        assert set(rows.arm) == {"fc", "dc"} and (rows.status == "ok").all()
        assert {"grid.png", "contact-sheet.png"} <= {path.name for path in tmp_path.iterdir()}
        assert list((tmp_path / "runs" / "reports" / "tensorboard").rglob("events*"))
    if path.stem == "extractor":
        found = harness.load("runs", study="by-edges", profile="smoke")
        names = [p.extractor for p, _ in harness.open_trial("runs", found.trial_id[0]).scores_by_protocol.values()]
        assert sorted(names) == ["classifier", "edges"] and (found["fid@edges"] > 0).all()
    if path.stem == "question":
        assert find("fair.py").tuning is not None


def test_nothing_is_left_out_in_vain() -> None:
    shown = [line for path in PAGES for language, text in blocks(path) if language == "sh" for line in commands(text)]
    assert not [start for start in ELSEWHERE if not any(line.startswith(start) for line in shown)]


def test_commands_within_sentences_are_there() -> None:
    """Benchmarks by their files, targets of make and the program's commands by their names."""
    pages = [*PAGES, ROOT / "docs" / "using.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
    said = [code for path in pages for code in re.findall(r"`([^`\n]+)`", path.read_text())]
    scripts = {found[1] for code in said if (found := re.match(r"python (benchmarks/\w+\.py)", code))}
    assert len(scripts) >= 4 and all((ROOT / script).exists() for script in scripts)
    targets = {found[1] for code in said if (found := re.match(r"make ([a-z-]+)", code))}
    for target in targets:
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0, target
    called = [
        found for code in said if (found := re.match(r"(?:gan-ablation|python -m studies) ([a-z-]+) ?(\S*)", code))
    ]
    assert len(called) >= 3 and {found[1] for found in called} <= {command.name for command in app.registered_commands}
    studied = {found[2] for found in called if found[1] in ("run", "plan", "report", "score")}
    assert {name for name in studied if name and not name.endswith(".py")} <= {*STUDIES, "NAME"}


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says() -> None:
    pages = script("reference").pages()
    assert {path for path in (ROOT / "docs" / "reference").iterdir()} == set(pages)
    for path, text in pages.items():
        assert path.read_text() == text, f"{path.name} is not as the code has it; `make docs` writes it again"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs") / "html"
    done = subprocess.run([sys.executable, ROOT / "docs" / "build.py", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def test_the_pages_build_without_a_warning(built: Path) -> None:
    assert (built / "index.html").exists() and (built / "docs" / "howto" / "extractor.html").exists()
    text = (built / "docs" / "tutorial.html").read_text()
    assert "toctree-l1 current" in text, "the page is in the navigation"


def test_the_pages_ask_nothing_of_the_network(built: Path) -> None:
    """No script, style, font or picture from elsewhere; links that a reader follows are another thing."""
    loads = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//", re.IGNORECASE)
    for path in built.rglob("*.html"):
        assert not loads.findall(path.read_text()), path
    for path in built.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text()), path
