"""JSON files that know their format, their version and their own digest."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.files.atomic import write_atomic

MOST_MEMORY = 320 * 2**20
"""What a sealed file may take when read, in bytes: some four million probabilities."""


def seal(content: dict[str, Any], *, kind: str, version: int) -> str:
    """Return JSON text with ``format``, ``format_version`` and ``digest`` (sha256 of the rest, keys sorted)."""
    body = {"format": kind, "format_version": version, **content}
    return json.dumps({**body, "digest": _digest(body)}, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def seal_digest(content: dict[str, Any], *, kind: str, version: int) -> str:
    """Return the digest that `seal` gives this content."""
    return _digest({"format": kind, "format_version": version, **content})


def unseal(text: str | bytes, *, kind: str, version: int) -> dict[str, Any]:
    """Return the content of sealed JSON text.

    Raises
    ------
    ReportError
        If it is no JSON, of another format, of a newer version, or changed since it was written.
    """
    data = text.encode() if isinstance(text, str) else text
    if _memory_of(data) > MOST_MEMORY:
        raise ReportError(f"this JSON would take more than {MOST_MEMORY // 2**20} MiB of memory: no {kind} does")
    try:
        body = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"this is no readable JSON file: {error}") from None
    if not isinstance(body, dict) or body.get("format") != kind:
        found = body.get("format") if isinstance(body, dict) else type(body).__name__
        raise ReportError(f"expected a file of format {kind!r}, however: {found!r}")
    if type(body.get("format_version")) is not int or body["format_version"] != version:
        raise ReportError(
            f"this program reads {kind} version {version}, the file is version {body.get('format_version')!r}\n"
            + (
                "  it was written before that format: make it again"
                if type(body.get("format_version")) is int and body["format_version"] < version
                else "  a newer file needs a newer program"
            )
        )
    stated = body.pop("digest", None)
    if stated != _digest(body):
        raise ReportError(
            f"the file is not as it was written: its digest is {_digest(body)[:12]}…, it states {stated!r}"
        )
    return {key: value for key, value in body.items() if key not in ("format", "format_version")}


def write_sealed(path: Path, content: dict[str, Any], *, kind: str, version: int, overwrite: bool = True) -> Path:
    """Write sealed JSON, whole or not at all; refuses what could not be read back, and as `write_atomic`."""
    data = seal(content, kind=kind, version=version).encode()
    if _memory_of(data) > MOST_MEMORY:
        raise ReportError(
            f"{path} would be larger than this program reads back: {len(data):,} bytes of JSON\n"
            f"  keep fewer columns or test rows in one {kind}"
        )
    return write_atomic(path, data, overwrite=overwrite)


def read_sealed(path: Path, *, kind: str, version: int) -> dict[str, Any]:
    """Read sealed JSON; messages name the file."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
            raise ReportError("this is not a file")
        if path.stat().st_size > MOST_MEMORY:
            raise ReportError(f"this is larger than {MOST_MEMORY // 2**20} MiB: no {kind} is")
        return unseal(path.read_bytes(), kind=kind, version=version)
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from None
    except ReportError as error:
        raise ReportError(f"{error}\n  in file: {path}") from None


def known_keys(found: dict[str, Any], expected: set[str], where: str) -> None:
    """Refuse a mapping whose keys are not exactly the expected ones."""
    unknown, missing = sorted(set(found) - expected), sorted(expected - set(found))
    if unknown or missing:
        raise ReportError(
            f"{where} has unknown keys {', '.join(unknown) or 'none'} and lacks {', '.join(missing) or 'none'}\n"
            f"  expected: {', '.join(sorted(expected))}"
        )


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


def _digest(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
