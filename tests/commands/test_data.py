"""What `--data` names."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import typer

from cer_fusion.commands.data import Task, as_rows, manifest_by_parts
from cer_fusion.commands.feat import extract as extracting
from cer_fusion.commands.heads import targeted
from cer_fusion.featstore import Manifest, Store
from cer_fusion.featstore import extract as run_extract
from cer_fusion.featstore.manifests import manifest as manifests
from cer_fusion.featstore.manifests import sidecar as sidecars
from cer_fusion.featstore.manifests.manifest import SealedManifest
from cer_fusion.fusion import Rows
from tests.featstore.conftest import ToyEmbedder
from tests.reliability import toy


@pytest.fixture
def faces(tmp_path, monkeypatch) -> Path:
    """`faces.csv` of ten pictures, which is a large manifest here, and a store whose dataset `faces` has it."""
    monkeypatch.setattr(manifests, "BLOCK_ROWS", 4)
    monkeypatch.setattr(sidecars, "BLOCK_ROWS", 4)
    monkeypatch.chdir(tmp_path)
    toy.write_manifest(tmp_path, 10).write("faces.csv")
    Store.create("store").use_manifest("faces", Manifest.read("faces.csv"))
    return tmp_path


@pytest.mark.parametrize("data", ["faces", "faces.csv", "store/faces/manifest.csv"])
def test_a_large_manifest_that_the_dataset_has_is_read_by_parts(faces, data):
    found, name = manifest_by_parts(data, Path("store"), dataset=None, root=None)
    assert isinstance(found, SealedManifest)
    assert name == "faces"
    assert found.ids_digest == Manifest.read("faces.csv").ids_digest


@pytest.mark.parametrize(
    "more", [{"dataset": "other"}, {"root": Path("elsewhere")}, {"data": "faces", "dataset": "other"}], ids=str
)
def test_what_the_dataset_does_not_have_is_read_whole(faces, more):
    Path("elsewhere").mkdir()
    given = {"data": "faces.csv", "dataset": None, "root": None, **more}
    found, name = manifest_by_parts(given["data"], Path("store"), dataset=given["dataset"], root=given["root"])
    assert isinstance(found, Manifest)
    assert name == (given["dataset"] or "faces")
    assert given["root"] in (None, found.root)


def test_a_file_that_was_edited_is_read_whole_though_its_size_and_date_stay(faces):
    before, state = Path("faces.csv").read_text(), os.stat("faces.csv")
    Path("faces.csv").write_text(before.replace("train", "valid") if "train" in before else before.replace("0", "9", 1))
    os.utime("faces.csv", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert Path("faces.csv").read_text() != before
    assert isinstance(manifest_by_parts("faces.csv", Path("store"), dataset=None, root=None)[0], Manifest)


def test_a_store_that_is_not_there_yet_has_no_manifest_to_read_by_parts(faces):
    assert isinstance(manifest_by_parts("faces.csv", Path("new"), dataset=None, root=None)[0], Manifest)


class Toy(ToyEmbedder):
    """As if it were a backbone on the CPU."""

    device = "cpu"


def test_a_worker_reads_a_large_manifest_for_its_first_part_and_opens_store_and_backbone_once(faces, monkeypatch):
    Store.create("new")
    reads, made = [], []
    real = Manifest.read.__func__

    def read(cls, path, **options):
        reads.append(str(path))
        return real(cls, path, **options)

    def embedders(self):
        made.append(Toy())
        return [made[-1]]

    embedders_once = cached_property(embedders)
    embedders_once.__set_name__(extracting.Opened, "embedders")
    monkeypatch.setattr(extracting.Opened, "embedders", embedders_once)
    monkeypatch.setattr(Manifest, "read", classmethod(read))
    digest = Manifest.read("faces.csv").ids_digest
    job = extracting.ExtractJob(
        chosen=(extracting.Chosen(backbone="toy", weights=None, options={}, feature="toy"),),
        data="faces.csv", store=Path("new"), dataset="faces", root=None, videos=None, ids_digest=digest,
        faces=None, readers=(1, 0), made={}, settings={"shard_rows": 2},
    )  # fmt: skip
    reads.clear()
    done = []
    for k in range(3):
        reads_before = len(reads)
        done += job.run_part(k, 3, lambda *_: None)
        if k:
            assert reads[reads_before:] == []
    assert sum(report["embedded"] for report in done) == 10
    assert reads.count("faces.csv") == 1
    assert len(made) == 1
    assert Store("new").counts(Store("new").feature("toy")) == (10, 0)


@pytest.fixture
def task(tmp_path) -> Task:
    """Four rows and what a manifest says of them: two units, no affect of any, times."""
    (tmp_path / "manifest.csv").write_text("what it holds")
    rows = Rows(
        blocks={"x": np.eye(4, dtype=np.float32)}, y=np.arange(4) % 2, classes=("a", "b"), ids=("p", "q", "r", "s"),
        targets={"au": np.array([[1, 0], [np.nan, 1], [np.nan, np.nan], [0, 0]]), "va": np.full((4, 2), np.nan)},
        units=(1, 12), time_s=np.arange(4.0),
    )  # fmt: skip
    return Task(dataset="faces", train=rows, test=rows, train_split="train", test_split="test", class_set="own",
                manifest=tmp_path / "manifest.csv")  # fmt: skip


def test_heads_that_learn_targets_get_those_of_the_manifest_that_are_known_and_no_others_do(task, capsys):
    found = targeted(task, ["linear", "multitask"])
    assert list(found.train.targets) == ["au"]
    assert (found.train.units, found.test.targets, found.test.units) == ((1, 12), None, None)
    assert found.targets_from == {"file": "faces/manifest.csv", "sha256": hashlib.sha256(b"what it holds").hexdigest()}
    told = " ".join(capsys.readouterr().err.split())
    assert "2 action units of 3 of 4 rows are learned beside the classes: columns of the manifest of faces" in told
    plain = targeted(task, ["linear"])
    assert (plain.train.targets, plain.train.units, plain.targets_from) == (None, None, None)
    assert plain.train.time_s is not None
    assert not capsys.readouterr().err
    assert targeted(task, ["linear"], wanted=True).train.units == (1, 12)  # of a recipe beside
    nothing = replace(task, train=replace(task.train, targets={"va": np.full((4, 2), np.nan)}, units=None))
    assert targeted(nothing, ["multitask"]).train.targets is None


def test_a_table_takes_the_place_of_all_that_the_manifest_says(task, tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("sample_id,valence,arousal\np,0.5,0.25\n")
    found = targeted(task, ["multitask"], table)
    assert (list(found.train.targets), found.train.units) == (["va"], None)
    assert found.targets_from == {"file": "t.csv", "sha256": hashlib.sha256(table.read_bytes()).hexdigest()}
    told = " ".join(capsys.readouterr().err.split())
    assert "1 of 4 rows have a line of valence and arousal in" in told
    assert "what the manifest says of them is not used" in told
    table.write_text("sample_id,valence,arousal\nz,0.5,0.25\n")
    with pytest.raises(typer.BadParameter, match="none of which is learned from"):
        targeted(task, ["multitask"], table)


def test_rows_of_a_view_have_the_targets_and_times_of_its_manifest(faces):
    listed = Manifest.read("faces.csv")
    store = Store("store")
    run_extract(ToyEmbedder(), listed.with_further({"au.4": np.arange(10) % 2, "time_s": np.arange(10)}), store,
                dataset="faces")  # fmt: skip
    some = np.array([1, 4])
    rows = Rows.of(as_rows(store.view(["toy"])), where=some)
    np.testing.assert_array_equal(rows.targets["au"], [[1], [0]])
    np.testing.assert_array_equal(rows.time_s, some)
    assert rows.units == (4,)
