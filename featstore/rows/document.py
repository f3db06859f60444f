"""Sealed JSON files by the store's errors and file operations, as `manifests` and `exchange` call them."""

from __future__ import annotations

from typing import Any

from cer_fusion.featstore.errors import FormatError, NewerFormatError
from cer_fusion.featstore.rows import files
from cer_fusion.kit import documents
from cer_fusion.kit.documents import canonical as canonical

write, read = files.write_document, files.read_document


def parse(data: bytes, where: str) -> dict[str, Any]:
    """Parse an untrusted JSON object."""
    value = documents.parse_json(data, where=where, error=FormatError)
    if not isinstance(value, dict):
        raise FormatError(f"{where} must hold a JSON object, however: {type(value).__name__}")
    return value


def check_version(found: object, known: int, where: str, kind: str) -> None:
    """Refuse a format version that this release does not read."""
    documents.check_version(found, known, kind=kind, where=where, error=FormatError, newer=NewerFormatError)
