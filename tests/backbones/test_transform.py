"""Preprocessing equals the reference that each backbone cites, to the last bit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torchvision import transforms

from cer_fusion.backbones import OptionError
from cer_fusion.backbones.picture import Transform
from tests.backbones.conftest import Encode, ramp


def ours(transform: Transform, image: Image.Image, encode: Encode) -> torch.Tensor:
    """Take the whole way: file bytes, decode, batch of one, tensor."""
    return transform.to_tensor(torch.from_numpy(transform.decode(encode(image))[None]))[0]


def test_manet_sees_what_its_public_test_transform_yields(pictures: list[Image.Image], encode: Encode) -> None:
    reference = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor()])
    transform = Transform(size_px=224, resize="squash", interpolation="bilinear")
    for image in pictures:
        assert torch.equal(ours(transform, image, encode), reference(image)), image.size


@pytest.mark.parametrize(
    "name",
    ["vit_base_patch16_224.mae", "resnet50.a1_in1k", "vit_small_patch14_dinov2.lvd142m", "convnext_tiny.fb_in1k"],
)
def test_a_timm_model_sees_what_timms_own_transform_yields(
    name: str, pictures: list[Image.Image], encode: Encode
) -> None:
    from cer_fusion.backbones.zoo.timm_model import data_config

    with torch.device("meta"):
        trunk = timm.create_model(name)
    reference = create_transform(**resolve_data_config({}, model=trunk))  # type: ignore[no-untyped-call]
    transform = data_config(trunk, img_size=None, crop_pct=None)
    for image in pictures:
        assert torch.equal(ours(transform, image, encode), reference(image)), (name, image.size)


@pytest.mark.parametrize(
    "changes", [{"img_size": 112}, {"crop_pct": 1.0}, {"img_size": 160, "interpolation": "bilinear"}]
)
def test_changed_sizes_and_crops_still_equal_timms(
    changes: dict[str, object], pictures: list[Image.Image], encode: Encode
) -> None:
    from cer_fusion.backbones.zoo.timm_model import data_config

    with torch.device("meta"):
        trunk = timm.create_model("resnet50.a1_in1k")
    reference = create_transform(**resolve_data_config(changes, model=trunk))  # type: ignore[no-untyped-call]
    given: dict[str, object] = {"img_size": None, "crop_pct": None, "interpolation": None, **changes}
    transform = data_config(trunk, **given)  # type: ignore[arg-type]
    for image in pictures:
        assert torch.equal(ours(transform, image, encode), reference(image)), (changes, image.size)


def test_a_squashing_crop_equals_timms(pictures: list[Image.Image], encode: Encode) -> None:
    reference = create_transform(
        (3, 96, 96), crop_pct=0.8, crop_mode="squash", interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
    )
    transform = Transform(size_px=96, resize="squash", crop_pct=0.8, interpolation="bicubic")
    for image in pictures:
        assert torch.equal(ours(transform, image, encode), reference(image)), image.size


def test_bgr_turns_the_channels_before_mean_and_deviation() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    transform = Transform(size_px=8, colour="BGR", scale="0-255", mean=(10, 20, 30), std=(1, 2, 4))
    found = transform.to_array(pictures)
    assert np.array_equal(found[:, 0], pictures[..., 2].astype(np.float32) - 10)
    assert np.array_equal(found[:, 1], (pictures[..., 1].astype(np.float32) - 20) / 2)
    assert np.array_equal(found[:, 2], (pictures[..., 0].astype(np.float32) - 30) / 4)


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("scale", ["0-1", "0-255"])
def test_numpy_and_torch_scale_alike_in_either_memory_order(colour: Any, scale: Any) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    transform = Transform(
        size_px=8,
        colour=colour,
        scale=scale,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    expected = transform.to_array(pictures)
    for channels_last in (False, True):
        found = transform.to_tensor(torch.from_numpy(pictures.copy()), channels_last=channels_last)
        assert np.array_equal(found.numpy(), expected)
    assert found.is_contiguous(memory_format=torch.channels_last) or colour == "BGR"


def test_every_field_is_part_of_the_identity() -> None:
    base = Transform(size_px=32)
    changes: dict[str, object] = {
        "size_px": 33,
        "resize": "shorter",
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": (0.1, 0.0, 0.0),
        "std": (1.0, 1.0, 2.0),
        "colour": "BGR",
        "scale": "0-255",
    }
    assert set(changes) == {field.name for field in dataclasses.fields(Transform)}
    for name, value in changes.items():
        changed = dataclasses.replace(base, **{name: value})  # type: ignore[arg-type]
        assert changed.identity() != base.identity(), name


def test_the_probe_sees_what_changes_the_pixels_and_nothing_else() -> None:
    base = Transform(size_px=32)
    assert len(base.probe()) == 16
    assert base.probe() == dataclasses.replace(base, mean=(0.5, 0.5, 0.5), scale="0-255").probe()
    for changed in ({"interpolation": "bicubic"}, {"resize": "shorter"}, {"size_px": 31}):
        assert dataclasses.replace(base, **changed).probe() != base.probe()


def test_the_probe_sees_a_library_that_decodes_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    from cer_fusion.backbones import picture as module

    base = Transform(size_px=20)
    before = base.probe()
    module.probe.cache_clear()
    monkeypatch.setattr(module, "open_picture", lambda data: ramp(13, 9))
    assert base.probe() != before
    module.probe.cache_clear()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"resize": "stretch"}, "resize"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"colour": "GBR"}, "colour"),
        ({"scale": "0-2"}, "scale"),
        ({"size_px": 0}, "size_px"),
        ({"crop_pct": 1.5}, "crop_pct"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
    ],
)
def test_a_transform_that_makes_no_sense_is_refused_by_field(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Transform(**{"size_px": 32, **wrong})  # type: ignore[arg-type]
