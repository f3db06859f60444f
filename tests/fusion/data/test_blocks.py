"""Blocks joined, and grids of weights."""

from __future__ import annotations

from decimal import Decimal
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cer_fusion.fusion import BlockError, concat, parse_weights, slices, widths_of
from cer_fusion.fusion.data.blocks import PAPER_MARK, Grid, even_simplex, parse_grid, parse_simplex, simplex, split
from cer_fusion.fusion.errors import SweepError


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


MANET = ["manet.local", "manet.multi_scale"]
FEATURES = {"vit": ["vit"], "manet": MANET, "resnet50": ["resnet50"]}


def test_a_range_holds_both_ends_in_exact_decimals():
    grid = parse_grid(["manet.local=0:1:0.1", "manet.multi_scale=1-"], MANET)
    assert grid.weights[:, 0].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert grid.weights[:, 1].tolist() == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]


def test_the_papers_point_is_found_in_the_grid():
    grid = parse_grid(["manet.local=0:1:0.1", "manet.multi_scale=1-"], MANET)
    assert grid.vector(grid.find(PAPER_MARK)) == PAPER_MARK


def test_columns_follow_the_blocks_not_the_order_of_the_words():
    grid = parse_grid(["manet.multi_scale=2", "manet.local=0:1:0.5"], MANET)
    assert grid.weights.tolist() == [[0, 2], [0.5, 2], [1, 2]]


def test_what_is_left_of_one_is_never_negative():
    grid = parse_grid(["a=0:1:0.5", "b=0:1:0.5", "c=1-"], "abc")
    assert (grid.weights.sum(axis=1) == 1).all()
    assert len(grid) == 6


def test_a_vector_of_zeros_is_no_part_of_a_grid():
    assert parse_grid(["a=0:1:1", "b=0:1:1"], "ab").weights.tolist() == [[0, 1], [1, 0], [1, 1]]


def test_a_mark_is_found_by_proportion_and_only_when_unique():
    fixed = parse_grid(["vit=1", "manet.local=0:6:1", "manet.multi_scale=4"], ["vit", *MANET])
    assert fixed.vector(fixed.find(PAPER_MARK)) == {"vit": 1, "manet.local": 6, "manet.multi_scale": 4}
    free = parse_grid(["vit=0:1:0.5", "manet.local=6", "manet.multi_scale=4"], ["vit", *MANET])
    assert free.find(PAPER_MARK) is None
    assert parse_grid(["vit=0:1:0.5"], ["vit"]).find(PAPER_MARK) is None


def test_a_simplex_shares_a_features_weight_among_its_blocks():
    grid = parse_simplex("resnet50,manet:0.5", FEATURES)
    assert grid.blocks == ("manet.local", "manet.multi_scale", "resnet50")
    assert grid.weights.tolist() == [[0.5, 0.5, 0], [0.25, 0.25, 0.5], [0, 0, 1]]


def test_a_simplex_takes_blocks_by_name_as_well():
    grid = parse_simplex("manet.local,vit:0.5", FEATURES)
    assert grid.blocks == ("vit", "manet.local")
    assert grid.weights.tolist() == [[1, 0], [0.5, 0.5], [0, 1]]


@given(st.integers(2, 4), st.sampled_from(["1", "0.5", "0.25", "0.2", "0.1"]))
def test_a_simplex_holds_every_multiple_of_its_step_once(m, step):
    points = simplex(m, Decimal(step))
    units = round(1 / float(step))
    assert len(points) == comb(units + m - 1, m - 1) == len(np.unique(points, axis=0))
    assert np.allclose(points.sum(axis=1), 1)
    assert np.allclose(points * units, np.round(points * units))


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["0.6/0.4"], "every weight names its block"),
        (["0.6", "0.4"], "every weight names its block"),
        (["manet.lokal=1"], r"no block 'manet\.lokal'.*'manet\.local'"),
        (["manet.local=1", "manet.local=2"], "given twice"),
        (["manet.local=0:1:0.1"], r"no weight for block 'manet\.multi_scale'[^§]*=1-"),
        (["manet.local=1-", "manet.multi_scale=1-"], "only one block"),
        (["manet.local=0:1", "manet.multi_scale=1"], "start:stop:step"),
        (["manet.local=0:1:0", "manet.multi_scale=1"], "positive step"),
        (["manet.local=1:0:0.1", "manet.multi_scale=1"], "start <= stop"),
        (["manet.local=x", "manet.multi_scale=1"], "'x' in 'manet.local=x' is no number"),
        (["manet.local=-1", "manet.multi_scale=1"], "between 0 and"),
        (["manet.local=nan", "manet.multi_scale=1"], "between 0 and"),
        (["manet.local=0:1:1e-9", "manet.multi_scale=1"], "take a larger step"),
        (["manet.local=0:1:0.001", "manet.multi_scale=0:1:0.001"], "1,002,001 weight vectors"),
        (["manet.local=0", "manet.multi_scale=0"], "the grid is empty"),
        (["manet.local=2", "manet.multi_scale=1-"], "the grid is empty"),
    ],
)
def test_a_grid_that_cannot_be_read_says_why(specs, message):
    with pytest.raises(SweepError, match=message):
        parse_grid(specs, MANET)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vit,manet", "and a step"),
        ("vit:0.1", "two or more"),
        ("vit,vit:0.1", "two or more"),
        ("vit,manett:0.1", "'manett'.*'manet'"),
        ("manet,manet.local:0.5", "stands twice"),
        ("vit,manet:0.3", "must divide 1"),
        ("vit,manet:0", "must divide 1"),
        ("vit,manet:2", "must divide 1"),
        ("vit,manet:1e-30", "must divide 1"),
        ("vit,manet,resnet50:0.001", "weight vectors"),
        ("vit,manet:x", "is no number"),
    ],
)
def test_a_simplex_that_cannot_be_read_says_why(spec, message):
    with pytest.raises(SweepError, match=message):
        parse_simplex(spec, FEATURES)


@pytest.mark.parametrize("weights", [[[0.0, 0.0]], [[-1.0, 1.0]], [[np.inf, 1.0]], [[1.0]], np.zeros((0, 2))])
def test_weights_that_cannot_weigh_are_refused(weights):
    with pytest.raises(SweepError):
        Grid(("a", "b"), np.array(weights))


@pytest.mark.parametrize(
    ("m", "most", "count"), [(2, 300, 21), (3, 300, 231), (4, 300, 286), (5, 300, 126), (9, 300, 45), (400, 300, 400)]
)
def test_an_even_simplex_is_the_finest_that_the_limit_allows(m, most, count):
    grid = even_simplex(tuple(f"block{i}" for i in range(m)), most)
    assert len(grid) == count
    assert np.allclose(grid.weights.sum(axis=1), 1)
