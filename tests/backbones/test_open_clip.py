"""open_clip's encoders from local files: rows and text vectors are the library's, and no wrong activation passes."""

from __future__ import annotations

import copy
import json
import pickle
import socket
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save_file

from cer_fusion.backbones import (
    CheckpointError,
    MissingExtraError,
    OptionError,
    UnknownBackboneError,
    WeightsError,
    create,
    inspect_checkpoint,
)
from cer_fusion.backbones.making import recreate
from cer_fusion.backbones.recipes import recipe_of
from tests.backbones.image_text_folders import (
    OPEN_CLIP,
    PREPARED,
    SIDE,
    WORDS,
    save_open_clip,
    save_words,
    small_open_clip,
)

open_clip = pytest.importorskip("open_clip", reason="the extra [open-clip] is not installed")

PROMPTS = ["a photo of a face", "a sadly angry face", "ein trauriges Gesicht, ängstlich: 悲しい顔 🙂"]
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(autouse=True)
def no_internet(monkeypatch):
    def refused(*_):
        raise AssertionError("something asked the internet")

    monkeypatch.setattr(socket.socket, "connect", refused)


def opened(path):
    return load(path.read_bytes())  # a mapped file would change with what is written over it


def texts_of(target, prompts=PROMPTS, **more):
    return recipe_of("open-clip:x")[0].texts(str(target), prompts, **more)


def configured(folder, part="model_cfg", **changes):
    path = folder / "open_clip_config.json"
    found = json.loads(path.read_text())
    found[part] |= changes
    path.write_text(json.dumps(found))


@pytest.mark.parametrize("kind", OPEN_CLIP)
def test_rows_and_text_vectors_are_those_of_the_library(kind, tmp_path):
    backbone = create(f"open-clip:{save_open_clip(tmp_path / 'tiny', kind)}")
    side = backbone.transform.size_px
    pictures = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    model = small_open_clip(kind)
    pixels = backbone.transform.to_tensor(torch.from_numpy(pictures))
    plain = {"normalize": False}
    with torch.inference_mode():
        rows, ids = model.encode_image(pixels, **plain), open_clip.SimpleTokenizer(
            context_length=OPEN_CLIP[kind]["text_cfg"].get("context_length", 77),
            clean=OPEN_CLIP[kind]["text_cfg"].get("tokenizer_kwargs", {}).get("clean", "lower"),
        )(PROMPTS)  # fmt: skip
        wanted = model.encode_text(ids, **plain)
    np.testing.assert_allclose(backbone.embed(pictures)["image"], rows.numpy(), atol=2e-5, rtol=1e-4)
    found = texts_of(tmp_path / "tiny")
    np.testing.assert_allclose(found.vectors, wanted.numpy(), atol=2e-5, rtol=1e-4)
    assert found.vectors.shape[1] == backbone.blocks["image"] == OPEN_CLIP[kind]["embed_dim"]
    assert found.temperature == pytest.approx(1 / model.logit_scale.exp().item())
    np.testing.assert_allclose(texts_of(tmp_path / "tiny", PROMPTS[2:]).vectors, found.vectors[2:], atol=1e-5)


