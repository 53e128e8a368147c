"""Parts of a page made by several processors at once, in forks of this process: drawing is most of a report's time."""

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from harness import garbage

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds to wait for a fork that has gone silent, before its part is made here."""


def in_parallel(makers: Sequence[Callable[[], T]], processes: int) -> list[T]:
    """What these functions return, each called in this process or in a fork of it: see `at_work`."""
    with at_work(makers, processes) as made:
        return made()


@contextlib.contextmanager
def at_work(makers: Sequence[Callable[[], T]], processes: int) -> Iterator[Callable[[], list[T]]]:
    """Forks that call these functions while the block does something else; it asks for what they return when it is due.

    Forks only compute: what they return is pickled. Whatever none of them has begun when it is asked for, or does not
    deliver, is made here, so that an exception is raised as if there were no forks.

    Args:
        makers: The functions, in the order in which they are begun.
        processes: How many call them at once, this one among them; 1 for no fork.

    Yields:
        What gives all that they return, in their order. It is called once, within the block.
    """
    claims, entry = os.pipe()
    os.write(entry, b"".join(i.to_bytes(2) for i in range(len(makers))))  # each process takes the next
    os.close(entry)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, claims)
        stack.enter_context(garbage.passing_over_the_old())  # figures come and go, modules stay
        forks = list[Connection]()
        with contextlib.suppress(OSError):  # no room for a further process: those that are there do all
            for _ in range(min(processes - 1, len(makers))):
                forks.append(stack.enter_context(_fork(makers, claims)))
        yield lambda: _collected(makers, claims, forks)


def _collected(makers: Sequence[Callable[[], T]], claims: int, forks: Sequence[Connection]) -> list[T]:
    found = {i: makers[i]() for i in _claimed(claims)}
    for fork in forks:
        with contextlib.suppress(EOFError, OSError):  # it was killed
            while fork.poll(PATIENCE) and (delivered := fork.recv()) is not None:
                found[delivered[0]] = delivered[1]
    return [found[i] if i in found else maker() for i, maker in enumerate(makers)]


def _claimed(claims: int) -> Iterator[int]:
    while number := os.read(claims, 2):
        yield int.from_bytes(number)


@contextlib.contextmanager
def _fork(makers: Sequence[Callable[[], Any]], claims: int) -> Iterator[Connection]:
    """A fork that makes what it claims; its end of a pipe, through which (number, result) come, and None in the end."""
    ours, theirs = get_context("fork").Pipe(duplex=False)
    with ours:
        with theirs, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads that may hold locks: see PATIENCE
            process = get_context("fork").Process(target=_make, args=(makers, claims, theirs, ours), daemon=True)
            process.start()
        try:
            yield ours
        finally:
            process.kill()
            process.join()


def _make(makers: Sequence[Callable[[], Any]], claims: int, pipe: Connection, others_end: Connection) -> None:
    others_end.close()  # else whoever waits here for room in the pipe would wait for ever, once the parent is killed
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # the parent tidies up
    made = list[tuple[int, Any]]()
    with contextlib.suppress(Exception):
        for i in _claimed(claims):
            made.append((i, makers[i]()))
    with contextlib.suppress(Exception):
        for one in (*made, None):  # only now: a pipe holds 64 KiB, and nobody reads while there is something to make
            pipe.send(one)
