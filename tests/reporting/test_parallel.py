"""Parts of a page made in forks."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from harness.reporting.parallel import at_work, in_parallel


def slow(number: int) -> tuple[int, int]:
    time.sleep(0.1)
    return number, os.getpid()


def test_forks_share_the_work_in_order() -> None:
    found = in_parallel([partial(slow, i) for i in range(6)], 3)
    assert [number for number, _ in found] == list(range(6))
    assert len({process for _, process in found}) > 1
    assert {process for _, process in in_parallel([partial(slow, 0)] * 2, 1)} == {os.getpid()}


def test_forks_work_while_the_block_does(tmp_path: Path) -> None:
    def noted(number: int) -> tuple[int, int]:
        (tmp_path / str(number)).touch()
        return number, os.getpid()

    with at_work([partial(noted, i) for i in range(4)], 2) as made:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 4:
            assert time.monotonic() < deadline, "nothing is made before it is asked for"
            time.sleep(0.05)
        found = made()
    assert [number for number, _ in found] == [0, 1, 2, 3]
    assert os.getpid() not in {process for _, process in found}


def test_there_may_be_many_parts() -> None:
    """More than a byte counts."""
    assert in_parallel([partial(int, i) for i in range(700)], 2) == list(range(700))


def test_large_parts_do_not_stop_forks() -> None:
    """More than a pipe holds, while this process is busy with parts of its own."""

    def large() -> tuple[int, bytes]:
        time.sleep(0.1)
        return os.getpid(), bytes(200_000)

    made = Counter(process for process, _ in in_parallel([large] * 8, 2))
    assert len(made) == 2 and min(made.values()) >= 2


def test_without_room_for_forks_all_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_room)
    assert [number for number, _ in in_parallel([partial(slow, i) for i in range(3)], 3)] == [0, 1, 2]


def test_what_a_killed_fork_leaves_is_made_here() -> None:
    here = os.getpid()

    def deadly() -> int:
        time.sleep(0.1)
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    assert in_parallel([deadly] * 4, 2) == [here] * 4


def test_an_error_in_a_fork_is_raised_here() -> None:
    here = os.getpid()

    def failing() -> None:
        time.sleep(0.1)
        if os.getpid() != here:
            raise ValueError("in a fork")

    def always() -> None:
        raise ValueError("everywhere")

    assert in_parallel([failing] * 4, 2) == [None] * 4
    with pytest.raises(ValueError, match="everywhere"):
        in_parallel([partial(slow, 0), partial(slow, 1), always], 2)


ORPHAN = """
import os, signal, time
from harness.reporting.parallel import at_work

def large():
    print(os.getpid(), flush=True)
    return bytes(1_000_000)

with at_work([large], 2):
    time.sleep(1)  # the fork has made it, and waits for room in its pipe
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_forks_end_with_a_killed_parent() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while Path(f"/proc/{int(done.stdout)}").exists():
        assert time.monotonic() < deadline, "the fork waits for a reader that is gone"
        time.sleep(0.1)
