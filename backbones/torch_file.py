"""PyTorch's two file formats, read without torch.load: the zip archive (since 1.6) and the stream of pickles before it.

Every size a file claims is checked against the bytes it has before memory is taken for it.
"""

from __future__ import annotations

import mmap
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cer_fusion.backbones.errors import CheckpointError
from cer_fusion.backbones.unpickle import MAX_PICKLE_BYTES, Dtype, Storage, Unpickled, opcodes, unpickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a file that PyTorch before 1.6 wrote."""

MAX_DIRECTORY = 8 << 20
"""Bytes of an archive's directory, a hundred thousand storages: ten times as much memory is taken to read it."""

_ENDS = 1 << 17
"""Where the end of an archive is looked for: it may be followed by 64 KiB of comment, and preceded by a longer form."""


def read_zip(path: Path) -> Unpickled:
    """Read a checkpoint in PyTorch's zip format."""
    stubs: dict[str, None] = {}
    check_directory(path)
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
                held = _whole(archive, archive.getinfo(f"{root}data/{key}"))
                flat = torch.frombuffer(held or bytearray(16), dtype=dtype)
                if flat.numel() < count:
                    raise CheckpointError(f"storage {key!r} holds {flat.numel()} of {count} elements: {path}")
                known[key] = Storage(flat)
            return same_dtype(known[key], dtype)

        return Unpickled(unpickle(archive.read(pickles[0]), storage, stubs), list(stubs))


def check_directory(path: Path) -> None:
    """Refuse a zip archive whose directory would take much memory to read, before anybody reads it.

    Every place that looks like the end of an archive counts, in both its forms: readers differ in which they believe.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _ENDS))
        tail = file.read()
        at = tail.find(b"PK\x05\x06")
        while at >= 0:
            claimed = [int.from_bytes(tail[at + 12 : at + 16], "little")]
            if tail[at - 20 : at - 16] == b"PK\x06\x07":
                file.seek(min(size, int.from_bytes(tail[at - 12 : at - 4], "little")))
                claimed.append(int.from_bytes(file.read(56)[40:48], "little"))
            if any(MAX_DIRECTORY < each <= size for each in claimed):  # what exceeds the file is no directory
                raise CheckpointError(f"the archive lists more parts than any checkpoint has: {path}")
            at = tail.find(b"PK\x05\x06", at + 1)


def _whole(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytearray:
    """Bytes of one member, in memory once."""
    held = bytearray(entry.file_size)
    with archive.open(entry) as file, memoryview(held) as view:
        at = 0
        while at < len(held):
            piece = file.read(1 << 24)
            if not piece:
                raise CheckpointError(f"the archive ends within its part {entry.filename}: {archive.filename}")
            view[at : at + len(piece)] = piece
            at += len(piece)
    return held


def read_legacy(path: Path) -> Unpickled:
    """Read a checkpoint of PyTorch before 1.6: five pickles, then the storages' bytes in the order of their keys."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        return _read_legacy(path, stream)


def _read_legacy(path: Path, stream: mmap.mmap) -> Unpickled:
    stubs: dict[str, None] = {}
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
            if claimed > len(stream):
                raise CheckpointError(f"the storages are larger than the file: {path}")
            known[key] = Storage(torch.zeros(count, dtype=dtype))
        return same_dtype(known[key], dtype)

    def part(reader: Callable[[Any], Storage]) -> Any:
        start = stream.tell()
        for _ in opcodes(stream):
            if stream.tell() - start > MAX_PICKLE_BYTES:
                break  # which `unpickle` says
        return unpickle(stream[start : stream.tell()], reader, stubs)

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
    return Unpickled(content, list(stubs))


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
