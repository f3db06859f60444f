"""Ranges of settings, checked alike for every head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Integral, Real
from typing import Any

import numpy as np
from cer_fusion.fusion.errors import HeadConfigError

_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "float": (Real, "a number"),
    "int": (Integral, "a whole number"),
    "bool": ((bool, np.bool_), "true or false"),
    "str": (str, "a name"),
    "Mapping": (Mapping, 'settings, {"name": value}'),
}


def check_kinds(head: Any) -> None:
    """Refuse settings that are of another kind than the head declares: a word for a number, a number for yes or no.

    Settings of kinds that are the head's own, such as `batch_size: int | Literal["auto"]`, it checks itself.

    Raises
    ------
    HeadConfigError
        Naming the setting, the value and the kind.
    """
    for name, parameter in signature(type(head)).parameters.items():
        kinds = [kind.partition("[")[0] for kind in str(parameter.annotation).split(" | ")]
        if name == "blocks" or not set(kinds) <= {*_KINDS, "None"}:
            continue
        value = getattr(head, name)
        is_flag = isinstance(value, bool) and "bool" not in kinds
        fits = value is None if "None" in kinds else False
        fits = fits or any(isinstance(value, _KINDS[kind][0]) for kind in kinds if kind != "None")
        if not fits or is_flag:
            expected = " or ".join(_KINDS[kind][1] for kind in kinds if kind != "None")
            raise HeadConfigError(f"{name} must be {expected}, got {value!r}")


def whole(name: str, value: object, *, most: int | None = None) -> None:
    """Refuse a setting that is no whole number of at least 1, and of at most `most`.

    Raises
    ------
    HeadConfigError
        Naming the setting, the value and the range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise HeadConfigError(f"{name} must be a whole number of at least 1, got {value!r}")
    if most is not None and value > most:
        raise HeadConfigError(f"{name} must be a whole number from 1 to {most}, got {value!r}")


def one_of(name: str, value: object, words: Sequence[str]) -> None:
    """Refuse a setting that is none of a few words."""
    if value not in words:
        *others, last = map(repr, words)
        raise HeadConfigError(f"{name} must be {', '.join(others)} or {last}, got {value!r}")


def share(name: str, value: float) -> None:
    """Refuse a setting outside [0, 1)."""
    if not 0 <= value < 1:
        raise HeadConfigError(f"{name} must lie in [0, 1), got {value!r}")


def not_negative(name: str, value: float) -> None:
    """Refuse a setting that is negative, infinite or NaN."""
    if not 0 <= value < float("inf"):
        raise HeadConfigError(f"{name} must be finite and not negative, got {value!r}")
