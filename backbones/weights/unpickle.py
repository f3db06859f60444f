"""Reading PyTorch's pickle files without running anything that is in them.

A pickle is a program: it names classes and functions and calls them. Here every name it can utter resolves to an
object of this module that does nothing, except the handful from which tensors are rebuilt. No class or function of
any other module is ever looked up, imported or called; what a file calls beyond tensors and containers becomes an
inert `Stub`, and the names are reported.
"""

from __future__ import annotations

import io
import itertools
import math
import mmap
import pickle
import pickletools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import torch
from torch import Tensor

from ..errors import CheckpointError

STORAGES = {
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
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
    "QInt8Storage": torch.int8,  # of tensors that are then refused by name
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
}
"""Classes of storages -> their element type; an untyped one holds bytes, and its tensors say what those mean."""

DTYPES = {
    name: dtype for name in sorted(dir(torch)) if isinstance(dtype := getattr(torch, name), torch.dtype)
}  # fmt: skip
"""Element types by every name that PyTorch has for them."""

NO_ARRAYS = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_qtensor": "quantized",
    "_rebuild_meta_tensor_no_storage": "without values",
}
"""Functions that make tensors which are no arrays of numbers -> what such a tensor is."""

HARMLESS = {("torch", "Size"), ("torch", "device"), ("torch.serialization", "_get_layout")}
"""What PyTorch's own files name beside tensors; not worth telling, and not called either."""

NUMPY = {"numpy.core.multiarray", "numpy._core.multiarray", "numpy"}
"""Where the parts of a pickled NumPy array have their homes, before and after version 2."""

BUILTINS = ("builtins", "__builtin__")

REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "BYTEARRAY8"}
"""The registry of other people's classes, and what no checkpoint needs but can claim memory with."""

MAX_PICKLE_BYTES = 256 << 20
"""Pickles hold names and shapes; the numbers lie beside them."""

OPCODE_BYTES = 224
"""What one opcode can take: an empty set, and its place on the stack. Most take far less."""

ALLOWED_BYTES = 256 << 20
"""What the objects of a pickle may take, or twice the pickle if that is more: a million opcodes, where the largest
checkpoints have some ten thousand."""

REPEATED = 1 << 24
"""Elements that a tensor may have beyond those that are stored, one stored element standing for many."""


@dataclass
class Unpickled:
    """What a file held: containers, numbers, strings, tensors and stubs."""

    content: Any
    stubs: list[str] = field(default_factory=list)
    """Names that the file wanted to call and that were not called."""


class Stub:
    """What a call into foreign code becomes: takes any arguments, any state, any item, and does nothing.

    What it was given as its attributes it keeps, since a whole network that was pickled has its tensors there; see
    `module_state`.
    """

    __slots__ = ("attributes",)

    attributes: Mapping[Any, Any]

    def __new__(cls, *_: object, **__: object) -> Stub:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...
    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # of a class with slots
            state = state[0]
        if isinstance(state, dict):
            self.attributes = state

    def __setitem__(self, _: object, __: object) -> None: ...
    def append(self, _: object) -> None: ...
    def extend(self, _: object) -> None: ...
    def add(self, _: object) -> None: ...
    def __call__(self, *_: object, **__: object) -> Stub:
        return self


MODULES_DEEP = 64
"""Modules within modules, of which networks have a dozen."""


def module_state(value: object) -> dict[str, object] | None:
    """Name the tensors of a pickled ``torch.nn.Module`` as its ``state_dict`` would; None for anything else.

    Read from what the pickle says of it (``_parameters``, ``_buffers``, ``_modules``), not by making one.
    """
    if not isinstance(value, Stub) or not _holds_parameters(value):
        return None
    found: dict[str, object] = {}
    to_read: list[tuple[str, object, int]] = [("", value, 0)]
    for count in itertools.count():
        if not to_read:
            break
        prefix, module, deep = to_read.pop()
        if not isinstance(module, Stub) or not _holds_parameters(module):
            continue
        if deep > MODULES_DEEP:
            raise CheckpointError(f"its modules are nested more than {MODULES_DEEP} deep")
        said = module.attributes
        passing = said.get("_non_persistent_buffers_set")
        left_out = passing if isinstance(passing, set | list) else ()
        for kind in ("_parameters", "_buffers"):
            held = said.get(kind)
            for name, tensor in held.items() if isinstance(held, Mapping) else ():
                if tensor is not None and isinstance(name, str) and not (kind == "_buffers" and name in left_out):
                    found[prefix + name] = tensor
        inner = said.get("_modules")
        if isinstance(inner, Mapping):
            to_read += [(f"{prefix}{name}.", each, deep + 1) for name, each in reversed(list(inner.items()))]
        if count + len(found) + len(to_read) > MOST_TENSORS:  # a module may hold itself, twice
            raise CheckpointError(f"its modules hold more than {MOST_TENSORS:,} modules and tensors")
    return found


