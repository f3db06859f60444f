"""Where a head trains: the device, the type of its products, the threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.ranges import one_of
from cer_fusion.fusion.heads.thread_counts import threads_of
from numpy.typing import NDArray

A = TypeVar("A")
B = TypeVar("B")

logger = logging.getLogger(__name__)


def chosen_device(device: str) -> torch.device:
    """Return the PyTorch device that a word names, refusing one that is not there.

    Raises
    ------
    HeadConfigError
        If PyTorch knows no such device, or cannot use it here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        logger.info("training on %s (device='auto')", device)
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:  # CPU builds assert; what has no kernels raises a RuntimeError
        raise HeadConfigError(f"cannot train on device {device!r}: {error}\n  use device='auto' or 'cpu'") from error
    return found


def chosen_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of the first layer's products for a word: `auto`, `float32` or `bfloat16`."""
    one_of("precision", precision, ("auto", "float32", "bfloat16"))
    if precision == "auto":
        precision = "bfloat16" if device.type == "cpu" and _cpu_multiplies_bfloat16() else "float32"
        logger.info("multiplying in %s (precision='auto')", precision)
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


@contextmanager
def threads_set_to(threads: int | None) -> Iterator[int]:
    """Compute with so many threads inside the block, and with as many as before after it.

    None leaves PyTorch's number, unless this process may use fewer cores.
    """
    before = torch.get_num_threads()
    if threads_of(threads, before) != before:
        torch.set_num_threads(threads_of(threads, before))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def side_by_side(fit: Callable[[A], B], parts: Sequence[A], *, threads: int) -> list[B]:
    """Return what `fit` makes of each part: rounds of as many parts as there are threads, then the rest share them.

    Threads that share every product wait for each other thousands of times a fit, and beside other work on the machine
    for whichever the system holds up; threads with a part of their own wait once. Parts of a round should be of a size.
    """
    made: list[B] = []
    while len(made) < len(parts):
        together = parts[len(made) : len(made) + threads]
        made += _at_once(fit, together, threads // len(together)) if len(together) > 1 else [fit(together[0])]
    return made


def _at_once(fit: Callable[[A], B], parts: Sequence[A], threads: int) -> list[B]:
    """Fit all of these parts at the same time, each with so many of PyTorch's threads."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(len(parts), initializer=torch.set_num_threads, initargs=(threads,))
    try:
        return list(pool.map(fit, parts))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # who interrupts does not wait for the fits under way
        torch.set_num_threads(before)  # what a thread sets for itself, threads to come begin with too


def _cpu_multiplies_bfloat16() -> bool:
    ask = getattr(torch.cpu, "get_capabilities", None)  # PyTorch before 2.11 does not say; it then stays at float32
    found: Mapping[str, NDArray[Any] | bool] = ask() if ask is not None else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
