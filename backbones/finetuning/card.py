"""The card beside the weights: what was trained, from what, how, and how well. It carries its own digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cer_fusion.backbones.errors import CardError
from cer_fusion.backbones.finetuning.examples import Examples
from cer_fusion.backbones.sealed import read_sealed, write_sealed

CARD_FILE = "card.json"
_FORMAT, _VERSION = "cer-fusion finetune card", 1


def write_card(path: Path, body: Mapping[str, Any]) -> None:
    """Write `body` and seal it with the sha256 of its content."""
    write_sealed(path, body, kind=_FORMAT, version=_VERSION)


def read_card(path: str | Path) -> dict[str, Any]:
    """Read a card back, without its format and digest.

    Raises
    ------
    CardError
        If it is missing, no card, or was changed since it was written.
    """
    return read_sealed(Path(path), kind=_FORMAT, version=_VERSION, error=CardError)


def data_digest(parts: Mapping[str, tuple[Examples, Sequence[str]]]) -> str:
    """Identify the data: sha256 over each part's ids, labels, pictures' digests and soft labels, in order."""
    total = hashlib.sha256()
    for name, (examples, pictures) in parts.items():
        for sample_id, label, picture in zip(examples.ids, examples.y.tolist(), pictures, strict=True):
            total.update(json.dumps([name, sample_id, label, picture]).encode())
        if examples.soft is not None:
            total.update(examples.soft.tobytes())
    return total.hexdigest()
