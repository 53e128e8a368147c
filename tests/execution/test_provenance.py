"""What a result says of the code that made it."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.execution import provenance as module
from harness.execution.provenance import provenance


def test_the_commit_is_of_this_code() -> None:
    root = Path(__file__).parent
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert provenance()["commit"].rstrip("+") == head[:12]


def test_a_repository_around_an_environment_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package lies in a folder of somebody's own repository, whose commit says nothing of it."""
    installed = tmp_path / "site-packages" / "provenance.py"
    installed.parent.mkdir()
    installed.touch()
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "a"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(module, "__file__", str(installed))
    assert provenance()["commit"] == f"version {version('gan-ablation')}"
