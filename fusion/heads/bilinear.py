"""Bilinear fusion: what blocks say together, beside what each says alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from .layers import Drop, Linear, Network, Norm, Projections
from .networks import NetworkHead
from .settings import whole


@dataclass(kw_only=True, eq=False, repr=False)
class BilinearHead(NetworkHead):
    """Projected blocks and the element-wise products of every two of them, under a linear classifier.

    The product of two projections is a bilinear form of low rank, one a unit (Kim et al., 2017, "Hadamard product for
    low-rank bilinear pooling", eq. 4-6 with tanh before the product; Ben-younes et al., 2017, "MUTAN", §3.2). Blocks
    keep a linear term each, as rows of few samples seldom pay for interactions alone. With one block there is no pair:
    what is left is a perceptron.

    `NetworkHead` has the settings of training and the attributes.
    """

    name: ClassVar[str] = "bilinear"

    rank: int = 64
    """Width that every block is brought to: the rank of each class's bilinear forms."""

    epochs: int = 20
    """Passes over the training rows."""

    dropout: float = 0.7
    """Probability of leaving out a unit while training, in [0, 1); there are more terms here than units elsewhere."""

    def _network(self, widths: Mapping[str, int], classes: int) -> Network:
        whole("rank", self.rank)
        return BilinearNetwork(widths, classes, members=self.members, rank=self.rank)


class BilinearNetwork(Network):
    """Projection of blocks, products of pairs, normalised and joined, linear classifier."""

    def __init__(self, widths: Mapping[str, int], classes: int, *, members: int, rank: int) -> None:
        super().__init__()
        self.pairs = list(combinations(range(len(widths)), 2))
        terms = len(widths) + len(self.pairs)
        self.project = Projections(members, widths, rank)
        self.norm = Norm(members, terms * rank)
        self.answer = Linear(members, terms * rank, classes)

    def forward(self, rows: Tensor, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of rows (b, D)."""
        hidden = self.project(rows).tanh()  # (m, b, blocks, rank)
        products = [hidden[:, :, i] * hidden[:, :, j] for i, j in self.pairs]
        terms = torch.cat([hidden.flatten(2), *products], dim=2)  # (m, b, (blocks + pairs) * rank)
        return self.answer(drop(self.norm(terms)))
