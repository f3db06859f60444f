"""Conditions on samples, as a user writes them: `split=train`, `label!=Neutral`, `group=01,02`, `has-label`."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import NamedTuple

from featstore import pictures
from featstore.errors import ManifestError, nearest
from featstore.manifest import COLUMNS, Manifest
from featstore.splitting import keep_first

_WORDS = tuple(f"{has}-{column}" for has in ("has", "no") for column in ("label", "split", "group"))
_READING = ("distinct", "readable")
"""Words for which every picture is read."""


class Condition(NamedTuple):
    """`column = one of values`, or `column != any of values`; values may hold `*` and `?`."""

    column: str
    values: tuple[str, ...]
    equal: bool


def keep_where(
    manifest: Manifest, conditions: Sequence[str], *, progress: Callable[[int], None] | None = None
) -> Manifest:
    """The samples that fulfil every condition, in order.

    Parameters
    ----------
    manifest : Manifest
    conditions : sequence of str
        `column=value`, `column=value,value`, `column!=value` for `sample_id`, `path`, `label`, `split` and `group`;
        values may be patterns with `*` and `?`, labels may be written as the class set's `match` takes them.
        `has-label`, `no-label` and likewise for `split` and `group`. `readable`: the picture can be read. `distinct`:
        the first sample of every picture, and readable. These two are looked at last.
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
    return kept


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
