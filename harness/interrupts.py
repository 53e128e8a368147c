"""Signals that ask the program to end. The first one interrupts its work, whatever libraries make of signals.

The program alone takes signals over (`take_over`), before its slow imports; to import the packages changes nothing.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
"""What asks the program to end: Ctrl-C, Ctrl-\\, a batch system or `docker stop`, a terminal that was closed."""

PATIENCE = 10.0
"""Seconds that tidying up may take before a further signal ends the program at once."""


@dataclass
class _Signals:
    began: bool = False
    at_work: bool = False
    first: int = 0  # the signal that interrupted the work
    when: float = 0.0


_signals = _Signals()


def take_over() -> None:
    """Handle the signals of STOPS from now on."""
    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, _stop)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Where the first signal raises KeyboardInterrupt; before, and afterwards, it ends the program on the spot.

    Further signals are ignored, so that they do not interrupt the tidying up: of a Ctrl-C that is pressed twice, say.
    After PATIENCE they end the program.
    """
    _signals.began = _signals.at_work = True
    try:
        yield
    finally:
        _signals.at_work = False
        if _signals.first:
            for number in STOPS:  # Python's own end would make them deadly before the status is told
                signal.signal(number, signal.SIG_IGN)
        exec("")  # else Python remembers a KeyboardInterrupt that went through an exec, and ends by SIGINT's default


def status() -> int:
    """The exit status that tells of the signal which raised KeyboardInterrupt: 130 of Ctrl-C, 143 of SIGTERM."""
    return 128 + (_signals.first or signal.SIGINT)


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Around the start of processes that this one will end itself, by a library that takes signals for itself.

    It runs in a thread beside the main one, which signals interrupt meanwhile; who ends the processes waits for their
    start to end, so that nothing is left half started. A terminal sends its signals to all processes of a program.
    Those started here do not hear SIGQUIT and SIGHUP, and Ray's see to Ctrl-C themselves.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGQUIT, signal.SIGHUP})
    starter, take = threading.current_thread(), signal.signal

    def keep_ours(number: int, handler: Any) -> Any:
        refused = number in STOPS and threading.current_thread() is starter
        return signal.getsignal(number) if refused else take(number, handler)

    signal.signal = keep_ours  # Ray takes SIGTERM, and raises wherever it lands: in a finaliser that is lost
    try:
        yield
    finally:
        signal.signal = take
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def raise_again() -> None:
    """Raise KeyboardInterrupt if a signal asked for it and the work goes on: one that lands in a finaliser is lost."""
    if _signals.first and _signals.at_work:
        raise KeyboardInterrupt


def _stop(number: int, _: FrameType | None) -> None:
    now = time.monotonic()
    if _signals.first:
        if now - _signals.when > PATIENCE:
            _leave()
        return
    _signals.first, _signals.when = number, now
    if not _signals.at_work:
        _leave()
    raise KeyboardInterrupt


def _leave() -> None:
    with contextlib.suppress(OSError):  # there may be nobody to read it
        if not _signals.began:
            os.write(2, b"interrupted before any work began\n")
        elif os.isatty(2):
            os.write(2, b"\x1b[?25h")  # a live view hides the cursor
    os._exit(status())
