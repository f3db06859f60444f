from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion.heads.base import softmax
from tests.fusion.heads.conftest import quick_head
from tests.fusion.lazy import lazy_join


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_gates_are_shares_or_openings_a_row_and_block(gate, faces):
    head = quick_head("gated", blocks=faces.widths, gate=gate).fit(faces.X, faces.y)
    gates = head.gates(faces.X)
    assert gates.shape == (120, 3)
    assert gates.dtype == np.float64
    assert (gates > 0).all()
    assert (gates < 1).all()
    assert np.allclose(gates.sum(axis=1), 1) == (gate == "softmax")
    assert gates.std(axis=0).min() > 1e-3  # decided anew for every row


def test_the_gate_of_the_block_that_speaks_is_open(faces):
    """Of two blocks, a first column says which one holds the class; the other holds another class."""
    random = np.random.default_rng(0)
    y, other, first = random.integers(0, 3, 600), random.integers(0, 3, 600), random.integers(0, 2, 600)
    centres = 3 * np.eye(3)
    blocks = [centres[np.where(first == i, y, other)] + 0.3 * random.normal(size=(600, 3)) for i in (1, 0)]
    X = np.hstack([first[:, None] * 4.0 - 2.0, *blocks]).astype(np.float32)
    settings = {"epochs": 60, "width": 16, "standardize": "standard"}
    head = quick_head("gated", blocks={"a": 4, "b": 3}, **settings).fit(X, y)
    assert head.score(X, y) > 0.95
    gates = head.gates(X)
    assert gates[first == 1, 0].mean() > gates[first == 0, 0].mean() + 0.3


def test_answers_are_the_gated_sum_of_projected_blocks(faces):
    head = quick_head("gated", blocks=faces.widths, members=1).fit(faces.X, faces.y)
    arrays = head.state().arrays
    rows = head.networks_[0].scaler.transform(faces.X).astype(np.float64)
    weight = arrays["network.project.weight"].astype(np.float64)
    parts = [rows[:, s] @ weight[s] for s in (slice(0, 12), slice(12, 20), slice(20, 28))]
    hidden = np.stack(parts, axis=1) + arrays["network.project.bias"][0]
    fused = np.maximum((3 * head.gates(faces.X)[:, :, None] * hidden).sum(axis=1), 0)
    expected = softmax(fused @ arrays["network.answer.weight"][0] + arrays["network.answer.bias"][0])
    np.testing.assert_allclose(head.predict_proba(faces.X), expected, atol=1e-12)


def test_gates_are_given_about_lazy_rows_too(faces):
    head = quick_head("gated", blocks=faces.widths).fit(faces.X, faces.y)
    np.testing.assert_allclose(head.gates(lazy_join(faces.blocks)), head.gates(faces.X), atol=1e-12)
