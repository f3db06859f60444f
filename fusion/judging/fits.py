"""Independent fits: one after the other here, or wherever joblib's backends do them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Protocol

from joblib import Parallel, delayed, effective_n_jobs

from ..errors import FusionError

Step = Callable[[], None]
Progress = Callable[[int, int], None]
"""Called as (done, all) after each step."""


class Fits(Protocol):
    """Fits that know nothing of each other, by their number; can be sent to another process, and done there."""

    def __len__(self) -> int:
        """Return how many there are."""

    def steps(self, i: int) -> int:
        """Return how often fit i calls `step`."""

    def do(self, i: int, step: Step) -> Any:
        """Return what fit i gives."""


def do_all(fits: Fits, *, n_jobs: int | None = None, progress: Progress | None = None) -> list[Any]:
    """Do all fits, in order.

    Parameters
    ----------
    fits : Fits
    n_jobs : int, optional
        As everywhere in scikit-learn: None for one at a time, unless `joblib.parallel_config` says otherwise; its
        backend (loky, threading, Dask, Ray) is the one that is used. -1 for one a core.
    progress : callable, optional

    Raises
    ------
    FusionError
        If they are to be done in other processes, and cannot be sent there.
    """
    counted = Counted(progress, sum(fits.steps(i) for i in range(len(fits))))
    if one_at_a_time(fits, n_jobs):
        return [fits.do(i, counted) for i in range(len(fits))]
    parallel = Parallel(n_jobs=n_jobs)
    parallel.print_progress = lambda: counted.upto(  # joblib calls it after each task
        sum(fits.steps(i) for i in range(min(parallel.n_completed_tasks, len(fits))))
    )
    try:
        found: list[Any] = parallel(delayed(_do)(fits, i) for i in range(len(fits)))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        if "pickle" not in str(error).lower():
            raise
        raise FusionError(f"the fits cannot be sent to other processes: {error}") from error
    counted.upto(counted.total)
    return found


def one_at_a_time(fits: Fits, n_jobs: int | None) -> bool:
    """Whether `do_all` does one after the other, here."""
    return min(int(effective_n_jobs(n_jobs)), len(fits)) == 1


def _do(fits: Fits, i: int) -> Any:
    return fits.do(i, _no_step)


def _no_step() -> None:
    """Count for nobody."""


class Counted:
    """Counts steps, and tells them.

    Parameters
    ----------
    progress : callable or None
    total : int
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.total = total
        self._progress, self._done = progress, 0

    def __call__(self) -> None:
        self.upto(self._done + 1)

    def upto(self, done: int) -> None:
        """So many are done, at least."""
        if done > self._done:
            self._done = done
            if self._progress is not None:
                self._progress(done, self.total)
