"""ViT-B/16, pretrained as a masked autoencoder; the feature is the mean of its output tokens.

The paper (section 3.2) takes "the mean of the output tokens" and leaves open which and where. Here: the 196 patch
tokens, without the class token, which MAE does not train, after the final layer norm, which is part of the pretrained
encoder. MAE's own fine-tuning averages before that norm: ``pooling="mean_norm"``.
"""

from __future__ import annotations

from ..errors import OptionError, nearest
from ..recipes import Encoder, Recipe
from . import timm_model as t

MODEL = "vit_base_patch16_224"
POOLINGS = ("token_mean", "mean_norm", "cls")


def build(
    *,
    tag: str | None,
    pretrained: bool,
    pooling: str = "token_mean",
    drop_path: float = 0.1,
    img_size: int = 224,
    crop_pct: float = 1.0,
) -> Encoder:
    """Build the network.

    Parameters
    ----------
    tag, pretrained
        timm's pretrained tag, and whether to download it.
    pooling : "token_mean", "mean_norm" or "cls"
        See the module.
    drop_path : float
        Stochastic depth while training (the paper: 0.1); changes nothing in an embedding.
    img_size : int
        Side of the input in pixels, a multiple of 16; position embeddings are resampled.
    crop_pct : float
        timm crops the centre 0.9 of ImageNet pictures; faces come cropped already, and the paper feeds them whole.
    """
    if pooling not in POOLINGS:
        known = ", ".join(POOLINGS)
        raise OptionError(f"pooling must be one of {known}, however: {pooling=}{nearest(pooling, POOLINGS)}")
    trunk = t.build_trunk(MODEL, tag=tag or "mae", pretrained=pretrained, img_size=img_size, drop_path_rate=drop_path)
    module = t.encoder_of(trunk, pooling)
    return Encoder(
        architecture=f"timm:{MODEL}",
        module=module,
        trunk=trunk,
        blocks={module.block: module.width()},
        transform=t.data_config(trunk, img_size=img_size, crop_pct=crop_pct),
        options={"img_size": img_size, "pooling": pooling},
        foreign_heads=t.classifiers(trunk),
        adapt=t.adapter(trunk),
        cpu_piece=4,
        notes={"drop_path": drop_path},
    )


def tags(_: str) -> list[str]:
    """List timm's pretrained tags of ViT-B/16."""
    return list(t.tags_of(MODEL))


RECIPE = Recipe(
    name="vit",
    title="ViT-B/16",
    variants=({}, {"pooling": "mean_norm"}),
    note="ViT-B/16; mean of the output patch tokens. MAE weights: ImageNet-1K without labels, CC-BY-NC 4.0.",
    build=build,
    blocks={"token_mean": 768},
    size_px=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    parameters=85_798_656,
    default_weights="mae",
    tags=tags,
)
