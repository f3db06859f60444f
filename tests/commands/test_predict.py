from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.frames import VideoReader
from cer_fusion.fusion.keeping.answers import read_predictions
from tests.commands.test_frames import detector, videos  # noqa: F401  # fixtures
from tests.frames.drawn import canvas
from tests.pages import Page

EXTRACT = "cer-feat extract --backbone timm:resnet18 --option img_size=64 --as r18 --device cpu"


@pytest.fixture
def trained(run, faces):
    """A head in runs/faces-linear, on rows of an untrained network."""
    run(f"{EXTRACT} --weights random --data faces.csv")
    run("cer-fuse train --head linear --features r18")


def test_a_folder_of_videos_is_answered_to_the_bit_as_step_by_step(run, detector, videos, trained, tmp_path):  # noqa: F811
    run("cer-feat frames videos -o frames")
    run("cer-feat manifest frames frames -o ce.csv")
    run(f"{EXTRACT} --weights random --data ce.csv")
    run("cer-fuse predict --head runs/faces-linear --data ce -o steps.csv")
    run("cer-fuse predict videos --head runs/faces-linear -o once.csv --device cpu")
    steps, once = read_predictions(tmp_path / "steps.csv"), read_predictions(tmp_path / "once.csv")
    assert steps.ids == once.ids
    assert (steps.proba == once.proba).all()


@pytest.mark.slow
def test_a_head_over_time_answers_videos_as_their_rows(run, detector, videos, faces, tmp_path, monkeypatch):  # noqa: F811
    """Its windows reach over the chunks in which pictures are embedded, and never from one video into the next."""
    monkeypatch.setattr("cer_fusion.commands.answering.CHUNK", 3)
    run(f"{EXTRACT} --weights random --data faces.csv")
    run("cer-fuse train --head sequence --features r18 --set epochs=2,members=1,window=5")
    run("cer-feat frames videos -o frames")
    run("cer-feat manifest frames frames -o ce.csv")
    run(f"{EXTRACT} --weights random --data ce.csv")
    run("cer-fuse predict --head runs/faces-sequence --data ce -o steps.csv")
    run("cer-fuse predict videos --head runs/faces-sequence -o once.csv --device cpu")
    steps, once = read_predictions(tmp_path / "steps.csv"), read_predictions(tmp_path / "once.csv")
    assert steps.ids == once.ids
    np.testing.assert_allclose(steps.proba, once.proba, atol=1e-6)


def test_a_video_is_smoothed_and_annotated(run, detector, videos, trained, tmp_path):  # noqa: F811
    line = "cer-fuse predict videos/1.mp4 --head runs/faces-linear --device cpu"
    run(f"{line} -o plain.csv")
    run(f"{line} -o calm.csv --smooth box:3 --annotate seen.mp4")
    plain, calm = read_predictions(tmp_path / "plain.csv"), read_predictions(tmp_path / "calm.csv")
    assert plain.ids == calm.ids
    assert not np.allclose(plain.proba, calm.proba)
    seen = [frame.picture for frame in VideoReader(tmp_path / "seen.mp4").frames()]
    stored = [frame.picture for frame in VideoReader(tmp_path / "videos" / "1.mp4").frames()]
    changed = [int((abs(a.astype(int) - b) > 60).sum()) for a, b in zip(seen, stored, strict=True)]
    assert min(changed[:4] + changed[7:]) > 1000 > max(changed[4:7])  # the three frames without a face have no mark


def test_a_picture_is_answered_and_one_without_a_face_is_listed(run, detector, trained, tmp_path):  # noqa: F811
    folder = tmp_path / "shown"
    folder.mkdir()
    Image.fromarray(canvas((0, 90, 30))[0]).save(folder / "one.png")
    Image.fromarray(canvas()[0]).save(folder / "nobody.png")
    (folder / "text.jpg").write_text("no picture")
    result = run("cer-fuse predict shown --head runs/faces-linear --json --annotate drawn --device cpu")
    found = json.loads(result.stdout)
    (one,) = found["predictions"]
    assert one["sample_id"] == "one.png"
    assert np.isclose(sum(one["probabilities"].values()), 1)
    assert 80 < one["box"][0] < one["box"][2] < 230
    assert found["without_face"] == ["nobody.png"]
    assert "not a JPEG" in found["unusable"]["text.jpg"]
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["one.png"]


