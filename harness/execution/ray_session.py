"""Ray itself: started in the background while what trials share is prepared, or joined; ended with all its processes.

On this machine it is started and stopped here, without those of its helpers that nothing here talks to. Workers import
what trials need as soon as they are there.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

from harness import interrupts
from harness.errors import UserError
from harness.execution.cluster import Cluster
from harness.execution.environment import sanitise
from harness.execution.resources import processors, ray_folder, ray_options, token

# ruff: noqa: E402
sanitise()  # before ray is imported, which reads the environment at once; also in workers on other machines

import psutil
import ray
import ray.exceptions
from ray._private.node import Node
from threadpoolctl import threadpool_limits

PACKAGES = ("architectures", "harness", "studies")
"""What is sent to the nodes of a cluster as code."""

NOT_NEEDED = ("start_monitor", "start_log_monitor", "start_api_server")
"""Helpers of a Ray on one machine that nothing here talks to: they add nodes, print workers' lines, show web pages.
Each is a process of 80 MB that takes most of a second to start, while the start waits for the last of them."""

WORKERS_LOAD = "harness.execution.worker"
"""What a worker of this machine imports as it starts: what a trial needs. There are as many as trials at once, and Ray
keeps them while they have nothing to do, even where placement groups hold all processors."""

PATIENCE = 3.0
"""Seconds that Ray's processes have to end by themselves."""

logging.getLogger("ray._private.worker").setLevel(logging.ERROR)  # signals are ours, which it would warn of


class RaySession:
    """A Ray that starts in the background from the moment this is made; `close` ends it."""

    def __init__(self, cluster: Cluster, workers: int | None) -> None:
        """Begin.

        Args:
            cluster: Where.
            workers: Trials at once; None on a cluster, which knows.
        """
        self._others = psutil.Process().children(recursive=True)
        # OpenBLAS ends its threads before a fork, as Ray's start has several: a product that this process computes
        # meanwhile would wait for them for ever. What is loaded later is told by OPENBLAS_NUM_THREADS.
        threadpool_limits(1, user_api="blas")
        self._error: BaseException | None = None
        self._exit = contextlib.ExitStack()
        self.scratch = self._exit.enter_context(ray_folder())
        self._started, self._ended = Event(), Event()
        Thread(target=self._keep, args=(cluster, workers), daemon=True).start()

    def _keep(self, cluster: Cluster, workers: int | None) -> None:
        """Start Ray, and stay: the system ends its processes with the thread that started them."""
        try:
            with interrupts.starting_processes():
                start_ray(cluster, workers, self.scratch)
        except BaseException as error:  # noqa: BLE001  it is raised to whoever waits for Ray
            self._error = error
        self._started.set()
        self._ended.wait()

    def ready(self) -> Path:
        """Wait for Ray; a folder for scratch. Raises what went wrong with the start."""
        self._started.wait()
        if self._error:
            raise self._error
        return self.scratch

    def close(self) -> None:
        """End Ray, also one that is starting, and all processes that it started here."""
        try:
            self._started.wait()  # nothing is left half started
        finally:
            with self._exit:
                self._exit.callback(self._ended.set)
                started = [p for p in psutil.Process().children(recursive=True) if p not in self._others]
                ray.shutdown()
                # Some may be left: of a start that went wrong, or agents that outlive their raylet by a minute.
                for process in psutil.wait_procs(started, timeout=PATIENCE)[1]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()


def start_ray(cluster: Cluster, workers: int | None, folder: Path) -> None:
    """Start Ray on this machine, or join the cluster; a UserError if it cannot be joined."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not cluster.address:
        os.environ.setdefault("RAY_AUTH_TOKEN", token())
        system = {"preload_python_modules": [WORKERS_LOAD], "num_workers_soft_limit": workers or processors()}
        with _lean_node(), _findable():
            try:
                ray.init(
                    "local",
                    num_cpus=workers,
                    include_dashboard=False,
                    _system_config=system,
                    **ray_options(folder),
                    **options,
                )
            except Exception as error:  # Ray has no type of its own for it
                if "timed out during startup" not in str(error):
                    raise
                raise UserError(
                    "Ray did not start in time: other work leaves this machine too little time or memory; run the same "
                    "command again when there is less of it"
                ) from None
        return
    root = Path(__file__).parents[2]
    try:
        ray.init(cluster.address, runtime_env={"py_modules": [str(root / name) for name in PACKAGES]}, **options)
    except ray.exceptions.AuthenticationError:
        raise UserError(
            f"cannot join the Ray cluster at {cluster.address}: it has another token, or none was found here; give the "
            f"cluster's own in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from None
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(
            f"cannot join the Ray cluster at {cluster.address}: {str(error).strip().splitlines()[0]}; it must be up, "
            f"of the same Ray and Python versions, and its token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from None


@contextlib.contextmanager
def _findable() -> Iterator[None]:
    """For the time of the block, Python finds this very code, in processes that begin in it, before Ray tells how."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), before]))
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        os.environ.update({} if before is None else {"PYTHONPATH": before})


@contextlib.contextmanager
def _lean_node() -> Iterator[None]:
    """For the time of the block, Ray starts no process of NOT_NEEDED."""
    usual = {name: getattr(Node, name) for name in NOT_NEEDED}
    try:
        for name in NOT_NEEDED:
            setattr(Node, name, _none_started)
        yield
    finally:
        for name, method in usual.items():
            setattr(Node, name, method)


def _none_started(node: Any, **_: Any) -> None:
    node._webui_url = None
