"""`cer-feat inspect`: what a weights file is, and the same weights as safetensors."""

from __future__ import annotations

import errno
import json

import pytest
import torch

from cer_fusion import backbones
from cer_fusion.featstore.rows import files
from tests.backbones.checkpoint_files import mae_file, manet_file, with_prefix


@pytest.fixture
def weights(tmp_path):
    """A small network of timm in a training script's wrapping."""
    state = backbones.create("timm:test_vit", weights="random", seed=1).state()
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": with_prefix(state, "model."), "epoch": 9, "optimizer": {"a": 1, "b": 2}}, path)
    return path


def test_it_says_what_a_file_is_and_the_command_that_uses_it(run, tmp_path):
    manet_file(tmp_path / "rafdb.pth.tar")
    said = run("cer-feat inspect rafdb.pth.tar").stdout
    for text in (
        "MA-Net",
        "'state_dict'",
        "'module.', stripped",
        "692 tensors",
        "fc_1 7-way, fc_2 7-way",
        "best_acc: 88.33",
    ):
        assert text in said
    for flow in ("legacy", "bidirectional"):
        assert f"cer-feat extract --backbone manet --weights rafdb.pth.tar --data MANIFEST -O flow={flow}\n" in said
    assert "does not tell its flow" in said


def test_several_backbones_are_listed_with_what_each_lacks_or_leaves_out(run, tmp_path):
    mae_file(tmp_path / "mae.pth")
    said = run("cer-feat inspect mae.pth").stdout
    assert "vit leaves out: mask_token, decoder_pos_embed, decoder_embed.weight and 9 more" in said
    assert "vit pooling=mean_norm" in said


def test_the_findings_as_json_are_those_of_python(run, weights):
    found = json.loads(run("cer-feat inspect best.ckpt --json").stdout)
    expected = backbones.inspect_checkpoint("best.ckpt").to_dict()
    assert found == json.loads(json.dumps(expected | {"converted": None}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html>", "web page"),
        (b"hello, world", "neither safetensors nor"),
        (b"\x80\x02}q\x00.", "no PyTorch checkpoint"),
        (b"\x08\x0a\x12\x07pytorch", "neither"),
        (None, "no weights file"),
    ],
)
def test_what_is_no_checkpoint_ends_with_status_1_and_its_name(content, said, run, tmp_path):
    if content is not None:
        (tmp_path / "x.pth").write_bytes(content)
    for options in ("", " --json", " --convert out.safetensors"):
        result = run(f"cer-feat inspect x.pth{options}", code=1)
        assert said in result.stderr
        assert result.stdout == ""
    assert not (tmp_path / "out.safetensors").exists()


def test_an_onnx_model_is_told_to_be_a_backbone_by_itself(run, tmp_path):
    (tmp_path / "faces.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    assert "--backbone onnx:faces.onnx" in run("cer-feat inspect faces.onnx", code=1).stderr


def test_a_converted_file_is_the_same_feature(run, weights, faces):
    result = run("cer-feat inspect best.ckpt --convert clean.safetensors")
    assert "wrote clean.safetensors" in result.stderr
    assert "epoch (9), optimizer (2 entries)" in result.stderr
    extract = "cer-feat extract --backbone timm:test_vit --data faces.csv --json --weights"
    first = json.loads(run(f"{extract} best.ckpt").stdout)
    again = json.loads(run(f"{extract} clean.safetensors").stdout)
    assert first["feature"] == again["feature"]
    assert (first["embedded"], again["embedded"], again["already"]) == (42, 0, 42)


def test_the_json_of_a_conversion_lists_what_was_left_out(run, weights, tmp_path):
    found = json.loads(run("cer-feat inspect best.ckpt --convert clean.safetensors --json").stdout)
    assert found["converted"] == {
        "path": "clean.safetensors",
        "tensors": found["tensors"],
        "nbytes": (tmp_path / "clean.safetensors").stat().st_size,
        "digest": found["digest"],
        "left_out": {"epoch": "9", "optimizer": "2 entries"},
    }


def test_an_existing_file_is_replaced_only_when_that_is_asked_for(run, weights, tmp_path):
    target = tmp_path / "clean.safetensors"
    target.write_bytes(b"precious")
    assert "--overwrite" in run("cer-feat inspect best.ckpt --convert clean.safetensors", code=2).stderr
    assert target.read_bytes() == b"precious"
    run("cer-feat inspect best.ckpt --convert clean.safetensors --overwrite")
    assert backbones.inspect_checkpoint(target).digest == backbones.inspect_checkpoint(weights).digest


def test_a_file_that_somebody_else_writes_meanwhile_is_left_alone(run, weights, tmp_path, monkeypatch):
    target = tmp_path / "clean.safetensors"
    commit = files.commit

    def late(path, data):
        path.write_bytes(b"precious")
        return commit(path, data)

    monkeypatch.setattr(files, "commit", late)
    assert "is there already" in run("cer-feat inspect best.ckpt --convert clean.safetensors", code=1).stderr
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("overwrite", ["", " --overwrite"])
def test_a_full_disk_leaves_nothing_and_says_so(overwrite, run, weights, tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    result = run(f"cer-feat inspect best.ckpt --convert clean.safetensors{overwrite}", code=1)
    assert "make room" in result.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--convert clean.pth", ".safetensors"),
        ("--convert no/such/folder/clean.safetensors", "folder that is there"),
        ("--convert best.safetensors --overwrite", "is what this reads"),
        ("--overwrite", "--convert"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_writes_nothing(options, said, run, weights, tmp_path):
    weights.rename(tmp_path / "best.safetensors")
    before = sorted(tmp_path.iterdir())
    result = run(f"cer-feat inspect best.safetensors {options}", code=2)
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert sorted(tmp_path.iterdir()) == before
