"""Names: features and datasets get another one, or go.

Either is one rename of one folder, so that a kill leaves the old state or the new one. What goes is no part of the
store from then on; its bytes stay for readers that have them open, until the garbage is taken out.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from ..errors import FeatstoreError
from ..rows import files
from ..rows.feature import Feature, valid_name
from ..store import Store


@dataclass(frozen=True, kw_only=True)
class Named:
    """A dataset, or one feature of it."""

    dataset: str
    feature: Feature | None = None
    """None for the whole dataset."""
    folder: Path
    """Where it lies."""

    @property
    def label(self) -> str:
        """`faces/manet@3f9c1a2b77d0`, or `faces/`."""
        return f"{self.dataset}/{'' if self.feature is None else self.feature.label}"


def named(store: Store, text: str, dataset: str | None = None) -> Named:
    """What a name stands for: `manet`, `manet@3f9c`, `faces/manet`, or `faces/` for all of a dataset.

    Parameters
    ----------
    store : Store
    text : str
    dataset : str, optional
        Of a feature that is named without one; may be left out where the store has one.

    Raises
    ------
    UnknownDatasetError, UnknownFeatureError, AmbiguousFeatureError
    FeatstoreError
        If the text names a dataset and `dataset` another one.
    """
    before, slash, feature = text.rpartition("/")
    if slash and dataset not in (None, before):
        raise FeatstoreError(f"{text!r} is of dataset {before!r}, and {dataset!r} is named too: leave one of them out")
    name = store.dataset(before if slash else dataset)
    if not feature:
        return Named(dataset=name, folder=store.path / name)
    found = store.feature(feature, name)
    return Named(dataset=name, feature=found, folder=found.folder)


def put_away(one: Named) -> Path:
    """Take a feature, or a whole dataset, out of the store; `find_garbage` finds it where it is, an hour later.

    Returns
    -------
    Path
        Where its bytes are until then.

    Raises
    ------
    CommitError
        If the file system refuses; nothing has changed then.
    """
    aside = one.folder.with_name(f"{files.REMOVED}{secrets.token_hex(8)}")
    files.rename_folder(one.folder, aside, stamp=True)
    return aside


def rename(store: Store, one: Named, name: str) -> Named:
    """Give a feature, or a dataset, another name; rows, fingerprint and manifest stay as they are.

    Raises
    ------
    FeatstoreError
        If the name is none, or is taken.
    CommitError
        If the file system refuses; nothing has changed then.
    """
    if not valid_name(name):
        raise FeatstoreError(
            f"{name!r} is no name: letters, digits, '_' or '-', and a letter or digit first"
            + ("; a fingerprint stays as it is" if "@" in name else "")
        )
    last = name if one.feature is None else f"{name}@{one.folder.name.rpartition('@')[2]}"
    folder = one.folder.with_name(last)
    if folder.exists():
        raise FeatstoreError(f"{folder} is there already, and keeps its name: choose another")
    if one.feature is None:
        with files.alone(one.folder):  # a manifest that is being written there is written first
            files.rename_folder(one.folder, folder)
        return named(store, f"{name}/")
    files.rename_folder(one.folder, folder)
    return named(store, f"{one.dataset}/{last}")
