"""Class sets: ordered, named lists of labels, and the official ids of each dataset.

The tables are data (`class_sets.json`), not code: the sets, the ids that a dataset says are no class, and the
words that mean the same ("Happy", "Happiness"). Two sets are joined by the meaning of their labels, never by position:
RAF-DB's class 8 and ABAW's class 0 are both "Fearfully Surprised".
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ..errors import ClassSetError, nearest

CUSTOM = "custom"
"""The name of somebody's own class set."""
_WHOLE = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, kw_only=True)
class ClassSet:
    """An ordered, named list of classes; `y` is an index into `labels`."""

    name: str
    """A known name such as `abaw7`, or `custom`."""
    labels: tuple[str, ...]
    """Class names in order."""
    first_id: int = 0
    """What the dataset's own files call the first class (RAF-DB counts from 1)."""

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or not all(self.labels):
            raise ClassSetError(f"class names must be distinct and not empty, however: {list(self.labels)}")

    def index(self, label: str) -> int:
        """Position of a label; raises ClassSetError with the nearest known ones."""
        try:
            return self.labels.index(label)
        except ValueError:
            raise ClassSetError(
                f"label {label!r} is not in class set {self.name!r}; {nearest(label, self.labels)}"
            ) from None

    def from_id(self, number: int) -> str:
        """Label of a dataset's own id, e.g. 8 in RAF-DB compound is Fearfully Surprised."""
        position = number - self.first_id
        if not 0 <= position < len(self.labels):
            last = self.first_id + len(self.labels) - 1
            raise ClassSetError(f"ids of class set {self.name!r} run from {self.first_id} to {last}, however: {number}")
        return self.labels[position]

    def to_id(self, label: str) -> int:
        """The dataset's own id of a label."""
        return self.index(label) + self.first_id

    def match(self, text: str) -> str | None:
        """The label that a text means, letter case, blanks, `_`, `-` and other words for it aside; None if none does.

        `happy` is Happiness in `basic8`, `SadlyAngry` and `sadly_angry` are Sadly Angry in `abaw7`.
        """
        meant = _meaning(text)
        return next((label for label in self.labels if _meaning(label) == meant), None)

    def match_or_id(self, text: str) -> str | None:
        """As `match`; also the dataset's own number of a class, written in digits (somebody's own set has none)."""
        if text in self.labels:
            return text
        numbered = self.name != CUSTOM and text.isascii() and text.isdigit() and len(text) < 10
        if numbered and 0 <= int(text) - self.first_id < len(self.labels):
            return self.from_id(int(text))
        return self.match(text)


def class_set(name: str) -> ClassSet:
    """Look a class set up by name.

    Raises
    ------
    ClassSetError
        If there is none of that name; the message names the nearest ones.
    """
    table, aliases = _tables()["class_sets"], _tables()["aliases"]
    known = aliases.get(name, name)
    if known not in table:
        raise ClassSetError(f"no class set {name!r}; {nearest(name, [*table, *aliases])}")
    entry = table[known]
    return ClassSet(name=known, labels=tuple(entry["labels"]), first_id=entry["first_id"])


def class_set_names() -> tuple[str, ...]:
    """Names of all class sets that the package knows."""
    return tuple(_tables()["class_sets"])


def not_classes(name: str) -> dict[int, str]:
    """Ids that the dataset's files use for what is no class (AffectNet: 8 None, 9 Uncertain, 10 No-Face)."""
    entry = _tables()["class_sets"].get(name, {})
    return {int(number): meaning for number, meaning in entry.get("not_classes", {}).items()}


def custom(labels: Sequence[str]) -> ClassSet:
    """A class set of somebody's own, in the order given; a known set if it is exactly that."""
    for name in class_set_names():
        if class_set(name).labels == tuple(labels):
            return class_set(name)
    return ClassSet(name=CUSTOM, labels=tuple(labels))


def found_classes(labels: Iterable[str]) -> ClassSet:
    """The class set of labels that nobody has declared: whole numbers by their size, all others by the alphabet."""
    distinct = set(labels) - {""}
    if all(_WHOLE.fullmatch(label) and len(label) < 1000 for label in distinct):  # int() takes no more than 4300
        return custom(sorted(distinct, key=lambda label: (int(label), label)))
    return custom(sorted(distinct))


def declared_classes(text: str) -> ClassSet:
    """A class set as a user names it: one that the package knows, or the labels of one's own, `happy,sad,none`."""
    labels = [label.strip() for label in text.split(",")]
    return custom(labels) if len(labels) > 1 else class_set(text)


def renaming(source: ClassSet, target: ClassSet) -> dict[str, str | None]:
    """Where each label of `source` stands in `target`; None where it has no counterpart."""
    by_meaning = {_meaning(label): label for label in target.labels}
    return {label: by_meaning.get(_meaning(label)) for label in source.labels}


def _meaning(text: str) -> str:
    return _spellings().get(_plain(text), _plain(text))


@functools.cache
def _spellings() -> Mapping[str, str]:
    return {_plain(text): _plain(meaning) for text, meaning in _tables()["spellings"].items()}


def _plain(text: str) -> str:
    return text.replace("_", "").replace("-", "").replace(" ", "").casefold()


@functools.cache
def _tables() -> dict[str, Any]:
    text = resources.files("cer_fusion.featstore.manifests").joinpath("class_sets.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables
