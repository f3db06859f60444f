from __future__ import annotations

import json

import numpy as np
import pytest
from cer_fusion.challenge.prior_shift import CORRECTIONS, Validation, correct
from cer_fusion.fusion.errors import PriorShiftError
from cer_fusion.fusion.keeping.predictions import Predictions
from hypothesis import given, settings

from tests.challenge.prior_shift.test_em import priors
from tests.challenge.prior_shift.worlds import calibrated, world

NAMES = ("a", "b", "c")
EVEN = np.full(3, 1 / 3)


def validation(prior: np.ndarray, n: int = 3000, seed: int = 5, power: float = 1.0) -> Validation:
    points, y = world(prior, n, seed)
    proba = calibrated(points, prior) ** power
    return Validation.of(
        Predictions(
            ids=tuple(f"v{i}" for i in range(n)),
            classes=NAMES,
            proba=proba / proba.sum(axis=1, keepdims=True),
            labels=tuple(NAMES[i] for i in y),
        )
    )


@pytest.mark.parametrize("kind", CORRECTIONS)
def test_a_correction_makes_decisions_better_where_only_the_prior_has_shifted(kind):
    source, target = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])
    points, y = world(target, 3000, 1)
    proba = calibrated(points, source)
    found = correct(kind, proba, NAMES, validation=validation(source), known=100 * target)
    better = found.apply(proba)
    assert (better.argmax(axis=1) == y).mean() > (proba.argmax(axis=1) == y).mean() + 0.1
    np.testing.assert_allclose(better.sum(axis=1), 1)
    assert "label shift" in found.assumes
    assert set(json.loads(json.dumps(found.to_dict()))["target"]) == set(NAMES)


@settings(deadline=None, max_examples=20)
@given(priors, priors)
def test_correcting_to_a_known_prior_gives_that_priors_own_probabilities(source, target):
    points, _ = world(EVEN, 50, 0)
    found = correct("known", calibrated(points, source), NAMES, source=source, known=target)
    np.testing.assert_allclose(found.apply(calibrated(points, source)), calibrated(points, target))


def test_no_shift_changes_nothing():
    proba = calibrated(world(EVEN, 50, 0)[0], EVEN)
    assert (correct("known", proba, NAMES, source=EVEN, known=EVEN).apply(proba) == proba).all()
    mean = correct("em", proba, NAMES, source=proba.mean(axis=0))
    np.testing.assert_allclose(mean.apply(proba), proba)


def test_a_head_that_is_not_calibrated_is_told_of():
    rows = calibrated(world(EVEN, 500, 2)[0], EVEN)
    skewed = validation(np.array([0.6, 0.3, 0.1]), power=0.3)
    assert "not calibrated" in correct("em", rows, NAMES, validation=skewed).notes[0]
    fine = correct("em", rows, NAMES, validation=validation(EVEN))
    assert not any("calibrated" in note for note in fine.notes)


def test_a_class_that_vanishes_is_told_of():
    rows = np.tile([0.9, 0.1, 0.0], (100, 1))
    notes = correct("em", rows, NAMES, source=EVEN).notes
    assert "is left of b, c: do not trust this unseen" in notes[-1]


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("bbsee", {"source": EVEN}, "did you mean 'bbse'"),
        ("em", {}, "em needs to know the class prior"),
        ("known", {}, "or state a prior"),
        ("bbse", {"source": EVEN}, "give labelled validation rows$"),
        ("em", {"source": EVEN, "validation": validation(EVEN, 50)}, "once"),
        ("known", {"source": EVEN}, r"known class prior must be 3 positive numbers, however: \[\]"),
        ("em", {"source": np.array([1.0, 2.0, 0.0])}, "without a share: c"),
        ("em", {"source": np.array([1.0, 2.0])}, "must be 3 positive numbers"),
    ],
)
def test_what_cannot_be_corrected_is_refused(kind, given, message):
    with pytest.raises(PriorShiftError, match=message):
        correct(kind, np.tile(EVEN, (4, 1)), NAMES, **given)


def test_no_rows_and_no_labels_are_refused():
    with pytest.raises(PriorShiftError, match="no rows to correct"):
        correct("em", np.empty((0, 3)), NAMES, source=EVEN)
    unlabelled = Predictions(ids=("x",), classes=NAMES, proba=EVEN[None])
    with pytest.raises(PriorShiftError, match="no validation row has a label"):
        Validation.of(unlabelled)
