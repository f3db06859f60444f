"""Poolings are what they say, family by family, against timm's own `forward_head`; tiny networks, random weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from cer_fusion import backbones
from cer_fusion.backbones import OptionError
from cer_fusion.backbones.zoo import timm_model as t

TINY: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32}

EVERY = ("token_mean", "mean_norm", "cls", "cls_mean")
MEANS = ("token_mean", "mean_norm")

FAMILIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    # norms its tokens
    "vit_base_patch16_224": (TINY, EVERY),
    "vit_base_patch16_clip_224": (TINY, EVERY),
    "vit_base_patch14_reg4_dinov2": (TINY | {"img_size": 28}, EVERY),
    "vit_relpos_base_patch16_cls_224": (TINY, EVERY),
    "deit3_base_patch16_224": (TINY, EVERY),
    "deit_base_distilled_patch16_224": (TINY, EVERY),
    "eva02_base_patch16_clip_224": (TINY, EVERY),
    "vit_base_patch16_dinov3": (TINY, EVERY),
    "vit_base_patch16_gap_224": (TINY, MEANS),
    "convit_tiny": ({"embed_dim": 16, "depth": 3, "local_up_to_layer": 1, "img_size": 32}, EVERY),
    "cait_xxs24_224": (TINY, EVERY),
    "xcit_nano_12_p16_224": (TINY, EVERY),
    "mvitv2_tiny": ({"img_size": 32}, MEANS),
    # norms what was pooled
    "beit_base_patch16_224": (TINY, EVERY),
    "beitv2_base_patch16_224": (TINY, EVERY),
    "eva02_base_patch14_224": (TINY | {"img_size": 28}, EVERY),
    "vit_relpos_base_patch16_clsgap_224": (TINY, EVERY),
    "vit_base_patch16_rope_reg1_gap_256": (TINY, MEANS),
    "vit_base_patch16_rpn_224": (TINY, MEANS),
    "test_vit2": ({}, MEANS),
    "test_vit4": ({}, MEANS),
    # norms neither
    "vit_base_patch16_clip_quickgelu_224": (TINY | {"final_norm": False}, ("token_mean", "cls", "cls_mean")),
    # pools by attention
    "vit_base_patch16_siglip_224": (TINY, ()),
    "vit_pe_core_base_patch16_224": (TINY | {"attn_pool_num_heads": 2}, ()),
    "test_vit3": ({}, ()),
    # no tokens
    "test_resnet": ({}, ()),
    "test_convnext": ({}, ()),
    "test_efficientnet": ({}, ()),
    "test_mambaout": ({}, ()),
    "swin_tiny_patch4_window7_224": ({"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "img_size": 56}, ()),
}
"""timm's name -> what makes it tiny, and the poolings beside "default" that it has."""


def trunk_of(name: str) -> nn.Module:
    """Build one whose norms do something that shows."""
    torch.manual_seed(0)
    trunk = t.create_trunk(name, tag=None, pretrained=False, **FAMILIES[name][0]).eval()
    with torch.no_grad():
        for part, module in trunk.named_modules():
            if "norm" in part and getattr(module, "weight", None) is not None:
                module.weight.add_(torch.rand_like(module.weight))  # type: ignore[operator, arg-type]
    return trunk


def picture(name: str, trunk: Any) -> Tensor:
    side = FAMILIES[name][0].get("img_size") or trunk.pretrained_cfg["input_size"][-1]
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def by_forward_head(trunk: Any, x: Tensor, pooling: str) -> Tensor:
    """What timm's own head makes of the features when it is told to pool so."""
    if pooling == "default":
        return trunk.forward_head(trunk.forward_features(x), pre_logits=True)  # type: ignore[no-any-return]
    first = trunk.num_prefix_tokens
    if pooling == "mean_norm":  # the norm, wherever it stands, of the mean of what would come before it
        late = not isinstance(getattr(trunk, "fc_norm", nn.Identity()), nn.Identity)
        if late:
            trunk.global_pool = "avg"
            return trunk.forward_head(trunk.forward_features(x), pre_logits=True)  # type: ignore[no-any-return]
        given: list[Tensor] = []
        trunk.norm.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
        trunk.forward_features(x)
        return trunk.norm(given[0][:, first:].mean(1))  # type: ignore[no-any-return]
    trunk.global_pool = ""  # every token as the head would norm it
    if type(trunk).__name__ == "VisionTransformerDistilled":  # its head knows no such thing, and norms no more
        tokens = trunk.forward_features(x)
    else:
        tokens = trunk.forward_head(trunk.forward_features(x), pre_logits=True)
    mean, cls = tokens[:, first:].mean(1), tokens[:, 0]
    return {"token_mean": mean, "cls": cls, "cls_mean": torch.cat([cls, mean], dim=1)}[pooling]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_pooling_of_a_family_is_what_timms_own_head_gives_or_is_refused(name: str) -> None:
    if not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    trunk = trunk_of(name)
    x = picture(name, trunk)
    has = FAMILIES[name][1] if hasattr(trunk, "num_prefix_tokens") else ()  # older timm does not say it of CaiT
    for pooling in ("default", *EVERY):
        if pooling != "default" and pooling not in has:
            with pytest.raises(OptionError, match=r"pooling=.*(attn_pool|transformer|class token|final norm)"):
                t.encoder_of(copy.deepcopy(trunk), pooling)
            continue
        with torch.inference_mode():
            expected = by_forward_head(copy.deepcopy(trunk), x, pooling)
            encoder = t.encoder_of(copy.deepcopy(trunk), pooling)
            (found,) = encoder(x).values()
        assert found.shape == (2, encoder.width()), pooling
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=lambda m, p=pooling: f"{p}: {m}")


def test_means_before_and_after_the_norm_are_told_apart_where_the_norm_comes_late() -> None:
    trunk = trunk_of("beit_base_patch16_224")
    with torch.inference_mode():
        x = picture("beit_base_patch16_224", trunk)
        before = t.encoder_of(trunk, "mean_norm")(x)["mean_norm"]
        after = t.encoder_of(trunk, "token_mean")(x)["token_mean"]
        assert (before - trunk(x)).abs().max() < 1e-6  # type: ignore[operator]
    assert (before - after).abs().max() > 1e-3


def test_rows_that_were_pooled_otherwise_before_are_another_feature() -> None:
    assert backbones.create("timm:test_vit2", weights="random", pooling="token_mean").spec()["code"] == 2
    assert backbones.create("timm:test_vit", weights="random", pooling="token_mean").spec()["code"] == 1
