"""An ONNX file, whole: its graph with the weights that lie in further files beside it, read once and identified.

Exporters put large weights (PyTorch's newer one: all weights) into a file beside the model, which the graph names. Left
to onnxruntime, such a file is looked for in the working directory, and is read again after anything was digested. Here
it is read from beside the model alone, and its bytes are put into the graph: what was digested is what computes.

The layout of the file is that of `onnx.proto` (onnx/onnx, Apache-2.0), of which a reader of external data needs to know
only where tensors can stand; protobuf's encoding is described at https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = (1 << 31) - (1 << 20)
"""A protobuf message ends at 2 GiB: above this, large weights are handed to onnxruntime beside the graph."""

LARGE_BYTES = 1 << 20
"""What may be handed over beside the graph: smaller tensors (shapes, axes) are needed while the graph is read."""

_MOST_DEEP = 100  # messages within messages; protobuf's own readers stop there too

# Message -> its fields that hold messages in which a tensor can stand (onnx.proto, IR version 13).
_HOLDERS: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
}
_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 4, 8, 9, 13, 14  # fields of a tensor

_HALF = {10, 16}  # TensorProto.DataType of float16 and bfloat16

# TensorProto.DataType -> bits an element, as raw bytes hold it; text (8) has no raw bytes.
_BITS = {
    **dict.fromkeys((21, 22, 23), 4), **dict.fromkeys((25, 26), 2), **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16), **dict.fromkeys((1, 6, 12), 32), **dict.fromkeys((7, 11, 13, 14), 64), 15: 128,
}  # fmt: skip
_NUMPY = {1: "f4", 2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 10: "f2", 11: "f8", 12: "u4", 13: "u8"}


class OnnxFileError(ValueError):
    """A file that is no ONNX model, or names data that is not beside it."""


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """A model with all its weights."""

    path: Path
    content: bytes
    """The graph as onnxruntime takes it; it names no other file."""
    beside: dict[str, NDArray[Any]]
    """Weights too large for that, by name; empty where all fit."""
    digest: str
    """sha256 of the file; where it names others, of it and of them, in the order in which it does."""
    data_files: tuple[str, ...]
    """The others, as the graph names them."""

    @property
    def has_half_floats(self) -> bool:
        """Whether some of its weights are float16 or bfloat16."""
        beside = any(array.dtype == np.float16 for array in self.beside.values())
        return beside or bool(_types(memoryview(self.content), "Model") & _HALF)


def read_onnx(path: Path) -> OnnxFile:
    """Read a model and the data files it names, all of them from the model's own folder.

    Raises
    ------
    OnnxFileError
        If it is no ONNX model, or names data that is not beside it, or not all there.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OnnxFileError(f"the ONNX file cannot be read ({error.strerror or error}): {path}") from None
    if path.suffix.lower() == ".ort" or content[4:8] == b"ORTM":
        raise OnnxFileError(
            f"the file is in onnxruntime's own format (.ort), made for one machine and version: {path}\n"
            "  give the .onnx file that it was made from"
        )
    if content.startswith(b"version https://git-lfs"):
        raise OnnxFileError(f"the file is a Git LFS pointer, not the model; fetch it with 'git lfs pull': {path}")
    try:
        return _whole(path, content)
    except _DamagedError as error:
        raise OnnxFileError(f"the ONNX file cannot be opened ({error}): {path}") from None


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a graph takes, gives, and holds within, as far as the file says it."""

    inputs: tuple[tuple[str, str], ...]
    """Name and shape of each, ``(b, 3, 112, 112)``; initializers are none."""
    outputs: tuple[tuple[str, str], ...]
    inner: tuple[tuple[str, str], ...]
    """Name of each tensor within, in the order of computation, and the operator that gives it."""
    tensors: int
    """How many weights it holds."""
    numbers: int
    """How many numbers those have."""


def outline(content: bytes) -> Outline:
    """Read the outermost graph of a model.

    Raises
    ------
    OnnxFileError
        If it has none.
    """
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    inner: dict[str, str] = {}
    held: dict[str, int] = {}
    try:
        graphs = [value for number, value in _messages(memoryview(content)) if number == _GRAPH]
        for number, value in (field for graph in graphs for field in _messages(graph)):
            if number == 1:
                said = list(_messages(value))
                inner |= {_text(name): _text(kind) for n, name in said if n == 2 for k, kind in said if k == 4}
            elif number == 5:
                dims = [
                    d
                    for n, v, _, _ in _fields(value)
                    if n == _DIMS
                    for d in ([v] if isinstance(v, int) else _varints(v))
                ]
                held[next((_text(v) for n, v in _messages(value) if n == _NAME), "")] = math.prod(dims)
            elif number in (11, 12):
                name, shape = _declared(value)
                (inputs if number == 11 else outputs)[name] = shape
    except _DamagedError as error:
        raise OnnxFileError(f"the ONNX file cannot be opened ({error})") from None
    if not graphs:
        raise OnnxFileError("the ONNX file has no graph")
    return Outline(
        inputs=tuple((name, shape) for name, shape in inputs.items() if name not in held),
        outputs=tuple(outputs.items()),
        inner=tuple((name, kind) for name, kind in inner.items() if name and name not in outputs),
        tensors=len(held),
        numbers=sum(held.values()),
    )


def with_output(content: bytes, name: str) -> bytes:
    """Have a model give out a tensor that stands within it, of whatever type and shape that is.

    A field that holds a message may stand in a file twice, and both are one message then: the output is put at the end.
    """
    return content + encoded(_GRAPH, encoded(12, encoded(1, name)))


_GRAPH = 7


def float_weights(content: bytes) -> dict[str, NDArray[np.float32]]:
    """The float32 weights of the outermost graph, by name.

    Raises
    ------
    OnnxFileError
        If one has not as many numbers as its shape says.
    """
    found = {}
    try:
        tensors = (tensor for n, graph in _messages(memoryview(content)) if n == _GRAPH for tensor in _messages(graph))
        for number, tensor in tensors:
            said: dict[int, list[int | memoryview]] = {}
            for field, value, _, _ in _fields(tensor) if number == 5 else ():
                said.setdefault(field, []).append(value)
            if said.get(_TYPE) != [1]:
                continue
            dims = [d for v in said.get(_DIMS, []) for d in ([v] if isinstance(v, int) else _varints(v))]
            (name,) = (_text(v) for v in said[_NAME] if isinstance(v, memoryview))
            numbers = b"".join(v for v in said.get(_RAW, said.get(_FLOATS, [])) if isinstance(v, memoryview))
            if len(numbers) != 4 * math.prod(dims):
                raise _DamagedError(f"tensor {name!r} has {len(numbers):,} bytes, expected {4 * math.prod(dims):,}")
            found[name] = np.frombuffer(numbers, "<f4").astype(np.float32).reshape(dims)
    except (_DamagedError, KeyError, ValueError) as error:
        raise OnnxFileError(f"the weights of the ONNX file cannot be read ({error})") from None
    return found


def encoded(number: int, value: int | str | bytes) -> bytes:
    """A field of a message as it stands in a file: a number from 0, a text, or bytes (a message in it among them)."""
    if isinstance(value, int):
        return _varint_bytes(number << 3) + _varint_bytes(value)
    content = value.encode() if isinstance(value, str) else value
    return _header(number, len(content)) + content


def _declared(value: memoryview) -> tuple[str, str]:
    """Name and shape of a value that a graph takes or gives."""
    name, sizes = "", []
    for number, field in _messages(value):
        if number == 1:
            name = _text(field)
        elif number == 2:
            for _, tensor in _messages(field):
                for _, shape in ((n, v) for n, v in _messages(tensor) if n == 2):
                    for _, size in _messages(shape):
                        known = next((v for n, v, _, _ in _fields(size) if n in (1, 2)), "?")
                        sizes.append(_text(known) if isinstance(known, memoryview) else str(known))
    return name, f"({', '.join(sizes)})"


def _messages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the fields of a message that hold bytes."""
    for number, value, _, _ in _fields(message):
        if isinstance(value, memoryview):
            yield number, value


