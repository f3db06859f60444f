"""How many threads the libraries beneath a head compute with: their sums, and so the last bits, depend on it."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

from threadpoolctl import threadpool_info

from fusion.errors import HeadConfigError

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


def check_threads(n_jobs: object) -> None:
    """Refuse a number of threads that is none."""
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or not 1 <= n_jobs <= MOST_THREADS:
        raise HeadConfigError(f"n_jobs must be a whole number from 1 to {MOST_THREADS}, got {n_jobs!r}")
