from __future__ import annotations

import pytest

from cer_fusion.featstore.errors import ClassSetError
from cer_fusion.featstore.manifests.class_sets import class_set, class_set_names, custom, not_classes, renaming

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
    there, back = renaming(theirs, ours), renaming(ours, theirs)
    for number, expected in ids.items():
        label = there[theirs.from_id(number)]
        assert (None if label is None else ours.to_id(label)) == expected
        if label is not None:
            assert theirs.to_id(back[label]) == number


# Official ids of each dataset to ids of the paper's eight alphabetical classes: Anger 0, Contempt 1, Disgust 2, Fear 3,
# Happiness 4, Neutral 5, Sadness 6, Surprise 7.
TO_UNITY = {
    "rafdb_basic7": {1: 7, 2: 3, 3: 2, 4: 4, 5: 6, 6: 0, 7: 5},
    "affwild2_expr8": {0: 5, 1: 0, 2: 2, 3: 3, 4: 4, 5: 6, 6: 7, 7: None},
    "affectnet8": {0: 5, 1: 4, 2: 6, 3: 7, 4: 3, 5: 2, 6: 0, 7: 1},
    "fer2013_7": {0: 0, 1: 2, 2: 3, 3: 4, 4: 6, 5: 7, 6: 5},
    "manet7": {0: 5, 1: 4, 2: 6, 3: 7, 4: 3, 5: 2, 6: 0},
    "basic7": {0: 0, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7},
}


@pytest.mark.parametrize(("source", "ids"), TO_UNITY.items())
def test_single_expressions_map_to_unity_and_back(source, ids):
    theirs, ours = class_set(source), class_set("unity8")
    there, back = renaming(theirs, ours), renaming(ours, theirs)
    assert {theirs.to_id(label): other and ours.to_id(other) for label, other in there.items()} == ids
    home = {ours.to_id(label): other and theirs.to_id(other) for label, other in back.items()}
    assert home == dict.fromkeys(range(8)) | {b: a for a, b in ids.items() if b is not None}


def test_no_single_expression_is_a_compound_one():
    for name in TO_UNITY:
        assert set(renaming(class_set(name), class_set("abaw7")).values()) == {None}


def test_unity8_is_another_name_of_basic8():
    assert class_set("unity8") == class_set("basic8")


def test_what_datasets_call_no_class_is_known_and_no_class():
    assert not_classes("affectnet8") == {8: "None", 9: "Uncertain", 10: "No-Face"}
    assert not_classes("affwild2_expr8") == {-1: "invalid frame"}
    assert not_classes("abaw7") == not_classes("custom") == {}
    for name in class_set_names():
        for number in not_classes(name):
            with pytest.raises(ClassSetError, match="run from"):
                class_set(name).from_id(number)


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("abaw7", "SadlyAngry", "Sadly Angry"),
        ("abaw7", "sadly_angry", "Sadly Angry"),
        ("abaw7", "Sadly", None),
        ("basic8", "happy", "Happiness"),
        ("basic8", "FEARFUL", "Fear"),
        ("fer2013_7", "Anger", "Angry"),
        ("fer2013_7", "contempt", None),
    ],
)
def test_a_label_is_known_however_it_is_written(name, text, label):
    assert class_set(name).match(text) == label


def test_official_numbers_in_digits_are_labels_too():
    classes = class_set("rafdb_basic7")
    assert classes.match_or_id("1") == "Surprise"
    assert classes.match_or_id("sad") == "Sadness"
    assert [classes.match_or_id(text) for text in ("0", "8", "1.0", "²", "")] == [None] * 5


def test_basic_expressions_map_across_spellings():
    there = renaming(class_set("fer2013_7"), class_set("basic8"))
    assert there == {
        "Angry": "Anger", "Disgust": "Disgust", "Fear": "Fear", "Happy": "Happiness",
        "Sad": "Sadness", "Surprise": "Surprise", "Neutral": "Neutral",
    }  # fmt: skip
    assert renaming(class_set("affwild2_expr8"), class_set("basic8"))["Other"] is None


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
