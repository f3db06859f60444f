"""Dataclasses as plain JSON values, and back, checked against their annotations.

A field may be a dataclass, a text, a number, a truth value, None, a `Path`, a `Literal`, `Any` (JSON values), an array
(``NDArray[np.float64]``), or tuples, lists, mappings by text, and unions of these.
"""

from __future__ import annotations

import functools
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from .documents import known_keys
from .errors import DocumentError

NOT_KEPT: Final[Mapping[str, bool]] = MappingProxyType({"kept": False})
"""``field(default=None, metadata=NOT_KEPT)``: not written, and has its default when read back."""
NOT_FINITE: Final[Mapping[str, bool]] = MappingProxyType({"finite": False})
"""``field(metadata=NOT_FINITE)``: its floats may be NaN or infinite, which JSON has as the texts below."""

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_ARRAY_LEAVES: dict[str, set[type]] = {"f": {float, int}, "i": {int}, "u": {int}, "b": {bool}}

T = TypeVar("T")


def to_plain(value: Any, *, where: str = "", error: type[Exception] = DocumentError) -> Any:
    """Return a value as JSON has it: dataclasses and mappings as dicts, tuples and arrays as lists.

    Raises
    ------
    error
        If JSON cannot say something, a key is no text, or a float is not finite and not declared so.
    """
    return _to_plain(value, where or type(value).__name__, error, True)


