"""Early stopping: rows kept aside, and the best weights seen on them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from cer_fusion.fusion.heads.base import Codes
from cer_fusion.fusion.heads.batches import Batches
from torch import Tensor


class Watched(Protocol):
    """Networks side by side."""

    def logits(self, rows: Tensor) -> Tensor:
        """Return logits (m, b, k) of rows (b, D), as they would be answered."""

    def parameters(self) -> Iterable[Tensor]:
        """Return all that training changes."""


class Watch:
    """The rows kept aside, and the best weights seen on them.

    Attributes
    ----------
    best : list of Tensor
        Copies of the best parameters.
    best_epoch : int
        The epoch they are of, counted from 0.
    """

    def __init__(self, rows: Batches, codes: Codes, device: torch.device) -> None:
        self.rows = rows
        self.codes = torch.from_numpy(codes).to(device)
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best: list[Tensor] = []

    def stops(self, network: Watched, epoch: int, patience: int) -> bool:
        """Look at the log loss of the averaged members, and say whether it is time to stop."""
        proba = torch.cat([network.logits(rows).softmax(-1).mean(0) for rows in self.rows.in_order()])
        chosen = proba.gather(1, self.codes[:, None])
        loss = float(-chosen.clamp_min(1e-12).log().mean())
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best = [parameter.detach().clone() for parameter in network.parameters()]
        return epoch - self.best_epoch >= patience
