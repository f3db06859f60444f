"""The card beside the weights: what was trained, from what, how, and how well. It carries its own digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backbones.errors import CardError
from backbones.finetuning.atomic import write_whole
from backbones.finetuning.examples import Examples

CARD_FILE = "card.json"
_FORMAT, _VERSION = "cer-fusion finetune card", 1


def write_card(path: Path, body: Mapping[str, Any]) -> None:
    """Write `body` and seal it with the sha256 of its content."""
    document = {"format": _FORMAT, "format_version": _VERSION, **body}
    document["digest"] = hashlib.sha256(_canonical(document)).hexdigest()
    write_whole(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def read_card(path: str | Path) -> dict[str, Any]:
    """Read a card back, without its format and digest.

    Raises
    ------
    CardError
        If it is missing, no card, or was changed since it was written.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CardError(f"{path} is not a readable card: {error}") from None
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise CardError(f"{path} is not a {_FORMAT}")
    if document.get("format_version") != _VERSION:
        raise CardError(
            f"{path} has format version {document.get('format_version')!r}, this release reads {_VERSION}\n"
            f"  upgrade with: pip install --upgrade cer-fusion"
        )
    digest = document.pop("digest", None)
    if digest != hashlib.sha256(_canonical(document)).hexdigest():
        raise CardError(f"{path} was changed or damaged after it was written: its digest does not match its content")
    return {key: value for key, value in document.items() if key not in ("format", "format_version")}


def data_digest(parts: Mapping[str, tuple[Examples, Sequence[str]]]) -> str:
    """Identify the data: sha256 over each part's ids, labels, pictures' digests and soft labels, in order."""
    total = hashlib.sha256()
    for name, (examples, pictures) in parts.items():
        for sample_id, label, picture in zip(examples.ids, examples.y.tolist(), pictures, strict=True):
            total.update(json.dumps([name, sample_id, label, picture]).encode())
        if examples.soft is not None:
            total.update(examples.soft.tobytes())
    return total.hexdigest()


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
