"""P19: a checkpoint cannot run code, in whatever form it brings it."""

from __future__ import annotations

import collections
import contextlib
import pickle
from pathlib import Path

import pytest
import torch

from backbones import CheckpointError, inspect_checkpoint, load_state
from backbones.checkpoint import open_checkpoint
from tests.backbones.test_checkpoint import like_manet, same, small
from tests.backbones.test_unpickle import PAYLOADS, as_legacy, as_zip, pickled
from tests.reliability.isolation import begin_case, run_apart

PROTOCOLS = (0, 1, 2, 3, 4, 5)


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
