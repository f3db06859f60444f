"""POSTER++, DAN, IR-50 and MobileFaceNet: names, shapes and counts of the public files, and numbers of the public code.

The golden numbers are what the public code (named in each file of the zoo) gives with weights filled by `fill`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cer_fusion import backbones
from cer_fusion.backbones import CheckpointError, OptionError
from cer_fusion.backbones.making import recreate
from cer_fusion.backbones.recipes import recipe_of
from cer_fusion.backbones.weights.inspection import encoder_of
from cer_fusion.backbones.zoo.poster import UNUSED
from tests.backbones.checkpoint_files import thin, with_prefix

NAMES = ("dan", "ir50", "mobilefacenet", "poster")


def fill(module: nn.Module) -> nn.Module:
    """Give every tensor numbers that any machine and version repeats."""
    with torch.no_grad():
        for number, (name, tensor) in enumerate(sorted(module.state_dict().items())):
            if not tensor.dtype.is_floating_point:
                continue
            values = np.resize(np.random.RandomState(number).uniform(-1, 1, 4099), tuple(tensor.shape))
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                values = 1 + 0.3 * values
            else:
                values = values * (np.sqrt(3 / np.prod(tensor.shape[1:])) if tensor.ndim > 1 else 0.1)
            tensor.copy_(torch.from_numpy(values))
    return module.eval()


def built(name: str, **options: Any) -> nn.Module:
    recipe, _ = recipe_of(name)
    return recipe.build(tag=None, pretrained=False, **options).module  # type: ignore[union-attr, return-value]


def seen(side: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(99).uniform(-1, 1, (2, 3, side, side))).float()


GOLDEN: dict[str, tuple[str, dict[str, Any], int, list[float]]] = {
    "AdaFace IR-50": ("ir50", {}, 112, [
        -0.00952465, -0.0419261, -0.0260148, 0.0285947, 0.00256569, -0.0195453, 0.0427423, -0.0225103,
    ]),
    "ArcFace IR-SE50": ("ir50", {"style": "arcface", "se": True}, 112, [
        -0.0560254, -0.0129601, 0.0371419, 0.0402922, -0.0447406, 0.0313569, 0.0011575, 0.0189142,
    ]),
    "MobileFaceNet": ("mobilefacenet", {}, 112, [
        0.106085, -0.00426904, 0.0660299, 0.0155112, 0.0508659, 0.0344264, -0.0580269, 0.049304,
    ]),
    "DAN": ("dan", {}, 224, [112.392, -783.924, 873.816, -1245.94, 130.246, -860.304, 732.751, -1255.55]),
    "POSTER++": ("poster", {}, 224, [
        -0.0130455, -0.931814, -0.148103, -0.0699669, -0.481697, -0.765885, 0.195433, 0.465466,
    ]),
}  # fmt: skip
"""Backbone, options, side, and the first four numbers of two rows: of the embedding, or of the classifier's logits."""


def norm(name: str) -> Iterator[str]:
    yield from (f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))


def linear(name: str) -> Iterator[str]:
    yield from (f"{name}.weight", f"{name}.bias")


def conv_block(name: str, *, acts: bool = True) -> Iterator[str]:
    yield f"{name}.conv.weight"
    yield from norm(f"{name}.bn")
    if acts:
        yield f"{name}.prelu.weight"


def ir_units(prefix: str, plan: list[tuple[int, bool]], *, adaface: bool, se: bool) -> Iterator[str]:
    """Names of units: how many in a stage, and whether the first of them changes the width."""
    number = itertools.count()
    for count, widens in plan:
        for at in range(count):
            unit = f"{prefix}.{next(number)}"
            if at == 0 and widens:
                yield f"{unit}.shortcut_layer.0.weight"
                yield from norm(f"{unit}.shortcut_layer.1")
            layers = ["norm", "conv", *(["norm"] if adaface else []), "prelu", "conv", "norm"]
            for place, kind in enumerate(layers):
                name = f"{unit}.res_layer.{place}"
                yield from norm(name) if kind == "norm" else [f"{name}.weight"]
            if se:
                gate = f"{unit}.res_layer.{'se_block' if adaface else 5}"
                yield from (f"{gate}.fc1.weight", f"{gate}.fc2.weight")


