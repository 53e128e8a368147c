"""Python's search for garbage: programs make it rare, the package alone changes nothing."""

import gc
import subprocess
import sys

import pytest

from harness import garbage

PACKAGE = "import gc; before = gc.get_threshold(); import harness, studies.catalog; assert gc.get_threshold() == before"
PROGRAM = """
import atexit, gc, sys
atexit.register(lambda: print(gc.isenabled(), gc.get_threshold()[0], gc.get_freeze_count() > 10_000))
sys.argv = ["studies", "list", "aa"]
from studies.__main__ import main
main()
"""


def test_the_package_alone_changes_nothing() -> None:
    subprocess.run([sys.executable, "-c", PACKAGE], check=True)


def test_programs_search_seldom_and_end_without() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "True 10000 True", done.stderr


def test_a_block_passes_over_the_old() -> None:
    for count in (0, 1):  # a second time: it leaves all as it was
        with pytest.raises(ZeroDivisionError), garbage.passing_over_the_old():
            assert gc.get_freeze_count() > 10_000
            with garbage.passing_over_the_old():
                count / 0
        assert gc.get_freeze_count() == 0 and gc.isenabled()


def test_what_others_froze_stays_frozen() -> None:
    gc.freeze()
    try:
        with garbage.passing_over_the_old():
            pass
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
