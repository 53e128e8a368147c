"""Ray starts in the background: what goes on meanwhile must neither stop it nor be stopped by it."""

import subprocess
import sys

import pytest

from harness.errors import UserError
from harness.execution import ray_session
from harness.execution.cluster import HERE

STARTS_BESIDE_PRODUCTS = """
import sys, threading, time
import numpy as np
from harness.execution import ray_session
from threadpoolctl import threadpool_info, threadpool_limits

threadpool_limits(2, user_api="blas")  # as where numpy was there before harness
assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {2}
done = threading.Event()

def start_processes(*_):
    import subprocess
    while not done.is_set():
        subprocess.Popen(["true"], preexec_fn=lambda: None).wait()  # with a fork, as Ray starts its own

ray_session.start_ray = start_processes
session = ray_session.RaySession(None, 1)
ends, matrix = time.monotonic() + 3, np.random.rand(600, 64)
while time.monotonic() < ends:
    matrix @ matrix.T
done.set()
session.ready()
print("went on")
"""


def test_products_go_on_while_it_starts() -> None:
    """A product of matrices in two threads of OpenBLAS would not end once another thread forks."""
    code = [sys.executable, "-W", "ignore", "-c", STARTS_BESIDE_PRODUCTS]
    assert subprocess.run(code, capture_output=True, text=True, timeout=120).stdout == "went on\n"


def test_a_start_out_of_time_is_told(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line: beside other work, the processes of a niced run may get next to none."""

    def busy(*_, **__) -> None:
        raise Exception(
            "The current node timed out during startup. This could happen because some of the raylet failed"
        )

    monkeypatch.setattr(ray_session.ray, "init", busy)
    with pytest.raises(UserError, match="^Ray did not start in time: .* run the same command again"):
        ray_session.start_ray(HERE, 1, tmp_path)
