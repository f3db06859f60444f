"""Styles: persons, poses and cameras."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.demofaces import Style, StyleError, sample_style
from cer_fusion.demofaces.style import HAIRCUTS


def test_random_people_differ_and_the_same_seed_gives_the_same_person():
    people = [sample_style(np.random.default_rng(seed)) for seed in range(40)]
    assert len({person.skin for person in people}) > 20
    assert {person.haircut for person in people} == set(HAIRCUTS)
    assert people[7] == sample_style(np.random.default_rng(7))


def test_random_poses_stay_small():
    for seed in range(60):
        person = sample_style(np.random.default_rng(seed))
        assert abs(person.roll_deg) <= 8
        assert abs(person.yaw_deg) <= 10
        assert 0.9 < person.scale < 1.1


def test_an_unknown_haircut_is_answered_with_the_nearest_one():
    with pytest.raises(StyleError, match="did you mean 'curly'"):
        Style(haircut="curls")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["scale", "face_width", "eye_size", "exposure"])
def test_sizes_must_be_positive(field):
    with pytest.raises(StyleError, match=field):
        Style(**{field: 0.0})
