"""MA-Net: a network with a local-attention and a multi-scale branch for faces in the wild, 512 + 512.

Zhao, Liu and Wang, "Learning Deep Global Multi-Scale and Local Attention Features for Facial Expression Recognition in
the Wild", IEEE TIP 2021, sections III-B and III-C. Written from the paper and the public code's behaviour; parameter
names are those of the public checkpoints, so those load. The blocks: CBAM, Woo et al., ECCV 2018, sections 3.1 and 3.2;
the residual block, He et al., CVPR 2016, section 3.1. A checkpoint does not tell its flow (see `MulScaleBlock`); the
card beside it may.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CheckpointError, OptionError, nearest
from ..picture import Transform
from ..recipes import Branches, Encoder, Recipe, Usage
from ..weights.fit import CARD_FILE, card_beside

if TYPE_CHECKING:
    from ..weights.checkpoint import Checkpoint


logger = logging.getLogger(__name__)

SIZE_PX = 224

HEADS = {"local": "fc_1", "multi_scale": "fc_2"}
"""Which linear head reads which block."""

Extra = Literal["quadrants", "logits"]
"""Blocks beyond the two: "quadrants": the four parts that ``local`` is the mean of, ``local_p1`` (top left),
``local_p2`` (top right), ``local_p3`` (bottom left), ``local_p4`` (bottom right); "logits": what each head says."""

Block = Callable[[int, int, int], nn.Module]

Flow = Literal["bidirectional", "legacy"]

FLOWS: tuple[Flow, ...] = ("legacy", "bidirectional")

GROUPS = 4
"""Channel groups a multi-scale block splits into."""

REDUCTION = 16
"""Channels per hidden unit of the channel gate."""

FOREIGN_HEAD = 100
"""From this width on, a file's heads are those of a face recogniser (MS-Celeb-1M: 12666) and of no further use."""

BOTH_FLOWS = (
    "the file does not tell its flow: names and shapes are the same in both\n"
    "  legacy: trained with the public code before April 2023, as the well-known RAF-DB checkpoint (88.33 %) was\n"
    "  bidirectional: trained with later code\n"
    "  date unknown: extract labelled pictures both ways with -O extra=logits; the right one is the more accurate"
)
"""How to decide."""

SHARES = {"local": 0.6, "multi_scale": 0.4}
"""How the public code mixes the branches' logits and losses."""


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
    wanted = extras(extra)
    if "logits" in wanted and replace_heads:
        raise OptionError(
            "extra=logits is what the file's own heads say, and replace_heads=True puts untrained ones in their place\n"
            "  keep the file's heads: num_classes=N, as wide as cer-feat inspect says"
        )
    module = MANet(num_classes, flow=flow, extra=wanted)  # type: ignore[arg-type]
    options = {"flow": flow, **({"extra": list(wanted)} if wanted else {})}

    def settle(opened: Checkpoint) -> None:
        if options["flow"] == "auto":
            options["flow"] = found = flow_beside(opened.path, opened.state)
            module.decide(found)
            logger.info("flow auto: %s, says the card beside %s", found, opened.path.name)

    return Encoder(
        architecture="manet",
        module=module,
        trunk=module,
        blocks=module.blocks(),
        # The public test transform: Resize((224, 224)), ToTensor, and no normalisation.
        transform=Transform(size_px=SIZE_PX, resize="squash", interpolation="bilinear"),
        options=options,
        settle=settle,
        heads=() if "logits" in wanted else tuple(HEADS.values()),
        branches=Branches(
            k=num_classes,
            shares=SHARES,
            logits=lambda module, x: module.logits(module(x)),
        ),
        replace_heads=replace_heads,
        channels_last=True,
        cpu_piece=16,
        notes={"num_classes": num_classes},
    )


def usage(heads: Mapping[str, int], card: Mapping[str, Any] | None, path: Path) -> Usage:
    """Say how `create` takes a file: its heads are kept where both know as many classes; its card may tell the flow."""
    flow = None if card is None else flow_in(card, path)
    notes = [f"flow={flow}, says the card.json beside the file" if flow else BOTH_FLOWS]
    widths = {heads[head] for head in HEADS.values() if head in heads}
    options: dict[str, Any] = {}
    if len(widths) == 1 and max(widths) < FOREIGN_HEAD:
        options = {} if widths == {7} else {"num_classes": max(widths)}
    else:
        options = {"replace_heads": True}
        notes.append(
            "its heads cannot be kept (of another task, of two widths, or none): new, untrained ones are put there"
        )
    return Usage(options=options, choices=[{"flow": each} for each in ((flow,) if flow else FLOWS)], notes=notes)


def again(options: Mapping[str, Any]) -> dict[str, Any]:
    """Take other heads where no row depends on them."""
    return {} if "logits" in options.get("extra", ()) else {"replace_heads": True}


RECIPE = Recipe(
    name="manet",
    title="MA-Net",
    note="MA-Net; local-attention and multi-scale branch with a head each. Public checkpoints load; none is fetched.",
    build=build,
    blocks={"local": 512, "multi_scale": 512},
    size_px=224,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    parameters=50_547_214,
    usage=usage,
    again=again,
)


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


def fuse_logits(
    logits: Mapping[str, Tensor], *, local: float = SHARES["local"], multi_scale: float = SHARES["multi_scale"]
) -> Tensor:
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


