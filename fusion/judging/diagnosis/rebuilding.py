"""Rebuilding: plain JSON values back into the dataclasses they came from, checked against their annotations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.files.sealed import known_keys

T = TypeVar("T")


def rebuilt(kind: type[T], plain: Any, where: str) -> T:
    """Return the dataclass `kind` made of what `dataclasses.asdict` and JSON made of it.

    Fields are dataclasses, texts, numbers, truth values, tuples and mappings of these, or None where it is allowed.

    Raises
    ------
    ReportError
        If a key is unknown or missing, or a value is of another kind; the message says where.
    """
    value: T = _value(kind, plain, where)
    return value


def _value(kind: Any, plain: Any, where: str) -> Any:
    if kind is Any:
        return plain
    if is_dataclass(kind):
        return _dataclass(kind, plain, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if plain is None and NoneType in inner else _value(inner[0], plain, where)
    if origin is tuple:
        items = _expected(list, plain, where)
        return tuple(_value(inner[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if origin is Mapping:
        return {key: _value(inner[1], item, f"{where}.{key}") for key, item in _expected(dict, plain, where).items()}
    if kind is float and type(plain) is int:
        return float(plain)
    return _expected(kind, plain, where)


def _dataclass(kind: Any, plain: Any, where: str) -> Any:
    found = _expected(dict, plain, where)
    known_keys(found, {field.name for field in fields(kind)}, where)
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in found.items()})


def _expected(kind: Any, plain: Any, where: str) -> Any:
    if type(plain) is not kind or (kind is float and not math.isfinite(plain)):
        raise ReportError(f"{where} must be of type {kind.__name__}, however: {str(plain)[:60]!r}")
    return plain
