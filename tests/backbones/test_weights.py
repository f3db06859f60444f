"""Weights come from where they were asked for, fit exactly, and are identified by their values."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cer_fusion import backbones
from cer_fusion.backbones import CheckpointError, WeightsError
from cer_fusion.backbones.making import put
from cer_fusion.backbones.recipes import recipe_of
from cer_fusion.backbones.weights.checkpoint import open_checkpoint
from cer_fusion.backbones.weights.fit import choose_source, digest
from tests.backbones.checkpoint_files import FER2013_FORMS, fer2013_file, mae_file, thin, with_prefix


def trunk_of(name: str, seed: int = 0, **options: Any) -> dict[str, Tensor]:
    backbone = backbones.create(name, weights="random", seed=seed, **options)
    return backbone.state()  # type: ignore[attr-defined, no-any-return]


def digest_of(name: str, **options: Any) -> str:
    return str(backbones.create(name, **options).spec()["weights"]["digest"])


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one = digest_of("timm:test_vit", weights="random", seed=1)
    assert one == digest_of("timm:test_vit", weights="random", seed=1)
    assert one != digest_of("timm:test_vit", weights="random", seed=2)


def test_random_weights_leave_the_callers_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    backbones.create("timm:test_resnet", weights="random", seed=9)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy", "float16"])
def test_a_file_of_any_form_gives_the_same_rows_and_the_same_identity(form: str, tmp_path: Path) -> None:
    state = {key: t.half().float() if t.is_floating_point() else t for key, t in trunk_of("timm:test_vit", 3).items()}
    path = tmp_path / "weights.file"
    if form == "safetensors":
        save_file(state, path)
    elif form == "float16":
        save_file({key: tensor.half() for key, tensor in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    plain = tmp_path / "plain.safetensors"
    save_file(state, plain)
    a, b = (backbones.create("timm:test_vit", weights=p) for p in (path, plain))
    assert a.spec() == b.spec()
    picture = np.random.default_rng(0).integers(0, 256, (1, 160, 160, 3)).astype(np.uint8)
    assert np.array_equal(a.embed(picture)["pooled"], b.embed(picture)["pooled"])


def test_a_classifier_that_the_feature_does_not_use_is_left_out_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = trunk_of("timm:test_vit") | {"head.weight": torch.ones(10, 64), "head.bias": torch.ones(10)}
    save_file(state, tmp_path / "w.safetensors")
    with caplog.at_level(logging.INFO, logger="cer_fusion.backbones"):
        found = digest_of("timm:test_vit", weights=tmp_path / "w.safetensors")
    assert found == digest_of("timm:test_vit", weights="random")
    assert "left out head.bias, head.weight, which no block depends on" in caplog.text


def test_missing_left_over_and_misshapen_tensors_are_listed(tmp_path: Path) -> None:
    state = trunk_of("timm:test_resnet")
    del state["conv1.0.weight"]
    state["conv1.1.weight"] = torch.ones(3)
    state["surprise"] = torch.ones(1)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError) as caught:
        backbones.create("timm:test_resnet", weights=tmp_path / "w.safetensors")
    for text in ("conv1.0.weight is missing", "conv1.1.weight is (3,), expected", "surprise is left over", "w.safet"):
        assert text in str(caught.value)


@pytest.mark.parametrize("pooling", ["token_mean", "mean_norm"])
def test_a_pre_training_file_of_mae_gives_the_vit_its_encoder(
    pooling: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cer_fusion.backbones")
    loaded = backbones.create("vit", weights=mae_file(tmp_path / "mae.pth"), pooling=pooling)
    state = loaded.state()  # type: ignore[attr-defined]
    expected = {k.replace("norm.", "fc_norm.") if k.startswith("norm.") and pooling == "mean_norm" else k: t
                for k, t in thin("vit").items()}  # fmt: skip
    assert set(state) == set(expected)
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    assert (
        "left out mask_token, decoder_pos_embed, decoder_embed.weight and 9 more, which no block depends on"
        in caplog.text
    )


@pytest.mark.parametrize("form", FER2013_FORMS)
def test_a_resnet_of_fer2013_loads_in_every_wrapping(form: str, tmp_path: Path, made: Any) -> None:
    encoder = made("resnet50").encoder
    before = copy.deepcopy(encoder.trunk.state_dict())
    try:
        put(encoder, open_checkpoint(fer2013_file(tmp_path / "fer.pth", form)))
        found = encoder.trunk.state_dict()
        assert all(torch.equal(found[key], value) for key, value in thin("resnet50").items())
    finally:
        encoder.trunk.load_state_dict(before)


def test_what_is_taken_from_under_a_wrapper_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cer_fusion.backbones")
    state = with_prefix(trunk_of("timm:test_vit", 4), "student.encoder.") | {"loss.weight": torch.ones(2)}
    torch.save(state, tmp_path / "x.pth")
    found = digest_of("timm:test_vit", weights=tmp_path / "x.pth")
    assert found == digest_of("timm:test_vit", weights="random", seed=4)
    assert "left out loss.weight, which no block depends on (took what is under 'student.encoder.')" in caplog.text


def test_of_two_networks_in_one_file_none_is_guessed(tmp_path: Path) -> None:
    state = with_prefix(trunk_of("timm:test_vit", 1), "student.") | with_prefix(
        trunk_of("timm:test_vit", 2), "teacher."
    )
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"2 networks that fit timm:test_vit: student\.\*, teacher\.\*") as caught:
        backbones.create("timm:test_vit", weights=tmp_path / "x.pth")
    assert "x.pth" in str(caught.value)


def test_a_file_of_another_network_is_not_told_to_take_another_tap(tmp_path: Path) -> None:
    save_file(trunk_of("timm:test_resnet"), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="do not fit") as caught:
        backbones.create("resnet50", weights=tmp_path / "w.safetensors", tap="proj512")
    assert "cer-feat inspect w.safetensors" in str(caught.value)
    assert "tap=" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "given", "said"),
    [
        ("manet", "timm:test_resnet", "a ResNet"),
        ("resnet50", "timm:test_vit", "a ViT of width 64"),
        ("timm:test_vit", "timm:test_resnet", "a ResNet"),
        ("manet", "resnet50", "ResNet-50"),
    ],
)
def test_weights_of_another_architecture_are_refused_and_recognised(
    asked: str, given: str, said: str, tmp_path: Path
) -> None:
    save_file({k: t.half() for k, t in trunk_of(given).items()}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=said) as caught:
        backbones.create(asked, weights=tmp_path / "w.safetensors")
    assert "do not fit" in str(caught.value)


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    save_file(trunk_of("timm:vit_tiny_patch16_224"), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="it looks like a ViT of width 192, depth 12, patch 16") as caught:
        backbones.create("timm:vit_small_patch16_224", weights=tmp_path / "w.safetensors")
    assert "cls_token is (1, 1, 192), expected (1, 1, 384)" in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_what_to_pass() -> None:
    with pytest.raises(WeightsError, match="could not be loaded") as caught:
        backbones.create("timm:test_vit", weights="pretrained")
    assert "the hub cannot be reached" in str(caught.value)
    assert "weights='model.safetensors'" in str(caught.value)


def test_no_weights_named_means_pretrained_and_never_random() -> None:
    with pytest.raises(WeightsError, match="could not be loaded"):
        backbones.create("resnet50")
    source = choose_source(recipe_of("vit")[0], "", None, 0)
    assert (source.kind, source.tag) == ("pretrained", "mae")


def test_manet_has_nothing_to_download_and_says_what_to_pass() -> None:
    for weights in (None, "pretrained"):
        with pytest.raises(WeightsError, match=r"checkpoint\.pth\.tar"):
            backbones.create("manet", weights=weights)


def test_a_misspelt_tag_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(WeightsError, match="nearest: 'mae'"):
        backbones.create("vit", weights="maee")


@pytest.mark.parametrize("missing", ["no/such/file", "nosuch.safetensors", "nosuch.pth.tar", Path("nosuch")])
def test_a_missing_file_is_a_missing_file_and_no_tag(missing: str | Path) -> None:
    with pytest.raises(WeightsError, match="there is no weights file"):
        backbones.create("vit", weights=missing)


def test_the_digest_sees_values_names_shapes_and_types_but_not_the_order_or_the_memory_layout() -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
    base = digest(state)
    assert digest(dict(reversed(state.items()))) == base
    assert digest(state | {"a": state["a"].T.contiguous().T}) == base
    changed = state["a"].clone()
    changed[1, 2] = torch.nextafter(changed[1, 2], torch.tensor(9.0))
    for other in (
        state | {"a": changed},
        state | {"a": state["a"].reshape(3, 2)},
        state | {"a": state["a"].double()},
        {"c": state["a"], "b": state["b"]},
        {"a": state["a"]},
    ):
        assert digest(other) != base


def test_a_tensor_of_one_repeated_number_has_the_digest_of_the_plain_one() -> None:
    for shape in ((1,), (1, 1), (3, 2), ()):
        assert digest({"a": torch.tensor(0.5).expand(shape)}) == digest({"a": torch.full(shape, 0.5)})


def test_the_digest_leaves_out_heads_and_step_counters() -> None:
    state = {"a": torch.ones(2)}
    more = state | {"fc_1.weight": torch.ones(3), "bn.num_batches_tracked": torch.tensor(7)}
    assert digest(more, leave_out=("fc_1",)) == digest(state)
    assert digest(more | {"fc_10.weight": torch.ones(3)}, leave_out=("fc_1",)) != digest(state)


def test_training_the_network_changes_its_identity() -> None:
    backbone = backbones.create("timm:test_vit", weights="random")
    before = backbone.spec()
    with torch.no_grad():
        next(backbone.module.parameters()).add_(1e-3)  # type: ignore[attr-defined]
    assert backbone.spec() != before
    assert {key: value for key, value in backbone.spec().items() if key != "weights"} == {
        key: value for key, value in before.items() if key != "weights"
    }
