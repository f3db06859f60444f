"""Every head is a torch module that answers the same, or is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cer_fusion.fusion import HeadConfigError, make_head
from cer_fusion.fusion.heads.torch_form import Spread, torch_form
from tests.fusion.heads.conftest import every_head, quick_head

OF_TREES = ("xgboost", "histgb", "lightgbm", "catboost")


def answered(head, X):
    with torch.no_grad():
        return torch_form(head)(torch.from_numpy(X)).numpy()


@every_head
def test_the_form_of_a_head_answers_as_the_head_does(name, faces, more_faces):
    head = quick_head(name, blocks=faces.widths).fit(faces.X, faces.y)
    if name in OF_TREES or head.learns_in_time:
        with pytest.raises(HeadConfigError, match=f"'{name}' cannot be written as a graph"):
            torch_form(head)
        return
    found = answered(head, more_faces.X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, head.predict_proba(more_faces.X), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *(("late", {"mix": mix, "member": "ridge"}) for mix in ("arithmetic", "geometric", "harmonic", "rank")),
        ("late", {"weights": {"vit": 2, "manet.local": 0, "manet.multi_scale": 1}}),
        ("late", {"member": {"vit": "mlp", "manet.local": "lda", "manet.multi_scale": "svm"},
                  "member_params": {"vit": {"epochs": 2, "members": 2, "hidden": (8,)}}}),
        *(("linear", {"standardize": kind}) for kind in ("none", "standard", "l2", "power")),
        *(("ncm", {"normalize": kind}) for kind in ("none", "l2", "power")),
        ("weighted", {"weights": "learned"}),
        ("weighted", {"head": "ridge", "weights": {"vit": 0.6, "manet.local": 0.4, "manet.multi_scale": 0}}),
        ("mlp", {"fusion": "concat", "hidden": (8,), "norm": "layer", "epochs": 3}),
        ("mlp", {"hidden": (), "epochs": 3}),
        ("gated", {"gate": "sigmoid", "width": 4, "epochs": 2}),
        ("knn", {"neighbours": 500}),
        ("lda", {"calibrate": False}),
    ],
)  # fmt: skip
def test_the_form_follows_the_settings(name, params, faces, more_faces):
    head = make_head(name, blocks=faces.widths, **params).fit(faces.X, faces.y)
    np.testing.assert_allclose(answered(head, more_faces.X), head.predict_proba(more_faces.X), atol=2e-5)


def test_summed_blocks_have_a_form(faces):
    widths = {"a": 14, "b": 14}
    head = make_head("weighted", blocks=widths, mode="sum", weights={"a": 3, "b": 1}).fit(faces.X, faces.y)
    np.testing.assert_allclose(answered(head, faces.X), head.predict_proba(faces.X), atol=2e-5)


def test_a_row_of_zeros_has_an_answer(faces):
    head = quick_head("linear", blocks=faces.widths).fit(faces.X, faces.y)
    zeros = np.zeros((1, faces.X.shape[1]), np.float32)
    np.testing.assert_allclose(answered(head, zeros), head.predict_proba(zeros), atol=1e-6)


def test_a_member_without_a_form_is_named(faces):
    head = make_head("late", blocks=faces.widths, member="histgb").fit(faces.X, faces.y)
    with pytest.raises(HeadConfigError, match="'histgb' cannot be written as a graph"):
        torch_form(head)


def test_classes_that_were_never_seen_get_no_probability(faces):
    head = quick_head("ridge", blocks=faces.widths).fit(faces.X, faces.y * 2)
    with torch.no_grad():
        found = Spread(torch_form(head), head.classes_, 8)(torch.from_numpy(faces.X)).numpy()
    assert found.shape == (len(faces.X), 8)
    assert (found[:, 1::2] == 0).all()
    np.testing.assert_allclose(found[:, ::2], head.predict_proba(faces.X), atol=2e-5)
