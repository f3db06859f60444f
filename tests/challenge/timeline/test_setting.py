from __future__ import annotations

import pytest
from cer_fusion.challenge.timeline import METHODS, Smoothing, parse_windows, settings_of
from cer_fusion.fusion.errors import TimelineError


@pytest.mark.parametrize("text", ["none", "box:51", "gaussian:1", "median:7", "exponential:12", "hmm:2", "viterbi:em"])
def test_a_setting_survives_its_notation(text):
    assert Smoothing.parse(text).text == text


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("51", (51,)),
        ("5:101:8", (5, 13, 21, 29, 37, 45, 53, 61, 69, 77, 85, 93, 101)),
        ("25, 5,5", (5, 25)),
        ("3:9:4,101", (3, 7, 101)),
    ],
)
def test_windows_are_read_with_both_ends(text, windows):
    assert parse_windows(text) == windows


@pytest.mark.parametrize("text", ["", "five", "5:101", "5:101:0", "101:5:8", "-5", "5.5", "5:101:8:2", "1:99999999:1"])
def test_windows_that_are_none_are_refused(text):
    with pytest.raises(TimelineError, match="window"):
        parse_windows(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boks:5", "did you mean 'box'"),
        ("box", "write METHOD:FRAMES"),
        ("box:5:7", "write METHOD:FRAMES"),
        ("box:50", "take 49 or 51"),
        ("box:em", "learns no stickiness"),
        ("hmm:1", "between 2 and"),
        ("box:0", "between 1 and"),
        ("none:3", "none:3 needs no window"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(text, message):
    with pytest.raises(TimelineError, match=message):
        Smoothing.parse(text)


def test_settings_are_all_methods_with_all_windows():
    found = settings_of(["none", "box", "hmm"], [5, 25], ["window", "em"])
    assert [one.text for one in found] == ["none", "box:5", "box:25", "hmm:em", "hmm:5", "hmm:25"]
    assert [one.text for one in settings_of(["viterbi"], (), ["labels"])] == ["viterbi:labels"]
    with pytest.raises(TimelineError, match="box needs a window"):
        settings_of(["box"])
    with pytest.raises(TimelineError, match=", ".join(METHODS)):
        settings_of([])
    with pytest.raises(TimelineError, match="did you mean 'labels'"):
        settings_of(["hmm"], [], ["label"])
