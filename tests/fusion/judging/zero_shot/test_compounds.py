from __future__ import annotations

import pytest
from cer_fusion.fusion import FusionError
from cer_fusion.fusion.judging.zero_shot.compounds import columns, components, compound_names, emotion

ABAW = {
    "Fearfully_Surprised": ("fear", "surprise"),
    "Happily_Surprised": ("happiness", "surprise"),
    "Sadly_Surprised": ("sadness", "surprise"),
    "Disgustedly_Surprised": ("disgust", "surprise"),
    "Angrily_Surprised": ("anger", "surprise"),
    "Sadly_Fearful": ("sadness", "fear"),
    "Sadly_Angry": ("sadness", "anger"),
}


@pytest.mark.parametrize(("name", "parts"), ABAW.items())
@pytest.mark.parametrize("spelt", [str, lambda n: n.replace("_", " "), lambda n: n.replace("_", ""), str.upper])
def test_the_challenges_compounds_are_known_in_every_spelling(name, parts, spelt):
    assert components(spelt(name)) == parts


def test_all_fourteen_of_raf_ce_are_different_pairs_of_the_six_emotions():
    pairs = [frozenset(components(name)) for name in compound_names()]
    assert len(set(pairs)) == 14
    six = {"happiness", "sadness", "surprise", "fear", "disgust", "anger"}
    assert all(len(pair) == 2 and pair <= six for pair in pairs)


def test_each_compounds_own_words_mean_its_components():
    for name in compound_names():
        assert tuple(emotion(word) for word in name.split()) == components(name)


def test_an_unknown_compound_names_the_nearest():
    with pytest.raises(FusionError, match="did you mean 'Fearfully Surprised'"):
        components("Fearfuly_Surprised")


@pytest.mark.parametrize(
    "names",
    [
        ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral"),
        ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
        ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other"),
    ],
)
def test_basic_classes_of_datasets_find_their_columns(names):
    found = columns(names)
    assert {"happiness", "sadness", "surprise", "fear", "disgust", "anger", "neutral"} == set(found)
    assert all(emotion(names[column]) == meant for meant, column in found.items())


def test_two_classes_of_one_meaning_are_refused():
    with pytest.raises(FusionError, match="'happy' and 'Happiness' both mean happiness"):
        columns(["happy", "Happiness"])
