"""Device memory: telling that a batch did not fit, in a way that whoever sizes batches can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from backbones.errors import DeviceError

T = TypeVar("T")


class DeviceMemoryError(DeviceError, MemoryError):
    """More pictures at once than the device's memory holds."""


def or_does_not_fit(compute: Callable[[], T], *, pictures: int, name: str, device: str) -> T:
    """Compute, or free what the attempt left behind and say what did not fit.

    Raises
    ------
    DeviceMemoryError
        Instead of torch's own error.
    """
    try:
        return compute()
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
    # outside the handler: there the error would keep the attempt's tensors alive
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise DeviceMemoryError(
        f"{pictures} pictures at once do not fit into the memory of {device!r}\n"
        f"  in backbone: {name}; torch says: {reason}\n"
        f"  take a smaller batch size, or --batch-size auto, which halves it until it fits"
    )
