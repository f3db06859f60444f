"""What `--data` names."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import pytest

from cer_fusion.commands.data import manifest_by_parts
from cer_fusion.commands.feat import extract as extracting
from cer_fusion.featstore import Manifest, Store
from cer_fusion.featstore.manifests import manifest as manifests
from cer_fusion.featstore.manifests import sidecar as sidecars
from cer_fusion.featstore.manifests.manifest import SealedManifest
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