MOST_TENSORS = 1 << 17


def _holds_parameters(stub: Stub) -> bool:
    said = getattr(stub, "attributes", None)
    return (
        isinstance(said, dict) and isinstance(said.get("_parameters"), dict) and isinstance(said.get("_modules"), dict)
    )


class Mapped(dict[Any, Any]):
    """An OrderedDict of the file, without the attributes the file would set on it."""

    def __init__(self, pairs: object = ()) -> None:
        if not isinstance(pairs, list | tuple):  # another dictionary could be copied a million times by one opcode each
            raise CheckpointError("an OrderedDict is made from something that is no list of pairs")
        super().__init__(pairs)
        if isinstance(pairs, list):
            pairs.clear()  # so that what was listed once is held once
        elif pairs:
            raise CheckpointError("an OrderedDict is made from a tuple, which no pickle of one is")

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

    def tensor(self, *, repeated: int = 0) -> Tensor:
        """Build the tensor, checked against the bounds of its storage; so many elements may repeat others."""
        numbers = (self.offset, *self.shape, *self.stride)
        if not all(isinstance(number, int) and 0 <= number < 2**62 for number in numbers):
            raise CheckpointError("a tensor has a shape that is no list of sizes")
        if len(self.shape) != len(self.stride):
            raise CheckpointError(f"a tensor has {len(self.shape)} sizes and {len(self.stride)} strides")
        count, held = math.prod(self.shape), self.storage.flat.numel()
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        if count and (last >= held or count > max(held, repeated)):
            raise CheckpointError(f"a tensor of shape {self.shape} reaches beyond its {held} elements")
        try:
            return self.storage.flat.as_strided(self.shape, self.stride, self.offset)
        except RuntimeError as error:
            raise CheckpointError(f"a tensor cannot be rebuilt: {error}") from None


@dataclass(slots=True)
class NoArray:
    """A tensor of the file that is no array of numbers, and of which no value was made."""

    kind: str

    def __setstate__(self, _: object) -> None: ...


@dataclass(slots=True)
class Text:
    """Bytes that a pickle of protocol 2 spells as text; spelt out once, however often they are used."""

    text: str
    known: Storage | None = None

    def __setstate__(self, _: object) -> None: ...

    def storage(self) -> Storage:
        """The bytes, as a storage."""
        if self.known is None:
            try:
                self.known = stored_bytes(self.text.encode("latin-1"))
            except UnicodeEncodeError:
                raise CheckpointError("the bytes of an array are no bytes") from None
        return self.known


@dataclass(slots=True)
class ArrayDtype:
    """``numpy.dtype`` of the file, of plain numbers: `f4` and the order of its bytes."""

    code: object
    order: object = "="

    def __setstate__(self, state: object) -> None:
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else None


