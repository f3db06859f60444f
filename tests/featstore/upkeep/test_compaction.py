from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.featstore import Store, extract
from cer_fusion.featstore.errors import DamagedShardError, FeatstoreError
from cer_fusion.featstore.rows.counting import counts_by_sums
from cer_fusion.featstore.rows.feature import Feature
from cer_fusion.featstore.rows.shard import read_strings
from cer_fusion.featstore.upkeep.compaction import compact
from cer_fusion.featstore.upkeep.garbage import find_garbage, remove_garbage
from tests.featstore.conftest import ToyEmbedder
from tests.featstore.history import histories, holdings, lived
from tests.featstore.rows.test_counting import Listed


def names(store):
    return [path.name for path in store.feature("toy").shard_paths()]


def rewrite(store, **options):
    return compact(store.feature("toy"), store.manifest(), **options)


@pytest.fixture
def grown(store, make_manifest):
    """Twenty samples in ten shards of one or two rows, since the manifest grew ten times; one is in quarantine."""
    manifest = make_manifest(20, contents={7: b"BAD"})
    for n in range(2, 21, 2):
        extract(ToyEmbedder(), manifest.keep(i < n for i in range(20)), store, dataset="d", shard_rows=2)
    return store


def test_small_shards_become_full_ones_in_manifest_order(grown):
    before = holdings(grown)
    report = rewrite(grown, shard_rows=8)
    assert (report.shards_before, report.shards_after, report.written) == (10, 3, 3)
    assert (report.rows, report.quarantined, report.unlisted, report.by_others) == (19, 1, 0, 0)
    assert holdings(grown) == before
    remove_garbage(find_garbage(grown, now=True))
    assert holdings(grown) == before
    headers = sorted(grown.feature("toy").headers(), key=lambda h: h.index)
    found = [sample_id for header in headers for sample_id in read_strings(header, "ids")]
    assert found == [sample_id for sample_id in grown.manifest().ids if sample_id != "s0007"]
    assert [(h.index, h.rows, len(h.quarantined)) for h in headers] == [(0, 7, 1), (1, 8, 0), (2, 4, 0)]
    assert sum(path.stat().st_size for path in grown.feature("toy").shard_paths()) == report.nbytes_after


def test_a_feature_of_one_unbroken_run_is_left_alone(store, make_manifest):
    extract(ToyEmbedder(), make_manifest(20, contents={7: b"BAD"}), store, dataset="d", shard_rows=8)
    before = names(store)
    report = rewrite(store, shard_rows=8)
    assert (report.written, report.replaced, report.shards_before, report.shards_after) == (0, (), 3, 3)
    assert report.nbytes_before == report.nbytes_after
    assert names(store) == before


def test_only_the_shards_that_are_not_full_are_rewritten(store, make_manifest):
    manifest = make_manifest(20)
    extract(ToyEmbedder(), manifest.keep(i < 19 for i in range(20)), store, dataset="d", shard_rows=8)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=8)
    report = rewrite(store, shard_rows=8)
    assert (report.shards_before, report.shards_after, report.written, len(report.replaced)) == (4, 3, 1, 2)


def test_compacting_twice_changes_nothing(grown):
    first = rewrite(grown, shard_rows=8)
    before = names(grown)
    again = rewrite(grown, shard_rows=8)
    assert (again.written, again.shards_after, again.nbytes_after) == (0, 3, first.nbytes_after)
    assert set(again.replaced) == set(first.replaced)
    assert names(grown) == before
    remove_garbage(find_garbage(grown, now=True))
    assert rewrite(grown, shard_rows=8).replaced == ()


def test_a_dry_run_writes_nothing_and_foretells_the_sizes(grown):
    before = names(grown)
    told = rewrite(grown, shard_rows=8, dry_run=True)
    assert names(grown) == before
    done = rewrite(grown, shard_rows=8)
    assert (told.shards_after, told.written, told.replaced) == (done.shards_after, done.written, done.replaced)
    assert told.nbytes_after == pytest.approx(done.nbytes_after, rel=0.25)


@settings(max_examples=30, deadline=None)
@given(history=histories, shard_rows=st.integers(1, 5), drop_unlisted=st.booleans())
def test_whatever_a_feature_went_through_compacting_keeps_rows_and_quarantine(history, shard_rows, drop_unlisted):
    with lived(history) as store:
        before = holdings(store, listed_only=drop_unlisted)
        report = rewrite(store, shard_rows=shard_rows, drop_unlisted=drop_unlisted)
        assert holdings(store, listed_only=drop_unlisted) == before
        remove_garbage(find_garbage(store, now=True, unlisted=drop_unlisted))
        assert holdings(store, listed_only=False) == before
        assert len(names(store)) == report.shards_after
        assert (report.rows + report.quarantined) == len(before)
        ids = store.manifest().ids
        for feature in store.features():
            assert counts_by_sums(feature.headers(), Listed(ids)) in (None, feature.index().counts_of(ids))
        again = rewrite(store, shard_rows=shard_rows, drop_unlisted=drop_unlisted)
        assert (again.written, again.replaced) == (0, ())


@pytest.mark.parametrize("survives", range(4))
def test_a_run_that_is_killed_leaves_every_row_and_the_next_goes_on(grown, monkeypatch, survives):
    before = holdings(grown)
    commit, done = Feature.commit, []

    def killed(self, rows, **options):
        if len(done) == survives:
            raise KeyboardInterrupt
        done.append(commit(self, rows, **options))
        return done[-1]

    monkeypatch.setattr(Feature, "commit", killed)
    if survives < 3:
        with pytest.raises(KeyboardInterrupt):
            rewrite(grown, shard_rows=8)
    else:
        rewrite(grown, shard_rows=8)
    monkeypatch.undo()
    assert holdings(grown) == before
    remove_garbage(find_garbage(grown, now=True))
    assert holdings(grown) == before
    assert rewrite(grown, shard_rows=8).written == 3 - survives
    assert holdings(grown) == before


