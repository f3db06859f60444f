"""Heads that learn from rows that do not fit in memory, and all heads asked about such rows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from cer_fusion.fusion import BlockError, HeadDataError, load_head, make_head, save_head
from cer_fusion.fusion.data.joined import CHUNK, JoinedRows
from cer_fusion.fusion.heads import head_class, heads_in_pieces, installed_heads
from cer_fusion.fusion.heads.scaling import BlockScaler
from tests.fusion.heads.conftest import Faces, every_head, quick_head
from tests.fusion.lazy import LazyBlock, lazy_join

in_pieces = pytest.mark.parametrize("name", heads_in_pieces())
the_others = pytest.mark.parametrize("name", [name for name in installed_heads() if name not in heads_in_pieces()])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Pieces and windows of 256 rows, so that hundreds of rows behave as millions do."""
    monkeypatch.setattr("cer_fusion.fusion.data.joined.LARGEST_PIECE", CHUNK)
    monkeypatch.setattr("cer_fusion.fusion.heads.training.WINDOW_BYTES", 1)


@pytest.fixture(scope="module")
def many() -> Faces:
    return Faces(n=900)


@pytest.fixture
def lazy(many) -> JoinedRows:
    return lazy_join(many.blocks)


@every_head
def test_heads_that_learn_in_pieces_are_listed_by_name(name):
    assert head_class(name).learns_in_pieces == (name in heads_in_pieces())


@in_pieces
def test_a_head_learns_from_rows_that_stay_on_the_disk(name, many, lazy, more_faces):
    head = quick_head(name, blocks=many.widths).fit(lazy, many.names)
    assert head.score(lazy_join(more_faces.blocks), more_faces.names) > 0.85
    assert head.n_features_in_ == 28
    assert lazy.blocks["vit"].largest == CHUNK


@in_pieces
@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}, {"class_weight": {2: 3.0}}], ids=str)
@pytest.mark.parametrize("k", [2, 4])
def test_a_head_learns_in_pieces_as_well_as_in_memory(name, params, k, many, lazy, more_faces):
    y = many.y % k
    params = params if k > 2 or "balanced" in params.values() else {}
    here = quick_head(name, blocks=many.widths, **params).fit(many.X, y)
    there = quick_head(name, blocks=many.widths, **params).fit(lazy, y)
    right = [(head.predict(more_faces.X) == more_faces.y % k).mean() for head in (here, there)]
    assert right[1] > right[0] - 0.03
    if name == "linear":
        np.testing.assert_allclose(there.predict_proba(more_faces.X), here.predict_proba(more_faces.X), atol=1e-3)


@pytest.mark.parametrize("standardize", ["none", "standard", "l2", "power"])
def test_linear_finds_the_optimum_that_scikit_learn_finds(standardize, many, lazy, more_faces):
    params = {"standardize": standardize, "C": 1.0, "class_weight": {0: 2.0}}
    here = make_head("linear", blocks=many.widths, **params).fit(many.X, many.y)
    there = make_head("linear", blocks=many.widths, **params).fit(lazy, many.y)
    np.testing.assert_allclose(there.predict_proba(more_faces.X), here.predict_proba(more_faces.X), atol=1e-4)
    np.testing.assert_allclose(there.coef_, here.coef_, atol=1e-3)


def test_linear_says_when_it_stops_before_the_optimum(many, lazy):
    for X in (many.X, lazy):
        with pytest.warns(ConvergenceWarning):
            head = make_head("linear", blocks=many.widths, C=1e4, max_iter=2).fit(X, many.y)
        assert head.n_iter_ == 2


@pytest.mark.parametrize(
    "params",
    [
        {"early_stop": 0.25, "patience": 2},
        {"precision": "bfloat16"},
        {"label_smoothing": 0.0, "logit_adjust": 1.0},
        {"members": 1, "hidden": ()},
        {"schedule": "constant", "batch_size": 300},
        {"fusion": "concat"},
    ],
    ids=str,
)
def test_every_setting_of_mlp_works_in_pieces(params, many, lazy):
    head = quick_head("mlp", blocks=many.widths, **params).fit(lazy, many.y)
    assert head.score(many.X, many.y) > 0.85
    assert {network.course.window for network in head.networks_} == {CHUNK}


def test_rows_in_memory_were_shuffled_all_at_once(many):
    assert quick_head("mlp", epochs=1).fit(many.X, many.y).networks_[0].course.window == 0


@in_pieces
def test_equal_rows_and_seed_give_equal_bytes(name, many, tmp_path, monkeypatch):
    for number, workers in enumerate((1, 3)):
        monkeypatch.setattr("cer_fusion.fusion.data.joined.WORKERS", workers)
        head = quick_head(name, blocks=many.widths).fit(lazy_join(many.blocks), many.y)
        save_head(head, tmp_path / str(number), fingerprints={})
    for path in (tmp_path / "0").iterdir():
        assert path.read_bytes() == (tmp_path / "1" / path.name).read_bytes(), path.name
    np.testing.assert_array_equal(load_head(tmp_path / "0").predict_proba(many.X), head.predict_proba(many.X))


