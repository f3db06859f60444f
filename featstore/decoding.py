"""Decoding ahead: pictures are read and decoded in threads while the model computes, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import numpy.typing as npt

Picture = npt.NDArray[Any]


def decode_ahead(
    positions: Iterable[int], decode: Callable[[int], Picture], *, pool: Executor, ahead: int
) -> Iterator[tuple[int, Picture | Exception]]:
    """Yield (position, picture) in order, or (position, error) where the picture cannot be used.

    At most `ahead` pictures are decoded or wait; the pool is the caller's, so that its threads keep what they opened.

    Only ValueError (not a picture) and OSError (cannot be read) are handed over; anything else is a fault and raised.
    """
    waiting: deque[tuple[int, Future[Picture]]] = deque()
    rest = iter(positions)
    try:
        while True:
            while len(waiting) < ahead and (position := next(rest, None)) is not None:
                waiting.append((position, pool.submit(decode, position)))
            if not waiting:
                return
            position, future = waiting.popleft()
            result: Picture | Exception
            try:
                result = future.result()
            except (ValueError, OSError) as error:
                result = error
            yield position, result
    finally:
        for _, future in waiting:
            future.cancel()
