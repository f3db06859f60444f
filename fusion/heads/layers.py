"""Networks of several members side by side, for training by automatic differentiation, and the layers they share.

Members are networks of one shape that see the same batches. Weights carry them on their first axis, so that a layer of
all of them is one batched product. Dropout is handed in, as it brings the generator it draws from: nothing here
touches PyTorch's global state.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from cer_fusion.fusion.data.blocks import slices
from torch import Tensor, nn

Drop: TypeAlias = Callable[[Tensor], Tensor]
"""Dropout while training, `unchanged` afterwards."""


class Layer(nn.Module):
    """Something with weights that gives a tensor."""

    if TYPE_CHECKING:  # PyTorch says that calling a module may give anything

        def __call__(self, *inputs: Any) -> Tensor: ...

    def draw(self, generator: torch.Generator) -> None:
        """Draw the first weights that are this layer's own, not those of layers within it."""


class Network(Layer):
    """`members` networks on the joined blocks: a subclass says how rows become logits."""

    @abstractmethod
    def forward(self, rows: Tensor, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of rows (b, D)."""

    def logits(self, rows: Tensor) -> Tensor:
        """Return logits (m, b, k) of rows (b, D), without dropout and without gradients."""
        with torch.no_grad():
            return self(rows, unchanged)

    def draw_all(self, generator: torch.Generator) -> None:
        """Draw the first weights of every layer."""
        for module in self.modules():
            if isinstance(module, Layer):
                module.draw(generator)


class Dropout:
    """Leaves out a share of the units and scales the others up; draws from a generator of its own."""

    def __init__(self, share: float, generator: torch.Generator) -> None:
        self.kept, self.generator = 1 - share, generator

    def __call__(self, z: Tensor) -> Tensor:
        """Return `z` of any shape with dropout, newly drawn."""
        if self.kept == 1:
            return z
        return z * torch.empty_like(z).bernoulli_(self.kept, generator=self.generator).div_(self.kept)


def unchanged(z: Tensor) -> Tensor:
    """Return `z`: no dropout."""
    return z


class Linear(Layer):
    """A linear layer a member: (m, b, inputs) -> (m, b, outputs)."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs))

    def draw(self, generator: torch.Generator) -> None:
        """Draw weights and biases uniformly from ±1/sqrt(inputs), as `torch.nn.Linear` does."""
        for parameter in (self.weight, self.bias):
            uniform(parameter, self.weight.shape[1], generator)

    def forward(self, z: Tensor) -> Tensor:
        """Return weight and bias applied to `z`."""
        return torch.baddbmm(self.bias, z, self.weight)


class Projections(Layer):
    """Every block brought to a common width by a linear layer of its own: (b, D) -> (m, b, blocks, width)."""

    def __init__(self, members: int, widths: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.places = list(slices(widths).values())
        self.weight = nn.Parameter(torch.empty(sum(widths.values()), members * width))
        self.bias = nn.Parameter(torch.empty(members, 1, len(widths), width))

    def draw(self, generator: torch.Generator) -> None:
        """Draw each block's weights and biases uniformly from ±1/sqrt(width of the block)."""
        for number, place in enumerate(self.places):
            for parameter in (self.weight[place], self.bias[:, :, number]):
                uniform(parameter, place.stop - place.start, generator)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the projected blocks."""
        members, _, _, width = self.bias.shape
        parts = [rows[:, place] @ self.weight[place] for place in self.places]
        joined = torch.stack(parts, 1).view(
            len(rows), len(parts), members, width
        )  # (b, blocks, m * width) -> …, m, width)
        return joined.permute(2, 0, 1, 3) + self.bias


class Norm(Layer):
    """Layer normalisation over the last axis with a scale and a shift a member (Ba et al., 2016, §3)."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(members, 1, width))
        self.shift = nn.Parameter(torch.empty(members, 1, width))

    def draw(self, generator: torch.Generator) -> None:
        """Begin with scales of one and shifts of zero."""
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.shift)

    def forward(self, z: Tensor) -> Tensor:
        """Return `z` (m, b, width) normalised."""
        return torch.nn.functional.layer_norm(z, z.shape[-1:]) * self.scale + self.shift


def uniform(parameter: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Fill a parameter with numbers drawn uniformly from ±1/sqrt(fan_in)."""
    with torch.no_grad():
        parameter.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
