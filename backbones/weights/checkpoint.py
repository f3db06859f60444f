"""A checkpoint: a file of weights that somebody else wrote, opened without running any code from it.

Two doors: safetensors, which holds nothing but tensors, and for PyTorch's own two formats (the zip archive since 1.6,
and the stream of pickles before it) the stub unpickler of `cer_fusion.backbones.weights.unpickle`. ``torch.load`` is
none of them, not even with ``weights_only=True``: it runs no code, but takes whatever memory a file asks for. The
content decides which, not the file name: ``.pth.tar`` is no tar archive. Every size a file claims is checked against
the bytes it has before memory is taken for it.
"""

from __future__ import annotations

import logging
import mmap
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, listed
from .unpickle import (
    MAX_PICKLE_BYTES,
    REPEATED,
    ArrayRecord,
    Dtype,
    NoArray,
    Storage,
    Stub,
    TensorRecord,
    Unpickled,
    module_state,
    opcodes,
    unpickle,
)

logger = logging.getLogger(__name__)

State = dict[str, Tensor]

ENTRIES = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "state_dict", "model", "model_state_dict",
    "module", "net", "network", "weights",
)  # fmt: skip
"""Where training scripts put the weights, in order of preference (averaged ones first, as timm does)."""

DEEP = 3
"""How many dictionaries may lie around the tensors."""

NO_WEIGHTS = ("optim", "sched", "scaler", "scheduler", "amp", "rng", "loss", "criterion")
"""How names of entries begin whose tensors are no network's."""

MOST_ENTRIES = 4096
"""Dictionaries that are looked into; of the rest no weights are taken."""

SMALL = 1 / 3
"""An entry with less than this share of the largest one's tensors is no choice beside it."""

MAX_HEADER = 8 << 20
"""Bytes of a safetensors header; the largest models have some hundred thousand."""

MOST_ELEMENTS = 1 << 29
"""Elements that all tensors may have together where a file holds far fewer: repetitions, or windows on one storage."""

PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "trunk.", "net.", "network.")
"""What wrappers put before every name; stripped, one after another, while all names begin with it."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened weights file."""

    path: Path
    """Where it lies."""
    state: State
    """Name -> tensor on the CPU, prefixes stripped."""
    form: str
    """"safetensors", "torch zip" or "torch legacy"."""
    opened_by: str
    """"safetensors" or "stub unpickler"."""
    entry: str | None
    """Key of the file's dictionary that held the weights; None where the file is the dictionary."""
    prefix: str
    """What was stripped from every name."""
    extras: dict[str, str]
    """What lay beside the weights, as text: epoch, scores, ..."""
    stubs: tuple[str, ...]
    """Code that the file names; none of it was run."""
    is_module: bool = False
    """Whether the weights were those of a whole network that was pickled."""
    asked: str | None = None
    """The entry that was asked for, where one was."""
    others: tuple[str, ...] = ()
    """Entries that hold weights too, and could have been asked for."""
    is_open: bool = False
    """Whether nothing tells which of them is meant; only where that was allowed."""


def load_state(path: str | Path) -> State:
    """Read the tensors of a weights file: name -> tensor on the CPU, wrappers' prefixes stripped.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds no dictionary of tensors.
    """
    return open_checkpoint(path).state


