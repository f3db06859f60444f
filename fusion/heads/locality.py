"""The losses of DLP-CNN and DBM-CNN on hidden units: a row is drawn to the nearest rows of its class, or of its votes.

What they are, and what was chosen, says `cer_fusion.kit.locality`, which fine-tuning shares.
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
        Their label distributions, where rows have any.
    weight : float
        Factor on the loss.
    neighbours : int
        Nearest rows whose mean a row is drawn to; where a batch has fewer of its class, all of them, and where it has
        none, it is left alone.
    """

    def __init__(
        self,
        codes: Codes,
        soft: NDArray[np.float64] | None,
        *,
        weight: float,
        neighbours: int,
        device: torch.device,
    ) -> None:
        self.weight, self.neighbours = weight, neighbours
        self.codes = torch.from_numpy(codes).to(device)
        self.soft = None if soft is None else torch.tensor(soft, dtype=torch.float32, device=device)

    def __call__(self, units: Tensor, index: Tensor) -> Tensor:
        """Return the loss of hidden units (m, b, h) of the training rows `index` (b,), a mean over rows, summed over m.

        Each member has neighbours of its own.
        """
        alike = same_class(self.codes[index]) if self.soft is None else near_votes(self.soft[index], self.neighbours)
        total: Tensor = drawn(units, alike, self.neighbours).sum()
        return total * (self.weight / 2 / len(index))