def test_rows_of_samples_that_left_the_manifest_follow_the_others(grown):
    manifest = grown.manifest()
    grown.use_manifest("d", manifest.keep(i >= 6 for i in range(20)))
    before = holdings(grown)
    report = rewrite(grown, shard_rows=8)
    assert (report.unlisted, report.shards_after) == (6, 3)
    remove_garbage(find_garbage(grown, now=True, unlisted=True))
    assert set(holdings(grown)) == set(manifest.ids[6:])
    grown.use_manifest("d", manifest)
    assert before.keys() >= holdings(grown).keys()


def test_rows_of_samples_that_left_the_manifest_are_dropped_on_request(grown):
    manifest = grown.manifest()
    grown.use_manifest("d", manifest.keep(i >= 6 for i in range(20)))
    report = rewrite(grown, shard_rows=8, drop_unlisted=True)
    assert (report.rows, report.quarantined, report.unlisted, report.shards_after) == (13, 1, 6, 2)
    assert len(holdings(grown)) == 20  # until they are collected
    remove_garbage(find_garbage(grown, now=True, unlisted=True))
    assert set(holdings(grown)) == set(manifest.ids[6:])


def test_after_compacting_nothing_needs_to_be_embedded_again(grown):
    rewrite(grown, shard_rows=8)
    remove_garbage(find_garbage(grown, now=True))
    again = ToyEmbedder()
    report = extract(again, grown.manifest(), grown, dataset="d", shard_rows=8)
    assert (report.already, again.embedded) == (20, [])
    (grown.manifest().root / "3.png").write_bytes(b"another")
    assert extract(ToyEmbedder(), grown.manifest(), grown, dataset="d", shard_rows=8).embedded == 1
    assert holdings(grown)["s0003"][1] == (np.frombuffer(b"anot", np.uint8).astype(np.float32) / 7).tobytes()


def test_a_damaged_row_is_never_copied(grown):
    path = grown.feature("toy").shard_paths()[5]
    header = next(h for h in grown.feature("toy").headers() if h.path == path)
    data = bytearray(path.read_bytes())
    data[header.segments["blocks/left"].offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedShardError, match="verify --repair"):
        rewrite(grown, shard_rows=8)
    assert path.exists()


def test_a_row_that_another_run_replaces_meanwhile_counts_in_the_end(grown):
    (grown.manifest().root / "19.png").write_bytes(b"another")

    def extract_too(stage, done, total):
        if done == 1:
            other = Store(grown.path)
            assert extract(ToyEmbedder(), other.manifest(), other, dataset="d", shard_rows=2).embedded == 1

    report = rewrite(grown, shard_rows=8, progress=extract_too)
    assert (report.by_others, report.written) == (1, 3)
    expected = (np.frombuffer(b"anot", np.uint8).astype(np.float32) / 7).tobytes()
    assert holdings(grown)["s0019"][1] == expected
    remove_garbage(find_garbage(grown, now=True))
    assert holdings(grown)["s0019"][1] == expected
    assert len(holdings(grown)) == 20


def test_a_row_that_a_run_replaces_while_its_feature_is_compacted_counts_too(grown):
    """The other way round: the extract began before, and commits after the compact shards are there."""
    (grown.manifest().root / "19.png").write_bytes(b"another")
    embedder = ToyEmbedder()
    embed = embedder.embed

    def compact_first(pictures):
        other = Store(grown.path)
        compact(other.feature("toy"), other.manifest(), shard_rows=8)
        return embed(pictures)

    embedder.embed = compact_first
    extract(embedder, grown.manifest(), grown, dataset="d", shard_rows=2)
    assert holdings(grown)["s0019"][1] == (np.frombuffer(b"anot", np.uint8).astype(np.float32) / 7).tobytes()


def test_a_feature_without_rows_is_compact(store, make_manifest):
    store.use_manifest("d", make_manifest(3))
    store.create_feature("d", extract_spec(store, make_manifest))
    report = rewrite(store)
    assert (report.shards_before, report.shards_after, report.written) == (0, 0, 0)


def extract_spec(store, make_manifest):
    other = Store.create(store.path.parent / "other")
    extract(ToyEmbedder(), make_manifest(3), other, dataset="d")
    return other.feature("toy").spec


def test_shards_hold_at_least_one_row(grown):
    with pytest.raises(FeatstoreError, match="at least 1"):
        rewrite(grown, shard_rows=0)


def test_memory_does_not_grow_with_the_number_of_shards(store, make_manifest):
    """Each new shard is gathered and written before the next one is begun."""
    manifest = make_manifest(64)
    wide = ToyEmbedder()
    wide.blocks = {"left": 20_000, "right": 3}
    wide.embed = lambda pictures: {  # 80 kB a row
        "left": np.repeat(pictures[:, :1].astype(np.float32), 20_000, axis=1), "right": np.zeros((len(pictures), 3)),
    }  # fmt: skip
    extract(wide, manifest, store, dataset="d", shard_rows=1)
    peaks = {}
    for n in (16, 64):
        tracemalloc.start()
        compact(store.feature("toy"), manifest.keep(i < n for i in range(64)), shard_rows=8, drop_unlisted=True)
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[64] < 1.5 * peaks[16]
