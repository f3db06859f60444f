"""JSON documents that say what they are, in which version, and carry their own digest.

Whoever reads one back can trust its bytes to be those that were written, and has not run out of memory, recursion or
patience before finding out.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import DocumentError, NewerFormatError, OlderFormatError, listing, nearest
from .files import read_plain_file, write_whole

MOST_MEMORY = 320 * 2**20
"""What a parsed document may take, in bytes: some four million probabilities."""
MOST_BYTES = MOST_MEMORY // 2
"""What any document's file may take."""
DEEPEST = 100
"""Levels of brackets beyond which nothing is parsed; Python's own limit depends on how deep the caller is."""

_SEAL = ("format", "format_version", "digest")
_READABLE = 2**20
"""Bytes beyond which a document is written a line a key, at the speed of C, instead of indented for people."""


def write_sealed(
    path: Path | str, content: Mapping[str, Any], *, kind: str, version: int, overwrite: bool = True
) -> Path:
    """Write a sealed document, whole or not at all; see `seal` and `files.write_whole`."""
    return write_whole(Path(path), seal(content, kind=kind, version=version, where=str(path)), overwrite=overwrite)


def read_sealed(
    path: Path | str,
    *,
    kind: str,
    version: int,
    most_bytes: int = MOST_BYTES,
    error: type[Exception] = DocumentError,
    newer: type[Exception] | None = None,
) -> dict[str, Any]:
    """Read a sealed document's content; messages name the file.

    Raises
    ------
    error
        If it is missing, no plain file, or larger than `most_bytes`; and as `unseal`.
    """
    try:
        data = read_plain_file(Path(path), most_bytes=most_bytes)
    except FileNotFoundError:
        raise error(f"{path} is missing: expected a {kind}") from None
    except OSError as fault:
        raise error(f"{path} cannot be read as a {kind}: {fault.strerror or fault}") from None
    return unseal(data, kind=kind, version=version, where=str(path), error=error, newer=newer)


def seal(content: Mapping[str, Any], *, kind: str, version: int, where: str = "this document") -> bytes:
    """Return a document of `format`, `format_version`, the content, and the `digest` of all that.

    Raises
    ------
    DocumentError
        If JSON cannot say the content, or the document could not be read back.
    """
    body = _read_back(content, kind, version, where)
    return _rendered({**body, "digest": hashlib.sha256(canonical(body)).hexdigest()})


def seal_digest(content: Mapping[str, Any], *, kind: str, version: int) -> str:
    """Return the digest that `seal` gives this content, 64 hex digits."""
    return hashlib.sha256(canonical(_read_back(content, kind, version, "this document"))).hexdigest()


def unseal(
    data: bytes | str,
    *,
    kind: str,
    version: int,
    where: str = "this document",
    error: type[Exception] = DocumentError,
    newer: type[Exception] | None = None,
) -> dict[str, Any]:
    """Return the content of a sealed document.

    Parameters
    ----------
    data : bytes or str
    kind, version : str, int
        The format that it must be of.
    where : str
        Names it in messages.
    error : type
        What is raised.
    newer : type, optional
        What is raised for a newer version; `NewerFormatError` where `error` is left as it is, else `error`.

    Raises
    ------
    error
        If it is not JSON as `parse_json` takes it, of another format or version, or not byte for byte what `seal` made
        (but for line ends, which git may have changed).
    """
    data = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    document = parse_json(data, where=where, error=error)
    if not isinstance(document, dict) or document.get("format") != kind:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise error(f"{where} must be a {kind}, however: format={str(found)[:60]!r}")
    check_version(document.get("format_version"), version, kind=kind, where=where, error=error, newer=newer)
    body = {key: value for key, value in document.items() if key != "digest"}
    whole = document.get("digest") == hashlib.sha256(canonical(body)).hexdigest()
    if not whole or _rendered(document) != data.replace(b"\r\n", b"\n"):
        raise error(
            f"{where} was changed or damaged after it was written: its digest does not match its content\n"
            "  if nobody touched it, a version before 0.1.0 wrote it: none of those is read; make it again"
        )
    return {key: value for key, value in body.items() if key not in _SEAL}


