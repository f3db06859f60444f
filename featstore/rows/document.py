"""Small JSON files that say what they are and carry their own digest."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from cer_fusion.featstore.errors import FormatError, NewerFormatError
from cer_fusion.featstore.rows import files

Json = Any
MAX_BYTES = 16 * 1024 * 1024
_MAX_MEMORY = 320 * 1024 * 1024


def canonical(value: Json) -> bytes:
    """One spelling for equal values: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(
        "utf-8", "backslashreplace"
    )


def write(path: Path, kind: str, version: int, body: dict[str, Json], *, overwrite: bool = True) -> None:
    """Write `body` as a document of format `kind`, in one step; see `files.write_output`."""
    document = {"format": kind, "format_version": version, **body}
    document["digest"] = hashlib.sha256(canonical(document)).hexdigest()
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files.write_output(path, text.encode("utf-8", "backslashreplace"), overwrite=overwrite)


def read(path: Path, kind: str, version: int) -> dict[str, Json]:
    """Read a document back, without its format fields.

    Raises
    ------
    FormatError
        If the file is not JSON, is another kind, was changed since it was written, or has a newer format version.
    """
    if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
        raise FormatError(f"{path} is not a file: this is not a complete {kind}")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise FormatError(f"{path} is missing: this is not a complete {kind}") from None
    if len(data) > MAX_BYTES:
        raise FormatError(f"{path} is larger than {MAX_BYTES:,} bytes: no {kind} is")
    document = parse(data, str(path))
    if document.get("format") != kind:
        raise FormatError(f"{path} must have format {kind!r}, however: format={document.get('format')!r}")
    check_version(document.get("format_version"), version, str(path), kind)
    digest = document.pop("digest", None)
    if digest != hashlib.sha256(canonical(document)).hexdigest():
        raise FormatError(f"{path} was changed or damaged after it was written: its digest does not match its content")
    del document["format"], document["format_version"]
    return document


def parse(data: bytes, where: str) -> dict[str, Json]:
    """Parse an untrusted JSON object; refuse duplicate keys, NaN, infinite numbers, runaway nesting and size."""
    if _memory_of(data) > _MAX_MEMORY:
        raise FormatError(f"{where} would take more than {_MAX_MEMORY // 2**20} MiB of memory: it is none of ours")
    try:
        data.decode()  # the JSON reader itself would take UTF-16 as well
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in data:  # half of a character pair can be escaped, and then nothing can write it
            canonical(value)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is not valid JSON: {error or type(error).__name__}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{where} must hold a JSON object, however: {type(value).__name__}")
    return value


def check_version(found: Json, known: int, where: str, kind: str) -> None:
    """Refuse a format version that this release has not heard of."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise FormatError(f"{where} has no usable format_version: {found!r}")
    if found > known:
        raise NewerFormatError(
            f"{where} has {kind} format version {found}; this release reads up to {known}\n"
            f"  it was written by a newer cer-fusion: upgrade with: pip install --upgrade cer-fusion"
        )


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key stands twice")
    return out


def _refuse_constant(word: str) -> Json:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is larger than any number")
    return number


def _memory_of(data: bytes) -> int:
    """Bytes that parsed JSON takes at most: short values are many times larger as Python objects than as text."""
    return 2 * len(data) + 250 * data.count(b"{") + 64 * (data.count(b"[") + data.count(b","))