def test_a_picture_without_a_face_alone_is_an_error(run, detector, trained, tmp_path):  # noqa: F811
    Image.fromarray(canvas()[0]).save(tmp_path / "nobody.png")
    talk = run("cer-fuse predict nobody.png --head runs/faces-linear --device cpu", code=1).stderr
    assert "no face in 1 pictures" in talk
    assert "could be answered" in talk


def test_crops_are_answered_as_they_are(run, trained, drawn, tmp_path):
    stored = read_predictions_of(run, "cer-fuse predict --head runs/faces-linear --split test -o stored.csv", tmp_path)
    folder = tmp_path / "crops"
    folder.mkdir()
    from cer_fusion.featstore import Manifest

    manifest = Manifest.read(tmp_path / "faces.csv")
    for sample in manifest.select("test").samples:
        name = sample.sample_id.replace("/", "_") + ".jpg"
        (folder / name).write_bytes((manifest.root / sample.path).read_bytes())
    shown = read_predictions_of(
        run, "cer-fuse predict crops --head runs/faces-linear --no-faces --device cpu -o shown.csv", tmp_path
    )
    assert [name.removesuffix(".jpg") for name in shown.ids] == sorted(one.replace("/", "_") for one in stored.ids)
    by_name = dict(zip(stored.ids, stored.proba, strict=True))
    wanted = [by_name[name] for name in sorted(by_name, key=lambda one: one.replace("/", "_"))]
    assert np.allclose(shown.proba, wanted, atol=1e-12)


def read_predictions_of(run, command, folder):
    run(command)
    return read_predictions(folder / command.split("-o ")[1].split()[0])


def test_weights_of_a_file_must_be_named_and_be_those(run, faces, tmp_path):
    from safetensors.torch import save_file

    from cer_fusion.backbones import create

    for seed in (1, 2):
        made = create("timm:resnet18", weights="random", seed=seed, img_size=64)
        save_file(made.state(), tmp_path / f"w{seed}.safetensors")
    run(f"{EXTRACT} --weights w1.safetensors --data faces.csv")
    run("cer-fuse train --head linear --features r18")
    Image.fromarray(canvas((0, 90, 30))[0]).save(tmp_path / "face.png")
    line = "cer-fuse predict face.png --head runs/faces-linear --no-faces --device cpu"
    assert "--weights r18=FILE" in run(line, code=1).stderr
    refused = run(f"{line} --weights r18=w2.safetensors", code=1).stderr
    assert "its rows were made with digest" in refused
    assert "w2.safetensors has" in refused
    assert "expected FEATURE=FILE with one of r18" in run(f"{line} --weights vit=w1.safetensors", code=2).stderr
    run(f"{line} --weights r18=w1.safetensors -o p.csv")
    assert read_predictions(tmp_path / "p.csv").ids == ("face.png",)


def test_a_head_on_rows_of_a_network_of_ones_own_answers_where_its_code_is_the_same(run, faces, tmp_path):
    page = Page("CONTRIBUTING.md").file("mine.py")
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mine.py").write_text(page)
    run("cer-feat extract -b nets/mine.py:Mine -O width=8 --as own --weights random --device cpu --data faces.csv")
    run("cer-fuse train --head linear --features own")
    Image.fromarray(canvas((0, 90, 30))[0]).save(tmp_path / "face.png")
    line = "cer-fuse predict face.png --head runs/faces-linear --no-faces --device cpu"
    assert "--code own=FILE.py" in run(line, code=1).stderr
    run(f"{line} --code own=nets/mine.py -o p.csv")
    assert read_predictions(tmp_path / "p.csv").ids == ("face.png",)
    (tmp_path / "nets" / "mine.py").write_text(page.replace("relu()", "sigmoid()"))
    assert "the code of 'own' is another" in run(f"{line} --code own=nets/mine.py -o q.csv", code=1).stderr


