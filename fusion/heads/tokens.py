"""Attention over blocks: every block is a token of a small transformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from ..errors import HeadConfigError
from .layers import Drop, Layer, Linear, Network, Norm, Projections
from .networks import NetworkHead
from .settings import whole

MOST_LAYERS: Final = 64


@dataclass(kw_only=True, eq=False, repr=False)
class TokensHead(NetworkHead):
    """A small transformer whose tokens are the blocks and one class token.

    Every block is projected to the common width and gets an embedding of its own, which says which block it is. Layers
    are those of Vaswani et al. (2017, "Attention is all you need", §3), with normalisation before each half and GELU;
    the class token is Devlin et al.'s (2019, "BERT", §3). The answer is read from all tokens joined: with a handful of
    blocks that costs nothing, and on real faces the class token alone was a bottleneck (log loss 0.90 against 0.85).
    Dropout is on the projected blocks and on what the answer is read from, not within the layers.

    `NetworkHead` has the settings of training and the attributes.
    """

    name: ClassVar[str] = "tokens"

    width: int = 64
    """Width of a token."""

    layers: int = 2
    """Layers of attention and perceptron."""

    attention_heads: int = 4
    """Heads of attention a layer; they share the width."""

    epochs: int = 10
    """Passes over the training rows."""

    def _network(self, widths: Mapping[str, int], classes: int) -> Network:
        whole("width", self.width)
        whole("layers", self.layers, most=MOST_LAYERS)
        whole("attention_heads", self.attention_heads)
        if self.width % self.attention_heads:
            raise HeadConfigError(
                f"width must be a multiple of attention_heads, got {self.width} for {self.attention_heads} heads"
            )
        return TokensNetwork(
            widths, classes, members=self.members, width=self.width, layers=self.layers, heads=self.attention_heads
        )


class TokensNetwork(Network):
    """Projection of blocks to tokens, layers of attention among them, linear classifier on all tokens."""

    def __init__(
        self, widths: Mapping[str, int], classes: int, *, members: int, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        self.project = Projections(members, widths, width)  # its bias is the blocks' embedding
        self.first = ClassToken(members, width)
        self.layers = nn.ModuleList(Block(members, width, heads) for _ in range(layers))
        self.norm = Norm(members, (1 + len(widths)) * width)
        self.answer = Linear(members, (1 + len(widths)) * width, classes)

    def forward(self, rows: Tensor, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of rows (b, D)."""
        tokens = self.first(drop(self.project(rows)))  # (m, b, 1 + blocks, width)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.answer(drop(self.norm(tokens.flatten(2))))  # (m, b, 1 + blocks, width) -> (m, b, joined)


class ClassToken(Layer):
    """A learned token set before the others: (m, b, t, width) -> (m, b, 1 + t, width)."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(members, 1, 1, width))

    def draw(self, generator: torch.Generator) -> None:
        """Draw the token with a standard deviation of 0.02."""
        with torch.no_grad():
            self.token.normal_(0, 0.02, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the class token and the others."""
        return torch.cat([self.token.expand(-1, tokens.shape[1], -1, -1), tokens], dim=2)


class Block(Layer):
    """Attention among tokens, then a perceptron on each, both added to what was there."""

    def __init__(self, members: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = Norm(members, width)
        self.ask = Linear(members, width, 3 * width)
        self.told = Linear(members, width, width)
        self.before_perceptron = Norm(members, width)
        self.widen = Linear(members, width, 2 * width)
        self.narrow = Linear(members, 2 * width, width)

    def forward(self, tokens: Tensor, there: Tensor | None = None, only: int | None = None) -> Tensor:
        """Return tokens (m, b, t, width), or `only` the one of that place (m, b, 1, width).

        `there` (b, t) are those that are looked at; None: all.
        """
        z, shape = tokens.flatten(1, 2), tokens.shape  # (m, b, t, width) -> (m, b * t, width)
        attended = self._attended(self.ask(self.before_attention(z)), shape[2], there, only)
        if only is not None:
            z = tokens[:, :, only]
            shape = torch.Size((*shape[:2], 1, shape[3]))
        z = z + self.told(attended)
        z = z + self.narrow(nn.functional.gelu(self.widen(self.before_perceptron(z))))
        return z.view(shape)

    def _attended(self, asked: Tensor, t: int, there: Tensor | None = None, only: int | None = None) -> Tensor:
        """Return each token's, or one's, mixture of all tokens' values: (m, b * t, 3 * width) -> (m, b * t, width)."""
        parts = asked.view(len(asked), -1, t, 3, self.heads, asked.shape[2] // (3 * self.heads))
        queries, keys, values = parts.permute(3, 0, 1, 4, 2, 5)  # (m, b, t, 3, heads, d) -> (3, m, b, heads, t, d)
        queries = queries if only is None else queries[..., only : only + 1, :]
        scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5  # (m, b, heads, t or 1, t)
        if there is not None:
            scores = scores.masked_fill(~there[:, None, None, :], -torch.inf)
        mixed: Tensor = scores.softmax(-1) @ values
        return mixed.transpose(2, 3).flatten(3).flatten(1, 2)
