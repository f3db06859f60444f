"""Layers of several networks side by side, the only ones that heads are built from.

Members are networks of one shape that see the same batches. Weights carry them on their first axis, so that a layer of
all of them is one batched product. Dropout is handed in, as it brings the generator it draws from: nothing here
touches PyTorch's global state.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

Drop: TypeAlias = Callable[[Tensor], Tensor]
"""Dropout while training, `unchanged` afterwards."""


class Windows(NamedTuple):
    """Rows, each once, and where they stand in the windows that a network is asked about."""

    rows: Tensor
    """(u, D)"""
    where: Tensor
    """(b, w) positions in `rows`; -1 where a window has no row."""


Taken: TypeAlias = Any
"""What a batch is to a network: rows (b, D); to one over time, `Windows` of them."""


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

    def logits(self, rows: Taken) -> Tensor:
        """Return logits (m, b, k) of rows (b, D), without dropout and without gradients."""
        with torch.no_grad():
            return self(rows, unchanged)

    def draw_all(self, generator: torch.Generator) -> None:
        """Draw the first weights of every layer."""
        for module in self.modules():
            if isinstance(module, Layer):
                module.draw(generator)


class HiddenNetwork(Network):
    """A network whose answer is made of hidden units that a further loss may look at."""

    @abstractmethod
    def units(self, rows: Tensor, drop: Drop) -> Tensor:
        """Return the last hidden units (m, b, h) of rows (b, D), before their dropout."""

    @abstractmethod
    def answered(self, units: Tensor, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of what `units` gave."""


class Dropout:
    """Leaves out a share of the units and scales the others up; draws from a generator of its own.

    Sixteen random bits decide about a unit, four times cheaper than a float each: the probability holds to within
    2^-17, and the surviving units are scaled by the exact inverse of what is kept.
    """

    def __init__(self, share: float, generator: torch.Generator) -> None:
        self.kept, self.generator = max(1, round((1 - share) * 2**16)), generator

    def __call__(self, z: Tensor) -> Tensor:
        """Return `z` of any shape with dropout, newly drawn."""
        if self.kept == 2**16:
            return z
        bits = torch.empty((z.numel() + 3) // 4, dtype=torch.int64, device=z.device)
        bits.random_(-(2**63), None, generator=self.generator)  # all 64 bits
        draws = bits.view(torch.int16)[: z.numel()].view(z.shape)
        return z * torch.lt(draws, self.kept - 2**15).mul(2**16 / self.kept)


def unchanged(z: Tensor) -> Tensor:
    """Return `z`: no dropout."""
    return z


class Joined(Layer):
    """A linear layer a member on the same rows, as one product: (b, inputs) -> (m, b, outputs)."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members * outputs, inputs))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs))

    def draw(self, generator: torch.Generator) -> None:
        """Draw weights and biases uniformly from ±1/sqrt(inputs), as `torch.nn.Linear` does."""
        for parameter in (self.weight, self.bias):
            uniform(parameter, self.weight.shape[1], generator)

    def forward(self, rows: Tensor) -> Tensor:
        """Return weight and bias applied to rows; bfloat16 rows are multiplied as such, all else is float32."""
        product = (rows @ self.weight.to(rows.dtype).t()).to(self.weight.dtype)
        return product.view(rows.shape[0], len(self.bias), -1).transpose(0, 1) + self.bias  # (b, m * h) -> (m, b, h)


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
        self.widths = list(widths.values())
        self.weight = nn.Parameter(torch.empty(sum(self.widths), members * width))
        self.bias = nn.Parameter(torch.empty(members, 1, len(widths), width))

    def draw(self, generator: torch.Generator) -> None:
        """Draw each block's weights and biases uniformly from ±1/sqrt(width of the block)."""
        weights = self.weight.detach().split(self.widths)  # type: ignore[no-untyped-call]
        for number, weight in enumerate(weights):
            for parameter in (weight, self.bias[:, :, number]):
                uniform(parameter, len(weight), generator)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the projected blocks."""
        members, _, blocks, width = self.bias.shape
        parts = zip(rows.split(self.widths, 1), self.weight.split(self.widths), strict=True)  # type: ignore[no-untyped-call]
        joined = torch.stack([part @ weight for part, weight in parts], 1)  # (b, blocks, m * width)
        return joined.view(rows.shape[0], blocks, members, width).permute(2, 0, 1, 3) + self.bias


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
        return nn.functional.layer_norm(z, z.shape[-1:]) * self.scale + self.shift


def uniform(parameter: Tensor, fan_in: int, generator: torch.Generator) -> None:
    """Fill a parameter with numbers drawn uniformly from ±1/sqrt(fan_in)."""
    with torch.no_grad():
        parameter.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
