"""What a run ran on: versions, platform, threads, device. No names of users, machines or folders."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LIBRARIES = ("cer-fusion", "numpy", "scipy", "scikit-learn", "torch", "xgboost", "safetensors", "h5py")
"""Those whose version can change a figure or a file."""


def environment(*, threads: Mapping[str, int], device: str) -> dict[str, Any]:
    """Describe the environment of a fit as plain JSON values.

    Parameters
    ----------
    threads : dict of library to number
        Threads that the fit computed with, as a head's ``fit_threads_`` says.
    device : str
        Where the head computed: ``cpu``, ``cuda:0``.
    """
    return {**platform_and_libraries(), "threads": dict(threads), "device": device}


def platform_and_libraries() -> dict[str, Any]:
    """Describe what is there whatever is fitted."""
    return {
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "system": platform.system(),
        "machine": platform.machine(),
    }


def device_of(head: Any) -> str:
    """Return where a fitted head computed: its own choice, that of the head or members inside it, else the CPU."""
    inside = [getattr(head, "head_", None), *getattr(head, "members_", {}).values()]
    chosen = [getattr(one, "device_", None) for one in (head, *inside)]
    return ", ".join(dict.fromkeys(str(device) for device in chosen if device)) or "cpu"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
