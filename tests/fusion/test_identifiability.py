from __future__ import annotations

import pytest
from sklearn.base import BaseEstimator

from fusion import make_head
from fusion.identifiability import caveat, unidentifiable


class Concatenating(BaseEstimator):
    """A weighted head of somebody's own."""

    def __init__(self, weights=None, head="linear", standardize="none", head_params=None):
        self.weights = weights
        self.head = head
        self.standardize = standardize
        self.head_params = head_params


@pytest.mark.parametrize("head", [make_head("late"), make_head("weighted"), make_head("weighted", mode="sum")])
def test_weights_matter_where_decisions_or_normalised_blocks_are_mixed(head):
    assert unidentifiable(head) is None
    assert caveat(head) is None


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_head_without_block_weights_cannot_be_swept(name):
    reason = unidentifiable(make_head(name))
    assert reason is not None
    assert "no block weights to sweep" in reason
    assert "head 'late'" in reason


@pytest.mark.parametrize("trees", ["xgboost", "histgb"])
def test_scaling_blocks_is_a_no_op_for_trees(trees):
    assert "exact no-op for trees" in unidentifiable(Concatenating(head=trees))


def test_a_standardiser_after_the_weights_undoes_them():
    assert "undoes them" in unidentifiable(Concatenating(standardize="standard"))
    assert "undoes them" in unidentifiable(Concatenating(head_params={"standardize": "standard"}))
    assert unidentifiable(Concatenating()) is None


def test_blocks_of_their_own_scale_blur_the_weights():
    assert "cannot be compared" in caveat(make_head("weighted", normalize="none"))
