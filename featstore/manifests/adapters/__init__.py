"""Datasets as people have them on disk, read into manifests: one file a dataset, which is found by itself.

`build(kind, root, **options)` is the front door; every adapter returns an `Adapted`: the manifest, what it left out and
why, which pictures are missing, and what it assumed, for the command to print. Nothing is left out silently.
"""

from __future__ import annotations

import inspect
import pkgutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ....kit.plugins import Plugin, PluginError, plugins
from ...errors import ManifestError, nearest
from ..changes import renamed
from ..class_sets import class_set
from .base import KINDS, Adapted, Gathering, Kind, adapter
from .tree import Tree

__all__ = ["KINDS", "Adapted", "Gathering", "Kind", "Tree", "adapter", "build", "takes"]


def find() -> None:
    """Import every file of this folder: each registers the kinds that it reads."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def build(kind: str, root: Path | str, *, map_to: str | None = None, **options: Any) -> Adapted:
    """Read the dataset of layout `kind` at `root`.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    root : Path
    map_to : str, optional
        A class set into which the labels are renamed by their meaning; samples of other classes are left out and
        counted. For a kind that does so by itself (`rafdb-compound`), `classes` says the same.
    **options
        As the kind's reader takes them.

    Raises
    ------
    ManifestError
        For an unknown kind, an option it does not take, a missing folder, or a file that is not as the layout says.
    """
    if kind not in KINDS:
        plugged = plugins("manifests", KINDS)
        if kind not in plugged:
            raise ManifestError(f"no dataset kind {kind!r}; {nearest(kind, [*KINDS, *plugged])}")
        _take(plugged[kind])
    entry = KINDS[kind]
    if entry.renames_to is not None:
        map_to = map_to or options.pop("classes", None) or entry.renames_to
    taken = set(inspect.signature(entry.read).parameters) - {"root"}
    for option in options:
        if option not in taken:
            raise ManifestError(f"kind {kind!r} takes no option {option!r}; {nearest(option, taken)}")
    if not Path(root).exists():
        raise ManifestError(f"no such folder or file: {root}\n  expected the {kind} dataset there")
    adapted = entry.read(Path(root), **options)
    if entry.plugin is not None:
        origin = {**adapted.manifest.origin, "plugin": dict(entry.plugin)}
        adapted = replace(adapted, manifest=replace(adapted.manifest, origin=origin))
    return adapted if map_to is None else _renamed(adapted, map_to)


def _take(plugin: Plugin) -> None:
    """Have a plugin's reader stand beside ours: a function of the root, and of options by name."""
    read = plugin.load()
    if not callable(read) or "root" not in inspect.signature(read).parameters:
        raise PluginError(plugin.told("it is no function read(root, *, …) -> Adapted"))
    KINDS[plugin.name] = Kind(read, f"{plugin.distribution} {plugin.version}", None, plugin.origin)


def takes(kind: str, option: str) -> bool:
    """True if a known kind's reader has this option."""
    return kind in KINDS and option in inspect.signature(KINDS[kind].read).parameters


def _renamed(adapted: Adapted, map_to: str) -> Adapted:
    manifest, left_out = renamed(adapted.manifest, class_set(map_to))
    kept = set(manifest.ids)
    return replace(
        adapted,
        manifest=manifest,
        left_out={**adapted.left_out, **left_out},
        missing=tuple(sample_id for sample_id in adapted.missing if sample_id in kept),
    )


find()
