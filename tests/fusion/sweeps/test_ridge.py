from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier

from cer_fusion.fusion.sweeps.ridge import BlockGrams, class_targets


def data(seed: int, n: int, widths=(3, 6), k: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(1.0, 1.0, size=(n, d)) for d in widths], random.integers(0, k, n)


def joined(parts, scales) -> np.ndarray:
    return np.hstack([scale * part for scale, part in zip(scales, parts, strict=True)])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([5, 9, 10, 25]),  # fewer rows than the 9 columns, as many, more
    st.lists(st.floats(0, 3), min_size=2, max_size=2).filter(any),
    st.floats(1e-3, 1e3),
)
def test_leaving_a_row_out_is_exactly_refitting_without_it(seed, n, scales, alpha):
    parts, codes = data(seed, n)
    targets = class_targets(codes, 3)
    found = BlockGrams(parts, targets).fit(np.array(scales), alpha)
    x = joined(parts, scales)
    for i in range(n):
        rest = np.arange(n) != i
        refitted = Ridge(alpha=alpha, solver="svd").fit(x[rest], targets[rest])
        assert found.left_out[i] == pytest.approx(refitted.predict(x[[i]])[0], abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([6, 30]), st.floats(0.01, 100))
def test_it_decides_as_scikit_learns_ridge_classifier(seed, n, alpha):
    parts, codes = data(seed, n)
    codes[:3] = [0, 1, 2]
    asked, _ = data(seed + 1, 10)
    scales = [0.5, 2.0]
    peer = RidgeClassifier(alpha=alpha, solver="svd").fit(joined(parts, scales), codes)
    found = BlockGrams(parts, class_targets(codes, 3)).fit(np.array(scales), alpha)
    assert found.scores(asked) == pytest.approx(peer.decision_function(joined(asked, scales)), abs=1e-6)


@pytest.mark.parametrize("n", [8, 40])
@given(st.floats(0.1, 10), st.floats(0.01, 10))
@settings(max_examples=20, deadline=None)
def test_scaling_all_blocks_only_rescales_the_penalty(n, factor, alpha):
    parts, codes = data(0, n)
    grams = BlockGrams(parts, class_targets(codes, 3))
    scaled = grams.fit(np.array([factor, factor]), alpha)
    penalised = grams.fit(np.array([1.0, 1.0]), alpha / factor**2)
    assert scaled.left_out == pytest.approx(penalised.left_out, abs=1e-6)


@pytest.mark.parametrize("n", [8, 40])
def test_a_block_of_no_weight_takes_no_part(n):
    parts, codes = data(0, n)
    found = BlockGrams(parts, class_targets(codes, 3)).fit(np.array([0.0, 1.0]), 0.1)
    alone = BlockGrams(parts[1:], class_targets(codes, 3)).fit(np.array([1.0]), 0.1)
    assert found.left_out == pytest.approx(alone.left_out)
    assert not found.coef[0].any()
