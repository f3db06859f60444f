"""MA-Net computes what a second writing of it as plain formulas does: each block, each branch, the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cer_fusion.backbones.zoo.manet import (
    AttentionBlock,
    BasicBlock,
    ChannelGate,
    MANet,
    MulScaleBlock,
    SpatialGate,
    quadrants,
    sigmoid,
)
from tests.backbones.conftest import wake

State = dict[str, Tensor]


def conv(p: State, name: str, x: Tensor, *, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(x, p[f"{name}.weight"], stride=stride, padding=padding)


def norm(p: State, name: str, x: Tensor) -> Tensor:
    mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    scale = p[f"{name}.weight"] / (var + 1e-5).sqrt()
    return x * scale[:, None, None] + (p[f"{name}.bias"] - mean * scale)[:, None, None]


def shortcut(p: State, name: str, x: Tensor, stride: int) -> Tensor:
    if f"{name}.downsample.0.weight" not in p:
        return x
    return norm(p, f"{name}.downsample.1", conv(p, f"{name}.downsample.0", x, stride=stride, padding=0))


def residual(p: State, name: str, x: Tensor, stride: int) -> Tensor:
    h = norm(p, f"{name}.bn1", conv(p, f"{name}.conv1", x, stride=stride)).clamp(min=0)
    return norm(p, f"{name}.bn2", conv(p, f"{name}.conv2", h))


def basic(p: State, name: str, x: Tensor, stride: int) -> Tensor:
    return (residual(p, name, x, stride) + shortcut(p, name, x, stride)).clamp(min=0)


def attention(p: State, name: str, x: Tensor, stride: int) -> Tensor:
    h = residual(p, name, x, stride)

    def perceptron(v: Tensor) -> Tensor:
        gate = f"{name}.cbam.ChannelGate.mlp"
        hidden = (v @ p[f"{gate}.1.weight"].T + p[f"{gate}.1.bias"]).clamp(min=0)
        return hidden @ p[f"{gate}.3.weight"].T + p[f"{gate}.3.bias"]

    average, maximum = h.flatten(2).mean(2), h.flatten(2).max(2).values
    h = h * (1 / (1 + torch.exp(-perceptron(average) - perceptron(maximum))))[:, :, None, None]
    maps = torch.stack([h.max(1).values, h.mean(1)], dim=1)
    gate = f"{name}.cbam.SpatialGate.spatial"
    h = h * (1 / (1 + torch.exp(-norm(p, f"{gate}.bn", conv(p, f"{gate}.conv", maps, padding=3)))))
    return (h + shortcut(p, name, x, stride)).clamp(min=0)


def mul_scale(p: State, name: str, x: Tensor, stride: int, flow: str) -> Tensor:
    h = norm(p, f"{name}.bn1", conv(p, f"{name}.conv1", x, stride=stride)).clamp(min=0)
    x1, x2, x3, x4 = h.chunk(4, dim=1)

    def step(chain: int, group: int, x: Tensor) -> Tensor:
        return norm(p, f"{name}.bn{chain}_2_{group}", conv(p, f"{name}.conv{chain}_2_{group}", x))

    y1 = step(1, 1, x1)
    y2 = step(1, 2, y1.clamp(min=0) + x2)
    y3 = step(1, 3, y2.clamp(min=0) + x3)
    y4 = step(1, 4, y3.clamp(min=0) + x4)
    if flow == "bidirectional":
        z4 = step(2, 4, x4)
        z3 = step(2, 3, z4.clamp(min=0) + x3)
        z2 = step(2, 2, z3.clamp(min=0) + x2)
        z1 = step(2, 1, z2.clamp(min=0) + x1)
    else:
        z1 = step(2, 1, x1)
        z2 = step(2, 2, z1.clamp(min=0) + x2)
        z3 = step(2, 3, z2.clamp(min=0) + x3)
        z4 = step(2, 4, z3.clamp(min=0) + x4)
    h = torch.cat([y1, y2, y3, y4], dim=1) + torch.cat([z1, z2, z3, z4], dim=1)
    return (h + shortcut(p, name, x, stride)).clamp(min=0)


def whole(p: State, x: Tensor, flow: str) -> State:
    """MA-Net as formulas, stitching the quadrants together as the public network does."""
    h = norm(p, "bn1", conv(p, "conv1", x, stride=2, padding=3)).clamp(min=0)
    h = F.max_pool2d(h, 3, 2, 1)
    for name, stride in (("layer1.0", 1), ("layer1.1", 1), ("layer2.0", 2), ("layer2.1", 1)):
        h = basic(p, name, h, stride)
    parts = []
    for place, (rows, columns) in enumerate(
        [
            (slice(0, 14), slice(0, 14)),
            (slice(0, 14), slice(14, 28)),
            (slice(14, 28), slice(0, 14)),
            (slice(14, 28),) * 2,
        ],
        start=1,
    ):
        part = h[:, :, rows, columns]
        for name, stride in ((f"layer3_1_p{place}", 2), (f"layer4_1_p{place}", 1)):
            part = attention(p, f"{name}.1", attention(p, f"{name}.0", part, stride), 1)
        parts.append(part)
    stitched = torch.cat([torch.cat(parts[:2], dim=3), torch.cat(parts[2:], dim=3)], dim=2)
    assert stitched.shape[1:] == (512, 14, 14)
    for name in ("layer3_2", "layer4_2"):
        h = mul_scale(p, f"{name}.1", mul_scale(p, f"{name}.0", h, 2, flow), 1, flow)
    return {"local": stitched.mean((2, 3)), "multi_scale": h.mean((2, 3))}


@pytest.mark.parametrize("flow", ["bidirectional", "legacy"])
def test_it_computes_what_the_formulas_say(flow: str, net: MANet, legacy: MANet, x: Tensor) -> None:
    with torch.inference_mode():
        found = (net if flow == "bidirectional" else legacy)(x)
        expected = whole(net.state_dict(), x, flow)
    for block in ("local", "multi_scale"):
        torch.testing.assert_close(found[block], expected[block], rtol=1e-4, atol=1e-5)
        assert found[block].std() > 1e-3


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["basic", "attention", "bidirectional", "legacy"])
def test_each_block_computes_what_its_formula_says(kind: str, stride: int) -> None:
    torch.manual_seed(3)
    channels = 32 * stride
    block: nn.Module
    if kind == "basic":
        block = BasicBlock(32, channels, stride)
    elif kind == "attention":
        block = AttentionBlock(32, channels, stride)
    else:
        block = MulScaleBlock(32, channels, stride, flow=kind)  # type: ignore[arg-type]
    wake(block.eval())
    p = {f"block.{name}": tensor for name, tensor in block.state_dict().items()}
    x = torch.randn(3, 32, 14, 14)
    with torch.inference_mode():
        if kind == "basic":
            expected = basic(p, "block", x, stride)
        elif kind == "attention":
            expected = attention(p, "block", x, stride)
        else:
            expected = mul_scale(p, "block", x, stride, kind)
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_of_the_stitched_map_is_the_mean_of_the_four_averages(net: MANet) -> None:
    shared = torch.rand(1, 128, 28, 28, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        maps = [net.quadrant(place, part) for place, part in enumerate(quadrants(shared), start=1)]
        stitched = torch.cat([torch.cat(maps[:2], dim=3), torch.cat(maps[2:], dim=3)], dim=2)
        torch.testing.assert_close(net.local(shared), stitched.mean((2, 3)))


def test_the_spatial_gate_takes_the_maximum_before_the_mean() -> None:
    gate = SpatialGate().eval()
    with torch.no_grad():
        kernel = gate.get_parameter("spatial.conv.weight")
        kernel.zero_()
        kernel[0, 0, 3, 3] = 1
    x = torch.randn(2, 5, 7, 7)
    with torch.inference_mode():
        expected = x * torch.sigmoid(x.amax(1, keepdim=True) / (1 + 1e-5) ** 0.5)
        torch.testing.assert_close(gate(x), expected)


def test_the_channel_gate_asks_one_perceptron_about_average_and_maximum() -> None:
    gate = ChannelGate(32).eval()
    assert [tuple(p.shape) for p in gate.parameters()] == [(2, 32), (2,), (32, 2), (32,)]


def test_the_padded_sigmoid_is_the_sigmoid_wherever_a_map_lies_in_the_batch() -> None:
    x = torch.randn(9, 1, 7, 7)
    torch.testing.assert_close(sigmoid(x), torch.sigmoid(x))
    order = torch.randperm(9)
    assert torch.equal(sigmoid(x[order]), sigmoid(x)[order])
    assert torch.equal(sigmoid(x[:1]), sigmoid(x)[:1])
