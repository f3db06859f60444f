from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from cer_fusion.fusion.errors import FusionError, ReportError
from cer_fusion.fusion.judging.metrics import confusion_matrix, indices, scores

PAPER_ORDER = (
    "Angrily_Surprised",
    "Disgustedly_Surprised",
    "Fearfully_Surprised",
    "Happily_Surprised",
    "Sadly_Angry",
    "Sadly_Fearful",
    "Sadly_Surprised",
)
SUPPORTS = [38, 35, 116, 135, 33, 22, 18]
CORRECT = {
    "vit": [23, 18, 93, 125, 28, 16, 7],
    "manet": [20, 13, 94, 121, 25, 14, 7],
    "resnet50": [21, 21, 88, 116, 28, 14, 10],
    "ensemble": [23, 22, 98, 123, 27, 17, 11],
}
TABLE = {
    "vit": ([60.53, 51.43, 80.17, 92.59, 84.85, 72.72, 38.89], 78.09),
    "manet": ([52.63, 37.14, 81.03, 89.63, 75.75, 63.64, 38.89], 74.06),
    "resnet50": ([55.26, 60.00, 75.86, 85.93, 84.85, 63.64, 55.56], 75.06),
    "ensemble": ([60.53, 62.86, 84.48, 91.11, 81.82, 77.27, 61.11], 80.86),
}


def answers(correct: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the paper's supports, of which so many of each class are right and the rest called the next class."""
    y = np.repeat(np.arange(7), SUPPORTS)
    wrong = np.concatenate([np.arange(n) >= hit for n, hit in zip(SUPPORTS, correct, strict=True)])
    return y, np.where(wrong, (y + 1) % 7, y)


@pytest.mark.parametrize("model", sorted(TABLE))
def test_the_papers_table_follows_from_its_supports_and_correct_counts(model):
    per_class, accuracy = TABLE[model]
    found = scores(*answers(CORRECT[model]), PAPER_ORDER)
    assert found.n == 397
    assert found.supports.tolist() == SUPPORTS
    assert found.correct.tolist() == CORRECT[model]
    assert 100 * found.accuracy == pytest.approx(accuracy, abs=0.011)
    assert 100 * found.recall == pytest.approx(per_class, abs=0.011)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_every_figure_equals_scikit_learns(pairs):
    y, p = np.array(pairs).T
    found = scores(y, p, "abcde")
    labels = list(range(5))
    assert (found.confusion == oracle.confusion_matrix(y, p, labels=labels)).all()
    assert found.accuracy == pytest.approx(oracle.accuracy_score(y, p))
    options = {"labels": labels, "zero_division": 0.0}
    assert found.macro_f1 == pytest.approx(oracle.f1_score(y, p, average="macro", **options))
    assert found.f1 == pytest.approx(oracle.f1_score(y, p, average=None, **options))
    assert np.nan_to_num(found.recall) == pytest.approx(oracle.recall_score(y, p, average=None, **options))
    assert np.nan_to_num(found.precision) == pytest.approx(oracle.precision_score(y, p, average=None, **options))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60), st.randoms())
def test_scores_do_not_depend_on_the_order_of_rows_nor_of_classes(pairs, random):
    y, p = np.array(pairs).T
    order = list(range(4))
    random.shuffle(order)
    shuffled = list(pairs)
    random.shuffle(shuffled)
    a = scores(y, p, "abcd")
    b = scores(*np.array(order)[np.array(shuffled).T], "abcd")
    assert a.n == b.n == len(pairs)
    assert a.accuracy == pytest.approx(b.accuracy)
    assert a.macro_f1 == pytest.approx(b.macro_f1)
    assert (a.confusion == b.confusion[np.ix_(order, order)]).all()


def test_a_class_without_rows_counts_as_zero_and_is_named():
    found = scores([0, 0, 1], [0, 2, 1], ("a", "b", "c", "d"))
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 + 0 + 0) / 4)
    assert found.macro_f1_supported == pytest.approx((2 / 3 + 1) / 2)
    assert found.unsupported == ("c", "d")
    assert found.absent == ("d",)
    assert np.isnan(found.recall[2:]).all()
    assert found.mean_recall == pytest.approx((0.5 + 1) / 2)
    assert found.to_dict()["per_class_accuracy"] == [0.5, 1.0, None, None]


def test_labels_may_be_names_or_positions():
    by_name = scores(["b", "a"], ["b", "b"], ("a", "b"))
    by_position = scores([1, 0], [1, 1], ("a", "b"))
    assert by_name.to_dict() == by_position.to_dict()


@pytest.mark.parametrize(
    ("y", "p", "classes", "message"),
    [
        ([], [], "ab", "no rows"),
        ([0, 1], [0], "ab", "one length"),
        ([0, 2], [0, 1], "ab", "outside 0..1"),
        ([0, -1], [0, 1], "ab", "first: -1 in row 1"),
        (["a", "z"], ["a", "b"], "ab", "no declared class: z"),
        ([[0]], [[0]], "ab", "vector"),
        ([0.5], [0.5], "ab", "no declared class: 0.5"),
        ([0], [0], "aa", "different names"),
        ([0], [0], "", "non-empty"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_a_reason(y, p, classes, message):
    with pytest.raises(ReportError, match=message) as caught:
        scores(y, p, classes)
    assert isinstance(caught.value, FusionError)
    assert isinstance(caught.value, ValueError)


def test_rows_of_the_confusion_matrix_are_the_truth():
    assert confusion_matrix(np.array([0, 0, 1]), np.array([1, 1, 1]), 2).tolist() == [[0, 2], [0, 1]]


def test_positions_follow_the_declared_order_of_the_classes():
    assert indices(["Sadly", "Angrily"], ("Sadly", "Angrily")).tolist() == [0, 1]
