"""JSON documents that know their format, their version and their own digest; and dataclasses as JSON, checked."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cer_fusion.kit.errors import DocumentError, NewerFormatError
from cer_fusion.kit.files import write_whole

if TYPE_CHECKING:
    import numpy as np

MOST_MEMORY = 320 * 2**20
"""What a document may take when read, in bytes: some four million probabilities."""

T = TypeVar("T")


def seal(content: Mapping[str, Any], *, kind: str, version: int) -> str:
    """Return JSON text with ``format``, ``format_version`` and ``digest`` (sha256 of the rest, keys sorted)."""
    body = {"format": kind, "format_version": version, **content}
    return json.dumps({**body, "digest": digest_of(body)}, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def seal_digest(content: Mapping[str, Any], *, kind: str, version: int) -> str:
    """Return the digest that `seal` gives this content."""
    return digest_of({"format": kind, "format_version": version, **content})


def unseal(text: str | bytes, *, kind: str, version: int, error: type[Exception] = DocumentError) -> dict[str, Any]:
    """Return the content of sealed JSON text.

    Raises
    ------
    error
        If it is no JSON, of another format, of another version, or changed since it was written.
    """
    body = parse(text.encode() if isinstance(text, str) else text, error=error, what=f"a {kind}")
    if body.get("format") != kind:
        raise error(f"expected a file of format {kind!r}, however: {body.get('format')!r}")
    check_version(body.get("format_version"), kind=kind, version=version, error=error)
    stated = body.pop("digest", None)
    if stated != digest_of(body):
        raise error(f"the file is not as it was written: its digest is {digest_of(body)[:12]}…, it states {stated!r}")
    return {key: value for key, value in body.items() if key not in ("format", "format_version")}


def check_version(found: object, *, kind: str, version: int, error: type[Exception] = DocumentError) -> None:
    """Refuse every format version but one: a newer one needs a newer program, an older one is made again.

    Raises
    ------
    error
        Of a newer version `NewerFormatError`, unless the caller has an error of its own.
    """
    if type(found) is int and found == version:
        return
    if type(found) is int and found > version:
        newer = NewerFormatError if error is DocumentError else error
        raise newer(
            f"this program reads {kind} version {version}, the file is version {found}\n"
            "  a newer cer-fusion wrote it: upgrade with: pip install --upgrade cer-fusion"
        )
    raise error(
        f"this program reads {kind} version {version}, the file is version {found!r}\n"
        "  it was written before that format: make it again"
    )


def write_sealed(
    path: Path,
    content: Mapping[str, Any],
    *,
    kind: str,
    version: int,
    overwrite: bool = True,
    error: type[Exception] = DocumentError,
) -> Path:
    """Write sealed JSON, whole or not at all; refuses what could not be read back, and as `write_whole`."""
    data = seal(content, kind=kind, version=version).encode()
    if _memory_of(data) > MOST_MEMORY:
        raise error(
            f"{path} would be larger than this program reads back: {len(data):,} bytes of JSON\n"
            f"  keep fewer columns or test rows in one {kind}"
        )
    return write_whole(path, data, overwrite=overwrite)


def read_sealed(path: Path, *, kind: str, version: int, error: type[Exception] = DocumentError) -> dict[str, Any]:
    """Read sealed JSON; messages name the file."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
            raise error(f"this is not a file\n  in file: {path}")
        if path.stat().st_size > MOST_MEMORY:
            raise error(f"this is larger than {MOST_MEMORY // 2**20} MiB: no {kind} is\n  in file: {path}")
        data = path.read_bytes()
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    try:
        return unseal(data, kind=kind, version=version, error=error)
    except (error, NewerFormatError) as problem:
        raise type(problem)(f"{problem}\n  in file: {path}") from None


def parse(data: bytes, *, error: type[Exception] = DocumentError, what: str = "one of ours") -> dict[str, Any]:
    """Parse an untrusted JSON object in UTF-8.

    Raises
    ------
    error
        For duplicate keys, NaN and infinite numbers, halves of characters, runaway nesting and size, and what is no
        object.
    """
    if _memory_of(data) > MOST_MEMORY:
        raise error(f"this JSON would take more than {MOST_MEMORY // 2**20} MiB of memory: it is not {what}")
    try:
        body = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
        if b"\\u" in data:  # half of a character pair can be escaped, and then nothing can write it
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as problem:
        raise error(f"this is no readable JSON file: {problem or type(problem).__name__}") from None
    if not isinstance(body, dict):
        raise error(f"this is no readable JSON file: expected an object, however: {type(body).__name__}")
    return body


def digest_of(body: Mapping[str, Any]) -> str:
    """Return the sha256 of a JSON value in one spelling: keys sorted, no spaces, ASCII, no NaN."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def to_plain(value: Any) -> Any:
    """Return a value as JSON has it: dataclasses and mappings as objects, arrays and tuples as lists.

    Fields of a dataclass with ``metadata={"plain": False}`` are left out; they follow from the others.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_plain(getattr(value, one.name)) for one in _kept(type(value))}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy
        return value.tolist()
    return value


