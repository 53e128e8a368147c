"""The studies, one file each, and the program that runs them.

They are not imported before they are asked for: the program first takes over signals, and tells libraries how many
threads they may start.
"""

import importlib
from typing import TYPE_CHECKING, Any

from studies import whole

if TYPE_CHECKING:
    from studies.catalog import STUDIES, find

__all__ = ["STUDIES", "find", "whole"]


def __getattr__(name: str) -> Any:
    if name not in ("STUDIES", "find"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module("studies.catalog"), name)