@pytest.mark.parametrize(
    "way", [{}, {"resize_mode": "squash", "interpolation": "bilinear"}, {"interpolation": "random"}]
)
def test_pictures_are_prepared_as_the_library_prepares_them(way, tmp_path):
    folder = save_open_clip(tmp_path / "tiny")
    configured(folder, "preprocess_cfg", **way)
    transform = create(f"open-clip:{folder}").transform
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (75, 50, 3), np.uint8))
    wanted = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**{**PREPARED, **way, "size": SIDE}), is_train=False
    )(image)
    found = transform.to_tensor(torch.from_numpy(transform.apply(image)[None]))[0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_the_identity_is_of_the_image_half_its_activation_and_the_way_of_its_pictures(tmp_path):
    folder = save_open_clip(tmp_path / "tiny")
    spec = create(f"open-clip:{folder}").spec()
    assert create(f"open-clip:{save_open_clip(tmp_path / 'elsewhere')}").spec() == spec
    state = opened(folder / WEIGHTS)
    for name, same in (("ln_final.bias", True), ("visual.ln_post.bias", False)):
        save_file({**state, name: state[name] + 1}, folder / WEIGHTS)
        assert (create(f"open-clip:{folder}").spec() == spec) is same
    save_file(state, folder / WEIGHTS)
    for part, changes in (("model_cfg", {"quick_gelu": True}), ("preprocess_cfg", {"resize_mode": "squash"})):
        configured(folder, part, **changes)
        changed = create(f"open-clip:{folder}").spec()
        assert changed != spec
        assert changed["weights"] == spec["weights"]
        spec = changed


def test_weights_in_half_precision_and_in_a_file_of_pytorch_are_read_and_code_in_one_is_not_run(tmp_path):
    folder = save_open_clip(tmp_path / "tiny", half=True)
    rows = create(f"open-clip:{folder}").embed(np.zeros((1, SIDE, SIDE, 3), np.uint8))["image"]
    assert rows.dtype == np.float32
    torch.save({"state_dict": {f"module.{k}": v for k, v in opened(folder / WEIGHTS).items()}}, folder / "kept.pt")
    (folder / WEIGHTS).unlink()
    (folder / "kept.pt").rename(folder / "open_clip_pytorch_model.bin")
    np.testing.assert_array_equal(
        create(f"open-clip:{folder}").embed(np.zeros((1, SIDE, SIDE, 3), np.uint8))["image"], rows
    )

    class Wicked:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Wicked()))
    for make in (lambda: create(f"open-clip:{folder}"), lambda: texts_of(folder)):
        with pytest.raises(CheckpointError):
            make()
    assert not (tmp_path / "ran").exists()


