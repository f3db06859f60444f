"""TabM: a perceptron that is an ensemble of its own, as its members share nearly all weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from .layers import Drop, Layer, Linear, Network, uniform
from .networks import NetworkHead
from .settings import whole


@dataclass(kw_only=True, eq=False, repr=False)
class TabMHead(NetworkHead):
    """Perceptrons that share their weights and differ in adapters of rank one, each with a loss of its own.

    Member j's hidden layer is ((x * r_j) W) * s_j + b_j with one W for all (Wen et al., 2020, "BatchEnsemble", §3.1);
    its last layer is its own. As in TabM (Gorishniy et al., 2024, "TabM: advancing tabular deep learning with
    parameter-efficient ensembling", §3.3-3.4), adapters begin at one, only the first r_j at random signs, and the
    members are trained one by one and only their probabilities averaged.

    Sharing regularises; what `mlp` averages are networks that share nothing. `NetworkHead` has the settings of training
    and the attributes.
    """

    name: ClassVar[str] = "tabm"

    hidden: tuple[int, ...] = (256,)
    """Widths of the hidden layers, at least one, each followed by ReLU and dropout."""

    members: int = 8
    """Members that share weights. The paper takes 32; time grows with their number, for every member multiplies all
    columns anew."""

    epochs: int = 12
    """Passes over the training rows."""

    def _network(self, widths: Mapping[str, int], classes: int) -> Network:
        whole("number of hidden layers", len(self.hidden))
        for width in self.hidden:
            whole("hidden", width)
        return TabMNetwork((sum(widths.values()), *self.hidden), classes, members=self.members)


class TabMNetwork(Network):
    """Shared hidden layers with adapters, ReLU and dropout, and a linear classifier a member."""

    def __init__(self, widths: tuple[int, ...], classes: int, *, members: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(Shared(members, a, b, first=not i) for i, (a, b) in enumerate(pairwise(widths)))
        self.answer = Linear(members, widths[-1], classes)

    def forward(self, rows: Tensor, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of rows (b, D)."""
        z = rows[None]
        for layer in self.hidden:
            z = drop(layer(z).relu())
        return self.answer(z)


class Shared(Layer):
    """One linear layer for all members with adapters for each: (m or 1, b, inputs) -> (m, b, outputs)."""

    def __init__(self, members: int, inputs: int, outputs: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.r = nn.Parameter(torch.empty(members, 1, inputs))
        self.s = nn.Parameter(torch.empty(members, 1, outputs))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs))

    def draw(self, generator: torch.Generator) -> None:
        """Draw weights and biases from ±1/sqrt(inputs), the first layer's r from {-1, 1}; other adapters are one."""
        for parameter in (self.weight, self.bias):
            uniform(parameter, len(self.weight), generator)
        nn.init.ones_(self.r)
        nn.init.ones_(self.s)
        if self.first:
            with torch.no_grad():
                self.r.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)

    def forward(self, z: Tensor) -> Tensor:
        """Return the adapted layer's output."""
        return (z * self.r) @ self.weight * self.s + self.bias
