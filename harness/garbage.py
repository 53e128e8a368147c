"""How often Python searches for garbage: seldom, as nearly all that a program makes, it keeps until it ends.

The libraries make a million objects as they are imported. To search them again and again takes a sixth of that time,
and to search them once more at the end takes a second. Programs call this, and the package alone changes nothing.
"""

import gc


def search_seldom() -> None:
    """From now on in this process. What is dropped is freed as ever; only what refers to itself is kept for longer."""
    gc.set_threshold(10_000, 20, 20)  # for 700, 10, 10


def search_no_more() -> None:
    """The process ends: all that there is goes with it."""
    gc.freeze()
