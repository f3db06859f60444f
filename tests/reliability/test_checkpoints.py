"""P19: a checkpoint can neither run code nor fill memory, in whatever form it brings it."""

from __future__ import annotations

import collections
import contextlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cer_fusion.backbones import CheckpointError, inspect_checkpoint, load_state
from cer_fusion.backbones.weights.checkpoint import open_checkpoint
from tests.backbones.test_checkpoint import like_manet, same, small
from tests.backbones.test_unpickle import PAYLOADS, as_legacy, as_zip, pickled, tensor_pickle
from tests.reliability.isolation import MIB, Memory, begin_case, run_apart

PROTOCOLS = (0, 1, 2, 3, 4, 5)
MOST_MIB = 350
"""What opening a hostile file may take, of any size up to 100 MB."""


def disguises(folder: Path, body: bytes) -> list[Path]:
    """One pickle in every wrapping that a weights file comes in, and under names that promise something else."""
    folder.mkdir()
    whole = [as_zip(folder / "zip.pth", body), as_legacy(folder / "legacy.pth.tar", body), folder / "bare.pt"]
    whole[2].write_bytes(body)
    for name, data in (
        ("named.safetensors", body),
        ("padded.pth", b"\n" + body),
        ("header.safetensors", len(body).to_bytes(8, "little") + b"{" + body),
        ("after-magic.pth", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + body),
    ):
        (folder / name).write_bytes(data)
        whole.append(folder / name)
    nested = as_zip(
        folder / "storage.pth", pickled({"state_dict": small()["fc.bias"].tolist()}, 2), storages={"0": body}
    )
    return [*whole, nested]


@pytest.mark.slow
def test_no_payload_in_any_form_is_run(tmp_path, figure):
    """In a process that notes every system call of interest: a mark on the disk is not the only trace."""
    tried = run_apart("tests.reliability.test_checkpoints:open_all", str(tmp_path))
    figure("P19", f"{len(PAYLOADS)} payloads, {tried:,} files of {len(PROTOCOLS)} pickle protocols: 0 run")


def open_all(path: str) -> int:
    """Open every payload in every disguise; how many files that were. Fails if any code of a file ran."""
    from tests.reliability.watching import Watch

    folder, tried = Path(path), 0
    mark = folder / "it ran"
    for name, payload in PAYLOADS.items():
        for protocol in PROTOCOLS:
            content = {"state_dict": collections.OrderedDict(small()), "epoch": 3, "recorder": payload(mark)}
            files = disguises(folder / f"{tried}", pickled(content, protocol))
            for file in files:
                begin_case(f"{name}, protocol {protocol}, {file.name}")
                with Watch() as watch:
                    for read in (load_state, inspect_checkpoint):
                        with contextlib.suppress(CheckpointError):
                            read(file)
                assert not watch.seen, f"{name} in {file.name}: {watch.seen}"
                assert not mark.exists(), f"{name} in {file.name} left its mark"
                tried += 1
    return tried


@pytest.mark.parametrize("payload", ["os.mkdir", "builtins.eval", "state set on an object"])
def test_the_payloads_would_run_where_nobody_takes_care(payload, tmp_path):
    mark = tmp_path / "it ran"
    pickle.loads(pickled({"recorder": PAYLOADS[payload](mark)}, 2))
    assert mark.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_the_published_manet_form_loads_and_its_code_does_not_run(legacy, tmp_path, figure):
    opened = open_checkpoint(like_manet(tmp_path / "manet.pth.tar", small(), legacy=legacy))
    assert same(opened.state, small())
    assert "__main__.RecorderMeter" in opened.stubs
    figure(
        "P19",
        f"the MA-Net form ({opened.form}) loads: {len(opened.state)} tensors, {len(opened.stubs)} names not called",
    )


def test_torch_itself_reads_what_is_harmless(tmp_path):
    torch.save(small(), tmp_path / "weights.pth")
    assert same(load_state(tmp_path / "weights.pth"), small())


def called(name: str, *arguments: bytes, times: int = 1) -> bytes:
    """A pickle of a list of calls: `torch FloatStorage` of the numbers that these opcodes push."""
    module, _, function = name.rpartition(" ")
    call = f"c{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"
    return b"\x80\x02}(U\x01a](" + call * times + b"eu."


