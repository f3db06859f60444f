"""What a run ran on: versions, platform, threads, device. No names of users, machines or folders."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LIBRARIES = ("cer-fusion", "numpy", "scipy", "scikit-learn", "torch", "xgboost", "safetensors", "h5py")
"""Those whose version can change a figure or a file."""


def environment(*, threads: Mapping[str, int], device: str) -> dict[str, Any]:
    """Describe the environment as plain JSON values.

    Parameters
    ----------
    threads : dict of library to number
        Threads that the fit computed with, as a head's ``fit_threads_`` says.
    device : str
        Where the head computed: ``cpu``, ``cuda:0``.
    """
    return {
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "system": platform.system(),
        "system_release": platform.release(),
        "machine": platform.machine(),
        "threads": dict(threads),
        "device": device,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
