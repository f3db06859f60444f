"""Linear algebra in threads that sleep while they wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

PIECES: Final = 8
"""Pieces of a product, dealt over the threads: a thread that other work holds up holds up one of them."""

LEAST: Final = 2**24
"""Multiplications below which a product is not worth dividing."""

Product = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


@contextmanager
def one_blas_thread_each() -> Iterator[ThreadPoolExecutor]:
    """Yield as many threads as BLAS has, which meanwhile computes with one for each of them.

    The threads of OpenBLAS spin while they wait for each other, whatever the environment says: beside other work a
    product takes several times as long, and a decomposition fifty times. These sleep.
    """
    blas = ThreadpoolController().select(user_api="blas")
    threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        yield pool


def divided_product(pool: ThreadPoolExecutor) -> Product:
    """Return what multiplies (m, d) by (d, n) in the threads of `one_blas_thread_each`.

    The pieces, and so the sums, do not depend on the number of threads.
    """

    def product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        if a.size * b.shape[1] < LEAST:
            return np.asarray(a @ b)
        out = np.empty((len(a), b.shape[1]), np.result_type(a, b))

        def piece(start: int, stop: int) -> None:
            np.matmul(a, b[:, start:stop], out=out[:, start:stop])

        ends = np.linspace(0, b.shape[1], PIECES + 1).astype(int).tolist()
        for done in [pool.submit(piece, start, stop) for start, stop in pairwise(ends)]:
            done.result()
        return out

    return product
