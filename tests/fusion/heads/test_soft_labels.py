"""Rows of several classes in part: each head that learns from shares, and what it makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cer_fusion.fusion import HeadDataError, JoinedRows, head_names, make_head
from cer_fusion.fusion.heads import head_class, installed_heads
from cer_fusion.fusion.heads.base import fit_part
from tests.fusion.heads.conftest import CLASSES, QUICK

SOFT = [name for name in installed_heads() if head_class(name).learns_soft_labels]
soft_heads = pytest.mark.parametrize("name", SOFT)
PLAIN = {"logit_adjust": 0.0, "label_smoothing": 0.0}
"""Of networks: nothing but the cross-entropy."""


class Votes:
    """Faces on which annotators disagree: the share of the second class rises along one column, and never wins."""

    def __init__(self, n: int = 600, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.X = random.uniform(-1, 1, size=(n, 4)).astype(np.float32)
        second = 0.24 + 0.22 * self.X[:, 0].astype(np.float64)
        self.shares = np.stack([1 - second, second], axis=1)


def quick(name: str, **more: Any) -> Any:
    return make_head(name, random_state=0, **{**QUICK[name], **more})


def test_the_heads_that_learn_from_shares_are_those_that_are_documented_to():
    documented = {
        "mlp",
        "multitask",
        "sequence",
        "linear",
        "tabm",
        "gated",
        "bilinear",
        "tokens",
        "xgboost",
        "histgb",
        "lightgbm",
        "catboost",
    }
    assert {name for name in head_names() if head_class(name).learns_soft_labels} == documented


@soft_heads
def test_certain_shares_are_labels(name, faces):
    labels = quick(name, blocks=faces.widths).fit(faces.X, faces.names)
    shares = quick(name, blocks=faces.widths).fit(faces.X, np.eye(4)[faces.y], classes=CLASSES)
    assert shares.classes_.tolist() == labels.classes_.tolist() == sorted(CLASSES)
    np.testing.assert_allclose(shares.predict_proba(faces.X), labels.predict_proba(faces.X), atol=1e-6)


@soft_heads
def test_shares_teach_what_the_largest_of_them_hides(name):
    votes, asked = Votes(), Votes(seed=1)
    more = PLAIN if "logit_adjust" in (params := make_head(name).get_params()) else {}
    more |= {"trees": 80, "column_share": 1.0} if "trees" in params else {}
    head = quick(name, **more).fit(votes.X, votes.shares, classes=["clear", "mixed"])
    error = np.abs(head.predict_proba(asked.X) - asked.shares).mean()
    assert head.classes_.tolist() == ["clear", "mixed"]  # though no row has more of the second
    assert error < 0.06  # answering with the mean shares, whatever the row, is .11 off


@soft_heads
def test_the_order_of_the_classes_is_the_users_own(name, faces):
    random = np.random.default_rng(0)
    shares = random.dirichlet([1, 1, 1, 1], size=len(faces.X))
    one = quick(name, blocks=faces.widths).fit(faces.X, shares, classes=CLASSES)
    turned = [2, 0, 3, 1]
    other = quick(name, blocks=faces.widths).fit(faces.X, shares[:, turned], classes=np.array(CLASSES)[turned])
    np.testing.assert_array_equal(one.predict_proba(faces.X), other.predict_proba(faces.X))


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2.0, 1: 0.5, 2: 1.0}])
def test_a_row_of_several_classes_is_a_weighed_row_of_each_to_a_convex_head(class_weight):
    random = np.random.default_rng(0)
    X = random.normal(size=(150, 6)).astype(np.float32)
    shares, weights = random.dirichlet([1.0, 0.7, 0.4], size=150), random.uniform(0.2, 2, 150)
    rows, classes = np.nonzero(shares)
    head = make_head("linear", standardize="none", class_weight=class_weight)
    soft = head.fit(X, shares, sample_weight=weights, classes=[0, 1, 2])
    factors = class_weight
    if class_weight == "balanced":
        factors = dict(enumerate(150 / (3 * shares.sum(axis=0))))
    apart = make_head("linear", standardize="none", class_weight=factors)
    apart.fit(X[rows], classes, sample_weight=shares[rows, classes] * weights[rows])
    np.testing.assert_allclose(soft.predict_proba(X), apart.predict_proba(X), atol=2e-3)


@soft_heads
def test_a_class_without_a_share_is_left_out_as_one_without_rows_is(name, faces):
    shares = np.hstack([np.eye(4)[faces.y], np.zeros((len(faces.X), 1))])
    head = quick(name, blocks=faces.widths).fit(faces.X, shares, classes=[*CLASSES, "Nobody's"])
    assert head.classes_.tolist() == sorted(CLASSES)
    assert head.predict_proba(faces.X).shape == (len(faces.X), 4)


@soft_heads
def test_rows_of_weight_zero_are_as_good_as_not_there(name, faces):
    shares = np.random.default_rng(0).dirichlet([1, 1, 1, 1], size=len(faces.X))
    counts = np.arange(len(faces.X)) % 3 > 0
    all_rows = quick(name, blocks=faces.widths).fit(faces.X, shares, sample_weight=counts * 1.0, classes=CLASSES)
    some = quick(name, blocks=faces.widths)
    some.fit(faces.X[counts], shares[counts], sample_weight=np.ones(counts.sum()), classes=CLASSES)
    np.testing.assert_array_equal(all_rows.predict_proba(faces.X), some.predict_proba(faces.X))


def test_the_pool_learns_its_factors_from_shares_with_videos_whole(faces):
    """A block that tells nothing but the noise of a vote is worth less than one that tells its mean."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    truth = random.dirichlet([0.3] * 3, size=60)[groups]
    told = np.log(truth + 1e-3) @ random.normal(size=(3, 6)) + 0.3 * random.normal(size=(600, 6))
    X = np.hstack([told, random.normal(size=(600, 6))]).astype(np.float32)
    head = make_head("mlp", blocks={"told": 6, "noise": 6}, hidden=(16,), members=4, epochs=20, lr=0.01)
    head.fit(X, truth, groups, classes=["a", "b", "c"])
    assert head.factors_[0] > 5 * max(head.factors_[1], 0.01)


