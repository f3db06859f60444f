from __future__ import annotations

import gc

import numpy as np
import pytest

from featstore import extract
from featstore.errors import DamagedShardError

from .conftest import ToyEmbedder


class WideEmbedder(ToyEmbedder):
    """Rows of 512 columns, so that blocks are page-aligned as real ones are."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = {"wide": 512}

    def embed(self, pictures):
        return {"wide": np.repeat(pictures.astype(np.float32), 32, axis=1)}


@pytest.fixture(params=["float32", "float16"])
def filled(request, store, make_manifest):
    extract(WideEmbedder(), make_manifest(40), store, dataset="d", shard_rows=7, dtype=request.param)
    return store


def both(store):
    return store.view(["toy"]).blocks["toy"], store.view(["toy"], mapped=True).blocks["toy"]


@pytest.mark.parametrize(
    "key",
    [0, -1, np.int64(8), slice(None), slice(2, 6), slice(5, 9), slice(None, None, 3), slice(9, 2, -1), slice(3, 3)],
    ids=str,
)
def test_a_mapped_block_is_indexed_as_an_array_is(filled, key):
    loaded, mapped = both(filled)
    np.testing.assert_array_equal(mapped[key], loaded[key])
    np.testing.assert_array_equal(mapped[key, 3:5], loaded[key, 3:5])


@pytest.mark.parametrize("key", [[3, 39, 0, 3], np.arange(40) % 3 == 0, np.array([], dtype=int)], ids=str)
def test_rows_are_gathered_from_many_shards_in_the_order_asked_for(filled, key):
    loaded, mapped = both(filled)
    np.testing.assert_array_equal(mapped[key], loaded[key])
    assert mapped[key].dtype == np.float32


@pytest.mark.parametrize("key", [40, -41, [0, 40], "wide"])
def test_a_row_that_is_not_there_is_an_index_error(filled, key):
    with pytest.raises(IndexError):
        both(filled)[1][key]


def test_taking_rows_keeps_them_mapped_and_asarray_loads_them(filled):
    loaded, mapped = both(filled)
    rows = np.array([12, 3, 30])
    np.testing.assert_array_equal(np.asarray(mapped.take(rows)), loaded[rows])
    np.testing.assert_array_equal(mapped.take(rows).take(np.array([1]))[0], loaded[3])
    view = filled.view(["toy"], mapped=True)
    train = view.take([split == "train" for split in view.splits])
    assert type(train.blocks["toy"]) is type(mapped)
    np.testing.assert_array_equal(train.join(), filled.view(["toy"], split="train").join())


def test_float32_rows_side_by_side_in_a_shard_are_not_copied(store, make_manifest):
    extract(WideEmbedder(), make_manifest(20), store, dataset="d", shard_rows=10)
    mapped = both(store)[1]
    assert not mapped[2:9].flags.owndata
    assert np.shares_memory(mapped[2:9], mapped[4])
    assert not mapped[2:9].flags.writeable
    assert not np.shares_memory(mapped[8:12], mapped[8])  # two shards: a copy


def test_a_row_in_use_keeps_the_file_mapped_when_all_else_is_gone(filled):
    loaded, mapped = both(filled)
    row, rows, last = mapped[39], mapped[0:5], loaded[39].copy()
    first = loaded[:5].copy()
    del mapped, loaded
    gc.collect()
    np.testing.assert_array_equal(row, last)
    np.testing.assert_array_equal(rows, first)


def test_damage_is_found_when_the_row_is_touched(filled):
    feature = filled.feature("toy")
    path = feature.shard_paths()[1]
    header = feature.headers()[1]
    data = bytearray(path.read_bytes())
    data[header.segments["blocks/wide"].offset + 100] ^= 1
    path.write_bytes(data)
    mapped = both_mapped(filled)
    mapped[0]  # another shard
    for touch in (lambda: mapped[7], lambda: mapped[[0, 13]], lambda: mapped[0:20], lambda: np.asarray(mapped)):
        with pytest.raises(DamagedShardError, match=path.name):
            touch()


def both_mapped(store):
    return store.view(["toy"], mapped=True).blocks["toy"]


def test_more_shards_can_be_mapped_than_files_may_be_open(store, make_manifest):
    resource = pytest.importorskip("resource")
    extract(WideEmbedder(), make_manifest(90), store, dataset="d", shard_rows=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        loaded, mapped = both(store)
        np.testing.assert_array_equal(np.asarray(mapped), loaded)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
