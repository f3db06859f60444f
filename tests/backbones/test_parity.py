"""timm's encoders compute what plain formulas say, and odd pictures are seen as the cited reference sees them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.nn import functional as F
from torchvision import transforms

from cer_fusion import backbones
from cer_fusion.backbones import Backbone
from cer_fusion.backbones.picture import Transform
from tests.backbones.conftest import Encode, ramp

Make = Callable[[str], Backbone]
State = dict[str, Tensor]


def layer_norm(p: State, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p: State, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def attention(p: State, name: str, x: Tensor, heads: int) -> Tensor:
    b, t, d = x.shape
    q, k, v = linear(p, f"{name}.qkv", x).reshape(b, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / (d // heads) ** 0.5).exp()
    mixed = (weights / weights.sum(-1, keepdim=True)) @ v  # (b, heads, t, d / heads)
    return linear(p, f"{name}.proj", mixed.transpose(1, 2).reshape(b, t, d))


def vit_tokens(p: State, x: Tensor, *, heads: int, depth: int, patch: int) -> Tensor:
    """A ViT as formulas: (b, 3, h, w) -> (b, t, d), after the final norm (Dosovitskiy et al., ICLR 2021, eq. 1-3)."""
    cut = F.unfold(x, patch, stride=patch).transpose(1, 2)  # (b, 3, h, w) -> (b, t - 1, 3 * patch * patch)
    tokens = cut @ p["patch_embed.proj.weight"].flatten(1).T + p["patch_embed.proj.bias"]
    tokens = torch.cat([p["cls_token"].expand(len(x), -1, -1), tokens], dim=1) + p["pos_embed"]
    for n in range(depth):
        tokens = tokens + attention(p, f"blocks.{n}.attn", layer_norm(p, f"blocks.{n}.norm1", tokens), heads)
        h = linear(p, f"blocks.{n}.mlp.fc1", layer_norm(p, f"blocks.{n}.norm2", tokens))
        h = h * 0.5 * (1 + torch.erf(h / 2**0.5))
        tokens = tokens + linear(p, f"blocks.{n}.mlp.fc2", h)
    return layer_norm(p, "norm", tokens)


def noise(side: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def close(found: np.ndarray, expected: Tensor) -> None:
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=2e-4)


def test_the_vit_is_the_mean_of_the_patch_tokens_that_the_formulas_give(made: Make) -> None:
    backbone = made("vit")
    x = backbone.transform.to_tensor(torch.from_numpy(noise(224)))
    with torch.inference_mode():
        tokens = vit_tokens(backbone.state(), x, heads=12, depth=12, patch=16)  # type: ignore[attr-defined]
    assert tokens.shape == (1, 197, 768)
    close(backbone.compute(noise(224))["token_mean"], tokens[:, 1:].mean(1))


def test_pool2048_is_the_mean_of_the_last_map_and_bottleneck512_of_the_map_before_its_last_convolution(
    made: Make,
) -> None:
    tapped = made("resnet50")
    trunk = timm.create_model("resnet50", num_classes=0).eval()
    trunk.load_state_dict(tapped.state())  # type: ignore[attr-defined]
    seen: dict[str, Tensor] = {}
    trunk.layer4[2].act2.register_forward_hook(lambda module, given, out: seen.update(act2=out))
    trunk.layer4[2].register_forward_hook(lambda module, given, out: seen.update(last=out))
    x = tapped.transform.to_tensor(torch.from_numpy(noise(224)))
    with torch.inference_mode():
        pooled = trunk(x)
        torch.testing.assert_close(pooled, seen["last"].mean((2, 3)), rtol=1e-4, atol=1e-5)
        close(tapped.compute(noise(224))["bottleneck512"], seen["act2"].mean((2, 3)))
    usual = backbones.create("resnet50", weights="random", tap="pool2048")
    usual.module.trunk.load_state_dict(trunk.state_dict())  # type: ignore[attr-defined]
    close(usual.compute(noise(224))["pool2048"], pooled)


def odd_pictures(encode: Encode) -> dict[str, bytes]:
    """Pictures as they come: one pixel, strips, grey, palettes, an opaque alpha, CMYK, turned by EXIF, progressive."""
    turned = Image.Exif()
    turned[0x0112] = 6
    face = ramp(61, 47)
    return {
        "one pixel": encode(ramp(1, 1)),
        "a wide strip": encode(ramp(93, 3)),
        "a tall strip": encode(ramp(3, 93)),
        "grey": encode(face.convert("L")),
        "two levels": encode(face.convert("1")),
        "palette": encode(face.convert("P", palette=Image.Palette.ADAPTIVE, colors=17)),
        "GIF": encode(face.convert("P", palette=Image.Palette.ADAPTIVE, colors=17), "GIF"),
        "opaque alpha": encode(face.convert("RGBA")),
        "grey with opaque alpha": encode(face.convert("LA")),
        "JPEG": encode(face, "JPEG", quality=60),
        "grey JPEG": encode(face.convert("L"), "JPEG"),
        "CMYK JPEG": encode(face.convert("CMYK"), "JPEG"),
        "progressive JPEG": encode(face, "JPEG", progressive=True),
        "BMP": encode(face, "BMP"),
        "WebP": encode(face, "WEBP", lossless=True),
        "turned by EXIF": encode(face, "JPEG", exif=turned),
    }


def reference_of(name: str) -> tuple[Any, Transform]:
    """The cited reference transform, and ours."""
    from cer_fusion.backbones.zoo.timm_model import data_config

    if name == "manet":
        squash = Transform(size_px=224, resize="squash", interpolation="bilinear")
        return transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor()]), squash
    with torch.device("meta"):
        trunk = timm.create_model(name)
    reference = create_transform(**resolve_data_config({}, model=trunk))  # type: ignore[no-untyped-call]
    return reference, data_config(trunk, img_size=None, crop_pct=None)


@pytest.mark.parametrize("name", ["manet", "vit_base_patch16_224.mae", "resnet50.tv_in1k"])
def test_odd_pictures_are_seen_within_one_grey_level_of_the_reference(name: str, encode: Encode) -> None:
    from PIL import ImageOps

    reference, transform = reference_of(name)
    level = torch.tensor([1 / 255 / deviation for deviation in transform.std]).view(3, 1, 1)
    for kind, data in odd_pictures(encode).items():
        opened = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        found = transform.to_tensor(torch.from_numpy(transform.decode(data)[None]))[0]
        assert ((found - reference(opened)).abs() <= level * 1.001).all(), kind


def test_a_grey_picture_has_three_equal_channels(encode: Encode) -> None:
    found = Transform(size_px=32).decode(encode(ramp(61, 47).convert("L")))
    assert (found == found[..., :1]).all()
    assert found.std() > 0
