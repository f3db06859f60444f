from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion import BlockError, HeadConfigError, make_head

PAIR = {"manet.local": 0.6, "manet.multi_scale": 0.4}
SAME_WIDTHS = {"manet.local": 8, "manet.multi_scale": 8}


@pytest.mark.parametrize("mode", ["concat", "sum"])
def test_only_the_proportions_of_weights_matter(mode, faces):
    X = faces.X[:, 12:]
    one = make_head("weighted", blocks=SAME_WIDTHS, weights=PAIR, mode=mode).fit(X, faces.y)
    ten = make_head("weighted", blocks=SAME_WIDTHS, weights={n: 10 * w for n, w in PAIR.items()}, mode=mode)
    np.testing.assert_allclose(one.predict_proba(X), ten.fit(X, faces.y).predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("mode", ["concat", "sum"])
def test_proportions_do_matter(mode, faces):
    X = faces.X[:, 12:]
    one = make_head("weighted", blocks=SAME_WIDTHS, weights=PAIR, mode=mode).fit(X, faces.y)
    other = make_head("weighted", blocks=SAME_WIDTHS, weights={"manet.local": 0.1, "manet.multi_scale": 0.9}, mode=mode)
    assert np.abs(one.predict_proba(X) - other.fit(X, faces.y).predict_proba(X)).max() > 0.05


@pytest.mark.parametrize("normalize", ["l2", "power"])
def test_the_scale_of_a_normalised_block_does_not_matter(normalize, faces):
    X = faces.X[:, 12:]
    louder = X * np.repeat([4.0, 1.0], 8).astype(np.float32)
    head = make_head("weighted", blocks=SAME_WIDTHS, weights=PAIR, normalize=normalize)
    np.testing.assert_allclose(
        head.fit(X, faces.y).predict_proba(X), head.fit(louder, faces.y).predict_proba(louder), atol=1e-4
    )


def test_a_block_of_weight_zero_has_no_say(faces):
    weights = {"vit": 1.0, "manet.local": 1.0, "manet.multi_scale": 0.0}
    head = make_head("weighted", blocks=faces.widths, weights=weights).fit(faces.X, faces.y)
    noise = faces.X.copy()
    noise[:, 20:] = np.random.default_rng(0).normal(size=(120, 8))
    np.testing.assert_allclose(head.predict_proba(faces.X), head.predict_proba(noise))


def test_the_sum_of_blocks_is_the_weighted_sum_of_unit_rows(faces):
    X = faces.X[:, 12:]
    head = make_head("weighted", blocks=SAME_WIDTHS, weights=PAIR, mode="sum").fit(X, faces.y)
    parts = head.normalizer_.transform(X)
    expected = (0.6 * parts["manet.local"] + 0.4 * parts["manet.multi_scale"]) * np.sqrt(8)
    np.testing.assert_allclose(head._weighed(X), expected, atol=1e-5)
    assert head.weights_ == pytest.approx(PAIR)


def test_an_mlp_may_stand_on_top(faces):
    params = {"hidden": (16,), "epochs": 20, "batch_size": 16, "lr": 0.02, "members": 1, "threads": 1}
    head = make_head("weighted", blocks=faces.widths, head="mlp", head_params=params).fit(faces.X, faces.y)
    assert head.score(faces.X, faces.y) > 0.8


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"mode": "sum"}, BlockError, "only blocks of one width can be summed, however: vit=12"),
        ({"mode": "product"}, HeadConfigError, "mode must be 'concat' or 'sum'"),
        ({"weights": {"vit": 1.0}}, BlockError, "no weight for block 'manet.local'"),
        ({"weights": {"vit": 1.0, "manet.local": 1.0, "manet": 1.0}}, BlockError, "there is no block 'manet'"),
        ({"head": "xgboost"}, HeadConfigError, "must be 'linear', 'mlp' or 'ridge'"),
        ({"head_params": {"standardize": "standard"}}, HeadConfigError, "would undo the weights"),
        ({"normalize": "L2"}, HeadConfigError, "did you mean 'l2'"),
    ],
)
def test_what_cannot_be_weighed_is_refused(params, error, message, faces):
    with pytest.raises(error, match=message):
        make_head("weighted", blocks=faces.widths, **params).fit(faces.X, faces.y)
