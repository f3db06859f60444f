"""Graphs of ONNX, written: enough to state a network anew for onnxruntime without the package `onnx`.

The layout is that of `onnx.proto` (onnx/onnx, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .onnx_file import encoded

Shape = Sequence[int | str]

_IR_VERSION, _OPSET = 7, 13
_FLOAT32 = 1
ELEMENTS = {"float32": _FLOAT32, "uint8": 2}
"""TensorProto.DataType by name."""


class Graph:
    """A graph of one output in the making: nodes in the order of computation, each named by what it gives."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []

    def add(self, operator: str, *inputs: str | NDArray[Any], **attributes: int | str | Sequence[int]) -> str:
        """Put a node at the end.

        Parameters
        ----------
        operator : str
            Of opset 13, with one output.
        *inputs : str or ndarray
            Names that `add` gave, or of the graph's input; arrays become float32 weights.
        **attributes : int, str or sequence of int

        Returns
        -------
        str
            The name of its output.
        """
        names = [one if isinstance(one, str) else self._kept(one) for one in inputs]
        given = f"{operator}_{len(self._nodes)}"
        said = [encoded(5, _attribute(name, value)) for name, value in attributes.items()]
        fields = [*(encoded(1, name) for name in names), encoded(2, given), encoded(4, operator), *said]
        self._nodes.append(encoded(1, b"".join(fields)))
        return given

    def model(self, takes: str, element: str, shape: Shape, gives: str, given_shape: Shape) -> bytes:
        """The whole file.

        Parameters
        ----------
        takes, gives : str
            Names of the input, and of the node whose output is wanted, which is float32.
        element : str
            One of `ELEMENTS`, of the input.
        shape, given_shape : sequence of int or str
            Of the input and of the output; a text names a size that may be any.
        """
        taken, given = _value(takes, ELEMENTS[element], shape), _value(gives, _FLOAT32, given_shape)
        graph = [*self._nodes, encoded(2, "graph"), *self._tensors, encoded(11, taken), encoded(12, given)]
        return encoded(1, _IR_VERSION) + encoded(7, b"".join(graph)) + encoded(8, encoded(1, "") + encoded(2, _OPSET))

    def _kept(self, array: NDArray[Any]) -> str:
        name = f"weight_{len(self._tensors)}"
        dims = b"".join(encoded(1, side) for side in array.shape)
        values = np.ascontiguousarray(array, "<f4").tobytes()
        self._tensors.append(encoded(5, dims + encoded(2, _FLOAT32) + encoded(8, name) + encoded(9, values)))
        return name


def _value(name: str, element: int, shape: Shape) -> bytes:
    sides = b"".join(encoded(1, encoded(1 if isinstance(side, int) else 2, side)) for side in shape)
    return encoded(1, name) + encoded(2, encoded(1, encoded(1, element) + encoded(2, sides)))


def _attribute(name: str, value: int | str | Sequence[int]) -> bytes:
    """Name, value, and which of them it is (AttributeProto.AttributeType)."""
    if isinstance(value, int):
        said = encoded(3, value) + encoded(20, 2)
    elif isinstance(value, str):
        said = encoded(4, value) + encoded(20, 3)
    else:
        said = b"".join(encoded(8, one) for one in value) + encoded(20, 7)
    return encoded(1, name) + said