def from_plain(
    kind: type[T],
    plain: Any,
    where: str,
    *,
    error: type[Exception] = DocumentError,
    instead: Mapping[str, Any] | None = None,
) -> T:
    """Return the dataclass `kind` made of what `to_plain` and JSON made of it, checked against its annotations.

    Fields are dataclasses, texts, numbers, truth values, literals, paths, arrays (``NDArray[np.float64]`` and the
    like), tuples, lists and mappings of these, or None where it is allowed. Numbers are finite.

    Parameters
    ----------
    kind : type
        A dataclass.
    plain : JSON value
    where : str
        What is read, for messages: ``the report``.
    error : type of exception
    instead : dict of value by field, optional
        What some of its fields are to be, whatever stands there: those that need more than their annotation.

    Raises
    ------
    error
        If a key is unknown or missing, a value is of another kind, or the dataclass itself refuses it; the message says
        where.
    """
    value: T = _dataclass(kind, plain, where, error, instead or {})
    return value


def known_keys(
    found: Mapping[str, Any], expected: set[str], where: str, *, error: type[Exception] = DocumentError
) -> None:
    """Refuse a mapping whose keys are not exactly the expected ones."""
    unknown, missing = sorted(set(found) - expected), sorted(expected - set(found))
    if unknown or missing:
        raise error(
            f"{where} has unknown keys {', '.join(unknown) or 'none'} and lacks {', '.join(missing) or 'none'}\n"
            f"  expected: {', '.join(sorted(expected))}"
        )


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested objects, to tell where two differ: ``{"recipe": {"lr": 1}}`` -> ``{"recipe.lr": 1}``."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _rebuilt(kind: Any, plain: Any, where: str, error: type[Exception]) -> Any:
    if kind is Any:
        return plain
    if is_dataclass(kind):
        return _dataclass(kind, plain, where, error, {})
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):
        return _union(inner, plain, where, error)
    if origin is Literal:
        if plain not in inner or type(plain) not in {type(one) for one in inner}:
            raise error(f"{where} must be one of {', '.join(map(repr, inner))}, however: {str(plain)[:60]!r}")
        return plain
    if origin is tuple and inner[-1:] != (Ellipsis,):
        items = _expected(list, plain, where, error)
        if len(items) != len(inner):
            raise error(f"{where} must hold {len(inner)} values, however: {len(items)}")
        return tuple(
            _rebuilt(one, item, f"{where}[{i}]", error) for i, (one, item) in enumerate(zip(inner, items, strict=True))
        )
    if origin in (tuple, list):
        items = _expected(list, plain, where, error)
        return origin(_rebuilt(inner[0], item, f"{where}[{i}]", error) for i, item in enumerate(items))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        found = _expected(dict, plain, where, error)
        return {key: _rebuilt(inner[1], item, f"{where}.{key}", error) for key, item in found.items()}
    if getattr(origin, "__name__", "") == "ndarray":
        return _array(get_args(inner[1])[0], plain, where, error)
    if kind is Path:
        return Path(_expected(str, plain, where, error))
    if kind is float and type(plain) is int:
        return float(plain)
    return _expected(kind, plain, where, error)


def _union(kinds: tuple[Any, ...], plain: Any, where: str, error: type[Exception]) -> Any:
    if plain is None and NoneType in kinds:
        return None
    others = [one for one in kinds if one is not NoneType]
    for one in others[:-1]:
        try:
            return _rebuilt(one, plain, where, error)
        except error:
            continue
    return _rebuilt(others[-1], plain, where, error)


def _dataclass(kind: Any, plain: Any, where: str, error: type[Exception], instead: Mapping[str, Any]) -> Any:
    found = _expected(dict, plain, where, error)
    known_keys(found, {one.name for one in _kept(kind)}, where, error=error)
    hints = _hints(kind)
    values = {
        name: instead[name] if name in instead else _rebuilt(hints[name], value, f"{where}.{name}", error)
        for name, value in found.items()
    }
    try:
        return kind(**values)
    except (TypeError, ValueError, OverflowError) as problem:
        if isinstance(problem, error):
            raise
        raise error(f"{where} holds a value of the wrong kind: {problem}") from None


def _array(dtype: type[np.generic], plain: Any, where: str, error: type[Exception]) -> Any:
    import numpy as np

    try:
        found = np.asarray(_expected(list, plain, where, error))
        exact = found.astype(dtype, casting="safe" if found.size else "unsafe")
    except (TypeError, ValueError, OverflowError):
        raise error(f"{where} must be an array of {np.dtype(dtype).name}, however: {str(plain)[:60]!r}") from None
    if exact.dtype.kind == "f" and not np.isfinite(exact).all():
        raise error(f"{where} must hold finite numbers alone")
    return exact


def _expected(kind: Any, plain: Any, where: str, error: type[Exception]) -> Any:
    if type(plain) is not kind or (kind is float and not math.isfinite(plain)):
        raise error(f"{where} must be of type {kind.__name__}, however: {str(plain)[:60]!r}")
    return plain


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _kept(kind: Any) -> list[Any]:
    return [one for one in fields(kind) if one.init and one.metadata.get("plain", True)]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is larger than any number")
    return number


def _memory_of(data: bytes) -> int:
    """Bytes that parsed JSON takes at most: short values are many times larger as Python objects than as text."""
    return 2 * len(data) + 250 * data.count(b"{") + 64 * data.count(b"[") + 40 * data.count(b",")
