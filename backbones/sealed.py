"""JSON files that know what they are and carry their own digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cer_fusion.backbones.finetuning.atomic import write_whole


def write_sealed(path: Path, body: Mapping[str, Any], *, kind: str, version: int) -> None:
    """Write `body` and seal it with the sha256 of its content, whole or not at all."""
    document = {"format": kind, "format_version": version, **body}
    document["digest"] = hashlib.sha256(_canonical(document)).hexdigest()
    write_whole(
        path,
        json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n",
    )


def read_sealed(path: Path, *, kind: str, version: int, error: type[Exception]) -> dict[str, Any]:
    """Read a body back, without its format and digest; raises `error` if it is missing, another kind, or changed."""
    word = kind.rpartition(" ")[2]
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as fault:
        raise error(f"{path} is not a readable {word}: {fault}") from None
    if not isinstance(document, dict) or document.get("format") != kind:
        raise error(f"{path} is not a {kind}")
    if document.get("format_version") != version:
        raise error(
            f"{path} has format version {document.get('format_version')!r}, this release reads {version}\n"
            f"  upgrade with: pip install --upgrade cer-fusion"
        )
    digest = document.pop("digest", None)
    if digest != hashlib.sha256(_canonical(document)).hexdigest():
        raise error(f"{path} was changed or damaged after it was written: its digest does not match its content")
    return {key: value for key, value in document.items() if key not in ("format", "format_version")}


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(
        "utf-8", "backslashreplace"
    )