@every_head
def test_every_head_answers_about_lazy_rows_as_about_loaded_ones(name, faces, many, lazy):
    head = quick_head(name, blocks=faces.widths).fit(faces.X, faces.y)
    np.testing.assert_allclose(head.predict_proba(lazy), head.predict_proba(many.X), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(head.predict(lazy), head.predict(many.X))
    assert lazy.blocks["vit"].largest == CHUNK


def test_members_answer_in_pieces_too(faces, many, lazy):
    head = quick_head("late", blocks=faces.widths).fit(faces.X, faces.y)
    np.testing.assert_allclose(head.member_proba(lazy), head.member_proba(many.X), rtol=0, atol=1e-12)


@the_others
def test_a_head_that_needs_all_rows_says_how_many_bytes_and_where_heads_that_do_not_are_named(name, many, lazy):
    with pytest.raises(HeadDataError, match=r"at least 100,800 bytes for 900 rows(?s:.)*heads_in_pieces\(\)"):
        quick_head(name, blocks=many.widths).fit(lazy, many.y)
    assert not lazy.blocks["vit"].asked


@in_pieces
def test_nan_in_a_later_piece_is_refused_by_row_and_block(name, many, faces):
    spoilt = {block: rows.copy() for block, rows in many.blocks.items()}
    spoilt["manet.local"][600, 2] = np.nan
    with pytest.raises(HeadDataError, match=r"row 600, block 'manet\.local', column 2"):
        quick_head(name, blocks=many.widths).fit(lazy_join(spoilt), many.y)
    head = quick_head(name, blocks=many.widths).fit(faces.X, faces.y)
    with pytest.raises(HeadDataError, match="row 600"):
        head.predict_proba(lazy_join(spoilt))


@in_pieces
def test_blocks_in_another_order_are_refused_by_name(name, many, lazy):
    swapped = JoinedRows({block: lazy.blocks[block] for block in ("vit", "manet.multi_scale", "manet.local")})
    with pytest.raises(BlockError, match=r"expected vit=12, manet\.local=8.*found vit=12, manet\.multi_scale=8"):
        quick_head(name, blocks=many.widths).fit(swapped, many.y)
    head = quick_head(name, blocks=many.widths).fit(many.X, many.y)
    with pytest.raises(BlockError, match="found vit=12"):
        head.predict_proba(swapped)
    with pytest.raises(BlockError, match=r"X has 12 features, but .* is expecting 28"):
        head.predict_proba(lazy_join({"vit": many.blocks["vit"]}))


@in_pieces
@pytest.mark.parametrize("y", [np.zeros(900), np.arange(899) % 2, np.linspace(0, 1, 900), np.zeros((900, 2))], ids=len)
def test_labels_that_no_head_takes_are_refused(name, y, many, lazy):
    with pytest.raises(ValueError):
        quick_head(name, blocks=many.widths).fit(lazy, y)


@in_pieces
def test_no_rows_are_refused(name, many, lazy):
    none = lazy.take(slice(0, 0))
    with pytest.raises(HeadDataError, match="no rows"):
        quick_head(name).fit(none, many.y[:0])
    with pytest.raises(HeadDataError, match="no rows"):
        quick_head(name).fit(many.X, many.y).predict_proba(none)


@pytest.mark.parametrize("kind", ["none", "standard", "l2", "power"])
def test_scales_learned_in_pieces_are_those_learned_at_once(kind, many, lazy):
    here, there = (BlockScaler(kind, many.widths).fit(X) for X in (many.X + 0, lazy))
    np.testing.assert_allclose(there.mean, here.mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(there.scale, here.scale, rtol=1e-6)


def test_scales_in_pieces_bear_a_mean_far_from_zero(many):
    """The textbook's difference of squares would lose every digit here."""
    X = (1e4 + many.X).astype(np.float32)
    here, there = (BlockScaler("standard", {"x": 28}).fit(rows) for rows in (X, lazy_join({"x": X})))
    np.testing.assert_allclose(there.scale, here.scale, rtol=1e-5)


def test_scales_can_be_learned_anew(many, lazy):
    scaler = BlockScaler("power", many.widths).fit(many.X[:100])
    np.testing.assert_array_equal(scaler.fit(lazy).mean, BlockScaler("power", many.widths).fit(lazy).mean)


@in_pieces
def test_memory_does_not_grow_with_the_rows(name):
    """Ten times the rows: what NumPy and PyTorch read at once stays; beyond it only labels and numbers grow."""

    def peak(n: int) -> tuple[int, int]:
        rows = np.random.default_rng(0).normal(size=(4096, 64)).astype(np.float32)
        block = Endless(rows, n)
        tracemalloc.start()
        try:
            if name == "linear":
                with pytest.warns(ConvergenceWarning):
                    make_head(name, max_iter=1).fit(JoinedRows({"x": block}), np.arange(n) % 3)
            else:
                quick_head(name, epochs=1).fit(JoinedRows({"x": block}), np.arange(n) % 3)
            return tracemalloc.get_traced_memory()[1], block.largest
        finally:
            tracemalloc.stop()

    small, large = peak(4_000), peak(40_000)
    assert small[1] == large[1] == CHUNK
    assert large[0] < small[0] + 36_000 * 100  # bytes a row, of 256 that a row of the matrix takes


class Endless(LazyBlock):
    """A block of n rows that takes the memory of a few."""

    def __init__(self, rows: np.ndarray, n: int) -> None:
        super().__init__(rows)
        self.shape = (n, rows.shape[1])
        self.most = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key):
        asked = np.arange(len(self))[key]
        self.most = max(self.most, len(asked))
        return self.rows[asked % len(self.rows)]

    @property
    def largest(self) -> int:
        return self.most
