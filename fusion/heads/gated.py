"""Gated fusion: how much each block says is decided anew for every row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .layers import Drop, Linear, Network, Projections, unchanged
from .networks import NetworkHead
from .settings import one_of, whole


@dataclass(kw_only=True, eq=False, repr=False)
class GatedHead(NetworkHead):
    """Blocks brought to one width and summed with gates that all blocks together open and close for each row.

    After the gated multimodal unit (Arevalo et al., 2017, "Gated multimodal units for information fusion", §3.1), with
    one gate a block in place of one a unit, so that `gates` can be read: h_i = W_i x_i, g = softmax(V tanh [h_1, ...,
    h_B]), logits = U relu(B sum_i g_i h_i). The unit squashes each h_i before the sum; here the nonlinearity comes
    after it, so that with equal gates the head is a perceptron on the joined blocks, which suits real faces better.

    `NetworkHead` has the settings of training and the attributes.
    """

    name: ClassVar[str] = "gated"

    width: int = 128
    """Width that every block is brought to."""

    gate: Literal["softmax", "sigmoid"] = "softmax"
    """`softmax` gates compete and sum to one, `sigmoid` gates open and close each for itself, as in the paper."""

    def gates(self, X: Any) -> NDArray[np.float64]:
        """Return the gates (n, number of blocks) of rows (n, D), in [0, 1], averaged over members.

        Blocks are in the order of `blocks_`. With `gate="softmax"` every row sums to one.
        """

        (trained,) = self.networks_
        network = trained.network
        assert isinstance(network, GatedNetwork)

        def opened(rows: Tensor, _: slice) -> Tensor:
            return network.gates(network.project(rows), unchanged).mean(0)

        return self._answered(X, lambda rows: trained.asked(rows, opened), axis=0)

    def _network(self, widths: Mapping[str, int], classes: int) -> Network:
        whole("width", self.width)
        one_of("gate", self.gate, ("softmax", "sigmoid"))
        return GatedNetwork(widths, classes, members=self.members, width=self.width, gate=self.gate)


class GatedNetwork(Network):
    """Projection of blocks, gates, gated sum, linear classifier."""

    def __init__(self, widths: Mapping[str, int], classes: int, *, members: int, width: int, gate: str) -> None:
        super().__init__()
        self.kind = gate
        self.scale = len(widths) if gate == "softmax" else 1  # equal gates then leave the sum of blocks as it is
        self.project = Projections(members, widths, width)
        self.gate = Linear(members, len(widths) * width, len(widths))
        self.answer = Linear(members, width, classes)

    def forward(self, rows: Tensor, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of rows (b, D)."""
        hidden = self.project(rows)
        gates = self.scale * self.gates(hidden, drop)
        fused = (gates[..., None] * hidden).sum(2)  # (m, b, blocks, width) -> (m, b, width)
        return self.answer(drop(fused.relu()))

    def gates(self, hidden: Tensor, drop: Drop) -> Tensor:
        """Return gates (m, b, blocks) for projected blocks (m, b, blocks, width)."""
        scores = self.gate(drop(hidden.tanh()).flatten(2))
        return scores.softmax(-1) if self.kind == "softmax" else scores.sigmoid()
