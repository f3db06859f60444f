"""What every backbone promises, whatever kind it is; a new kind is added to KINDS and must pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cer_fusion import backbones
from cer_fusion.backbones import Backbone, OptionError
from cer_fusion.testing import check_backbone
from tests.backbones.conftest import Encode

KINDS = ["vit", "manet", "resnet50", "timm:test_vit", "timm:test_resnet", "timm:test_efficientnet", "onnx"]
BIG = ["vit", "manet", "resnet50"]
TINY = [kind for kind in KINDS if kind not in BIG]

Make = Callable[[str], Backbone]


@pytest.fixture(params=KINDS)
def backbone(request: pytest.FixtureRequest, made: Make) -> Backbone:
    return made(request.param)


def batch(backbone: Backbone, count: int, seed: int = 0) -> Any:
    side = backbone.transform.size_px
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def test_it_keeps_what_is_promised_to_authors_of_plugins(backbone: Backbone) -> None:
    check_backbone(backbone)


@pytest.mark.parametrize("kind", TINY)
def test_a_pictures_row_has_the_same_bits_whatever_it_is_embedded_with(kind: str, made: Make) -> None:
    backbone = made(kind)
    pictures = batch(backbone, 21)
    order = np.random.default_rng(1).permutation(21)
    together, shuffled, alone = backbone.embed(pictures), backbone.embed(pictures[order]), backbone.embed(pictures[4:5])
    for block in backbone.blocks:
        assert np.array_equal(together[block][order], shuffled[block])
        assert np.array_equal(together[block][4:5], alone[block])


def test_manets_small_maps_keep_their_bits_too(made: Make) -> None:
    pictures = batch(made("manet"), 7)
    together, alone = made("manet").embed(pictures), made("manet").embed(pictures[5:6])
    assert all(np.array_equal(together[block][5:6], alone[block]) for block in together)


def test_pictures_may_be_read_only_and_strided(made: Make) -> None:
    backbone = made("timm:test_vit")
    pictures = batch(backbone, 4)
    expected = backbone.embed(pictures[::2])["pooled"]
    view = pictures[::2]
    view.flags.writeable = False
    assert np.array_equal(backbone.embed(view)["pooled"], expected)


def test_the_spec_is_json_and_says_all_that_fixes_the_numbers(backbone: Backbone) -> None:
    spec = backbone.spec()
    assert json.loads(json.dumps(spec)) == spec
    assert set(spec) == {"architecture", "options", "weights", "transform", "precision", "code"}
    assert set(spec["weights"]) == {"digest"}
    assert len(spec["weights"]["digest"]) == 64
    assert len(spec["transform"]["probe"]) == 16
    assert {
        "size_px",
        "resize",
        "crop",
        "interpolation",
        "antialias",
        "decoder",
        "colour",
        "scale",
        "mean",
        "std",
    } <= set(spec["transform"])
    assert spec["precision"] == "float32"
    assert isinstance(spec["code"], int)
    assert list(spec["options"]) == sorted(spec["options"])


@pytest.mark.parametrize("kind", TINY)
def test_the_spec_does_not_change_by_being_used(kind: str, made: Make) -> None:
    backbone = made(kind)
    before = backbone.spec()
    backbone.embed(batch(backbone, 1))
    assert backbone.spec() == before


def test_the_network_is_left_in_evaluation_mode_and_without_gradients(made: Make) -> None:
    backbone = made("timm:test_resnet")
    expected = backbone.embed(batch(backbone, 2))["pooled"]
    backbone.module.train()  # type: ignore[attr-defined]
    statistics = {k: v.clone() for k, v in backbone.state().items()}  # type: ignore[attr-defined]
    assert np.array_equal(backbone.embed(batch(backbone, 2))["pooled"], expected)
    assert all((statistics[k] == v).all() for k, v in backbone.state().items())  # type: ignore[attr-defined]


def test_no_two_kinds_share_an_identity(made: Make) -> None:
    specs = [json.dumps(made(kind).spec(), sort_keys=True) for kind in KINDS]
    assert len(set(specs)) == len(KINDS)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_is_close_still_float32_outside_and_another_identity(precision: str, made: Make) -> None:
    exact = made("timm:test_vit")
    rough = backbones.create("timm:test_vit", weights="random", precision=precision)
    a, b = (backbone.embed(batch(exact, 3))["pooled"] for backbone in (exact, rough))
    assert b.dtype == np.float32
    assert not np.array_equal(a, b)
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1) > 0.99).all()
    assert rough.spec() == exact.spec() | {"precision": precision, "device_kind": "cpu"}


def test_float32_is_not_quietly_tf32_while_computing_and_settings_are_put_back(made: Make) -> None:
    import torch

    backbone = made("timm:test_resnet")
    seen = []

    def look(*_: object) -> None:
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))

    before = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    hook = backbone.module.register_forward_hook(look)  # type: ignore[attr-defined]
    backbone.embed(batch(backbone, 1))
    hook.remove()
    assert seen == [(False, False)]
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before == (True, False)


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OptionError, match="float32, tf32, bfloat16, float16"):
        backbones.create("timm:test_vit", weights="random", precision="int8")


@pytest.mark.parametrize("kind", TINY)
def test_an_automatic_batch_is_made_of_whole_pieces_on_a_cpu(kind: str, made: Make) -> None:
    backbone = made(kind)
    assert backbone.auto_batch >= 32
    assert backbone.auto_batch % backbone.piece == 0


def test_an_automatic_batch_is_large_where_all_is_computed_at_once() -> None:
    backbone = backbones.create("timm:test_resnet", weights="random")
    backbone.piece = 0
    assert backbone.auto_batch == 256


def test_pictures_that_do_not_fit_on_the_device_are_told_as_a_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    backbone = backbones.create("timm:test_resnet", weights="random")

    def refuse(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    backbone.network = refuse  # type: ignore[attr-defined]
    with pytest.raises(
        MemoryError, match=r"8 pictures at once do not fit(.|\n)*20 GiB(.|\n)*--batch-size auto"
    ) as caught:
        backbone.embed(batch(backbone, 3))
    assert isinstance(caught.value, backbones.DeviceError)
    assert caught.value.__context__ is None, "the tensors of the attempt would stay alive"


def test_a_compiled_network_gives_the_same_rows_nearly_and_is_another_identity() -> None:
    plain, compiled = (backbones.create("timm:test_resnet", weights="random") for _ in range(2))
    compiled.compile_network(backend="eager")  # type: ignore[attr-defined]
    pictures = batch(plain, 3)
    np.testing.assert_allclose(compiled.embed(pictures)["pooled"], plain.embed(pictures)["pooled"], rtol=1e-4)
    options = plain.spec()["options"]
    assert compiled.spec() == plain.spec() | {"options": dict(sorted({**options, "compile": "eager"}.items()))}
    assert (plain.describe()["compiled"], compiled.describe()["compiled"]) == (False, True)


def test_a_network_that_cannot_be_compiled_is_told_and_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def compiler(module: object, backend: str) -> object:
        def fail(_: object) -> None:
            raise RuntimeError("no C++ compiler found")

        return fail

    monkeypatch.setattr(torch, "compile", compiler)
    backbone = backbones.create("timm:test_resnet", weights="random")
    before = backbone.spec()
    with pytest.raises(backbones.DeviceError, match=r"no C\+\+ compiler found(.|\n)*--compile"):
        backbone.compile_network()  # type: ignore[attr-defined]
    assert backbone.spec() == before
    assert backbone.embed(batch(backbone, 1))["pooled"].shape == (1, backbone.blocks["pooled"])


def test_infinite_and_undefined_rows_are_returned_as_they_come(made: Make) -> None:
    import torch

    backbone = backbones.create("timm:test_vit", weights="random")
    with torch.no_grad():
        backbone.module.trunk.norm.bias.fill_(float("nan"))  # type: ignore[attr-defined]
    assert np.isnan(backbone.embed(batch(backbone, 1))["pooled"]).all()


def test_decoding_squashes_or_crops_as_the_transform_says(made: Make, encode: Encode) -> None:
    wide = Image.new("RGB", (400, 100), (255, 0, 0))
    wide.paste((0, 0, 255), (0, 0, 100, 100))
    assert (made("manet").decode(encode(wide))[:, 0] == (0, 0, 255)).all()
    assert (made("resnet50").decode(encode(wide))[:, 0] == (255, 0, 0)).all()
