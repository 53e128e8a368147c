"""Signals that come while something starts that must not be left half started."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTS = """
import os, signal, sys
from harness import interrupts

interrupts.take_over()
with interrupts.interruptible():
    try:
        with interrupts.starting_processes():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does
            taken = signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # others' own signals are theirs
            assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            print("started", flush=True)
        print("went on", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        signal.signal(signal.SIGUSR2, taken)
        sys.exit(interrupts.status())
"""


def test_a_signal_waits_for_a_start_to_end() -> None:
    done = subprocess.run([sys.executable, "-c", STARTS], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("started\ninterrupted\n", "", 143)


LOSES = """
import os, signal, sys
from harness import interrupts

class Finaliser:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # here the signal is heard, and what it raises is ignored
            pass

interrupts.take_over()
sys.unraisablehook = lambda lost: print("lost", lost.exc_type.__name__, flush=True)
with interrupts.interruptible():
    try:
        interrupts.raise_again()
        Finaliser()
        print("went on", flush=True)
        interrupts.raise_again()
        print("nobody heard", flush=True)
    except KeyboardInterrupt:
        sys.exit(interrupts.status())
"""


def test_a_signal_that_was_lost_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", LOSES], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("lost KeyboardInterrupt\nwent on\n", "", 143)
