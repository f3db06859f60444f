from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion import BlockError, concat, parse_weights, slices, widths_of
from cer_fusion.fusion.data.blocks import split
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def blocks():
    random = np.random.default_rng(0)
    return {name: random.normal(size=(5, d)).astype(np.float32) for name, d in {"vit": 3, "manet.local": 2}.items()}


def test_concat_equals_numpy_hstack_when_all_weights_are_one(blocks):
    expected = np.hstack(list(blocks.values()))
    np.testing.assert_array_equal(concat(blocks, dict.fromkeys(blocks, 1.0)), expected)
    np.testing.assert_array_equal(concat(blocks), expected)
    assert concat(blocks).dtype == np.float32


def test_concat_scales_each_block_by_its_weight_in_dict_order(blocks):
    joined = concat(blocks, {"manet.local": 0.5, "vit": 2.0})
    np.testing.assert_array_equal(joined[:, :3], blocks["vit"] * np.float32(2))
    np.testing.assert_array_equal(joined[:, 3:], blocks["manet.local"] * np.float32(0.5))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 6))
def test_split_undoes_concat(widths, n):
    random = np.random.default_rng(n)
    blocks = {f"b{i}": random.normal(size=(n, d)).astype(np.float32) for i, d in enumerate(widths)}
    parts = split(concat(blocks), widths_of(blocks))
    assert list(parts) == list(blocks)
    for name, part in parts.items():
        np.testing.assert_array_equal(part, blocks[name])


def test_slices_follow_the_order_of_the_widths():
    assert slices({"b": 2, "a": 3}) == {"b": slice(0, 2), "a": slice(2, 5)}


def test_blocks_of_different_rows_are_refused(blocks):
    with pytest.raises(BlockError, match=r"vit=5, manet\.local=4 rows"):
        concat({**blocks, "manet.local": blocks["manet.local"][:4]})


def test_no_block_and_no_matrix_are_refused():
    with pytest.raises(BlockError, match="no block to join"):
        concat({})
    with pytest.raises(BlockError, match=r"shape \(n, d\)"):
        concat({"vit": np.zeros(3, np.float32)})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"vit": 1.0}, "no weight for block 'manet.local'"),
        ({"vit": 1.0, "manet.locl": 1.0}, "did you mean 'manet.local'"),
        ({"vit": -1.0, "manet.local": 1.0}, "'vit' must be finite and not negative"),
        ({"vit": float("nan"), "manet.local": 1.0}, "'vit' must be finite"),
        ({"vit": "1", "manet.local": 1.0}, "'vit' must be a number"),
        ({"vit": 0.0, "manet.local": 0.0}, "all weights are zero"),
        ([0.6, 0.4], "must name their blocks"),
    ],
)
def test_weights_that_do_not_fit_the_blocks_are_refused(blocks, weights, message):
    with pytest.raises(BlockError, match=message):
        concat(blocks, weights)


def test_weights_are_read_by_name():
    found = parse_weights("manet.multi_scale=0.4, manet.local=0.6", ["manet.local", "manet.multi_scale"])
    assert found == {"manet.local": 0.6, "manet.multi_scale": 0.4}
    assert list(found) == ["manet.local", "manet.multi_scale"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.6/0.4", "opposite orders"),
        ("0.6,0.4", "opposite orders"),
        ("", "must name their blocks"),
        ("a=0.6,a=0.4", "weighed twice"),
        ("a=half,b=1", "must be a number, got 'half'"),
        ("a=0.6,c=0.4", "there is no block 'c'"),
        ("a=0.6", "no weight for block 'b'"),
        ("a=inf,b=1", "finite"),
    ],
)
def test_weights_that_cannot_be_read_are_refused(text, message):
    with pytest.raises(BlockError, match=message):
        parse_weights(text, ["a", "b"])
