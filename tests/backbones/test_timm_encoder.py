"""Poolings and taps are what timm computes, taken at the stated place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from cer_fusion import backbones
from cer_fusion.backbones import Backbone, CheckpointError, WeightsError

Make = Callable[[str], Backbone]


def tiny(pooling: str, **options: object) -> Backbone:
    return backbones.create("timm:test_vit", weights="random", pooling=pooling, **options)  # type: ignore[arg-type]


def picture(side: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def tokens(backbone: Backbone, pictures: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        x = backbone.transform.to_tensor(torch.from_numpy(pictures))
        return backbone.module.trunk.forward_features(x)  # type: ignore[attr-defined, no-any-return]


def close(found: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_token_mean_is_the_mean_of_the_patch_tokens_after_the_final_norm() -> None:
    backbone = tiny("token_mean")
    every = tokens(backbone, picture(160))
    assert every.shape == (2, 101, 64)
    close(backbone.embed(picture(160))["token_mean"], every[:, 1:].mean(1))


def test_cls_is_the_class_token_and_cls_mean_both() -> None:
    every = tokens(tiny("cls"), picture(160))
    close(tiny("cls").embed(picture(160))["cls"], every[:, 0])
    both = tiny("cls_mean").embed(picture(160))["cls_mean"]
    assert both.shape == (2, 128)
    close(both, torch.cat([every[:, 0], every[:, 1:].mean(1)], dim=1))


def test_default_is_what_timm_itself_pools() -> None:
    reference = timm.create_model("test_vit", num_classes=0).eval()
    backbone = tiny("default")
    reference.load_state_dict(backbone.state())  # type: ignore[attr-defined]
    with torch.inference_mode():
        x = backbone.transform.to_tensor(torch.from_numpy(picture(160)))
        close(backbone.embed(picture(160))["pooled"], reference(x))


def test_mean_norm_norms_the_mean_instead_of_the_tokens() -> None:
    backbone = tiny("mean_norm")
    reference = timm.create_model("test_vit", num_classes=0, global_pool="avg", fc_norm=True).eval()
    reference.load_state_dict(backbone.state())  # type: ignore[attr-defined]
    with torch.inference_mode():
        x = backbone.transform.to_tensor(torch.from_numpy(picture(160)))
        close(backbone.embed(picture(160))["mean_norm"], reference(x))
    assert backbone.spec() != tiny("token_mean").spec()


def test_a_file_fine_tuned_by_pooling_before_the_norm_asks_for_that_pooling(tmp_path: Path) -> None:
    save_file(tiny("mean_norm").state(), tmp_path / "tuned.safetensors")  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="pooling='mean_norm'") as caught:
        backbones.create("timm:test_vit", weights=tmp_path / "tuned.safetensors", pooling="token_mean")
    assert "tuned.safetensors" in str(caught.value)
    loaded = backbones.create("timm:test_vit", weights=tmp_path / "tuned.safetensors", pooling="mean_norm")
    assert loaded.spec() == tiny("mean_norm").spec()


def test_a_pretrained_file_can_be_pooled_before_the_norm(tmp_path: Path) -> None:
    save_file(tiny("cls").state(), tmp_path / "mae.safetensors")  # type: ignore[attr-defined]
    loaded = backbones.create("timm:test_vit", weights=tmp_path / "mae.safetensors", pooling="mean_norm")
    assert loaded.spec() == tiny("mean_norm").spec()


def test_position_embeddings_are_resampled_to_another_input_size(tmp_path: Path) -> None:
    """As timm does for a file given as ``pretrained_cfg_overlay``; ``checkpoint_path=`` would not."""
    save_file(tiny("cls", img_size=160).state(), tmp_path / "w.safetensors")  # type: ignore[attr-defined]
    loaded = backbones.create("timm:test_vit", weights=tmp_path / "w.safetensors", pooling="cls", img_size=96)
    reference = timm.create_model(
        "test_vit",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "w.safetensors"), "num_classes": 0},
        num_classes=0,
        img_size=96,
    )
    assert loaded.transform.size_px == 96
    for name, tensor in reference.state_dict().items():
        assert torch.equal(loaded.state()[name], tensor), name  # type: ignore[attr-defined]


def test_a_convolutional_network_takes_any_input_size() -> None:
    backbone = backbones.create("timm:test_resnet", weights="random", img_size=96, crop_pct=1.0)
    assert backbone.transform.size_px == 96
    assert backbone.embed(picture(96))["pooled"].shape[0] == 2


def test_stochastic_depth_is_settable_and_no_part_of_the_identity() -> None:
    from cer_fusion.backbones.recipes import recipe_of

    def rates(drop_path: float) -> list[float]:
        with torch.device("meta"):
            encoder = recipe_of("vit")[0].build(tag=None, pretrained=False, drop_path=drop_path)
        assert "drop_path" not in encoder.options
        return [getattr(block.drop_path1, "drop_prob", 0.0) for block in encoder.trunk.blocks]  # type: ignore[union-attr]

    assert rates(0.1)[-1] == pytest.approx(0.1)
    assert rates(0.0) == [0.0] * 12


def test_the_vit_takes_the_mean_of_196_patch_tokens(made: Make) -> None:
    backbone = made("vit")
    every = tokens(backbone, picture(224, 1))
    assert every.shape == (1, 197, 768)
    close(backbone.compute(picture(224, 1))["token_mean"], every[:, 1:].mean(1))


def test_bottleneck512_is_the_activation_after_the_last_3x3_convolution(made: Make) -> None:
    backbone = made("resnet50")
    seen: list[torch.Tensor] = []
    trunk = backbone.module.trunk  # type: ignore[attr-defined]
    handle = trunk.layer4[2].act2.register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.inference_mode():
        pooled = trunk(backbone.transform.to_tensor(torch.from_numpy(picture(224, 1))))
    handle.remove()
    assert seen[-1].shape == (1, 512, 7, 7)
    assert pooled.shape == (1, 2048)
    close(backbone.compute(picture(224, 1))["bottleneck512"], seen[-1].mean((2, 3)))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ResNet-50 with a projection, as fine-tuning would leave it."""
    path = tmp_path_factory.mktemp("resnet") / "tuned.safetensors"
    backbone = backbones.create("resnet50", weights="random", tap="proj512")
    save_file(backbone.state() | {"fc.weight": torch.ones(7, 2048), "fc.bias": torch.ones(7)}, path)  # type: ignore[attr-defined]
    yield path
    path.unlink()


