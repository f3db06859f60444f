"""Which flow MA-Net's weights were trained with, where that is written down: in the card beside them.

The public code changed in April 2023 (see `backbones.manet_blocks.MulScaleBlock`), and a checkpoint does not tell.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from backbones.errors import CheckpointError, OptionError
from backbones.manet_blocks import Flow

CARD = "card.json"
"""What fine-tuning leaves beside its weights."""

MAX_BYTES = 64 << 20
"""No card is larger."""

BOTH_FLOWS = (
    "the file does not tell its flow: names and shapes are the same in both\n"
    "  legacy: trained with the public code before April 2023, as the well-known RAF-DB checkpoint (88.33 %) was\n"
    "  bidirectional: trained with later code\n"
    "  date unknown: extract labelled pictures both ways with -O extra=logits; the right one is the more accurate"
)
"""How to decide."""


def flow_beside(path: Path, digest: str) -> Flow:
    """Read the flow of a weights file off the card beside it.

    Parameters
    ----------
    path : Path
        The weights file.
    digest : str
        Of its tensors; a card that names another digest belongs to other weights.

    Raises
    ------
    OptionError
        If there is no card that says it: nothing is guessed.
    CheckpointError, CardError
        If the card cannot be read, was changed since it was sealed, or belongs to other weights.
    """
    found = card_beside(path, digest)
    if found is None:
        raise OptionError(
            f"flow='auto' has no answer: {BOTH_FLOWS}\n"
            f"  in file: {path} (and no {CARD} beside it says it)\n  say flow='legacy' or flow='bidirectional'"
        )
    return found


def card_beside(path: Path, digest: str) -> Flow | None:
    """Read the flow off the card beside a weights file; None where there is no card, or it does not say.

    The card is fine-tuning's, or ``{"options": {"flow": "legacy"}}`` written by whoever knows.
    """
    place = path.with_name(CARD)
    if not place.is_file():
        return None
    card = _read(place)
    weights = card.get("weights")
    named = weights.get("tensors") if isinstance(weights, dict) else None
    if named is not None and named != digest:
        raise CheckpointError(
            f"the card belongs to other weights: it names {named}, expected {digest}\n"
            f"  card: {place}, weights: {path.name}\n  move the card away, or give the file that it was written for"
        )
    options = card.get("options")
    flow = options.get("flow") if isinstance(options, dict) else None
    if flow is not None and flow not in get_args(Flow):
        raise CheckpointError(f"the card says flow={flow!r}, expected one of {', '.join(get_args(Flow))}: {place}")
    return flow


def _read(place: Path) -> dict[str, Any]:
    """Read a card: one of fine-tuning with its seal, or any JSON object that somebody wrote down."""
    from backbones.finetuning.card import read_card

    try:
        if place.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES:,} bytes")
        card = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the card beside the weights cannot be read ({error}): {place}") from None
    if not isinstance(card, dict):
        raise CheckpointError(f"the card beside the weights holds no JSON object: {place}")
    return read_card(place) if "format" in card else card
