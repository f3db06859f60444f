from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.diagnosis import cka, pieces
from cer_fusion.fusion.judging.diagnosis.cka import linear_cka, similarity
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fusion.lazy import LazyBlock


def blocks(seed: int, n: int = 40, d: int = 5, e: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, x @ rng.normal(size=(d, e)) + rng.normal(size=(n, e))


def gram_cka(x: np.ndarray, y: np.ndarray, *, debiased: bool) -> float:
    """As published: from the kernels, centred, or with Song et al.'s unbiased estimator of HSIC."""

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        n = len(k)
        if not debiased:
            h = np.eye(n) - 1 / n
            return float(np.trace(k @ h @ m @ h))
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        return float(
            np.trace(k @ m)
            + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ k @ m @ one)
        )

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize(("n", "d", "e"), [(40, 5, 8), (12, 30, 20), (9, 3, 50)])
def test_it_is_the_published_formula_on_kernels(debiased, n, d, e):
    x, y = blocks(3, n, d, e)
    assert linear_cka(x + 7, y, debiased=debiased) == pytest.approx(gram_cka(x, y, debiased=debiased), abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 50), st.booleans(), st.floats(0.01, 100), st.floats(-10, 10))
def test_turns_shifts_and_scale_do_not_matter_nor_does_the_order_of_blocks_and_rows(seed, debiased, scale, shift):
    x, y = blocks(seed)
    rng = np.random.default_rng(seed + 1)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    expected = linear_cka(x, y, debiased=debiased)
    assert linear_cka(scale * x @ turn + shift, y, debiased=debiased) == pytest.approx(expected, abs=1e-9)
    assert linear_cka(y, x, debiased=debiased) == pytest.approx(expected, abs=1e-12)
    rows = rng.permutation(len(x))
    assert linear_cka(x[rows], y[rows], debiased=debiased) == pytest.approx(expected, abs=1e-9)
    assert linear_cka(x, x, debiased=debiased) == pytest.approx(1)


def test_another_linear_map_does_matter():
    x, _ = blocks(0)
    assert linear_cka(x, x * [100, 1, 1, 1, 1]) < 0.9


def test_noise_on_few_rows_looks_alike_unless_debiased():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 400)), rng.normal(size=(50, 400))
    assert linear_cka(x, y) > 0.8
    assert abs(linear_cka(x, y, debiased=True)) < 0.1


def test_pieces_and_lazy_blocks_give_the_same(monkeypatch):
    x, y = (block.astype(np.float32) for block in blocks(1))
    wide = np.tile(x, 30) + np.arange(150, dtype=np.float32)
    whole = [linear_cka(x, y, debiased=True), linear_cka(wide, y)]
    monkeypatch.setattr(pieces, "PIECE", 7)
    lazy = LazyBlock(x), LazyBlock(y)
    assert [linear_cka(*lazy, debiased=True), linear_cka(wide, y)] == pytest.approx(whole)
    assert lazy[0].largest == 7


def test_all_pairs_are_measured_once():
    x, y = blocks(2)
    found = similarity({"x": x, "y": y, "z": -x})
    assert found.names == ("x", "y", "z")
    assert np.allclose(found.cka, np.transpose(found.cka))
    assert found.cka[0][2] == pytest.approx(1)
    assert found.cka[1][0] == cka.linear_cka(y, x, debiased=True)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((5, 2)), np.ones((6, 2)), "however: 5 and 6"),
        (np.ones((3, 2)), np.ones((3, 2)), "4 rows or more"),
        (np.ones((5, 2)), np.eye(5), "all the same"),
    ],
)
def test_blocks_without_a_figure_are_refused(x, y, message):
    with pytest.raises(ReportError, match=message):
        linear_cka(x, y)
