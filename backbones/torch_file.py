"""PyTorch's two file formats, read without torch.load: the zip archive (since 1.6) and the stream of pickles before it.

Every size a file claims is checked against the bytes it has before memory is taken for it.
"""

from __future__ import annotations

import io
import pickletools
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from backbones.errors import CheckpointError
from backbones.unpickle import Dtype, Storage, Unpickled, unpickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a file that PyTorch before 1.6 wrote."""


def read_zip(path: Path) -> Unpickled:
    """Read a checkpoint in PyTorch's zip format."""
    stubs: list[str] = []
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(pickles) != 1:
            raise CheckpointError(f"a zip archive without one data.pkl is no PyTorch checkpoint: {path}")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise CheckpointError(f"the archive is compressed, which PyTorch never does: {path}")
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise CheckpointError(f"the archive's parts are larger than the file: {path}")
        root = pickles[0].removesuffix("data.pkl")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        if order.decode(errors="replace") != sys.byteorder:
            raise CheckpointError(f"the numbers are stored in another byte order ({order!r}): {path}")
        known: dict[str, Storage] = {}

        def storage(pid: Any) -> Storage:
            dtype, key, count = described(pid)
            if key not in known:
                flat = torch.frombuffer(bytearray(archive.read(f"{root}data/{key}")) or bytearray(16), dtype=dtype)
                if flat.numel() < count:
                    raise CheckpointError(f"storage {key!r} holds {flat.numel()} of {count} elements: {path}")
                known[key] = Storage(flat)
            return same_dtype(known[key], dtype)

        return Unpickled(unpickle(archive.read(pickles[0]), storage, stubs), stubs)


def read_legacy(path: Path) -> Unpickled:
    """Read a checkpoint of PyTorch before 1.6: five pickles, then the storages' bytes in the order of their keys."""
    data = path.read_bytes()
    stream = io.BytesIO(data)
    stubs: list[str] = []
    known: dict[str, Storage] = {}
    claimed = 0

    def nothing(_: object) -> Storage:
        raise CheckpointError(f"a storage is named before the content begins: {path}")

    def storage(pid: Any) -> Storage:
        nonlocal claimed
        dtype, key, count = described(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise CheckpointError(f"storages that are views of others are not read; save it again: {path}")
        if key not in known:
            claimed += count * dtype.itemsize
            if claimed > len(data):
                raise CheckpointError(f"the storages are larger than the file: {path}")
            known[key] = Storage(torch.zeros(count, dtype=dtype))
        return same_dtype(known[key], dtype)

    def part(reader: Callable[[Any], Storage]) -> Any:
        start = stream.tell()
        stream.seek(start + pickle_length(data, start))
        return unpickle(data[start : stream.tell()], reader, stubs)

    if part(nothing) != LEGACY_MAGIC:
        raise CheckpointError(f"the file is a pickle, but no PyTorch checkpoint: {path}")
    part(nothing)  # protocol version
    machine = part(nothing)
    if not isinstance(machine, dict) or machine.get("little_endian") is not (sys.byteorder == "little"):
        raise CheckpointError(f"the numbers are stored in another byte order: {path}")
    content, keys = part(storage), part(nothing)
    if not isinstance(keys, list):
        raise CheckpointError(f"the list of storages is missing: {path}")
    for key in keys:
        if not isinstance(key, str) or key not in known:
            raise CheckpointError(f"bytes of a storage that nothing uses: {path}")
        flat = known[key].flat
        count = int.from_bytes(stream.read(8), "little")
        body = bytearray(stream.read(flat.numel() * flat.dtype.itemsize))
        if count != flat.numel() or len(body) != flat.numel() * flat.dtype.itemsize:
            raise CheckpointError(f"the file is cut short within storage {key!r}: {path}")
        if body:
            flat.copy_(torch.frombuffer(body, dtype=flat.dtype))
    return Unpickled(content, stubs)


def described(pid: Any) -> tuple[torch.dtype, str, int]:
    """Read a storage's description: ("storage", type, key, device, count)."""
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
        raise CheckpointError("the file refers to something that is no storage")
    kind, key, count = pid[1], pid[2], pid[4]
    if not isinstance(kind, Dtype):
        raise CheckpointError("a storage has an element type that is not read; save it again as safetensors")
    if not (isinstance(key, str) and isinstance(count, int) and count >= 0):
        raise CheckpointError("a storage is not described by a key and a count")
    return kind.dtype, key, count


def same_dtype(storage: Storage, dtype: torch.dtype) -> Storage:
    """Refuse a storage that is read as two element types, rather than misread one of them."""
    if storage.flat.dtype != dtype:
        raise CheckpointError("two tensors read the same bytes as different element types; save it as safetensors")
    return storage


def pickle_length(data: bytes, start: int) -> int:
    """Return how many bytes the pickle that begins at `start` takes, without executing it."""
    stream = io.BytesIO(data)
    stream.seek(start)
    try:
        for _ in pickletools.genops(stream):  # ends after STOP
            pass
    except Exception as error:  # a boundary: what lies here need not be a pickle
        raise CheckpointError(f"the pickle is damaged or cut short: {error}") from None
    return stream.tell() - start