@dataclass(slots=True)
class ArrayRecord:
    """A NumPy array of the file, not yet an array."""

    shape: object = ()
    dtype: object = None
    is_fortran: object = False
    data: object = b""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 5:
            _, self.shape, self.dtype, self.is_fortran, self.data = state

    def tensor(self, *, repeated: int = 0) -> Tensor:
        """Build the tensor of these numbers."""
        kind = self.dtype
        if not isinstance(kind, ArrayDtype) or not isinstance(kind.code, str) or not isinstance(self.shape, tuple):
            raise CheckpointError("a NumPy array is not described by a shape and an element type")
        dtype = ARRAY_DTYPES.get(kind.code)
        if dtype is None or kind.order not in ("=", "|", ORDER):
            raise CheckpointError(f"a NumPy array holds {kind.order}{kind.code}, which is no plain number here")
        if not isinstance(self.data, bytes | Text):
            raise CheckpointError("a NumPy array holds objects")
        held = (self.data if isinstance(self.data, Text) else Text(self.data.decode("latin-1"))).storage()
        if not all(isinstance(size, int) and size >= 0 for size in self.shape):
            raise CheckpointError("a NumPy array has a shape that is no list of sizes")
        if math.prod(self.shape) * dtype.itemsize != held.flat.numel():
            raise CheckpointError(f"a NumPy array of shape {self.shape} has {held.flat.numel()} bytes")
        if not held.flat.numel():
            return torch.empty(self.shape, dtype=dtype)
        flat = held.flat.view(dtype)
        return flat.reshape(self.shape[::-1]).permute(*range(len(self.shape))[::-1]) if self.is_fortran else (
            flat.reshape(self.shape)
        )  # fmt: skip


ORDER = "<" if sys.byteorder == "little" else ">"
ARRAY_DTYPES = {
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "i1": torch.int8, "i2": torch.int16,
    "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8, "b1": torch.bool,
}  # fmt: skip
"""NumPy's codes of the numbers that networks are made of."""


def stored_bytes(data: bytes | bytearray) -> Storage:
    """Bytes as a storage of bytes."""
    return Storage(torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8))


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the file by one of ours, which makes records of its arguments."""

    make: Callable[..., object]

    def __call__(self, *arguments: object) -> object:
        try:
            return self.make(*arguments)
        except TypeError:
            raise CheckpointError("a tensor or an array is made from other things than it has") from None

    def __setstate__(self, _: object) -> None: ...


def rebuilt(storage: object, offset: object, shape: object, stride: object, *more: object) -> TensorRecord:
    """``torch._utils._rebuild_tensor``, ``_rebuild_tensor_v2`` and ``_v3``, which says an element type last."""
    if not (isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(stride, tuple)):
        raise CheckpointError("a tensor is not described by a storage, a shape and strides")
    if not isinstance(offset, int):
        raise CheckpointError("a tensor's offset is no integer")
    if len(more) > 2 and isinstance(more[2], Dtype) and more[2].dtype != storage.flat.dtype:
        if storage.flat.dtype != torch.uint8 or storage.flat.numel() % more[2].dtype.itemsize:
            raise CheckpointError("a tensor reads bytes that are not of its element type")
        storage = Storage(storage.flat.view(more[2].dtype))
    return TensorRecord(storage, offset, shape, stride)


def rebuilt_as(function: object, _: object, arguments: object, *__: object) -> object:
    """``torch._tensor._rebuild_from_type_v2``: a tensor of a subclass is the tensor in it."""
    if not isinstance(function, Function) or not isinstance(arguments, tuple):
        return Stub()
    return function(*arguments)


def first_of(data: object, *_: object) -> object:
    """``torch._utils._rebuild_parameter``: a parameter is the tensor in it."""
    return data


def scalar_of(dtype: object, data: object, *_: object) -> ArrayRecord:
    """``numpy.core.multiarray.scalar``: a number is an array without dimensions."""
    return ArrayRecord((), dtype, False, data)


FUNCTIONS: dict[tuple[str, str], Callable[..., object]] = {
    **{("torch._utils", name): rebuilt for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")},
    **{("torch._utils", name): first_of for name in ("_rebuild_parameter", "_rebuild_parameter_with_state")},
    **{("torch._utils", name): (lambda *_, kind=kind: NoArray(kind)) for name, kind in NO_ARRAYS.items()},
    ("torch._tensor", "_rebuild_from_type_v2"): rebuilt_as,
    ("_codecs", "encode"): lambda text, _: Text(text) if isinstance(text, str) else Stub(),
    **{(home, "set"): (lambda *given: given[0] if given and isinstance(given[0], list) else []) for home in BUILTINS},
    **{(home, "bytes"): (lambda *given: Stub() if given else b"") for home in BUILTINS},
    **{(home, "_reconstruct"): lambda *_: ArrayRecord() for home in NUMPY},
    **{(home, "scalar"): scalar_of for home in NUMPY},
    ("numpy", "dtype"): lambda code, *_: ArrayDtype(code),
}
"""What a file may call, and what of ours is called instead: each makes one small record."""


class TensorUnpickler(pickle.Unpickler):
    """An unpickler whose whole world is this module."""

    def __init__(self, file: io.BytesIO, storage: Callable[[Any], Storage], stubs: dict[str, None]) -> None:
        super().__init__(file, encoding="utf-8")
        self.storage = storage
        self.stubs = stubs

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name to an object of this module; never import, never look up."""
        if (module, name) == ("collections", "OrderedDict"):
            return Mapped
        if (module, name) in FUNCTIONS:
            return Function(FUNCTIONS[module, name])
        if module in ("torch", "torch.cuda", "torch.storage") and name in STORAGES:
            return Dtype(STORAGES[name])
        if module == "torch" and name in DTYPES:
            return Dtype(DTYPES[name])
        if (module, name) not in HARMLESS and (module, name) != ("numpy", "ndarray"):
            self.stubs.setdefault(f"{module}.{name}")
        return Stub

    def persistent_load(self, pid: Any) -> Any:
        """Hand out a storage; before 1.6 PyTorch also put a network's class and the text of its code there."""
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            return Stub
        return self.storage(pid)


