"""The loss that keeps neighbours together: DLP-CNN's of one label a row, DBM-CNN's of soft labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cer_fusion.fusion import make_head
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import RowInfo
from cer_fusion.fusion.heads.locality import Locality
from cer_fusion.fusion.heads.mlp import left_out_rows


def loss_of(units, codes, soft=None, *, neighbours=2, weight=1.0, counts=None):
    made = Locality(
        np.asarray(codes), soft, weight=weight, neighbours=neighbours, device=torch.device("cpu"), counts=counts
    )
    return made(units, torch.arange(units.shape[1]))


def by_hand(units, codes, neighbours):
    """The sum of DLP-CNN's equation 3 over a batch, divided by its rows, for one member."""
    z = units / np.linalg.norm(units, axis=1).mean()
    total = 0.0
    for i, row in enumerate(z):
        others = [j for j in range(len(z)) if j != i and codes[j] == codes[i]]
        nearest = sorted(others, key=lambda j: np.linalg.norm(z[j] - row))[:neighbours]
        if nearest:
            total += 0.5 * ((row - z[nearest].mean(0)) ** 2).sum()
    return total / len(z)


@pytest.mark.parametrize("neighbours", [1, 2, 30])
def test_the_loss_is_that_of_the_paper_member_by_member(neighbours):
    rng = np.random.default_rng(0)
    units, codes = rng.normal(size=(2, 12, 5)), np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3])
    found = loss_of(torch.from_numpy(units), codes, neighbours=neighbours, weight=0.3)
    assert found.item() == pytest.approx(0.3 * sum(by_hand(one, codes, neighbours) for one in units), rel=1e-6)


def test_a_row_is_drawn_to_the_mean_of_its_neighbours_which_stands_still():
    units = torch.tensor([[[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]], requires_grad=True)
    loss_of(units, [0, 0, 1]).backward()
    drawn = units.grad[0]
    scale = 2.0  # the mean length
    torch.testing.assert_close(drawn[0], torch.tensor([2.0, 0.0]) / scale**2 / 3)
    torch.testing.assert_close(drawn[1], torch.tensor([-2.0, 0.0]) / scale**2 / 3)
    assert not drawn[2].any()  # alone of its class


def test_of_soft_labels_neighbours_are_alike_in_labels_too():
    """Pairs of one place and other votes, above each other: each row goes towards those of its own votes."""
    units = torch.tensor([[[x, y] for y in (1.0, 2.0, 3.0) for x in (0.0, 0.1)]], requires_grad=True)
    soft = np.array([[0.9, 0.1], [0.1, 0.9]] * 3)
    loss_of(units, [0, 1] * 3, soft, neighbours=1).backward()
    assert not units.grad[0, :, 0].any()
    up = units.grad[0, :, 1]
    assert (up[:2] < 0).all()
    assert (up[4:] > 0).all()


@pytest.mark.parametrize("soft", [False, True])
def test_rows_that_count_nothing_are_not_drawn_and_draw_nobody_and_others_count_by_their_weight(soft):
    rng = np.random.default_rng(1)
    units, codes = rng.normal(size=(2, 12, 5)), rng.integers(2, size=12)
    shares = rng.dirichlet(np.ones(3), 12) if soft else None
    counts = np.array([np.where(np.arange(12) < 9, 2.0, 0.0), np.where(np.arange(12) < 3, 0.0, 1.0)])
    found = loss_of(torch.from_numpy(units), codes, shares, counts=counts).item()
    wanted = 0.0
    for member, part in enumerate([slice(0, 9), slice(3, 12)]):
        z = units[member] / np.linalg.norm(units[member], axis=1).mean()  # the scale is of the whole batch
        own = z[part] / np.linalg.norm(z[part], axis=1).mean()
        alone = loss_of(torch.from_numpy(own[None]), codes[part], None if shares is None else shares[part]).item()
        wanted += counts[member].max() * alone * np.linalg.norm(z[part], axis=1).mean() ** 2 * 9 / 12
    assert found == pytest.approx(wanted, rel=1e-5)


def test_shares_of_one_class_alone_are_labels_whatever_stands_in_rows_without_a_class():
    rng = np.random.default_rng(2)
    units, codes = torch.from_numpy(rng.normal(size=(1, 12, 5))), np.arange(12) % 3
    soft, counts = np.eye(3)[codes], np.where(np.arange(12) < 8, 1.0, 0.0)[None]
    assert loss_of(units, codes, soft).item() == loss_of(units, codes).item()
    wanted = loss_of(units, codes, counts=counts).item()
    soft[8:] = 1 / 3
    assert loss_of(units, codes, soft, counts=counts).item() == wanted
    assert loss_of(units, np.where(counts[0] > 0, codes, 0), counts=counts).item() == wanted


def test_a_member_learns_nothing_from_the_labels_of_rows_that_it_leaves_out():
    """The pool's factors are learned on these: what a member knew of them, they would trust it for."""
    X, y = made(12, 4)
    settings = {"blocks": {"a": 8, "b": 8}, "epochs": 2, "members": 2, "locality": 1.0, "label_smoothing": 0.0}
    settings |= {"logit_adjust": 0.0, "pool_share": 0.5}
    heads = []
    for labels in (y, np.where(left_out_rows(y, 2, 0.5, seed=0)[0], y[::-1], y)):
        np.testing.assert_array_equal(np.bincount(labels), np.bincount(y))
        head = make_head("mlp", random_state=0, **settings)
        left = left_out_rows(y, 2, 0.5, seed=0)
        head._check()
        head.blocks_, head.classes_, head.seed_ = {"a": 8, "b": 8}, np.arange(4), 0
        heads.append(head._trained(X, labels, RowInfo(), left)[0])
    first, other = (head.network.hidden[0].state_dict() for head in heads)
    assert all(torch.equal(first[name][:1], other[name][:1]) for name in first)
    assert not all(torch.equal(first[name][1:], other[name][1:]) for name in first)


def made(n, seed):
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(4, 16))
    y = np.repeat(np.arange(4), n)
    return (means[y] + 1.2 * rng.normal(size=(len(y), 16))).astype(np.float32), y


