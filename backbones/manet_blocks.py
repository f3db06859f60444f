"""The three residual blocks of MA-Net: our own code, after the papers and the public code's behaviour.

Sources: MA-Net, Zhao, Liu and Wang, IEEE TIP 2021, sections III-B and III-C; CBAM, Woo et al., ECCV 2018, sections
3.1 and 3.2; the residual block, He et al., CVPR 2016, section 3.1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Flow = Literal["bidirectional", "legacy"]

GROUPS = 4
"""Channel groups a multi-scale block splits into."""

REDUCTION = 16
"""Channels per hidden unit of the channel gate."""


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
