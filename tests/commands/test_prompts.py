"""`cer-feat prompts`, and what `cer-fuse compare` and `predict` make of its vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import FeatureSpec, Manifest, Store, class_set
from cer_fusion.featstore.rows.shard import Rows as ShardRows
from cer_fusion.fusion import Report, TextVectors, read_text_vectors
from cer_fusion.fusion.judging.prompts import shipped_prompts, write_text_vectors
from cer_fusion.fusion.keeping.answers import read_predictions
from tests.backbones.image_text_folders import save_encoder, save_open_clip
from tests.commands.test_zero_shot import BASIC, direction, keep, words

SEVEN = class_set("abaw7").labels
MADE_BY = "ab" * 32


def vectors(names: tuple[str, ...] = SEVEN, **more: object) -> TextVectors:
    return TextVectors(vectors={name: np.float32(direction(name))[None] for name in names}, **more)


@pytest.fixture
def shown(run, faces, tmp_path) -> Path:
    """A store with `faces`: rows of an image-text encoder, and of another backbone of the same width."""
    listed = Manifest.read(faces)
    keep(listed, "faces", [f"face {sample.sample_id}" for sample in listed.samples])
    noise = np.random.default_rng(0).normal(size=(len(listed), 6)) / 50
    rows = (np.stack([direction(sample.label) for sample in listed.samples]) + noise).astype(np.float32)
    identity = {"weights": {"digest": MADE_BY}}
    spec = FeatureSpec(name="clip", identity=identity, blocks={"image": 6}, dtype="float32", described={})
    feature = Store.create("features").create_feature("faces", spec)
    digests = [f"face {sample_id}" for sample_id in listed.ids]
    feature.commit(
        ShardRows(ids=list(listed.ids), image_digests=digests, blocks={"image": rows}), index=0, generation=0
    )
    write_text_vectors(tmp_path / "seven.safetensors", vectors(weights=MADE_BY, encoder="clip:tiny"))
    write_text_vectors(tmp_path / "basic.npz", vectors(BASIC, weights=MADE_BY))
    return tmp_path


def test_prompts_stand_beside_trained_heads_on_the_rows_of_their_own_encoder(run, shown):
    result = run("cer-fuse compare -d faces --heads linear --prompts seven.safetensors --figure none -o r.json")
    assert "7 classes of seven.safetensors, held against clip" in words(result)
    column = Report.load(shown / "r.json").column("prompts")
    assert column.blocks == ("clip",)
    assert column.scores.accuracy == 1
    quiet = "--figure none -o f.json --cv 2"
    run(f"cer-fuse compare -d faces --heads ncm --no-singles --recipes ustc-ac --prompts seven.safetensors {quiet}")
    assert [one.name for one in Report.load(shown / "f.json").columns] == ["ncm", "ustc-ac"]
    assert Report.load(shown / "f.json").column("ustc-ac").scores.accuracy == 1


def test_prompts_for_basic_expressions_go_by_rules_in_compare_and_predict_alike(run, shown):
    quiet = "--no-singles --figure none -o r.json"
    run(f"cer-fuse compare -d faces --heads ncm --prompts basic.npz --rules sum,minimum {quiet}")
    report = Report.load(shown / "r.json")
    assert [one.name for one in report.columns] == ["ncm", "prompts sum", "prompts minimum"]
    run("cer-fuse predict --prompts basic.npz -d faces --compounds abaw7 --rule sum --split test -o p.csv")
    found = read_predictions(shown / "p.csv")
    assert found.classes == SEVEN
    np.testing.assert_allclose(found.proba, report.column("prompts sum").proba, atol=1e-6)


def test_predict_answers_the_datasets_own_classes_and_keeps_their_labels(run, shown):
    told = run("cer-fuse predict --prompts seven.safetensors -d faces --split test -o p.csv")
    assert "held against" in told.stderr
    found = read_predictions(shown / "p.csv")
    assert (found.y_pred == found.y_true).all()


@pytest.mark.parametrize(
    ("made", "options", "code", "message"),
    [
        (vectors(SEVEN[:5], weights=MADE_BY), "", 1, "no prompts for Sadly Fearful, Sadly Angry, of 7 classes"),
        (vectors(weights="cd" * 32), "", 1, "image weights cdcdcdcdcdcd), and 0 features have such rows"),
        (vectors(), "", 1, "and 2 features have such rows, expected one: "),
        (TextVectors(vectors={"a": np.eye(6)[:1], "b": np.eye(6)[1:2]}, weights=MADE_BY), "", 1, "another class set"),
        (vectors(weights=MADE_BY), "--rules sum", 1, "leave the rule out"),
        (None, "--rules sum", 2, "--prompts for them"),
    ],
)  # fmt: skip
def test_prompts_that_do_not_fit_the_rows_are_refused(run, shown, made, options, code, message):
    if made is not None:
        write_text_vectors(shown / "v.npz", made)
        options += " --prompts v.npz"
    told = words(run(f"cer-fuse compare -d faces --heads ncm --no-singles --figure none {options}", code=code))
    assert message in told


def test_imported_rows_know_no_encoder_and_are_taken_where_they_are_all_there_is(run, shown):
    clip = Store("features").view(["clip"])
    np.savez("rows.npz", rows=clip.blocks["clip"], names=np.array(clip.ids))
    run("cer-feat import rows.npz --as imported -d faces")
    ask = "cer-fuse predict --prompts seven.safetensors -d faces --split test -o p.csv"
    run(f"{ask}")  # those of the encoder itself are there too
    run("cer-fuse compare -d faces --features imported --heads ncm --prompts seven.safetensors --figure none -o r.json")
    assert Report.load(shown / "r.json").column("prompts").blocks == ("imported",)
    assert any("Nothing says" in one for one in Report.load(shown / "r.json").notes)


def test_vectors_that_name_no_encoder_are_taken_where_one_feature_is_named_and_the_report_says_so(run, shown):
    write_text_vectors(shown / "v.npz", vectors())
    run("cer-fuse compare -d faces --features clip --heads ncm --prompts v.npz --figure none -o r.json")
    assert any("Nothing says that they are of the encoder" in one for one in Report.load(shown / "r.json").notes)


@pytest.mark.parametrize("options", ["", "--head runs/x --prompts seven.safetensors"])
def test_predict_answers_by_a_head_or_by_prompts(run, shown, options):
    assert "not both" in words(run(f"cer-fuse predict -d faces {options}", code=2))


def test_a_recipe_by_prompts_says_what_it_lacks(run, shown):
    told = words(run("cer-fuse compare -d faces --recipes ustc-ac --figure none", code=1))
    assert "there are no text vectors give them: --prompts VECTORS" in told
    told = words(run("cer-fuse compare -d faces --recipes all --figure none --output none --features clip"))
    assert "recipe ustc-ac is left out: it answers by prompts" in told
    assert "answers by prompts" in run("cer-fuse recipes ustc-ac").stdout


@pytest.mark.slow  # the library takes seconds to import
def test_the_whole_line_of_an_encoder_from_pictures_and_prompts_to_answers(run, faces, tmp_path):
    pytest.importorskip("transformers", reason="the extra [prompts] is not installed")
    folder = save_encoder(tmp_path / "tiny")
    run(f"cer-feat extract --backbone clip:{folder} -d faces.csv --as clip")
    said = json.loads(run(f"cer-feat prompts -b clip:{folder} -o p.safetensors --json").stdout)
    assert list(said["classes"]) == list(shipped_prompts()["compounds"].classes)
    assert set(said["classes"].values()) == {5}
    kept = read_text_vectors(tmp_path / "p.safetensors")
    assert kept.weights == Store("features").feature("clip").spec.identity["weights"]["digest"]
    assert kept.prompts["Sadly Angry"][0] == "a photo of a sadly angry face"
    run("cer-fuse compare --recipes ustc-ac --prompts p.safetensors --figure none -o r.json")
    run("cer-fuse predict --prompts p.safetensors --split test -o stored.csv")
    stored = read_predictions(tmp_path / "stored.csv")
    np.testing.assert_allclose(Report.load("r.json").column("ustc-ac").proba, stored.proba, atol=1e-6)
    pictures = Manifest.read(faces)
    place = next(sample for sample in pictures.samples if sample.sample_id == stored.ids[0]).path
    moved = folder.rename(tmp_path / "moved")
    command = f"cer-fuse predict {pictures.root / place} --prompts p.safetensors --no-faces --compounds abaw7"
    assert "--weights clip=FOLDER" in words(run(command, code=1))
    run(f"{command} --weights {moved} -o one.csv")
    np.testing.assert_allclose(read_predictions(tmp_path / "one.csv").proba[0], stored.proba[0], atol=1e-5)
    other = save_encoder(tmp_path / "other", seed=1)
    (tmp_path / "mine.toml").write_text(
        'source = "me"\n[classes]\n"Sadly Angry" = ["a sadly angry face"]\nFear = ["fear"]\n'
    )
    run(f"cer-feat prompts -b clip:{other} --prompts mine.toml -o other.npz")
    assert "of clip:other" in words(run("cer-fuse predict --prompts other.npz", code=1))


def test_an_encoder_of_open_clip_goes_the_whole_line_and_timms_rows_go_with_its_texts_where_the_tower_is_timms(
    run, faces, tmp_path
):
    pytest.importorskip("open_clip", reason="the extra [open-clip] is not installed")
    from safetensors.torch import load_file, save_file

    folder = save_open_clip(tmp_path / "tiny", "siglip")
    weights = load_file(folder / "open_clip_model.safetensors")
    tower = {k.removeprefix("visual.trunk."): v for k, v in weights.items() if k.startswith("visual.trunk.")}
    save_file(tower, tmp_path / "tower.safetensors")
    run(f"cer-feat extract --backbone open-clip:{folder} -d faces.csv --as clip")
    run("cer-feat extract --backbone timm:test_vit3 --weights tower.safetensors -d faces.csv --as timm")
    said = json.loads(run(f"cer-feat prompts -b open-clip:{folder} -o p.safetensors --json").stdout)
    assert (said["encoder"], said["width"]) == ("open-clip:tiny", 96)
    for feature in ("clip", "timm"):
        run(f"cer-fuse predict --prompts p.safetensors --features {feature} --split test -o {feature}.csv")
        assert len(read_predictions(tmp_path / f"{feature}.csv").proba)
    told = words(run("cer-fuse predict --prompts p.safetensors -o x.csv", code=1))
    assert "2 features have such rows, expected one" in told
    told = words(run("cer-fuse predict --prompts p.safetensors --features clp -o x.csv", code=2))
    assert "there is no feature 'clp'; did you mean 'clip'" in told
    pictures = Manifest.read(faces)
    stored = read_predictions(tmp_path / "clip.csv")
    place = next(sample for sample in pictures.samples if sample.sample_id == stored.ids[0]).path
    run(
        f"cer-fuse predict {pictures.root / place} --prompts p.safetensors --features clip --no-faces "
        f"--compounds abaw7 --weights {folder} -o one.csv"
    )
    np.testing.assert_allclose(read_predictions(tmp_path / "one.csv").proba[0], stored.proba[0], atol=1e-4)
    plain = save_open_clip(tmp_path / "plain", "plain")
    run(f"cer-feat extract --backbone open-clip:{plain} -d faces.csv --as gelu")
    config = json.loads((plain / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (plain / "open_clip_config.json").write_text(json.dumps(config))
    run(f"cer-feat prompts -b open-clip:{plain} -o quick.npz")
    told = words(run("cer-fuse predict --prompts quick.npz -o x.csv", code=1))
    assert "of two networks: quick_gelu was True for the vectors, False for the rows" in told
    projected = save_open_clip(tmp_path / "other", "timm")
    run(f"cer-feat prompts -b open-clip:{projected} -o other.npz")
    told = words(run("cer-fuse predict --prompts other.npz --features timm -o x.csv", code=1))
    assert "of open-clip:other (16 columns" in told
    assert "0 features have such rows" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "-b vit -o p.npz",
            "texts are embedded by clip:<folder> or open-clip:<name>, however: 'vit' has no text half;",
        ),
        ("-b timm:vit_base_patch16_clip_224 -o p.npz", "of CLIP without the projection into the space of texts"),
        ("-b timm:vit_base_patch16_siglip_224 -o p.npz", "with the same weights, open-clip:<folder> has one"),
        ("-b clip:x -o p.csv", "must end in .safetensors or .npz"),
        ("-b clip:x -o p.npz --prompts compound", "did you mean 'compounds'"),
    ],
)
def test_texts_are_embedded_by_an_image_text_encoder_alone(run, options, message):
    assert message in words(run(f"cer-feat prompts {options}", code=2))
