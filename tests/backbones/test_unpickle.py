"""A weights file cannot run code: hostile pickles in many forms, each of which would leave a file behind."""

from __future__ import annotations

import argparse
import builtins
import collections
import importlib
import io
import os
import pickle
import pickletools
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cer_fusion.backbones import CheckpointError, inspect_checkpoint, load_state
from cer_fusion.backbones.weights.checkpoint import read_legacy, read_zip

Payload = Callable[[Path], Any]


class Reduced:
    """Pickles as a call of whatever it is told."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts

    def __call__(self) -> None:
        """Let a payload be called in turn, as pickle only calls what is callable."""


def touch(mark: Path) -> str:
    return f"open({str(mark)!r}, 'w').close()"


PAYLOADS: dict[str, Payload] = {
    "os.system": lambda mark: Reduced(os.system, f"touch '{mark}'"),
    "os.mkdir": lambda mark: Reduced(os.mkdir, str(mark)),
    "builtins.eval": lambda mark: Reduced(eval, touch(mark)),
    "builtins.exec": lambda mark: Reduced(exec, touch(mark)),
    "builtins.open": lambda mark: Reduced(open, str(mark), "w"),
    "getattr of an import": lambda mark: Reduced(
        Reduced(getattr, Reduced(importlib.import_module, "os"), "mkdir"), str(mark)
    ),
    "subprocess.Popen": lambda mark: Reduced(subprocess.Popen, ["touch", str(mark)]),
    "pickle.loads of a payload": lambda mark: Reduced(pickle.loads, pickle.dumps(Reduced(os.mkdir, str(mark)))),
    "map into list": lambda mark: Reduced(list, Reduced(map, os.mkdir, [str(mark)])),
    "an OrderedDict made by a call": lambda mark: Reduced(
        collections.OrderedDict, [("a", Reduced(os.mkdir, str(mark)))]
    ),
    "state set on an object": lambda mark: Reduced(argparse.Namespace, state={"x": Reduced(os.mkdir, str(mark))}),
    "torch.load again": lambda mark: Reduced(torch.hub.load, str(mark.parent), "model"),
}


def pickled(content: Any, protocol: int) -> bytes:
    """Pickle with the Python pickler, which lets a payload name anything."""
    file = io.BytesIO()
    pickle._Pickler(file, protocol).dump(content)
    return file.getvalue()


def as_zip(path: Path, body: bytes, *, storages: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/version", "3\n")
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def as_legacy(path: Path, body: bytes) -> Path:
    machine = {"protocol_version": 1001, "little_endian": sys.byteorder == "little", "type_sizes": {}}
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, machine)]
    path.write_bytes(b"".join(head) + body + pickle.dumps([], 2))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_code_in_a_file_is_run(payload: str, form: str, protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    content = {"state_dict": collections.OrderedDict(), "epoch": 3, "recorder": PAYLOADS[payload](mark)}
    body = pickled(content, protocol)
    path = tmp_path / "model.pth"
    if form == "zip":
        as_zip(path, body)
    elif form == "legacy":
        as_legacy(path, body)
    else:
        path.write_bytes(body)
    for reader in (load_state, inspect_checkpoint):
        with pytest.raises(CheckpointError):
            reader(path)
    for direct in (read_zip, read_legacy):  # also without torch's own reader before it
        with (
            pytest.raises((CheckpointError, zipfile.BadZipFile, ValueError)) if not readable(form, direct) else quiet()
        ):
            direct(path)
    assert not mark.exists()


@pytest.mark.parametrize("payload", ["os.mkdir", "builtins.eval", "getattr of an import", "state set on an object"])
def test_the_payloads_would_run_in_an_ordinary_unpickler(payload: str, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    pickle.loads(pickled({"recorder": PAYLOADS[payload](mark)}, 2))
    assert mark.exists()


def readable(form: str, reader: Callable[[Path], Any]) -> bool:
    return (form == "zip" and reader is read_zip) or (form == "legacy" and reader is read_legacy)


class quiet:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_a_reader_reports_the_code_it_did_not_run(tmp_path: Path) -> None:
    body = pickled({"recorder": Reduced(os.mkdir, str(tmp_path / "x"))}, 2)
    assert read_zip(as_zip(tmp_path / "a.pth", body)).stubs == [f"{os.mkdir.__module__}.mkdir"]


def test_the_registry_of_extension_codes_is_out_of_reach(tmp_path: Path) -> None:
    import copyreg

    mark = tmp_path / "it ran"
    copyreg.add_extension("os", "mkdir", 240)
    try:
        body = b"\x80\x02\x82\xf0" + pickletools.optimize(pickle.dumps((str(mark),), 2))[2:-1] + b"R."
        with pytest.raises(CheckpointError, match="EXT1"):
            read_zip(as_zip(tmp_path / "a.pth", body))
    finally:
        copyreg.remove_extension("os", "mkdir", 240)
    assert not mark.exists()


def tensor_pickle(shape: tuple[int, ...], stride: tuple[int, ...], *, offset: int = 0, count: int = 4) -> bytes:
    """Write {"weight": tensor} by hand, with any shape, stride and offset, over a storage of `count` floats."""

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, shape, stride, False, {})

    class Storage:
        pass

    class Pickler(pickle._Pickler):
        def persistent_id(self, obj: object) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(obj, Storage) else None

    file = io.BytesIO()
    Pickler(file, 2).dump({"weight": Tensor()})
    return file.getvalue()


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    values = torch.arange(4.0)
    path = as_zip(tmp_path / "a.pth", tensor_pickle((2, 2), (1, 2)), storages={"0": values.numpy().tobytes()})
    record = read_zip(path).content["weight"]
    assert torch.equal(record.tensor(), values.reshape(2, 2).T)


@pytest.mark.parametrize(
    "claims",
    [
        {"shape": (5,), "stride": (1,)},
        {"shape": (2, 2), "stride": (1, 3)},
        {"shape": (4,), "stride": (1,), "offset": 1},
        {"shape": (1000, 1000), "stride": (0, 0)},
        {"shape": (-1,), "stride": (1,)},
        {"shape": (2**70,), "stride": (0,)},
        {"shape": (2,), "stride": (1, 1)},
        {"shape": (2,), "stride": (1,), "offset": -3},
    ],
)
def test_a_tensor_that_reaches_beyond_its_bytes_is_refused(claims: dict[str, Any], tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.pth", tensor_pickle(**claims), storages={"0": bytes(16)})
    with pytest.raises(CheckpointError):
        read_zip(path).content["weight"].tensor()


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    body = tensor_pickle((4,), (1,), count=2**40)
    with pytest.raises(CheckpointError, match="holds 4 of"):
        read_zip(as_zip(tmp_path / "a.pth", body, storages={"0": bytes(16)}))
    with pytest.raises(CheckpointError, match="larger than the file"):
        read_legacy(as_legacy(tmp_path / "b.pth", body))


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor_pickle((4,), (1,)))
        archive.writestr("archive/data/0", bytes(1 << 22))
    with pytest.raises(CheckpointError, match="compressed"):
        read_zip(path)


def test_a_memo_index_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    body = b"\x80\x02}r\xff\xff\xff\x7f."  # LONG_BINPUT 2147483647
    with pytest.raises(CheckpointError, match="memory"):
        read_zip(as_zip(tmp_path / "a.pth", body))


def test_nesting_that_explodes_when_written_out_stays_small(tmp_path: Path) -> None:
    nested: Any = ()
    for _ in range(60):
        nested = (nested, nested)
    path = as_zip(tmp_path / "a.pth", pickle.dumps({"args": nested, "other": 1}, 2))
    with pytest.raises(CheckpointError, match="no dictionary of tensors"):
        load_state(path)


def test_names_of_this_process_are_never_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    real = builtins.__import__

    def watch(name: str, *rest: Any, **more: Any) -> Any:
        looked.append(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", watch)
    read_zip(as_zip(tmp_path / "a.pth", b"\x80\x02cantigravity_of_nobody\nfly\n)R."))
    assert "antigravity_of_nobody" not in looked
