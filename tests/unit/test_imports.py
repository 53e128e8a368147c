"""Imports point one way: the design's floors, read from the sources themselves."""

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOMES = {  # heavy libraries, and the only files that may import them
    "ray": {f"harness/execution/{name}.py" for name in ("ray_backend", "ray_session", "process_group", "search")},
    "torch_fidelity": {"harness/scoring/fidelity.py", "harness/scoring/networks.py"},
    "timm": {"harness/scoring/networks.py"},
    "torchmetrics": {"harness/scoring/online.py"},
    "mlxtend": {"harness/sources.py"},
    "altair": {"harness/site/figures.py"},
}
FLOORS = {  # inside harness: a room imports only from floors below its own
    "harness.program": 13,
    "harness.cli": 12,
    "harness.commands": 11,
    "harness.site": 10.5,
    "harness.options": 10,
    "harness.using": 10,
    "harness.execution": 10,
    "harness.reporting": 10,
    "harness.analysis": 9,
    "harness.catalog": 8,
    "harness.study": 7,
    "harness.design": 6,
    "harness.training": 5,
    "harness.scoring": 5,
    "harness.storage": 5,
    "harness.inspection": 5,
    "harness.data": 4,
    "harness.sources": 3,
    "harness.pictures": 2,
    "harness.unpacking": 2,
    "harness.plugin_identity": 3,
    "harness.plugins": 2,
    "harness.tuning": 1.5,
    "harness.published": 1,
    "harness.questions": 1,
    "harness.spec": 1,
    "harness.storage.layout": 1,  # where things lie, without what they are
    "harness.declared": 0.5,
    "harness.files": 0,
    "harness.metrics": 0,
    "harness.errors": 0,
    "harness.garbage": 0,
    "harness.interrupts": 0,
    "harness.lean": 0,
    "harness.terminal": 0,
}
LIGHT = (  # never load torch: tables, figures and pages are made again on any machine
    *("studies", "harness.analysis", "harness.reporting", "harness.site", "harness.storage"),
    *("harness.catalog", "harness.study", "harness.design", "harness.questions", "harness.spec"),
    *("harness.using.trial", "harness.using.status", "harness.using.trackers", "harness.commands", "harness.cli"),
)
USERS_OF_NETWORKS = ("harness.spec", "harness.training", "harness.scoring", "harness.execution")
TOP = ("studies", "architectures")  # packages of their own
PICTURE = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]


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


def inside(name: str, *rooms: str) -> bool:
    """Whether a module is one of these rooms or in one."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for module in imports(path):
        top, told = module.split(".")[0], f"{name} imports {module}"
        assert top != "tests", told
        if inside(name, "architectures"):
            assert top not in {"harness", "studies"}, told
        if inside(name, "harness"):
            assert top != "studies", told
            assert top != "architectures" or inside(name, *USERS_OF_NETWORKS), told
        if inside(name, "studies") and name != "studies.__main__" and top == "harness":
            assert inside(module, "harness.study", "harness.catalog"), told
        if inside(name, *LIGHT):
            assert top not in {"torch", "torchvision"}, told
        if top in HOMES:
            assert str(path.relative_to(ROOT)) in HOMES[top], told
        mine, theirs = room(name), room(module)
        if mine and theirs and mine != theirs:
            assert FLOORS[theirs] < FLOORS[mine], f"{told}, from floor {FLOORS[mine]}"


def test_what_is_light_loads_no_torch() -> None:
    """By no detour either: all of it, in a process of its own."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources()]
    loaded = [name for name in names if inside(name, *LIGHT) and not name.endswith("__main__")]
    code = f"import importlib, sys; [importlib.import_module(n) for n in {loaded}]; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "torch is loaded"


def test_timm_waits_until_it_builds_a_network() -> None:
    """It takes a second to load, and most commands score nothing by it."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in sources()]
    loaded = [name for name in names if not name.endswith("__main__")]
    code = f"import importlib, sys; [importlib.import_module(n) for n in {loaded}]; sys.exit('timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "timm is loaded"


def test_every_room_is_on_a_floor() -> None:
    rooms = {".".join(p.relative_to(ROOT).with_suffix("").parts[:2]) for p in (ROOT / "harness").rglob("*.py")}
    assert rooms - {"harness.__init__"} == {floor for floor in FLOORS if floor.count(".") == 1}


def test_the_picture_shows_every_floor() -> None:
    """docs/architecture.md draws each room once, and none above what it may be imported by."""
    lines = [re.findall(r"\b[a-z_]+\b", re.split(r"   ", line.strip())[0].replace("harness.", "")) for line in drawn()]
    floors = [[FLOORS[f"harness.{name}"] for name in line] for line in lines]
    shown = [f"harness.{name}" for line in lines for name in line]
    assert sorted(shown) == sorted(name for name in FLOORS if name.count(".") == 1)
    assert all(min(upper) > max(lower) for upper, lower in itertools.pairwise(floors)), lines


def drawn() -> list[str]:
    """The lines of the picture that name rooms of the harness."""
    return [line for line in PICTURE.splitlines() if re.match(" [a-z]", line) and line.split()[0] not in TOP]
