"""The two heads of angles: nearest class mean, nearest rows."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion import HeadConfigError, make_head
from cer_fusion.fusion.heads.base import softmax
from cer_fusion.fusion.heads.neighbours import unit_rows


@pytest.mark.parametrize("name", ["ncm", "knn"])
def test_lengths_of_rows_and_scales_of_blocks_do_not_matter(name, faces):
    head = make_head(name, blocks=faces.widths).fit(faces.X, faces.y)
    scaled = faces.X * np.repeat([4.0, 0.25, 2.0], list(faces.widths.values())).astype(np.float32)
    again = make_head(name, blocks=faces.widths).fit(scaled, faces.y)
    np.testing.assert_allclose(again.predict_proba(scaled), head.predict_proba(faces.X), atol=1e-5)


def test_class_means_are_compared_by_cosine(faces, more_faces):
    head = make_head("ncm", blocks=faces.widths).fit(faces.X, faces.y)
    rows, asked = (unit_rows(head.normalizer_, X) for X in (faces.X, more_faces.X))
    means = np.stack([rows[faces.y == c].mean(axis=0) for c in range(4)])
    cosines = asked @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    np.testing.assert_allclose(head.predict_proba(more_faces.X), softmax(cosines / head.temperature_))


def test_many_rows_of_a_class_do_not_draw_answers_to_it(faces):
    more = np.concatenate([np.arange(120), *[np.flatnonzero(faces.y == 0)] * 5])
    head = make_head("ncm", blocks=faces.widths, normalize="none").fit(faces.X[more], faces.y[more])
    plain = make_head("ncm", blocks=faces.widths, normalize="none").fit(faces.X, faces.y)
    np.testing.assert_allclose(head.means_, plain.means_, atol=1e-6)


def test_a_row_alone_has_no_say_in_how_sure_class_means_are():
    """Leave-one-out: rows of pure noise lie near a mean that they are a third of, and are not believed for it."""
    noise = np.random.default_rng(0).normal(size=(9, 200)).astype(np.float32)
    head = make_head("ncm").fit(noise, np.arange(9) % 3)
    assert head.predict_proba(noise).max() < 0.6


def test_neighbours_vote_with_the_exponential_of_their_cosine(faces, more_faces):
    head = make_head("knn", neighbours=3, temperature=0.2).fit(faces.X, faces.y)
    row = unit_rows(head.normalizer_, more_faces.X[:1])[0]
    cosines = head.rows_.astype(np.float64) @ row
    nearest = np.argsort(-cosines)[:3]
    votes = np.exp(cosines[nearest] / 0.2)
    expected = votes.min() * np.bincount(faces.y) / 120 + np.bincount(faces.y[nearest], votes, minlength=4)
    np.testing.assert_allclose(head.predict_proba(more_faces.X[:1])[0], expected / expected.sum(), rtol=1e-6)


def test_more_neighbours_than_rows_are_all_rows(faces):
    heads = [make_head("knn", neighbours=count).fit(faces.X, faces.y) for count in (120, 10_000)]
    np.testing.assert_array_equal(*(head.predict_proba(faces.X) for head in heads))


@pytest.mark.parametrize("params", [{"neighbours": 0}, {"neighbours": 2.5}, {"temperature": 0.0}])
def test_settings_that_make_no_sense_are_refused(params, faces):
    with pytest.raises(HeadConfigError, match="must be"):
        make_head("knn", **params).fit(faces.X, faces.y)