def open_checkpoint(path: str | Path, *, entry: str | None = None, may_be_open: bool = False) -> Checkpoint:
    """Open a weights file without running any code from it; see `load_state`.

    Parameters
    ----------
    entry : str, optional
        Which of several dictionaries in it is meant ("teacher", "model.ema"), or what the names of those that are
        meant begin with.
    may_be_open : bool
        Whether the first of several equally likely dictionaries will do, as for describing them.

    Raises
    ------
    CheckpointError
        Also if several dictionaries are equally likely, and none was asked for.
    """
    path = Path(path)
    form = sniff(path)
    stubs: tuple[str, ...] = ()
    content: Any
    if form == "safetensors":
        content, opened_by = read_safetensors(path), "safetensors"
    else:
        unpickled = read_torch(path, form)
        content, stubs, opened_by = unpickled.content, tuple(unpickled.stubs), "stub unpickler"
        if stubs:
            logger.info("%s names code, none of it was run: %s", path.name, listed(stubs))
    try:
        if _inside(content) is None:
            kind = f"a pickled object ({listed(stubs)})" if stubs else f"a {type(content).__name__}"
            raise CheckpointError(f"the file holds {kind}, not a dictionary of tensors; save model.state_dict()")
        picked = pick(content, entry, may_be_open=may_be_open)
    except CheckpointError as error:
        text, _, advice = str(error).removesuffix(f": {path}").partition("\n")
        raise CheckpointError(f"{text}: {path}" + (f"\n{advice.format(path=path.name)}" if advice else "")) from None
    check_elements(picked.tensors, path)
    state, prefix = strip(picked.tensors)
    if picked.entry or prefix:
        logger.info("%s: took entry %r, stripped %r", path.name, picked.entry or "", prefix)
    if picked.others and entry is None and not picked.is_open:
        logger.warning(
            "%s holds other weights too, and those in %r were taken: %s", path.name, picked.entry or "the file itself",
            listed([f"{path.name}#{other}" for other in picked.others]),
        )  # fmt: skip
    return Checkpoint(
        path=path,
        state=state,
        form=form,
        opened_by=opened_by,
        entry=picked.entry,
        prefix=prefix,
        extras=picked.extras,
        stubs=stubs,
        is_module=picked.is_module,
        asked=entry,
        others=picked.others,
        is_open=picked.is_open,
    )


def check_elements(tensors: State, path: Path) -> None:
    """Refuse a small file whose tensors, spelt out, would fill memory or never end."""
    claimed = sum(tensor.numel() for tensor in tensors.values())
    if claimed > max(MOST_ELEMENTS, 8 * path.stat().st_size):
        raise CheckpointError(
            f"the tensors have {claimed:,} elements, and the file {path.stat().st_size:,} bytes: {path}\n"
            f"  they repeat what is stored; save them spelt out, with tensor.clone()"
        )


def sniff(path: Path) -> str:
    """Tell the format from the content, or say what the file is instead of a checkpoint."""
    if not path.is_file():
        raise CheckpointError(
            f"{path} is a folder, and a weights file is to be named"
            if path.is_dir()
            else f"there is no weights file: {path}"
        )
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise CheckpointError(f"the weights file is empty (0 bytes): {path}")
    if head.startswith(b"PK\x03\x04"):
        check_directory(path)
        if is_torchscript(path):
            raise CheckpointError(f"the file is a TorchScript program, not weights; save its state_dict(): {path}")
        return "torch zip"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return "safetensors"
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"the file is a Git LFS pointer, not the weights; fetch them with 'git lfs pull': {path}")
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"the file is a web page, not weights; the download did not work: {path}")
    if head.startswith(b"\x89HDF"):
        raise CheckpointError(f"the file is HDF5 (Keras?), which is not read as weights: {path}")
    if tarfile.is_tarfile(path):
        raise CheckpointError(f"the file is a tar archive; unpack it and give the file within: {path}")
    if head[:1] == b"\x80":
        return "torch legacy"
    if head[:1] == b"\x08" and path.suffix == ".onnx":  # protobuf has no magic number; field 1 is ONNX's version
        raise CheckpointError(f"the file is an ONNX model, which is a backbone by itself: --backbone onnx:{path}")
    raise CheckpointError(f"the file is neither safetensors nor a PyTorch checkpoint (begins {head[:8]!r}): {path}")


def is_torchscript(path: Path) -> bool:
    """Tell a TorchScript archive, which holds code, from a checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False  # a damaged archive; the readers say so


def read_safetensors(path: Path) -> State:
    """Read a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise CheckpointError(f"the safetensors header takes {length:,} bytes, more than {MAX_HEADER:,}: {path}")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"the safetensors file is damaged ({error}): {path}") from None


def read_torch(path: Path, form: str) -> Unpickled:
    """Read a file of PyTorch's without running code from it, and without taking more memory than it has bytes for."""
    try:
        return read_zip(path) if form == "torch zip" else read_legacy(path)
    except CheckpointError as error:
        raise CheckpointError(f"{str(error).removesuffix(f': {path}')}: {path}") from None
    except Exception as error:  # a boundary: archives that are damaged, encrypted or lie raise nearly anything
        raise CheckpointError(f"the file is damaged or cut short ({error}): {path}") from None