def spread(head, X, y):
    """Variance of hidden units within classes over that between them, of rows that were not learnt from."""
    network = head.networks_[0]
    rows = torch.from_numpy(network.scaler.transform(X).astype(np.float64))
    units = network.network.units(rows, lambda z: z)[0]
    of_class = [units[y == k] for k in range(4)]
    within = torch.stack([one.var(0).sum() for one in of_class]).mean()
    return float(within / torch.stack([one.mean(0) for one in of_class]).var(0).sum())


def fitted(X, y, **settings):
    shape = {"fusion": "concat", "epochs": 60, "members": 1, "hidden": [32], "lr": 3e-3, "dropout": 0.2}
    return make_head("mlp", random_state=0, **shape, **settings).fit(X, y)


def test_the_heavier_it_weighs_the_closer_rows_of_a_class_lie_and_no_answer_is_lost():
    (X, y), (T, t) = made(60, 0), made(100, 0)
    heads = [fitted(X, y, locality=weight) for weight in (0.0, 0.3, 1.0)]
    found = [spread(head, T, t) for head in heads]
    assert found[0] > 1.1 * found[1] > 1.3 * found[2]
    right = [(head.predict(T) == t).mean() for head in heads]
    assert min(right) > right[0] - 0.03


def test_a_weight_of_nothing_changes_no_bit():
    X, y = made(20, 1)
    one, other = fitted(X, y), fitted(X, y, locality=0.0, neighbours=3)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_a_fit_repeats_to_the_bit_with_rows_kept_aside_and_soft_labels():
    X, y = made(30, 2)
    soft = 0.8 * np.eye(4)[y] + 0.05
    heads = [
        make_head("mlp", epochs=4, locality=0.5, early_stop=0.2, random_state=0).fit(X, soft, classes=np.arange(4))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(heads[0].predict_proba(X), heads[1].predict_proba(X))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"locality": -1.0}, "locality"), ({"neighbours": 0}, "neighbours"), ({"locality": 1.0, "hidden": []}, "hidden")],
)
def test_settings_that_say_nothing_are_refused(settings, said):
    X, y = made(10, 3)
    with pytest.raises(HeadConfigError, match=said):
        make_head("mlp", **settings).fit(X, y)
