"""Imports point one way: the design's floors, read from the sources themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOMES = {  # heavy libraries, and the only files that may import them
    "ray": {"harness/execution/ray_backend.py"},
    "torch_fidelity": {"harness/scoring/fidelity.py"},
    "torchmetrics": {"harness/scoring/online.py"},
    "mlxtend": {"harness/sources.py"},
}
FLOORS = {  # inside harness: a room imports only from floors below its own
    "harness.program": 10,
    "harness.cli": 9,
    "harness.options": 0,
    "harness.execution": 8,
    "harness.reporting": 8,
    "harness.analysis": 7,
    "harness.catalog": 6,
    "harness.training": 5,
    "harness.scoring": 5,
    "harness.storage": 5,
    "harness.inspection": 5,
    "harness.study": 5,
    "harness.design": 4,
    "harness.data": 4,
    "harness.sources": 3,
    "harness.pictures": 2,
    "harness.questions": 1,
    "harness.plugin_identity": 2,
    "harness.plugins": 1,
    "harness.spec": 1,
    "harness.storage.layout": 1,  # where things lie, without what they are
    "harness.files": 0,
    "harness.metrics": 0,
    "harness.errors": 0,
    "harness.interrupts": 0,
    "harness.terminal": 0,
}


def sources() -> list[Path]:
    return [p for package in ("architectures", "harness", "studies") for p in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Every module that the file imports, wherever in it, as full dotted names."""
    found = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            module = base + (node.module or "")
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> str | None:
    names = (module.rsplit(".", n)[0] for n in range(module.count(".") + 1))
    return next((name for name in names if name in FLOORS), None)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    package = name.split(".")[0]
    for module in imports(path):
        top = module.split(".")[0]
        if package == "architectures":
            assert top not in {"harness", "studies"}, f"{name} imports {module}"
        if package == "harness":
            assert top != "studies", f"{name} imports {module}"
        if name.startswith(("studies", "harness.analysis", "harness.storage", "harness.study", "harness.spec")):
            assert top not in {"torch", "torchvision"}, f"{name} imports {module}"
        if top in HOMES:
            assert str(path.relative_to(ROOT)) in HOMES[top], f"{name} imports {module}"
        mine, theirs = room(name), room(module)
        if mine and theirs and mine != theirs:
            assert FLOORS[theirs] < FLOORS[mine], f"{name} (floor {FLOORS[mine]}) imports {module}"


def test_every_room_is_on_a_floor() -> None:
    rooms = {".".join(p.relative_to(ROOT).with_suffix("").parts[:2]) for p in (ROOT / "harness").rglob("*.py")}
    assert rooms - {"harness.__init__"} == {floor for floor in FLOORS if floor.count(".") == 1}
