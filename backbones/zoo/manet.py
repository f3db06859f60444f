"""MA-Net: local-attention and multi-scale branch, 512 + 512; see `cer_fusion.backbones.manet`."""

from __future__ import annotations

from collections.abc import Sequence

from cer_fusion.backbones.encoder import Branches, Encoder, Recipe
from cer_fusion.backbones.errors import OptionError
from cer_fusion.backbones.transform import Transform


def build(
    *,
    tag: str | None,
    pretrained: bool,
    flow: str = "bidirectional",
    num_classes: int = 7,
    replace_heads: bool = False,
    extra: str | Sequence[str] = "none",
) -> Encoder:
    """Build the network.

    Parameters
    ----------
    tag, pretrained
        Always None and False: there are no weights to download.
    flow : "bidirectional", "legacy" or "auto"
        "legacy" for checkpoints of the public code before April 2023 (the well-known RAF-DB ones). A file does not
        tell which it is: names and shapes are the same. "auto" takes what a ``card.json`` beside the file says, and
        is an error where there is none.
    num_classes : int
        Width of the two branch heads. The two blocks do not depend on them.
    replace_heads : bool
        Load the trunk of a file whose heads have another width (MS-Celeb-1M: 12666) and start new heads.
    extra : list, or text with commas
        Further blocks: "quadrants" (``local_p1`` to ``local_p4``, 512 each, whose mean is ``local``) and "logits"
        (``logits_local``, ``logits_multi_scale``, of which the heads are part of the identity).
    """
    from cer_fusion.backbones.manet import HEADS, SIZE_PX, MANet, extras

    wanted = extras(extra)
    if "logits" in wanted and replace_heads:
        raise OptionError(
            "extra=logits is what the file's own heads say, and replace_heads=True puts untrained ones in their place\n"
            "  keep the file's heads: num_classes=N, as wide as cer-feat inspect says"
        )
    module = MANet(num_classes, flow=flow, extra=wanted)  # type: ignore[arg-type]
    return Encoder(
        architecture="manet",
        module=module,
        trunk=module,
        blocks=module.blocks(),
        # The public test transform: Resize((224, 224)), ToTensor, and no normalisation.
        transform=Transform(size_px=SIZE_PX, resize="squash", interpolation="bilinear"),
        options={"flow": flow, **({"extra": list(wanted)} if wanted else {})},
        heads=() if "logits" in wanted else tuple(HEADS.values()),
        branches=Branches(
            k=num_classes,
            shares={"local": 0.6, "multi_scale": 0.4},  # as the public code mixes logits and losses
            logits=lambda module, x: module.logits(module(x)),
        ),
        replace_heads=replace_heads,
        channels_last=True,
        cpu_piece=16,
        notes={"num_classes": num_classes},
    )


RECIPE = Recipe(
    name="manet",
    note="MA-Net; local-attention and multi-scale branch with a head each. Public checkpoints load; none is fetched.",
    build=build,
    blocks={"local": 512, "multi_scale": 512},
    size_px=224,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    parameters=50_547_214,
)
