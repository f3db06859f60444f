from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from cer_fusion.featstore import Store, extract, import_rows
from cer_fusion.featstore.errors import (
    AmbiguousFeatureError,
    DamagedShardError,
    FeatstoreError,
    FingerprintError,
    FormatError,
    IncompleteError,
    UnknownDatasetError,
    UnknownFeatureError,
)
from cer_fusion.featstore.manifests import manifest as manifests
from cer_fusion.featstore.manifests import sidecar as sidecars
from cer_fusion.featstore.rows import feature as features
from cer_fusion.featstore.rows.index import make_index
from tests.featstore.conftest import ToyEmbedder


@pytest.fixture
def filled(store, make_manifest):
    manifest = make_manifest(30)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=8)
    extract(ToyEmbedder("other", tap=1), manifest, store, dataset="d", shard_rows=11, dtype="float16")
    return store


def test_opening_what_is_no_store_says_how_to_make_one(tmp_path):
    with pytest.raises(FormatError, match="cer-feat extract"):
        Store(tmp_path / "none")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(FormatError, match="neither empty nor a feature store"):
        Store.create(tmp_path / "full")


def test_a_store_of_a_newer_version_is_refused_by_name(store):
    from cer_fusion.featstore.rows import files

    files.write_document(store.path / "store.json", "cer-store", 9, {})
    with pytest.raises(FormatError, match="cer-store version 9, made by a newer cer-fusion; this release reads"):
        Store(store.path)


def test_a_changed_json_file_is_refused(filled):
    path = filled.features("d")[0].folder / "feature.json"
    path.write_text(path.read_text().replace('"toy"', '"boy"').replace('"other"', '"mother"'))
    with pytest.raises(FormatError, match="changed or damaged"):
        filled.features("d")


def test_a_view_joins_features_in_the_order_asked_for(filled):
    view = filled.view(["other", "toy"])
    assert view.widths == {"other.left": 4, "other.right": 3, "toy.left": 4, "toy.right": 3}
    assert all(rows.dtype == np.float32 for rows in view.blocks.values())
    assert view.join().shape == (30, 14)
    assert list(view.fingerprints) == ["other", "toy"]
    np.testing.assert_allclose(view.blocks["other.left"], view.blocks["toy.left"], rtol=1e-3)


def test_one_block_of_a_feature_can_be_asked_for(filled):
    assert filled.view(["toy.right", "other.left"]).widths == {"toy.right": 3, "other.left": 4}
    with pytest.raises(UnknownFeatureError, match="did you mean 'right'"):
        filled.view(["toy.rihgt"])
    with pytest.raises(FeatstoreError, match="asked for twice"):
        filled.view(["toy", "toy.left"])


def test_a_mapped_view_equals_a_loaded_one(filled):
    for split in (None, "test"):
        loaded, mapped = (
            filled.view(["toy", "other"], split=split),
            filled.view(["toy", "other"], split=split, mapped=True),
        )
        np.testing.assert_array_equal(mapped.join(), loaded.join())
        for name, rows in loaded.blocks.items():
            block = mapped.blocks[name]
            assert (block.shape, block.dtype, len(block)) == (rows.shape, rows.dtype, len(rows))
            np.testing.assert_array_equal(np.asarray(block), rows)
            np.testing.assert_array_equal(block[3], rows[3])
            np.testing.assert_array_equal(block[-2:], rows[-2:])
            np.testing.assert_array_equal(block[[5, 0, 5], 1], rows[[5, 0, 5], 1])
            np.testing.assert_array_equal(block[rows[:, 0] > 5], rows[rows[:, 0] > 5])
            with pytest.raises(IndexError):
                block[len(rows)]


def test_rows_follow_the_manifest_whatever_order_they_were_embedded_in(store, make_manifest):
    manifest = make_manifest(30)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=8)
    expected = dict(zip(manifest.ids, store.view(["toy"]).join(), strict=True))
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(30)[: rng.integers(1, 31)]
        shuffled = dataclasses.replace(manifest, samples=tuple(manifest.samples[i] for i in order))
        store.use_manifest("d", shuffled)
        view = store.view(["toy"])
        np.testing.assert_array_equal(view.join(), np.stack([expected[s] for s in view.ids]))


def test_take_keeps_rows_and_samples_together(filled):
    view = filled.view(["toy"])
    half = view.take([i % 2 == 0 for i in range(30)])
    np.testing.assert_array_equal(half.join(), view.join()[::2])
    assert half.ids == view.ids[::2]
    np.testing.assert_array_equal(half.y, view.y[::2])


