"""MA-Net: a network with a local-attention and a multi-scale branch for faces in the wild.

Zhao, Liu and Wang, "Learning Deep Global Multi-Scale and Local Attention Features for Facial Expression Recognition in
the Wild", IEEE TIP 2021. Written from the paper; parameter names are those of the public checkpoints, so those load.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, Self, get_args

from cer_fusion.backbones.errors import OptionError, nearest
from cer_fusion.backbones.manet_blocks import AttentionBlock, BasicBlock, Flow, MulScaleBlock
from torch import Tensor, nn
from torch.nn import functional as F

SIZE_PX = 224
HEADS = {"local": "fc_1", "multi_scale": "fc_2"}
"""Which linear head reads which block."""

Extra = Literal["quadrants", "logits"]
"""Blocks beyond the two: "quadrants": the four parts that ``local`` is the mean of, ``local_p1`` (top left),
``local_p2`` (top right), ``local_p3`` (bottom left), ``local_p4`` (bottom right); "logits": what each head says."""


class MANet(nn.Module):
    """Picture -> two 512-d blocks, ``local`` and ``multi_scale``, each with a linear head of its own.

    Parameters
    ----------
    num_classes : int
        Width of the two heads ``fc_1`` (local) and ``fc_2`` (multi-scale).
    flow : "bidirectional", "legacy" or "auto"
        Direction of the second chain in the multi-scale blocks; see `MulScaleBlock`. "auto" leaves it open: such a
        network computes nothing until `decide` is called.
    extra : collection of "quadrants" and "logits"
        Further blocks that `forward` gives; see `Extra` and `blocks`.
    """

    def __init__(
        self, num_classes: int = 7, *, flow: Flow | Literal["auto"] = "bidirectional", extra: Collection[Extra] = ()
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise OptionError(f"num_classes must be at least 1, however: {num_classes=}")
        self.extra = extras(list(extra))
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(BasicBlock, 64, 64, stride=1)
        self.layer2 = stage(BasicBlock, 64, 128, stride=2)
        for place in range(1, 5):
            self.add_module(f"layer3_1_p{place}", stage(AttentionBlock, 128, 256, stride=2))
            self.add_module(f"layer4_1_p{place}", stage(AttentionBlock, 256, 512, stride=1))
        self.layer3_2 = stage(MulScaleBlock, 128, 256, stride=2)
        self.layer4_2 = stage(MulScaleBlock, 256, 512, stride=2)
        self.fc_1 = nn.Linear(512, num_classes)
        self.fc_2 = nn.Linear(512, num_classes)
        self.flow: Flow | None = None
        if flow != "auto":
            self.decide(flow)
        self.reset()

    def blocks(self) -> dict[str, int]:
        """Return what `forward` gives, in that order: block name -> width."""
        widths = {"local": 512, "multi_scale": 512}
        if "quadrants" in self.extra:
            widths |= {f"local_p{place}": 512 for place in range(1, 5)}
        if "logits" in self.extra:
            widths |= {f"logits_{block}": getattr(self, head).out_features for block, head in HEADS.items()}
        return widths

    def decide(self, flow: Flow) -> None:
        """Set the direction of the second chain in all multi-scale blocks."""
        if flow not in get_args(Flow):
            known = (*get_args(Flow), "auto")
            raise OptionError(f"flow must be one of {', '.join(known)}, however: flow={flow!r}{nearest(flow, known)}")
        self.flow = flow
        for module in self.modules():
            if isinstance(module, MulScaleBlock):
                module.flow = flow

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; who uses a network does that first, so an open flow ends here."""
        self._check_flow()
        return super().train(mode)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Say in timm's way which layers there are, from the picture on; blocks of one depth are one."""
        return {"stem": r"^conv1|bn1", "blocks": r"^layer(\d)" if coarse else r"^layer(\d)\w*\.(\d)"}

    def reset(self) -> None:
        """Draw new convolution weights: normal with variance 2 / fan-out (He et al., ICCV 2015)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Embed pictures.

        Parameters
        ----------
        x : Tensor of shape (b, 3, 224, 224)
            RGB in [0, 1], not normalised.

        Returns
        -------
        dict
            ``local`` (b, 512) and ``multi_scale`` (b, 512), in the order in which they are joined to 1024-d; then the
            extra blocks that were asked for.
        """
        shared = self.stem(x)
        parts = self.quadrant_averages(shared)
        rows = {"local": mean_of(parts), "multi_scale": self.multi_scale(shared)}
        if "quadrants" in self.extra:
            rows |= {f"local_p{place}": part for place, part in enumerate(parts, start=1)}
        if "logits" in self.extra:
            rows |= {f"logits_{block}": logits for block, logits in self.logits(rows).items()}
        return rows

    def stem(self, x: Tensor) -> Tensor:
        """Compute what both branches share: (b, 3, 224, 224) -> (b, 128, 28, 28)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        out: Tensor = self.layer2(self.layer1(x))
        return out

    def local(self, shared: Tensor) -> Tensor:
        """Embed the quadrants, each by its own layers: (b, 128, 28, 28) -> (b, 512).

        The public network stitches the four 7x7 maps together before it averages; as the maps are equally large, that
        is the mean of the four averages.
        """
        return mean_of(self.quadrant_averages(shared))

    def quadrant_averages(self, shared: Tensor) -> list[Tensor]:
        """Embed each quadrant by itself, p1 to p4: (b, 128, 28, 28) -> four times (b, 512)."""
        return [self.quadrant(place, part).mean((2, 3)) for place, part in enumerate(quadrants(shared), start=1)]

    def quadrant(self, place: int, part: Tensor) -> Tensor:
        """Run the layers of quadrant 1..4: (b, 128, 14, 14) -> (b, 512, 7, 7)."""
        out: Tensor = getattr(self, f"layer4_1_p{place}")(getattr(self, f"layer3_1_p{place}")(part))
        return out

    def multi_scale(self, shared: Tensor) -> Tensor:
        """Embed the whole map: (b, 128, 28, 28) -> (b, 512)."""
        self._check_flow()
        out: Tensor = self.layer4_2(self.layer3_2(shared))  # (b, 512, 7, 7)
        return out.mean((2, 3))

    def logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Apply each block's head: {block: (b, 512)} -> {block: (b, num_classes)}."""
        return {block: getattr(self, head)(features[block]) for block, head in HEADS.items()}

    def _check_flow(self) -> None:
        if self.flow is None:
            raise OptionError(
                "flow='auto' is answered by the card.json beside a weights file, and no file was named\n"
                "  say flow='bidirectional' or flow='legacy'"
            )


