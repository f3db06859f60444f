"""What there is, made by name; mistakes in names and options are answered with what was probably meant."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cer_fusion import backbones
from cer_fusion.backbones import Backbone, DeviceError, OptionError, UnknownBackboneError, WeightsError


def test_the_public_names_are_sorted_and_there() -> None:
    assert list(backbones.__all__) == sorted(backbones.__all__)
    assert all(hasattr(backbones, name) for name in backbones.__all__)
    with pytest.raises(AttributeError):
        backbones.nothing  # noqa: B018


def test_reading_the_catalogue_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from cer_fusion import backbones; "
        "backbones.names(); backbones.catalogue(); backbones.PictureError; "
        "print(sorted({'torch', 'timm', 'onnxruntime', 'torchvision'} & set(sys.modules)))"
    )
    root = Path(backbones.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_papers_three_are_there_by_name_and_four_networks_of_faces() -> None:
    assert backbones.names() == ("dan", "ir50", "manet", "mobilefacenet", "poster", "resnet50", "vit")


def test_the_catalogue_has_a_row_for_each_and_for_the_families() -> None:
    rows = {row["name"]: row for row in backbones.catalogue()}
    families = ["<file.py>:<Class>", "audio:<name>", "clip:<folder>", "onnx:<file>", "open-clip:<name>", "timm:<name>"]
    assert list(rows) == [*backbones.names(), *families]
    assert json.loads(json.dumps(rows)) == rows
    assert rows["manet"]["options"] == {
        "flow": "bidirectional",
        "num_classes": 7,
        "replace_heads": False,
        "extra": "none",
    }
    assert all(row["note"] for row in rows.values())


@pytest.mark.parametrize("name", ["manet", "resnet50", "vit"])
def test_a_row_says_what_the_built_backbone_is(name: str, made: Callable[[str], Backbone]) -> None:
    row = next(row for row in backbones.catalogue() if row["name"] == name)
    backbone = made(name)
    assert row["blocks"] == dict(backbone.blocks)
    assert row["size_px"] == backbone.transform.size_px
    assert row["mean"] == list(backbone.transform.mean)
    assert row["std"] == list(backbone.transform.std)
    assert row["parameters"] == backbone.describe()["parameters"]


def test_the_default_weights_are_tags_that_timm_has() -> None:
    import timm

    assert "vit_base_patch16_224.mae" in timm.list_pretrained("vit_base_patch16_224.*")
    assert "resnet50.tv_in1k" in timm.list_pretrained("resnet50.*")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vitt", "nearest: 'vit'"),
        ("ma-net", "nearest: 'manet'"),
        ("timm:resnet5", "nearest: 'resnet5"),
        ("timm:test_vit.r161_in1k", "nearest: 'r160_in1k'"),
        ("timm:", "timm:<name>"),
        ("torch:x", "onnx:<file>"),
        ("", "there are dan, ir50, manet"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_ones(name: str, said: str) -> None:
    for weights in ("random", None):
        with pytest.raises(UnknownBackboneError) as caught:
            backbones.create(name, weights=weights)
        assert said in str(caught.value)
        assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("manet", {"flw": "legacy"}, "nearest: 'flow'"),
        ("manet", {"target": "x"}, "no option 'target'"),
        ("manet", {"flow": "legacyy"}, "bidirectional, legacy"),
        ("resnet50", {"tap": "pool"}, "bottleneck512, pool2048, proj512"),
        ("vit", {"pooling": "token"}, "nearest: 'token_mean'"),
        ("timm:test_resnet", {"pooling": "cls"}, "needs a transformer"),
        ("timm:test_vit", {"pooling": "cls_mea"}, "nearest: 'cls_mean'"),
        ("timm:test_vit2", {"pooling": "cls"}, "needs a class token"),
        ("timm:test_vit", {"img_size": 0}, "positive image size"),
        ("timm:test_resnet", {"img_size": -4}, "positive image size"),
        ("manet", {"num_classes": 0}, "num_classes"),
    ],
)
def test_a_wrong_option_is_refused_with_what_there_is(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        backbones.create(name, weights="random", **options)  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "xpu"])
def test_a_device_that_is_not_there_is_never_replaced(device: str) -> None:
    with pytest.raises(DeviceError):
        backbones.create("timm:test_vit", weights="random", device=device)


def test_the_automatic_device_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="cer_fusion.backbones")
    backbone = backbones.create("timm:test_vit", weights="random", device="auto")
    assert f"device auto: {backbone.device}" in caplog.text


def test_a_tag_in_the_name_is_the_tag_that_is_meant() -> None:
    with pytest.raises(WeightsError, match=r"test_vit\.r160_in1k could not be loaded"):
        backbones.create("timm:test_vit.r160_in1k")
