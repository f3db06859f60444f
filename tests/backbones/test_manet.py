"""MA-Net agrees with the published facts; its options, its heads and its flow. Parity is in `test_manet_parity`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cer_fusion import backbones
from cer_fusion.backbones import CheckpointError, OptionError, WeightsError
from cer_fusion.backbones.recipes import Encoder, recipe_of
from cer_fusion.backbones.weights.fit import write_card
from cer_fusion.backbones.zoo.manet import MANet, MulScaleBlock, extras, fuse_logits, quadrants
from tests.backbones.checkpoint_files import manet, manet_file
from tests.backbones.conftest import Encode, ramp


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
    save_file(
        {k: (t.half() if t.is_floating_point() else t).contiguous() for k, t in (net.state_dict() | heads).items()},
        path,
    )
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


@pytest.fixture
def rafdb(tmp_path: Path) -> Path:
    return manet_file(tmp_path / "rafdb.pth.tar")


@pytest.mark.parametrize("flow", ["bidirectional", "legacy"])
def test_a_public_checkpoint_loads_in_either_flow_and_makes_two_features(flow: str, rafdb: Path) -> None:
    backbone = backbones.create("manet", weights=rafdb, flow=flow)
    assert backbone.module.flow == flow  # type: ignore[attr-defined]
    assert {block.flow for block in backbone.module.modules() if isinstance(block, MulScaleBlock)} == {flow}  # type: ignore[attr-defined]
    assert backbone.spec()["options"] == {"flow": flow}


def test_the_automatic_flow_has_no_answer_in_the_file(rafdb: Path) -> None:
    with pytest.raises(OptionError, match="names and shapes are the same in both"):
        backbones.create("manet", weights=rafdb, flow="auto")


def test_the_automatic_flow_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no file was named"):
        backbones.create("manet", weights="random", flow="auto")
    with pytest.raises(WeightsError):
        backbones.create("manet", flow="auto")


def test_a_card_beside_the_weights_answers_the_automatic_flow(rafdb: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="cer_fusion.backbones")
    digest = backbones.inspect_checkpoint(rafdb).digest
    write_card(rafdb.with_name("card.json"), {"options": {"flow": "legacy"}, "weights": {"digest": digest}})
    found = backbones.create("manet", weights=rafdb, flow="auto")
    assert found.spec()["options"] == {"flow": "legacy"}
    assert {block.flow for block in found.module.modules() if isinstance(block, MulScaleBlock)} == {"legacy"}  # type: ignore[attr-defined]
    assert "flow auto: legacy" in caplog.text


def test_a_network_whose_flow_is_open_computes_nothing() -> None:
    with torch.device("meta"):
        net = MANet(flow="auto")
    for use in (net.eval, net.train, lambda: net(torch.empty(1, 3, 224, 224, device="meta"))):
        with pytest.raises(OptionError, match="flow='auto'"):
            use()
    net.decide("legacy")
    assert net.eval().flow == "legacy"


def test_extra_blocks_stand_beside_the_two_and_leave_them_as_they_are(net: MANet, encode: Encode) -> None:
    plain = backbones.create("manet", weights="random", seed=3)
    more = backbones.create("manet", weights="random", seed=3, extra="quadrants,logits")
    assert more.blocks == {
        "local": 512,
        "multi_scale": 512,
        **{f"local_p{place}": 512 for place in range(1, 5)},
        "logits_local": 7,
        "logits_multi_scale": 7,
    }
    picture = plain.decode(encode(ramp(60, 50)))[None]
    rows, expected = more.compute(picture), plain.compute(picture)
    for block in ("local", "multi_scale"):
        assert (rows[block] == expected[block]).all()
    parts = [rows[f"local_p{place}"] for place in range(1, 5)]
    assert ((parts[0] + parts[1] + parts[2] + parts[3]) / 4 == rows["local"]).all()
    assert not (parts[0] == parts[1]).all()
    state = more.state()  # type: ignore[attr-defined]
    for block, head in (("local", "fc_1"), ("multi_scale", "fc_2")):
        said = torch.from_numpy(rows[block]) @ state[f"{head}.weight"].T + state[f"{head}.bias"]
        torch.testing.assert_close(torch.from_numpy(rows[f"logits_{block}"]), said, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("none", ()),
        ("", ()),
        ([], ()),
        ("logits", ("logits",)),
        ("logits, quadrants", ("quadrants", "logits")),
        (["quadrants"], ("quadrants",)),
        (("logits", "quadrants", "logits"), ("quadrants", "logits")),
    ],
)
def test_extras_are_a_list_or_text_with_commas_in_any_order(given: str | list[str], meant: tuple[str, ...]) -> None:
    assert extras(given) == meant


@pytest.mark.parametrize("given", ["quadrant", "logits,fused", ["none", "logits"], [3], "quadrants,,logits"])
def test_an_unknown_extra_is_refused_with_what_there_is(given: object) -> None:
    with pytest.raises(OptionError, match="quadrants, logits"):
        extras(given)  # type: ignore[arg-type]


def spec_of(**options: object) -> dict[str, object]:
    """A spec without memory for the weights: their digest is left out."""
    with torch.device("meta"):
        encoder = recipe_of("manet")[0].build(tag=None, pretrained=False, **options)
    assert isinstance(encoder, Encoder)
    return {"options": encoder.options, "blocks": encoder.blocks, "heads": encoder.heads}


def test_without_extras_the_identity_is_what_it_was() -> None:
    as_before = {
        "options": {"flow": "bidirectional"},
        "blocks": {"local": 512, "multi_scale": 512},
        "heads": ("fc_1", "fc_2"),
    }
    assert spec_of() == spec_of(extra="none") == spec_of(num_classes=7) == as_before
    assert spec_of(extra="quadrants")["options"] == {"flow": "bidirectional", "extra": ["quadrants"]}


def test_random_weights_of_seed_0_are_those_of_every_release() -> None:
    """The demo's feature is manet@a798db6ee05a for ever: same weights from the same seed."""
    fresh = backbones.create("manet", weights="random", seed=0)
    assert fresh.spec()["weights"]["digest"] == "ff1e8d551d4e394a9554e128817748c32da3e21017392e5afa303aa4da97beba"


