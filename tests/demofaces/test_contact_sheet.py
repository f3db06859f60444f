"""The contact sheet, and what the package offers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cer_fusion import demofaces
from cer_fusion.demofaces import StyleError, contact_sheet
from cer_fusion.demofaces.dataset import _FAINT, _PAPER, _TEXT
from cer_fusion.fusion.page.colours import READABLE, contrast


def test_the_sheet_has_a_row_for_each_compound_and_a_column_for_each_face(tmp_path):
    path = contact_sheet(tmp_path / "new" / "sheet.png", faces_per_row=2, size_px=40)
    with Image.open(path) as sheet:
        assert sheet.size == (48 + 2 * 42 + 2, 7 * 42 + 2)
        assert np.asarray(sheet)[:, :48].min() < 150, "the names are written on the left"


def test_the_same_seed_draws_the_same_sheet(tmp_path):
    one, same, other = (
        contact_sheet(tmp_path / f"{name}.png", faces_per_row=2, size_px=32, seed=seed).read_bytes()
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert one == same
    assert one != other


def test_a_sheet_without_faces_is_refused(tmp_path):
    with pytest.raises(StyleError, match="faces_per_row=0"):
        contact_sheet(tmp_path / "sheet.png", faces_per_row=0)


def test_the_public_names_are_sorted_and_exist():
    assert demofaces.__all__ == sorted(demofaces.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(demofaces, name) for name in demofaces.__all__)


def test_every_error_is_a_demofaces_error_and_also_pythons_word():
    assert issubclass(demofaces.UnknownCompoundError, KeyError)
    for name in ("UnitError", "StyleError", "DatasetError"):
        error = getattr(demofaces, name)
        assert issubclass(error, demofaces.DemoFacesError)
        assert issubclass(error, ValueError)


def test_the_words_on_a_sheet_can_be_read():
    faint, text, paper = (tuple(part / 255 for part in colour) for colour in (_FAINT, _TEXT, _PAPER))
    assert min(contrast(text, paper), contrast(faint, paper)) >= READABLE
