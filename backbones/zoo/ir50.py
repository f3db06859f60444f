"""IR-50 and its kin: the residual networks of face recognition, as ArcFace made them and AdaFace trained them.

Deng et al., "ArcFace", CVPR 2019, section 3.2 (units with a batch norm first and PReLU, no ReLU after the sum); Kim,
Jain and Liu, "AdaFace", CVPR 2022. Names and shapes are those of two public code bases: TreB1eN/InsightFace_Pytorch,
commit 016916f3357aabc46fb1504116df5daef07ec0e6, ``model.py`` (style "arcface"), and mk-minchul/AdaFace, commit
9cb981642eb7b579487bfadb0ee9ad8fc3772b74, ``inference.py``, whose ``net.py`` was read in a copy (style "adaface"). The
code was written anew.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError, nearest
from ..picture import Transform
from ..recipes import Encoder, Recipe

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
"""Layers -> units in each of the four stages; people call 100 IR-101 too."""

WIDTHS = (64, 128, 256, 512)
STYLES = {"adaface": "BGR", "arcface": "RGB"}
"""Style -> the channel order that its public code feeds."""

REDUCTION = 16
"""Channels per hidden unit of the squeeze-and-excitation gate."""


def build(
    *,
    tag: str | None,
    pretrained: bool,
    depth: int = 50,
    style: str = "adaface",
    se: bool = False,
    colour: str | None = None,
) -> Encoder:
    """Build the network.

    Parameters
    ----------
    tag, pretrained
        Always None and False: there are no weights to download.
    depth : 18, 34, 50 or 100
        Layers; public code calls 100 also 101.
    style : "adaface" or "arcface"
        Whose units: AdaFace's have one batch norm more, and a last one without scale. Names and shapes tell them apart.
    se : bool
        Squeeze-and-excitation at the end of each unit (IR-SE).
    colour : "RGB" or "BGR", optional
        Channel order, where it is not the style's own (AdaFace: BGR, ArcFace: RGB).
    """
    if depth not in DEPTHS:
        raise OptionError(f"depth must be one of {', '.join(map(str, DEPTHS))}, however: {depth=}")
    if style not in STYLES:
        raise OptionError(f"style must be one of {', '.join(STYLES)}, however: {style=}{nearest(style, STYLES)}")
    module = IResNet(depth, style, se=se)
    return Encoder(
        architecture="ir",
        module=module,
        trunk=module,
        blocks={"embedding": 512},
        transform=Transform(
            size_px=112,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            colour=colour or STYLES[style],  # type: ignore[arg-type]
        ),
        options={"depth": depth, "style": style, "se": se},
        channels_last=True,
    )


RECIPE = Recipe(
    name="ir50",
    title="IR-50",
    variants=({}, {"style": "arcface"}, {"style": "arcface", "se": True}, {"depth": 18}, {"depth": 100}),
    note="IR-50 of face recognition (AdaFace, ArcFace), for faces aligned to 112 px. Public files load.",
    build=build,
    blocks={"embedding": 512},
    size_px=112,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    parameters=43_585_600,
)


class IResNet(nn.Module):
    """Aligned faces (b, 3, 112, 112) -> unit vectors (b, 512)."""

    def __init__(self, depth: int, style: str, *, se: bool) -> None:
        super().__init__()
        self.input_layer = stem()
        plan = zip((64, *WIDTHS[:-1]), WIDTHS, DEPTHS[depth], strict=True)
        self.body = nn.Sequential(*(unit for c, d, n in plan for unit in stage(c, d, n, style=style, se=se)))
        self.output_layer = output_layer(affine=style == "arcface")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, 112, 112) -> {"embedding": (b, 512)}, each of length 1 as in both public codes."""
        return {"embedding": F.normalize(self.output_layer(self.body(self.input_layer(x))))}


def stem() -> nn.Sequential:
    """(b, 3, h, w) -> (b, 64, h, w)."""
    return nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))


def stage(c: int, d: int, count: int, *, style: str, se: bool = False) -> list[nn.Module]:
    """So many units, the first of which halves the side."""
    return [Unit(c if number == 0 else d, d, 2 if number == 0 else 1, style, se=se) for number in range(count)]


def output_layer(*, affine: bool) -> nn.Sequential:
    """(b, 512, 7, 7) -> (b, 512)."""
    norm, linear = nn.BatchNorm2d(512), nn.Linear(512 * 7 * 7, 512)
    return nn.Sequential(norm, nn.Dropout(0.4), nn.Flatten(), linear, nn.BatchNorm1d(512, affine=affine))


class Unit(nn.Module):
    """A residual unit: (b, c, h, w) -> (b, d, h / stride, w / stride)."""

    def __init__(self, c: int, d: int, stride: int, style: str, *, se: bool) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer: nn.Module | None = None
        if c != d:
            self.shortcut_layer = nn.Sequential(nn.Conv2d(c, d, 1, stride, bias=False), nn.BatchNorm2d(d))
        between = [nn.BatchNorm2d(d)] if style == "adaface" else []
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(c), nn.Conv2d(c, d, 3, 1, 1, bias=False), *between, nn.PReLU(d),
            nn.Conv2d(d, d, 3, stride, 1, bias=False), nn.BatchNorm2d(d),
        )  # fmt: skip
        if se:
            self.res_layer.add_module("se_block" if style == "adaface" else "5", Gate(d))

    def forward(self, x: Tensor) -> Tensor:
        """Add what the layers make of x to x itself, every `stride`-th pixel of it."""
        beside = x[..., :: self.stride, :: self.stride] if self.shortcut_layer is None else self.shortcut_layer(x)
        return self.res_layer(x) + beside  # type: ignore[no-any-return]


class Gate(nn.Module):
    """Squeeze and excitation (Hu, Shen and Sun, CVPR 2018), without biases."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(d, d // REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(d // REDUCTION, d, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels by what they are on average."""
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()  # type: ignore[no-any-return]