def test_with_logits_the_heads_are_part_of_the_identity_and_must_be_the_files() -> None:
    assert spec_of(extra="logits", num_classes=12)["blocks"] == {
        "local": 512,
        "multi_scale": 512,
        "logits_local": 12,
        "logits_multi_scale": 12,
    }
    assert spec_of(extra="logits")["heads"] == ()
    with pytest.raises(OptionError, match="replace_heads=True puts untrained ones"):
        spec_of(extra="logits", replace_heads=True)


def test_logits_of_heads_of_another_width_ask_for_that_width(celeb: Path) -> None:
    with pytest.raises(CheckpointError, match="its heads are 12-way: num_classes=12"):
        backbones.create("manet", weights=celeb, extra="logits")
    assert backbones.create("manet", weights=celeb, extra="logits", num_classes=12).blocks["logits_local"] == 12


def test_the_ms_celeb_file_gives_its_trunk_to_new_heads(tmp_path: Path) -> None:
    celeb = manet_file(tmp_path / "celeb.pth.tar", classes=12_666)
    with pytest.raises(CheckpointError, match="12666-way heads, expected 7"):
        backbones.create("manet", weights=celeb)
    loaded = backbones.create("manet", weights=celeb, replace_heads=True)
    assert loaded.module.fc_1.weight.shape == (7, 512)  # type: ignore[attr-defined]
    assert loaded.module.fc_1.weight.std() > 0  # type: ignore[attr-defined]
    assert (loaded.module.conv1.weight == manet()["conv1.weight"]).all()  # type: ignore[attr-defined]
