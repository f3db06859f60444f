"""A new head is one file and one line in the table of heads; all else it says itself. The example is CONTRIBUTING's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.fusion import heads as table
from cer_fusion.fusion import installed_heads, load_head, make_head, read_head_info, save_head
from cer_fusion.fusion.heads import head_presets, head_settings, heads_in_pieces
from cer_fusion.fusion.sweeps.block_axes import undone
from tests.pages import Page


@pytest.fixture
def prior(tmp_path: Path, monkeypatch) -> str:
    (tmp_path / "prior.py").write_text(Page("CONTRIBUTING.md").file("fusion/heads/prior.py"))
    monkeypatch.setattr(table, "__path__", [*table.__path__, str(tmp_path)])
    monkeypatch.setitem(table._HEADS, "prior", "cer_fusion.fusion.heads.prior:PriorHead")  # the one line
    yield "prior"
    sys.modules.pop("cer_fusion.fusion.heads.prior", None)


def test_a_new_head_is_one_file_and_one_line(prior, faces, tmp_path):
    head = make_head(prior, blocks=faces.widths, smoothing=2.0).fit(faces.X, faces.y)
    np.testing.assert_allclose(head.predict_proba(faces.X[:2]), 0.25)
    assert head_settings(prior) == ("threads", "random_state", "smoothing")
    assert head_presets(prior) == ("flat",)
    assert prior in heads_in_pieces()
    assert prior in installed_heads()
    assert "no-op" in undone(prior, {})
    save_head(head, tmp_path / "head", fingerprints={"vit": "ab", "manet": "cd"})
    assert "safetensors" in read_head_info(tmp_path / "head").versions
    np.testing.assert_array_equal(load_head(tmp_path / "head").predict_proba(faces.X), head.predict_proba(faces.X))


def test_a_head_whose_library_is_missing_says_so_itself(prior, monkeypatch):
    monkeypatch.setattr(table.head_class(prior), "needs", ("no_such_library",))
    assert prior not in installed_heads()