@dataclass(frozen=True, kw_only=True)
class Picked:
    """The weights in a file's content, and where they lay."""

    tensors: State
    entry: str | None
    extras: dict[str, str]
    is_module: bool
    others: tuple[str, ...]
    is_open: bool = False


def pick(content: Any, wanted: str | None = None, *, may_be_open: bool = False) -> Picked:
    """Find the dictionary of tensors: what is asked for, a well-known entry, the content itself, or the only one.

    Raises
    ------
    CheckpointError
        If there is none, or none of that name, or several of which none is likelier than the others.
    """
    read = {".".join(place): tensors for place, tensors in _weights_in(content)}
    found = {entry: tensors for entry, tensors in read.items() if not isinstance(tensors, CheckpointError)}
    faults = {entry: fault for entry, fault in read.items() if isinstance(fault, CheckpointError)}
    most = max((len(tensors) for tensors in found.values()), default=0)
    likely = {entry: tensors for entry, tensors in found.items() if len(tensors) >= SMALL * most}
    if wanted is not None:
        return _asked(content, found, wanted)
    for entry in sorted(faults, key=_preference):  # nothing stands in for what cannot be read
        if all(_preference(entry) < _preference(other) for other in likely):
            raise faults[entry]
    if not likely:
        held = listed([repr(key) for key in _inside(content) or () if isinstance(key, str)], count=6)
        raise CheckpointError(f"no dictionary of tensors in the file; it holds {held or 'nothing'}")
    first = min(likely, key=_preference)
    is_open = _preference(first) >= _UNKNOWN and len(likely) > 1
    if is_open and not may_be_open:
        raise CheckpointError(
            f"the file holds {len(likely)} dictionaries of weights: {listed(likely, count=6)}\n"
            f"  say which is meant: --weights {{path}}#{first}"
        )
    picked = _picked(content, first, found[first], tuple(entry for entry in likely if entry != first))
    return replace(picked, is_open=is_open)


def _asked(content: Any, found: Mapping[str, State], wanted: str) -> Picked:
    """Take the entry that was asked for, or what names begin with in one that has such names."""
    if wanted in found:
        return _picked(content, wanted, found[wanted], tuple(entry for entry in found if entry != wanted))
    ends = [entry for entry in found if f".{wanted}." in f".{entry}."]
    if len(ends) == 1:
        return _picked(content, ends[0], found[ends[0]], tuple(entry for entry in found if entry != ends[0]))
    for entry in sorted(found, key=_preference):
        stripped = strip(found[entry])[1]
        for begin in (f"{wanted}.", stripped + f"{wanted}."):
            part = {name.removeprefix(begin): t for name, t in found[entry].items() if name.startswith(begin)}
            if part:
                whole = _picked(content, entry, found[entry], ())
                rest = len(found[entry]) - len(part)
                more = {f"{rest} tensors": "under other names"} if rest else {}
                return replace(
                    whole, tensors=part, entry=f"{entry}.{begin[:-1]}".lstrip("."), extras=whole.extras | more
                )
    begins = dict.fromkeys(name.partition(".")[0] for tensors in found.values() for name in tensors)
    has = listed([*(entry for entry in found if entry), *begins], count=8)
    raise CheckpointError(f"the file has no entry {wanted!r}, and no names that begin so; it has {has or 'none'}")


def _picked(content: Any, entry: str, tensors: State, others: tuple[str, ...]) -> Picked:
    """Say what lies beside the tensors, at each level on the way to them."""
    extras: dict[str, str] = {}
    inner, where = content, ""
    for step in _steps(content, entry):
        around = _inside(inner) or {}
        extras |= {f"{where}{key}": described(v) for key, v in around.items() if isinstance(key, str) and key != step}
        inner, where = around[step], f"{where}{step}."
    is_module = module_state(inner) is not None
    if not is_module and isinstance(inner, Mapping):
        extras |= beside(inner, tensors, where)
    return Picked(tensors=tensors, entry=entry or None, extras=extras, is_module=is_module, others=others)