class _DamagedError(ValueError):
    """Bytes that are no message."""


@dataclass(frozen=True, kw_only=True)
class _External:
    """One tensor that lies in another file."""

    name: str
    kept: tuple[memoryview, ...]
    """Its own fields, without those that say where it lies."""
    kind: int
    dims: tuple[int, ...]
    location: str
    start: int
    length: int
    top: bool
    """Whether it is an initializer of the outermost graph, which onnxruntime takes by name."""

    @property
    def may_stand_beside(self) -> bool:
        return self.top and self.length >= LARGE_BYTES and self.kind in _NUMPY


@dataclass(frozen=True, kw_only=True)
class _Data:
    """A data file, as far as the graph uses it, and the digest of all of it."""

    used: memoryview
    digest: bytes


def _whole(path: Path, content: bytes) -> OnnxFile:
    found: list[_External] = []
    _rewritten(memoryview(content), "Model", found.append, path)
    own = hashlib.sha256(content)
    if not found:
        return OnnxFile(path=path, content=content, beside={}, digest=own.hexdigest(), data_files=())
    ends: dict[str, int] = {}
    for one in found:
        ends[one.location] = max(ends.get(one.location, 0), one.start + one.length)
    files = {location: _read(path, location, end) for location, end in ends.items()}
    total = hashlib.sha256(b"onnx with data files\0" + own.digest())
    for location, data in files.items():
        total.update(hashlib.sha256(location.encode()).digest() + data.digest)
    apart = len(content) + sum(one.length for one in found) > MOST_BYTES
    within = len(content) + sum(one.length for one in found if not (apart and one.may_stand_beside))
    if within > MOST_BYTES:
        raise OnnxFileError(
            f"the model holds {within:,} bytes that must stand in its graph, at most {MOST_BYTES:,}: {path}"
        )
    beside: dict[str, NDArray[Any]] = {}

    def replaced(one: _External) -> list[memoryview | bytes] | None:
        values = files[one.location].used[one.start : one.start + one.length]
        if apart and one.may_stand_beside:
            beside[one.name] = np.frombuffer(values, f"<{_NUMPY[one.kind]}").reshape(one.dims)
            return None
        return [*one.kept, _header(_RAW, one.length), values]

    chunks = _rewritten(memoryview(content), "Model", replaced, path)
    return OnnxFile(
        path=path,
        content=b"".join(chunks) if chunks is not None else content,
        beside=beside,
        digest=total.hexdigest(),
        data_files=tuple(files),
    )