def ir_names(depth: int, style: str, *, se: bool) -> Iterator[str]:
    counts = {18: (2, 2, 2, 2), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}[depth]
    yield "input_layer.0.weight"
    yield from norm("input_layer.1")
    yield "input_layer.2.weight"
    plan = list(zip(counts, (False, True, True, True), strict=True))
    yield from ir_units("body", plan, adaface=style == "adaface", se=se)
    yield from norm("output_layer.0")
    yield from linear("output_layer.3")
    yield from [n for n in norm("output_layer.4") if style == "arcface" or not n.endswith(("weight", "bias"))]


def mobilefacenet_names(last: str = "") -> Iterator[str]:
    def bottleneck(name: str) -> Iterator[str]:
        yield from conv_block(f"{name}.conv")
        yield from conv_block(f"{name}.conv_dw")
        yield from conv_block(f"{name}.project", acts=False)

    for name in ("conv1", "conv2_dw", "conv_6_sep"):
        yield from conv_block(name)
    for name in ("conv_23", "conv_34", "conv_45"):
        yield from bottleneck(name)
    for name, count in (("conv_3", 4), ("conv_4", 6), ("conv_5", 2)):
        for number in range(count):
            yield from bottleneck(f"{name}.model.{number}")
    yield from conv_block(f"{last}conv_6_dw", acts=False)
    yield f"{last}linear.weight"
    yield from norm(f"{last}bn")


def dan_names() -> Iterator[str]:
    yield "features.0.weight"
    yield from norm("features.1")
    for stage, block in itertools.product(range(4, 8), range(2)):
        for part in (1, 2):
            yield f"features.{stage}.{block}.conv{part}.weight"
            yield from norm(f"features.{stage}.{block}.bn{part}")
        if stage > 4 and block == 0:
            yield f"features.{stage}.0.downsample.0.weight"
            yield from norm(f"features.{stage}.0.downsample.1")
    for head in range(4):
        for part in ("conv1x1", "conv_3x3", "conv_1x3", "conv_3x1"):
            yield from linear(f"cat_head{head}.sa.{part}.0")
            yield from norm(f"cat_head{head}.sa.{part}.1")
        yield from linear(f"cat_head{head}.ca.attention.0")
        yield from norm(f"cat_head{head}.ca.attention.1")
        yield from linear(f"cat_head{head}.ca.attention.3")
    yield from linear("fc")
    yield from norm("bn")


