"""The losses of DLP-CNN and DBM-CNN on hidden units: a row is drawn to the nearest rows of its class, or of its votes.

What they are, and what was chosen, says `cer_fusion.kit.locality`, which fine-tuning shares. Chosen here: a row's loss
counts as its log loss does (`sample_weight`); what a network does not learn from, rows without a class and those that a
member leaves out, is neither drawn nor anybody's neighbour.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kit.locality import drawn, near_votes, same_class
from .base import Codes


class Locality:
    """The loss for batches of training rows.

    Parameters
    ----------
    codes : int array of shape (n,)
        Classes of the training rows.
    soft : float array of shape (n, k) or None
        Their label distributions, where rows have any. Where each is of one class alone, they are labels.
    weight : float
        Factor on the loss.
    neighbours : int
        Nearest rows whose mean a row is drawn to; where a batch has fewer of its class, all of them, and where it has
        none, it is left alone.
    counts : float array of shape (1 or m, n) or None
        How much a row counts for each of the m members, 0 where one does not learn from it; None is one each.
    """

    def __init__(
        self,
        codes: Codes,
        soft: NDArray[np.float64] | None,
        *,
        weight: float,
        neighbours: int,
        device: torch.device,
        counts: NDArray[np.float64] | None = None,
    ) -> None:
        self.weight, self.neighbours = weight, neighbours
        self.codes = torch.from_numpy(codes).to(device)
        known = slice(None) if counts is None else counts.any(axis=0)
        if soft is not None and (soft[known].max(axis=1) == 1).all():
            soft = None
        self.soft = None if soft is None else torch.tensor(soft, dtype=torch.float32, device=device)
        self.counts = None if counts is None else torch.tensor(counts, dtype=torch.float32, device=device)

    def __call__(self, units: Tensor, index: Tensor) -> Tensor:
        """Return the loss of hidden units (m, b, h) of the training rows `index` (b,), a mean over rows, summed over m.

        Each member has neighbours of its own.
        """
        counts = None if self.counts is None else self.counts[:, index]
        there = None if counts is None else counts > 0
        if self.soft is not None:
            alike = near_votes(self.soft[index], self.neighbours, there)
        else:
            alike = same_class(self.codes[index])
            alike = alike if there is None else alike & there[:, None, :]
        each = drawn(units, alike, self.neighbours)
        total: Tensor = (each if counts is None else each * counts).sum()
        return total * (self.weight / 2 / len(index))