def check_version(
    found: object,
    version: int,
    *,
    kind: str,
    where: str,
    error: type[Exception] = DocumentError,
    newer: type[Exception] | None = None,
) -> None:
    """Refuse a format version other than `version`, saying whether a newer or an older release wrote it."""
    if type(found) is not int or found < 1:
        raise error(f"{where} has no usable format_version: {str(found)[:40]!r}")
    plain = error is DocumentError
    if found > version:
        raise (newer or (NewerFormatError if plain else error))(
            f"{where} is {kind} version {found}, made by a newer cer-fusion; this release reads version {version}\n"
            f"  upgrade with: pip install --upgrade cer-fusion"
        )
    if found < version:
        raise (OlderFormatError if plain else error)(
            f"{where} is {kind} version {found}, made by an older cer-fusion; this release reads version {version}\n"
            f"  make it again"
        )


def parse_json(data: bytes, *, where: str, error: type[Exception] = DocumentError) -> Any:
    """Parse JSON that nobody vouches for.

    Refused are keys that stand twice, NaN and infinite numbers, other encodings than UTF-8, nesting beyond `DEEPEST`
    and what would take more than `MOST_MEMORY`. Half of a surrogate pair is taken: names of files may hold such.
    """
    if _memory_of(data) > MOST_MEMORY:
        raise error(f"{where} would take more than {MOST_MEMORY // 2**20} MiB of memory: it is none of ours")
    if (deep := _depth(data)) > DEEPEST:
        raise error(f"{where} is nested {deep} deep: it is none of ours")
    try:
        text = data.decode()  # the JSON reader itself would take UTF-16 as well
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as fault:
        raise error(f"{where} is not valid JSON: {str(fault)[:120] or type(fault).__name__}") from None


def canonical(value: Any) -> bytes:
    """Return the one spelling of equal values, which digests are taken of: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(
        "utf-8", "backslashreplace"
    )


def known_keys(
    found: Mapping[str, Any],
    expected: set[str],
    where: str,
    *,
    optional: set[str] | frozenset[str] = frozenset(),
    error: type[Exception] = DocumentError,
) -> None:
    """Refuse a mapping whose keys are not exactly the expected ones, the optional ones there or not."""
    known = expected | optional
    unknown, missing = sorted(set(found) - known), sorted(expected - set(found))
    faults = []
    if unknown:
        shown = listing(repr(key[:60]) for key in unknown)
        hint = f" ({nearest(unknown[0][:60], known)})" if len(unknown) == 1 else ""
        faults.append(f"has unknown keys: {shown}{hint}")
    if missing:
        faults.append(f"lacks the keys: {listing(map(repr, missing))}")
    if faults:
        raise error(f"{where} {' and '.join(faults)}\n  expected: {', '.join(sorted(known))}")


def _read_back(content: Mapping[str, Any], kind: str, version: int, where: str) -> dict[str, Any]:
    """The body as a reader will have it: tuples as lists, keys as texts; what he would refuse is refused here."""
    if taken := sorted(set(_SEAL) & set(content)):
        raise DocumentError(f"the content of {where} may not have keys of its seal: {', '.join(taken)}")
    try:
        text = json.dumps({"format": kind, "format_version": version, **content}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as fault:
        raise DocumentError(f"something in {where} cannot be kept as JSON: {fault}") from fault
    body: dict[str, Any] = parse_json(text.encode("utf-8", "backslashreplace"), where=where)
    return body


def _rendered(document: Mapping[str, Any]) -> bytes:
    """The document as it is written: one text for one content, so that no changed byte can go unnoticed."""
    lines = [f"{_dumped(key)}: {_dumped(value)}" for key, value in document.items()]
    if sum(map(len, lines)) <= _READABLE:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    else:
        text = "{\n" + ",\n".join(lines) + "\n}"
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
"""One for all: `json.loads` would make it anew for each of ten thousand headers."""


def _memory_of(data: bytes) -> int:
    """Bytes that parsed JSON takes at most: short values are many times larger as Python objects than as text."""
    many = 250 * data.count(b"{") + 64 * data.count(b"[") + 40 * data.count(b",") + 12 * data.count(b'"')
    return 2 * len(data) + many


def _depth(data: bytes) -> int:
    """How deep brackets are nested; those in texts are left out where they would matter."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST:
        return 0
    deepest = _deepest(data)
    return deepest if deepest <= DEEPEST else _deepest(re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data, flags=re.DOTALL))


def _deepest(data: bytes) -> int:
    depth = deepest = 0
    for match in re.finditer(rb"[\[\]{}]", data):
        depth += 1 if match[0] in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
