"""Signals that come while something starts that must not be left half started, and signals that get lost."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTS = """
import os, signal, sys, threading, time
from harness import interrupts

begun, go_on = threading.Event(), threading.Event()

def start():
    with interrupts.starting_processes():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does
        begun.set()
        go_on.wait()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # and so what is started here does not hear them
        print("started", sorted(number.name for number in blocked), flush=True)

interrupts.take_over()
with interrupts.interruptible():
    starter = threading.Thread(target=start)
    starter.start()
    try:
        begun.wait()
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # others' own signals are theirs
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM)
        print("went on", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)  # a second one does not interrupt the tidying up
        go_on.set()
        starter.join()
        sys.exit(interrupts.status())
"""


def test_a_signal_leaves_nothing_half_started() -> None:
    done = subprocess.run([sys.executable, "-c", STARTS], cwd=ROOT, capture_output=True, text=True, timeout=60)
    said = "interrupted\nstarted ['SIGHUP', 'SIGQUIT']\n"
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 143)


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
