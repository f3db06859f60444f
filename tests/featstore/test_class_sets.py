from __future__ import annotations

import pytest

from featstore.class_sets import class_set, class_set_names, custom, mapping
from featstore.errors import ClassSetError

RAFDB_TO_ABAW = {8: 0, 1: 1, 5: 2, 11: 3, 9: 4, 3: 5, 4: 6, 2: None, 6: None, 7: None, 10: None}
RAFCE_TO_ABAW = {
    7: 0,
    0: 1,
    4: 2,
    11: 3,
    9: 4,
    2: 5,
    3: 6,
    1: None,
    5: None,
    6: None,
    8: None,
    10: None,
    12: None,
    13: None,
}


@pytest.mark.parametrize(("source", "ids"), [("rafdb_compound11", RAFDB_TO_ABAW), ("rafce14", RAFCE_TO_ABAW)])
def test_compound_ids_map_to_abaw_ids_and_back(source, ids):
    theirs, ours = class_set(source), class_set("abaw7")
    there, back = mapping(theirs, ours), mapping(ours, theirs)
    for number, expected in ids.items():
        label = there[theirs.from_id(number)]
        assert (None if label is None else ours.to_id(label)) == expected
        if label is not None:
            assert theirs.to_id(back[label]) == number


def test_basic_expressions_map_across_spellings():
    there = mapping(class_set("fer2013_7"), class_set("basic8"))
    assert there == {
        "Angry": "Anger", "Disgust": "Disgust", "Fear": "Fear", "Happy": "Happiness",
        "Sad": "Sadness", "Surprise": "Surprise", "Neutral": "Neutral",
    }  # fmt: skip
    assert mapping(class_set("affwild2_expr8"), class_set("basic8"))["Other"] is None


@pytest.mark.parametrize(
    ("name", "first", "count"),
    [
        ("rafdb_basic7", (1, "Surprise"), 7),
        ("affectnet8", (7, "Contempt"), 8),
        ("manet7", (0, "Neutral"), 7),
        ("rafce14", (13, "Happily Sad"), 14),
    ],
)
def test_official_ids_are_kept(name, first, count):
    classes = class_set(name)
    assert classes.from_id(first[0]) == first[1]
    assert len(classes.labels) == count


def test_every_set_is_its_own_inverse_under_ids():
    for name in class_set_names():
        classes = class_set(name)
        assert [classes.from_id(classes.to_id(label)) for label in classes.labels] == list(classes.labels)


def test_unknown_words_are_refused_with_the_nearest_known_ones():
    with pytest.raises(ClassSetError, match="did you mean 'abaw7'"):
        class_set("abaw")
    with pytest.raises(ClassSetError, match="run from 1 to 11, however: 12"):
        class_set("rafdb_compound11").from_id(12)


def test_a_list_that_is_a_known_set_is_called_by_its_name():
    assert custom(class_set("abaw7").labels).name == "abaw7"
    assert custom(["a", "b"]).name == "custom"
    with pytest.raises(ClassSetError, match="distinct"):
        custom(["a", "a"])
