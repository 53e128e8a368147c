"""A program for the tests: the trials of a study in this folder, real ones, through the real Ray, Tune and store.

    python -m tests.faults.trainers STORE SEEDS WORKERS [STUDY]

As `studies run` does, but without a report. The store's cache may hold data and extractor already.
"""

import sys
from pathlib import Path

from harness import garbage
from harness.errors import UserError
from harness.execution.run_study import run_study
from harness.storage.store import Store
from studies.catalog import find


def main(store: str, seeds: str, workers: str, study: str = "small.py") -> None:
    place = Store(store, create=True)
    found = find(str(Path(__file__).with_name(study)))
    complete = run_study(found, "smoke", int(seeds), place, int(workers), lambda line: print(line, file=sys.stderr))
    garbage.search_no_more()
    sys.exit(not complete)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
