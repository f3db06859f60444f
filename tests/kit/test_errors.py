from __future__ import annotations

import pickle

import pytest

import cer_fusion.kit
from cer_fusion.kit import CerError, MissingExtraError, OutputExistsError, WriteError, listing, nearest


class UnknownThingError(CerError, KeyError):
    pass


@pytest.mark.parametrize("kind", [CerError, UnknownThingError, OutputExistsError, MissingExtraError, WriteError])
def test_a_message_is_shown_as_it_was_written_whatever_else_the_error_is(kind):
    error = kind("no 'vit'\n  try another")
    assert str(error) == "no 'vit'\n  try another"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(kind()) == ""


def test_an_unknown_name_is_told_the_nearest_known_ones_in_any_letter_case():
    assert nearest("Vit", ["manet", "vit", "VITS"]) == "did you mean 'vit' or 'VITS'? known: manet, vit, VITS"
    assert nearest("zebra", {"vit", "manet"}) == "known: manet, vit"
    assert nearest("vit", []) == "there are none yet"


def test_many_known_names_are_listed_only_where_none_is_near():
    many = [f"test_{i:04d}" for i in range(40)]
    assert nearest("xx", many) == "known: " + ", ".join(many[:12]) + ", …"
    assert "known" not in nearest("test_0001", many)


def test_a_listing_shows_the_first_few_and_how_many_there_are():
    assert listing(["a", "b", "c"]) == "a, b, c"
    assert listing(map(str, range(1037))) == "0, 1, 2, … (1,037 in all)"


def test_what_the_kit_offers_is_sorted_and_there():
    # ruff sorts __all__ as isort does: constants, classes, functions
    names = cer_fusion.kit.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert all(hasattr(cer_fusion.kit, name) for name in names)
