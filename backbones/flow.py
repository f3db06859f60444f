"""Which flow MA-Net's weights were trained with, where that is written down: in the card beside them.

The public code changed in April 2023 (see `cer_fusion.backbones.manet_blocks.MulScaleBlock`), and a checkpoint does not
tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from cer_fusion.backbones.errors import CheckpointError, OptionError
from cer_fusion.backbones.manet_blocks import Flow
from cer_fusion.backbones.weights_card import CARD_FILE, card_beside

if TYPE_CHECKING:
    from torch import Tensor

BOTH_FLOWS = (
    "the file does not tell its flow: names and shapes are the same in both\n"
    "  legacy: trained with the public code before April 2023, as the well-known RAF-DB checkpoint (88.33 %) was\n"
    "  bidirectional: trained with later code\n"
    "  date unknown: extract labelled pictures both ways with -O extra=logits; the right one is the more accurate"
)
"""How to decide."""


def flow_beside(path: Path, state: Mapping[str, Tensor]) -> Flow:
    """Read the flow of a weights file off the card beside it.

    Parameters
    ----------
    path : Path
        The weights file.
    state : dict of Tensor
        What it holds; a card that names another digest than theirs belongs to other weights.

    Raises
    ------
    OptionError
        If there is no card that says it: nothing is guessed.
    CheckpointError, CardError
        If the card cannot be read, was changed since it was sealed, or belongs to other weights.
    """
    card = card_beside(path, state)
    found = None if card is None else flow_in(card, path)
    if found is None:
        raise OptionError(
            f"flow='auto' has no answer: {BOTH_FLOWS}\n"
            f"  in file: {path} (and no {CARD_FILE} beside it says it)\n  say flow='legacy' or flow='bidirectional'"
        )
    return found


def flow_in(card: Mapping[str, Any], path: Path) -> Flow | None:
    """Read the flow off the card beside a weights file; None where it does not say.

    The card is fine-tuning's, or ``{"options": {"flow": "legacy"}}`` written by whoever knows.
    """
    options = card.get("options")
    flow = options.get("flow") if isinstance(options, dict) else None
    if flow is not None and flow not in get_args(Flow):
        known = ", ".join(get_args(Flow))
        raise CheckpointError(f"the card says flow={flow!r}, expected one of {known}: {path.with_name(CARD_FILE)}")
    return flow
