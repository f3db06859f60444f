"""Whatever a head chooses on rows kept aside, it keeps whole groups aside: no video stands on both sides."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cer_fusion.fusion import HeadConfigError, HeadDataError, head_names, make_head
from cer_fusion.fusion.heads import head_class, installed_heads
from cer_fusion.fusion.heads import mlp as mlp_module
from cer_fusion.fusion.heads import training as training_module
from cer_fusion.fusion.heads import weighted as weighted_module
from cer_fusion.fusion.heads import weights as weights_module
from cer_fusion.fusion.heads.neighbours import unit_rows
from cer_fusion.fusion.heads.ridge import RidgePath
from cer_fusion.fusion.heads.weights import stratified_folds
from tests.fusion.heads.conftest import QUICK, every_head

WIDTHS = {"sound": 8, "identity": 24}


class Videos:
    """Faces of videos: a sound block that tells the class a little, and one that tells the video, and so the class."""

    def __init__(self, videos: int = 60, rows: int = 8, k: int = 4, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.groups = np.repeat(np.arange(videos), rows)
        self.y = (np.arange(videos) % k)[self.groups]
        centres = np.random.default_rng(99).normal(size=(k, WIDTHS["sound"]))
        sound = centres[self.y] * 0.9 + random.normal(size=(len(self.y), WIDTHS["sound"]))
        identity = 3 * random.normal(size=(videos, WIDTHS["identity"]))[self.groups]
        identity = identity + 0.3 * random.normal(size=identity.shape)
        self.X = np.hstack([sound, identity]).astype(np.float32)

    @property
    def sound(self) -> NDArray[np.float32]:
        return self.X[:, : WIDTHS["sound"]]


@pytest.fixture(scope="module")
def videos() -> Videos:
    return Videos()


@pytest.fixture(scope="module")
def new_videos() -> Videos:
    return Videos(videos=80, seed=1)


def quick(name: str, blocks: dict[str, int] | None, **more: Any) -> Any:
    return make_head(name, blocks=blocks, random_state=0, **{**QUICK[name], **more})


@every_head
def test_no_group_stands_on_both_sides_of_a_choice(name, videos, monkeypatch):
    """Every splitter of the heads is watched: the rows that it keeps aside share no group with the others."""
    seen: list[NDArray[np.int64]] = []

    def watched(splitter: Any) -> Any:
        def split(codes: Any, *args: Any, groups: Any = None, **options: Any) -> Any:
            found = splitter(codes, *args, groups=groups, **options)
            assert groups is not None, f"{splitter.__name__} was not told the groups"
            for part in np.atleast_2d(found):
                for side in np.unique(part):
                    assert not np.intersect1d(groups[part == side], groups[part != side]).size
            seen.append(found)
            return found

        return split

    folds, aside = watched(weights_module.stratified_folds), watched(training_module.held_out)
    for module in (weights_module, mlp_module, weighted_module, training_module):
        monkeypatch.setattr(module, "stratified_folds", folds, raising=False)
    monkeypatch.setattr(training_module, "held_out", aside)
    settings = {"early_stop": 0.2} if "epochs" in QUICK[name] else {}
    settings |= {"weights": "learned"} if name == "weighted" else {}
    quick(name, WIDTHS, **settings).fit(videos.X, videos.y, groups=videos.groups)
    assert bool(seen) == (name in ("lda", "svm", "late", "stacking", "weighted") or "epochs" in QUICK[name])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("late", {}),
        ("late", {"weights": "learned_per_class"}),
        ("late", {"weights": "drawn_per_class", "draws": 100}),
        ("stacking", {"member": "linear", "folds": 3}),
        ("weighted", {"weights": "learned"}),
        ("mlp", {"members": 4, "epochs": 20}),
    ],
)
def test_a_head_that_chooses_among_blocks_is_not_misled_by_one_that_knows_the_videos(
    name, settings, videos, new_videos
):
    told = quick(name, WIDTHS, **settings).fit(videos.X, videos.y, groups=videos.groups)
    alone = quick(name, None, **{key: value for key, value in settings.items() if key != "weights"})
    alone = alone.fit(videos.sound, videos.y, groups=videos.groups)
    assert told.score(new_videos.X, new_videos.y) >= alone.score(new_videos.sound, new_videos.y) - 0.06
    blind = quick(name, WIDTHS, **settings).fit(videos.X, videos.y)
    assert told.score(new_videos.X, new_videos.y) > blind.score(new_videos.X, new_videos.y) + 0.05


@pytest.mark.parametrize("name", ["ridge", "lda", "svm", "ncm"])
def test_a_head_that_chooses_how_sure_it_is_errs_less_about_new_videos_in_the_mean_of_six_worlds(name):
    gains = []
    for seed in range(6):
        videos, new = Videos(seed=10 + seed), Videos(videos=80, seed=100 + seed)
        told = quick(name, WIDTHS).fit(videos.X, videos.y, groups=videos.groups)
        blind = quick(name, WIDTHS).fit(videos.X, videos.y)
        gains.append(log_loss(new.y, blind.predict_proba(new.X)) - log_loss(new.y, told.predict_proba(new.X)))
    assert np.mean(gains) > 0


def test_row_folds_take_identity_for_skill(videos, new_videos):
    """The fault that groups mend: told nothing, `late` trusts the block that knows the videos."""
    blind = quick("late", WIDTHS).fit(videos.X, videos.y)
    told = quick("late", WIDTHS).fit(videos.X, videos.y, groups=videos.groups)
    assert told.weights_["sound"] > 0.8 > blind.weights_["sound"]
    assert told.score(new_videos.X, new_videos.y) > blind.score(new_videos.X, new_videos.y) + 0.05


def test_ridge_leaves_whole_groups_out_exactly():
    random = np.random.default_rng(0)
    rows, targets = random.normal(size=(40, 7)), random.normal(size=(40, 3))
    groups, weights = np.repeat(np.arange(12), [1, 2, 3, 4, 5, 1, 4, 4, 6, 2, 4, 4]), random.uniform(0.5, 2, 40)
    for cut in (7, 60):  # fewer columns than rows, and more
        wide = np.hstack([rows, random.normal(size=(40, cut))])
        path = RidgePath(wide, targets, weights)
        found = path.left_out(0.3, groups)
        for group in range(12):
            out = groups == group
            mean = np.average(wide, axis=0, weights=weights)  # the penalty's unit is that of all rows
            assert mean.shape == (wide.shape[1],)
            peer = Ridge(alpha=0.3 * path.unit).fit(wide[~out], targets[~out], sample_weight=weights[~out])
            np.testing.assert_allclose(found[out], peer.predict(wide[out]), atol=1e-6)


def test_ncm_leaves_whole_groups_out_of_all_means(videos, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "cer_fusion.fusion.heads.neighbours.fitted_temperature",
        lambda cosines, codes: seen.update(cosines=cosines, codes=codes) or 1.0,
    )
    head = quick("ncm", WIDTHS).fit(videos.X, videos.y, groups=videos.groups)
    rows = unit_rows(head.normalizer_, videos.X)
    for group in range(3):
        out = videos.groups == group
        means = np.eye(4)[videos.y[~out]].T @ rows[~out]
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        np.testing.assert_allclose(seen["cosines"][out], rows[out] @ means.T, atol=1e-10)


def test_folds_keep_groups_whole_and_classes_even():
    random = np.random.default_rng(0)
    groups = random.integers(0, 40, 400)
    codes = (groups % 5 + random.integers(0, 2, 400)) % 5
    fold = stratified_folds(codes, 4, seed=3, groups=groups)
    assert all(len(np.unique(fold[groups == group])) == 1 for group in range(40))
    shares = np.stack([np.bincount(codes[fold == i], minlength=5) / np.bincount(codes) for i in range(4)])
    assert np.abs(shares - 0.25).max() < 0.08
    np.testing.assert_array_equal(fold, stratified_folds(codes, 4, seed=3, groups=groups))
    single = stratified_folds(codes, 4, seed=3, groups=np.arange(400))
    assert np.ptp(np.bincount(single)) <= 5


def test_fewer_groups_than_folds_are_told(caplog):
    codes, groups = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 1, 1])
    assert set(stratified_folds(codes, 5, seed=0, groups=groups)) == {0, 1}
    assert "2 groups are kept aside in 2 folds, not in 5" in caplog.text


@pytest.mark.parametrize("name", ["late", "mlp", "ridge", "svm"])
def test_a_class_of_one_group_is_refused_by_name_where_the_head_chooses(name, videos):
    groups = np.where(videos.y == 2, 1000, videos.groups)
    with pytest.raises(HeadDataError, match=rf"{name} chooses on groups kept aside, however: all rows of '2'"):
        quick(name, WIDTHS).fit(videos.X, videos.y, groups=groups)
    quick("linear", WIDTHS).fit(videos.X, videos.y, groups=groups)


@pytest.mark.parametrize("missing", [None, np.nan])
def test_rows_without_a_group_are_refused_and_not_taken_for_one(missing, videos):
    groups = videos.groups.astype(object)
    groups[[3, 7]] = missing
    with pytest.raises(HeadDataError, match=r"2 have none \(first: row 3\)"):
        quick("late", WIDTHS).fit(videos.X, videos.y, groups=groups)


def test_an_early_stop_that_would_look_at_nothing_is_refused():
    small = Videos(videos=16, rows=7)
    with pytest.raises(HeadConfigError, match=r"early_stop=0\.02 keeps no row aside .* the largest class has 28 rows"):
        quick("mlp", WIDTHS, early_stop=0.02).fit(small.X, small.y)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.7])
def test_groups_are_kept_aside_about_as_often_as_asked(share, videos):
    kept = training_module.held_out(videos.y, share, seed=0, groups=videos.groups)
    assert abs(kept.mean() - share) < 0.06


@every_head
def test_groups_and_weights_of_other_lengths_are_refused(name, videos):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick(name, WIDTHS).fit(videos.X, videos.y, groups=videos.groups[:-1])


@every_head
def test_a_head_weighs_rows_or_says_that_it_cannot(name, videos):
    chosen = slice(0, 240)
    X, y = videos.X[chosen], videos.y[chosen]
    weights = np.where(y == 0, 20.0, 1.0)
    if not head_class(name).weighs_rows:
        with pytest.raises(HeadDataError, match=f"the head '{name}' cannot weigh rows"):
            quick(name, WIDTHS).fit(X, y, sample_weight=weights)
        return
    noise = np.random.default_rng(5).normal(size=X.shape).astype(np.float32)  # rows that tell nothing: weights decide
    plain = quick(name, WIDTHS).fit(noise, y).predict_proba(noise)[:, 0].mean()
    weighed = quick(name, WIDTHS).fit(noise, y, sample_weight=weights).predict_proba(noise)[:, 0].mean()
    assert weighed > plain + 0.05


@pytest.mark.parametrize("name", ["mlp", "linear", "ridge", "late", "xgboost", "histgb"])
def test_a_weight_of_zero_is_no_row(name, videos):
    X, y, groups = videos.X[:240], videos.y[:240], videos.groups[:240]
    weights = np.where(np.arange(240) % 3 == 0, 0.0, 1.0)
    left = weights > 0
    weighed = quick(name, WIDTHS).fit(X, y, groups=groups, sample_weight=weights)
    without = quick(name, WIDTHS).fit(X[left], y[left], groups=groups[left], sample_weight=weights[left])
    np.testing.assert_array_equal(weighed.predict_proba(X), without.predict_proba(X))


def test_every_head_says_whether_it_weighs_rows():
    able = {name for name in head_names() if name in installed_heads() and head_class(name).weighs_rows}
    assert able >= {"mlp", "linear", "weighted", "late", "stacking", "ridge", "xgboost", "histgb", "tabm", "gated"}
    assert not able & {"knn", "ncm", "lda", "svm"}


@pytest.mark.parametrize("name", ["linear", "ridge"])
def test_a_weight_of_two_is_a_row_twice(name, videos):
    chosen = np.arange(0, 480, 3)
    X, y = videos.X[chosen], videos.y[chosen]
    weights = np.where(np.arange(len(y)) < 50, 2.0, 1.0)
    settings: dict[str, Any] = {"standardize": "none"}
    settings |= {"C": 1.0, "class_weight": None} if name == "ridge" else {}
    weighed = quick(name, WIDTHS, **settings).fit(X, y, sample_weight=weights)
    twice = quick(name, WIDTHS, **settings).fit(np.vstack([X, X[:50]]), np.concatenate([y, y[:50]]))
    if name == "ridge":  # its temperature is of rows left out, of which a row that stands twice is never one
        np.testing.assert_allclose(weighed.coef_, twice.coef_, atol=1e-5)
    else:
        np.testing.assert_allclose(weighed.predict_proba(X), twice.predict_proba(X), atol=2e-3)


def test_scikit_learn_hands_groups_on(videos):
    head = quick("late", WIDTHS)
    scores = cross_val_score(
        head, videos.X, videos.y, cv=GroupKFold(4), groups=videos.groups, params={"groups": videos.groups}
    )
    assert scores.shape == (4,)
    with config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        asked = quick("late", WIDTHS).set_fit_request(groups=True)
        piped = make_pipeline(StandardScaler(), asked)
        search = GridSearchCV(piped, {"latehead__mix": ["arithmetic", "geometric"]}, cv=GroupKFold(3))
        search.fit(videos.X, videos.y, groups=videos.groups)
        assert search.best_estimator_[-1].weights_["sound"] > 0.8
