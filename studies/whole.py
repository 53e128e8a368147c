"""Whether `harness` and `architectures` are those that belong to this package, and not another's of the same name.

Such names are not ours alone. What lies first on Python's path wins: with `python -m studies` that is the current
folder, with the console command, and with imports from a script, it is not. Looked at when `studies` is imported,
before anything else is, so that a mix of two projects is told in one line and never runs.
"""

import importlib.util
import os
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]

for name in ("architectures", "harness"):
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None or Path(found.origin).resolve().parents[1] != HOME:
        there = found and (found.origin or next(iter(found.submodule_search_locations or []), None))
        told = (
            f"the package {name!r} that Python finds ({there or 'none'}) is not the one that belongs to gan-ablation "
            f"({HOME / name}); rename it, or run gan-ablation from another folder and in an environment without it"
        )
        if sys.argv[0] == "-m" or os.path.basename(sys.argv[0]).startswith("gan-ablation"):
            print(f"error: {told}", file=sys.stderr)
            raise SystemExit(2)
        raise ImportError(told)
