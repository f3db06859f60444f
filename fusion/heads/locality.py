"""Neighbours stay neighbours: a loss that draws a row's hidden units to those of the nearest rows of its class.

Of one label a row it is the locality-preserving loss of DLP-CNN (Li, Deng and Du, 2017, "Reliable crowdsourcing and
deep locality-preserving learning for expression recognition in the wild", eq. 3-5): half the squared distance of a row
to the mean of its k nearest neighbours of the same class, which stands still while the row learns, times a weight. Of
soft labels it is the bi-manifold loss of DBM-CNN (Li and Deng, 2019, "Blended emotion in-the-wild", §4): the neighbours
are near in the space of hidden units and in that of label distributions.

Left open there and chosen here: neighbours are those of the batch, as in the papers, and k is a setting; near in the
space of labels are the rows whose distributions (distance L1) are among the 2 k nearest, equal distances included;
units are divided by their mean length over the batch, so that one weight serves layers of any width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
        z = units / units.detach().norm(dim=-1).mean(1)[:, None, None].clamp_min(1e-12)
        with torch.no_grad():
            distance = torch.cdist(z, z).masked_fill(~self._alike(index), torch.inf)
            near, who = distance.topk(min(self.neighbours, len(index)), dim=-1, largest=False)
            is_one = torch.isfinite(near)
            count = is_one.sum(-1, keepdim=True)
            member = torch.arange(len(z), device=z.device)[:, None, None]
            mean = (z[member, who] * is_one[..., None]).sum(2) / count.clamp_min(1)
        drawn = (z - mean).square().sum(-1) * (count[..., 0] > 0)
        total: Tensor = drawn.sum()
        return total * (self.weight / 2 / len(index))

    def _alike(self, index: Tensor) -> Tensor:
        """(b, b) which rows may be neighbours: of one class or, of soft labels, of distributions near each other."""
        alone = ~torch.eye(len(index), dtype=torch.bool, device=index.device)
        if self.soft is None:
            codes = self.codes[index]
            return (codes[:, None] == codes) & alone
        shares = self.soft[index]
        apart = torch.cdist(shares, shares, p=1).masked_fill(~alone, torch.inf)
        last = apart.kthvalue(max(1, min(2 * self.neighbours, len(index) - 1)), dim=-1).values
        return (apart <= last[:, None] + 1e-6) & alone
