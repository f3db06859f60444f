"""`cer-fuse explore` and the map of `cer-fuse report`: places, answers, and pictures on request alone."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cer_fusion.commands import fuse
from cer_fusion.featstore import Manifest, Store
from cer_fusion.fusion.judging.plane import principal
from cer_fusion.fusion.keeping.runs import read_run
from tests.pages import Page


@pytest.fixture
def kept(run, filled) -> Path:
    run("cer-fuse train --head linear -o runs/one")
    return Path("runs/one")


def words(result):
    return " ".join(result.stderr.replace("│", " ").split())


def test_a_table_holds_the_run_s_answers_and_no_picture_unless_asked(run, kept):
    parquet = pytest.importorskip("pyarrow.parquet")
    found = json.loads(run("cer-fuse explore runs/one -o faces.parquet --json").stdout)
    own = read_run(kept).predictions
    table = parquet.read_table("faces.parquet").to_pydict()
    assert found["samples"] == 14
    assert tuple(table["sample_id"]) == own.ids
    assert tuple(table["label"]) == own.labels
    assert table["predicted"] == [own.classes[y] for y in own.y_pred]
    np.testing.assert_allclose(table["confidence"], own.proba.max(axis=1), atol=1e-6)
    places, shares = principal(Store("features").view(["one", "two"], split="test").blocks)
    np.testing.assert_allclose(np.stack([table["x"], table["y"]], axis=1), places, atol=1e-5)
    assert found["variance"] == pytest.approx(shares.tolist())
    assert set(table["split"]) == {"test"}
    assert "thumbnail" not in table
    path_of = {sample.sample_id: sample.path for sample in Manifest.read(Path("faces.csv")).samples}
    assert table["path"] == [path_of[name] for name in table["sample_id"]]
    assert "exists already" in words(run("cer-fuse explore runs/one -o faces.parquet", code=2))


def test_all_splits_and_thumbnails_are_there_on_request(run, kept):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert "--image thumbnail" in words(
        run("cer-fuse explore runs/one -o all.parquet --split all --thumbnails --size 32")
    )
    table = parquet.read_table("all.parquet").to_pydict()
    assert len(table["x"]) == 42
    assert set(table["split"]) == {"train", "test"}
    manifest = Manifest.read(Path("faces.csv"))
    for row, path in zip(table["thumbnail"], table["path"], strict=True):
        with Image.open(io.BytesIO(row["bytes"])) as small, Image.open(manifest.root / path) as face:
            assert (small.format, max(small.size)) == ("JPEG", 32)
            assert not small.getexif()
            whole = np.asarray(face.convert("RGB").resize(small.size, Image.Resampling.BOX), np.float64)
            assert np.abs(np.asarray(small, np.float64) - whole).mean() < 12


def test_the_command_that_opens_the_table_can_be_pasted(run, kept):
    pytest.importorskip("pyarrow")
    done = CliRunner().invoke(fuse.app, ["explore", "runs/one", "-o", "my faces.parquet"])
    assert "embedding-atlas 'my faces.parquet' --x x --y y" in words(done)


def test_what_is_missing_or_wrong_is_told_before_any_work(run, kept, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    assert "pip install 'cer-fusion[umap]'" in words(run("cer-fuse explore runs/one -o x.parquet --map umap", code=1))
    assert "must end in .parquet" in words(run("cer-fuse explore runs/one -o x.csv", code=2))
    assert "no sample" in words(run("cer-fuse explore runs/one -o x.parquet --split nowhere", code=1))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'cer-fusion[parquet]'" in words(run("cer-fuse explore runs/one -o x.parquet", code=1))
    assert not Path("x.parquet").exists()


def test_pictures_that_are_gone_are_counted_and_none_at_all_is_refused(run, kept, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    from cer_fusion.featstore.pictures.pictures import PictureSource

    read, first = PictureSource.read, read_run(kept).predictions.ids[0]
    path_of = {sample.sample_id: sample.path for sample in Manifest.read(Path("faces.csv")).samples}

    def lost(self, path):
        return b"no picture" if path == path_of[first] else read(self, path)

    monkeypatch.setattr(PictureSource, "read", lost)
    assert "1 pictures cannot be read (first:" in words(run("cer-fuse explore runs/one -o x.parquet --thumbnails"))
    assert [one is None for one in parquet.read_table("x.parquet")["thumbnail"].to_pylist()][:2] == [True, False]
    monkeypatch.setattr(PictureSource, "read", lambda self, path: b"no picture")
    assert "no picture can be read below" in words(run("cer-fuse explore runs/one -o y.parquet --thumbnails", code=1))
    assert not Path("y.parquet").exists()


def mapped(page: str) -> dict:
    [text] = re.findall(r'id="scatter-data">(.*?)</script>', Path(page).read_text())
    return json.loads(text)


@pytest.mark.slow
def test_a_page_maps_the_errors_on_request_with_pictures_and_ids_on_request(run, kept, tmp_path):
    fast = "--heads linear,ridge --no-sweep --no-diagnose --no-singles"
    run(f"cer-fuse report {fast} -o bare.html")
    assert "scatter-data" not in Path("bare.html").read_text()
    run(f"cer-fuse report {fast} --errors -o plain.html")
    data, own = mapped("plain.html"), read_run(kept)
    assert (data["ids"], data["thumbnails"]) == (None, {})
    assert not any(name in Path("plain.html").read_text() for name in own.predictions.ids)
    assert [column["name"] for column in data["columns"]] == ["linear", "ridge"]
    assert data["columns"][0]["predicted"] == own.predictions.y_pred.tolist()
    assert data["truth"] == own.y_true.tolist()
    said = words(run(f"cer-fuse report {fast} --errors --thumbnails --with-ids -o full.html"))
    full = mapped("full.html")
    truth = np.array(full["truth"])
    lost = [np.flatnonzero(np.array(column["predicted"]) != truth).tolist() for column in full["columns"]]
    wrong = {str(row) for rows in lost for row in rows}
    assert set(full["thumbnails"]) == wrong
    assert (f"the page holds pictures of {len(wrong)} samples" in said) is bool(wrong)
    assert tuple(full["ids"]) == own.predictions.ids
    run("cer-fuse report runs/one --errors -o kept.html")
    again = mapped("kept.html")
    assert (again["x"], again["truth"]) == (data["x"], data["truth"])
    Path("features").rename("moved")
    run("cer-fuse report runs/one --errors --store moved -o moved.html")
    assert mapped("moved.html")["x"] == data["x"]
    assert "is for --errors" in words(run("cer-fuse report runs/one --thumbnails -o x.html", code=2))


def test_the_page_s_lines_for_fiftyone_make_a_dataset_of_the_table(run, kept, monkeypatch):
    pytest.importorskip("pyarrow")
    run("cer-fuse explore runs/one -o faces.parquet")
    made = []

    class Sample(dict):
        def __init__(self, **fields):
            super().__init__(fields)

    class Dataset:
        def __init__(self, name):
            self.samples = made

        def add_samples(self, samples):
            made.extend(samples)

    module = type(sys)("fiftyone")
    module.Sample, module.Dataset = Sample, Dataset
    module.Classification = lambda **fields: fields
    module.launch_app = lambda dataset: None
    module.brain, shown = type(sys)("fiftyone.brain"), []
    module.brain.compute_visualization = lambda dataset, points, brain_key: shown.append((points, brain_key))
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    monkeypatch.setitem(sys.modules, "fiftyone.brain", module.brain)
    [lines] = [one for one in Page("docs/explore.md").python if "fiftyone" in one]
    exec(compile(lines, "docs/explore.md", "exec"), {})
    own = read_run(kept).predictions
    assert [one["sample_id"] for one in made] == list(own.ids)
    assert made[0]["ground_truth"]["label"] == own.labels[0]
    [(points, key)] = shown
    places, _ = principal(Store("features").view(["one", "two"], split="test").blocks)
    assert key == "places"
    np.testing.assert_allclose(points, places, atol=1e-5)
