"""Which arrays of a file are rows, and which are their names: the only ones there are, or those asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cer_fusion.featstore.errors import FormatError, RowsError, listing, nearest


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One array of a file, not yet read."""

    shape: tuple[int, ...]
    kind: str
    """`f` for floats, `t` for text, anything else as NumPy's dtype kinds."""
    dtype: str = ""
    """For people."""

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Entry:
        """The entry of a NumPy array."""
        return cls(shape=shape, kind="t" if dtype.kind in "US" else dtype.kind, dtype=str(dtype))


def choose_rows(entries: Mapping[str, Entry], asked: Sequence[str], where: str) -> list[str]:
    """Keys of the rows: those asked for with `--rows-key`, or else the only 2-D float array.

    Raises
    ------
    FormatError, RowsError
        If there is no such key, several candidates, or arrays of different lengths are asked for.
    """
    chosen = list(asked)
    if not chosen:
        chosen = [key for key, entry in entries.items() if len(entry.shape) == 2 and entry.kind == "f"]
        if not chosen:
            raise FormatError(f"{where} holds no 2-D float array; it holds {_held(entries)}")
        if len(chosen) > 1:
            raise FormatError(
                f"{where} holds {len(chosen)} 2-D float arrays, so which are the rows? it holds {_held(entries)}\n"
                f"  say it with --rows-key {chosen[0]}, or make each a block of one feature: "
                f"--rows-key {','.join(chosen)}"
            )
    for key in chosen:
        if key not in entries:
            raise FormatError(f"{where} holds no array {key!r}; {nearest(key, entries)}")
        if len(entries[key].shape) != 2 or entries[key].kind != "f":
            raise RowsError(
                f"rows must be a float array of shape (n, d), however: {key!r} of {where} is "
                f"{entries[key].dtype} {entries[key].shape}"
            )
    if len(set(chosen)) != len(chosen):
        raise FormatError(f"an array is asked for twice: {', '.join(chosen)}")
    if len({entries[key].shape[0] for key in chosen}) > 1:
        lengths = ", ".join(f"{key} has {entries[key].shape[0]}" for key in chosen)
        raise RowsError(f"the blocks of one feature must have equally many rows, however: {lengths}, in {where}")
    return chosen


def choose_names(entries: Mapping[str, Entry], asked: str | None, n: int, where: str) -> str:
    """Key of the names: the one asked for with `--names-key`, or else the only 1-D text array of length n.

    Raises
    ------
    FormatError
    """
    if asked is not None:
        if asked not in entries:
            raise FormatError(f"{where} holds no array {asked!r}; {nearest(asked, entries)}")
        found = entries[asked]
        if found.shape != (n,) or found.kind != "t":
            raise FormatError(f"names must be {n} texts, however: {asked!r} of {where} is {found.dtype} {found.shape}")
        return asked
    candidates = [key for key, entry in entries.items() if entry.shape == (n,) and entry.kind == "t"]
    if not candidates:
        raise FormatError(
            f"{where} holds no names for its {n} rows; it holds {_held(entries)}\n"
            f"  give them as a text file, one a line, with --names"
        )
    if len(candidates) > 1:
        raise FormatError(
            f"{where} holds {len(candidates)} text arrays of length {n}, so which are the names? "
            f"{', '.join(candidates)}\n  say it with --names-key {candidates[0]}"
        )
    return candidates[0]


def block_names(keys: Sequence[str]) -> dict[str, str]:
    """Key to block name: one array is the block `rows`; several are called by their keys, less what all begin with.

    `manet.local` and `manet.multi_scale` give `local` and `multi_scale`; `vit` and `manet.local` give `vit` and
    `manet_local`, since a block's name has no dot.

    Raises
    ------
    FormatError
        If two keys give one name.
    """
    if len(keys) == 1:
        return {keys[0]: "rows"}
    parts = [key.replace("/", ".").strip(".").split(".") for key in keys]
    while all(len(part) > 1 and part[0] == parts[0][0] for part in parts):
        parts = [part[1:] for part in parts]
    names = ["".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in "_".join(p)) for p in parts]
    names = [name.lstrip("_-") or "block" for name in names]
    if len(set(names)) != len(names):
        raise FormatError(f"the arrays {', '.join(keys)} would give blocks of one name: {', '.join(names)}")
    return dict(zip(keys, names, strict=True))


def _held(entries: Mapping[str, Entry]) -> str:
    return listing((f"{key} {entry.dtype} {entry.shape}" for key, entry in entries.items()), limit=8) or "nothing"
