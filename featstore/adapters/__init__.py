"""Datasets as people have them on disk, read into manifests: one file a layout, one line here.

`build(kind, root, **options)` is the front door; every adapter returns an `Adapted`: the manifest, and what it left out
and why, for the command to print. Nothing is left out silently.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from featstore.adapters.base import Adapted
from featstore.errors import ManifestError, nearest

KINDS = {
    "csv": ("featstore.adapters.table", "read_csv"),
    "ferplus": ("featstore.adapters.ferplus", "read_ferplus"),
    "folder": ("featstore.adapters.folder", "read_folder"),
    "rafdb-basic": ("featstore.adapters.rafdb", "read_basic"),
    "rafdb-compound": ("featstore.adapters.rafdb", "read_compound"),
}

__all__ = ["KINDS", "Adapted", "build"]


def build(kind: str, root: Path | str, **options: Any) -> Adapted:
    """Read the dataset of layout `kind` at `root`.

    Raises
    ------
    ManifestError
        For an unknown kind, an option it does not take, a missing folder, or a file that is not as the layout says.
    """
    if kind not in KINDS:
        raise ManifestError(f"no dataset kind {kind!r}; {nearest(kind, KINDS)}")
    module, name = KINDS[kind]
    adapter: Callable[..., Adapted] = getattr(import_module(module), name)
    taken = set(inspect.signature(adapter).parameters) - {"root"}
    for option in options:
        if option not in taken:
            raise ManifestError(f"kind {kind!r} takes no option {option!r}; {nearest(option, taken)}")
    if not Path(root).exists():
        raise ManifestError(f"no such folder or file: {root}\n  expected the {kind} dataset there")
    return adapter(Path(root), **options)
