from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cer_fusion.fusion import ExpressionError, ReportError, compare, compound_proba, cross_compare, make_head
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.judging.report import Report
from cer_fusion.fusion.judging.zero_shot.columns import ZeroShotColumns
from cer_fusion.fusion.page.report_table import report_table
from sklearn.linear_model import LogisticRegression

BASIC = ("Anger", "Contempt", "Fear", "Sadness", "Surprise")
COMPOUND = ("Sadly Angry", "Sadly Fearful", "Fearfully Surprised")
PARTS = ((0, 3), (3, 2), (2, 4))
DIRECTIONS = np.eye(5, 6)


def rows(x: np.ndarray, y: np.ndarray, classes: tuple[str, ...], **changes: object) -> Rows:
    given = {"blocks": {"a": x[:, :3], "b": x[:, 3:]}, "y": y, "classes": classes, "fingerprints": {"a": "1", "b": "2"}}
    return Rows(**given | {"features": ("a", "b"), "ids": tuple(f"{classes[0]}{i}" for i in range(len(y)))} | changes)


def basic(n: int = 80, seed: int = 0, **changes: object) -> Rows:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 5
    return rows((3 * DIRECTIONS[y] + rng.normal(size=(n, 6))).astype(np.float32), y, BASIC, **changes)


def compound(n: int, seed: int, **changes: object) -> Rows:
    """A compound lies between the directions of its two components."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = 3 * DIRECTIONS[np.array(PARTS)[y]].sum(axis=1) + rng.normal(size=(n, 6))
    ids = tuple(f"{seed}/{i}" for i in range(n))
    return rows(x.astype(np.float32), y, COMPOUND, **{"ids": ids} | changes)


def zero_shot(**changes: object) -> ZeroShotColumns:
    return ZeroShotColumns(**{"head": make_head("linear"), "rows": basic(), "rules": ("sum", "product")} | changes)


@pytest.fixture(scope="module")
def report() -> Report:
    return compare(
        {"linear": make_head("linear")}, compound(60, 1), compound(50, 2), singles=False, baseline="linear",
        resamples=200, zero_shot=zero_shot(),
    )  # fmt: skip


def test_a_zero_shot_column_stands_beside_trained_heads_with_the_same_intervals_and_tests(report):
    assert [column.name for column in report.columns] == ["linear", "zero-shot sum", "zero-shot product"]
    for column in report.columns[1:]:
        assert column.versus is not None
        assert column.versus.p_holm is not None
        assert column.macro_f1.low <= column.scores.macro_f1 <= column.macro_f1.high
        assert column.scores.accuracy > 0.7
        assert column.params["head"] == "LinearHead"
    text = " ".join(report_table(report).notes)
    assert "learned from 80 rows of 'basic' with basic expressions (Anger 16, Contempt 16, Fear 16" in text


def test_its_figures_are_those_of_fitting_the_head_by_hand(report):
    head = make_head("linear", blocks=basic().widths, random_state=0).fit(basic().x(), basic().y)
    answers = head.predict_proba(compound(50, 2).x())
    for rule in ("sum", "product"):
        column = report.column(f"zero-shot {rule}")
        np.testing.assert_allclose(column.proba, compound_proba(answers, BASIC, COMPOUND, rule=rule))
        np.testing.assert_array_equal(column.fitted.predict_proba(compound(50, 2).x()), column.proba)


def test_a_report_with_zero_shot_columns_is_kept_and_read_back(report, tmp_path):
    found = Report.load(report.save(tmp_path / "r.json"))
    assert found.to_dict() == report.to_dict()


def test_folds_do_not_change_its_answers_since_it_learns_from_none_of_them():
    asked = compound(60, 3)
    options = {"singles": False, "resamples": 50, "zero_shot": zero_shot()}
    crossed = cross_compare({"linear": make_head("linear")}, asked, folds=3, repeats=2, **options)
    plain = compare({"linear": make_head("linear")}, compound(60, 1), asked, **options)
    column = crossed.column("zero-shot product")
    np.testing.assert_array_equal(column.proba, plain.column("zero-shot product").proba)
    assert column.spread("accuracy") == 0


def test_every_seed_is_a_fit_of_a_head_that_has_seeds():
    zero = zero_shot(head=make_head("mlp", epochs=2, hidden=[4]))
    found = compare(
        {"linear": make_head("linear")}, compound(60, 1), compound(50, 2), singles=False, seeds=3, resamples=50,
        zero_shot=zero,
    )  # fmt: skip
    assert len({run.y_pred.tobytes() for run in found.column("zero-shot sum").other_runs}) == 2


def test_a_component_without_rows_and_classes_that_are_no_compounds_are_refused_by_name():
    without = basic().take(np.flatnonzero(basic().y != 3))
    with pytest.raises(ExpressionError, match="'Sadly Angry' needs sadness, and no basic class means that: Anger, Con"):
        zero_shot(rows=without).check(compound(9, 1))
    with pytest.raises(ExpressionError, match="there is no compound expression 'Anger'"):
        zero_shot().check(basic())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprints": {"a": "1", "b": "3"}}, r"come from different features \(b\)"),
        ({"blocks": {"b": np.ones((80, 3), np.float32), "a": np.ones((80, 3), np.float32)}}, "the same blocks"),
    ],
)
def test_rows_of_other_features_are_refused_before_anything_is_fitted(changes, message):
    zero = zero_shot(rows=replace(basic(), **changes))
    with pytest.raises(ReportError, match=message):
        compare({"linear": LogisticRegression()}, compound(60, 1), compound(50, 2), zero_shot=zero)


def test_a_head_of_the_same_title_is_refused():
    with pytest.raises(ReportError, match="'zero-shot sum' is the title of a head as well"):
        compare({"zero-shot sum": LogisticRegression()}, compound(60, 1), compound(50, 2), zero_shot=zero_shot())


@pytest.mark.parametrize(
    ("rules", "message"), [(("prodct",), "did you mean 'product'"), ((), "at least one"), (("sum", "sum"), "different")]
)
def test_rules_that_are_none_are_refused(rules, message):
    with pytest.raises(ExpressionError, match=message):
        zero_shot(rules=rules)
