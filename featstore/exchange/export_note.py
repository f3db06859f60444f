"""What an export says about itself: which features it holds, under which fingerprints, for which dataset."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from cer_fusion.featstore.errors import FormatError
from cer_fusion.featstore.rows import document

FORMAT, FORMAT_VERSION = "cer-export", 1
_BLOCK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*")
KEY = "cer_export"
"""What the note is called inside an `.npz` archive, and among a Parquet file's metadata."""


def note_text(body: Mapping[str, Any], *, indent: int | None = None) -> str:
    """The note as JSON with its own digest."""
    note = {"format": FORMAT, "format_version": FORMAT_VERSION, **body}
    note["digest"] = hashlib.sha256(document.canonical(note)).hexdigest()
    return json.dumps(note, indent=indent, ensure_ascii=False, allow_nan=False)


def parse_note(text: str, where: str) -> dict[str, Any]:
    """Read a note back, without its format fields.

    Raises
    ------
    FormatError
        If it is no note, was changed, names no blocks, or is of a newer version.
    """
    note = document.parse(text.encode(), where)
    if note.get("format") != FORMAT:
        raise FormatError(f"{where} must have format {FORMAT!r}, however: format={note.get('format')!r}")
    document.check_version(note.get("format_version"), FORMAT_VERSION, where, FORMAT)
    if note.pop("digest", None) != hashlib.sha256(document.canonical(note)).hexdigest():
        raise FormatError(f"{where} was changed after it was written: its note does not match its digest")
    return checked_note({key: note[key] for key in note if key not in ("format", "format_version")}, where)


def checked_note(body: dict[str, Any], where: str) -> dict[str, Any]:
    """Pass a note on whose blocks are pairs of a name, which may become a file name, and a width."""
    blocks = body.get("blocks")
    if not isinstance(blocks, list) or not all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and _BLOCK.fullmatch(entry[0])
        for entry in blocks
    ):
        raise FormatError(f"{where} does not say which blocks it holds")
    return body
