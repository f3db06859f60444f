"""Conditions on samples, as a user writes them: `split=train`, `label!=Neutral`, `group=01,02`, `has-label`."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from cer_fusion.featstore.errors import ManifestError, nearest
from cer_fusion.featstore.manifests.class_sets import custom
from cer_fusion.featstore.manifests.manifest import COLUMNS, Manifest
from cer_fusion.featstore.manifests.splitting import keep_first
from cer_fusion.featstore.pictures import pictures

_WORDS = tuple(f"{has}-{column}" for has in ("has", "no") for column in ("label", "split", "group"))
_READING = ("distinct", "readable")
"""Words for which every picture is read."""
Classes = Literal["asked", "all", "present"]


class Condition(NamedTuple):
    """`column = one of values`, or `column != any of values`; values may hold `*` and `?`."""

    column: str
    values: tuple[str, ...]
    equal: bool


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
    return replace(kept, classes=custom([label for label in left if label not in gone]))


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
