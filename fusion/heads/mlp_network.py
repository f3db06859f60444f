"""Several multilayer perceptrons of one shape, trained side by side as one computation.

The members see the same batches and differ in their first weights and their dropout. Their first layers are one matrix
product over a shared input, their later layers a batched one, so that four small networks cost little more than one
large one. The gradients are written out by hand: for stacks of Linear - ReLU - dropout they are six lines, and they go
into memory that is there already, which on a CPU saves about a fifth of a step. A test holds them against automatic
differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

NORM_FLOOR: Final = 1e-5
"""Added to the variance that a layer is normalised by."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of one member and how many of them there are."""

    inputs: int
    """Columns of the input."""

    hidden: tuple[int, ...]
    """Widths of the hidden layers; none makes it a linear softmax classifier."""

    classes: int
    """Columns of the output."""

    normalized: bool = False
    """Whether a hidden layer is normalised before its ReLU."""

    members: int
    """Networks side by side."""


class Network:
    """`members` networks of one shape: weights, their gradients, and one step forwards and backwards.

    Attributes
    ----------
    first : Tensor of shape (members * width, inputs)
        First layers, one below the other.
    later : list of Tensor of shape (members, width_in, width_out)
        The other layers.
    biases : list of Tensor
        Of shape (members * width,) for the first layer, (members, 1, width_out) for the others.
    norms : list of LayerNorm
        One a hidden layer, or none.
    """

    def __init__(self, shape: Shape, *, generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> None:
        """Draw weights and biases uniformly from ±1/sqrt(fan-in), as `torch.nn.Linear` does.

        `dtype` is that of the first layer's products, bfloat16 or float32; everything is kept in float32.
        """
        self.shape = shape
        self.dtype = dtype
        widths = (*shape.hidden, shape.classes)
        members = shape.members
        self.first = _uniform((members * widths[0], shape.inputs), shape.inputs, generator, device)
        self.biases = [_uniform((members * widths[0],), shape.inputs, generator, device)]
        self.later: list[Tensor] = []
        for fan_in, width in pairwise(widths):
            self.later.append(_uniform((members, fan_in, width), fan_in, generator, device))
            self.biases.append(_uniform((members, 1, width), fan_in, generator, device))
        self.norms = [LayerNorm(members, width, device) for width in shape.hidden if shape.normalized]
        for parameter in self.parameters():
            parameter.grad = torch.zeros_like(parameter)

    def parameters(self) -> list[Tensor]:
        """Return all weights, all biases, all scales, all shifts; their `grad` is always there."""
        scales_and_shifts = [*(norm.scale for norm in self.norms), *(norm.shift for norm in self.norms)]
        return [self.first, *self.later, *self.biases, *scales_and_shifts]

    def logits(self, rows: Tensor) -> Tensor:
        """Return the logits (m, b, k) of rows (b, d), without dropout."""
        z = self._first(rows)
        for number, (weight, bias) in enumerate(zip(self.later, self.biases[1:], strict=True)):
            z = torch.baddbmm(bias, self._normalized(number, z).relu(), weight)
        return z

    def forward(self, rows: Tensor, gates: Sequence[Gate]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return logits (m, b, k), the inputs of every later layer and what each gate let through, for rows (b, d)."""
        z = self._first(rows)
        inputs, passes = [], []
        for number, (weight, bias, gate) in enumerate(zip(self.later, self.biases[1:], gates, strict=True)):
            z = self._normalized(number, z)
            passes.append(gate(z))
            inputs.append(z.mul_(passes[-1]))
            z = torch.baddbmm(bias, z, weight)
        return z, inputs, passes

    def backward(self, rows: Tensor, gradient: Tensor, inputs: Sequence[Tensor], passes: Sequence[Tensor]) -> None:
        """Write the gradients of the loss, given that of the logits (m, b, k), into every parameter's `grad`."""
        for index in reversed(range(len(self.later))):
            torch.bmm(inputs[index].transpose(1, 2), gradient, out=self.later[index].grad)
            torch.sum(gradient, 1, keepdim=True, out=self.biases[index + 1].grad)
            gradient = torch.bmm(gradient, self.later[index].transpose(1, 2)).mul_(passes[index])
            if self.norms:
                gradient = self.norms[index].backward(gradient)
        flat = gradient.transpose(0, 1).reshape(rows.shape[0], -1)  # (m, b, h) -> (b, m * h)
        torch.sum(flat, 0, out=self.biases[0].grad)
        if self.dtype == torch.float32:
            torch.mm(flat.t(), rows, out=self.first.grad)
        else:
            assert self.first.grad is not None
            self.first.grad.copy_(torch.mm(flat.to(self.dtype).t(), rows))

    def _normalized(self, number: int, z: Tensor) -> Tensor:
        return self.norms[number].forward(z) if self.norms else z

    def _first(self, rows: Tensor) -> Tensor:
        if self.dtype == torch.float32:
            z = torch.addmm(self.biases[0], rows, self.first.t())
        else:
            z = torch.mm(rows.to(self.dtype), self.first.to(self.dtype).t()).float().add_(self.biases[0])
        return z.view(rows.shape[0], self.shape.members, -1).transpose(0, 1)  # (b, m * h) -> (m, b, h)


class LayerNorm:
    """Layer normalisation of one hidden layer, with a scale and a shift (members, 1, width) a member."""

    def __init__(self, members: int, width: int, device: torch.device) -> None:
        self.scale = torch.ones(members, 1, width, device=device)
        self.shift = torch.zeros(members, 1, width, device=device)

    def forward(self, z: Tensor) -> Tensor:
        """Return `z` (m, b, width) with mean 0 and variance 1 a row, scaled and shifted."""
        self.unit, _, self.inverse = torch.native_layer_norm(z, z.shape[-1:], None, None, NORM_FLOOR)
        return torch.addcmul(self.shift, self.unit, self.scale)

    def backward(self, gradient: Tensor) -> Tensor:
        """Write the gradients of scale and shift, and return that of the last `z`, given the output's."""
        torch.sum(gradient * self.unit, 1, keepdim=True, out=self.scale.grad)
        torch.sum(gradient, 1, keepdim=True, out=self.shift.grad)
        gradient = gradient * self.scale
        along = (gradient * self.unit).mean(-1, keepdim=True)
        return (gradient - gradient.mean(-1, keepdim=True) - self.unit * along) * self.inverse


class Gate:
    """ReLU and dropout of one hidden layer: the factor on a unit's value, and again on its gradient.

    Sixteen random bits decide about a unit, four times cheaper than a float each: the probability holds to within
    2^-17, and the surviving units are scaled by the exact inverse of what is kept. The memory is taken once.
    """

    def __init__(
        self, members: int, batch: int, width: int, *, dropout: float, generator: torch.Generator, device: torch.device
    ) -> None:
        self.generator = generator
        self.kept = 2**16 if dropout == 0 else max(1, round((1 - dropout) * 2**16))
        size = (batch, members, width)
        self.bits = torch.empty((batch * members * width + 3) // 4, dtype=torch.int64, device=device)
        self.draws = self.bits.view(torch.int16)[: batch * members * width].view(size)
        self.open = torch.empty(size, dtype=torch.bool, device=device)
        self.alive = torch.empty(size, dtype=torch.bool, device=device)
        self.factor = torch.empty(size, dtype=torch.float32, device=device)

    def __call__(self, z: Tensor) -> Tensor:
        """Return a tensor shaped as `z` (m, b, width), valid until the next call: 0, or 1 over the share kept."""
        rows = slice(0, z.shape[1])
        value = z.transpose(0, 1)  # (m, b, h) -> (b, m, h), as the memory lies
        alive, factor = self.alive[rows], self.factor[rows]
        torch.gt(value, 0, out=alive)
        if self.kept < 2**16:
            self.bits.random_(-(2**63), None, generator=self.generator)  # all 64 bits
            alive.logical_and_(torch.lt(self.draws[rows], self.kept - 2**15, out=self.open[rows]))
        torch.mul(alive, 2**16 / self.kept, out=factor)
        return factor.transpose(0, 1)


def _uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator, device: torch.device) -> Tensor:
    drawn = torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
    return drawn.to(device)
