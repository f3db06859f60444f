from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion import HeadConfigError
from cer_fusion.fusion.heads.scaling import BlockNormalizer, BlockScaler


@pytest.mark.parametrize("kind", ["standard", "l2", "power"])
def test_scaled_training_columns_have_mean_zero_and_variance_one(kind, faces):
    scaled = BlockScaler(kind, faces.widths).fit(faces.X).transform(faces.X)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)
    assert scaled.dtype == np.float32


@pytest.mark.parametrize("kind", ["standard", "l2", "power"])
def test_scaling_a_block_before_is_undone(kind, faces):
    weighed = faces.X * np.repeat([4.0, 0.25, 2.0], list(faces.widths.values())).astype(np.float32)
    plain = BlockScaler(kind, faces.widths).fit(faces.X).transform(faces.X)
    other = BlockScaler(kind, faces.widths).fit(weighed).transform(weighed)
    np.testing.assert_allclose(plain, other, atol=1e-5)


def test_none_hands_rows_through(faces):
    assert BlockScaler("none", faces.widths).fit(faces.X).transform(faces.X) is faces.X


def test_a_constant_column_is_centred_and_not_blown_up(faces):
    X = faces.X.copy()
    X[:, 3] = 1e4 + 0.1
    scaled = BlockScaler("standard", faces.widths).fit(X).transform(X)
    np.testing.assert_allclose(scaled[:, 3], 0, atol=1e-2)


def test_inputs_stay_as_they_were(faces):
    before = faces.X.copy()
    for kind in ("standard", "l2", "power"):
        BlockScaler(kind, faces.widths).fit(faces.X).transform(faces.X)
        BlockNormalizer("power", faces.widths).fit(faces.X).transform(faces.X)
    np.testing.assert_array_equal(faces.X, before)


@pytest.mark.parametrize("kind", ["l2", "power"])
def test_normalised_rows_of_every_block_have_unit_length(kind, faces):
    parts = BlockNormalizer(kind, faces.widths).fit(faces.X).transform(faces.X)
    for name, part in parts.items():
        assert part.shape == (120, faces.widths[name])
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, atol=1e-5)


def test_unknown_words_are_refused(faces):
    with pytest.raises(HeadConfigError, match="did you mean 'standard'"):
        BlockScaler("standart", faces.widths)
    with pytest.raises(HeadConfigError, match="known: none, l2, power"):
        BlockNormalizer("L3", faces.widths)


@pytest.mark.parametrize(
    ("scaler", "word"), [(BlockScaler, "standardize=standard"), (BlockNormalizer, "normalize=none")]
)
def test_a_block_of_one_column_that_unit_length_leaves_nothing_of_is_told_once(scaler, word, caplog):
    rows = np.random.default_rng(0).uniform(1, 9, (20, 4)).astype(np.float32)
    name = f"arousal of {scaler.__name__}"
    for _ in range(3):
        scaler("power", {name: 1, "wide": 3}).fit(rows)
    told = [record.getMessage() for record in caplog.records if name in record.getMessage()]
    assert len(told) == 1
    assert word in told[0]
    scaler("none", {"other": 1, "wide": 3}).fit(rows)
    assert "other" not in caplog.text