def test_early_stopping_looks_at_shares():
    """Where no row is of one class, the epoch that answers with the shares is kept, not the surest one."""
    votes = Votes(n=300)
    settings = {**PLAIN, "epochs": 40, "early_stop": 0.25, "patience": 3, "lr": 0.02}
    head = quick("mlp", **settings).fit(votes.X, votes.shares, classes=[0, 1])
    assert np.abs(head.predict_proba(votes.X) - votes.shares).mean() < 0.06


def test_lazy_rows_learn_from_shares_too(faces):
    shares = np.random.default_rng(0).dirichlet([1, 1, 1, 1], size=len(faces.X))
    lazy = JoinedRows(faces.blocks)
    here = make_head("linear", blocks=faces.widths).fit(faces.X, shares, classes=CLASSES)
    there = make_head("linear", blocks=faces.widths).fit(lazy, shares, classes=CLASSES)
    np.testing.assert_allclose(here.predict_proba(faces.X), there.predict_proba(faces.X), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in installed_heads() if name not in SOFT])
def test_other_heads_refuse_shares_by_name_and_take_labels_where_many_heads_are_fitted(name, faces):
    shares = np.eye(4)[faces.y]
    with pytest.raises(HeadDataError, match=f"'{name}' learns from one label a row"):
        quick(name, blocks=faces.widths).fit(faces.X, shares, classes=CLASSES)
    fitted = fit_part(quick(name, blocks=faces.widths), faces.X, faces.y, soft=shares)
    np.testing.assert_array_equal(
        fitted.predict(faces.X), quick(name, blocks=faces.widths).fit(faces.X, faces.y).predict(faces.X)
    )


def _shares(change: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.full((6, 3), 1 / 3) + change


@pytest.mark.parametrize(
    ("y", "classes", "words"),
    [
        (np.eye(3)[[0, 1, 2, 0, 1, 2]], None, "no classes were given"),
        (np.eye(3)[[0, 1, 2, 0, 1, 2]], ["a", "b"], "there are 2 classes"),
        (np.eye(3)[[0, 1, 2, 0, 1, 2]], ["a", "b", "a"], "classes must be different labels"),
        (np.array([0, 1, 2, 0, 1, 2]), ["a", "b", "c"], r"y has shape \(6,\)"),
        (np.full((6, 3), 3), ["a", "b", "c"], "divide counts of votes by their sum"),
        (_shares(np.array([0.5, 0.0, -0.5])), ["a", "b", "c"], "6 of 6 rows are not"),
        (_shares(np.array([np.nan, 0, 0])), ["a", "b", "c"], "first: row 0"),
        (np.eye(3)[[0, 0, 0, 0, 0, 0]], ["a", "b", "c"], "one class only"),
    ],
)
def test_what_are_no_shares_is_refused_with_what_to_do(y, classes, words):
    with pytest.raises(HeadDataError, match=words):
        make_head("linear").fit(np.random.default_rng(0).normal(size=(6, 2)), y, classes=classes)
