"""The laboratory: specs, data, training, scoring, storage, execution, analysis and reporting of GAN trials.

For notebooks and scripts: `load` and `load_curves` give the results of a store as DataFrames whose columns `columns`
lists, `open_trial` a trial with its spec, scores, curves and generator, and `load_generator` one that was exported.
Nothing of this is imported before it is asked for, and torch only for generators.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.tidy import columns, load, load_curves
    from harness.using.hub import load_generator
    from harness.using.trial import open_trial

_PLACES = {
    "columns": "harness.analysis.tidy",
    "load": "harness.analysis.tidy",
    "load_curves": "harness.analysis.tidy",
    "load_generator": "harness.using.hub",
    "open_trial": "harness.using.trial",
}

__all__ = ["columns", "load", "load_curves", "load_generator", "open_trial"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(_PLACES)}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]
