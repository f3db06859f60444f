"""Joins in pieces, and their products."""

from __future__ import annotations

import numpy as np
import pytest
import threadpoolctl

from cer_fusion.fusion import BlockError, concat
from cer_fusion.fusion.data.joined import (
    CHUNK,
    LARGEST_PIECE,
    PIECE_BYTES,
    JoinedRows,
    TakenBlock,
    divided_product,
    each_piece,
    one_blas_thread_each,
)
from tests.fusion.lazy import LazyBlock, lazy_join


@pytest.fixture
def blocks() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.normal(size=(700, width)).astype(np.float32) for name, width in {"vit": 5, "manet": 3}.items()}


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr("cer_fusion.fusion.data.joined.LARGEST_PIECE", CHUNK)


KEYS = [
    slice(None),
    slice(3, 40),
    slice(40, 3, -7),
    slice(0, 0),
    [5, 2, 5],
    np.array([-1, 0]),
    np.arange(700) % 3 == 0,
    9,
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_any_rows_are_those_of_the_loaded_join(key, blocks):
    found = lazy_join(blocks)[np.asarray(key) if isinstance(key, list) else key]
    np.testing.assert_array_equal(found, concat(blocks)[key])
    assert found.dtype == np.float32


def test_it_says_what_it_is_without_reading(blocks):
    joined = lazy_join(blocks)
    assert (joined.shape, joined.dtype, joined.ndim, len(joined)) == ((700, 8), np.float32, 2, 700)
    assert joined.nbytes == concat(blocks).nbytes
    assert joined.widths == {"vit": 5, "manet": 3}
    assert not joined.blocks["vit"].asked


def test_pieces_cover_all_rows_in_order(blocks, small_pieces):
    joined = lazy_join(blocks)
    for rows in (None, 100):
        found = list(joined.pieces(rows))
        assert [where.start for where, _ in found] == list(range(0, 700, rows or CHUNK))
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in found]), concat(blocks))


def test_numpy_asarray_loads_all_in_pieces(blocks, small_pieces):
    joined = lazy_join(blocks)
    np.testing.assert_array_equal(np.asarray(joined), concat(blocks))
    assert np.asarray(joined, dtype=np.float64).dtype == np.float64
    assert joined.blocks["vit"].largest == CHUNK


@pytest.mark.parametrize("width", [1, 28, 2304, 100_000])
def test_a_piece_is_bounded_in_bytes_and_begins_with_a_chunk(width):
    where = next(JoinedRows({"x": np.empty((10_000, width), np.float32)}).places())
    assert where.stop % CHUNK == 0
    assert where.stop <= LARGEST_PIECE
    assert where.stop * width * 4 <= max(PIECE_BYTES, CHUNK * width * 4)


@pytest.mark.parametrize("where", [np.arange(700) % 7 == 2, np.array([9, 3, 600]), slice(10, 20), [1, 2]])
def test_taking_rows_reads_nothing_and_can_be_repeated(where, blocks):
    joined = lazy_join(blocks)
    once = joined.take(where)
    twice = once.take(np.array([1, 0]))
    assert not joined.blocks["vit"].asked
    expected = concat(blocks)[where]
    np.testing.assert_array_equal(np.asarray(once), expected)
    np.testing.assert_array_equal(twice[:], expected[[1, 0]])
    assert isinstance(twice.blocks["vit"], TakenBlock)
    assert isinstance(twice.blocks["vit"].block, LazyBlock)


def test_arrays_among_lazy_blocks_are_joined_too(blocks):
    joined = JoinedRows({"vit": LazyBlock(blocks["vit"]), "manet": blocks["manet"]}).take([4, 2])
    np.testing.assert_array_equal(np.asarray(joined), concat(blocks)[[4, 2]])


def test_work_on_pieces_comes_back_in_order(blocks, small_pieces):
    joined = lazy_join(blocks)
    found = list(each_piece(joined, lambda start, rows: (start, rows.sum(dtype=np.float64))))
    expected = [(start, concat(blocks)[start : start + CHUNK].sum(dtype=np.float64)) for start in (0, 256, 512)]
    assert found == expected
    assert list(each_piece(concat(blocks), lambda start, rows: (start, len(rows)))) == [(0, 700)]


def test_an_error_in_one_piece_reaches_whoever_asked(blocks, small_pieces):
    def fail(start: int, rows: np.ndarray) -> int:
        if start == 256:
            raise ValueError("piece 256")
        return start

    with pytest.raises(ValueError, match="piece 256"):
        list(each_piece(lazy_join(blocks), fail))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no block to join"),
        ({"vit": np.zeros(3, np.float32)}, "must have shape"),
        ({"vit": np.zeros((3, 2), np.float32), "manet": np.zeros((4, 2), np.float32)}, "vit=3, manet=4 rows"),
    ],
)
def test_blocks_that_do_not_fit_together_are_refused(given, message):
    with pytest.raises(BlockError, match=message):
        JoinedRows(given)


def test_a_lazy_block_is_not_concatenated_by_accident(blocks):
    with pytest.raises(BlockError, match=r"not loaded\n.*JoinedRows"):
        concat({"vit": LazyBlock(blocks["vit"])})


def test_it_never_pretends_to_be_an_array_without_a_copy(blocks):
    joined = lazy_join(blocks)
    for one in (joined, joined.take([1]).blocks["vit"]):
        with pytest.raises(ValueError, match="without copying"):
            one.__array__(copy=False)  # np.asarray asks so since NumPy 2


def blas_threads() -> set[int]:
    return {one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"}


def test_blas_has_one_thread_inside_and_as_many_as_before_after_it():
    before = blas_threads()
    with one_blas_thread_each() as pool:
        assert set().union(*pool.map(lambda _: blas_threads(), range(4))) == {1}
    assert blas_threads() == before


@pytest.mark.parametrize("shape", [(3, 5, 7), (90, 400, 500), (64, 4096, 65)])
def test_a_divided_product_is_the_product_whatever_the_number_of_threads(shape):
    m, d, n = shape
    random = np.random.default_rng(0)
    a, b = (random.normal(size=size).astype(np.float32) for size in ((m, d), (d, n)))
    found = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"), one_blas_thread_each() as pool:
            found.append(divided_product(pool)(a, b))
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], a @ b, atol=2e-4 * np.sqrt(d))
