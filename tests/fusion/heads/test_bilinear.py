from __future__ import annotations

import numpy as np

from cer_fusion.fusion import make_head
from tests.fusion.heads.conftest import quick_head


def test_what_two_blocks_say_only_together_is_learnt():
    """The class is whether two signs agree: no sum of what each block says knows it."""
    random = np.random.default_rng(0)
    X = random.choice([-1.0, 1.0], size=(400, 6)) + 0.1 * random.normal(size=(400, 6))
    y = (X[:, 0] * X[:, 3] > 0).astype(int)
    blocks = {"a": 3, "b": 3}
    head = quick_head("bilinear", blocks=blocks, standardize="standard", epochs=30).fit(X, y)
    assert head.score(X, y) > 0.95
    assert make_head("linear", blocks=blocks, standardize="standard").fit(X, y).score(X, y) < 0.7


def test_terms_are_blocks_and_products_of_pairs(faces):
    head = quick_head("bilinear", blocks=faces.widths).fit(faces.X, faces.y)
    assert head.networks_[0].network.pairs == [(0, 1), (0, 2), (1, 2)]
    assert head.networks_[0].network.answer.weight.shape == (2, 6 * 8, 4)
