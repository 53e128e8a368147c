"""Only harness/storage puts a path in a store or its cache together; all others ask for it. Read from the sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from harness.storage import layout
from harness.storage.layout import CacheFolder, Layout
from tests.unit.test_imports import ROOT, sources

PATHS = [path for path in vars(Layout(Path("root"))).values() if isinstance(path, Path)]
NAMES = {part for path in PATHS for part in path.parts} - {"root"} | set(get_args(CacheFolder)) | {"scores"}
NAMES |= {layout.SPEC, layout.RESULT, layout.CURVES, layout.SAMPLES, layout.WEIGHTS}
MAKERS = {"Path", "UPath", "PurePath", "PurePosixPath", "join", "joinpath", "with_name", "glob", "rglob"}
ANCHORS = {"cache", "root", "layout", "trial_folder", "report_folder", *vars(Layout(Path("root")))}
KNOWN = {
    "harness/commands/using.py: Path('samples.png')": "where `sample` writes, in the current folder",
    "harness/commands/using.py: opened.layout.reports / to": "a folder of its own beside the reports",
    "harness/execution/assets.py: cache / path.resolve().relative_to(there)": "the same place in another cache",
}
"""What looks like such a path and is none, or may be one."""


def texts(node: ast.AST) -> list[str]:
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def starts_in_a_store(node: ast.AST) -> bool:
    """Whether a path begins with one that a store or its layout gave: store.root, cache, store.trial_folder(...)."""
    node = node.func if isinstance(node, ast.Call) else node
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    is_ours = isinstance(node, ast.Name) and name == "cache"
    return is_ours or (isinstance(node, ast.Attribute) and name in ANCHORS and not texts(node.value))


def joins(source: str) -> Iterator[str]:
    """Every expression that makes a path in a store."""
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right] if not isinstance(node.left, ast.Constant) else [node.left, node.right]
            if starts_in_a_store(node.left):
                yield ast.unparse(node)
                continue
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            parts = list(node.args) if called in MAKERS else []
        elif isinstance(node, ast.JoinedStr) and any("/" in text for text in texts(node)):
            parts = [value for value in node.values if isinstance(value, ast.Constant) and "/" in str(value.value)]
        words = {word for part in parts for text in texts(part) for word in re.split(r"[/*]", text)}
        if words & NAMES or any(word.endswith(".snapshot") for word in words):
            yield ast.unparse(node)


@pytest.mark.parametrize(
    "source",
    [
        "store.cache / 'data'",
        "path = store.trial_folder(i) / 'samples.png'",
        "context.cache / name",
        "cache.glob('features/*')",
        "Path(root, 'trials', trial_id)",
        "os.path.join(root, 'cache/index')",
        "f'{root}/quarantine/x'",
        "snapshots / f'{trial_id}.snapshot'",
        "store.layout.reports / 'noise'",
    ],
)
def test_a_path_in_a_store_is_recognised(source: str) -> None:
    assert list(joins(source))


@pytest.mark.parametrize("source", ["a / b", "folder / 'meta.json'", "len(rows) / 2", "f'{x} images/s'", "'cache'"])
def test_other_expressions_are_left_alone(source: str) -> None:
    assert not list(joins(source))


def test_others_ask_for_paths_in_a_store() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {made}"
        for path in sources()
        if path.parent != ROOT / "harness" / "storage"
        for made in joins(path.read_text())
    }
    assert found == KNOWN.keys()
