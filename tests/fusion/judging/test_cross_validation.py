from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from cer_fusion.fusion import cross_compare
from cer_fusion.fusion.data.rows import Rows, folds_of, tied
from cer_fusion.fusion.errors import HeadDataError, ReportError
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.report import Report, report_table
from tests.fusion.judging.test_comparison import lazily, rows


class Learned(GaussianNB):
    """Remembers what it was fitted on and asked about."""

    seen: list[tuple[np.ndarray, np.ndarray]] = []  # noqa: RUF012

    def predict_proba(self, X):
        self.seen.append((self.theirs, X))
        return super().predict_proba(X)

    def fit(self, X, y):
        self.theirs = X
        return super().fit(X, y)


def test_every_row_is_answered_by_a_head_that_did_not_learn_from_it():
    Learned.seen = []
    given = rows(60, 0)
    found = cross_compare({"bayes": Learned()}, given, folds=4, singles=False, resamples=20)
    assert len(Learned.seen) == 4
    for learnt, asked in Learned.seen:
        assert not {row.tobytes() for row in learnt} & {row.tobytes() for row in asked}
        assert len(learnt) + len(asked) == 60
    assert found.ids == given.names
    assert found.folds == 4
    assert found.columns[0].fitted is None


def test_out_of_fold_answers_stand_where_their_rows_stand():
    given = rows(60, 0)
    found = cross_compare({"bayes": GaussianNB()}, given, folds=3, singles=False, resamples=20, seed=5)
    expected = np.empty((60, 3))
    for learn, held in folds_of(given, 3, 5):
        expected[held] = GaussianNB().fit(given.x()[learn], given.y[learn]).predict_proba(given.x()[held])
    np.testing.assert_allclose(found.columns[0].proba, expected)
    assert found.columns[0].scores.to_dict() == scores(given.y, expected.argmax(axis=1), given.classes).to_dict()


@pytest.mark.parametrize("how", ["groups", "ties"])
def test_neither_a_group_nor_a_repeated_picture_stands_on_both_sides(how):
    """A one-neighbour head knows by heart what it has seen, so a twin on the other side would give it away."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(60, 4)), 2, axis=0).astype(np.float32)  # noise: nothing to learn but the twin
    y = np.repeat(rng.integers(0, 3, 60), 2)
    ids = tuple(f"{i}" for i in range(120))
    given = Rows(blocks={"vit": x}, y=y, classes=("a", "b", "c"), ids=ids)
    by_heart = {"knn": KNeighborsClassifier(1)}
    assert cross_compare(by_heart, given, resamples=20).columns[0].scores.accuracy > 0.7
    if how == "ties":
        kept = tied(given, zip(ids[::2], ids[1::2], strict=True))
    else:
        kept = Rows(blocks={"vit": x}, y=y, classes=("a", "b", "c"), groups=tuple(f"v{i // 2}" for i in range(120)))
    found = cross_compare(by_heart, kept, resamples=20)
    assert found.columns[0].scores.accuracy < 0.5
    assert found.clustered
    assert any("60 groups, none of them cut" in note for note in found.notes)


def test_figures_of_several_repeats_are_the_mean_of_the_repeats_own():
    given = rows(60, 0)
    heads = {"tree": DecisionTreeClassifier(max_depth=3), "bayes": GaussianNB()}
    found = cross_compare(heads, given, repeats=3, singles=False, baseline="bayes", resamples=200, seed=2)
    alone = [cross_compare(heads, given, singles=False, resamples=20, seed=2 + repeat) for repeat in range(3)]
    for name in heads:
        column, each = found.column(name), [report.column(name).scores for report in alone]
        assert column.mean("macro_f1") == pytest.approx(np.mean([one.macro_f1 for one in each]))
        assert column.spread("accuracy") == pytest.approx(np.std([one.accuracy for one in each], ddof=1))
        np.testing.assert_allclose(column.recall, np.mean([one.recall for one in each], axis=0))
        assert [run.y_pred.tolist() for run in column.other_runs] == [
            report.column(name).y_pred.tolist() for report in alone[1:]
        ]
        assert column.mean("accuracy") in column.accuracy
    versus = found.column("tree").versus
    assert versus.macro_f1 == pytest.approx(
        found.column("tree").mean("macro_f1") - found.column("bayes").mean("macro_f1")
    )
    assert versus.macro_f1 in versus.macro_f1_interval


def test_any_classifier_is_cloned_seeded_and_left_unfitted():
    head = make_pipeline(StandardScaler(), LogisticRegression())
    tree = make_pipeline(StandardScaler(), DecisionTreeClassifier())
    found = cross_compare({"pipeline": head, "tree": tree}, rows(45, 0), folds=3, singles=False, resamples=20, seed=9)
    again = cross_compare({"pipeline": head, "tree": tree}, rows(45, 0), folds=3, singles=False, resamples=20, seed=9)
    assert not hasattr(head[-1], "classes_")
    assert tree[-1].random_state is None
    for name in ("pipeline", "tree"):
        assert (found.column(name).proba == again.column(name).proba).all()


def test_single_backbones_have_columns_and_progress_is_told():
    told = []
    found = cross_compare(
        {"bayes": GaussianNB()}, rows(45, 0), folds=3, resamples=20, progress=lambda *step: told.append(step)
    )
    assert [column.name for column in found.columns] == ["bayes", "vit", "manet"]
    titles = [*("bayes", "vit", "manet") * 3, "intervals and tests"]
    assert told == [(i, 9, title) for i, title in enumerate(titles)]


def test_a_cross_validated_report_survives_its_file_and_its_table_says_what_it_is(tmp_path):
    found = cross_compare({"bayes": GaussianNB()}, rows(45, 0), folds=3, repeats=2, singles=False, resamples=20)
    assert Report.load(found.save(tmp_path / "report.json")).to_dict() == found.to_dict()
    table = report_table(found)
    assert table.title == "bayes on 45 rows, 3 folds"
    assert [row[0].text for row in table.rows][5:7] == ["Accuracy, ± (points)", "Macro F1, ± (points)"]
    text = " ".join(table.notes)
    assert "rows: Sadly Angry" in text
    assert "means of 2 repeats" in text
    assert "Wilson" not in text


def test_rows_on_the_disk_are_cross_validated_as_loaded_ones_are():
    from cer_fusion.fusion import make_head

    given = rows(60, 0)
    loaded, lazy = (
        cross_compare({"linear": make_head("linear")}, one, folds=3, singles=False, resamples=20)
        for one in (given, lazily(given))
    )
    np.testing.assert_allclose(lazy.columns[0].proba, loaded.columns[0].proba, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"repeats": 0}, ReportError, "at least one repeat"),
        ({"folds": 1}, HeadDataError, "folds must be at least 2"),
        ({"folds": 50}, HeadDataError, "50 folds need"),
        ({"baseline": "byes"}, ReportError, "did you mean 'bayes'"),
    ],
)
def test_what_cannot_be_cross_validated_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        cross_compare({"bayes": GaussianNB()}, rows(45, 0), singles=False, **options)