def stage(block: Block, in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    """Two blocks, the first of which changes channels and size."""
    return nn.Sequential(block(in_channels, channels, stride), block(channels, channels, 1))


def conv3x3(in_channels: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """Build a bias-free 3x3 convolution that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)


def shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    """Build the projection beside a block whose output differs in shape from its input; None where it does not."""
    if stride == 1 and in_channels == channels:
        return None
    projection = nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (ResNet-18's block)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(in_channels, channels, stride)

    def residual(self, x: Tensor) -> Tensor:
        """Compute what is added to the shortcut."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out: Tensor = self.bn2(self.conv2(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(b, c_in, h, w) -> (b, c, h / stride, w / stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(self.residual(x) + identity, inplace=True)


class AttentionBlock(BasicBlock):
    """A basic block whose residual passes a channel gate and a spatial gate before the addition."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, channels, stride)
        self.cbam = CBAM(channels)

    def residual(self, x: Tensor) -> Tensor:
        """Compute the gated residual."""
        out: Tensor = self.cbam(super().residual(x))
        return out


class CBAM(nn.Module):
    """Convolutional block attention: the channel gate, then the spatial gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        out: Tensor = self.SpatialGate(self.ChannelGate(x))
        return out


class ChannelGate(nn.Module):
    """Weigh channels by sigmoid(mlp(average) + mlp(maximum)); one perceptron for both (CBAM, equation 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        weight = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))  # (b, c, h, w) -> (b, c)
        return x * weight[:, :, None, None]


class SpatialGate(nn.Module):
    """Weigh places by a 7x7 convolution over the channels' maximum and mean, in that order (CBAM, equation 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Sequential()
        self.spatial.add_module("conv", nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False))
        self.spatial.add_module("bn", nn.BatchNorm2d(1, momentum=0.01))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        summary = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (b, c, h, w) -> (b, 2, h, w)
        return x * sigmoid(self.spatial(summary))


def sigmoid(x: Tensor) -> Tensor:
    """Compute the sigmoid of small maps so that a value's last bit does not depend on where in the batch it lies.

    PyTorch's CPU kernel rounds the elements beyond the last full vector register (16 floats) differently, and 7x7 maps
    end in the middle of one; so each map is filled up to a multiple of 64.
    """
    if x.device.type != "cpu":
        return torch.sigmoid(x)
    flat = x.flatten(1)  # (b, 1, h, w) -> (b, h * w)
    padded = F.pad(flat, (0, -flat.shape[1] % 64))
    return torch.sigmoid(padded)[:, : flat.shape[1]].reshape(x.shape)


class MulScaleBlock(nn.Module):
    """A convolution split into four channel groups, refined by two chains that hand each group on to the next.

    Chain 1 runs from group 1 to 4. Chain 2 runs from group 4 to 1 (``flow="bidirectional"``, the paper's figure), or
    from 1 to 4 like chain 1 (``flow="legacy"``, the public code before April 2023, with which well-known checkpoints
    were trained). A convolution belongs to its group in both flows, so the parameters have the same names and shapes.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1, *, flow: Flow = "bidirectional") -> None:
        super().__init__()
        width = channels // GROUPS
        self.flow = flow
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        for chain in (1, 2):
            for group in range(1, GROUPS + 1):
                self.add_module(f"conv{chain}_2_{group}", conv3x3(width, width))
                self.add_module(f"bn{chain}_2_{group}", nn.BatchNorm2d(width))
        self.downsample = shortcut(in_channels, channels, stride)

    def chain(self, number: int, parts: tuple[Tensor, ...], order: range) -> Tensor:
        """Run one chain over the groups in `order`; the outputs are joined in group order 1..4, without ReLU."""
        out: dict[int, Tensor] = {}
        carried: Tensor | None = None
        for group in order:
            x = parts[group - 1] if carried is None else F.relu(carried) + parts[group - 1]
            carried = getattr(self, f"bn{number}_2_{group}")(getattr(self, f"conv{number}_2_{group}")(x))
            out[group] = carried
        return torch.cat([out[group] for group in sorted(out)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c_in, h, w) -> (b, c, h / stride, w / stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        parts = F.relu(self.bn1(self.conv1(x)), inplace=True).chunk(GROUPS, dim=1)
        upward, downward = range(1, GROUPS + 1), range(GROUPS, 0, -1)
        out = self.chain(1, parts, upward) + self.chain(2, parts, downward if self.flow == "bidirectional" else upward)
        return F.relu(out + identity, inplace=True)


def flow_beside(path: Path, state: Mapping[str, Tensor]) -> Flow:
    """Read the flow of a weights file off the card beside it.

    Parameters
    ----------
    path : Path
        The weights file.
    state : dict of Tensor
        What it holds; a card that names another digest than theirs belongs to other weights.

    Raises
    ------
    OptionError
        If there is no card that says it: nothing is guessed.
    CheckpointError, CardError
        If the card cannot be read, was changed since it was sealed, or belongs to other weights.
    """
    card = card_beside(path, state)
    found = None if card is None else flow_in(card, path)
    if found is None:
        raise OptionError(
            f"flow='auto' has no answer: {BOTH_FLOWS}\n"
            f"  in file: {path} (and no {CARD_FILE} beside it says it)\n  say flow='legacy' or flow='bidirectional'"
        )
    return found


def flow_in(card: Mapping[str, Any], path: Path) -> Flow | None:
    """Read the flow off the card beside a weights file; None where it does not say.

    The card is fine-tuning's, or ``{"options": {"flow": "legacy"}}`` written by whoever knows.
    """
    options = card.get("options")
    flow = options.get("flow") if isinstance(options, dict) else None
    if flow is not None and flow not in get_args(Flow):
        known = ", ".join(get_args(Flow))
        raise CheckpointError(f"the card says flow={flow!r}, expected one of {known}: {path.with_name(CARD_FILE)}")
    return flow
