"""Opening weights files of every form people publish, and naming what is none."""

from __future__ import annotations

import argparse
import collections
import io
import sys
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cer_fusion.backbones import CheckpointError, load_state
from cer_fusion.backbones.weights.checkpoint import open_checkpoint


def small(seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {"conv.weight": torch.randn(4, 3, 3, 3, generator=draw), "fc.bias": torch.randn(4, generator=draw)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return set(found) == set(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


class RecorderMeter:
    """Stands for the class that MA-Net's training script defines in ``__main__`` and pickles with the weights."""

    def __init__(self) -> None:
        self.epoch_losses = np.zeros((3, 2), dtype=np.float32)
        self.best = 88.33


def like_manet(path: Path, state: dict[str, Tensor], *, legacy: bool) -> Path:
    """Write a file as MA-Net's public training script does."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.01, momentum=0.9)
    weight.grad = torch.ones(2)
    optimizer.step()
    content = {
        "epoch": 12,
        "state_dict": collections.OrderedDict((f"module.{name}", tensor) for name, tensor in state.items()),
        "best_acc": torch.tensor(88.33),
        "optimizer": optimizer.state_dict(),
        "recorder": RecorderMeter(),
        "args": argparse.Namespace(lr=0.01, data="raf-db"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecorderMeter, "__module__", "__main__")
        patch.setattr(sys.modules["__main__"], "RecorderMeter", RecorderMeter, raising=False)
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_the_public_manet_form_loads_without_running_its_code(legacy: bool, tmp_path: Path) -> None:
    state = small()
    opened = open_checkpoint(like_manet(tmp_path / "manet.pth.tar", state, legacy=legacy))
    assert same(opened.state, state)
    assert opened.opened_by == "stub unpickler"
    assert opened.form == ("torch legacy" if legacy else "torch zip")
    assert opened.entry == "state_dict"
    assert opened.prefix == "module."
    assert "__main__.RecorderMeter" in opened.stubs
    assert "argparse.Namespace" in opened.stubs
    assert opened.extras["epoch"] == "12"
    assert opened.extras["best_acc"].startswith("88.3")


def test_safetensors_and_both_torch_formats_give_the_same_tensors(tmp_path: Path) -> None:
    state = small()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save(state, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.pth", "c.pth"):
        assert same(load_state(tmp_path / name), state), name


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
)
def test_the_stub_unpickler_reads_every_element_type_as_torch_does(
    dtype: torch.dtype, legacy: bool, tmp_path: Path
) -> None:
    base = torch.arange(24).reshape(2, 3, 4)
    state = {
        "a": base.to(dtype),
        "b": base.to(dtype).transpose(0, 2),
        "c": base.to(dtype)[1, 1:, ::2],
        "d": torch.tensor(3).to(dtype),
        "e": torch.empty(0, 4, dtype=dtype),
    }
    path = like_manet(tmp_path / "x.pth", state, legacy=legacy)
    found = load_state(path)
    assert same(found, state)
    assert all(found[name].dtype == dtype for name in state)


@pytest.mark.parametrize("protocol", [2, 4])
def test_numpy_arrays_are_read_as_tensors(protocol: int, tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        "c": np.arange(5),
        "d": np.zeros((0, 4), np.float16),
        "e": np.float64(2.5),
    }
    torch.save({"state_dict": arrays, "epoch": 3}, tmp_path / "x.pth", pickle_protocol=protocol)
    assert same(load_state(tmp_path / "x.pth"), {name: torch.from_numpy(np.array(one)) for name, one in arrays.items()})


def test_parameters_subclasses_and_the_newer_element_types_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.note = "kept beside the values"  # type: ignore[attr-defined]
    state = {
        "a": parameter,
        "b": torch.ones(4).to(torch.float8_e4m3fn),
        "c": torch.ones(2, dtype=torch.complex64),
        "d": torch.tensor([1, 2], dtype=torch.uint16),
        "e": nn.Buffer(torch.ones(2)),
    }
    torch.save(state, tmp_path / "x.pth")
    found = load_state(tmp_path / "x.pth")
    expected = torch.load(tmp_path / "x.pth", weights_only=False)
    assert all(torch.equal(found[name].to(torch.complex64), expected[name].to(torch.complex64)) for name in state)
    assert all(found[name].dtype == expected[name].dtype for name in state)


def test_tensors_that_share_storage_keep_their_own_windows(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    state = {"whole": whole, "tail": whole[6:], "again": whole}
    assert same(load_state(like_manet(tmp_path / "x.pth", state, legacy=False)), state)


@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.", "module.model.", "_orig_mod.module.", "trunk."])
def test_wrappers_prefixes_are_stripped_one_after_another(prefix: str, tmp_path: Path) -> None:
    torch.save({prefix + name: tensor for name, tensor in small().items()}, tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth")
    assert same(opened.state, small())
    assert opened.prefix == prefix


def test_a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    state = {"backbone.conv.weight": torch.ones(2), "head.weight": torch.ones(3)}
    torch.save(state, tmp_path / "x.pth")
    assert same(load_state(tmp_path / "x.pth"), state)


@pytest.mark.parametrize("entry", ["state_dict", "model", "model_state_dict", "net"])
def test_the_weights_are_found_under_their_usual_names(entry: str, tmp_path: Path) -> None:
    torch.save({"epoch": 3, entry: small(), "lr": torch.tensor(0.1)}, tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth")
    assert same(opened.state, small())
    assert opened.entry == entry


@pytest.mark.parametrize(
    "around", [("model", "state_dict"), ("state_dict", "model"), ("model", "module", "state_dict")]
)
def test_weights_within_an_entry_of_an_entry_are_found_and_what_lay_around_is_listed(
    around: tuple[str, ...], tmp_path: Path
) -> None:
    content: dict[str, object] = small(1)
    for entry in reversed(around):
        content = {entry: content, "epoch": 7}
    torch.save(content, tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth")
    assert opened.entry == ".".join(around)
    assert opened.state.keys() == small(1).keys()
    assert opened.extras[f"{around[0]}.epoch"] == "7"


def test_averaged_weights_come_before_the_last_ones(tmp_path: Path) -> None:
    torch.save({"state_dict": small(1), "state_dict_ema": small(2)}, tmp_path / "x.pth")
    assert same(load_state(tmp_path / "x.pth"), small(2))


def test_what_lies_among_the_tensors_is_named_with_its_place(tmp_path: Path) -> None:
    torch.save({"model": small() | {"version": 3}, "epoch": 5, "log": [1]}, tmp_path / "x.pth")
    opened = open_checkpoint(tmp_path / "x.pth")
    assert same(opened.state, small())
    assert opened.extras == {"epoch": "5", "log": "1 entry", "model.version": "3"}


def test_a_name_that_is_a_prefix_and_nothing_more_is_kept(tmp_path: Path) -> None:
    torch.save({"module.": torch.ones(2), "module.a": torch.ones(3)}, tmp_path / "x.pth")
    assert set(load_state(tmp_path / "x.pth")) == {"module.", "module.a"}


def test_an_onnx_model_is_sent_to_its_own_backbone(tmp_path: Path) -> None:
    (tmp_path / "faces.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    with pytest.raises(CheckpointError, match="a backbone by itself: --backbone onnx:"):
        load_state(tmp_path / "faces.onnx")


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())


def script(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/constants.pkl", b"")
        archive.writestr("m/data.pkl", b"\x80\x02}.")


def quantized(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are going out of use
        torch.save({"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, path)


def packed_again(path: Path) -> None:
    import zipfile

    torch.save(small(), path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


FAULTY: dict[str, tuple[Any, str]] = {
    "missing": (lambda path: None, "no weights file"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "a web page": (lambda path: path.write_bytes(b"<!DOCTYPE html><html>"), "web page"),
    "a pointer": (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid"), "LFS"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "HDF5"),
    "a real tar": (tar, "tar archive"),
    "TorchScript": (script, "TorchScript"),
    "text": (lambda path: path.write_bytes(b"hello, world"), "neither safetensors nor"),
    "an object": (lambda path: torch.save(Path("x"), path), "pickled object"),
    "sparse tensors": (
        lambda path: torch.save({"state_dict": {"a": torch.ones(2).to_sparse()}}, path),
        "a is no plain tensor",
    ),
    "quantized tensors": (
        quantized,
        r"a is no plain tensor \(quantized\)",
    ),
    "an archive that was packed again": (packed_again, "compressed"),
    "a list": (lambda path: torch.save([1, 2], path), "a list"),
    "no tensors": (lambda path: torch.save({"epoch": 3, "state_dict": {"a": 1}}, path), "it holds 'epoch'"),
    "a pickle of something else": (lambda path: path.write_bytes(b"\x80\x02}q\x00."), "no PyTorch checkpoint"),
}


@pytest.mark.parametrize("kind", FAULTY)
def test_a_file_that_is_no_weights_file_is_named_for_what_it_is(kind: str, tmp_path: Path) -> None:
    write, text = FAULTY[kind]
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(CheckpointError, match=text) as caught:
        load_state(path)
    assert "weights.pth" in str(caught.value)


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy", "manet zip", "manet legacy"])
def test_a_file_cut_short_anywhere_is_refused(form: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if form == "safetensors":
        save_file(small(), path)
    elif form.startswith("manet"):
        like_manet(path, small(), legacy=form.endswith("legacy"))
    else:
        torch.save(small(), path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for length in range(1, len(whole) - 1, len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_state(path)
