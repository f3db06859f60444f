"""Several runs on one feature: parts of a plan, and runs that meet."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cer_fusion.featstore import FeatstoreError, Store, extract, find_garbage, verify
from cer_fusion.featstore.errors import IncompleteError
from cer_fusion.featstore.extraction import stored as stored_rows
from cer_fusion.featstore.rows import shard
from cer_fusion.featstore.rows.feature import shard_names
from cer_fusion.featstore.rows.shard import Rows
from tests.featstore.conftest import ToyEmbedder


def names(store: Store) -> list[str]:
    return [path.name for path in store.feature("toy").shard_paths()]


def meet(mine: ToyEmbedder, other: ToyEmbedder, run: Callable[[], object]) -> None:
    """Let the other one run, once, while `mine` embeds its first batch."""

    def spoil(rows):
        if not other.embedded:
            run()
        return rows

    mine.spoil = spoil


@pytest.fixture
def whole(tmp_path, make_manifest):
    """A store that one unbroken run filled."""
    store = Store.create(tmp_path / "whole")
    extract(ToyEmbedder(), make_manifest(23), store, dataset="d", shard_rows=4)
    return store


def test_the_parts_of_a_plan_make_what_one_run_makes(store, make_manifest, whole):
    manifest = make_manifest(23)
    embedders = [ToyEmbedder() for _ in range(3)]
    reports = [extract(embedders[k], manifest, store, dataset="d", shard_rows=4, part=(k, 3)) for k in (2, 0)]
    with pytest.raises(IncompleteError, match="8 of 23 samples have no row"):
        store.view(["toy"])
    reports.append(extract(embedders[1], manifest, store, dataset="d", shard_rows=4, part=(1, 3)))
    assert [(r.samples, r.embedded, r.by_others) for r in reports] == [(7, 7, 0), (8, 8, 0), (8, 8, 0)]
    assert names(store) == names(whole)


def test_a_part_reads_only_its_own_pictures(store, make_manifest):
    manifest = make_manifest(8)
    for i in range(4, 8):
        (manifest.root / f"{i}.png").unlink()
    report = extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=4, part=(0, 2))
    assert (report.samples, report.embedded, report.quarantined) == (4, 4, {})


def test_more_parts_than_shards_leave_some_without_work(store, make_manifest):
    report = extract(ToyEmbedder(), make_manifest(4), store, dataset="d", shard_rows=4, part=(5, 6))
    assert (report.samples, report.already, report.embedded) == (0, 0, 0)


@pytest.mark.parametrize("part", [(1, 1), (-1, 2), (0, 0)])
def test_an_impossible_part_is_refused(store, make_manifest, part):
    with pytest.raises(FeatstoreError, match="0 <= k < n"):
        extract(ToyEmbedder(), make_manifest(4), store, dataset="d", part=part)


def test_what_another_run_commits_meanwhile_is_not_done_again(store, make_manifest, whole):
    manifest = make_manifest(23)
    mine, other = ToyEmbedder(), ToyEmbedder()

    meet(mine, other, lambda: extract(other, manifest, Store(store.path), dataset="d", shard_rows=4))
    report = extract(mine, manifest, store, dataset="d", shard_rows=4)
    assert len(other.embedded) == 23
    assert (report.embedded, report.by_others) == (4, 19), "one shard was under way, the others were left alone"
    assert names(store) == names(whole)
    assert not verify(store).problems


def test_a_shard_that_another_run_committed_first_is_not_committed_twice_even_if_rows_differ(store, make_manifest):
    """As on a GPU, where two runs agree only to the seventh digit."""
    manifest = make_manifest(4)
    mine, other = ToyEmbedder(), ToyEmbedder()
    other.spoil = lambda rows: rows * np.float32(1.0000001)

    meet(mine, other, lambda: extract(other, manifest, Store(store.path), dataset="d"))
    extract(mine, manifest, store, dataset="d")
    assert len(names(store)) == 1


def test_quarantine_of_another_run_is_taken_over(store, make_manifest):
    manifest = make_manifest(8, contents={6: b"BAD"})
    mine, other = ToyEmbedder(), ToyEmbedder()

    meet(mine, other, lambda: extract(other, manifest, Store(store.path), dataset="d", shard_rows=4))
    report = extract(mine, manifest, store, dataset="d", shard_rows=4)
    assert report.quarantined == {"s0006": "not a picture"}
    assert report.by_others == 4


def test_a_picture_that_changed_between_two_runs_is_embedded_by_the_later_one(store, make_manifest):
    manifest = make_manifest(8)
    mine, other = ToyEmbedder(), ToyEmbedder()

    def run_with_another_picture():
        path = manifest.root / "5.png"
        before = path.read_bytes()
        path.write_bytes(b"as it was for the other")
        extract(other, manifest, Store(store.path), dataset="d", shard_rows=4)
        path.write_bytes(before)

    meet(mine, other, run_with_another_picture)
    report = extract(mine, manifest, store, dataset="d", shard_rows=4)
    assert (report.embedded, report.by_others) == (5, 3)
    assert not verify(store, images=True).problems


def test_a_repeated_picture_is_taken_over_from_another_run(store, make_manifest):
    contents = dict.fromkeys((1, 5, 6), b"the same face")
    manifest = make_manifest(8, contents=contents)
    mine, other = ToyEmbedder(), ToyEmbedder()

    meet(mine, other, lambda: extract(other, manifest, Store(store.path), dataset="d", shard_rows=2, part=(0, 2)))
    extract(mine, manifest, store, dataset="d", shard_rows=2)
    assert mine.embedded.count(b"the same face".ljust(16, b"\0")) <= 1
    rows = store.view(["toy"]).join()
    np.testing.assert_array_equal(rows[5], rows[1])
    np.testing.assert_array_equal(rows[6], rows[1])


def test_rows_of_one_generation_made_from_different_pictures_do_not_count_and_extract_settles_it(store, make_manifest):
    """A shard of another dataset with the same ids and the same fingerprint, copied here by hand."""
    mine, other = make_manifest(8), make_manifest(8, contents={5: b"another face"}, folder="elsewhere")
    extract(ToyEmbedder(), mine, store, dataset="d", shard_rows=4)
    expected = store.view(["toy"], dataset="d").join()
    extract(ToyEmbedder(), other, store, dataset="e", shard_rows=4)
    strays = [path for path in store.feature("toy", "e").shard_paths() if "shard-00001" in path.name]
    for path in strays:
        shutil.copy(path, store.feature("toy", "d").folder)
    with pytest.raises(IncompleteError, match=r"1 of 8(.|\n)*two shards, made from different pictures \(s0005\)"):
        store.view(["toy"], dataset="d")
    assert "s0005 stands in shard-00001" in verify(store, dataset="d").problems[0].what
    assert find_garbage(store, dataset="d", now=True) == []
    report = extract(ToyEmbedder(), mine, store, dataset="d", shard_rows=4)
    assert (report.embedded, report.already) == (1, 7)
    np.testing.assert_array_equal(store.view(["toy"], dataset="d").join(), expected)
    assert verify(store, dataset="d", images=True).problems == ()


def test_a_folder_of_many_shards_is_listed_only_where_something_may_have_changed(store, make_manifest, monkeypatch):
    """As if a listing took 4 ms, which it does of ten thousand shards."""
    extract(ToyEmbedder(), make_manifest(4), store, dataset="d", shard_rows=2)
    feature = store.feature("toy")
    clock, listings = [0.0], []

    def slow(folder):
        clock[0] += 0.004
        listings.append(folder)
        return shard_names(folder)

    monkeypatch.setattr(stored_rows, "shard_names", slow)
    monkeypatch.setattr(stored_rows, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    stored = stored_rows.StoredRows(feature)
    for number in range(30):
        stored.look()
        stored.commit(rows_for(feature, f"ours{number}"), number=number, generation=0)
        stored.look()
    assert len(listings) == 1

    feature.commit(rows_for(feature, "theirs"), index=0, generation=0)
    os.utime(feature.folder, ns=(0, os.stat(feature.folder).st_mtime_ns + 3600 * 10**9))
    stored.look()
    assert stored.are_newer(["theirs", "ours1"]) == {"theirs"}

    known = os.stat(feature.folder).st_mtime_ns
    feature.commit(rows_for(feature, "unseen"), index=0, generation=0)
    os.utime(feature.folder, ns=(0, known))  # within one tick of that clock
    stored.look()
    assert stored.are_newer(["unseen"]) == set()
    clock[0] += 5
    stored.look()
    assert stored.are_newer(["unseen"]) == {"unseen"}


def rows_for(feature, sample_id):
    blocks = {name: np.full((1, width), 1.0, "float32") for name, width in feature.spec.blocks.items()}
    return Rows(ids=[sample_id], image_digests=["a" * 64], blocks=blocks)


def test_samples_of_new_names_get_their_rows_with_each_chunk_read_once(store, make_manifest, monkeypatch):
    """As after a dataset's folders were renamed: every row is known, under another name and in another order."""
    manifest = make_manifest(600)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=300)
    order = np.random.default_rng(0).permutation(600).tolist()
    renamed = replace(
        manifest, samples=tuple(manifest.samples[i]._replace(sample_id=f"new{i}") for i in order), lines=()
    )
    read = []
    real = shard._fill
    monkeypatch.setattr(
        shard, "_fill", lambda f, out, header, name: (read.append((name, len(out))), real(f, out, header, name))
    )
    report = extract(ToyEmbedder(), renamed, store, dataset="d", shard_rows=50)
    assert (report.embedded, report.shared) == (0, 600)
    rows_read = sum(size for name, size in read if name.startswith("blocks/"))
    assert rows_read <= 2 * 600 * 4 * sum(store.feature("toy").spec.blocks.values())
    before = dict(zip(manifest.ids, store_rows(store, manifest), strict=True))
    for sample_id, row in zip(renamed.ids, store_rows(store, renamed), strict=True):
        np.testing.assert_array_equal(row, before[f"s{int(sample_id[3:]):04d}"])


def store_rows(store, manifest):
    store.use_manifest("d", manifest)
    return store.view(["toy"], dataset="d").join()


def test_a_small_part_of_a_filled_feature_knows_its_own_samples_and_every_picture(store, make_manifest):
    manifest = make_manifest(80, contents={5: b"BAD", 70: b"BAD too"})
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=2)
    before, refused = store.view(["toy"], missing="drop"), dict(store.feature("toy").index().quarantined)
    for part in (2, 15):
        report = extract(ToyEmbedder(), manifest, Store(store.path), dataset="d", shard_rows=2, part=(part, 20))
        assert (report.embedded, report.shared, report.already) == (0, 0, 4)
    (manifest.root / "6.png").write_bytes(b"picture 0061")  # the picture of a sample of another part
    (manifest.root / "7.png").write_bytes(b"a new one")
    assert not stored_rows.StoredRows(Store(store.path).feature("toy"), only=manifest.ids[6:8]).before.whole
    report = extract(ToyEmbedder(), manifest, Store(store.path), dataset="d", shard_rows=2, part=(3, 20))
    assert (report.embedded, report.shared, report.already) == (1, 1, 2)
    after = store.view(["toy"], missing="drop")
    rows = dict(zip(after.ids, after.join(), strict=True))
    np.testing.assert_array_equal(rows["s0006"], rows["s0061"])
    for sample_id, row in zip(before.ids, before.join(), strict=True):
        assert sample_id in ("s0006", "s0007") or np.array_equal(rows[sample_id], row)
    assert store.feature("toy").index().quarantined == refused


def test_a_part_takes_note_of_its_own_samples_alone_in_what_others_commit(store, make_manifest):
    manifest = make_manifest(12, contents={5: b"BAD", 9: b"BAD"})
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=4, part=(0, 3))
    stored = stored_rows.StoredRows(store.feature("toy"), only=manifest.ids[4:7])
    extract(ToyEmbedder(), manifest, Store(store.path), dataset="d", shard_rows=4)
    stored.look()
    assert stored.are_newer(manifest.ids) == set(manifest.ids[4:7])
    assert stored.settled(manifest.ids[4], "").row == 0
