"""Any other timm model, with its own preprocessing: ``timm:<name>`` or ``timm:<name>.<tag>``."""

from __future__ import annotations

from cer_fusion.backbones.encoder import Encoder, Recipe


def build(
    *,
    target: str,
    tag: str | None,
    pretrained: bool,
    pooling: str = "default",
    img_size: int | None = None,
    crop_pct: float | None = None,
    interpolation: str | None = None,
) -> Encoder:
    """Build the network.

    Parameters
    ----------
    target : str
        timm's model name, with or without a pretrained tag.
    tag, pretrained
        The tag whose preprocessing (and weights) are meant, and whether to download them.
    pooling : str
        See `cer_fusion.backbones.timm_encoder.Pooling`.
    img_size : int, optional
        Side of the input in pixels; the model's own when not given.
    crop_pct, interpolation : optional
        Other than the model's own.
    """
    from cer_fusion.backbones import timm_encoder as t

    name, _, own = target.partition(".")
    trunk = t.build_trunk(name, tag=tag or own or None, pretrained=pretrained, img_size=img_size)
    module = t.encoder_of(trunk, pooling)
    transform = t.data_config(trunk, img_size=img_size, crop_pct=crop_pct, interpolation=interpolation)
    return Encoder(
        architecture=f"timm:{name}",
        module=module,
        trunk=trunk,
        blocks={module.block: module.width()},
        transform=transform,
        options={"img_size": transform.size_px, "pooling": pooling},
        foreign_heads=t.classifiers(trunk),
        adapt=t.adapter(trunk),
    )


def tags(target: str) -> list[str]:
    """List timm's pretrained tags of the model."""
    from cer_fusion.backbones import timm_encoder as t

    return list(t.tags_of(target))


RECIPE = Recipe(
    name="timm:<name>",
    note="Any timm model, e.g. timm:vit_small_patch14_dinov2.lvd142m; poolings default, token_mean, cls, cls_mean.",
    build=build,
    tags=tags,
)