def test_a_head_on_rows_of_compiled_code_answers(run, faces, tmp_path, monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(torch, "compile", lambda module, backend: asked.append(backend) or module.forward)
    run(f"{EXTRACT} --weights random --data faces.csv --compile")
    run("cer-fuse train --head linear --features r18")
    Image.fromarray(canvas((0, 90, 30))[0]).save(tmp_path / "face.png")
    run("cer-fuse predict face.png --head runs/faces-linear --no-faces --device cpu -o p.csv")
    assert read_predictions(tmp_path / "p.csv").ids == ("face.png",)
    assert asked == ["inductor", "inductor"]


def test_what_does_not_fit_into_memory_at_once_is_embedded_in_halves():
    from types import SimpleNamespace

    from cer_fusion.commands.answering import Recreated

    sizes = []

    def embed(pictures):
        sizes.append(len(pictures))
        if len(pictures) > 2:
            raise MemoryError("they do not fit")
        return {"a": pictures.mean((1, 2, 3), keepdims=True)[:, :, 0, 0]}

    spec = SimpleNamespace(blocks={"a": 1}, dtype="float32")
    one = Recreated(name="f", backbone=SimpleNamespace(embed=embed), spec=spec)
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    assert one.rows(pictures)["f"].tolist() == [[0], [1], [2], [3], [4]]
    assert sizes == [5, 2, 3, 1, 2]


def test_imported_rows_cannot_be_made_again(run, filled, tmp_path):
    run("cer-fuse train --head linear --features one")
    Image.fromarray(canvas((0, 90, 30))[0]).save(tmp_path / "face.png")
    talk = run("cer-fuse predict face.png --head runs/faces-linear --no-faces", code=1).stderr
    assert "its rows were imported" in talk


def test_two_pictures_of_one_stem_are_drawn_to_two_files(tmp_path):
    from cer_fusion.commands.sources import ShownPictures

    source = ShownPictures(root=tmp_path, names=("a.jpg", "a.png", "b.jpg", "sub/a.jpg"))
    drawn = [path.relative_to(tmp_path).as_posix() for path in source.drawn_to(tmp_path)]
    assert drawn == ["a.jpg.png", "a.png.png", "b.png", "sub/a.png"]


@pytest.mark.parametrize("option", ["--every 2", "--frames kept"])
def test_options_of_videos_are_refused_for_pictures(run, tmp_path, option):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    said = run(f"cer-fuse predict a.png --head h --no-faces {option}", code=2).stderr
    assert option.split()[0] in said
    assert "is for videos" in said


def test_a_picture_s_ending_is_looked_at_before_anything_is_answered(run, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    said = run("cer-fuse predict a.png --head h --no-faces --annotate drawn.doc", code=2).stderr
    assert "no picture ends in '.doc'" in said


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("cer-fuse predict --head h --no-faces", 2, "is for a picture, folder or video"),
        ("cer-fuse predict here --head h --data ce", 2, "no dataset of the store"),
        ("cer-fuse predict here --head h --no-faces", 2, "no picture and no video at here"),
        ("cer-fuse predict mixed --head h --no-faces", 2, "holds pictures (a.png) and videos (b.mp4)"),
        ("cer-fuse predict mixed --head h --smooth boxx:3 --no-faces", 1, "boxx"),
    ],
)
def test_what_cannot_be_meant_is_refused(run, tmp_path, command, code, words):
    (tmp_path / "mixed").mkdir()
    for name in ("a.png", "b.mp4"):
        (tmp_path / "mixed" / name).touch()
    assert words in " ".join(run(command, code=code).stderr.replace("│", " ").split())


def test_content_and_not_the_ending_tells_a_picture_from_a_video(tmp_path):
    from contextlib import ExitStack

    from cer_fusion.commands.sources import ShownPictures, source_of

    picture = io.BytesIO()
    Image.new("RGB", (40, 40)).save(picture, "JPEG")
    (tmp_path / "linked").mkdir()
    for name in ("x.jfif", "x", "x.mp4", "linked/y.jpe"):
        (tmp_path / name).write_bytes(picture.getvalue())
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with ExitStack() as keep:
        for name in ("x.jfif", "x", "x.mp4", "phone.heic"):
            source = source_of(tmp_path / name, None, keep)
            assert isinstance(source, ShownPictures)
            assert source.names == (name,)
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "more").symlink_to(tmp_path / "linked")
        (folder / "one.jfif").write_bytes(picture.getvalue())
        found = source_of(folder, None, keep)
        assert isinstance(found, ShownPictures)
        assert found.names == ("more/y.jpe", "one.jfif")