def test_a_view_refuses_features_that_cover_different_samples(store, make_manifest):
    manifest = make_manifest(30, contents={4: b"BAD"})
    extract(ToyEmbedder(), manifest.keep([i < 20 for i in range(30)]), store, dataset="d")
    store.use_manifest("d", manifest)
    with pytest.raises(IncompleteError) as error:
        store.view(["toy"])
    assert "11 of 30 samples have no row in 'toy@" in str(error.value)
    assert "(first: s0004, s0020, s0021, … (11 in all))" in str(error.value)
    assert "1 of them are in quarantine: s0004 (not a picture)" in str(error.value)
    assert len(store.view(["toy"], missing="drop")) == 19


def test_a_view_without_a_single_row_is_refused_even_when_dropping(store, make_manifest):
    manifest = make_manifest(12)
    extract(ToyEmbedder(), manifest.select("train"), store, dataset="d")
    store.use_manifest("d", manifest)
    with pytest.raises(IncompleteError, match="no sample of"):
        store.view(["toy"], split="test", missing="drop")


def test_names_that_are_not_there_are_answered_with_the_nearest(filled):
    with pytest.raises(UnknownFeatureError, match="did you mean 'toy'"):
        filled.view(["tyo"])
    with pytest.raises(UnknownDatasetError, match="known: d"):
        filled.view(["toy"], dataset="rafdb")
    with pytest.raises(FeatstoreError, match="as a list"):
        filled.view("toy")


def test_a_picture_in_two_splits_is_found_by_its_bytes(store, make_manifest):
    extract(ToyEmbedder(), make_manifest(12, contents={4: b"same face", 9: b"same face"}), store, dataset="d")
    assert store.shared_pictures("toy", dataset="d", splits=("train", "test")) == [("s0004", "s0009")]
    assert store.shared_pictures("toy", dataset="d", splits=("test", "nothing")) == []


def test_a_picture_in_two_datasets_is_found_by_its_bytes(store, make_manifest):
    extract(ToyEmbedder(), make_manifest(3, contents={1: b"same face"}), store, dataset="d")
    others = {i: b"face %d" % i for i in range(6)} | {3: b"same face", 5: b"same face"}
    extract(ToyEmbedder(), make_manifest(6, contents=others, folder="b"), store, dataset="e")
    assert store.common_pictures("toy", ("d", "e")) == [("s0001", "s0003"), ("s0001", "s0005")]
    assert store.common_pictures("toy", ("e", "d")) == [("s0003", "s0001"), ("s0005", "s0001")]


def test_rows_without_pictures_are_not_said_to_have_none_in_common(store, make_manifest, tmp_path):
    manifest = make_manifest(6)
    for dataset, listed in (("d", manifest), ("e", replace(manifest, root=tmp_path / "elsewhere"))):
        rows = np.arange(24, dtype=np.float32).reshape(6, 4)
        import_rows(rows, manifest.ids, listed, store, dataset=dataset, name="toy")
    assert store.common_pictures("toy", ("d", "e")) is None
    assert len(store.common_pictures("toy", ("d", "d"))) == 6


def test_two_fingerprints_of_one_name_must_be_told_apart(filled, make_manifest):
    extract(ToyEmbedder(tap="b"), make_manifest(30), filled, dataset="d")
    with pytest.raises(AmbiguousFeatureError, match=r"they differ in options.tap: (None|'b') -> ('b'|None)"):
        filled.view(["toy"])
    label = next(f.label for f in filled.features("d") if f.name == "toy")
    assert len(filled.view([label[:10]])) == 30


def test_which_dataset_must_be_said_when_there_are_several(filled, make_manifest):
    extract(ToyEmbedder(), make_manifest(3, folder="b"), filled, dataset="e")
    with pytest.raises(UnknownDatasetError, match="has 2: d, e; name one with --data"):
        filled.view(["toy"])


@pytest.mark.parametrize("mapped", [False, True])
def test_damaged_rows_are_never_handed_out(filled, mapped):
    shard = filled.feature("toy").shard_paths()[1]
    data = bytearray(shard.read_bytes())
    from cer_fusion.featstore.rows.shard import read_header

    data[read_header(shard).segments["blocks/left"].offset + 5] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedShardError, match="does not match its digest"):
        filled.view(["toy"], mapped=mapped).join()


def test_a_foreign_shard_in_the_folder_is_refused(filled):
    theirs, ours = filled.feature("other"), filled.feature("toy")
    shutil.copy(theirs.shard_paths()[0], ours.folder)
    with pytest.raises(FingerprintError, match="belongs to another feature"):
        filled.view(["toy"])


