from __future__ import annotations

import numpy as np
from cer_fusion.fusion.heads.holdout import left_out_rows
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 8), st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5]))
def test_members_leave_out_their_share_of_every_class_and_other_rows_than_their_neighbours(seed, members, share):
    codes = np.random.default_rng(seed).choice(3, 200, p=[0.6, 0.3, 0.1])
    codes[0] = 3  # the only one of its class
    found = left_out_rows(codes, members, share, seed=seed)
    assert found.shape == (members, 200)
    assert not found[:, 0].any()
    folds = round(1 / share)
    for code in range(3):
        assert np.ptp(found[:, codes == code].sum(axis=1)) <= 1
        assert abs(found[0, codes == code].sum() - (codes == code).sum() / folds) <= 1
    assert (found[:folds].sum(axis=0) <= 1).all()
    assert (found[folds:] == found[: max(0, members - folds)]).all()
