from __future__ import annotations

import json
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime", reason="onnxruntime, of the extra `faces`, is not installed")

from cer_fusion.featstore import Manifest, Sample, Store, class_set
from cer_fusion.frames import MTCNN, MissingExtraError
from tests.backbones.conftest import SHARED

LINE = "cer-feat extract --backbone timm:test_resnet --weights random --device cpu --data faces.csv"


@pytest.fixture(autouse=True)
def detector():
    try:
        MTCNN()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture
def few(run, drawn, tmp_path):
    """A manifest of eight schematic faces and one picture of nothing."""
    run(f"cer-feat manifest rafdb-compound {drawn} -o all.csv")
    listed = Manifest.read("all.csv")
    kept = listed.keep([i < 9 for i in range(len(listed))])
    (tmp_path / "pictures").mkdir()
    for i, sample in enumerate(kept.samples):
        with Image.open(listed.root / sample.path) as picture:
            shown = picture.convert("RGB") if i else Image.new("RGB", picture.size, (90, 90, 90))
            shown.save(tmp_path / "pictures" / f"{i}.png")
    samples = tuple(
        s._replace(path=f"pictures/{i}.png", split="test" if i in (3, 8) else "train")
        for i, s in enumerate(kept.samples)
    )
    Manifest(samples=samples, classes=kept.classes, root=tmp_path).write(tmp_path / "faces.csv")
    return samples


def test_faces_are_aligned_on_the_way_in_and_what_could_not_be_is_counted(run, few):
    result = run(f"{LINE} --align --json")
    report = json.loads(result.stdout)
    nothing = few[0].sample_id
    assert report["remarks"][nothing] == "no face was found in it: only resized"
    count = len(report["remarks"])
    assert count < 9
    assert f"{count} of 9 pictures: no face was found in it: only resized (first: " in result.stderr
    (feature,) = Store("features").features("faces")
    way = feature.spec.identity["faces"]
    assert (way["crop"]["convention"], way["detector"]["detector"], way["missing"]) == ("arcface112", "mtcnn", "resize")
    run(LINE)
    aligned, plain = (
        Store("features").view([one.label], dataset="faces") for one in Store("features").features("faces")
    )
    rows = [next(iter(view.blocks.values())) for view in (aligned, plain)]
    same = (rows[0] == rows[1]).all(axis=1)
    assert {few[i].sample_id for i in np.flatnonzero(same)} == set(report["remarks"])


def test_pictures_without_a_face_can_be_put_into_quarantine_and_processes_align_too(run, few):
    found = json.loads(run(f"{LINE} --align --no-face refuse --reader-processes 1 --json").stdout)
    assert set(found["quarantined"].values()) == {"no face was found in it"}
    assert found["remarks"] == {}


def test_options_of_the_crop_are_refused_without_align(run, few):
    assert "--align" in run(f"{LINE} --crop box", code=2).stderr


def test_predict_aligns_as_the_features_were(run, few, tmp_path):
    run(f"{LINE} --align --as own")
    run("cer-fuse train --head linear --data faces --features own -o run")
    folder = tmp_path / "shown"
    folder.mkdir()
    for i in (1, 2):
        (folder / f"{i}.png").write_bytes((tmp_path / "pictures" / f"{i}.png").read_bytes())
    shown = json.loads(run("cer-fuse predict shown --head run --no-faces --json").stdout)["predictions"]
    stored = json.loads(run("cer-fuse predict --head run --data faces --json").stdout)["predictions"]
    by_id = {one["sample_id"]: one for one in stored}
    for one, sample in zip(shown, few[1:3], strict=True):
        wanted = by_id[sample.sample_id]
        assert {k: v for k, v in one.items() if k not in ("sample_id", "box", "label")} == {
            k: v for k, v in wanted.items() if k not in ("sample_id", "label")
        }
    assert "given loose ones" in run("cer-fuse predict shown --head run --json").stderr


@pytest.mark.skipif(not (SHARED / "features").is_dir(), reason="../shared is not here")
def test_rows_of_aligned_ferplus_faces_are_those_of_another_tool_that_aligns_by_the_same_points(run, tmp_path):
    names = (SHARED / "features" / "file_names.txt").read_text().split()[:24]
    wanted = np.load(SHARED / "features" / "fer_mobilefacenet_512.npy")[:24].astype(np.float32)
    with ZipFile(SHARED / "data" / "ferplus.zip") as archive:
        for i, name in enumerate(names):
            (tmp_path / f"{i:02d}.png").write_bytes(archive.read(name))
    samples = tuple(Sample(f"{i:02d}", f"{i:02d}.png", "", "train", "") for i in range(len(names)))
    Manifest(samples=samples, classes=class_set("abaw7"), root=tmp_path).write(tmp_path / "fer.csv")
    weights = SHARED / "weights"
    run(
        f"cer-feat extract --backbone onnx:{weights / 'fer_mobilefacenet_rafdb_512.onnx'} -O mean=.5,.5,.5 "
        f"-O std=.5,.5,.5 -O colour=RGB -O scale=0-1 -O output=embedding --device cpu --data fer.csv --as fer --align "
        f"--detector yunet:{weights / 'face_detection_yunet_2026may.onnx'} --points own"
    )
    rows = next(iter(Store("features").view(["fer"], dataset="fer").blocks.values()))
    cosines = (rows * wanted).sum(axis=1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted, axis=1)
    assert np.median(cosines) >= 0.98