def _rewritten(
    message: memoryview,
    kind: str,
    replace: Callable[[_External], list[memoryview | bytes] | None],
    path: Path,
    *,
    deep: int = 0,
    top: bool = False,
) -> list[memoryview | bytes] | None:
    """Give a message's bytes with its external tensors replaced, in pieces; None where nothing changes."""
    if kind == "Tensor":
        external = _external(message, path, top)
        return None if external is None else replace(external)
    if deep > _MOST_DEEP:
        raise _DamagedError(f"its messages are nested more than {_MOST_DEEP} deep")
    pieces: list[memoryview | bytes] = []
    changed, unchanged_from = False, 0
    for number, value, start, end in _fields(message):
        inner = _HOLDERS[kind].get(number)
        if inner is None or not isinstance(value, memoryview):
            continue
        outermost = kind == "Model" if inner == "Graph" else top and kind == "Graph" and number == 5
        found = _rewritten(value, inner, replace, path, deep=deep + 1, top=outermost)
        if found is not None:
            changed = True
            pieces += [message[unchanged_from:start], _header(number, sum(map(len, found))), *found]
            unchanged_from = end
    return [*pieces, message[unchanged_from:]] if changed else None


def _types(message: memoryview, kind: str) -> set[int]:
    """Element types of all tensors in a message that was read before."""
    if kind == "Tensor":
        return {value for number, value, _, _ in _fields(message) if number == _TYPE and isinstance(value, int)}
    inner = ((_HOLDERS[kind].get(number), value) for number, value, _, _ in _fields(message))
    return {each for name, part in inner if name and isinstance(part, memoryview) for each in _types(part, name)}