def poster_names() -> Iterator[str]:
    yield from (f"face_landback.{name}" for name in mobilefacenet_names("output_layer."))
    yield from ("VIT.cls_token", "VIT.pos_embed", "VIT.eca_block.conv.weight", "VIT.CON1.weight")
    for name in (
        "se_block.linear1",
        "se_block.linear2",
        "patch_embed.proj",
        "head.linear",
        "IRLinear1",
        "IRLinear2",
        "norm",
    ):
        yield from linear(f"VIT.{name}")
    for block, part in itertools.product(
        range(2), ("norm1", "conv", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    ):
        yield from linear(f"VIT.blocks.{block}.{part}")
    yield "ir_back.input_layer.0.weight"
    yield from norm("ir_back.input_layer.1")
    yield "ir_back.input_layer.2.weight"
    yield from norm("ir_back.output_layer.0")
    yield from linear("ir_back.output_layer.3")
    yield from norm("ir_back.output_layer.4")
    for number, stage in enumerate(((3, False), (4, True), (14, True)), start=1):
        yield from ir_units(f"ir_back.body{number}", [stage], adaface=False, se=False)
        yield from (f"attn{number}.relative_position_{what}" for what in ("bias_table", "index"))
        yield from (f"ffn{number}.gamma{which}" for which in (1, 2))
        for name in (f"attn{number}.qkv", f"attn{number}.proj", f"window{number}.norm", f"conv{number}"):
            yield from linear(name)
        for name in ("mlp.fc1", "mlp.fc2", "norm"):
            yield from linear(f"ffn{number}.{name}")
    for name in ("last_face_conv", "embed_q.0", "embed_q.1", "embed_k.0", "embed_v.proj"):
        yield from linear(name)


PUBLISHED: dict[str, tuple[str, dict[str, Any], list[str], int]] = {
    "AdaFace IR-50": ("ir50", {}, list(ir_names(50, "adaface", se=False)), 43_585_600),
    "AdaFace IR-18": ("ir50", {"depth": 18}, list(ir_names(18, "adaface", se=False)), 24_020_352),
    "AdaFace IR-101": ("ir50", {"depth": 100}, list(ir_names(100, "adaface", se=False)), 65_150_912),
    "ArcFace IR-50": ("ir50", {"style": "arcface"}, list(ir_names(50, "arcface", se=False)), 43_574_976),
    "ArcFace IR-SE50": ("ir50", {"style": "arcface", "se": True}, list(ir_names(50, "arcface", se=True)), 43_797_696),
    "MobileFaceNet": ("mobilefacenet", {}, list(mobilefacenet_names()), 1_200_512),
    "DAN, 7 classes": ("dan", {}, list(dan_names()), 19_723_733),
    "DAN, 8 classes": ("dan", {"num_classes": 8}, list(dan_names()), 19_723_733 + 513 + 2),
    "POSTER++, 7 classes": ("poster", {}, list(poster_names()), 58_316_594),
    "POSTER++, 8 classes": ("poster", {"num_classes": 8}, list(poster_names()), 58_316_594 + 769),
}


@pytest.mark.parametrize("which", PUBLISHED)
def test_names_and_counts_are_those_of_the_public_files(which: str) -> None:
    name, options, published, count = PUBLISHED[which]
    with torch.device("meta"):
        module = built(name, **options)
    assert sorted(module.state_dict()) == sorted(published)
    assert sum(parameter.numel() for parameter in module.parameters()) == count


def test_the_paper_counts_of_poster_what_is_run() -> None:
    with torch.device("meta"):
        module = built("poster")
    run = sum(p.numel() for n, p in module.named_parameters() if not any(n.startswith(f"{each}.") for each in UNUSED))
    assert round(run / 1e6, 1) == 43.8  # 43.7 M in its table 1, which counts 7.9e3 fewer of the classifier's
    found = []
    module = fill(built("poster"))
    with torch.inference_mode():
        found.append(module(seen(224))["fused"])
        for name, parameter in module.named_parameters():
            if any(name.startswith(f"{each}.") for each in UNUSED):
                parameter.fill_(float("nan"))
        found.append(module(seen(224))["fused"])
    assert torch.equal(*found)


@pytest.mark.parametrize("which", GOLDEN)
def test_the_numbers_are_those_of_the_public_code(which: str) -> None:
    name, options, side, expected = GOLDEN[which]
    module: Any = fill(built(name, **options))
    with torch.inference_mode():
        (rows,) = module(seen(side)).values()
        if name == "dan":
            rows = module.bn(module.fc(rows))
        elif name == "poster":
            rows = module.VIT.head.linear(rows)
    np.testing.assert_allclose(rows[:, :4].flatten().numpy(), expected, rtol=2e-3, atol=2e-5)


FORMS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "AdaFace's .ckpt": ("ir50", {"depth": 18}, lambda s: {
        "state_dict": with_prefix(s, "model.") | {"head.kernel": torch.ones(512, 9)}, "epoch": 25, "callbacks": {},
    }),
    "InsightFace_Pytorch's .pth": ("ir50", {"style": "arcface", "se": True}, lambda s: s),
    "a MobileFaceNet": ("mobilefacenet", {}, lambda s: s),
    "the landmarks' .pth.tar": ("mobilefacenet", {"width": 136}, lambda s: {"state_dict": with_prefix(
        {(f"output_layer.{k}" if k.startswith(("conv_6_dw", "linear", "bn.")) else k): t for k, t in s.items()},
        "module.",
    )}),
    "DAN's .pth": ("dan", {"num_classes": 8}, lambda s: {"model_state_dict": s, "iter": 5, "optimizer_state_dict": {}}),
    "POSTER++'s .pth": ("poster", {}, lambda s: {"state_dict": with_prefix(s, "module."), "best_acc": torch.ones(1)}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_file_in_its_public_form_is_recognised_with_the_options_it_needs_and_loads(form: str, tmp_path: Path) -> None:
    name, options, wrap = FORMS[form]
    with torch.device("meta"):
        expected = built(name, **options).state_dict()
    state = {key: torch.tensor(0.5).expand(t.shape) for key, t in expected.items() if t.dtype.is_floating_point}
    state |= {key: torch.tensor(0).expand(t.shape) for key, t in expected.items() if not t.dtype.is_floating_point}
    torch.save(wrap(state), tmp_path / "w.pth")
    info = backbones.inspect_checkpoint(tmp_path / "w.pth")
    assert info.fits == name
    told = {k: v for k, v in options.items() if not (k == "num_classes" and v == 7)}
    assert all(f"{key}={value!r}" in info.advice for key, value in told.items())
    made = backbones.create(name, weights=tmp_path / "w.pth", **options)
    assert all(torch.equal(t, state[key]) for key, t in made.state().items() if key in state)  # type: ignore[attr-defined]


def test_a_classifier_of_another_width_is_kept_or_replaced_when_asked(tmp_path: Path) -> None:
    with torch.device("meta"):
        expected = built("dan", num_classes=8).state_dict()
    torch.save({k: torch.tensor(1).expand(t.shape).to(t.dtype) for k, t in expected.items()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="num_classes=8"):
        backbones.create("dan", weights=tmp_path / "w.pth")
    kept = backbones.create("dan", weights=tmp_path / "w.pth", num_classes=8)
    other = backbones.create("dan", weights=tmp_path / "w.pth", replace_heads=True)
    assert kept.spec() == other.spec()
    again = recreate("f", *json.loads(json.dumps([kept.spec(), kept.describe()])), weights=tmp_path / "w.pth")
    assert again.spec() == kept.spec()


def test_the_catalogue_says_what_they_are() -> None:
    for name in NAMES:
        row = next(row for row in backbones.catalogue() if row["name"] == name)
        encoder = encoder_of(name)
        assert encoder is not None
        assert row["blocks"] == encoder.blocks
        assert (row["size_px"], tuple(row["mean"])) == (encoder.transform.size_px, encoder.transform.mean)
        assert row["parameters"] == sum(p.numel() for p in encoder.module.parameters())
        assert sorted(thin(name)) == sorted(encoder.trunk.state_dict())


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ir50", {"depth": 51}, "18, 34, 50, 100"),
        ("ir50", {"style": "arcfase"}, "nearest: 'arcface'"),
        ("mobilefacenet", {"width": 0}, "at least 1"),
        ("dan", {"num_classes": 0}, "num_classes"),
        ("poster", {"num_classes": -1}, "num_classes"),
    ],
)
def test_what_they_cannot_be_is_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        backbones.create(name, weights="random", **options)


def test_adafaces_pictures_are_blue_first_and_rows_have_length_one() -> None:
    made = backbones.create("ir50", weights="random", depth=18)
    assert made.transform.colour == "BGR"
    assert backbones.create("mobilefacenet", weights="random").transform.colour == "RGB"
    rows = made.embed(np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8))["embedding"]
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
