from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.plane import KEY, Explored, principal, umap_of, write_explored
from cer_fusion.kit.errors import MissingExtraError, OutputExistsError


def blocks(n: int, widths: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (rng.normal(size=(n, d)) * np.arange(1, d + 1) + 5).astype(np.float32) for name, d in widths.items()}


class Lazy:
    """A block that stays where it is."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape = rows, rows.shape

    def __getitem__(self, key):
        return self.rows[key]


@pytest.mark.parametrize(("n", "widths"), [(60, {"a": 4, "b": 9}), (12, {"a": 30, "b": 40})])
def test_places_are_those_of_a_singular_value_decomposition_of_blocks_of_equal_variance(n, widths):
    given = blocks(n, widths)
    scaled = np.concatenate([(b - b.mean(0)) / np.sqrt(b.var(0).sum()) for b in given.values()], axis=1)
    u, s, _ = np.linalg.svd(scaled.astype(np.float64), full_matrices=False)
    places, shares = principal(given)
    np.testing.assert_allclose(np.abs(places), np.abs(u[:, :2] * s[:2]), atol=1e-4)
    np.testing.assert_allclose(shares, (s**2 / (s**2).sum())[:2], atol=1e-5)
    np.testing.assert_allclose(principal({name: Lazy(one) for name, one in given.items()})[0], places, atol=1e-5)


def test_a_block_counts_alike_whatever_its_scale_and_no_sign_is_left_to_chance():
    given = blocks(40, {"a": 3, "b": 3})
    places, _ = principal(given)
    np.testing.assert_allclose(principal({**given, "b": 1000 * given["b"]})[0], places, atol=1e-4)
    again, _ = principal({name: rows[::-1] for name, rows in given.items()})
    np.testing.assert_allclose(again[::-1], places, atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        {"a": np.zeros((5, 3), np.float32)},
        {"a": np.ones((1, 3), np.float32)},
        {"a": np.arange(4.0, dtype=np.float32)[:, None]},
    ],
)
def test_rows_that_span_no_plane_lie_on_a_line_or_a_point(given):
    places, shares = principal(given)
    assert places.shape == (len(given["a"]), 2)
    assert np.isfinite(places).all()
    assert not places[:, 1].any()
    assert shares[1] == 0


def test_umap_is_asked_for_by_name_seeded_and_told_the_first_components(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cer-fusion\[umap\]'"):
        umap_of(blocks(10, {"a": 4}), seed=0)
    asked = []

    def made(**settings):
        return SimpleNamespace(fit_transform=lambda rows: (asked.append((settings, rows.shape)), rows[:, :2])[1])

    module = ModuleType("umap")
    module.UMAP = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    assert umap_of(blocks(80, {"a": 40, "b": 30}), seed=3).shape == (80, 2)
    assert asked == [({"n_components": 2, "n_neighbors": 15, "random_state": 3, "n_jobs": 1}, (80, 50))]
    with pytest.raises(ReportError, match="five rows or more, however: 3"):
        umap_of(blocks(3, {"a": 4}), seed=0)


def test_umap_itself_gives_the_same_places_twice():
    pytest.importorskip("umap", reason="umap-learn is not installed")
    given = blocks(30, {"a": 6})
    np.testing.assert_array_equal(umap_of(given, seed=1), umap_of(given, seed=1))


def explored(**changes) -> Explored:
    given = {
        "places": np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), "kind": "pca", "shares": (0.5, 0.25),
        "ids": ("s1", "s2", "s3"), "y": np.array([0, 1, -1]), "proba": np.array([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]]),
        "classes": ("a", "b"), "splits": ("test",) * 3, "groups": ("g", "g", "s3"),
        "paths": ("1.png", "2.png", "3.png"),
    }  # fmt: skip
    return Explored(**{**given, **changes})


def test_a_table_has_a_row_a_sample_and_says_how_it_was_made(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write_explored(tmp_path / "x.parquet", explored(), described={"head": "mlp"})
    table = parquet.read_table(path)
    assert table.column_names == [
        "sample_id", "path", "x", "y", "label", "predicted", "correct", "confidence", "loss", "split", "group",
    ]  # fmt: skip
    found = table.to_pydict()
    assert (found["label"], found["predicted"]) == (["a", "b", None], ["a", "a", "b"])
    assert found["correct"] == [True, False, None]
    assert found["confidence"] == [0.75, 0.5, 1.0]
    assert found["loss"] == [pytest.approx(-np.log(0.75)), pytest.approx(-np.log(0.5)), None]
    assert json.loads(table.schema.metadata[KEY.encode()]) == {
        "head": "mlp", "map": "pca", "variance": [0.5, 0.25], "classes": ["a", "b"],
    }  # fmt: skip
    with pytest.raises(OutputExistsError):
        write_explored(path, explored(), described={})


def test_a_label_of_probability_zero_has_a_loss_that_is_a_number():
    assert np.isfinite(explored(y=np.array([1, 0, 0])).loss).all()


def test_thumbnails_are_pictures_for_datasets_and_nothing_is_left_where_the_write_fails(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write_explored(
        tmp_path / "x.parquet", explored(thumbnails=(b"\xff\xd8\xff1", None, b"\xff\xd8\xff3")), described={}
    )
    table = parquet.read_table(path)
    assert table["thumbnail"].to_pylist() == [
        {"bytes": b"\xff\xd8\xff1", "path": None}, None, {"bytes": b"\xff\xd8\xff3", "path": None}
    ]  # fmt: skip
    assert json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["thumbnail"] == {"_type": "Image"}

    def full(*args, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", full)
    with pytest.raises(OSError):
        write_explored(tmp_path / "y.parquet", explored(), described={})
    assert [one.name for one in tmp_path.iterdir()] == ["x.parquet"]
