"""How often Python searches for garbage: seldom, as nearly all that a program makes, it keeps until it ends.

The libraries make a million objects as they are imported. To search them again and again takes a sixth of that time,
and to search them once more at the end takes a second. Programs call this, and workers do as much by themselves; in
others' processes the package leaves all as it was.
"""

import contextlib
import gc
from collections.abc import Iterator


def search_seldom() -> None:
    """From now on in this process. What is dropped is freed as ever; only what refers to itself is kept for longer."""
    gc.set_threshold(10_000, 20, 20)


def search_no_more() -> None:
    """The process ends: all that there is goes with it."""
    gc.freeze()


@contextlib.contextmanager
def passing_over_the_old() -> Iterator[None]:
    """For the time of the block, what is there already is not searched, in forks of this process neither."""
    if gc.get_freeze_count():  # somebody else's, who would find all searched again
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
