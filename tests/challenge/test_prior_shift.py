"""Class priors estimated and corrected for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.challenge import CORRECTIONS, Validation, bbse_prior, correct, em_prior
from cer_fusion.challenge.prior_shift import COST, calibrate
from cer_fusion.fusion.errors import PriorShiftError
from cer_fusion.fusion.judging.metrics import confusion_matrix
from cer_fusion.fusion.keeping.answers import Predictions
from tests.challenge.worlds import calibrated, world

NAMES = ("a", "b", "c")
EVEN = np.full(3, 1 / 3)

priors = st.lists(st.floats(0.1, 1.0), min_size=3, max_size=3).map(lambda x: np.array(x) / sum(x))


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
    found, _ = em_prior(proba, proba.mean(axis=0))
    np.testing.assert_allclose(found, proba.mean(axis=0))


def test_a_head_that_is_not_calibrated_is_told_of():
    rows = calibrated(world(EVEN, 500, 2)[0], EVEN)
    skewed = validation(np.array([0.6, 0.3, 0.1]), power=0.3)
    assert "not calibrated" in correct("em", rows, NAMES, validation=skewed).notes[0]
    fine = correct("em", rows, NAMES, validation=validation(EVEN))
    assert not any("calibrated" in note for note in fine.notes)


def test_a_class_that_vanishes_is_told_of():
    rows = np.tile([0.9, 0.1, 0.0], (100, 1))
    notes = correct("em", rows, NAMES, validation=validation(EVEN)).notes
    assert any("is left of b, c: do not trust this unseen" in note for note in notes)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("bbsee", {"source": EVEN}, "did you mean 'bbse'"),
        ("em", {}, "em needs to know the class prior"),
        ("known", {}, "or state a prior"),
        ("em", {"source": EVEN}, r"labelled rows to calibrate its probabilities on\n.*--validation"),
        ("auto", {"source": EVEN}, "labelled rows to calibrate"),
        ("bbse", {"source": EVEN}, "give labelled validation rows"),
        ("em", {"source": EVEN, "validation": validation(EVEN, 50)}, "once"),
        ("known", {"source": EVEN}, r"known class prior must be 3 positive numbers, however: \[\]"),
        ("known", {"source": np.array([1.0, 2.0, 0.0]), "known": EVEN}, "without a share: c"),
        ("known", {"source": np.array([1.0, 2.0]), "known": EVEN}, "must be 3 positive numbers"),
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


@settings(deadline=None, max_examples=25)
@given(priors, priors, st.integers(0, 99))
def test_em_recovers_a_shifted_prior_from_calibrated_rows(source, target, seed):
    points, y = world(target, 6000, seed)
    found, _ = em_prior(calibrated(points, source), source)
    np.testing.assert_allclose(found, np.bincount(y, minlength=3) / y.size, atol=0.035)
    assert found.sum() == pytest.approx(1)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(2, 7))
def test_nothing_changes_where_the_rows_average_to_the_prior(seed, k):
    proba = np.random.default_rng(seed).dirichlet(np.ones(k), size=200)
    source = proba.mean(axis=0)
    found, rounds = em_prior(proba, source)
    np.testing.assert_allclose(found, source, atol=1e-12)
    assert rounds == 1


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99))
def test_every_round_makes_the_rows_no_less_likely(seed):
    rng = np.random.default_rng(seed)
    proba, source = rng.dirichlet(np.ones(4), size=50), rng.dirichlet(np.full(4, 5.0))
    found, _ = em_prior(proba, source)

    def likelihood(prior: np.ndarray) -> float:
        return float(np.log((proba / source) @ prior).sum())

    assert likelihood(found) >= likelihood(source) - 1e-9
    for other in rng.dirichlet(np.ones(4), size=20):
        assert likelihood(found) >= likelihood(other) - 1e-6


def test_certain_rows_are_counted():
    found, _ = em_prior(np.eye(3)[[0, 0, 1, 2, 2, 2]], np.full(3, 1 / 3))
    np.testing.assert_allclose(found, [2 / 6, 1 / 6, 3 / 6])


def test_em_that_does_not_settle_says_so(monkeypatch):
    monkeypatch.setattr("cer_fusion.challenge.prior_shift.MOST_ROUNDS", 2)
    points, _ = world(np.array([0.8, 0.1, 0.1]), 200, 0)
    with pytest.raises(PriorShiftError, match="has not settled after 2 rounds"):
        em_prior(calibrated(points, np.full(3, 1 / 3)), np.full(3, 1 / 3))


def decisions(points: np.ndarray) -> np.ndarray:
    """Decisions of a head that is too sure and too fond of the first class: BBSE need not have it calibrated."""
    return (calibrated(points, np.array([0.6, 0.2, 0.2])) ** 3).argmax(axis=1)


@settings(deadline=None, max_examples=25)
@given(priors, priors, st.integers(0, 99))
def test_bbse_recovers_a_shifted_prior_from_any_head(source, target, seed):
    known, y_known = world(source, 6000, seed)
    new, y_new = world(target, 6000, seed + 1000)
    found, _ = bbse_prior(confusion_matrix(y_known, decisions(known), 3), decisions(new), NAMES)
    np.testing.assert_allclose(found, np.bincount(y_new, minlength=3) / y_new.size, atol=0.08)


@settings(deadline=None)
@given(st.integers(0, 99))
def test_nothing_changes_on_the_validation_rows_themselves(seed):
    points, y = world(np.array([0.5, 0.3, 0.2]), 500, seed)
    found, raised = bbse_prior(confusion_matrix(y, decisions(points), 3), decisions(points), NAMES)
    np.testing.assert_allclose(found, np.bincount(y, minlength=3) / y.size)
    assert raised == ()


def test_a_weight_below_nothing_is_raised_and_named():
    confusion = np.array([[80, 20, 0], [20, 80, 0], [0, 0, 100]])
    found, raised = bbse_prior(confusion, np.zeros(50, dtype=np.int64), NAMES)
    assert raised == ("b", "c")
    assert (found > 0).all()
    assert found[0] > 0.99


@pytest.mark.parametrize(
    ("confusion", "message"),
    [
        ([[5, 5, 0], [5, 5, 0], [0, 0, 0]], "class 'c' has no validation row"),
        ([[5, 5, 0], [5, 5, 0], [4, 6, 0]], "class 'c' is never decided"),
        ([[5, 5, 0], [5, 5, 0], [0, 0, 9]], "tell too little about the truth"),
    ],
)
def test_a_confusion_matrix_that_says_nothing_is_refused(confusion, message):
    with pytest.raises(PriorShiftError, match=message):
        bbse_prior(np.array(confusion), np.array([0, 1, 2]), NAMES)


SOURCE = np.array([0.6, 0.3, 0.1])
DISTORTED = {
    "calibrated": lambda p: p,
    "over-sure": lambda p: p**3,
    "under-sure": lambda p: p**0.4,
    "logit-adjusted": lambda p: p / SOURCE,
    "over-sure and logit-adjusted": lambda p: (p / SOURCE) ** 3,
}
SHIFTS = {"none": [0.6, 0.3, 0.1], "weak": [0.4, 0.35, 0.25], "strong": [0.1, 0.3, 0.6]}


def answers(prior: np.ndarray, n: int, seed: int, how: str, per_video: int = 1) -> Predictions:
    points, y = world(prior, n, seed)
    proba = DISTORTED[how](calibrated(points, SOURCE))
    return Predictions(
        ids=tuple(f"v{i // per_video}/{i % per_video + 1:05d}.jpg" for i in range(n)),
        classes=NAMES,
        proba=proba / proba.sum(axis=1, keepdims=True),
        labels=tuple(NAMES[i] for i in y),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", CORRECTIONS)
@pytest.mark.parametrize("how", DISTORTED)
def test_answers_that_are_not_calibrated_gain_by_a_shift_and_lose_nothing_without_one(kind, how):
    gains = {name: [] for name in SHIFTS}
    for seed in range(5):
        rows = Validation.of(answers(SOURCE, 2000, seed, how))
        for name, target in SHIFTS.items():
            new = answers(np.array(target), 2000, 100 + seed, how)
            found = correct(kind, new.proba, NAMES, validation=rows, known=np.array(target))
            right = found.apply(new.proba).argmax(axis=1) == new.y_true
            gains[name].append(right.mean() - (new.y_pred == new.y_true).mean())
    assert np.mean(gains["none"]) >= -COST
    assert np.mean(gains["weak"]) >= -COST
    # A head adjusted to even classes stands nearer to the new ones already: it has less to gain.
    assert np.mean(gains["strong"]) > (0.01 if "adjusted" in how else 0.1)


def test_calibrated_rows_average_to_the_frequencies_of_the_classes():
    rows = Validation.of(answers(SOURCE, 2000, 0, "over-sure and logit-adjusted"))
    found = calibrate(rows.proba, rows.y)
    np.testing.assert_allclose(found.apply(rows.proba).mean(axis=0), rows.supports / 2000, atol=1e-3)
    assert found.temperature == pytest.approx(3, rel=0.15)


def test_whether_correcting_helps_is_told_and_auto_leaves_answers_alone_where_it_does_not():
    rows, new = (Validation.of(answers(SOURCE, 2000, 0, "calibrated")), answers(SOURCE, 2000, 9, "calibrated"))
    asked = correct("em", new.proba, NAMES, validation=rows)
    assert asked.applied
    assert any("WARNING" in note and "does not clearly help" in note for note in asked.notes)
    auto = correct("auto", new.proba, NAMES, validation=rows)
    assert not auto.applied
    assert (auto.apply(new.proba) == new.proba).all()
    assert "NOT corrected" in auto.text
    shifted = answers(np.array([0.1, 0.3, 0.6]), 2000, 9, "calibrated")
    found = correct("auto", shifted.proba, NAMES, validation=rows)
    assert found.applied
    assert found.judged.helps
    assert json.loads(json.dumps(found.to_dict()))["judged"]["helps"]


def test_videos_are_the_units_of_the_judgement():
    rows = Validation.of(answers(SOURCE, 2000, 0, "calibrated", per_video=20))
    found = correct("em", answers(SOURCE, 500, 1, "calibrated").proba, NAMES, validation=rows)
    assert found.judged.groups == 100


def test_too_few_rows_to_judge_on_are_told_of_and_auto_corrects_nothing():
    rows = Validation.of(answers(EVEN, 60, 3, "calibrated", per_video=60))
    found = correct("auto", answers(SOURCE, 500, 1, "calibrated").proba, NAMES, validation=rows)
    assert (found.judged, found.applied) == (None, False)
    assert "cannot be judged" in found.notes[-1] or any("cannot be judged" in note for note in found.notes)
