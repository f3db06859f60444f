from __future__ import annotations

import logging

import numpy as np
import pytest

from cer_fusion.fusion import HeadConfigError, HeadDataError, concat, load_head, make_head, save_head
from cer_fusion.fusion.heads.weights import log_loss

BLOCKS = ("vit", "manet.local", "manet.multi_scale")
QUICK = {"member": "ncm", "folds": 2}


def test_a_block_of_noise_is_hardly_listened_to(faces, more_faces):
    random = np.random.default_rng(3)
    widths = {"vit": 12, "noise": 30}
    learn, ask = (
        concat({"vit": rows.blocks["vit"], "noise": random.normal(size=(len(rows.y), 30)).astype(np.float32)})
        for rows in (faces, more_faces)
    )
    stacked = make_head("stacking", blocks=widths, folds=3)
    equal = make_head("late", blocks=widths, weights=None)
    losses = [log_loss(head.fit(learn, faces.y).predict_proba(ask), more_faces.y) for head in (stacked, equal)]
    assert losses[0] < 0.8 * losses[1]


def test_blocks_may_have_members_of_different_kinds(faces, tmp_path):
    member = {"vit": "ridge", "manet.local": "ncm", "manet.multi_scale": "linear"}
    params = {"manet.multi_scale": {"C": 0.5}}
    head = make_head("stacking", blocks=faces.widths, member=member, member_params=params, folds=2)
    head.fit(faces.X, faces.y)
    assert [one.name for one in head.members_.values()] == ["ridge", "ncm", "linear"]
    assert head.members_["manet.multi_scale"].C == 0.5
    save_head(head, tmp_path / "head", fingerprints={})
    np.testing.assert_array_equal(load_head(tmp_path / "head").predict_proba(faces.X), head.predict_proba(faces.X))


def test_a_class_that_cannot_be_held_out_is_never_answered_and_said(faces, caplog):
    y = faces.y.copy()
    y[0] = 9
    with caplog.at_level(logging.WARNING, logger="cer_fusion.fusion"):
        head = make_head("stacking", blocks=faces.widths, **QUICK).fit(faces.X, y)
    assert "never answers 9" in caplog.text
    assert head.predict_proba(faces.X)[:, 4].max() == 0


def test_too_few_rows_to_hold_any_out_are_refused(faces):
    with pytest.raises(HeadDataError, match="held-out rows of at least two classes"):
        make_head("stacking", **QUICK).fit(faces.X[:2], faces.y[:2])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"C": 0.0}, "C must be"),
        ({"folds": 1}, "folds must be"),
        ({"member": "late"}, "cannot be 'late' itself"),
        ({"member": "stacking"}, "cannot be 'stacking' itself"),
        ({"member": {"vit": "ncm"}}, "no head for block 'manet.local'"),
        ({"member": {"vti": "ncm"}}, "did you mean 'vit'"),
        (
            {"member": dict.fromkeys(BLOCKS, "ncm"), "member_params": {"C": 1}},
            "'C'",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(params, message, faces):
    with pytest.raises(HeadConfigError, match=message):
        make_head("stacking", blocks=faces.widths, **params).fit(faces.X, faces.y)