def test_rows_are_made_again_where_the_folder_is_now_and_of_a_fine_tuned_half(tmp_path):
    folder = save_open_clip(tmp_path / "tiny")
    before = create(f"open-clip:{folder}")
    moved = folder.rename(tmp_path / "moved")
    assert recreate("x", before.spec(), before.describe(), weights=str(moved)).spec() == before.spec()
    with pytest.raises(WeightsError, match="--weights x=FOLDER"):
        recreate("x", before.spec(), before.describe())
    with pytest.raises(WeightsError, match="are others"):
        recreate("x", before.spec(), before.describe(), weights=str(save_open_clip(tmp_path / "b", seed=1)))
    tuned = create(f"open-clip:{moved}", weights="random", seed=3)
    assert tuned.weights_digest() == create(f"open-clip:{moved}", weights="random", seed=3).weights_digest()
    save_file({**tuned.state(), "head.weight": torch.ones(7, 16)}, moved / "tuned.safetensors")  # as fine-tuning leaves
    again = create(f"open-clip:{moved}", weights=moved / "tuned.safetensors")
    assert again.weights_digest() == tuned.weights_digest() != before.weights_digest()
    assert recreate("x", again.spec(), again.describe(), weights=moved / "tuned.safetensors").spec() == again.spec()


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Models of the library's, tiny ones, with weights of three tags; and a file of the plain one's."""
    factory, pretrained = open_clip.factory, open_clip.pretrained
    for name, kind in (("tiny", "plain"), ("tiny-quickgelu", "quick"), ("lone", "plain")):
        monkeypatch.setitem(factory._MODEL_CONFIGS, name, copy.deepcopy(OPEN_CLIP[kind]))
    wide = {"resize_mode": "squash", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    tags = {"openai": pretrained._pcfg("u", quick_gelu=True), "laion": pretrained._pcfg(hf_hub="l/m/")}
    tags["wide"] = pretrained._pcfg("u", **wide)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", tags)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-quickgelu", {"openai": tags["openai"]})
    monkeypatch.setitem(pretrained._PRETRAINED, "lone", {"wide": tags["wide"]})
    return save_open_clip(tmp_path / "files") / WEIGHTS


def test_a_models_name_and_tag_say_activation_and_preparation_and_the_file_has_both_halves(named, tmp_path):
    quick, plain, wide = (
        create(f"open-clip:{name}", weights=named) for name in ("tiny-quickgelu.openai", "tiny.laion", "tiny.wide")
    )
    assert quick.options["quick_gelu"] is True
    assert plain.options["quick_gelu"] is False
    assert (plain.transform.resize, wide.transform.resize, wide.transform.mean) == ("shorter", "squash", (0.5,) * 3)
    assert create("open-clip:lone", weights=named).transform == wide.transform
    assert create("open-clip:tiny.own", weights=named).transform == plain.transform
    folder = save_open_clip(tmp_path / "same", "quick")
    configured(folder, "preprocess_cfg", **{k: quick.transform.identity()[k] for k in ("mean", "std")})
    save_file(opened(named), folder / WEIGHTS)
    assert create(f"open-clip:{folder}").spec() == quick.spec()
    found = texts_of("tiny-quickgelu.openai", weights=named)
    np.testing.assert_array_equal(found.vectors, texts_of(folder).vectors)
    assert not np.allclose(found.vectors, texts_of("tiny.laion", weights=named).vectors, atol=1e-4)
    assert recreate("x", quick.spec(), quick.describe(), weights=named).spec() == quick.spec()
    assert recreate("x", quick.spec(), quick.describe(), weights=folder).spec() == quick.spec()
    with pytest.raises(WeightsError, match=r"--weights x=FILE"):
        recreate("x", quick.spec(), quick.describe())


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "tiny.openai",
            OptionError,
            r"'openai' were trained with QuickGELU[\s\S]*take open-clip:tiny-quickgelu\.openai",
        ),
        ("tiny-quickgelu.laion", UnknownBackboneError, r"of the other activation: open-clip:tiny\.laion"),
        ("RN50x4", OptionError, r"say which: open-clip:RN50x4-quickgelu\.openai, or open-clip:RN50x4\.own"),
        ("tiny.leion", UnknownBackboneError, r"no weights 'leion'; it has[\s\S]*nearest: 'laion'"),
        ("tiny", OptionError, r"nothing in a file says which weights[\s\S]*say which: open-clip:tiny\.laion, or"),
        ("tinny", UnknownBackboneError, r"no model 'tinny'[\s\S]*nearest: 'tiny'"),
        ("no/such/folder", UnknownBackboneError, r"expected a folder with open_clip_config\.json"),
    ],
)
def test_a_name_that_does_not_say_what_a_file_holds_or_says_it_wrongly_is_refused(named, name, error, message):
    for make in (lambda: create(f"open-clip:{name}", weights=named), lambda: texts_of(name, weights=named)):
        with pytest.raises(error, match=message):
            make()


def test_a_file_of_another_model_is_refused_by_what_its_image_half_lacks(named, tmp_path):
    other = save_open_clip(tmp_path / "other", "resnet") / WEIGHTS
    with pytest.raises(CheckpointError, match=r"visual\.class_embedding is missing[\s\S]*encoder of open_clip"):
        create("open-clip:lone", weights=other)


def test_no_weights_are_downloaded_and_it_says_where_they_are(named):
    with pytest.raises(WeightsError, match=r"nothing is downloaded\s+they are at huggingface.co/l/m; give it"):
        create("open-clip:tiny.laion")
    with pytest.raises(WeightsError, match="nothing is downloaded"):
        texts_of("tiny.laion")
    with pytest.raises(WeightsError, match="none were named"):
        create("open-clip:lone")


def test_every_pair_of_a_model_and_a_tag_of_the_library_has_one_name_that_is_taken():
    from cer_fusion.backbones.zoo.open_clip import tags

    taken, sent_on = 0, 0
    for name, tag in open_clip.list_pretrained():
        if name not in open_clip.list_models():
            continue
        try:
            assert tags(f"{name}.{tag}") == [tag]
            taken += 1
        except OptionError as error:
            other = str(error).rpartition("take open-clip:")[2]
            assert tags(other) == [tag]
            assert open_clip.get_model_config(other.partition(".")[0])["quick_gelu"]
            sent_on += 1
    assert taken > 100
    assert sent_on > 20
    with pytest.raises(OptionError, match=r"take open-clip:ViT-B-32-quickgelu\.openai"):
        tags("ViT-B-32.openai")


def test_openais_own_file_is_refused_under_a_network_of_gelu_and_read_under_its_own(named, tmp_path):
    marked = {**opened(named), "input_resolution": torch.tensor(32), "context_length": torch.tensor(77)}
    save_file({**marked, "vocab_size": torch.tensor(49408)}, tmp_path / "theirs.safetensors")
    for make in (create, lambda name, weights: texts_of(name.partition(":")[2], weights=weights)):
        with pytest.raises(OptionError, match=r"as OpenAI's own do[\s\S]*take open-clip:tiny-quickgelu\.own"):
            make("open-clip:tiny.own", weights=tmp_path / "theirs.safetensors")
        make("open-clip:tiny-quickgelu.openai", weights=tmp_path / "theirs.safetensors")


@pytest.mark.parametrize("name", ["ViT-B-32-openai", "vit_b_32-quickgelu-laion400m", "clip_QuickGELU"])
def test_a_folder_or_file_called_after_weights_of_quickgelu_computes_it_or_is_refused(tmp_path, named, name):
    folder = save_open_clip(tmp_path / name)
    with pytest.raises(OptionError, match=r"trained with QuickGELU[\s\S]*\"quick_gelu\": true"):
        create(f"open-clip:{folder}")
    configured(folder, quick_gelu=True)
    create(f"open-clip:{folder}")
    file = named.rename(tmp_path / f"{name}.safetensors")
    with pytest.raises(OptionError, match=r"take open-clip:tiny-quickgelu\.own"):
        create("open-clip:tiny.own", weights=file)
    create("open-clip:tiny-quickgelu.own", weights=file)


def test_timms_tower_without_a_projection_has_timms_digest_and_rows(tmp_path):
    folder = save_open_clip(tmp_path / "tiny", "siglip")
    state = opened(folder / WEIGHTS)
    trunk = {k.removeprefix("visual.trunk."): v for k, v in state.items() if k.startswith("visual.trunk.")}
    save_file(trunk, tmp_path / "tower.safetensors")
    ours, timms = create(f"open-clip:{folder}"), create("timm:test_vit3", weights=tmp_path / "tower.safetensors")
    assert ours.weights_digest() == timms.weights_digest()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), np.uint8)
    timms.transform = ours.transform
    np.testing.assert_allclose(ours.embed(pictures)["image"], timms.embed(pictures)["pooled"], atol=1e-5)
    projected = create(f"open-clip:{save_open_clip(tmp_path / 'other', 'timm')}")
    assert projected.blocks["image"] == 16  # and timm's own rows of that tower have 64 columns


def test_a_file_of_weights_is_recognised(tmp_path):
    found = inspect_checkpoint(save_open_clip(tmp_path / "tiny") / WEIGHTS)
    assert "open-clip:MODEL.TAG and this file" in found.looks_like


def test_timms_names_tell_when_weights_of_quickgelu_are_computed_with_gelu():
    from cer_fusion.backbones.zoo.timm_model import quick_twin

    assert quick_twin("vit_base_patch32_clip_224", "openai") == "vit_base_patch32_clip_quickgelu_224"
    for name, tag in (("vit_base_patch32_clip_224", "laion2b"), ("vit_base_patch32_clip_quickgelu_224", "openai")):
        assert quick_twin(name, tag) is None
    assert quick_twin("vit_base_patch16_224", "mae") is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda f: (f / "open_clip_config.json").unlink(),
            UnknownBackboneError,
            "expected a folder with open_clip_con",
        ),
        (lambda f: (f / "open_clip_config.json").write_text("{"), OptionError, r"open_clip_config\.json"),
        (lambda f: (f / "open_clip_config.json").write_text('{"model_cfg": {}}'), OptionError, "describes no encoder"),
        (lambda f: (f / WEIGHTS).unlink(), WeightsError, r"expected one of open_clip_model\.safetensors"),
        (lambda f: (f / WEIGHTS).write_bytes(b"x" * 50), CheckpointError, "neither safetensors nor"),
        (
            lambda f: save_file({"visual.proj": torch.ones(2)}, f / WEIGHTS),
            CheckpointError,
            "do not fit the image half",
        ),
        (lambda f: configured(f, vision_cfg={"depth": 3}), OptionError, "cannot build the network"),
        (lambda f: configured(f, vision_cfg={"timm_model_name": "hf-hub:a/b"}), UnknownBackboneError, "has no model"),
        (lambda f: configured(f, "preprocess_cfg", resize_mode="longest"), OptionError, "not known here"),
        (lambda f: configured(f, "preprocess_cfg", mean=[0.1]), OptionError, "three values"),
        (lambda f: configured(f, "preprocess_cfg", interpolation="lanczos"), OptionError, "not known here"),
    ],
)
def test_a_folder_that_is_no_encoder_is_refused_and_says_what_it_lacks(tmp_path, change, error, message):
    folder = save_open_clip(tmp_path / "tiny")
    change(folder)
    with pytest.raises(error, match=message):
        create(f"open-clip:{folder}")


@pytest.mark.parametrize(
    ("prompts", "text", "message"),
    [
        (["a face", "a face and " * 40], {}, "1 prompts have more than the 77 tokens"),
        (["a face", "!?"], {"tokenizer_kwargs": {"clean": "canonicalize"}}, "leaves nothing of 1 prompts"),
        (["a face"], {"tokenizer_kwargs": {"reduction_mask": "random"}}, "not known here"),
        (["a face"], {"tokenizer_kwargs": {"trust_remote_code": True}}, "not known here"),
        (["a face"], {"hf_tokenizer_name": "timm/x"}, r"needs? the tokenizer 'timm/x'[\s\S]*expected one of"),
        (["a face"], {"hf_model_name": "roberta-base"}, "network of transformers, 'roberta-base'"),
        (["a face"], {"vocab_size": 1000}, "it is another encoder's"),
    ],
)
def test_prompts_that_would_be_cut_or_lost_and_texts_that_cannot_be_embedded_are_refused(
    tmp_path, prompts, text, message
):
    folder = save_open_clip(tmp_path / "tiny")
    configured(folder, text_cfg={**OPEN_CLIP["plain"]["text_cfg"], **text})
    create(f"open-clip:{folder}")  # its rows can be had
    with pytest.raises(OptionError, match=message):
        texts_of(folder, prompts)


@pytest.mark.slow  # transformers takes seconds to import
@pytest.mark.parametrize("clean", ["whitespace", "canonicalize"])
def test_a_tokenizer_of_transformers_is_read_from_the_folder_or_beside_the_weights_of_a_named_model(
    tmp_path, named, monkeypatch, caplog, clean
):
    pytest.importorskip("transformers", reason="the extra [prompts] is not installed")
    folder = save_open_clip(tmp_path / "tiny", "siglip")
    text = {**OPEN_CLIP["siglip"]["text_cfg"], "hf_tokenizer_name": "timm/x", "vocab_size": len(WORDS)}
    config = {**OPEN_CLIP["siglip"], "text_cfg": text | {"tokenizer_kwargs": {"clean": clean}}}
    monkeypatch.setitem(OPEN_CLIP, "worded", config)
    save_open_clip(folder, "worded")
    save_words(folder)
    prompts = ["a photo of a face", "The face is angry, and sadly!"]
    ids = open_clip.tokenizer.HFTokenizer(str(folder), context_length=64, clean=clean)(prompts)
    found = texts_of(folder, prompts)
    with torch.inference_mode():
        wanted = small_open_clip("worded").encode_text(ids)
    np.testing.assert_allclose(found.vectors, wanted.numpy(), atol=1e-5)
    lost = "does not know all that 1 prompts say (first: 'The face is angry, and sadly!')"
    assert (lost in caplog.text) is (clean == "whitespace")  # a capital and the marks; the other way takes them off
    with pytest.raises(OptionError, match="more than the 64 tokens"):
        texts_of(folder, ["a face", "a face and " * 30])
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "lone", config)
    np.testing.assert_array_equal(texts_of("lone", prompts, weights=folder / WEIGHTS).vectors, found.vectors)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(OptionError, match="cannot be read"):
        texts_of(folder, prompts)


def test_text_weights_that_lack_a_tensor_are_refused(tmp_path):
    folder = save_open_clip(tmp_path / "tiny")
    state = opened(folder / WEIGHTS)
    del state["text_projection"]
    save_file(state, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="do not fit the text half: text_projection is missing"):
        texts_of(folder)


def test_a_folder_of_the_other_library_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UnknownBackboneError, match="as transformers keeps it: clip:"):
        create(f"open-clip:{tmp_path}")
    with pytest.raises(UnknownBackboneError, match="holds one of open_clip: open-clip:"):
        create(f"clip:{save_open_clip(tmp_path / 'o')}")


def test_the_library_is_asked_for_only_where_an_encoder_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtraError, match=r"cer-fusion\[open-clip\]"):
        create(f"open-clip:{tmp_path}")
