"""Converting keeps every tensor as it is, under public names, and lists what else there was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor

from cer_fusion import backbones
from cer_fusion.backbones import CheckpointError, inspect_checkpoint, load_state
from cer_fusion.backbones.weights.inspection import convert_checkpoint
from tests.backbones.checkpoint_files import fer2013, fer2013_file, mae, mae_file, with_prefix
from tests.backbones.test_checkpoint import like_manet, small


def converted(path: Path) -> Path:
    target = path.with_name("converted.safetensors")
    target.write_bytes(convert_checkpoint(path).data)
    return target


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return set(found) == set(expected) and all(
        found[name].dtype == t.dtype and torch.equal(found[name], t) for name, t in expected.items()
    )


@pytest.mark.parametrize("legacy", [False, True])
def test_the_public_manet_form_becomes_clean_safetensors(legacy: bool, tmp_path: Path) -> None:
    conversion = convert_checkpoint(like_manet(tmp_path / "manet.pth.tar", small(), legacy=legacy))
    (tmp_path / "clean.safetensors").write_bytes(conversion.data)
    assert equal(load_state(tmp_path / "clean.safetensors"), small())
    assert set(conversion.left_out) == {"epoch", "best_acc", "optimizer", "recorder", "args"}
    after = inspect_checkpoint(tmp_path / "clean.safetensors")
    assert (after.opened_by, after.code, after.prefix, after.extras) == ("safetensors", (), "", {})
    assert after.digest == conversion.info.digest


def test_a_pre_training_file_keeps_its_decoder(tmp_path: Path) -> None:
    conversion = convert_checkpoint(mae_file(tmp_path / "mae.pth"))
    assert conversion.info.fits == "vit"
    assert conversion.tensors == len(mae())
    assert set(load(conversion.data)) == set(mae())


@pytest.mark.parametrize("form", ["Lightning", "with a loss"])
def test_wrappers_prefixes_go_and_nothing_beside_is_lost(form: str, tmp_path: Path) -> None:
    path = fer2013_file(tmp_path / "fer.pth", form)
    target = converted(path)
    beside = {"criterion.weight"} if form == "with a loss" else set()
    assert set(load_state(target)) == set(fer2013()) | beside
    assert inspect_checkpoint(target).digest == inspect_checkpoint(path).digest


@pytest.mark.parametrize("prefix", ["", "model.", "backbone."])
def test_the_feature_that_the_converted_file_makes_is_that_of_the_original(prefix: str, tmp_path: Path) -> None:
    original = backbones.create("timm:test_resnet", weights="random", seed=5)
    state = with_prefix(original.state(), prefix)  # type: ignore[attr-defined]
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": state | ({"loss.weight": torch.ones(3)} if prefix == "backbone." else {})}, path)
    for file in (path, converted(path)):
        assert backbones.create("timm:test_resnet", weights=file).spec() == original.spec()


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]
)
def test_every_element_type_shape_and_memory_order_survives(dtype: torch.dtype, tmp_path: Path) -> None:
    base = torch.arange(24).reshape(2, 3, 4).to(dtype)
    state = {
        "a": base,
        "turned": base.transpose(0, 2),
        "window": base[1, 1:, ::2],
        "again": base,
        "number": base[0, 0, 1],
        "empty": base[:0],
        "repeated": base[:1, :1, :1].expand(1, 5, 1),
        "one": torch.ones((), dtype=dtype).expand(1),
    }
    torch.save(state, tmp_path / "x.pth")
    assert equal(load_state(converted(tmp_path / "x.pth")), state)


def test_not_a_number_and_infinity_survive(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([float("nan"), float("inf"), -0.0])}, tmp_path / "x.pth")
    digest = inspect_checkpoint(tmp_path / "x.pth").digest
    assert inspect_checkpoint(converted(tmp_path / "x.pth")).digest == digest


def test_names_that_would_collide_without_their_prefix_keep_it(tmp_path: Path) -> None:
    state = with_prefix(fer2013(), "backbone.") | {"fc.weight": torch.ones(7, 2048)}
    torch.save(state, tmp_path / "x.pth")
    target = converted(tmp_path / "x.pth")
    assert equal(load_state(target), state)
    assert inspect_checkpoint(target).fits == "resnet50"


def test_what_lay_among_the_tensors_and_is_none_is_listed(tmp_path: Path) -> None:
    state = small() | {"more": torch.ones(2), "_extra_state": {"scale": 1.0}, "version": 3}
    torch.save({"state_dict": state, "lr": 0.1}, tmp_path / "x.pth")
    found = convert_checkpoint(tmp_path / "x.pth")
    assert found.left_out == {"lr": "0.1", "state_dict._extra_state": "1 entry", "state_dict.version": "3"}
    torch.save(state, tmp_path / "bare.pth")
    assert convert_checkpoint(tmp_path / "bare.pth").left_out == {"_extra_state": "1 entry", "version": "3"}


def test_averaged_weights_are_taken_and_the_last_ones_are_listed(tmp_path: Path) -> None:
    torch.save({"state_dict": small(1), "state_dict_ema": small(2)}, tmp_path / "x.pth")
    found = convert_checkpoint(tmp_path / "x.pth")
    assert found.info.entry == "state_dict_ema"
    assert found.left_out == {"state_dict": "2 entries"}


def test_the_bytes_depend_on_the_tensors_alone(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "state_dict": dict(reversed(small().items()))}, tmp_path / "a.pth")
    torch.save(with_prefix(small(), "module."), tmp_path / "b.pth")
    assert convert_checkpoint(tmp_path / "a.pth").data == convert_checkpoint(tmp_path / "b.pth").data


def test_the_new_file_can_be_opened_by_safetensors_alone(tmp_path: Path) -> None:
    torch.save({"model": small()}, tmp_path / "x.pth")
    with safe_open(converted(tmp_path / "x.pth"), framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(small())


def test_a_file_that_is_no_checkpoint_is_not_converted(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"hello, world")
    with pytest.raises(CheckpointError, match="neither safetensors nor"):
        convert_checkpoint(tmp_path / "x.pth")
    torch.save({"a": torch.ones(2).to_sparse(), "b": torch.ones(2)}, tmp_path / "y.pth")
    with pytest.raises(CheckpointError, match="a is no plain tensor"):
        convert_checkpoint(tmp_path / "y.pth")