def _steps(content: Any, entry: str) -> tuple[str, ...]:
    return next(place for place, _ in _weights_in(content) if ".".join(place) == entry)


def _weights_in(content: Any) -> Iterator[tuple[tuple[str, ...], State | CheckpointError]]:
    """Go through the dictionaries of tensors, the outermost first.

    One whose tensors cannot be read comes as the reason why.
    """
    known: dict[int, State | CheckpointError] = {}
    to_read: list[tuple[tuple[str, ...], Any]] = [((), content)]
    for _ in range(MOST_ENTRIES):
        if not to_read:
            break
        place, value = to_read.pop(0)
        if id(value) not in known:
            try:
                known[id(value)] = tensors_of(value)
            except CheckpointError as fault:
                known[id(value)] = fault
        if known[id(value)]:
            yield place, known[id(value)]
        inner = _inside(value)
        if inner is None or len(place) >= DEEP or module_state(value) is not None:
            continue
        to_read += [
            ((*place, key), each)
            for key, each in inner.items()
            if isinstance(key, str) and isinstance(each, Mapping | Stub | list | tuple)
            if not key.lower().startswith(NO_WEIGHTS)
        ]


def _inside(value: Any) -> Mapping[Any, Any] | None:
    """What a dictionary, a list or a pickled object holds, by name."""
    if isinstance(value, Stub):
        held = module_state(value)
        return held if held is not None else getattr(value, "attributes", None)
    if isinstance(value, list | tuple) and not isinstance(value, Mapping):
        return dict(enumerate(value)) if value and all(isinstance(v, TensorRecord | Tensor) for v in value) else None
    return value if isinstance(value, Mapping) else None


_UNKNOWN = (3,)


def _preference(entry: str) -> tuple[int, ...]:
    """Order entries: well-known names, the content itself, well-known names within such, any others."""
    if not entry:
        return (1,)
    ranks = [ENTRIES.index(step) if step in ENTRIES else -1 for step in entry.split(".")]
    if min(ranks) < 0:
        return _UNKNOWN
    return (0 if len(ranks) == 1 else 2, *ranks)


def tensors_of(candidate: Any) -> State:
    """Keep what has a name, or all of it a number, and is a tensor; nothing where most entries are something else."""
    held = _inside(candidate)
    if held is None:
        return {}
    found: State = {}
    if held and all(isinstance(name, int) for name in held):
        held = {str(name): value for name, value in held.items()}
    for name, value in held.items():
        if isinstance(name, str) and isinstance(value, NoArray):
            raise CheckpointError(
                f"{name} is no plain tensor ({value.kind}); save it as model.float().cpu().state_dict()"
            )
        if isinstance(name, str) and isinstance(value, Tensor | TensorRecord | ArrayRecord):
            found[name] = value if isinstance(value, Tensor) else value.tensor(repeated=REPEATED)
    return found if len(found) * 2 > len(held) else {}


def beside(content: Mapping[Any, Any], tensors: State, where: str = "") -> dict[str, str]:
    """Describe what lies among the tensors and is none, so that nothing goes missing without a word."""
    return {f"{where}{key}": described(value) for key, value in content.items() if key not in tensors}


def described(value: Any) -> str:
    """Say in a word or two what lay beside the weights; scores and epochs in full."""
    if isinstance(value, TensorRecord | ArrayRecord):
        value = value.tensor(repeated=REPEATED)
    if isinstance(value, Tensor):
        return str(value.item()) if value.numel() == 1 else f"tensor {tuple(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a large integer"
    if isinstance(value, bool | int | float | str) or value is None:
        return str(value)[:80]
    if isinstance(value, Mapping | list | tuple):
        return "1 entry" if len(value) == 1 else f"{len(value)} entries"
    return "an object"


def strip(state: State) -> tuple[State, str]:
    """Remove the prefixes that all names share, one after another."""
    stripped = ""
    while True:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) and name != p for name in state)), None)
        if prefix is None or not state:
            return state, stripped
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        stripped += prefix


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
            dtype, key, count = _storage_named(pid)
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
        dtype, key, count = _storage_named(pid)
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


def _storage_named(pid: Any) -> tuple[torch.dtype, str, int]:
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
