"""Counts by sums of hashes, against the index, which looks every sample up."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.featstore import Feature, Store, extract
from cer_fusion.featstore.errors import DamagedShardError
from cer_fusion.featstore.manifests import manifest as manifests
from cer_fusion.featstore.manifests import sidecar as sidecars
from cer_fusion.featstore.manifests.manifest import Manifest
from cer_fusion.featstore.rows import counting, keys
from cer_fusion.featstore.rows.counting import counts_by_index, counts_by_sums
from cer_fusion.featstore.rows.index import make_index
from cer_fusion.featstore.rows.keys import keys_of, keys_of_first_cells, sums_from_text, sums_to_text
from cer_fusion.featstore.rows.shard import Rows, encode, read_header
from tests.featstore.conftest import ToyEmbedder


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch):
    for module in (keys, counting):
        monkeypatch.setattr(module, "SUMMED", 4)
    monkeypatch.setattr(counting, "_AT_A_TIME", 5)
    monkeypatch.setattr(manifests, "BLOCK_ROWS", 2)
    monkeypatch.setattr(sidecars, "BLOCK_ROWS", 2)


class Listed:
    """A manifest of these ids, which counts the samples that are read of it."""

    def __init__(self, ids: list[str]) -> None:
        self.ids, self.ids_sums, self.read = ids, sums_to_text(ids), 0

    def __len__(self) -> int:
        return len(self.ids)

    def keys(self, samples: range) -> keys.Keys:
        self.read += len(samples)
        return keys_of(self.ids[samples.start : samples.stop])


def shard(folder, ids, index, generation=0, refused=()):
    rows = Rows(
        ids=ids,
        image_digests=[f"{number:064x}" for number in range(len(ids))],
        blocks={"b": np.zeros((len(ids), 1), dtype=np.float32)},
        quarantined=[(one, "", "bad") for one in refused],
    )
    name, data = encode(rows, fingerprint="f" * 64, index=index, generation=generation)
    (folder / name).write_bytes(data)
    return read_header(folder / name)


def dealt(folder, ids, shard_rows, *, without=(), refused=()):
    """The shards that a run deals the samples into, but for some of them."""
    found = []
    for index, start in enumerate(range(0, len(ids), shard_rows)):
        part = ids[start : start + shard_rows]
        if index not in without:
            bad = [one for one in part if one in refused]
            found.append(shard(folder, [one for one in part if one not in refused], index, refused=bad))
    return found


def ids_of(n):
    return [f"s{i}" for i in range(n)]


changes = st.lists(
    st.tuples(
        st.sampled_from(["again", "part", "foreign", "elsewhere", "refused"]), st.integers(0, 9), st.integers(0, 2)
    ),
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 30),
    shard_rows=st.integers(1, 9),
    without=st.sets(st.integers(0, 9)),
    changes=changes,
    left_out=st.sets(st.integers(0, 29), max_size=2),
    added=st.integers(0, 3),
)
def test_sums_count_what_the_index_counts_or_do_not_tell(
    tmp_path_factory, n, shard_rows, without, changes, left_out, added
):
    folder, ids = tmp_path_factory.mktemp("shards"), ids_of(n)
    headers = dealt(folder, ids, shard_rows, without=without, refused=ids[1::7])
    for what, index, generation in changes:
        own = ids[index * shard_rows : (index + 1) * shard_rows]
        if what == "foreign":
            headers.append(shard(folder, ["x", "y"], index, generation))
        elif what == "elsewhere":
            headers.append(shard(folder, ids[:2], index, generation))
        elif own:
            rows = own if what == "again" else own[::2]
            headers.append(shard(folder, rows, index, generation, refused=own[1::2] if what == "refused" else ()))
    headers = list({header.path: header for header in headers}.values())
    now = [one for number, one in enumerate(ids) if number not in left_out] + [f"new{i}" for i in range(added)]
    if now:
        found = counts_by_sums(headers, Listed(now))
        assert found in (None, make_index(headers).counts_of(now))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(12, 60), shard_rows=st.integers(1, 12), without=st.sets(st.integers(1, 59)), added=st.integers(0, 9)
)
def test_what_is_done_of_a_run_is_always_told(tmp_path_factory, n, shard_rows, without, added):
    folder, ids = tmp_path_factory.mktemp("shards"), ids_of(n)
    headers = dealt(folder, ids, shard_rows, without=without, refused=ids[1::7])
    now = ids + [f"new{i}" for i in range(added)]
    assert counts_by_sums(headers, Listed(now)) == make_index(headers).counts_of(now)


def test_no_sample_is_read_of_a_feature_that_is_complete_or_lacks_whole_shards(tmp_path):
    ids = ids_of(50)
    for without in ((), (3,), (0, 5, 12)):
        listed = Listed(ids)
        found = counts_by_sums(dealt(tmp_path, ids, 4, without=without, refused=ids[::9]), listed)
        assert found is not None
        assert sum(found) == 50 - 4 * len(without) + 2 * (12 in without)
        assert listed.read == 0
    headers = [*dealt(tmp_path, ids, 4), shard(tmp_path, ids[8:12], 2, generation=1, refused=())]
    listed = Listed(ids)
    assert counts_by_sums(headers, listed) == (50, 0)  # one shard was made anew
    assert listed.read == 0


def test_a_part_of_shards_of_any_size_is_told_and_reads_each_id_once_at_most(tmp_path):
    ids = ids_of(50)
    listed = Listed(ids)
    assert counts_by_sums(dealt(tmp_path, ids, 3, without=range(1, 17, 2)), listed) == (26, 0)
    assert listed.read == 50


def test_where_too_many_shards_would_have_to_be_looked_at_sums_do_not_tell(tmp_path, monkeypatch):
    ids = ids_of(20)
    headers = [*dealt(tmp_path, ids, 4, without=[1, 2]), shard(tmp_path, ids[4:6], 1), shard(tmp_path, ids[8:9], 2)]
    assert counts_by_sums(headers, Listed(ids)) == (15, 0)
    monkeypatch.setattr(counting, "_MOST_APART", 7)
    assert counts_by_sums(headers, Listed(ids)) is None
    assert counts_by_index(make_index(headers), Listed(ids)) == (15, 0)


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1), min_size=1))
def test_first_cells_of_lines_have_the_hashes_of_their_texts_or_are_left_to_a_reader_of_csv(texts):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows((text, f"{number}.png", "") for number, text in enumerate(texts))
    found = keys_of_first_cells(out.getvalue().encode())
    assert (found is None) == ('"' in out.getvalue())
    assert found is None or np.array_equal(found, keys_of(texts))


@pytest.mark.parametrize("rows", [b"a,1\nb", b"a,1\nb\n", b"b\na,1\n", b"a\n", b"a,1\r\nb,2\n", b"a,1\n\0,1\n"])
def test_lines_that_are_none_of_a_manifest_have_no_first_cells(rows):
    assert keys_of_first_cells(rows) is None


def test_a_manifest_whose_samples_stand_in_another_order_is_counted_when_complete_and_else_left_to_the_index(tmp_path):
    ids = ids_of(20)
    assert counts_by_sums(dealt(tmp_path, ids, 4), Listed(ids[::-1])) == (20, 0)
    assert counts_by_sums(dealt(tmp_path, ids, 4, without=[2]), Listed(ids[::-1])) is None


def test_sums_of_another_number_of_samples_are_no_sums():
    text = sums_to_text(ids_of(9))
    assert sums_from_text(text, 9) is not None
    for other, samples in ((text, 8 + 5), (text[:-16], 9), (text[:-1], 9), ("", 9), ("x" * len(text), 9)):
        assert sums_from_text(other, samples) is None


def test_a_large_dataset_is_counted_without_its_samples_and_its_index(store, make_manifest):
    manifest = make_manifest(9)
    extract(ToyEmbedder(), manifest, store, dataset="faces", shard_rows=4)
    opened = Store(store.path)
    with (
        mock.patch.object(Manifest, "read", side_effect=AssertionError("the manifest was read")),
        mock.patch.object(Feature, "index", side_effect=AssertionError("the index was made")),
    ):
        assert opened.counts(opened.feature("toy")) == (9, 0)
        assert opened.size() == 9
    beside = store.path / "faces" / "manifest.json"
    assert json.loads(beside.read_text(encoding="utf-8"))["blocks"]["ids_sums"]


def test_a_shard_whose_ids_are_damaged_is_not_counted(store, make_manifest):
    extract(ToyEmbedder(), make_manifest(9), store, dataset="faces", shard_rows=4)
    feature = store.feature("toy")
    path: Path = feature.shard_paths()[1]
    data = bytearray(path.read_bytes())
    data[feature.headers()[1].segments["ids"].offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedShardError, match=r"/ids does not match its digest"):
        Store(store.path).counts(Feature(feature.folder))
