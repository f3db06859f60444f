"""Neighbours stay neighbours: how far rows of a batch are from the mean of their nearest neighbours, as a loss.

Of one label a row it is the locality-preserving loss of DLP-CNN (Li, Deng and Du, 2017, "Reliable crowdsourcing and
deep locality-preserving learning for expression recognition in the wild", eq. 3-5): half the squared distance of a row
to the mean of its k nearest neighbours of the same class, which stands still while the row learns, times a weight. Of
soft labels it is the bi-manifold loss of DBM-CNN (Li and Deng, 2019, "Blended emotion in-the-wild", §4): the neighbours
are near in the space of features and in that of label distributions.

Left open there and chosen here: neighbours are those of the batch, as in the papers, and k is a setting; near in the
space of labels are the rows whose distributions (distance L1) are among the 2 k nearest, equal distances included;
features are divided by their mean length over the batch, so that one weight serves layers of any width.

Heads on cached rows (`fusion.heads.locality`) and fine-tuned networks (`backbones.finetuning`) share it; this is the
one module of `kit` that needs torch, and nothing imports it that does not.
"""

from __future__ import annotations

import torch
from torch import Tensor


def drawn(units: Tensor, alike: Tensor, neighbours: int) -> Tensor:
    """Return the squared distance of each row to the mean of its nearest neighbours, which stands still.

    Parameters
    ----------
    units : Tensor of shape (m, b, h)
        Features of the rows of a batch, of m networks; each has neighbours of its own.
    alike : bool Tensor of shape (b, b) or (m, b, b)
        Which rows may be neighbours, see `same_class` and `near_votes`.
    neighbours : int
        k; where a row has fewer that it may have, all of them.

    Returns
    -------
    Tensor of shape (m, b)
        Zero where a row has none.
    """
    z = units / units.detach().norm(dim=-1).mean(1)[:, None, None].clamp_min(1e-12)
    with torch.no_grad():
        distance = torch.cdist(z, z).masked_fill(~alike, torch.inf)
        near, who = distance.topk(min(neighbours, z.shape[1]), dim=-1, largest=False)
        is_one = torch.isfinite(near)
        count = is_one.sum(-1, keepdim=True)
        member = torch.arange(len(z), device=z.device)[:, None, None]
        mean = (z[member, who] * is_one[..., None]).sum(2) / count.clamp_min(1)
    apart: Tensor = (z - mean).square().sum(-1)
    return apart * (count[..., 0] > 0)


def same_class(codes: Tensor) -> Tensor:
    """Return which rows (b, b) are of one class (b,), a row and itself left out."""
    return (codes[:, None] == codes) & _others(len(codes), codes.device)


def near_votes(shares: Tensor, neighbours: int, there: Tensor | None = None) -> Tensor:
    """Return which rows (b, b) have label distributions (b, k) near each other, a row and itself left out.

    `there` (m, b) says which rows each of m networks may count among them: then the answer is (m, b, b).
    """
    may = _others(len(shares), shares.device)
    if there is not None:
        may = may & there[:, None, :]
    apart = torch.cdist(shares, shares, p=1).masked_fill(~may, torch.inf)
    last = apart.kthvalue(max(1, min(2 * neighbours, len(shares) - 1)), dim=-1).values
    return (apart <= last[..., None] + 1e-6) & may


def _others(count: int, device: torch.device) -> Tensor:
    return ~torch.eye(count, dtype=torch.bool, device=device)
