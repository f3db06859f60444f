"""MobileFaceNet: a face recogniser of a million parameters.

Chen, Liu, Gao and Han, "MobileFaceNets", CCBR 2018, table 1. Names and shapes are those of TreB1eN/InsightFace_Pytorch,
commit 016916f3357aabc46fb1504116df5daef07ec0e6, ``model.py``, and, behind ``output_layer``, of the landmark network in
Talented-Q/POSTER_V2, commit aec8d8eeeecb8206eaa22b1ce1fa4d44e6c27c3f, ``models/mobilefacenet.py``; the code was written
anew.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..picture import Transform
from ..recipes import Encoder, Recipe

OUTPUT = "output_layer."
"""What some code bases put before the names of the last three layers."""


def build(*, tag: str | None, pretrained: bool, width: int = 512, colour: str = "RGB") -> Encoder:
    """Build the network.

    Parameters
    ----------
    tag, pretrained
        Always None and False: there are no weights to download.
    width : int
        Of the embedding: 512, or 136 for the one that finds 68 landmarks.
    colour : "RGB" or "BGR"
        Channel order; a file does not tell.
    """
    if width < 1:
        raise OptionError(f"width must be at least 1, however: {width=}")
    module = MobileFaceNet(width)

    def adapt(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name.removeprefix(OUTPUT): tensor for name, tensor in state.items()}

    return Encoder(
        architecture="mobilefacenet",
        module=module,
        trunk=module,
        blocks={"embedding": width},
        transform=Transform(
            size_px=112,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            colour=colour,  # type: ignore[arg-type]
        ),
        options={"width": width},
        adapt=adapt,
        channels_last=True,
    )


RECIPE = Recipe(
    name="mobilefacenet",
    title="MobileFaceNet",
    variants=({}, {"width": 136}),
    note="MobileFaceNet of face recognition, for faces aligned to 112 px. Public files load.",
    build=build,
    blocks={"embedding": 512},
    size_px=112,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    parameters=1_200_512,
)


class MobileFaceNet(nn.Module):
    """Aligned faces (b, 3, 112, 112) -> unit vectors (b, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, layer in trunk_layers():
            self.add_module(name, layer)
        for name, layer in last_layers(width):
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, 112, 112) -> {"embedding": (b, width)}, each of length 1 as in the public code."""
        for layer in self.children():
            x = layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)
        return {"embedding": F.normalize(x)}


def trunk_layers() -> list[tuple[str, nn.Module]]:
    """Name the layers up to the 512 maps of 7 x 7, in the order of computation."""
    return [
        ("conv1", Conv(3, 64, 3, 2)),
        ("conv2_dw", Conv(64, 64, 3, groups=64)),
        ("conv_23", Bottleneck(64, 64, 128, 2)),
        ("conv_3", Repeated(64, 128, 4)),
        ("conv_34", Bottleneck(64, 128, 256, 2)),
        ("conv_4", Repeated(128, 256, 6)),
        ("conv_45", Bottleneck(128, 128, 512, 2)),
        ("conv_5", Repeated(128, 256, 2)),
        ("conv_6_sep", Conv(128, 512, 1)),
    ]


def last_layers(width: int) -> list[tuple[str, nn.Module]]:
    """Name those that make one vector of the maps."""
    return [
        ("conv_6_dw", Conv(512, 512, 7, groups=512, padding=0, acts=False)),
        ("linear", nn.Linear(512, width, bias=False)),
        ("bn", nn.BatchNorm1d(width)),
    ]


class Conv(nn.Sequential):
    """A convolution, its batch norm and, unless it is linear, PReLU."""

    def __init__(
        self,
        c: int,
        d: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        padding: int | None = None,
        acts: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.add_module("conv", nn.Conv2d(c, d, kernel, stride, padding, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(d))
        if acts:
            self.add_module("prelu", nn.PReLU(d))


class Bottleneck(nn.Module):
    """Widened, seen channel by channel, narrowed; added to its input where `is_residual`."""

    def __init__(self, c: int, d: int, hidden: int, stride: int = 1, *, is_residual: bool = False) -> None:
        super().__init__()
        self.conv = Conv(c, hidden, 1)
        self.conv_dw = Conv(hidden, hidden, 3, stride, groups=hidden)
        self.project = Conv(hidden, d, 1, acts=False)
        self.is_residual = is_residual

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h / stride, w / stride)."""
        found: Tensor = self.project(self.conv_dw(self.conv(x)))
        return x + found if self.is_residual else found


class Repeated(nn.Module):
    """Several residual bottlenecks."""

    def __init__(self, c: int, hidden: int, count: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(Bottleneck(c, c, hidden, is_residual=True) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        return self.model(x)  # type: ignore[no-any-return]
