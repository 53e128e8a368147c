"""Imports of large libraries without what they load and nobody here uses: a second and 100 MB of every process.

torch's compiler is the largest of it: torchvision imports it for one function, and torch's own optimizers for a word to
it. torchmetrics imports all of itself, matplotlib and scipy's signal processing for one class; seaborn all of its plots
and scipy's statistics for its style. Where a library has changed so that this does not work any more, it is imported as
it is.
"""

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


def lean_torchvision() -> None:
    """Import torchvision, for libraries that will, without torch's compiler; what needs it finds it when it is used."""
    if COMPILER in sys.modules or "torchvision" in sys.modules:
        return
    package, utils = ModuleType(COMPILER), ModuleType(f"{COMPILER}.utils")

    def is_compile_supported(*arguments: Any) -> bool:
        return importlib.import_module(f"{COMPILER}.utils").is_compile_supported(*arguments)

    vars(utils)["is_compile_supported"] = is_compile_supported
    with _standing_in({COMPILER: package, f"{COMPILER}.utils": utils}), contextlib.suppress(ImportError):
        importlib.import_module("torchvision")


def lean_fid() -> Any:
    """The class FrechetInceptionDistance of torchmetrics; the library stays as if it had not been imported."""
    path = "torchmetrics.image.fid"
    if path in sys.modules:
        return sys.modules[path].FrechetInceptionDistance
    with contextlib.suppress(ImportError, AttributeError), _standing_in({}, drop="torchmetrics"):
        _not_executed("torchmetrics", "torchmetrics.utilities", "torchmetrics.image")
        vars(sys.modules["torchmetrics"])["_logger"] = logging.getLogger("torchmetrics")
        vars(importlib.import_module("torchmetrics.utilities.imports"))["_MATPLOTLIB_AVAILABLE"] = False
        return importlib.import_module(path).FrechetInceptionDistance
    return importlib.import_module(path).FrechetInceptionDistance


def lean_seaborn() -> Any:
    """The module of seaborn's style, `seaborn.rcmod`; the library stays as if it had not been imported."""
    path = "seaborn.rcmod"
    if path in sys.modules:
        return sys.modules[path]
    with contextlib.suppress(ImportError, AttributeError), _standing_in({}, drop="seaborn"):
        _not_executed("seaborn")
        return importlib.import_module(path)
    return importlib.import_module(path)


def _not_executed(*packages: str) -> None:
    """Packages that find their modules, and import nothing by themselves."""
    for package in packages:
        spec = find_spec(package)
        assert spec is not None
        sys.modules[package] = module_from_spec(spec)


@contextlib.contextmanager
def _standing_in(modules: dict[str, ModuleType], drop: str = "") -> Iterator[None]:
    """These modules for the time of the block; afterwards they, and all of the package `drop`, are not imported."""
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in [*modules, *(name for name in sys.modules if drop and f"{name}.".startswith(f"{drop}."))]:
            sys.modules.pop(name, None)
