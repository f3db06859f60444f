"""Choosing blocks by name, alone and within scikit-learn's own machinery."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from cer_fusion.fusion import BlockError, Blocks, JoinedRows, Rows, compare, make_head
from tests.fusion.lazy import LazyBlock

WIDTHS = {"vit": 4, "manet.local": 2, "manet.multi_scale": 3, "resnet50": 1}
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 60)
X = (RNG.normal(size=(60, 10)) + Y[:, None]).astype(np.float32)

BY_POSITION = {"check_do_not_raise_errors_in_init_or_set_params": "names are given by position, and have no keyword"}


def test_it_passes_scikit_learns_checks():
    check_estimator(Blocks(), expected_failed_checks=BY_POSITION, on_skip=None)


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        ((), range(10)),
        (("vit",), range(4)),
        (("manet",), range(4, 9)),
        (("resnet50", "manet.local"), [9, 4, 5]),
    ],
)
def test_blocks_and_features_are_taken_in_the_order_in_which_they_are_named(names, columns):
    chosen = Blocks(*names, blocks=WIDTHS).fit(X)
    np.testing.assert_array_equal(chosen.transform(X), X[:, list(columns)])
    assert chosen.transform(X).dtype == np.float32
    assert chosen.columns_.tolist() == list(columns)
    assert len(chosen.get_feature_names_out()) == len(columns)


def test_names_of_columns_say_block_and_number():
    chosen = Blocks("resnet50", "manet", blocks=WIDTHS).fit(X)
    assert chosen.get_feature_names_out().tolist() == [
        "resnet50_0", "manet.local_0", "manet.local_1",
        "manet.multi_scale_0", "manet.multi_scale_1", "manet.multi_scale_2",
    ]  # fmt: skip
    assert chosen.blocks_ == {"resnet50": 1, "manet.local": 2, "manet.multi_scale": 3}


def test_a_frame_says_itself_whose_its_columns_are():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    titles = [f"{name}_{i}" for name, width in WIDTHS.items() for i in range(width)]
    frame = pandas.DataFrame(X, columns=titles)
    frame.insert(0, "label", Y)
    chosen = Blocks("manet.local", "vit").fit(frame)
    found = chosen.transform(frame)
    assert found.columns.tolist() == [*titles[4:6], *titles[:4]]
    assert chosen.get_feature_names_out().tolist() == found.columns.tolist()
    assert Blocks("vit")(frame) == titles[:4]
    with pytest.raises(ValueError, match="feature names should match"):
        chosen.transform(frame[["label", *reversed(titles)]])


def test_lazy_rows_stay_on_the_disk():
    parts = np.split(X, np.cumsum(list(WIDTHS.values()))[:-1], axis=1)
    lazy = JoinedRows({name: LazyBlock(part) for name, part in zip(WIDTHS, parts, strict=True)})
    found = Blocks("manet").fit(lazy).transform(lazy)
    assert isinstance(found, JoinedRows)
    np.testing.assert_array_equal(np.asarray(found), X[:, 4:9])


@pytest.mark.parametrize(
    ("blocks", "names", "rows", "told"),
    [
        (None, ("vit",), X, "give Blocks.*blocks=view.widths"),
        (WIDTHS, ("vot",), X, "no block 'vot'; did you mean 'vit'"),
        (WIDTHS, ("manet", "manet.local"), X, "'manet.local' is named twice"),
        ({"vit": 4}, ("vit",), X, "10"),
    ],
)
def test_what_cannot_be_chosen_is_told(blocks, names, rows, told):
    with pytest.raises(BlockError, match=told):
        Blocks(*names, blocks=blocks).fit(rows)


def test_it_is_cloned_and_set_like_any_estimator():
    one = Blocks("vit", "manet", blocks=WIDTHS)
    assert clone(one).get_params() == one.get_params()
    assert "chosen=('vit', 'manet')" in repr(one)
    assert one.set_params(chosen=("resnet50",)).fit(X).columns_.tolist() == [9]


def test_a_pipeline_learns_from_the_chosen_blocks_alone():
    line = make_pipeline(Blocks("vit", blocks=WIDTHS), StandardScaler(), LogisticRegression()).fit(X, Y)
    alone = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:, :4], Y)
    np.testing.assert_array_equal(line.predict_proba(X), alone.predict_proba(X[:, :4]))
    assert line[:-1].get_feature_names_out().tolist() == ["vit_0", "vit_1", "vit_2", "vit_3"]


def test_a_search_chooses_among_blocks():
    line = make_pipeline(Blocks(blocks=WIDTHS), LogisticRegression())
    grid = {"blocks__chosen": [("vit",), ("vit", "manet")]}
    search = GridSearchCV(line, grid, cv=3).fit(X, Y)
    assert search.best_params_["blocks__chosen"] in grid["blocks__chosen"]


def test_a_column_transformer_reduces_each_block_by_itself():
    table = ColumnTransformer(
        [("vit", PCA(2), Blocks("vit", blocks=WIDTHS)), ("rest", "passthrough", Blocks("manet", blocks=WIDTHS))]
    ).fit(X)
    found = table.transform(X)
    assert found.shape == (60, 2 + 5)
    np.testing.assert_array_equal(found[:, 2:], X[:, 4:9])
    assert table.get_feature_names_out()[:2].tolist() == ["vit__pca0", "vit__pca1"]


def test_a_comparison_takes_a_pipeline_of_chosen_blocks_and_a_head():
    parts = dict(zip(WIDTHS, np.split(X, np.cumsum(list(WIDTHS.values()))[:-1], axis=1), strict=True))
    rows = Rows(blocks=parts, y=Y, classes=("a", "b", "c"), ids=tuple(map(str, range(60))))
    chosen = Blocks("manet", blocks=WIDTHS)
    line = make_pipeline(chosen, make_head("late", member="ridge", blocks={"manet.local": 2, "manet.multi_scale": 3}))
    report = compare({"two": line}, rows.take(np.arange(40)), rows.take(np.arange(40, 60)), singles=False, resamples=20)
    assert report.columns[0].accuracy.high > 1 / 3