def _external(tensor: memoryview, path: Path, top: bool) -> _External | None:
    """Read where a tensor lies, if it does not lie in the graph.

    Of a field that is there twice the last counts, as for protobuf.
    """
    dims: list[int] = []
    kept: list[memoryview] = []
    where: dict[str, str] = {}
    kind, name, outside = 0, "", False
    for number, value, start, end in _fields(tensor):
        if number == _LOCATION and isinstance(value, int):
            outside = value & 0xFFFFFFFF == 1  # an enum is read as 32 bits
        elif number == _EXTERNAL and isinstance(value, memoryview):
            entry = {n: _text(v) for n, v, _, _ in _fields(value) if isinstance(v, memoryview)}
            where[entry.get(1, "")] = entry.get(2, "")
        elif number != _RAW:
            kept.append(tensor[start:end])
        if number == _DIMS:
            dims += [value] if isinstance(value, int) else _varints(value)
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME and isinstance(value, memoryview):
            name = _text(value)
    if not outside:
        return None
    called = f"tensor {name!r} of {path}"
    if kind not in _BITS:
        raise OnnxFileError(f"{called} is of type {kind}, whose values cannot lie in another file")
    if any(size >= 1 << 63 for size in dims):
        raise OnnxFileError(f"{called} has a negative size: {dims}")
    length = -(-math.prod(dims) * _BITS[kind] // 8)
    start, said = (
        _number(where.get(key, str(default)), key, called) for key, default in (("offset", 0), ("length", length))
    )
    if said != length:
        raise OnnxFileError(
            f"{called} of {tuple(dims)} values takes {length:,} bytes, however its data is {said:,} long"
        )
    return _External(
        name=name, kept=tuple(kept), kind=kind, dims=tuple(dims), location=where.get("location", ""), start=start,
        length=length, top=top,
    )  # fmt: skip


def _number(text: str, key: str, called: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise OnnxFileError(f"{called} has the {key} {text!r} in its data file, expected a number from 0")
    return int(text)


def _read(model: Path, location: str, end: int) -> _Data:
    """Read a data file once: its first `end` bytes are kept, all are digested."""
    file = _beside(model, location)
    try:
        with file.open("rb") as opened:
            used = opened.read(end)
            digest = hashlib.sha256(used)
            while more := opened.read(1 << 20):
                digest.update(more)
    except OSError as error:
        raise OnnxFileError(f"the model's data cannot be read ({error.strerror or error}): {file}") from None
    if len(used) < end:
        raise OnnxFileError(
            f"the model's data file is too short: {len(used):,} bytes, expected at least {end:,}: {file}\n"
            f"  it belongs to {model.name}: copy or export both again"
        )
    return _Data(used=memoryview(used), digest=digest.digest())


def _beside(model: Path, location: str) -> Path:
    """Find a data file in the model's folder or below it; a model that is a link has its own folder too."""
    why = None
    windows = PureWindowsPath(location)
    if not location or "\0" in location:
        why = "names no file"
    elif "_ORT_MEM_ADDR_" in location:
        why = "is a place in some program's memory, no file"
    elif location.startswith("/") or windows.drive or windows.root:
        why = "is an absolute path"
    elif ".." in windows.parts:  # which splits at both kinds of slashes
        why = "leaves the model's folder"
    folders = dict.fromkeys((model.parent, model.resolve().parent))
    if why is None:
        there = next((file for folder in folders if (file := folder / location).is_file()), None)
        if there is None:
            raise OnnxFileError(
                f"the model's data file is missing: {model.parent / location}\n"
                f"  {model.name} keeps its weights in {location!r}: put that file where it is expected"
            )
        real = there.resolve()
        if any(real.is_relative_to(folder.resolve()) for folder in folders):
            return real
        why = f"is a link to {real}, outside the model's folder"
    raise OnnxFileError(
        f"the model keeps weights in {location!r}, which {why}: {model}\n"
        "  a model's data is read from beside it alone: put both into one folder, or export the model into one file"
    )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview, int, int]]:
    """Yield each field of a message: number, value (an int, or the bytes), and where it begins and ends."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview
        if wire == 0:
            value, at = _varint(message, at)
        elif wire in (1, 2, 5):
            size, at = _varint(message, at) if wire == 2 else (8 if wire == 1 else 4, at)
            value, at = message[at : at + size], at + size
        else:
            raise _DamagedError("it is damaged, or no ONNX model")
        if at > len(message) or not number:
            raise _DamagedError("it is damaged, cut short, or no ONNX model")
        yield number, value, start, at


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise _DamagedError("it is damaged, cut short, or no ONNX model")


def _varints(message: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(message):
        value, at = _varint(message, at)
        found.append(value)
    return found


def _header(number: int, length: int) -> bytes:
    """Encode what stands before a field of `length` bytes."""
    return _varint_bytes(number << 3 | 2) + _varint_bytes(length)


def _varint_bytes(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "backslashreplace")
