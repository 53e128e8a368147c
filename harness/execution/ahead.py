"""One Ray for all that a command does, begun as soon as it is known to be wanted. Does not import ray before that."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.execution.cluster import Cluster

if TYPE_CHECKING:
    from harness.execution.ray_session import RaySession


class OneRay:
    """A Ray that is begun once and used by all."""

    def __init__(self) -> None:
        self._session: RaySession | None = None

    def begin(self, cluster: Cluster, workers: int | None) -> "RaySession":
        """Begin it, if that has not been done.

        Args: as of RaySession.
        """
        if self._session is None:
            from harness.execution.ray_session import RaySession  # ray is slow to import

            self._session = RaySession(cluster, workers)
        return self._session

    def close(self) -> None:
        """End it, if it was begun; the next `begin` begins another."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


_open: list[OneRay] = []


@contextlib.contextmanager
def one_ray() -> Iterator[OneRay]:
    """What all blocks within this one share; it ends with the outermost."""
    if _open:
        yield _open[0]
        return
    _open.append(OneRay())
    try:
        yield _open[0]
    finally:
        _open.pop().close()


def begin(cluster: Cluster, workers: int | None) -> None:
    """Begin the Ray of the block of `one_ray` that this runs in, if any, and go on while it starts."""
    if _open:
        _open[0].begin(cluster, workers)
