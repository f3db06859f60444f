"""CLIP and SigLIP from a local folder: rows and text vectors are those of transformers, and nothing stands in."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from cer_fusion.backbones import (
    CheckpointError,
    MissingExtraError,
    OptionError,
    UnknownBackboneError,
    WeightsError,
    create,
)
from cer_fusion.backbones.making import recreate
from cer_fusion.backbones.zoo.image_text import text_vectors
from tests.backbones.image_text_folders import LONGEST, SIDE, save_encoder, small_model

pytestmark = pytest.mark.slow  # the library takes seconds to import

PROMPTS = ["a photo of a face", "the face is fearfully surprised", "a sadly angry face and fear"]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def saved(request, tmp_path_factory):
    pytest.importorskip("transformers", reason="the extra [prompts] is not installed")
    folder = save_encoder(tmp_path_factory.mktemp("encoders") / f"tiny-{request.param}", request.param)
    return request.param, folder


@pytest.fixture
def clip(tmp_path):
    pytest.importorskip("transformers", reason="the extra [prompts] is not installed")
    return save_encoder(tmp_path / "tiny")


def pooled(found):
    return getattr(found, "pooler_output", found).detach().numpy()


def test_rows_and_text_vectors_are_those_of_the_library(saved):
    import torch
    from transformers import AutoTokenizer

    kind, folder = saved
    backbone = create(f"clip:{folder}")
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    pixels = backbone.transform.to_tensor(torch.from_numpy(pictures))
    model, words = small_model(kind), AutoTokenizer.from_pretrained(folder)
    rows = backbone.embed(pictures)["image"]
    np.testing.assert_allclose(rows, pooled(model.get_image_features(pixel_values=pixels)), atol=1e-5)
    texts = text_vectors(str(folder), PROMPTS)
    if kind == "clip":
        ids = words(PROMPTS, padding=True, return_tensors="pt")
        wanted = model.get_text_features(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"])
    else:  # as SigLIP is told to be used: filled up, and without a mask
        ids = words(PROMPTS, padding="max_length", max_length=LONGEST, return_tensors="pt")
        wanted = model.get_text_features(input_ids=ids["input_ids"])
    np.testing.assert_allclose(texts.vectors, pooled(wanted), atol=1e-5)
    assert texts.vectors.shape[1] == rows.shape[1] == backbone.blocks["image"]
    assert texts.temperature == pytest.approx(float(1 / model.logit_scale.detach().exp()))
    both = [text_vectors(str(folder), PROMPTS[i : i + 1]).vectors[0] for i in range(3)]
    np.testing.assert_allclose(both, texts.vectors, atol=1e-5)  # a prompt's vector is its own, whatever its company


def test_the_identity_is_of_the_image_half_and_survives_the_folders_name_and_the_tower_of_texts(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    kind, folder = saved
    moved = save_encoder(tmp_path / "elsewhere", kind)
    spec = create(f"clip:{folder}").spec()
    assert spec == create(f"clip:{moved}").spec()
    for half, same in (("text", True), ("vision", False)):
        state = load_file(moved / "model.safetensors")
        name = next(name for name in sorted(state) if name.startswith(half) and name.endswith("weight"))
        save_file({**state, name: state[name] + 1}, moved / "model.safetensors", metadata={"format": "pt"})
        assert (create(f"clip:{moved}").spec()["weights"] == spec["weights"]) is same
        save_encoder(moved, kind)


def test_rows_of_an_encoder_are_made_again_where_its_folder_is_now(clip, tmp_path):
    before = create(f"clip:{clip}")
    moved = clip.rename(tmp_path / "moved")
    again = recreate("clip", before.spec(), before.describe(), weights=str(moved))
    assert again.spec() == before.spec()
    with pytest.raises(WeightsError, match="--weights clip=FOLDER"):
        recreate("clip", before.spec(), before.describe())
    save_encoder(tmp_path / "other", seed=1)
    with pytest.raises(WeightsError, match="are others"):
        recreate("clip", before.spec(), before.describe(), weights=str(tmp_path / "other"))


def test_random_weights_follow_the_seed_and_weights_of_a_file_fit_the_image_half(clip, tmp_path):
    from safetensors.torch import save_file

    digests = [create(f"clip:{clip}", weights="random", seed=seed).weights_digest() for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    tuned = create(f"clip:{clip}", weights="random")
    save_file(tuned.state(), clip / "tuned.safetensors")
    assert create(f"clip:{clip}", weights=clip / "tuned.safetensors").weights_digest() == digests[0]
    again = recreate("clip", tuned.spec(), create(f"clip:{clip}").describe(), weights=str(clip / "tuned.safetensors"))
    assert again.weights_digest() == digests[0]


def test_half_precision_files_give_rows_of_float32(clip):
    small_model("clip").half().save_pretrained(clip)
    rows = create(f"clip:{clip}").embed(np.zeros((1, SIDE, SIDE, 3), np.uint8))["image"]
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()


def changed(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: (f / "config.json").unlink(), UnknownBackboneError, "nothing is downloaded"),
        (lambda f: changed(f / "config.json", model_type="bert"), OptionError, "type 'bert', expected .* clip, siglip"),
        (lambda f: (f / "config.json").write_text("{"), OptionError, r"config\.json"),
        (lambda f: (f / "model.safetensors").unlink(), WeightsError, "has no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 50), CheckpointError, "cannot open"),
        (lambda f: (f / "preprocessor_config.json").unlink(), OptionError, "nothing says how its pictures"),
        (lambda f: changed(f / "preprocessor_config.json", do_rescale=False), OptionError, "not known here"),
        (lambda f: changed(f / "preprocessor_config.json", resample=4), OptionError, "not known here"),
        (lambda f: changed(f / "preprocessor_config.json", image_mean=None), OptionError, "not known here"),
        (lambda f: changed(f / "preprocessor_config.json", size={"shortest_edge": 8}), OptionError, "not known here"),
    ],
)
def test_a_folder_that_is_no_encoder_is_refused_and_says_what_it_lacks(clip, change, error, message):
    change(clip)
    with pytest.raises(error, match=message):
        create(f"clip:{clip}")


def test_weights_that_lack_a_tensor_are_refused_and_never_filled_up_at_random(clip):
    from safetensors.torch import load_file, save_file

    state = load_file(clip / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, clip / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 tensors are missing .*visual_projection"):
        create(f"clip:{clip}")


def test_a_prompt_that_would_be_cut_and_a_folder_without_a_tokenizer_are_refused(clip):
    with pytest.raises(OptionError, match=r"1 prompts have more than the 20 tokens"):
        text_vectors(str(clip), ["a face", "a face and " * 8])
    (clip / "tokenizer.json").write_text("{}")
    with pytest.raises(OptionError, match="cannot be read"):
        text_vectors(str(clip), ["a face"])
    (clip / "tokenizer.json").unlink()
    with pytest.raises(OptionError, match=r"has no tokenizer: expected one of tokenizer\.json"):
        text_vectors(str(clip), ["a face"])


def test_the_library_is_asked_for_only_where_an_encoder_is_made(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"cer-fusion\[prompts\]"):
        create(f"clip:{tmp_path}")