def unpickle(data: bytes, storage: Callable[[Any], Storage], stubs: dict[str, None]) -> Any:
    """Check a pickle's opcodes without executing them, then execute it in the empty world of `TensorUnpickler`."""
    if len(data) > MAX_PICKLE_BYTES:
        raise CheckpointError(f"the pickle takes {len(data):,} bytes, more than {MAX_PICKLE_BYTES:,}")
    try:
        taken, allowed = 0, max(ALLOWED_BYTES, 2 * len(data))
        for count, (name, argument) in enumerate(opcodes(io.BytesIO(data))):
            if name in REFUSED_OPCODES:
                raise CheckpointError(f"the pickle uses {name}, which no checkpoint needs")
            if name.endswith("PUT") and _number(name, argument) > count:
                raise CheckpointError("the pickle claims memory that it does not use")
            taken += OPCODE_BYTES + (_widest(argument) if "UNICODE" in name else 1) * len(argument)
            if taken > allowed:
                raise CheckpointError("the pickle makes more objects than any checkpoint has, which would fill memory")
        return TensorUnpickler(io.BytesIO(data), storage, stubs).load()
    except CheckpointError:
        raise
    except Exception as error:  # a boundary: a hostile or damaged pickle raises nearly anything
        raise CheckpointError(f"the pickle is damaged: {type(error).__name__}: {error}") from None


def opcodes(stream: IO[bytes] | mmap.mmap) -> Iterator[tuple[str, bytes]]:
    """Go through the opcodes of one pickle up to its STOP, each with the bytes of its argument, making no object of it.

    Raises
    ------
    CheckpointError
        If the bytes end before the pickle does, or are none.
    """
    while True:
        opcode = _OPCODES.get(stream.read(1).decode("latin-1"))
        if opcode is None:
            raise CheckpointError("the pickle is damaged or cut short")
        kind = opcode.arg.n if opcode.arg is not None else 0
        if kind == pickletools.UP_TO_NEWLINE:
            lines = [stream.readline() for _ in range(2 if opcode.name in ("GLOBAL", "INST") else 1)]
            if not all(line.endswith(b"\n") for line in lines):
                raise CheckpointError("the pickle is damaged or cut short")
            argument = b"".join(lines)
        else:
            length = int.from_bytes(stream.read(_LENGTHS[kind]), "little") if kind < 0 else kind
            argument = stream.read(length) if length <= MAX_PICKLE_BYTES else b""
            if len(argument) != length:
                raise CheckpointError("the pickle is damaged or cut short")
        yield opcode.name, argument
        if opcode.name == "STOP":
            return


_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4, pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}  # fmt: skip
"""How many bytes say how long an argument is."""


def _number(name: str, argument: bytes) -> int:
    """The number of a PUT, which is spelt in digits by the oldest protocol."""
    return int(argument) if name == "PUT" else int.from_bytes(argument, "little")


def _widest(text: bytes) -> int:
    """Bytes that each character of a text takes in memory, all of them as many as the widest one."""
    return 4 if re.search(rb"[\xf0-\xff]", text) else 2 if re.search(rb"[\xc4-\xef]", text) else 1