NUMBER = b"J" + struct.pack("<i", 250_000_000)
LONG_TEXT = b"X" + struct.pack("<I", 20 << 20) + b"x" * (20 << 20)
PICKLES: dict[str, Callable[[], bytes]] = {
    "a storage of a gigabyte by its name": lambda: called("torch FloatStorage", NUMBER),
    "an untyped storage of a gigabyte": lambda: called("torch.storage UntypedStorage", NUMBER),
    "a tensor of a gigabyte": lambda: called("torch Tensor", NUMBER),
    "a gigabyte of nothing": lambda: called("builtins bytearray", NUMBER),
    "a dense tensor behind a sparse one": lambda: called("torch._utils _rebuild_sparse_tensor", NUMBER),
    "an array of a gigabyte": lambda: called("numpy.core.multiarray _reconstruct", NUMBER),
    "two million empty lists": lambda: b"\x80\x02(" + b"]" * 2_000_000 + b"l.",
    "two million empty sets": lambda: b"\x80\x04(" + b"\x8f" * 2_000_000 + b"l.",
    "three million numbers": lambda: b"\x80\x02(" + b"K\x07" * 3_000_000 + b"l.",
    "a dictionary copied a hundred thousand times": lambda: (
        b"\x80\x02}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(50_000)) + b"uq\x00"
        + b"ccollections\nOrderedDict\nq\x010(" + b"h\x01h\x00\x85R" * 100_000 + b"l."
    ),
    "a list made a dictionary a hundred thousand times": lambda: (
        b"\x80\x02](" + b"".join(b"J" + struct.pack("<i", i) + b"N\x86" for i in range(50_000)) + b"eq\x00"
        + b"ccollections\nOrderedDict\nq\x010(" + b"h\x01h\x00\x85R" * 100_000 + b"l."
    ),
    "a text encoded two hundred times": lambda: (
        b"\x80\x02" + LONG_TEXT + b"q\x00c_codecs\nencode\nq\x01U\x06latin1q\x02000("
        + b"h\x01h\x00h\x02\x86R" * 200 + b"l."
    ),
    "a text four times as wide as it is long": lambda: (
        b"\x80\x02X" + struct.pack("<I", (90 << 20) + 4) + b"x" * (90 << 20) + "\U0001f600".encode() + b"."
    ),
    "a memo of gigabytes": lambda: b"\x80\x02}r\xff\xff\xff\x7f.",
    "a frame of gigabytes": lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**33) + b"}.",
    "bytes of gigabytes": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**33) + b"x.",
    "a byte array of gigabytes": lambda: b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"x.",
    "a number of gigabytes": lambda: b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "a name of a hundred thousand names": lambda: (
        b"\x80\x02(" + b"".join(b"cm\nf%d\n" % i for i in range(100_000)) + b"l."
    ),
    "a tensor that repeats one number": lambda: tensor_pickle((2**34,), (0,), count=4),
}  # fmt: skip
"""Pickles that ask for far more memory than they are long."""


def packed(path: Path) -> None:
    """A storage of zeros, compressed a thousand times."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", tensor_pickle((4,), (1,), count=75 * MIB))
        with archive.open("a/data/0", "w") as member:
            for _ in range(300):
                member.write(bytes(MIB))


def crowded(path: Path) -> None:
    """A directory of half a million parts, all of them the same."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"")
    data = path.read_bytes()
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    count = 500_000
    directory = data[at:end] * count
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), at, 0)
    path.write_bytes(data[:at] + directory + tail)


def many_headers(path: Path) -> None:
    """A safetensors header of a million empty tensors."""
    entries = ",".join(f'"{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(1_000_000))
    text = f"{{{entries}}}".encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def one_many_times(path: Path) -> None:
    """Three thousand names of one number each, repeated sixteen million times."""
    one = torch.ones(1)
    torch.save({f"w{i}": one.expand(2**24) for i in range(3000)}, path)


FILES: dict[str, Callable[[Path], None]] = {
    "an archive compressed a thousand times": packed,
    "an archive of half a million parts": crowded,
    "a header of a million tensors": many_headers,
    "one number for billions": one_many_times,
}


@pytest.mark.slow
def test_no_small_file_takes_much_memory(tmp_path, figure):
    tried, most = run_apart("tests.reliability.test_checkpoints:open_floods", str(tmp_path))
    figure("P19", f"{tried} files that ask for memory: all refused, most memory {most} MiB")


def open_floods(path: str) -> tuple[int, int]:
    """Open every file that asks for memory; how many they were, and the most MiB that one took."""
    torch.save(small(), Path(path) / "sound.pth")
    inspect_checkpoint(Path(path) / "sound.pth")  # the libraries it takes count for themselves
    made: dict[str, Path] = {}
    for name, body in PICKLES.items():
        file = Path(path) / f"{len(made)}.pth"
        made[f"{name}, zip"] = as_zip(file, body(), storages={"0": bytes(16)})
        made[f"{name}, legacy"] = as_legacy(file.with_suffix(".pt"), body())
        made[f"{name}, bare"] = file.with_suffix(".bin")
        made[f"{name}, bare"].write_bytes(body())
    for name, make in FILES.items():
        made[name] = Path(path) / f"{len(made)}.ckpt"
        make(made[name])
    most = 0
    for name, file in made.items():
        for read in (load_state, inspect_checkpoint):
            begin_case(f"{name}, {read.__name__}")
            memory = Memory()
            with pytest.raises(CheckpointError):
                read(file)
            most = max(most, memory.grown() // MIB)
            assert most < MOST_MIB, f"{name} took {most} MiB"
    return len(made), most


@pytest.mark.slow
def test_a_sound_checkpoint_takes_memory_in_proportion_to_its_length(tmp_path, figure):
    most = run_apart("tests.reliability.test_checkpoints:open_large", str(tmp_path))
    figure("P19", f"sound files of 128 MiB: most memory {most} MiB")


def open_large(path: str) -> int:
    """Open the same large tensors in every form; the most MiB that one took."""
    state = {f"layer{i}.weight": torch.full((2**20, 8), float(i)) for i in range(4)}
    kept: dict[str, Any] = {"zip.pth": {}, "legacy.pth": {"_use_new_zipfile_serialization": False}}
    for name, settings in kept.items():
        torch.save({"state_dict": state}, Path(path) / name, **settings)
    save_file(state, Path(path) / "x.safetensors")
    most = 0
    for file in sorted(Path(path).iterdir()):
        begin_case(file.name)
        memory = Memory()
        assert same(load_state(file), state)
        most = max(most, memory.grown() // MIB)
    assert most < 3 * 128, f"{most} MiB"
    return most
