"""The house stays small and readable: sizes of files and classes, the hour's path, private names, names of tests."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("architectures", "harness", "studies")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_CLASS, MOST_WORDS_OF_A_TEST = 450, 250, 8
MOST_LINES_OF_THE_PATH = 2_500
LIBRARIES = {"_exit", "_BatchNorm", "_live", "_live_render", "_shape"}  # private names of os, torch and rich


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def nodes(path: Path, kind: type) -> list:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kind)]


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_files_and_classes_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES_OF_A_FILE
    for node in nodes(path, ast.ClassDef):
        assert node.end_lineno - node.lineno < MOST_LINES_OF_A_CLASS, node.name


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=short)
def test_private_names_stay_in_their_module(path: Path) -> None:
    """A file names what begins with one underscore only where it defines it, or a library has no other way."""
    defined = {node.name for kind in (ast.FunctionDef, ast.ClassDef) for node in nodes(path, kind)}
    defined |= {node.id for node in nodes(path, ast.Name) if isinstance(node.ctx, ast.Store)}
    reached = {node.attr for node in nodes(path, ast.Attribute) if isinstance(node.ctx, ast.Load)}
    defined |= {node.attr for node in nodes(path, ast.Attribute) if isinstance(node.ctx, ast.Store)}
    imported = {alias.name for node in nodes(path, ast.ImportFrom) for alias in node.names}
    foreign = imported | (reached - defined - LIBRARIES)
    assert not sorted(name for name in foreign if re.match("_[A-Za-z]", name))


def test_names_of_tests_have_few_words() -> None:
    names = {node.name for path in TESTS for node in nodes(path, ast.FunctionDef) if node.name.startswith("test_")}
    assert not sorted(name for name in names if len(name.split("_")) - 1 > MOST_WORDS_OF_A_TEST)


def test_the_hours_path_is_short() -> None:
    """The files that docs/architecture.md gives as the way through the code."""
    path = (ROOT / "docs" / "architecture.md").read_text().split("## The hour's path")[1].split("\n## ")[0]
    files = re.findall(r"^\d+\. `([a-z_/]+\.py)`", path, re.MULTILINE)
    assert len(files) >= 11
    assert sum(len((ROOT / file).read_text().splitlines()) for file in files) <= MOST_LINES_OF_THE_PATH
