"""The contract that every head passes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import estimator_checks_generator

from cer_fusion.fusion import BlockError, HeadConfigError, HeadDataError, UnknownHeadError, head_names, make_head
from cer_fusion.testing import check_head
from tests.fusion.heads.conftest import QUICK, every_head, quick_head


def test_quick_settings_exist_for_every_head():
    assert set(QUICK) == set(head_names())


WEIGHTS_ALIKE = "check_sample_weight_equivalence_on_dense_data"
"""A weight of two is not a row twice to the last digit: columns are scaled, batches and bins are drawn by rows. (A
weight of zero is no row: that is checked in `test_groups`.)"""


def is_excused(head: Any, check: str) -> bool:
    """Whoever has the argument `sample_weight` is expected to weigh rows; some heads refuse it by name."""
    return check == WEIGHTS_ALIKE or ("sample_weight" in check and not head.weighs_rows)


@every_head
@pytest.mark.filterwarnings("ignore:Estimator's parameters changed after set_params raised")  # from a check of its own
def test_scikit_learns_own_checks_pass(name):
    failed = []
    for estimator, check in estimator_checks_generator(quick_head(name)):
        if is_excused(estimator, check.func.__name__):
            continue
        try:
            check(estimator)
        except Exception as error:  # all failures are worth reading at once
            if type(error).__name__ not in ("SkipTest", "SkipTestWarning"):
                failed.append(f"{check.func.__name__}: {error!r}")
    assert not failed, "\n".join(failed)


@every_head
def test_a_head_keeps_what_is_promised_to_authors_of_plugins(name):
    check_head(lambda **params: quick_head(name, **params))


@every_head
def test_the_same_seed_gives_the_same_head_and_leaves_global_state_alone(name, faces):
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    np.random.seed(5)  # noqa: NPY002 - the legacy state is what must stay untouched
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = quick_head(name, blocks=faces.widths, random_state=3).fit(faces.X, faces.y).predict_proba(faces.X)
    again = quick_head(name, blocks=faces.widths, random_state=3).fit(faces.X, faces.y).predict_proba(faces.X)
    np.testing.assert_array_equal(first, again)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


@every_head
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_by_row_and_block(name, value, faces):
    spoilt = faces.X.copy()
    spoilt[17, 14] = value
    with pytest.raises(HeadDataError, match=r"row 17, block 'manet\.local', column 2"):
        quick_head(name, blocks=faces.widths).fit(spoilt, faces.y)
    head = quick_head(name, blocks=faces.widths).fit(faces.X, faces.y)
    with pytest.raises(HeadDataError, match="row 17"):
        head.predict_proba(spoilt)


@every_head
def test_a_float64_too_large_for_float32_is_refused(name, faces):
    spoilt = faces.X.astype(np.float64)
    spoilt[3, 0] = 1e300
    with pytest.raises(HeadDataError, match="row 3, block 'vit', column 0"):
        quick_head(name, blocks=faces.widths).fit(spoilt, faces.y)


@every_head
def test_widths_that_do_not_fit_the_matrix_are_refused(name, faces):
    with pytest.raises(BlockError, match="sum to 29, X has 28"):
        quick_head(name, blocks={**faces.widths, "vit": 13}).fit(faces.X, faces.y)
    head = quick_head(name, blocks=faces.widths).fit(faces.X, faces.y)
    with pytest.raises(ValueError, match=r"X has 20 features, but .* is expecting 28"):
        head.predict(faces.X[:, :20])


@every_head
def test_an_unknown_setting_names_the_nearest(name):
    with pytest.raises(HeadConfigError, match="did you mean 'random_state'"):
        make_head(name, random_stat=1)


def test_an_unknown_head_names_the_nearest():
    with pytest.raises(UnknownHeadError, match="did you mean 'xgboost'") as caught:
        make_head("xgbost")
    assert not str(caught.value).startswith('"')


def test_nothing_heavy_is_imported_with_the_package_or_its_names():
    code = (
        "import sys, json; from cer_fusion import fusion; fusion.head_names(); fusion.concat; fusion.MLPConfig.paper();"
        "print(json.dumps([m for m in ('torch', 'sklearn', 'xgboost', 'matplotlib', 'scipy') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_public_names_are_sorted_and_there():
    from cer_fusion import fusion

    assert fusion.__all__ == sorted(fusion.__all__)
    for name in fusion.__all__:
        assert getattr(fusion, name) is not None
