"""The labels of a manifest in another class set: by what they mean, or by a table of one's own."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cer_fusion.featstore.errors import ManifestError, nearest
from cer_fusion.featstore.manifests.class_sets import ClassSet, custom, mapping
from cer_fusion.featstore.manifests.manifest import Manifest
from cer_fusion.featstore.rows import document

Table = Mapping[str, str | None]
"""Label to label; None leaves its samples out."""


def relabelled(manifest: Manifest, target: ClassSet, table: Table | None = None) -> tuple[Manifest, dict[str, int]]:
    """Give every sample the label that its own has in `target`; samples without a label keep none.

    Parameters
    ----------
    manifest : Manifest
    target : ClassSet
    table : dict of label to label or None, optional
        What goes where. Default: labels that mean the same (`cer_fusion.featstore.manifests.class_sets.mapping`).

    Returns
    -------
    Manifest
        In the classes of `target`, without the samples whose label has no counterpart there.
    dict
        Why samples were left out, to how many.

    Raises
    ------
    ManifestError
        If nothing is left.
    """
    goes_to = dict(mapping(manifest.classes, target) if table is None else table)
    lost = Counter(s.label for s in manifest.samples if s.label and goes_to.get(s.label) is None)
    kept = manifest.keep([not s.label or goes_to.get(s.label) is not None for s in manifest.samples])
    left_out = {f"{label}: no class of {target.name}": lost[label] for label in manifest.classes.labels if lost[label]}
    if not len(kept):
        raise ManifestError(
            f"no label of {manifest.where} is a class of {target.name!r}: {', '.join(lost)}\n"
            f"  expected some of: {', '.join(target.labels)}"
        )
    samples = tuple(s._replace(label=(goes_to[s.label] or "") if s.label else "") for s in kept.samples)
    return replace(kept, samples=samples, classes=target), left_out


def read_table(path: Path, source: ClassSet) -> Table:
    """Read a JSON object of label to label, or to null for samples to leave out.

    Raises
    ------
    ManifestError, FormatError
        If it is no such object, names a label that `source` does not have, or says nothing about one that it has.
    """
    try:
        table = document.parse(path.read_bytes().removeprefix(codecs.BOM_UTF8), str(path))
    except FileNotFoundError:
        raise ManifestError(f"no such file: {path}\n  expected a JSON object such as {_example(source)}") from None
    for label, other in table.items():
        if label not in source.labels:
            raise ManifestError(f"{path}: {label!r} is no label of {source.name!r}; {nearest(label, source.labels)}")
        if other is not None and (not isinstance(other, str) or not other.strip()):
            raise ManifestError(f"{path}: {label!r} must go to a label or to null, however: {other!r}")
    silent = [label for label in source.labels if label not in table]
    if silent:
        raise ManifestError(
            f"{path} says nothing about {', '.join(silent)}\n  give each a label, or null to leave its samples out"
        )
    return table


def _targets(table: Table) -> Sequence[str]:
    """The labels that a table leads to, once each, in its order."""
    return list(dict.fromkeys(label for label in table.values() if label is not None))


def target_of(table: Table, target: ClassSet | None) -> ClassSet:
    """The class set that a table leads to; `target` where it was named, and then every label must be one of it."""
    if target is None:
        return custom(_targets(table))
    for label in _targets(table):
        target.index(label)
    return target


def _example(source: ClassSet) -> str:
    first = source.labels[0] if source.labels else "Happy"
    return f'{{"{first}": "Happiness", …}}'
