"""How many threads the libraries beneath a head compute with: their sums, and so the last bits, depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import PurePath
from typing import Final

from cer_fusion.fusion.cores import whole_cores
from cer_fusion.fusion.errors import HeadConfigError
from threadpoolctl import ThreadpoolController, threadpool_info

MOST_THREADS: Final = 256

OWN_NUMBER: Final = ("torch", "xgboost", "lightgbm", "catboost")
"""Libraries that bring an OpenMP of their own and are told their number by a head, which records it by their name."""


def library_threads() -> dict[str, int]:
    """Return the threads of BLAS and OpenMP as NumPy, SciPy and scikit-learn use them: ``{"blas": 2, "openmp": 2}``.

    The largest number, where several copies of a library are loaded. What else a program has imported does not matter.
    """
    found: dict[str, int] = {}
    for library in threadpool_info():
        home = {part.split(".")[0] for part in PurePath(library["filepath"]).parts[-3:-1]}  # torch/lib, xgboost.libs
        if not home & set(OWN_NUMBER):
            kind = str(library["user_api"])
            found[kind] = max(found.get(kind, 1), int(library["num_threads"]))
    return dict(sorted(found.items()))


def check_threads(threads: object) -> None:
    """Refuse a number of threads that is none; None leaves the number to the head."""
    if threads is None:
        return
    if isinstance(threads, bool) or not isinstance(threads, Integral) or not 1 <= int(threads) <= MOST_THREADS:
        raise HeadConfigError(f"threads must be a whole number from 1 to {MOST_THREADS}, or None, got {threads!r}")


def threads_of(threads: int | None, found: int) -> int:
    """Return how many to compute with: what is asked for, else as many as the library has, with a core each."""
    return min(found, whole_cores()) if threads is None else int(threads)


@contextmanager
def libraries_limited(threads: int | None) -> Iterator[None]:
    """Let BLAS and OpenMP compute with so many threads inside the block, and with as many as before after it.

    None leaves them as they are, but for those that have more threads than this process may use cores: threads without
    a core hold up the ones that wait for them. Libraries do see which cores are a process's own, but not what share of
    their time a control group allows.
    """
    pools = ThreadpoolController()
    if threads is None:
        many = [library["filepath"] for library in pools.info() if library["num_threads"] > whole_cores()]
        if not many:
            yield
            return
        pools = pools.select(filepath=many)
    with pools.limit(limits=threads_of(threads, whole_cores())):
        yield


def tree_threads(threads: int | None) -> int:
    """Return how many threads grow trees: one unless told otherwise, whatever the machine.

    Sums over rows, and so the trees, depend on the number. Trees of the size that heads grow gain little from more, and
    beside other work threads that wait for each other after every histogram lose a lot.
    """
    return 1 if threads is None else int(threads)
