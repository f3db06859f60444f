"""Any ONNX model with a stated input recipe: ``onnx:<file>``; needs the extra ``[onnx]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cer_fusion.backbones.encoder import Recipe

if TYPE_CHECKING:
    from cer_fusion.backbones.onnx_backbone import OnnxBackbone


def build(
    *,
    target: str,
    device: str,
    precision: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    colour: str | None = None,
    scale: str | None = None,
    size_px: int | None = None,
    interpolation: str = "bicubic",
    resize: str = "squash",
    layout: str | None = None,
    output: str | None = None,
) -> OnnxBackbone:
    """Open the model.

    Parameters
    ----------
    target : str
        The file; data files that it names are read from its own folder.
    device, precision : str
        "cpu", "cuda", "cuda:1" or "auto"; "float32", which is what the model was saved in.
    mean, std : three floats
        In the model's channel order, on its value scale. Required: a file does not tell.
    colour : "RGB" or "BGR"
        Required.
    scale : "0-1" or "0-255"
        Required.
    size_px : int, optional
        Side of the input; only needed where the file leaves it open.
    interpolation, resize : str
        As in `Transform`.
    layout : "NCHW" or "NHWC", optional
        Only needed where the file leaves it open.
    output : str, optional
        Which output is the feature; the first when not given.
    """
    from cer_fusion.backbones.onnx_backbone import OnnxRecipe, create_onnx

    rest = {"size_px": size_px, "interpolation": interpolation, "resize": resize, "layout": layout, "output": output}
    recipe = OnnxRecipe.stated(mean=mean, std=std, colour=colour, scale=scale, **rest)
    return create_onnx(target, recipe, device=device, precision=precision)


RECIPE = Recipe(
    name="onnx:<file>",
    note="Any ONNX model; say mean, std, colour (RGB/BGR) and scale (0-1/0-255). Needs pip install 'cer-fusion[onnx]'.",
    build=build,
)
