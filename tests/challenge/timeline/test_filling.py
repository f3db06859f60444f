from __future__ import annotations

import numpy as np
from cer_fusion.challenge.timeline import Timeline
from cer_fusion.challenge.timeline.filling import at_frames, filled
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(st.sets(st.integers(1, 60), min_size=1, max_size=20), st.lists(st.integers(-5, 70), min_size=1), st.data())
def test_filling_is_linear_in_time_and_holds_the_ends(frames, wanted, data):
    frames, wanted = np.array(sorted(frames)), np.array(wanted)
    values = np.random.default_rng(data.draw(st.integers(0, 99))).random((frames.size, 3))
    expected = np.stack([np.interp(wanted, frames, column) for column in values.T], axis=1)
    found = at_frames(values, frames, wanted)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    own = np.isin(wanted, frames)
    assert (found[own] == values[np.searchsorted(frames, wanted[own])]).all()


def test_gaps_are_closed_within_a_video_and_marked():
    timeline = Timeline.of(["a/00001.jpg", "b/00002.jpg", "a/00004.jpg", "b/00003.jpg"])
    a, b = filled(np.array([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]]), timeline)
    np.testing.assert_allclose(a.values[:, 0], [1, 0.75, 0.5, 0.25])
    assert a.observed.tolist() == [True, False, False, True]
    assert b.values.tolist() == [[0.5, 0.5], [0.0, 1.0]]