def from_plain(
    kind: type[T],
    plain: Any,
    where: str = "",
    *,
    error: type[Exception] = DocumentError,
    defaults: bool = False,
    instead: Mapping[str, Any] | None = None,
) -> T:
    """Return an object of `kind`, a dataclass for the most part, from what `to_plain` and JSON made of it.

    Parameters
    ----------
    kind : type
    plain : JSON value
    where : str
        What messages call the value; the class name if left out.
    error : type
        What is raised.
    defaults : bool
        Keys may be missing whose fields have a default.
    instead : dict of value by field, optional
        What some fields of the dataclass `kind` are to be, whatever stands there: those that need more than their
        annotation to be read.

    Raises
    ------
    error
        If a key is unknown or missing, a value is of another kind, or `__post_init__` refuses the values; the message
        says where. An error of that type raised there keeps its class and message.
    """
    where = where or getattr(kind, "__name__", str(kind))
    reader = _Reader(error, defaults)
    value: T = (
        reader.read_dataclass(kind, plain, where, True, instead) if instead else reader.value(kind, plain, where, True)
    )
    return value


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested objects, to tell where two differ: ``{"recipe": {"lr": 1}}`` -> ``{"recipe.lr": 1}``."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _to_plain(value: Any, where: str, error: type[Exception], finite: bool) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        if finite:
            raise error(f"{where} must be finite, however: {value}")
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if is_dataclass(value) and not isinstance(value, type):
        return {
            one.name: _to_plain(getattr(value, one.name), f"{where}.{one.name}", error, _is_finite(one, finite))
            for one in _kept(type(value))
        }
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise error(f"{where} must have texts as keys, however: {odd[0]!r}")
        return {key: _to_plain(item, f"{where}.{key}", error, finite) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_plain(item, f"{where}[{i}]", error, finite) for i, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # an array or a scalar of numpy
        if value.dtype.kind not in _ARRAY_LEAVES:
            raise error(f"{where} must be an array of numbers or truth values, however: {value.dtype}")
        if value.dtype.kind != "f" or bool((abs(value) < math.inf).all()):
            return value.tolist()
        return _to_plain(value.tolist(), where, error, finite)
    raise error(f"{where} cannot be kept as JSON: {type(value).__name__}")


class _Reader:
    """Reads one value: which error it raises, and whether fields may be missing."""

    def __init__(self, error: type[Exception], defaults: bool) -> None:
        self.error, self.defaults = error, defaults

    def value(self, kind: Any, plain: Any, where: str, finite: bool) -> Any:
        if isinstance(kind, NewType):
            kind = kind.__supertype__
        if kind is Any:
            return plain
        if isinstance(kind, type) and is_dataclass(kind):
            return self.read_dataclass(kind, plain, where, finite)
        if hasattr(kind, "__value__"):  # an alias of a `type` statement, as newer NumPy's NDArray is
            kind = kind.__value__[get_args(kind)] if get_args(kind) else kind.__value__
        origin, inner = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self.value(inner[0], plain, where, finite)
        if origin in (Union, UnionType):
            return self.read_union(inner, plain, where, finite)
        if origin is Literal:
            if not any(type(plain) is type(one) and plain == one for one in inner):
                raise self.wrong(f"one of {', '.join(map(repr, inner))}", plain, where)
            return plain
        if origin is not None and origin.__name__ == "ndarray":
            return self.read_array(get_args(inner[1])[0], plain, where, finite)
        origin = origin or kind
        if origin is tuple:
            return self.read_tuple(inner, plain, where, finite)
        if origin in (list, Sequence):
            items = self.exact(list, plain, where)
            return [self.value(inner[0] if inner else Any, one, f"{where}[{i}]", finite) for i, one in enumerate(items)]
        if origin in (dict, Mapping):
            return self.read_mapping(inner, plain, where, finite)
        if kind is float:
            return self.read_float(plain, where, finite)
        if kind is None or kind is NoneType:
            return self.exact(NoneType, plain, where)
        if kind is Path:
            return Path(self.exact(str, plain, where))
        if kind in (str, int, bool):
            return self.exact(kind, plain, where)
        raise TypeError(f"{where} is annotated as {kind}, which has no JSON form")

    def read_dataclass(
        self, kind: Any, plain: Any, where: str, finite: bool, instead: Mapping[str, Any] = MappingProxyType({})
    ) -> Any:
        found, kept = self.exact(dict, plain, where), _kept(kind)
        optional = {one.name for one in kept if self.defaults and _has_default(one)}
        known_keys(found, {one.name for one in kept} - optional, where, optional=optional, error=self.error)
        hints = _hints(kind)
        values = {
            one.name: instead[one.name]
            if one.name in instead
            else self.value(hints[one.name], found[one.name], f"{where}.{one.name}", _is_finite(one, finite))
            for one in kept
            if one.name in found
        }
        try:
            return kind(**values)
        except self.error as fault:
            raise type(fault)(f"{fault}\n  in: {where}") from fault
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as fault:
            said = fault.args[0] if isinstance(fault, KeyError) and fault.args else fault
            raise self.error(f"{where} holds values that do not go together: {said}") from fault

    def read_union(self, kinds: tuple[Any, ...], plain: Any, where: str, finite: bool) -> Any:
        if plain is None and NoneType in kinds:
            return None
        others = [one for one in kinds if one is not NoneType]
        if type(plain) in others:
            return self.value(type(plain), plain, where, finite)
        for one in others[:-1]:
            try:
                return self.value(one, plain, where, finite)
            except self.error:
                continue
        return self.value(others[-1], plain, where, finite)

    def read_tuple(self, inner: tuple[Any, ...], plain: Any, where: str, finite: bool) -> tuple[Any, ...]:
        items = self.exact(list, plain, where)
        if not inner or inner[-1] is Ellipsis:
            inner = (inner[0] if inner else Any,) * len(items)
        if len(items) != len(inner):
            raise self.error(f"{where} must hold {len(inner)} values, however: {len(items)}")
        return tuple(self.value(inner[i], item, f"{where}[{i}]", finite) for i, item in enumerate(items))

    def read_mapping(self, inner: tuple[Any, ...], plain: Any, where: str, finite: bool) -> dict[str, Any]:
        key, item = inner or (str, Any)
        found = self.exact(dict, plain, where)
        return {
            self.value(key, k, where, finite): self.value(item, v, f"{where}.{k}", finite) for k, v in found.items()
        }

    def read_float(self, plain: Any, where: str, finite: bool) -> float:
        if not finite and isinstance(plain, str) and plain in _WORDS:
            return _WORDS[plain]
        try:
            number = float(plain) if type(plain) in (float, int) else math.nan
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) and (finite or type(plain) is not float):
            raise self.wrong("a finite number" if finite else "a number", plain, where)
        return number

    def read_array(self, scalar: Any, plain: Any, where: str, finite: bool) -> Any:
        """Nested lists as an array of the annotated dtype; numbers that it cannot hold are refused."""
        import numpy as np

        dtype = np.dtype(scalar)
        allowed = _ARRAY_LEAVES[dtype.kind] | (set() if finite or dtype.kind != "f" else {str})
        level = [plain]
        while (types := set(map(type, level))) == {list}:
            level = list(chain.from_iterable(level))
        if not types <= allowed:
            raise self.wrong(f"an array of {dtype}", plain, where)
        try:
            if str in types:
                plain = _with_words(plain)
            found: Any = np.array(plain, {"f": np.float64, "i": np.int64, "u": np.uint64, "b": np.bool_}[dtype.kind])
            with np.errstate(over="ignore"):
                array = found.astype(dtype)
        except (ValueError, OverflowError, KeyError):  # ragged, too large, or another word
            raise self.wrong(f"an array of {dtype}", plain, where) from None
        same = np.isfinite(array) | ~np.isfinite(found) if dtype.kind == "f" else array == found
        if not same.all() or (finite and dtype.kind == "f" and not np.isfinite(found).all()):
            raise self.wrong(f"an array of finite {dtype}", plain, where)
        return array

    def exact(self, kind: type, plain: Any, where: str) -> Any:
        if type(plain) is not kind:
            raise self.wrong(f"of type {'None' if kind is NoneType else kind.__name__}", plain, where)
        return plain

    def wrong(self, expected: str, plain: Any, where: str) -> Exception:
        return self.error(f"{where} must be {expected}, however: {reprlib.repr(plain)[:80]}")


def _with_words(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_with_words(one) for one in plain]
    return _WORDS[plain] if isinstance(plain, str) else plain


def _kept(kind: Any) -> list[Field[Any]]:
    return [one for one in fields(kind) if one.init and one.metadata.get("kept", True)]


def _is_finite(one: Field[Any], finite: bool) -> bool:
    return finite and bool(one.metadata.get("finite", True))


def _has_default(one: Field[Any]) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


@functools.cache  # a report has hundreds of intervals
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