def test_each_tap_reads_the_same_file_at_its_own_place(tuned: Path) -> None:
    taps = {
        tap: backbones.create("resnet50", weights=tuned, tap=tap) for tap in ("bottleneck512", "pool2048", "proj512")
    }
    rows = {tap: backbone.compute(picture(224, 1))[tap] for tap, backbone in taps.items()}
    assert {tap: values.shape[1] for tap, values in rows.items()} == {
        "bottleneck512": 512,
        "pool2048": 2048,
        "proj512": 512,
    }
    state = taps["proj512"].state()  # type: ignore[attr-defined]
    expected = rows["pool2048"] @ state["proj.weight"].numpy().T + state["proj.bias"].numpy()
    np.testing.assert_allclose(rows["proj512"], expected, rtol=1e-3, atol=1e-4)
    assert len({str(backbone.spec()) for backbone in taps.values()}) == 3
    assert taps["bottleneck512"].spec()["weights"] == taps["pool2048"].spec()["weights"]


def test_a_file_without_a_projection_cannot_be_tapped_there(tuned: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = {name: tensor.half() for name, tensor in load_file(tuned).items() if not name.startswith("proj")}
    save_file(state, tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match=r"no projection \(proj.weight\)") as caught:
        backbones.create("resnet50", weights=tmp_path / "plain.safetensors", tap="proj512")
    assert "tap='bottleneck512'" in str(caught.value)


def test_no_pretrained_tag_has_a_projection() -> None:
    with pytest.raises(WeightsError, match="after fine-tuning only"):
        backbones.create("resnet50", tap="proj512")


def test_inspect_recognises_the_named_backbones_and_their_heads(tuned: Path) -> None:
    info = backbones.inspect_checkpoint(tuned)
    assert (info.fits, info.looks_like, info.heads) == ("resnet50", "ResNet-50", {"fc": 7})
    assert info.advice == "create('resnet50', weights='tuned.safetensors')"
    assert info.parameters == 23_508_032 + 2049 * 512 + 2049 * 7 + buffers("resnet50")
    assert info.to_dict()["form"] == "safetensors"


def buffers(name: str) -> int:
    with torch.device("meta"):
        return sum(buffer.numel() for buffer in timm.create_model(name, num_classes=0).buffers())


def test_inspect_says_what_to_try_with_other_networks(tmp_path: Path) -> None:
    save_file(tiny("cls").state(), tmp_path / "w.safetensors")  # type: ignore[attr-defined]
    info = backbones.inspect_checkpoint(tmp_path / "w.safetensors")
    assert info.fits is None
    assert info.looks_like == "a ViT of width 64, depth 6, patch 16"
    assert "timm:<name>" in info.advice


@pytest.mark.parametrize(("asked", "kept"), [({}, 1.0), ({"crop_pct": 0.9}, 0.9), ({"crop_pct": None}, 0.95)])
def test_pictures_of_faces_are_kept_whole_unless_the_centre_is_asked_for(
    asked: dict[str, float | None], kept: float
) -> None:
    backbone = backbones.create("timm:test_resnet", weights="random", **asked)
    assert backbone.transform.crop_pct == kept
