"""The studies, one file each, and the program that runs them.

They are not imported before they are asked for: the program first takes over signals, and tells libraries how many
threads they may start.
"""

import importlib
import sys

from studies import whole

TYPE_CHECKING = False  # as typing has it, whose import takes longer than all else here
if TYPE_CHECKING:
    from studies.catalog import STUDIES, find

__all__ = ["STUDIES", "find", "whole"]


def __getattr__(name: str) -> object:
    if not name.startswith("_"):
        catalog = importlib.import_module("studies.catalog")  # and with it the module of every study
        if name in ("STUDIES", "find"):
            return getattr(catalog, name)
        if found := sys.modules.get(f"studies.{name}"):
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, *globals()]
