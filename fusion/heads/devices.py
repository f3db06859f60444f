"""Where a head trains: the device, the type of its products, the threads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray

from fusion.errors import HeadConfigError
from fusion.heads.thread_counts import threads_of

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
    if precision == "auto":
        precision = "bfloat16" if device.type == "cpu" and _cpu_multiplies_bfloat16() else "float32"
        logger.info("multiplying in %s (precision='auto')", precision)
    if precision not in ("float32", "bfloat16"):
        raise HeadConfigError(f"precision must be 'auto', 'float32' or 'bfloat16', got {precision!r}")
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


def _cpu_multiplies_bfloat16() -> bool:
    ask = getattr(torch.cpu, "get_capabilities", None)  # PyTorch before 2.11 does not say; it then stays at float32
    found: Mapping[str, NDArray[Any] | bool] = ask() if ask is not None else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
