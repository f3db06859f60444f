"""Reading PyTorch's pickle files without running anything that is in them.

A pickle is a program: it names classes and functions and calls them. Here every name it can utter resolves to an
object of this module that does nothing, except the handful from which tensors are rebuilt. No class or function of
any other module is ever looked up, imported or called; what a file calls beyond tensors and containers becomes an
inert `Stub`, and the names are reported.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from backbones.errors import CheckpointError

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "BYTEARRAY8"}
"""The registry of other people's classes, and what no checkpoint needs but can claim memory with."""

MAX_PICKLE_BYTES = 256 << 20
"""Pickles hold names and shapes; the numbers lie beside them."""


@dataclass
class Unpickled:
    """What a file held: containers, numbers, strings, tensors and stubs."""

    content: Any
    stubs: list[str] = field(default_factory=list)
    """Names that the file wanted to call and that were not called."""


class Stub:
    """What a call into foreign code becomes: takes any arguments, any state, any item, and does nothing."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Stub:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...
    def __setstate__(self, _: object) -> None: ...
    def __setitem__(self, _: object, __: object) -> None: ...
    def append(self, _: object) -> None: ...
    def extend(self, _: object) -> None: ...
    def add(self, _: object) -> None: ...
    def __call__(self, *_: object, **__: object) -> Stub:
        return self


class Mapped(dict[Any, Any]):
    """An OrderedDict of the file, without the attributes the file would set on it."""

    def __setstate__(self, _: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Dtype:
    """A storage class of the file, as the element type it stands for."""

    dtype: torch.dtype

    def __setstate__(self, _: object) -> None: ...


@dataclass(slots=True)
class Storage:
    """Raw elements of one storage; filled in when their bytes have been read."""

    flat: Tensor

    def __setstate__(self, _: object) -> None: ...


@dataclass(slots=True)
class TensorRecord:
    """A tensor of the file, not yet a tensor: nothing the pickle does to it reaches PyTorch."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, _: object) -> None: ...

    def tensor(self) -> Tensor:
        """Build the tensor, checked against the bounds of its storage."""
        numbers = (self.offset, *self.shape, *self.stride)
        if not all(isinstance(number, int) and 0 <= number < 2**62 for number in numbers):
            raise CheckpointError("a tensor has a shape that is no list of sizes")
        if len(self.shape) != len(self.stride):
            raise CheckpointError(f"a tensor has {len(self.shape)} sizes and {len(self.stride)} strides")
        count, held = math.prod(self.shape), self.storage.flat.numel()
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        if count and (last >= held or count > held):
            raise CheckpointError(f"a tensor of shape {self.shape} reaches beyond its {held} elements")
        try:
            return self.storage.flat.as_strided(self.shape, self.stride, self.offset)
        except RuntimeError as error:
            raise CheckpointError(f"a tensor cannot be rebuilt: {error}") from None


class Rebuild:
    """``torch._utils._rebuild_tensor`` and ``_rebuild_tensor_v2``, as records."""

    __slots__ = ()

    def __call__(self, storage: object, offset: object, shape: object, stride: object, *_: object) -> TensorRecord:
        if not (isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(stride, tuple)):
            raise CheckpointError("a tensor is not described by a storage, a shape and strides")
        if not isinstance(offset, int):
            raise CheckpointError("a tensor's offset is no integer")
        return TensorRecord(storage, offset, shape, stride)

    def __setstate__(self, _: object) -> None: ...


class RebuildParameter:
    """``torch._utils._rebuild_parameter``: a parameter is the tensor in it."""

    __slots__ = ()

    def __call__(self, data: object, *_: object) -> object:
        return data

    def __setstate__(self, _: object) -> None: ...


class TensorUnpickler(pickle.Unpickler):
    """An unpickler whose whole world is this module."""

    def __init__(self, file: io.BytesIO, storage: Callable[[Any], Storage], stubs: list[str]) -> None:
        super().__init__(file, encoding="utf-8")
        self.storage = storage
        self.stubs = stubs

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name to an object of this module; never import, never look up."""
        if (module, name) == ("collections", "OrderedDict"):
            return Mapped
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return Rebuild()
        if module == "torch._utils" and name == "_rebuild_parameter":
            return RebuildParameter()
        if module in ("torch", "torch.cuda") and name in DTYPES:
            return Dtype(DTYPES[name])
        full = f"{module}.{name}"
        if full not in self.stubs:
            self.stubs.append(full)
        return Stub

    def persistent_load(self, pid: Any) -> Storage:
        """Hand out a storage; the only persistent thing a checkpoint has."""
        return self.storage(pid)


def unpickle(data: bytes, storage: Callable[[Any], Storage], stubs: list[str]) -> Any:
    """Check a pickle's opcodes without executing them, then execute it in the empty world of `TensorUnpickler`."""
    if len(data) > MAX_PICKLE_BYTES:
        raise CheckpointError(f"the pickle takes {len(data):,} bytes, more than {MAX_PICKLE_BYTES:,}")
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if opcode.name in REFUSED_OPCODES:
                raise CheckpointError(f"the pickle uses {opcode.name}, which no checkpoint needs")
            if opcode.name.endswith("PUT") and isinstance(argument, int) and argument > count:
                raise CheckpointError("the pickle claims memory that it does not use")
        return TensorUnpickler(io.BytesIO(data), storage, stubs).load()
    except CheckpointError:
        raise
    except Exception as error:  # a boundary: a hostile or damaged pickle raises nearly anything
        raise CheckpointError(f"the pickle is damaged: {type(error).__name__}: {error}") from None
