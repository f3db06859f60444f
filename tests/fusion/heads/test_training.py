"""Batches from windows: every row once an epoch, in an order that mixes, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cer_fusion.fusion.data.joined import CHUNK
from cer_fusion.fusion.heads.training import HeldBatches, StreamedBatches, batches_of
from tests.fusion.lazy import lazy_join

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


def numbered(n: int) -> np.ndarray:
    return np.stack([np.arange(n), 2 * np.arange(n)], axis=1).astype(np.float32)


def streamed(n: int, *, window_rows: int, **kind) -> StreamedBatches:
    X = numbered(n)
    joined = lazy_join({"a": X[:, :1], "b": X[:, 1:]})
    return StreamedBatches(joined, lambda rows: rows + 1, window_bytes=window_rows * 8, **{**CPU, **kind})


def seen(batches, size: int, seed: int = 0) -> list[np.ndarray]:
    return [index.numpy() for _, index in batches.shuffled(size, torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("n", [1, 255, 256, 257, 2000])
@pytest.mark.parametrize("window_rows", [1, 256, 700, 5000])
@pytest.mark.parametrize("size", [1, 96, 256])
def test_an_epoch_hands_out_every_row_once_in_full_batches(n, window_rows, size):
    size = min(size, n)
    batches = seen(streamed(n, window_rows=window_rows), size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert len(batches) == -(-n // size)
    assert {len(index) for index in batches[:-1]} <= {size}


def test_rows_come_ready_and_with_their_own_numbers():
    for rows, index in streamed(900, window_rows=300).shuffled(64, torch.Generator()):
        np.testing.assert_array_equal(rows.numpy(), numbered(900)[index.numpy()] + 1)


def test_the_order_follows_from_the_seed_alone(monkeypatch):
    first = np.concatenate(seen(streamed(2000, window_rows=512), 64))
    monkeypatch.setattr("cer_fusion.fusion.data.joined.LARGEST_PIECE", 100)
    monkeypatch.setattr("cer_fusion.fusion.data.joined.WORKERS", 1)
    np.testing.assert_array_equal(first, np.concatenate(seen(streamed(2000, window_rows=512), 64)))
    assert (first != np.concatenate(seen(streamed(2000, window_rows=512), 64, seed=1))).any()


def test_a_window_mixes_rows_from_all_over():
    """Rows sorted by class are the worst that a store holds: a window must not be a stretch of them."""
    first_window = np.concatenate(seen(streamed(256 * 64, window_rows=256 * 8), 64))[: 256 * 8]
    assert len(np.unique(first_window // CHUNK)) == 8
    assert np.ptp(first_window) > 256 * 24
    assert (np.abs(np.diff(first_window)) > 1).mean() > 0.9


def test_memory_holds_a_window_and_never_more():
    batches = streamed(256 * 40, window_rows=256 * 4)
    assert batches.window == 256 * 4
    seen(batches, 64)
    assert batches.X.blocks["a"].largest <= 256 * 4


def test_rows_in_order_are_all_rows(monkeypatch):
    monkeypatch.setattr("cer_fusion.fusion.data.joined.LARGEST_PIECE", CHUNK)
    parts = list(streamed(600, window_rows=256).in_order())
    assert len(parts) == 3
    np.testing.assert_array_equal(torch.cat(parts).numpy(), numbered(600) + 1)


def test_arrays_are_held_and_lazy_rows_are_streamed():
    X = numbered(10)
    assert isinstance(batches_of(X, lambda rows: rows, **CPU), HeldBatches)
    lazy = batches_of(lazy_join({"x": X}), lambda rows: rows, **CPU)
    assert isinstance(lazy, StreamedBatches)
    assert sorted(np.concatenate(seen(lazy, 3)).tolist()) == list(range(10))


def test_held_rows_are_one_permutation():
    batches = HeldBatches(numbered(100), **CPU)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(4)).numpy()
    np.testing.assert_array_equal(np.concatenate(seen(batches, 7, seed=4)), order)
    assert batches.window == 0
