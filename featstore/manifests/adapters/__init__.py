"""Datasets as people have them on disk, read into manifests: one file a layout, one line here.

`build(kind, root, **options)` is the front door; every adapter returns an `Adapted`: the manifest, what it left out and
why, which pictures are missing, and what it assumed, for the command to print. Nothing is left out silently.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from cer_fusion.featstore.errors import ManifestError, nearest
from cer_fusion.featstore.manifests.adapters.base import Adapted
from cer_fusion.featstore.manifests.class_sets import class_set
from cer_fusion.featstore.manifests.relabelling import relabelled


class Kind(NamedTuple):
    """A layout that can be read."""

    module: str
    reader: str
    layout: str
    """In a few words, for help."""
    maps_to: str | None = None
    """The class set that its labels are mapped to unless another is asked for."""


KINDS = {
    "affectnet": Kind("affectnet", "read_affectnet", "AffectNet: .npy annotations, CSV lists, or {train,val}/{0..7}/"),
    "affwild2": Kind("affwild2", "read_affwild2", "Aff-Wild2 EXPR: a text file a video, <video>/00001.jpg"),
    "csv": Kind("table", "read_csv", "a CSV file of your own; see --columns"),
    "fer2013": Kind("fer2013", "read_fer2013", "FER2013: fer2013.csv; writes the pictures into a zip file"),
    "ferplus": Kind("ferplus", "read_ferplus", "FER+: FER2013Train/label.csv …, or fer2013.csv and fer2013new.csv"),
    "folder": Kind("folder", "read_folder", "ROOT/<class>/ or ROOT/<split>/<class>/, also inside zip and tar"),
    "frames": Kind("frames", "read_frames", "C-EXPR-DB, ABAW: frames <video>/00001.jpg, no labels"),
    "parquet": Kind("table", "read_csv", "a Parquet file of your own; see --columns"),
    "raf-ce": Kind("rafce", "read_rafce", "RAF-CE: RAFCE_emolabel.txt, RAFCE_partition.txt"),
    "rafdb-basic": Kind("rafdb", "read_basic", "RAF-DB basic/: EmoLabel/list_patition_label.txt, Image/aligned/"),
    "rafdb-compound": Kind("rafdb", "read_compound", "RAF-DB compound/, likewise; mapped to abaw7", maps_to="abaw7"),
}

__all__ = ["KINDS", "Adapted", "Kind", "build"]


def build(kind: str, root: Path | str, *, map_to: str | None = None, **options: Any) -> Adapted:
    """Read the dataset of layout `kind` at `root`.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    root : Path
    map_to : str, optional
        A class set that the labels are mapped to by their meaning; samples of other classes are left out and counted.
        For a kind that maps by itself (`rafdb-compound`), `classes` says the same.
    **options
        As the kind's reader takes them.

    Raises
    ------
    ManifestError
        For an unknown kind, an option it does not take, a missing folder, or a file that is not as the layout says.
    """
    if kind not in KINDS:
        raise ManifestError(f"no dataset kind {kind!r}; {nearest(kind, KINDS)}")
    entry = KINDS[kind]
    if entry.maps_to is not None:
        map_to = map_to or options.pop("classes", None) or entry.maps_to
    adapter: Callable[..., Adapted] = getattr(import_module(f"{__name__}.{entry.module}"), entry.reader)
    taken = set(inspect.signature(adapter).parameters) - {"root"}
    for option in options:
        if option not in taken:
            raise ManifestError(f"kind {kind!r} takes no option {option!r}; {nearest(option, taken)}")
    if not Path(root).exists():
        raise ManifestError(f"no such folder or file: {root}\n  expected the {kind} dataset there")
    adapted = adapter(Path(root), **options)
    return adapted if map_to is None else _mapped(adapted, map_to)


def takes(kind: str, option: str) -> bool:
    """True if a known kind's reader has this option."""
    entry = KINDS.get(kind)
    if entry is None:
        return False
    return option in inspect.signature(getattr(import_module(f"{__name__}.{entry.module}"), entry.reader)).parameters


def _mapped(adapted: Adapted, map_to: str) -> Adapted:
    manifest, unmapped = relabelled(adapted.manifest, class_set(map_to))
    kept = set(manifest.ids)
    return replace(
        adapted,
        manifest=manifest,
        left_out={**adapted.left_out, **unmapped},
        missing=tuple(sample_id for sample_id in adapted.missing if sample_id in kept),
    )
