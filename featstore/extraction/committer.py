"""Committing in the background: a shard is written while pictures of the next one are read and decoded.

The model waits until it is written, so that a kill loses one unfinished shard and no more (`docs/reliability.md`, P1).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)
Job = Callable[[], object]


class Committer:
    """Does the writing of one shard at a time in a thread; a context manager that waits for it at the end.

    What goes wrong there is raised where the main thread looks next: `submit`, `check`, `wait`.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._pool.submit(_do_all, ()).result()  # an interrupt while the thread starts would hide it from the pool
        self._flight: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        failed = self._flight.exception() if self._flight is not None else None
        if failed is not None and error is None:
            raise failed
        if failed is not None:
            log.error("the shard that was being written then could not be committed: %s", failed)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Wait for the shard before, then write this one (of each feature, in order) in the background."""
        self.wait()
        self._flight = self._pool.submit(_do_all, jobs)

    def check(self) -> None:
        """Raise what went wrong with the last shard, if that is known by now."""
        if self._flight is not None and self._flight.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is under way; an interrupt leaves the writing to go on."""
        if self._flight is None:
            return
        try:
            self._flight.result()
        finally:
            if self._flight.done():
                self._flight = None


def _do_all(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job()
