from __future__ import annotations

import numpy as np
import pytest
import threadpoolctl
from cer_fusion.fusion.data.products import divided_product, one_blas_thread_each


def blas_threads() -> set[int]:
    return {one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"}


def test_blas_has_one_thread_inside_and_as_many_as_before_after_it():
    before = blas_threads()
    with one_blas_thread_each() as pool:
        assert set().union(*pool.map(lambda _: blas_threads(), range(4))) == {1}
    assert blas_threads() == before


@pytest.mark.parametrize("shape", [(3, 5, 7), (90, 400, 500), (64, 4096, 65)])
def test_a_divided_product_is_the_product_whatever_the_number_of_threads(shape):
    m, d, n = shape
    random = np.random.default_rng(0)
    a, b = (random.normal(size=size).astype(np.float32) for size in ((m, d), (d, n)))
    found = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"), one_blas_thread_each() as pool:
            found.append(divided_product(pool)(a, b))
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], a @ b, atol=2e-4 * np.sqrt(d))
