"""Device memory: telling that a batch did not fit, in a way that whoever sizes batches can act on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import torch
from cer_fusion.backbones.errors import DeviceError

T = TypeVar("T")

_SHORT = re.compile(
    r"out of memory"  # CUDA, HIP, MPS; cudaErrorMemoryAllocation, which pinning memory raises too
    r"|cudaErrorMemoryAllocation|hipErrorOutOfMemory|OUT_OF_MEMORY"
    r"|CU(BLAS|DNN|SPARSE|SOLVER)_STATUS_(ALLOC_FAILED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)"
    r"|(CU(BLAS|FFT)|cublas|cufft)\w*ALLOC_FAILED"
    r"|(can't|cannot|could not|couldn't|unable to|failed to|not enough memory:.*) allocate.*\b(memory|bytes|buffer)"
    r"|failed to allocate|fail to allocate|allocation failed|bad allocation|bad_alloc|BFCArena"
    r"|not enough memory|insufficient memory|memory allocation (failed|failure)",
    re.IGNORECASE,
)
"""What torch, the libraries under it and onnxruntime write when memory is short; not all have a class for it."""


class DeviceMemoryError(DeviceError, MemoryError):
    """More pictures at once than the device's memory holds."""


def is_short_of_memory(error: BaseException) -> bool:
    """Tell whether an error, whoever raised it, says that memory did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, Exception) and bool(_SHORT.search(str(error)))


def or_does_not_fit(compute: Callable[[], T], *, pictures: int, name: str, device: str) -> T:
    """Compute, or free what the attempt left behind and say what did not fit.

    Raises
    ------
    DeviceMemoryError
        Instead of the error of torch, of the libraries under it or of onnxruntime that says so.
    """
    try:
        return compute()
    except Exception as error:  # a boundary: libraries say by any class and text that memory is short; others go on
        if not is_short_of_memory(error):
            raise
        lines = str(error).strip().splitlines()
        reason = lines[0][:300] if lines else type(error).__name__
    # outside the handler: there the error would keep the attempt's tensors alive
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise DeviceMemoryError(
        f"{pictures} pictures at once do not fit into the memory of {device!r}\n"
        f"  in backbone: {name}; the reason given: {reason}\n"
        f"  take a smaller batch size, or --batch-size auto, which halves it until it fits"
    )
