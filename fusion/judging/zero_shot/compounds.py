"""Compound expressions and the two basic ones that each is made of. The table is data (`compounds.json`)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from cer_fusion.fusion.errors import ExpressionError, nearest


def components(compound: str) -> tuple[str, str]:
    """Return the basic expressions of a compound one: ``Fearfully_Surprised`` -> ``("fear", "surprise")``.

    Upper and lower case, blanks, hyphens and underscores make no difference, so that ABAW's and RAF-CE's spellings
    are the same name.

    Raises
    ------
    ExpressionError
        If it is none of the fourteen of RAF-CE (REFERENCE.md §4); the message names the nearest ones.
    """
    table: Mapping[str, Sequence[str]] = _tables()["compounds"]
    known = {_letters(name): (parts[0], parts[1]) for name, parts in table.items()}
    if _letters(compound) not in known:
        raise ExpressionError(f"there is no compound expression {compound!r}; {nearest(compound, table)}")
    return known[_letters(compound)]


def emotion(name: str) -> str | None:
    """Return the basic expression that a class name means (``Happy`` -> ``happiness``), None if it means none."""
    return _emotions().get(_letters(name))


def columns(basic_classes: Sequence[str]) -> dict[str, int]:
    """Return which column holds each basic expression; other classes (`Other`, `unknown`) are left out.

    Raises
    ------
    ExpressionError
        If two classes mean the same expression.
    """
    found: dict[str, int] = {}
    for column, name in enumerate(basic_classes):
        meant = emotion(str(name))
        if meant in found:
            raise ExpressionError(
                f"classes {basic_classes[found[meant]]!r} and {name!r} both mean {meant}: one column each, please"
            )
        if meant is not None:
            found[meant] = column
    return found


def compound_names() -> tuple[str, ...]:
    """Return the names of all known compounds, in RAF-CE's order."""
    return tuple(_tables()["compounds"])


def _letters(name: str) -> str:
    return "".join(one for one in name.casefold() if one not in " _-")


@functools.cache
def _emotions() -> dict[str, str]:
    return {_letters(word): meant for meant, words in _tables()["emotions"].items() for word in words}


@functools.cache
def _tables() -> dict[str, Any]:
    text = resources.files("cer_fusion.fusion.judging.zero_shot").joinpath("compounds.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables
