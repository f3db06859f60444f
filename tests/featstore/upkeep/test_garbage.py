from __future__ import annotations

import errno
import os
import shutil
import time

import numpy as np
import pytest
from hypothesis import given, settings

from cer_fusion.featstore import FeatureSpec, extract, verify
from cer_fusion.featstore.errors import CommitError, DamagedShardError
from cer_fusion.featstore.rows import files
from cer_fusion.featstore.rows.shard import Rows, read_strings
from cer_fusion.featstore.upkeep.garbage import find_garbage, remove_garbage
from tests.featstore.conftest import ToyEmbedder
from tests.featstore.history import HOUR_S, histories, holdings, lived, make_older

ToySpec = FeatureSpec(name="toy", identity=ToyEmbedder().spec(), blocks={"left": 4, "right": 3})


@pytest.fixture
def filled(store, make_manifest):
    """Three shards, of which the middle one was superseded just now: all its pictures changed."""
    manifest = make_manifest(12)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=4)
    for i in range(4, 8):
        (manifest.root / f"{i}.png").write_bytes(b"another %d" % i)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=4)
    return store


def superseded(store):
    return next(h.path for h in store.feature("toy").headers() if h.index == 1 and h.generation == 0)


def test_a_shard_whose_entries_are_all_superseded_is_garbage_an_hour_later(filled):
    assert find_garbage(filled) == []
    make_older(filled.path)
    (found,) = find_garbage(filled)
    assert found.path == superseded(filled)
    assert found.nbytes == found.path.stat().st_size
    assert found.why == "superseded: newer shards hold all its 4 samples"


def test_now_does_not_wait_for_readers(filled):
    assert [item.path for item in find_garbage(filled, now=True)] == [superseded(filled)]


def test_looking_removes_and_writes_nothing(filled):
    before = {path: path.stat().st_mtime_ns for path in filled.path.rglob("*")}
    find_garbage(filled, now=True, unlisted=True)
    assert {path: path.stat().st_mtime_ns for path in filled.path.rglob("*")} == before


def test_removing_changes_neither_rows_nor_quarantine(filled):
    before, old = holdings(filled), superseded(filled)
    found = find_garbage(filled, now=True)
    assert remove_garbage(found) == found[0].nbytes
    assert not old.exists()
    assert holdings(filled) == before
    assert find_garbage(filled, now=True) == []


@settings(max_examples=40, deadline=None)
@given(history=histories)
def test_whatever_a_feature_went_through_its_rows_and_quarantine_stay(history):
    with lived(history) as store:
        before = holdings(store)
        remove_garbage(find_garbage(store, now=True))
        assert holdings(store) == before
        assert find_garbage(store, now=True) == []
        listed = holdings(store, listed_only=True)
        remove_garbage(find_garbage(store, now=True, unlisted=True))
        assert holdings(store, listed_only=True) == listed
        for sample_id, entry in holdings(store).items():
            assert before[sample_id] == entry  # a sample that is not listed goes, or keeps its newest entry


def test_a_shard_that_still_holds_one_row_that_counts_stays(filled, make_manifest):
    manifest = filled.manifest()
    for i in range(3):
        (manifest.root / f"{i}.png").write_bytes(b"again another %d" % i)
    extract(ToyEmbedder(), manifest, filled, dataset="d", shard_rows=4)
    assert [item.path for item in find_garbage(filled, now=True)] == [superseded(filled)]


def test_of_two_shards_with_the_same_rows_the_later_name_is_garbage(filled):
    feature = filled.feature("toy")
    first = feature.headers()[0]
    rows = {"left": [[1.0] * 4] * 4, "right": [[1.0] * 3] * 4}
    blocks = {name: np.array(values, dtype="float32") for name, values in rows.items()}
    other = feature.commit(
        Rows(ids=read_strings(first, "ids"), image_digests=read_strings(first, "image_digest"), blocks=blocks),
        index=0,
        generation=first.generation,
    )
    expected = max(first.path, other)
    assert expected in [item.path for item in find_garbage(filled, now=True)]


def test_shards_of_samples_that_left_the_manifest_are_garbage_only_on_request(filled):
    manifest = filled.manifest()
    filled.use_manifest("d", manifest.keep(i < 8 for i in range(12)))
    last = next(h.path for h in filled.feature("toy").headers() if h.index == 2)
    assert last not in [item.path for item in find_garbage(filled, now=True)]
    found = {item.path: item.why for item in find_garbage(filled, now=True, unlisted=True)}
    assert found[last] == "none of its 4 samples is in the manifest"
    make_older(filled.feature("toy").folder)
    assert last not in [item.path for item in find_garbage(filled, unlisted=True)]  # the manifest is young
    make_older(filled.path)
    assert last in [item.path for item in find_garbage(filled, unlisted=True)]


def test_a_row_that_hides_an_older_one_of_a_shard_that_stays_is_not_removed(store, make_manifest):
    manifest = make_manifest(4)
    extract(ToyEmbedder(), manifest, store, dataset="d")
    (manifest.root / "3.png").write_bytes(b"another")
    extract(ToyEmbedder(), manifest, store, dataset="d")
    store.use_manifest("d", manifest.keep(i < 3 for i in range(4)))
    assert find_garbage(store, now=True, unlisted=True) == []
    store.use_manifest("d", manifest.keep(i == 3 for i in range(4)))
    assert len(find_garbage(store, now=True, unlisted=True)) == 1


def test_a_superseded_shard_stays_when_the_one_that_supersedes_it_is_damaged(filled):
    found = find_garbage(filled, now=True)
    (newer,) = found[0].relies_on
    data = bytearray(newer.read_bytes())
    data[-50] ^= 1
    newer.write_bytes(data)
    with pytest.raises(DamagedShardError, match="what it supersedes was kept"):
        remove_garbage(found)
    assert found[0].path.exists()


def test_what_killed_writers_left_is_garbage_wherever_it_lies(filled):
    folder = filled.feature("toy").folder
    places = [filled.path, filled.path / "d", folder, filled.path / "begun" / "toy@0123456789ab"]
    places[-1].mkdir(parents=True)
    for place in places:
        (place / ".tmp-0011223344556677").write_bytes(b"half")
    assert find_garbage(filled) == []
    make_older(filled.path, by_s=HOUR_S / 2)
    assert find_garbage(filled, now=True)[0].path == superseded(filled)  # a writer may be alive, whatever readers do
    make_older(filled.path)
    found = find_garbage(filled)
    assert {item.path for item in found if item.nbytes == 4} == {p / ".tmp-0011223344556677" for p in places}
    remove_garbage(found)
    assert not places[-1].exists()
    assert not list(filled.path.rglob(".tmp-*"))
    assert len(find_garbage(filled, now=True)) == 0


def test_a_feature_folder_that_holds_anything_else_stays(filled):
    folder = filled.path / "d" / "toy@0123456789ab"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    make_older(filled.path)
    assert folder not in [item.path for item in find_garbage(filled)]


def test_a_folder_that_a_writer_came_back_to_is_not_removed(filled):
    folder = filled.path / "d" / "toy@0123456789ab"
    folder.mkdir()
    make_older(filled.path)
    found = [item for item in find_garbage(filled) if item.path == folder]
    (folder / "feature.json").write_text("{}")
    with pytest.raises(
        CommitError, match=r"could not remove toy@\w+: Directory not empty(.|\n)*somebody has put a file there"
    ):
        remove_garbage(found)
    assert (folder / "feature.json").exists()


def test_folders_that_are_not_the_stores_are_left_alone(filled):
    other = filled.path / "runs"
    other.mkdir()
    (other / ".tmp-mine").write_bytes(b"")
    make_older(filled.path)
    assert other / ".tmp-mine" not in [item.path for item in find_garbage(filled)]


def set_one_aside(store, spoil):
    path = next(h.path for h in store.feature("toy").headers() if h.index == 2)
    data = bytearray(path.read_bytes())
    spoil(data)
    path.write_bytes(data)
    (aside,) = verify(store, repair=True).set_aside
    return aside


@pytest.mark.parametrize("place", [-50, 30], ids=["a row", "the header"])
def test_a_damaged_shard_is_garbage_when_its_rows_are_back(filled, place):
    def spoil(data):
        data[place] ^= 1

    aside = set_one_aside(filled, spoil)
    assert aside not in [item.path for item in find_garbage(filled, now=True)]
    extract(ToyEmbedder(), filled.manifest(), filled, dataset="d", shard_rows=4)
    before = holdings(filled)
    found = {item.path: item for item in find_garbage(filled, now=True)}
    assert found[aside].why == "a damaged shard that was set aside; its rows are back"
    remove_garbage(list(found.values()))
    assert not aside.exists()
    assert holdings(filled) == before


def test_a_damaged_shard_stays_while_only_older_rows_stand_in_for_its_own(filled):
    newer = next(h.path for h in filled.feature("toy").headers() if h.generation == 1)
    data = bytearray(newer.read_bytes())
    data[-50] ^= 1
    newer.write_bytes(data)
    (aside,) = verify(filled, repair=True).set_aside
    assert find_garbage(filled, now=True) == []
    extract(ToyEmbedder(), filled.manifest(), filled, dataset="d", shard_rows=4)
    assert aside in [item.path for item in find_garbage(filled, now=True)]


def test_a_shard_of_another_feature_that_was_set_aside_stays(filled, make_manifest):
    extract(ToyEmbedder("other", tap=2), make_manifest(12), filled, dataset="d")
    theirs = filled.feature("other").shard_paths()[0]
    shutil.move(theirs, filled.feature("toy").folder / theirs.name)
    (aside,) = verify(filled, repair=True).set_aside
    assert aside not in [item.path for item in find_garbage(filled, now=True, unlisted=True)]


def test_quarantine_csv_follows_when_a_quarantined_sample_goes(store, make_manifest):
    manifest = make_manifest(4, contents={3: b"BAD"})
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=1)
    text = store.feature("toy").folder / "quarantine.csv"
    assert "s0003" in text.read_text()
    store.use_manifest("d", manifest.keep(i < 3 for i in range(4)))
    remove_garbage(find_garbage(store, now=True, unlisted=True))
    assert "s0003" not in text.read_text()


def test_only_the_dataset_asked_for_is_looked_at(filled, make_manifest):
    extract(ToyEmbedder(), make_manifest(3, folder="more"), filled, dataset="e")
    for name in ("d", "e"):
        (filled.path / name / ".tmp-1").write_bytes(b"")
    old = time.time() - 2 * HOUR_S
    for name in ("d", "e"):
        os.utime(filled.path / name / ".tmp-1", (old, old))
    assert [item.path for item in find_garbage(filled, dataset="e")] == [filled.path / "e" / ".tmp-1"]


def commit(feature, ids, pictures, *, index=0, generation=0):
    blocks = {name: np.full((len(ids), width), 1.0, "float32") for name, width in feature.spec.blocks.items()}
    digests = [picture * 64 for picture in pictures]
    return feature.commit(Rows(ids=ids, image_digests=digests, blocks=blocks), index=index, generation=generation)


def test_a_disputed_sample_that_also_stands_in_a_superseded_shard_is_no_fault(store, make_manifest):
    store.use_manifest("d", make_manifest(3))
    feature = store.create_feature("d", ToySpec)
    third = commit(feature, ["s0000", "s0001"], "aa", index=7)
    commit(feature, ["s0001"], "c", index=8, generation=1)
    claimants = [commit(feature, ["s0000"], picture, generation=1) for picture in "de"]
    assert set(feature.index().disputed) == {"s0000"}
    (found,) = find_garbage(store, now=True)
    assert found.path == third
    assert set(found.relies_on) & set(claimants)
    assert find_garbage(store) == []
    remove_garbage([found])
    assert set(feature.index().disputed) == {"s0000"}
    assert find_garbage(store, now=True, unlisted=True) == []


def test_a_third_shard_of_a_dispute_stays(store, make_manifest):
    store.use_manifest("d", make_manifest(3))
    feature = store.create_feature("d", ToySpec)
    for picture in "abc":
        commit(feature, ["s0000"], picture)
    assert find_garbage(store, now=True) == []


@pytest.mark.parametrize("ahead_s", [-2 * HOUR_S, 2 * HOUR_S])
def test_what_is_stale_is_told_by_the_file_systems_clock(filled, monkeypatch, ahead_s):
    """As on a machine whose own clock is two hours off that of the server which stamps the files."""
    (filled.path / "d" / ".tmp-1").write_bytes(b"")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + ahead_s)
    assert find_garbage(filled) == []
    make_older(filled.path)
    assert {item.path.name for item in find_garbage(filled)} == {".tmp-1", superseded(filled).name}


def test_garbage_of_a_store_that_cannot_be_written_is_listed_all_the_same(filled, monkeypatch):
    make_older(filled.path)

    def refuse(folder):
        raise OSError(errno.EROFS, "Read-only file system", str(folder))

    monkeypatch.setattr(files, "now_on", refuse)
    assert [item.path for item in find_garbage(filled)] == [superseded(filled)]


def test_on_a_full_disk_nothing_is_judged_by_this_machines_clock(filled, monkeypatch):
    def refuse(folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    now = time.time()
    monkeypatch.setattr(files, "now_on", refuse)
    monkeypatch.setattr(time, "time", lambda: now + 2 * HOUR_S)
    assert find_garbage(filled) == []
    make_older(filled.path)
    assert find_garbage(filled) == [], "nothing says that it is any later there"
    (filled.path / "d" / "sign-of-life").touch()
    assert [item.path for item in find_garbage(filled)] == [superseded(filled)]


def test_a_feature_with_a_damaged_shard_is_left_alone_and_garbage_of_the_others_is_found(filled, caplog):
    extract(ToyEmbedder(tap=2), filled.manifest("d"), filled, dataset="d")
    other = next(f for f in filled.features("d") if len(f.shard_paths()) == 1)
    other.shard_paths()[0].write_bytes(b"no shard")
    for _ in range(2):
        (found,) = find_garbage(filled, now=True)
        assert found.path.parent != other.folder
    assert caplog.text.count(f"feature {other.label} of dataset d is left alone") == 1