def test_a_folder_moved_by_hand_is_refused(filled):
    feature = filled.feature("toy")
    feature.folder.rename(feature.folder.with_name("toy@000000000000"))
    with pytest.raises(FormatError, match="moved here by hand"):
        filled.features("d")


def test_a_read_only_store_can_be_read(filled):
    for folder, _, names in os.walk(filled.path):
        for name in names:
            os.chmod(os.path.join(folder, name), 0o444)
        os.chmod(folder, 0o555)
    before = sorted(p for p in filled.path.rglob("*"))
    assert len(Store(filled.path).view(["toy", "other"])) == 30
    assert sorted(p for p in filled.path.rglob("*")) == before


@pytest.mark.parametrize("text", [None, "", "[]", '{"name": "another tool"}'])
def test_a_store_without_its_store_json_is_brought_back_with_that_of_another(store, make_manifest, tmp_path, text):
    store.use_manifest("d", make_manifest(3))
    path = store.path / "store.json"
    path.unlink() if text is None else path.write_text(text)
    for opening in (Store, Store.create):
        with pytest.raises(FormatError, match=r"store\.json(.|\n)*copy of any other store's"):
            opening(store.path)
    Store.create(tmp_path / "another")
    path.write_bytes((tmp_path / "another" / "store.json").read_bytes())
    assert len(Store(store.path).manifest("d")) == 3


@pytest.mark.parametrize("text", ["", "[]", '{"format": "cer-manifest"}', "\0", None])
def test_a_damaged_manifest_json_is_brought_back_as_its_message_says(store, make_manifest, text):
    manifest = make_manifest(3)
    store.use_manifest("d", manifest)
    path = store.path / "d" / "manifest.json"
    path.unlink()
    path.mkdir() if text is None else path.write_text(text)
    away = "move .* away, then " if text is None else ""
    with pytest.raises(FormatError, match=f"\n  {away}bring it back with: cer-feat use-manifest"):
        store.manifest("d")
    if text is None:
        path.rmdir()
    store.use_manifest("d", manifest)
    assert store.manifest("d").ids == manifest.ids


def test_a_dataset_whose_list_is_gone_is_not_said_to_be_unknown(store, make_manifest):
    extract(ToyEmbedder(), make_manifest(3), store, dataset="d")
    (store.path / "d" / "manifest.csv").unlink()
    with pytest.raises(FormatError, match=r"manifest\.csv is missing(.|\n)*--dataset d"):
        store.manifest("d")


@pytest.fixture
def indexed(monkeypatch):
    """Of every index that is made, how many samples it was made for; None for all there are."""
    asked = []

    def noted(headers, *, only=None):
        asked.append(None if only is None else len(only))
        return make_index(headers, only=only)

    monkeypatch.setattr(features, "make_index", noted)
    return asked


def test_a_leak_check_among_few_of_many_rows_makes_one_index_of_these_for_view_and_check(filled, indexed):
    few = filled.manifest().keep([i < 6 for i in range(30)])
    filled.use_manifest("d", few)
    store = Store(filled.path)
    assert len(store.view(["toy"], dataset="d")) == 6
    assert store.shared_pictures("toy", dataset="d", splits=("train", "test")) == []
    assert indexed == [6]


def test_pictures_that_moved_are_compared_with_the_rows_of_a_few_samples_alone(filled, make_manifest, indexed):
    moved = make_manifest(30, folder="elsewhere")
    shutil.rmtree(filled.manifest().root)
    change = Store(filled.path).manifest_change("d", moved)
    assert (change.looked_at, change.differ) == (20, 0)
    assert indexed == [None, None]  # twenty of thirty are not few: an index of all serves as well
    assert Store(filled.path)._made_from("d", ["s0003"]) == {
        "s0003": filled.feature("toy").index().image_digests()["s0003"]
    }
    assert indexed[2:] == [1, 1]


def test_a_part_of_a_large_dataset_and_its_report_ask_about_their_own_samples_alone(filled, monkeypatch, indexed):
    for module in (manifests, sidecars):
        monkeypatch.setattr(module, "BLOCK_ROWS", 8)
    manifest = filled.manifest()
    (manifest.root / "25.png").write_bytes(b"BAD")
    filled.use_manifest("d", manifest.keep([True] * 29 + [False]))
    for k in range(10):
        store = Store(filled.path)
        report = extract(ToyEmbedder(), store.sealed_manifest("d"), store, dataset="d", part=(k, 10), shard_rows=3)
        assert report.samples == (3 if k < 9 else 2)
    assert set(indexed) <= {1, 2, 3}
    assert Store(filled.path).feature("toy").quarantined().keys() == {"s0025"}
    assert "s0025" in (filled.feature("toy").folder / "quarantine.csv").read_text(encoding="utf-8")
