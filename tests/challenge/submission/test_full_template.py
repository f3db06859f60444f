"""The official size: 26,145 rows of 56 videos, decoders that disagree by one frame, frames without a face."""

from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.challenge.submission import answer, check, difference, read_submission
from cer_fusion.challenge.timeline import Smoothing
from cer_fusion.fusion.keeping.predictions import Predictions, read_predictions, write_predictions

from tests.challenge.submission.templates import CHALLENGE, names_of, template_of


@pytest.fixture(scope="module")
def lengths():
    extra = np.random.default_rng(0).multinomial(CHALLENGE.rows - 100 * 56, np.full(56, 1 / 56))
    return dict(zip(CHALLENGE.video_names, (100 + extra).tolist(), strict=True))


@pytest.fixture(scope="module")
def predictions(lengths):
    rng = np.random.default_rng(1)
    decoded = {video: count + (i < 8) - (8 <= i < 15) for i, (video, count) in enumerate(lengths.items())}
    seen = [name for name in names_of(decoded) if rng.random() > 0.13]
    last = [f"{video}/{count:05d}.jpg" for video, count in decoded.items()]
    ids = tuple(dict.fromkeys([*seen, *last]))
    return Predictions(ids=ids, classes=CHALLENGE.classes[::-1], proba=rng.dirichlet(np.ones(7), size=len(ids)))


def test_the_whole_template_makes_the_round_trip(tmp_path, lengths, predictions):
    template = template_of(tmp_path, lengths)
    assert len(template.names) == 26_145
    assert len(template.video_names) == 56
    read = read_predictions(write_predictions(tmp_path / "p.csv", predictions))
    found = answer(template, read, CHALLENGE)
    assert [(one.beyond, one.after) for one in found.coverage] == [(1, 0)] * 8 + [(0, 1)] * 7 + [(0, 0)] * 41
    path = found.submission.write(tmp_path / "s.txt", CHALLENGE)
    assert check(path.read_bytes(), CHALLENGE, template) == ()
    assert check(path.read_bytes(), CHALLENGE) == ()  # it is the official size
    again = read_submission(path, CHALLENGE)
    assert again.names == template.names
    own = dict(zip(read.ids, (6 - read.y_pred).tolist(), strict=True))
    wrong = [n for n, y in zip(again.names, again.y.tolist(), strict=True) if own.get(n, y) != y]
    assert wrong == []
    assert sum(one.predicted for one in found.coverage) == len(read.ids) - 8


def test_smoothing_the_whole_template_calms_every_video(tmp_path, lengths, predictions):
    template = template_of(tmp_path, lengths)
    plain, calm = (
        answer(template, predictions, CHALLENGE, smoothing=setting).submission
        for setting in (None, Smoothing.parse("gaussian:101"))
    )
    assert all(one.changes[1] < one.changes[0] / 3 for one in difference(plain, calm, CHALLENGE).videos)
