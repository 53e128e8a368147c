"""A program for the tests: the trials of small.py, real ones, through the real Ray, Tune and store.

    python -m tests.faults.trainers STORE SEEDS WORKERS

As `studies run` does, but without a report. The store's cache may hold data and extractor already.
"""

import sys
from pathlib import Path

from harness.errors import UserError
from harness.scheduling.runner import run_study
from harness.store import Store
from studies.catalog import find

STUDY_FILE = Path(__file__).with_name("small.py")


def main(store: str, seeds: str, workers: str) -> None:
    place = Store(store, create=True)
    complete = run_study(
        find(str(STUDY_FILE)), "smoke", int(seeds), place, int(workers), lambda line: print(line, file=sys.stderr)
    )
    sys.exit(not complete)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
