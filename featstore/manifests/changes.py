"""Manifests made from manifests: labels renamed, several joined, samples chosen by conditions.

A condition is what a user writes: `split=train`, `label!=Neutral`, `group=01,02`, `has-label`.
"""

from __future__ import annotations

import codecs
import fnmatch
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..errors import ManifestError, listing, nearest
from ..pictures import pictures
from ..rows import files
from .class_sets import ClassSet, custom, renaming
from .columns import Numbers, Samples, Texts
from .manifest import COLUMNS, Manifest
from .sidecar import joined_origin
from .splitting import keep_first
from .targets import without_empty_votes

Renaming = Mapping[str, str | None]
"""Label to label; None leaves its samples out."""
Classes = Literal["asked", "all", "present"]
_WORDS = tuple(f"{has}-{column}" for has in ("has", "no") for column in ("label", "split", "group"))
_READING = ("distinct", "readable")
"""Words for which every picture is read."""


def renamed(manifest: Manifest, target: ClassSet, table: Renaming | None = None) -> tuple[Manifest, dict[str, int]]:
    """Give every sample the label that its own has in `target`; samples without a label keep none.

    Parameters
    ----------
    manifest : Manifest
    target : ClassSet
    table : dict of label to label or None, optional
        What goes where. Default: labels that mean the same (`cer_fusion.featstore.manifests.class_sets.renaming`).

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
    goes_to = {**(renaming(manifest.classes, target) if table is None else table), "": ""}
    kept = manifest.keep([goes_to.get(s.label) is not None for s in manifest.samples])
    lost = Counter(s.label for s in manifest.samples if goes_to.get(s.label) is None)
    left_out = {f"{label}: no class of {target.name}": lost[label] for label in manifest.classes.labels if lost[label]}
    if not len(kept):
        raise ManifestError(
            f"no label of {manifest.where} is a class of {target.name!r}: {', '.join(lost)}\n"
            f"  expected some of: {', '.join(target.labels)}"
        )
    labels = kept.table.labels.renamed({word: goes_to[word] or "" for word in kept.table.labels.counts()})
    further = _votes_renamed(kept.table.further, goes_to)
    return replace(kept, samples=kept.table.but(labels=labels, further=further), classes=target), left_out


def _votes_renamed(further: Mapping[str, Numbers], goes_to: Renaming) -> dict[str, Numbers]:
    """The columns of numbers with votes under the names that labels have now; those of two that became one add up.

    Votes for a class that has no counterpart are left out, and a sample with no others has none.
    """
    found: dict[str, Numbers] = {}
    for title, numbers in further.items():
        new = f"votes.{goes_to.get(title[6:])}" if title.startswith("votes.") else title
        if new == "votes.None":
            continue
        if new in found:
            both = np.stack([found[new].values, numbers.values])
            numbers = Numbers(np.where(np.isnan(both).all(axis=0), np.nan, np.nan_to_num(both).sum(axis=0)))
        found[new] = numbers
    return without_empty_votes(found)


def read_renaming(path: Path, source: ClassSet) -> Renaming:
    """Read a JSON object of label to label, or to null for samples to leave out.

    Raises
    ------
    ManifestError, FormatError
        If it is no such object, names a label that `source` does not have, or says nothing about one that it has.
    """
    try:
        table = files.parse_object(path.read_bytes().removeprefix(codecs.BOM_UTF8), str(path))
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


def classes_of(table: Renaming, target: ClassSet | None) -> ClassSet:
    """The class set that a table leads to; `target` where it was named, and then every label must be one of it."""
    labels = list(dict.fromkeys(label for label in table.values() if label is not None))
    if target is None:
        return custom(labels)
    for label in labels:
        target.index(label)
    return target


@dataclass(frozen=True, kw_only=True)
class Union:
    """The manifest, and what each source gave to it."""

    manifest: Manifest
    left_out: dict[str, dict[str, int]]
    """Source to reason to number of samples."""
    counts: dict[str, dict[str, int]]
    """Source to class to number of samples."""


def union(manifests: Mapping[str, Manifest], classes: ClassSet) -> Union:
    """Join manifests in one class set; ids and groups begin with the source's name, `rafdb/train_00001`.

    Parameters
    ----------
    manifests : dict of name to Manifest
    classes : ClassSet
        Labels that mean the same are renamed, samples of others are left out and counted.

    Raises
    ------
    ManifestError
        If a manifest has no label of these classes.
    """
    done = {name: renamed(manifest, classes) for name, manifest in manifests.items()}
    return Union(
        manifest=merge({name: manifest for name, (manifest, _) in done.items()}, classes, prefix=True),
        left_out={name: left_out for name, (_, left_out) in done.items()},
        counts={name: manifest.counts() for name, (manifest, _) in done.items()},
    )


def merge(manifests: Mapping[str, Manifest], classes: ClassSet | None = None, *, prefix: bool = False) -> Manifest:
    """Join manifests of equal classes, in order; paths start at the folder that all their roots are below.

    Parameters
    ----------
    manifests : dict of name to Manifest
    classes : ClassSet, optional
        Default: those of the first; all must have the same labels in the same order.
    prefix : bool
        Begin ids and groups with the manifest's name. Without it, ids must differ, and groups of one name are one.

    Raises
    ------
    ManifestError
        For different classes, or an id that two manifests have.
    """
    names = list(manifests)
    chosen = classes or manifests[names[0]].classes
    for name in names:
        if manifests[name].classes.labels != chosen.labels:
            raise ManifestError(
                f"{names[0]} and {name} have different classes ({chosen.name}, {manifests[name].classes.name})\n"
                f"  rename their labels into one set with: cer-feat manifest unity … --map-to NAME"
            )
    twice = [i for i, count in Counter(i for m in manifests.values() for i in m.ids).items() if count > 1]
    if twice and not prefix:
        raise ManifestError(
            f"{len(twice):,} sample ids stand in more than one manifest: {listing(twice)}\n"
            f"  begin ids with their manifest's name with --prefix"
        )
    roots = {name: manifest.root.resolve() for name, manifest in manifests.items()}
    root = _common(list(roots.values()))
    parts: list[Samples] = []
    for name, manifest in manifests.items():
        below = roots[name].relative_to(root).as_posix()
        start = "" if below == "." else below + "/"
        begin = f"{name}/" if prefix else ""
        part = manifest.table
        if start:
            part = part.but(paths=Texts.of(start + path for path in part.paths))
        if begin:
            groups = part.groups.renamed({word: word and begin + word for word in part.groups.counts()})
            part = part.but(ids=Texts.of(begin + one for one in part.ids), groups=groups)
        parts.append(part)
    origin = joined_origin({name: manifest.origin for name, manifest in manifests.items()})
    return Manifest(samples=Samples.joined(parts), classes=chosen, root=root, origin=origin, where=" + ".join(names))


def keep_where(
    manifest: Manifest,
    conditions: Sequence[str],
    *,
    classes: Classes = "asked",
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """The samples that fulfil every condition, in order.

    A class that a condition on labels has removed is no class any more: it would count as 0 in macro F1 for ever. One
    that lost its samples to another condition (a small split of the challenge's seven) keeps its place in the order.

    Parameters
    ----------
    manifest : Manifest
    conditions : sequence of str
        `column=value`, `column=value,value`, `column!=value` for `sample_id`, `path`, `label`, `split` and `group`;
        values may be patterns with `*` and `?`, labels may be written as the class set's `match` takes them.
        `has-label`, `no-label` and likewise for `split` and `group`. `readable`: the picture can be read. `distinct`:
        the first sample of every picture, and readable. These two are looked at last.
    classes : {"asked", "all", "present"}
        Which classes stay declared: all but those that a condition on labels has removed, all, or those with samples.
    progress : callable, optional
        Called with 1 for each picture read.

    Raises
    ------
    ManifestError
        For a condition that cannot be understood, a value that no sample has, and if nothing is left.
    """
    kept = manifest
    for text in conditions:
        if text not in _READING:
            kept = kept.keep(_mask(kept, manifest, text))
    reading = [text for text in conditions if text in _READING]
    if reading and len(kept):
        digests, failed = pictures.digests(kept, progress=progress)
        if "distinct" in reading:
            kept = keep_first(kept, [*pictures.repeats(kept, digests)])
        if failed:
            kept = kept.keep([sample.sample_id not in failed for sample in kept.samples])
    if not len(kept):
        raise ManifestError(f"no sample of {manifest.where} fulfils: {' '.join(conditions)}")
    return _declaring(kept, manifest, conditions, classes)


class Condition(NamedTuple):
    """`column = one of values`, or `column != any of values`; values may hold `*` and `?`."""

    column: str
    values: tuple[str, ...]
    equal: bool


def _declaring(kept: Manifest, whole: Manifest, conditions: Sequence[str], classes: Classes) -> Manifest:
    """The samples kept, with the classes that stay."""
    if classes == "all":
        return kept
    left = kept.counts()
    gone = {label for label, count in left.items() if not count}
    if classes == "asked":
        words = (*_WORDS, *_READING)
        asked = [
            _mask(whole, whole, text) for text in conditions if text not in words and _parse(text).column == "label"
        ]
        passed = {sample.label for sample, *each in zip(whole.samples, *asked, strict=True) if all(each)}
        gone &= {sample.label for sample in whole.samples} - passed
    if not gone:
        return kept
    votes = {f"votes.{label}" for label in gone}
    further = without_empty_votes({title: one for title, one in kept.table.further.items() if title not in votes})
    labels = [label for label in left if label not in gone]
    return replace(kept, samples=kept.table.but(further=further), classes=custom(labels))


def _mask(kept: Manifest, whole: Manifest, text: str) -> list[bool]:
    if text in _WORDS:
        has, _, column = text.partition("-")
        return [bool(getattr(sample, column)) == (has == "has") for sample in kept.samples]
    condition = _parse(text)
    present = {getattr(sample, condition.column) for sample in whole.samples}
    wanted: set[str] = set()
    for value in condition.values:
        meant = whole.classes.match(value) if condition.column == "label" else None
        found = {meant} & present if meant is not None else set(fnmatch.filter(present, value))
        if not found:
            raise ManifestError(
                f"no sample of {whole.where} has {condition.column} {value!r}; {nearest(value, present - {''})}"
            )
        wanted |= found
    return [(getattr(sample, condition.column) in wanted) == condition.equal for sample in kept.samples]


def _parse(text: str) -> Condition:
    column, sign, rest = text.partition("!=") if "!=" in text else text.partition("=")
    values = tuple(value.strip() for value in rest.split(",") if value.strip())
    if not sign:
        raise ManifestError(
            f"no condition {text!r}; {nearest(text, [*_WORDS, *_READING])}\n"
            f"  or one such as split=train, label!=Neutral, group=01,02"
        )
    if column.strip() not in COLUMNS:
        raise ManifestError(f"condition {text!r}: no column {column!r}; {nearest(column, COLUMNS)}")
    if not values:
        raise ManifestError(
            f"condition {text!r} names no value; for empty cells say no-{column.strip()} or has-{column.strip()}"
        )
    return Condition(column.strip(), values, sign == "=")


def _common(roots: list[Path]) -> Path:
    """The folder that all roots are below; an archive is below its folder."""
    if len(set(roots)) == 1:
        return roots[0]
    try:
        common = Path(os.path.commonpath(roots))
    except ValueError:  # two drives on Windows
        raise ManifestError(f"pictures on different drives cannot stand in one manifest: {roots}") from None
    return common.parent if common.is_file() else common


def _example(source: ClassSet) -> str:
    first = source.labels[0] if source.labels else "Happy"
    return f'{{"{first}": "Happiness", …}}'
