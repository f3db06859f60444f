"""The card beside a weights file: what fine-tuning, or whoever knows, wrote down about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cer_fusion.backbones.errors import CardError, CheckpointError
from cer_fusion.backbones.sealed import read_sealed, write_sealed
from cer_fusion.backbones.weights import digest

if TYPE_CHECKING:
    from torch import Tensor

CARD_FILE = "card.json"
"""What fine-tuning leaves beside its weights."""
_FORMAT, _VERSION = "cer-fusion finetune card", 1

MAX_BYTES = 64 << 20
"""No card is larger."""


def write_card(path: Path, body: Mapping[str, Any]) -> None:
    """Write what was trained, from what, how, and how well, sealed with the sha256 of its content."""
    write_sealed(path, body, kind=_FORMAT, version=_VERSION)


def read_card(path: str | Path) -> dict[str, Any]:
    """Read a card of fine-tuning back, without its format and digest.

    Raises
    ------
    CardError
        If it is missing, no card, or was changed since it was written.
    """
    return read_sealed(Path(path), kind=_FORMAT, version=_VERSION, error=CardError)


def card_beside(path: Path, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Read the card beside a weights file; None where there is none.

    Parameters
    ----------
    path : Path
        The weights file.
    state : dict of Tensor
        What it holds. A card that names the digest of other tensors belongs to other weights; one written by hand,
        ``{"options": {"flow": "legacy"}}``, need not name any.

    Raises
    ------
    CheckpointError, CardError
        If the card cannot be read, was changed since it was sealed, or belongs to other weights.
    """
    place = path.with_name(CARD_FILE)
    if not place.is_file():
        return None
    card = _read(place)
    weights = card.get("weights")
    named = weights.get("digest") if isinstance(weights, dict) else None
    if named is not None and named != (found := digest(state)):
        raise CheckpointError(
            f"the card belongs to other weights: it names {named}, expected {found}\n"
            f"  card: {place}, weights: {path.name}\n  move the card away, or give the file that it was written for"
        )
    return card


def _read(place: Path) -> dict[str, Any]:
    """Read a card: one of fine-tuning with its seal, or any JSON object that somebody wrote down."""
    try:
        if place.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES:,} bytes")
        card = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the card beside the weights cannot be read ({error}): {place}") from None
    if not isinstance(card, dict):
        raise CheckpointError(f"the card beside the weights holds no JSON object: {place}")
    return {"format": card["format"], **read_card(place)} if "format" in card else card