def extras(given: str | Sequence[str]) -> tuple[Extra, ...]:
    """Read which extra blocks are meant: a list, or text with commas; "none" and "" are none of them.

    Raises
    ------
    OptionError
        If one of them is unknown.
    """
    words = [word.strip() for word in given.split(",")] if isinstance(given, str) else list(given)
    words = [] if words in (["none"], [""]) else words
    known: tuple[Extra, ...] = get_args(Extra)
    for word in words:
        if word not in known:
            raise OptionError(
                f"extra must be none or a list of {', '.join(known)}, however: {word!r}{nearest(str(word), known)}"
            )
    return tuple(extra for extra in known if extra in words)


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    """Average the four quadrants, always added in the same order: four times (b, d) -> (b, d)."""
    return (parts[0] + parts[1] + parts[2] + parts[3]) / 4


def quadrants(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut a map into top-left, top-right, bottom-left, bottom-right (p1..p4 of the checkpoints)."""
    y, z = x.shape[2] // 2, x.shape[3] // 2
    return x[:, :, :y, :z], x[:, :, :y, z:], x[:, :, y:, :z], x[:, :, y:, z:]


def fuse_logits(logits: Mapping[str, Tensor], *, local: float = 0.6, multi_scale: float = 0.4) -> Tensor:
    """Mix the two branches' logits: local x 0.6 + multi-scale x 0.4, as the public code does at test time.

    Parameters
    ----------
    logits : dict of Tensor of shape (b, k)
        As `MANet.logits` gives them.
    local, multi_scale : float
        One weight a branch, always by name: the literature lists the branches in either order.

    Returns
    -------
    Tensor of shape (b, k)
    """
    return local * logits["local"] + multi_scale * logits["multi_scale"]


Block = Callable[[int, int, int], nn.Module]


def stage(block: Block, in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    """Two blocks, the first of which changes channels and size."""
    return nn.Sequential(block(in_channels, channels, stride), block(channels, channels, 1))
