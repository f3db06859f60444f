"""Words that error messages share."""

from __future__ import annotations

import pytest
from cer_fusion.kit import CerError, OutputExistsError, listing, nearest


def test_a_message_is_shown_as_it_was_written_whatever_else_the_error_is():
    class Missing(CerError, KeyError):
        pass

    assert str(Missing("no 'x'")) == "no 'x'"
    assert str(OutputExistsError("a is there")) == "a is there"
    with pytest.raises(FileExistsError, match=r"^a is there$"):
        raise OutputExistsError("a is there")


def test_the_nearest_words_come_first_and_then_those_that_are_known():
    assert nearest("Manet", ["vit", "manet"]) == "did you mean 'manet'? known: vit, manet"
    assert nearest("zzz", ["vit", "manet"]) == "known: vit, manet"
    assert nearest("zzz", []) == "there are none yet"
    assert nearest("x", [f"n{i:02d}" for i in range(40)]).endswith("n23, …")


def test_long_lists_are_cut_and_counted():
    assert listing(["a", "b"]) == "a, b"
    assert listing("abcde") == "a, b, c, … (5 in all)"
