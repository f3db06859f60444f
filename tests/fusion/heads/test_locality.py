"""The loss that keeps neighbours together: DLP-CNN's of one label a row, DBM-CNN's of soft labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cer_fusion.fusion import make_head
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.locality import Locality


def loss_of(units, codes, soft=None, *, neighbours=2, weight=1.0):
    made = Locality(np.asarray(codes), soft, weight=weight, neighbours=neighbours, device=torch.device("cpu"))
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
