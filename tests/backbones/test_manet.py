"""MA-Net agrees with the published facts, and with a second writing of it as plain formulas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import backbones
from backbones import CheckpointError, OptionError
from backbones.manet import MANet, fuse_logits, quadrants
from backbones.manet_blocks import AttentionBlock, BasicBlock, ChannelGate, MulScaleBlock, SpatialGate, sigmoid
from tests.backbones.conftest import wake

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def net() -> MANet:
    torch.manual_seed(0)
    built = MANet(7).eval()
    wake(built)
    return built


@pytest.fixture(scope="module")
def legacy(net: MANet) -> MANet:
    built = MANet(7, flow="legacy").eval()
    built.load_state_dict(net.state_dict())
    return built


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))


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


@pytest.mark.parametrize(("classes", "expected"), [(7, 50_547_214), (8, 50_548_240), (12_666, 63_535_348)])
def test_it_has_as_many_parameters_as_published(classes: int, expected: int) -> None:
    with torch.device("meta"):
        net = MANet(classes)
    assert sum(p.numel() for p in net.parameters()) == expected == 50_540_032 + 1026 * classes
    assert len(net.state_dict()) == 692
    assert len(list(net.parameters())) == 380
    assert len(list(net.buffers())) == 312


def test_it_is_made_of_as_many_layers_as_published(net: MANet) -> None:
    kinds = [type(module) for module in net.modules()]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.BatchNorm2d), kinds.count(nn.Linear)) == (104, 104, 34)


def published_names() -> Iterator[str]:
    """Spell out the state keys of REFERENCE, section 2."""

    def weights(*names: str) -> Iterator[str]:
        return (f"{name}.weight" for name in names)

    def norms(*names: str) -> Iterator[str]:
        for name in names:
            for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                yield f"{name}.{part}"

    yield from weights("conv1")
    yield from norms("bn1")
    residual = [f"layer{stage}.{b}" for stage in (1, 2) for b in (0, 1)]
    attentive = [f"layer{stage}_1_p{k}.{b}" for stage in (3, 4) for k in range(1, 5) for b in (0, 1)]
    scaled = [f"layer{stage}_2.{b}" for stage in (3, 4) for b in (0, 1)]
    for block in residual + attentive:
        yield from weights(f"{block}.conv1", f"{block}.conv2")
        yield from norms(f"{block}.bn1", f"{block}.bn2")
    for block in attentive:
        for layer in (1, 3):
            yield from (f"{block}.cbam.ChannelGate.mlp.{layer}.{part}" for part in ("weight", "bias"))
        yield from weights(f"{block}.cbam.SpatialGate.spatial.conv")
        yield from norms(f"{block}.cbam.SpatialGate.spatial.bn")
    for block in scaled:
        yield from weights(f"{block}.conv1", *(f"{block}.conv{c}_2_{k}" for c in (1, 2) for k in range(1, 5)))
        yield from norms(f"{block}.bn1", *(f"{block}.bn{c}_2_{k}" for c in (1, 2) for k in range(1, 5)))
    for block in ["layer2.0"] + [block for block in attentive + scaled if block.endswith(".0")]:
        yield from weights(f"{block}.downsample.0")
        yield from norms(f"{block}.downsample.1")
    for head in ("fc_1", "fc_2"):
        yield from (f"{head}.weight", f"{head}.bias")


def test_its_parameters_have_the_names_of_the_public_checkpoints(net: MANet) -> None:
    assert sorted(net.state_dict()) == sorted(published_names())


def test_it_multiplies_and_adds_as_often_as_published() -> None:
    counted = {"conv": 0, "linear": 0}

    def count(module: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            k = module.kernel_size
            counted["conv"] += out.numel() * module.in_channels * int(k[0]) * int(k[1])
        elif isinstance(module, nn.Linear):
            counted["linear"] += out.numel() * module.in_features

    with torch.device("meta"):
        net = MANet(7).eval()
        for module in net.modules():
            module.register_forward_hook(count)
        net.logits(net(torch.empty(1, 3, 224, 224)))
    assert counted["conv"] == 3_637_636_128
    assert counted["conv"] + counted["linear"] == 3_638_298_656


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


def test_the_flow_changes_the_multi_scale_branch_and_leaves_the_local_one(net: MANet, legacy: MANet, x: Tensor) -> None:
    with torch.inference_mode():
        new, old = net(x), legacy(x)
    assert torch.equal(new["local"], old["local"])
    assert (new["multi_scale"] - old["multi_scale"]).abs().max() > 1e-3


def test_the_quadrants_are_cut_in_reading_order() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert [part.flatten()[0].item() for part in quadrants(x)] == [0, 2, 8, 10]
    assert torch.equal(quadrants(x)[3].flatten(), torch.tensor([10.0, 11, 14, 15]))


def test_each_quadrant_has_weights_of_its_own(net: MANet) -> None:
    part = torch.rand(1, 128, 14, 14, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        maps = [net.quadrant(place, part) for place in range(1, 5)]
    assert all(not torch.allclose(maps[0], other) for other in maps[1:])


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


def test_each_head_reads_its_own_block(net: MANet) -> None:
    features = {"local": torch.randn(3, 512), "multi_scale": torch.randn(3, 512)}
    logits = net.logits(features)
    torch.testing.assert_close(logits["local"], features["local"] @ net.fc_1.weight.T + net.fc_1.bias)
    torch.testing.assert_close(logits["multi_scale"], features["multi_scale"] @ net.fc_2.weight.T + net.fc_2.bias)


def test_the_branches_are_mixed_six_to_four_by_name() -> None:
    logits = {"multi_scale": torch.full((1, 7), 10.0), "local": torch.ones(1, 7)}
    torch.testing.assert_close(fuse_logits(logits), torch.full((1, 7), 0.6 + 4.0))
    torch.testing.assert_close(fuse_logits(logits, local=0.4, multi_scale=0.6), torch.full((1, 7), 0.4 + 6.0))
    with pytest.raises(TypeError):
        fuse_logits(logits, 0.6, 0.4)  # type: ignore[call-arg]


def test_the_blocks_are_in_the_order_in_circulation() -> None:
    with torch.device("meta"):
        assert list(MANet()(torch.empty(1, 3, 224, 224))) == ["local", "multi_scale"]


def test_an_unknown_flow_is_refused() -> None:
    with pytest.raises(OptionError, match="bidirectional, legacy"):
        MANet(flow="backwards")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def celeb(net: MANet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file like the MS-Celeb-1M one, with heads of another width (12 here)."""
    path = tmp_path_factory.mktemp("manet") / "celeb.safetensors"
    heads = {
        f"fc_{n}.{part}": torch.ones(12, 512) if part == "weight" else torch.ones(12)
        for n in (1, 2)
        for part in ("weight", "bias")
    }
    save_file({k: t.half() if t.is_floating_point() else t for k, t in (net.state_dict() | heads).items()}, path)
    yield path
    path.unlink()


def test_heads_of_another_width_are_replaced_only_when_that_is_asked_for(
    celeb: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CheckpointError, match="12-way heads, expected 7") as caught:
        backbones.create("manet", weights=celeb)
    assert "num_classes=12" in str(caught.value)
    assert "replace_heads=True" in str(caught.value)
    replaced = backbones.create("manet", weights=celeb, replace_heads=True)
    assert "replaced its 12-way heads by new, untrained 7-way heads" in caplog.text
    kept = backbones.create("manet", weights=celeb, num_classes=12)
    assert replaced.module.fc_1.weight.shape == (7, 512)  # type: ignore[attr-defined]
    assert torch.equal(kept.module.fc_1.weight, torch.ones(12, 512))  # type: ignore[attr-defined]
    assert replaced.spec() == kept.spec()  # the blocks do not depend on the heads


def test_inspect_recognises_it_and_its_heads(celeb: Path) -> None:
    info = backbones.inspect_checkpoint(celeb)
    assert info.fits == "manet"
    assert info.heads == {"fc_1": 12, "fc_2": 12}
    assert info.tensors == 692
    assert "num_classes=12" in info.advice
