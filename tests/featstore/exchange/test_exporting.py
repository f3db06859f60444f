from __future__ import annotations

import csv
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import Manifest, extract, import_rows
from cer_fusion.featstore.errors import DamagedShardError, FeatstoreError
from cer_fusion.featstore.exchange.exporting import export, form_of, parse_note
from cer_fusion.featstore.exchange.foreign_files import read_foreign
from cer_fusion.featstore.exchange.hub import features_parcel
from cer_fusion.featstore.rows.shard import read_header
from cer_fusion.kit import OutputExistsError, WriteError
from cer_fusion.kit.hub import HubPlace
from tests.featstore.conftest import ToyEmbedder

FORMS = {"npz": "out.npz", "parquet": "out.parquet", "csv": "out.csv", "npy": "out", "projector": "out"}


@pytest.fixture
def view(store, make_manifest, monkeypatch, tmp_path):
    """Two blocks of one feature and the only block of another, in pieces of one row."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cer_fusion.featstore.exchange.export_forms.PIECE_BYTES", 1)
    manifest = make_manifest()
    samples = [s._replace(label="" if i == 5 else s.label) for i, s in enumerate(manifest.samples)]
    manifest = Manifest(samples=tuple(samples), classes=manifest.classes, root=manifest.root)
    extract(ToyEmbedder(), manifest, store, dataset="d")
    rows = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse")
    return store.view(["toy", "hse"], mapped=True)


def files_here():
    return sorted(p.name for p in Path().iterdir() if p.name not in ("store", "pictures"))


def test_a_npz_is_read_by_numpy_without_pickles(view):
    export(view, Path("out.npz"), form="npz", described={"dataset": "d"})
    with np.load("out.npz", allow_pickle=False) as found:
        for name, rows in view.blocks.items():
            np.testing.assert_array_equal(found[name], np.asarray(rows))
            assert found[name].dtype == np.float32
        assert found["ids"].tolist() == list(view.ids)
        assert found["labels"][5] == ""
        assert found["labels"][0] == view.classes[0]
        np.testing.assert_array_equal(found["y"], view.y)
        assert found["splits"].tolist() == list(view.splits)
        assert found["groups"].tolist() == list(view.groups)
        assert found["classes"].tolist() == list(view.classes)
        note = parse_note(str(found["cer_export"]), "out.npz")
    assert note["features"] == dict(view.fingerprints)
    assert note["dataset"] == "d"


def test_equal_exports_are_equal_bytes(view):
    for name in ("a.npz", "b.npz"):
        export(view, Path(name), form="npz")
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()


def test_npy_is_what_thingsvision_writes_with_a_manifest_beside_it(view, store):
    paths = [s.path for s in store.manifest("d").samples]
    export(view, Path("out"), form="npy", paths=paths, names="path", join=True)
    assert sorted(os.listdir("out")) == ["export.json", "features.npy", "file_names.txt", "samples.csv"]
    np.testing.assert_array_equal(np.load("out/features.npy"), view.join())
    assert Path("out/file_names.txt").read_text().splitlines() == paths
    assert Manifest.read("out/samples.csv").ids == view.ids
    assert json.loads(Path("out/export.json").read_text())["joined_from"] == [
        ["toy.left", 4],
        ["toy.right", 3],
        ["hse", 2],
    ]


def test_of_several_blocks_each_gets_a_npy_of_its_own(view):
    export(view, Path("out"), form="npy")
    for name, rows in view.blocks.items():
        np.testing.assert_array_equal(np.load(f"out/{name}.npy"), np.asarray(rows))
    assert Path("out/samples.csv").read_text().splitlines()[0] == "sample_id,label,split,group"


@pytest.mark.parametrize("form", ["npz", "npy", "parquet"])
@pytest.mark.parametrize("join", [False, True])
def test_our_own_import_takes_an_export_back(view, store, form, join):
    to = Path(FORMS[form])
    export(view, to, form=form, join=join)
    found = read_foreign(to)
    expected = {"rows": 9} if join else {"toy_left": 4, "toy_right": 3, "hse": 2}
    assert {name: rows.shape[1] for name, rows in found.blocks.items()} == expected
    import_rows(found.blocks, found.names, store.manifest("d"), store, dataset="d", name="back",
                described=found.described)  # fmt: skip
    np.testing.assert_array_equal(store.view(["back"]).join(), view.join())
    spec = store.feature("back").spec
    assert spec.identity["architecture"] == "foreign"
    assert spec.described["export"]["features"] == dict(view.fingerprints)


def test_parquet_has_a_column_a_block_and_says_what_it_is(view):
    parquet = pytest.importorskip("pyarrow.parquet")
    export(view, Path("out.parquet"), form="parquet")
    table = parquet.read_table("out.parquet")
    assert table.column_names == ["sample_id", "label", "split", "group", "toy.left", "toy.right", "hse"]
    assert str(table.schema.field("hse").type) == "fixed_size_list<element: float>[2]"
    np.testing.assert_array_equal(np.array(table["toy.right"].to_pylist()), np.asarray(view.blocks["toy.right"]))
    assert parse_note(table.schema.metadata[b"cer_export"].decode(), "")["classes"] == list(view.classes)


def test_a_csv_gives_every_float_back(view):
    export(view, Path("out.csv"), form="csv")
    header, *lines = csv.reader(Path("out.csv").read_text(encoding="utf-8").splitlines())
    assert header[:6] == ["sample_id", "label", "split", "group", "toy.left_0", "toy.left_1"]
    np.testing.assert_array_equal(np.array([line[4:] for line in lines], dtype=np.float32), view.join())
    assert [line[0] for line in lines] == list(view.ids)
    assert json.loads(Path("out.export.json").read_text())["features"] == dict(view.fingerprints)


def test_the_projector_gets_tensors_metadata_and_a_config_that_names_them(view, store):
    export(view, Path("out"), form="projector")
    config = Path("out/projector_config.pbtxt").read_text()
    for name, rows in view.blocks.items():
        assert f'tensor_path: "{name}.tensors.tsv"' in config
        np.testing.assert_array_equal(np.loadtxt(f"out/{name}.tensors.tsv", dtype=np.float32), np.asarray(rows))
    assert len(Path("out/metadata.tsv").read_text().splitlines()) == 1 + len(view)
    export(store.view(["hse"]), Path("one"), form="projector")
    assert 'tensor_path: "tensors.tsv"' in Path("one/projector_config.pbtxt").read_text()


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_exists_is_replaced_only_when_told_to(view, form):
    to = Path(FORMS[form])
    export(view, to, form=form)
    before = files_here()
    with pytest.raises(OutputExistsError, match=r"is there already(.|\n)*--overwrite"):
        export(view, to, form=form)
    export(view, to, form=form, overwrite=True)
    assert files_here() == before


def test_a_folder_that_is_no_export_is_never_replaced(view):
    Path("out").mkdir()
    export(view, Path("out"), form="npy")
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match=r"mine is no earlier result of this kind \(it has no export\.json\)"):
        export(view, Path("mine"), form="npy", overwrite=True)
    with pytest.raises(OutputExistsError, match="mine is a folder"):
        export(view, Path("mine"), form="npz", overwrite=True)
    assert os.listdir("mine") == ["thesis.tex"]


def test_a_kill_between_the_renames_of_a_replacement_loses_no_export(view, monkeypatch):
    export(view, Path("out"), form="npy")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    rename = os.rename

    def killed(source, target):
        if Path(target) == Path("out"):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("cer_fusion.kit.folders._exchanged", lambda *_: False)  # where names cannot be exchanged
        patched.setattr("cer_fusion.kit.folders.os.rename", killed)  # its way back is cut off too
        with pytest.raises(KeyboardInterrupt):
            export(view, Path("out"), form="npy", overwrite=True)
    assert not Path("out").exists()
    with pytest.raises(OutputExistsError, match="out is there already"):
        export(view, Path("out"), form="npy")
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_an_export_is_never_put_behind_or_in_the_place_of_a_link(view, overwrite):
    Path("real").mkdir()
    Path("out").symlink_to("real")
    with pytest.raises(OutputExistsError, match="out is a link"):
        export(view, Path("out"), form="npy", overwrite=overwrite)
    assert os.listdir("real") == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_export_that_fails_leaves_what_was_there(view, monkeypatch, form, overwrite):
    to = Path(FORMS[form])
    if overwrite:
        export(view, to, form=form)
    before = {p: p.read_bytes() for p in Path().glob("out*/*") if p.is_file()}, files_here()
    calls = []

    def full(fd):
        calls.append(fd)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cer_fusion.kit.files.os.fsync", full)
    with pytest.raises(WriteError, match=r"No space left on device(.|\n)*nothing written before is lost"):
        export(view, to, form=form, overwrite=overwrite)
    assert calls
    assert ({p: p.read_bytes() for p in Path().glob("out*/*") if p.is_file()}, files_here()) == before


def test_a_damaged_row_stops_an_export_and_nothing_appears(view, store):
    shard = store.feature("hse").shard_paths()[0]
    data = bytearray(shard.read_bytes())
    data[read_header(shard).segments["blocks/rows"].offset] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedShardError):
        export(view, Path("out.npz"), form="npz")
    assert files_here() == []


def test_a_shard_that_cannot_be_read_is_not_called_a_failed_write(view):
    class Unreadable:
        shape = (12, 2)

        def __getitem__(self, key):
            raise PermissionError(errno.EACCES, "Permission denied", "store/d/hse/shard-00000.h5")

    with pytest.raises(PermissionError, match="shard-00000"):
        export(replace(view, blocks={"hse": Unreadable()}), Path("out.npz"), form="npz")
    assert files_here() == []


def test_a_disk_without_room_is_refused_before_anything_is_written(view, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("cer_fusion.kit.files.shutil.disk_usage", lambda _: usage)
    with pytest.raises(WriteError, match="at least 432 bytes, 100 are free"):
        export(view, Path("out.npz"), form="npz")
    assert files_here() == []


def test_names_that_a_form_cannot_hold_are_refused(view, store, make_manifest):
    with pytest.raises(FeatstoreError, match="a name holds a line break"):
        export(view, Path("out"), form="npy", names="path", paths=["a\nb.png", *view.ids[1:]])
    manifest = store.manifest("d")
    rows = np.arange(24, dtype=np.float32).reshape(12, 2)
    import_rows(rows, manifest.ids, manifest, store, dataset="d", name="labels")
    with pytest.raises(FeatstoreError, match="a block is called 'labels', which this form uses"):
        export(store.view(["labels"]), Path("out.npz"), form="npz")
    assert files_here() == []


@pytest.mark.parametrize(
    ("to", "asked", "found"),
    [
        ("a.npz", None, "npz"),
        ("a.PARQUET", None, "parquet"),
        ("a.csv", "csv", "csv"),
        ("folder", "npy", "npy"),
        ("a.b", "projector", "projector"),
        ("folder", None, "does not say which form"),
        ("a.npy", None, "--format npy --output a"),
        ("a.npz", "csv", "contradict"),
        ("a", "parket", "did you mean 'parquet'"),
    ],
)
def test_the_form_follows_from_the_ending_or_is_named(to, asked, found):
    if " " not in found and found != "contradict":
        assert form_of(Path(to), asked) == found
    else:
        with pytest.raises(FeatstoreError, match=found):
            form_of(Path(to), asked)


def test_parquet_without_its_library_says_what_to_install(view, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(FeatstoreError, match=r"pip install 'cer-fusion\[parquet\]'"):
        export(view, Path("out.parquet"), form="parquet")
    assert files_here() == []


def test_parquet_has_the_paths_where_they_are_known_and_comes_back_all_the_same(view):
    parquet = pytest.importorskip("pyarrow.parquet")
    export(view, Path("out.parquet"), form="parquet", paths=[f"{name}.png" for name in view.ids])
    table = parquet.read_table("out.parquet")
    assert table.column_names[:5] == ["sample_id", "path", "label", "split", "group"]
    assert table["path"].to_pylist() == [f"{name}.png" for name in view.ids]
    assert list(read_foreign(Path("out.parquet")).names) == list(view.ids)


def test_what_goes_to_the_hub_is_named_by_split_and_leaves_a_missing_label_empty(view, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    splits = ["" if i < 3 else one for i, one in enumerate(view.splits)]
    place = HubPlace.parse("hf://datasets/me/faces", "dataset")
    (tmp_path / "made").mkdir()
    parcel = features_parcel(replace(view, splits=tuple(splits)), tmp_path / "made", place, dataset="d")
    found = {name: parquet.read_table(data) for name, data in parcel.files.items() if name.endswith(".parquet")}
    assert set(found) == {f"data/{one or 'unsplit'}-00000-of-00001.parquet" for one in splits}
    for name, table in found.items():
        split = name.removeprefix("data/").removesuffix("-00000-of-00001.parquet")
        rows = [i for i, one in enumerate(splits) if (one or "unsplit") == split]
        assert table["label"].to_pylist() == [None if view.y[i] < 0 else view.y[i] for i in rows]
        for block, values in view.blocks.items():
            np.testing.assert_array_equal(np.stack(table[block].to_pylist()), np.asarray(values)[rows])
    assert not any(parcel.owned(name) for name in ("README.md", "LICENSE", "data/notes.txt", "mine.parquet"))
    with pytest.raises(FeatstoreError, match="split 'a b' is no name that datasets takes"):
        features_parcel(replace(view, splits=("a b",) * len(view)), tmp_path / "made", place, dataset="d")
