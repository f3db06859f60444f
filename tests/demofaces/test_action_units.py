"""Action units and the prototypes of the seven compounds."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.demofaces import (
    COMPOUNDS,
    ActionUnits,
    UnitError,
    UnknownCompoundError,
    compound,
    prototype,
    sample_units,
)
from cer_fusion.demofaces.action_units import FACS_NUMBERS


def test_the_compounds_are_the_seven_of_the_challenge_under_their_rafdb_ids():
    assert {c.rafdb_id: c.name for c in COMPOUNDS} == {
        1: "Happily Surprised",
        3: "Sadly Fearful",
        4: "Sadly Angry",
        5: "Sadly Surprised",
        8: "Fearfully Surprised",
        9: "Angrily Surprised",
        11: "Disgustedly Surprised",
    }


def test_every_compound_has_its_own_action_units():
    assert len({c.always for c in COMPOUNDS}) == 7
    assert len({tuple(prototype(c).by_number().values()) for c in COMPOUNDS}) == 7


def test_every_unit_of_a_prototype_is_drawn_and_listed_once_with_a_share():
    for expression in COMPOUNDS:
        listed = [*expression.always, *expression.sometimes]
        assert len(listed) == len(set(listed))
        assert set(listed) <= set(FACS_NUMBERS)
        assert all(0 < share < 0.7 for share in expression.sometimes.values())


def test_numbers_and_names_of_action_units_agree_with_facs():
    assert FACS_NUMBERS[1] == "inner_brow_raise"
    assert FACS_NUMBERS[4] == "brow_lower"
    assert FACS_NUMBERS[12] == "lip_corner_pull"
    assert FACS_NUMBERS[26] == "jaw_drop"
    assert ActionUnits.from_numbers({12: 0.5}) == ActionUnits(lip_corner_pull=0.5)
    assert ActionUnits(jaw_drop=0.25).by_number()[26] == 0.25


@pytest.mark.parametrize("value", [-0.1, 1.01, float("nan")])
def test_an_intensity_outside_zero_to_one_is_refused_by_name(value):
    with pytest.raises(UnitError, match="brow_lower"):
        ActionUnits(brow_lower=value)


def test_a_unit_that_is_not_drawn_is_refused():
    with pytest.raises(UnitError, match=r"\[43\] are not drawn"):
        ActionUnits.from_numbers({43: 1.0})


def test_an_unknown_compound_is_answered_with_the_nearest_name():
    assert compound("Sadly Angry").rafdb_id == 4
    with pytest.raises(UnknownCompoundError, match="did you mean 'Happily Surprised'"):
        compound("happily surprised")


def test_people_always_use_the_regular_units_and_differ_in_strength():
    rng = np.random.default_rng(0)
    for expression in COMPOUNDS:
        people = [sample_units(expression, rng).by_number() for _ in range(30)]
        for number in expression.always:
            strengths = [person[number] for person in people]
            assert min(strengths) >= 0.48
            assert np.std(strengths) > 0.03


def test_the_other_units_appear_in_about_the_share_of_people_the_paper_gives():
    rng = np.random.default_rng(1)
    people = [sample_units(compound("Happily Surprised"), rng).by_number() for _ in range(600)]
    assert np.mean([person[26] > 0.25 for person in people]) == pytest.approx(0.67, abs=0.07)


def test_two_people_drawn_from_the_same_seed_are_the_same():
    first, second = (sample_units(COMPOUNDS[0], np.random.default_rng(3)) for _ in range(2))
    assert first == second
