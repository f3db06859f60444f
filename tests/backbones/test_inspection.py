"""Inspecting says what a file is, which backbone takes it and how; and what it says is what `create` then does."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from cer_fusion import backbones
from cer_fusion.backbones import CheckpointError, CheckpointInfo, inspect_checkpoint
from cer_fusion.backbones.weights.fit import CHILDREN
from cer_fusion.backbones.weights.inspection import Candidate
from tests.backbones.checkpoint_files import (
    FER2013_FORMS,
    fer2013,
    fer2013_file,
    mae_file,
    manet_file,
    tensor,
    thin,
    with_prefix,
)


def saved(content: object, path: Path) -> CheckpointInfo:
    torch.save(content, path)
    return inspect_checkpoint(path)


def candidate(info: CheckpointInfo, backbone: str, **options: object) -> Candidate:
    return next(each for each in info.candidates if (each.backbone, each.options) == (backbone, options))


def test_a_pre_training_file_of_mae_fits_the_vit_and_its_decoder_is_named_as_left_out(tmp_path: Path) -> None:
    path = mae_file(tmp_path / "mae.pth")
    info = inspect_checkpoint(path)
    assert (info.fits, info.looks_like, info.entry) == ("vit", "ViT-B/16", "model")
    assert info.heads == {}
    assert info.extras == {"optimizer": "2 entries", "epoch": "799", "scaler": "0 entries"}
    assert info.commands == (f"cer-feat extract --backbone vit --weights {path} --data MANIFEST",)
    left_out = candidate(info, "vit").left_out
    assert len(left_out) == 12
    assert {name.split(".")[0] for name in left_out} == {
        "mask_token",
        "decoder_embed",
        "decoder_pos_embed",
        "decoder_blocks",
        "decoder_norm",
        "decoder_pred",
    }
    assert "loading leaves out 12 tensors that no block depends on" in info.notes
    assert candidate(info, "vit", pooling="mean_norm").fits


@pytest.mark.parametrize("form", FER2013_FORMS)
def test_a_resnet_of_fer2013_is_recognised_in_every_wrapping(form: str, tmp_path: Path) -> None:
    path = fer2013_file(tmp_path / "fer.pth", form)
    info = inspect_checkpoint(path)
    assert (info.fits, info.looks_like) == ("resnet50", "ResNet-50")
    assert list(info.heads.values()) == [7]
    assert info.commands == (f"cer-feat extract --backbone resnet50 --weights {path} --data MANIFEST",)
    projected = candidate(info, "resnet50", tap="proj512")
    assert not projected.fits
    assert projected.missing == 2
    assert projected.first == ("proj.weight is missing", "proj.bias is missing")


def test_a_vit_that_was_tuned_with_the_norm_after_the_mean_is_used_with_that_pooling(tmp_path: Path) -> None:
    tuned = {key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: t for key, t in thin("vit").items()}
    info = saved({"model": tuned | {"head.weight": tensor(7, 768), "head.bias": tensor(7)}}, tmp_path / "x.pth")
    assert info.fits == "vit"
    assert info.heads == {"head": 7}
    assert info.commands[0].endswith("-O pooling=mean_norm")
    assert not candidate(info, "vit").fits
    assert "pooling='mean_norm'" in str(candidate(info, "vit").refusal)


def test_a_learned_projection_is_offered_beside_the_usual_tap(tmp_path: Path) -> None:
    state = fer2013() | {"proj.weight": tensor(512, 2048), "proj.bias": tensor(512)}
    info = saved(state, tmp_path / "x.pth")
    assert info.advice == "create('resnet50', weights='x.pth')"
    assert "it fits as well: resnet50 -O tap=proj512" in info.notes


def test_the_digest_is_of_the_public_names_whatever_the_wrapping(tmp_path: Path) -> None:
    forms = ("plain", "compiled", "Lightning")
    assert len({inspect_checkpoint(fer2013_file(tmp_path / f"{form}.pth", form)).digest for form in forms}) == 1


def test_what_lies_beside_the_network_is_named_and_keeps_its_name(tmp_path: Path) -> None:
    info = inspect_checkpoint(fer2013_file(tmp_path / "fer.pth", "with a loss"))
    assert info.prefix == "model.backbone."
    assert info.tensors == len(fer2013()) + 1
    assert candidate(info, "resnet50").left_out == ("backbone.fc.weight", "backbone.fc.bias", "criterion.weight")


def test_of_a_student_and_its_teacher_neither_is_taken(tmp_path: Path) -> None:
    both = with_prefix(thin("resnet50"), "student.") | with_prefix(thin("resnet50"), "teacher.")
    info = saved(both, tmp_path / "dino.pth")
    assert info.fits is None
    with pytest.raises(CheckpointError, match=r"holds 2 networks that fit timm:resnet50: student\.\*, teacher\.\*"):
        backbones.create("resnet50", weights=tmp_path / "dino.pth")


@pytest.mark.parametrize(
    ("classes", "options"),
    [(7, []), (8, ["-O", "num_classes=8"]), (12_666, ["-O", "replace_heads=true"])],
)
def test_manet_is_used_in_one_of_two_flows_and_with_the_heads_that_the_file_has(
    classes: int, options: list[str], tmp_path: Path
) -> None:
    path = manet_file(tmp_path / "manet.pth.tar", classes)
    info = inspect_checkpoint(path)
    assert info.fits == "manet"
    assert info.heads == {"fc_1": classes, "fc_2": classes}
    assert candidate(info, "manet").fits
    start = f"cer-feat extract --backbone manet --weights {path} --data MANIFEST -O flow="
    ends = [" ".join(["", *options]) if options else ""]
    assert info.commands == tuple(f"{start}{flow}{ends[0]}" for flow in ("legacy", "bidirectional"))
    assert any("does not tell its flow" in note for note in info.notes)


def test_a_card_beside_manet_leaves_one_flow(tmp_path: Path) -> None:
    path = manet_file(tmp_path / "manet.pth.tar")
    (tmp_path / "card.json").write_text('{"options": {"flow": "legacy"}}')
    info = inspect_checkpoint(path)
    assert [command.split()[-1] for command in info.commands] == ["flow=legacy"]
    assert info.notes == ("flow=legacy, says the card.json beside the file",)


def test_a_card_of_other_weights_is_a_note_and_both_flows_stay(tmp_path: Path) -> None:
    path = manet_file(tmp_path / "manet.pth.tar")
    (tmp_path / "card.json").write_text('{"options": {"flow": "legacy"}, "weights": {"digest": "0"}}')
    info = inspect_checkpoint(path)
    assert len(info.commands) == 2
    assert "belongs to other weights" in info.notes[-1]


@pytest.mark.parametrize(
    "name", ["timm:resnet18", "timm:vit_tiny_patch16_224", "timm:mobilenetv3_small_100", "timm:efficientnet_lite0"]
)
def test_a_network_of_timm_is_named_after_trying_it(name: str, tmp_path: Path) -> None:
    info = saved({"net": thin(name)}, tmp_path / "x.pth")
    assert info.fits == name
    assert info.candidates[0].share == 1
    assert info.advice == f"create({name!r}, weights='x.pth')"


def test_other_backbones_are_listed_with_what_the_file_lacks_for_them(tmp_path: Path) -> None:
    info = saved(thin("timm:resnet18"), tmp_path / "x.pth")
    other = candidate(info, "resnet50")
    expected, found = thin("resnet50"), thin("timm:resnet18")
    assert not other.fits
    assert other.missing == len({k for k in set(expected) - set(found) if not k.endswith("num_batches_tracked")})
    assert other.misshapen == sum(found[k].shape != t.shape for k, t in expected.items() if k in found)
    assert other.unexpected == len(set(found) - set(expected))
    assert other.first[0] == "layer1.0.conv3.weight is missing"
    assert 0.3 < other.share < 0.7


def test_a_network_that_nobody_knows_is_described_and_fits_nothing(tmp_path: Path) -> None:
    info = saved(nn.Linear(3, 4).state_dict(), tmp_path / "x.pth")
    assert (info.fits, info.candidates, info.commands, info.tensors) == (None, (), (), 2)
    assert info.looks_like == "something unknown (first names: weight, bias)"


@pytest.mark.parametrize(
    "state",
    [
        {"patch_embed.proj.weight": tensor(3), "pos_embed": tensor(1)},
        {"patch_embed.proj.weight": tensor(768, 3, 16, 16), "pos_embed": tensor(1)},
        {"layer4.0.conv1.weight": tensor(1)},
        {"stages.0.blocks.0.conv_dw.weight": tensor(1), "stem.0.weight": torch.tensor(1.0)},
        {"conv_stem.weight": torch.tensor(1.0)},
        {"fc.weight": torch.empty(0, 0), "module.": tensor(1)},
        {".": tensor(1), "..": tensor(2), "": tensor(3)},
    ],
)
def test_odd_names_and_shapes_are_described_without_a_fault(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    info = saved(state, tmp_path / "x.pth")
    assert info.fits is None
    assert info.tensors == len(state)


def test_the_findings_are_json(tmp_path: Path) -> None:
    found = inspect_checkpoint(mae_file(tmp_path / "mae.pth")).to_dict()
    assert json.loads(json.dumps(found))["candidates"][0]["backbone"] == "vit"


def test_a_path_with_a_space_is_quoted_in_the_command(tmp_path: Path) -> None:
    path = fer2013_file(tmp_path / "my weights.pth", "plain")
    assert f"--weights '{path}'" in inspect_checkpoint(path).commands[0]


def test_what_inspecting_promises_loading_does(tmp_path: Path) -> None:
    for name, path in (
        ("vit", mae_file(tmp_path / "mae.pth")),
        ("resnet50", fer2013_file(tmp_path / "fer.pth", "with a head beside")),
    ):
        assert inspect_checkpoint(path).fits == name
        loaded = backbones.create(name, weights=path).state()  # type: ignore[attr-defined]
        assert all(torch.equal(loaded[key], value) for key, value in thin(name).items())


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [
        *itertools.product(["resnet50", "timm:resnet18", "timm:resnet34"], ["", "module.", "backbone."]),
        ("resnet50", "features."),  # no wrapper that is known, so timm's networks are not asked
    ],
)
@pytest.mark.parametrize("has_head", [False, True])
def test_a_resnet_kept_as_a_sequential_is_taken_for_what_it_is(
    name: str, wrapper: str, has_head: bool, tmp_path: Path
) -> None:
    """As ``nn.Sequential(*list(resnet.children())[:-1])`` numbers it, alone or beside a classifier of its own."""
    places = {layer: place for place, layer in CHILDREN.items()}
    state = {}
    for key, value in thin(name).items():
        layer, _, rest = key.partition(".")
        if layer in places and layer != "fc":
            state[f"{wrapper}{places[layer]}.{rest}"] = value
    if has_head:
        state |= {f"{wrapper}9.weight": tensor(7, 64), f"{wrapper}9.bias": tensor(7)}
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    found = inspect_checkpoint(tmp_path / "x.pth")
    assert found.fits == name
    assert any("names or position embeddings are changed" in note for note in found.notes)
    assert found.looks_like.startswith(("ResNet-50", "a ResNet with"))
