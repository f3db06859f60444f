"""A head over time: where neighbours hold the answer it must find it, and elsewhere they must not matter."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from cer_fusion.fusion import JoinedRows, Rows, compare, load_head, make_head, save_head
from cer_fusion.fusion.data.moments import entered_moments
from cer_fusion.fusion.errors import HeadConfigError, HeadDataError
from cer_fusion.fusion.heads.base import fit_part
from cer_fusion.fusion.heads.torch_form import torch_form
from cer_fusion.fusion.judging.entries import in_time, taught

QUICK = {
    "width": 32,
    "window": 5,
    "members": 1,
    "dropout": 0.2,
    "threads": 1,
    "lr": 1e-2,
    "epochs": 12,
    "batch_size": 64,
}
KINDS = ("transformer", "convolution")


def film(count, frames, seed, *, shown=-1, mark=3.0):
    """Rows of noise in which a frame's class is marked `shown` frames away from it; 0: in the frame itself."""
    random = np.random.default_rng(seed)
    n = count * frames
    y, X = random.integers(3, size=n), random.normal(size=(n, 12))
    videos, times = np.repeat(np.arange(count), frames), np.tile(np.arange(frames), count)
    place = np.arange(n) + shown
    inside = (times + shown >= 0) & (times + shown < frames)
    X[place[inside], y[inside]] += mark
    return X.astype(np.float32), y, videos, times


def head(**settings):
    return make_head("sequence", random_state=0, **{**QUICK, **settings})


def accuracy(learn, ask, *, name="sequence", **settings):
    X, y, videos, times = learn
    asked, truth, of, at = ask
    if name == "mlp":
        known = {one: value for one, value in QUICK.items() if one not in ("width", "window")}
        return float((make_head("mlp", hidden=[32], **known).fit(X, y, groups=videos).predict(asked) == truth).mean())
    return float((head(**settings).fit(X, y, groups=videos, times=times).predict(asked, of, at) == truth).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_neighbour_shows_is_found_where_a_perceptron_finds_nothing(kind):
    learn, ask = film(60, 12, 0), film(30, 12, 1)
    assert accuracy(learn, ask, name="mlp") < 0.42
    assert accuracy(learn, ask, kind=kind) > 0.65


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_future_shows_is_found_by_windows_of_both_ways_and_not_by_causal_ones(kind):
    learn, ask = film(60, 12, 0, shown=1), film(30, 12, 1, shown=1)
    both, causal = (accuracy(learn, ask, kind=kind, causal=one) for one in (False, True))
    assert both > 0.65
    assert causal < 0.45
    past = accuracy(film(60, 12, 0), film(30, 12, 1), kind=kind, causal=True)
    assert past > 0.65


def test_time_stamps_that_are_shuffled_within_videos_destroy_the_gain():
    (X, y, videos, times), ask = film(60, 12, 0), film(30, 12, 1)
    random = np.random.default_rng(0)
    wrong = np.concatenate([random.permutation(times[videos == one]) for one in np.unique(videos)])
    assert accuracy((X, y, videos, wrong), ask) < accuracy((X, y, videos, times), ask) - 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_where_every_row_shows_its_own_class_time_does_not_matter(kind):
    learn, ask = film(40, 10, 0, shown=0), film(60, 10, 1, shown=0)
    assert accuracy(learn, ask, kind=kind) > accuracy(learn, ask, name="mlp") - 0.04
    assert accuracy(learn, ask, kind=kind) > accuracy(learn, ask, kind=kind, window=1) - 0.04


@pytest.mark.parametrize("settings", [{}, {"kind": "convolution"}, {"causal": True}, {"scenes": 2}])
def test_rows_in_any_order_all_at_once_or_a_video_at_a_time_are_answered_alike(settings):
    X, y, videos, times = film(12, 8, 0)
    order = np.random.default_rng(3).permutation(len(X))
    fitted = head(**settings).fit(X, y, groups=videos, times=times)
    proba = fitted.predict_proba(X, videos, times)
    shuffled = fitted.predict_proba(X[order], videos[order], times[order])
    np.testing.assert_allclose(shuffled, proba[order], atol=1e-12)
    apart = [fitted.predict_proba(X[videos == v], videos[videos == v], times[videos == v]) for v in range(12)]
    np.testing.assert_allclose(np.concatenate(apart), proba, atol=1e-12)
    lazy = JoinedRows({"x": X[order]})
    np.testing.assert_allclose(fitted.predict_proba(lazy, videos[order], times[order]), proba[order], atol=1e-12)


def test_training_rows_in_another_order_make_windows_of_the_same_rows():
    X, _, videos, times = film(5, 7, 0)
    order = np.random.default_rng(3).permutation(len(X))
    sizes = {"size": 5, "causal": False, "step": 1.0}
    plain = entered_moments(videos, times, len(X)).windows(**sizes)
    mixed = entered_moments(videos[order], times[order], len(X)).windows(**sizes)
    np.testing.assert_array_equal(np.where(mixed < 0, -1, order[mixed]), plain[order])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_video_change_no_answer_about_another(kind):
    X, y, videos, times = film(12, 8, 0)
    fitted = head(kind=kind).fit(X, y, groups=videos, times=times)
    other = X.copy()
    other[videos == 3] = 50 * np.random.default_rng(1).normal(size=(8, 12))
    before, after = fitted.predict_proba(X, videos, times), fitted.predict_proba(other, videos, times)
    np.testing.assert_allclose(after[videos != 3], before[videos != 3], atol=1e-12)
    assert np.abs(after[videos == 3] - before[videos == 3]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_later_rows_change_no_earlier_answer_where_windows_are_causal(kind):
    X, y, videos, times = film(12, 8, 0)
    late = times >= 5
    for causal in (True, False):
        fitted = head(kind=kind, causal=causal).fit(X, y, groups=videos, times=times)
        other = X.copy()
        other[late] = 50 * np.random.default_rng(1).normal(size=(late.sum(), 12))
        before = fitted.predict_proba(X, videos, times)[~late]
        after = fitted.predict_proba(other, videos, times)[~late]
        gone = fitted.predict_proba(X[~late], videos[~late], times[~late])
        if causal:
            np.testing.assert_allclose(after, before, atol=1e-12)
            np.testing.assert_allclose(gone, before, atol=1e-12)
        else:
            assert np.abs(after - before).max() > 1e-3


# windows


def test_a_gap_is_a_gap_in_the_window_and_rows_beyond_it_do_not_move_up():
    moments = entered_moments(np.zeros(5), np.array([1, 2, 5, 6, 30]), 5)
    found = moments.windows(size=5, causal=False, step=1.0)
    assert found.tolist() == [[-1, -1, 0, 1, -1], [-1, 0, 1, -1, -1], [-1, -1, 2, 3, -1], [-1, 2, 3, -1, -1],
                              [-1, -1, 4, -1, -1]]  # fmt: skip
    assert moments.windows(size=4, causal=True, step=1.0)[2].tolist() == [1, -1, -1, 2]


def test_uneven_time_stamps_take_the_nearest_row_within_half_a_step_and_every_nth_frame_has_its_own_step():
    moments = entered_moments(np.zeros(4), np.array([0.0, 0.98, 2.04, 3.6]), 4)
    assert moments.windows(size=3, causal=False, step=1.0)[1].tolist() == [0, 1, 2]
    assert moments.windows(size=3, causal=False, step=1.0)[2].tolist() == [1, 2, -1]
    assert entered_moments(np.repeat([0, 1], 3), np.tile([1, 6, 11], 2), 6).usual_step() == 5
    assert entered_moments(["a", "b"], [1, 2], 2).usual_step() == 1


def test_rows_of_a_group_without_times_stand_in_the_order_of_their_times():
    X, y, videos, times = film(12, 8, 0)
    plain, told = (head().fit(X, y, groups=videos, times=one) for one in (None, times))
    np.testing.assert_array_equal(plain.predict_proba(X, videos), told.predict_proba(X, videos, times))


def test_pictures_and_videos_of_one_row_are_windows_of_one_row_and_it_is_said(caplog):
    X, y, *_ = film(40, 1, 0, shown=0)
    with caplog.at_level(logging.INFO, "cer_fusion"):
        pictures = head().fit(X, y)
    assert "no row has a video: each is a window of one row" in caplog.text
    np.testing.assert_allclose(pictures.predict_proba(X), pictures.predict_proba(X, np.arange(40)), atol=1e-12)
    with caplog.at_level(logging.INFO, "cer_fusion"):
        single = head().fit(X, y, groups=np.arange(40))
    assert "no window holds two rows" in caplog.text
    np.testing.assert_allclose(single.predict_proba(X), single.predict_proba(X, np.arange(40)), atol=1e-12)


def test_a_row_without_a_video_or_a_time_stands_alone_among_others():
    X, y, videos, times = film(12, 8, 0)
    fitted = head().fit(X, y, groups=videos, times=times)
    named, known = videos.astype(str).astype(object), times.astype(float)
    named[3], known[11] = "", np.nan
    proba = fitted.predict_proba(X, named, known)
    for row in (3, 11):
        np.testing.assert_allclose(proba[row], fitted.predict_proba(X[row : row + 1], [""])[0], atol=1e-12)


# what rows know of time


def rows_of(X, y, videos, times, **more):
    ids = tuple(f"film{v:02}/{t + 1:05}.jpg" for v, t in zip(videos, times, strict=True))
    groups = tuple(f"film{v:02}" for v in videos)
    return Rows(blocks={"x": X}, y=y, classes=("a", "b", "c"), ids=ids, groups=groups, **more)


def test_frame_numbers_in_ids_tell_the_order_and_numbered_pictures_of_class_folders_are_no_frames():
    rows = rows_of(*film(3, 4, 0))
    videos, times = rows.in_time()
    assert videos[5] == "film01"
    assert times.tolist() == [1, 2, 3, 4] * 3
    ids = tuple(f"Happy/{i:05}.jpg" for i in range(12))
    for groups in (None, ("",) * 12, tuple(f"person{i}" for i in range(12))):
        found = Rows(blocks=rows.blocks, y=rows.y, classes=rows.classes, ids=ids, groups=groups).in_time()
        assert set(found[0]) == {""}
        assert np.isnan(found[1]).all()


def test_groups_that_were_tied_keep_their_videos_apart_and_rows_that_are_taken_their_times():
    X, y, videos, times = film(4, 4, 0)
    rows = rows_of(X, y, videos, times, time_s=times / 25)
    tied = Rows(blocks=rows.blocks, y=y, classes=rows.classes, ids=rows.ids, groups=("both",) * 16)
    assert tied.in_time()[0] == rows.in_time()[0]
    np.testing.assert_allclose(rows.take(np.array([2, 9])).in_time()[1], [2 / 25, 1 / 25])


def test_times_that_run_backwards_or_repeat_are_refused_by_video_and_frame():
    X, y, videos, times = film(2, 4, 0)
    backwards = times / 25
    backwards[6] = 0.01
    with pytest.raises(
        HeadDataError, match=r"run backwards \(first: video 'film01', frame 2 at 0.04 s, frame 3 at 0.01"
    ):
        rows_of(X, y, videos, times, time_s=backwards).in_time()
    times[3] = 1
    with pytest.raises(HeadDataError, match=r"repeat \(first: video '0', rows 1 and 3, both at 1\)"):
        head().fit(X, y, groups=videos, times=times)


def test_a_comparison_tells_a_head_over_time_the_videos_and_times_and_the_report_says_so():
    train, test = rows_of(*film(40, 10, 0)), film(20, 10, 1)
    test = rows_of(test[0], test[1], test[2] + 50, test[3]).take(np.random.default_rng(0).permutation(200))
    found = compare(
        {"sequence": head(), "ridge": make_head("ridge")}, train, test,
        singles=False, resamples=30,
    )  # fmt: skip
    assert found.column("sequence").scores.accuracy > 0.6
    assert found.column("ridge").scores.accuracy < 0.45
    assert any("200 of 200 rows are frames of 20 videos" in note for note in found.notes)
    fitted = found.column("sequence").fitted
    again = fit_part(head(), train.x(), train.y, train.clusters, **taught(head(), train))
    asked = test.x()
    np.testing.assert_array_equal(
        again.predict_proba(asked, **in_time(again, test)), fitted.predict_proba(asked, **in_time(fitted, test))
    )


# settings, keeping, refusals


def test_early_stopping_keeps_whole_videos_aside_and_scenes_have_networks_of_their_own():
    X, y, videos, times = film(30, 10, 0)
    stopped = head(early_stop=0.3, patience=2, epochs=40).fit(X, y, videos=videos, times=times)
    assert stopped.networks_[0].course.epochs < 40
    apart = X + np.where(videos % 2, 6.0, -6.0)[:, None].astype(np.float32)  # two scenes
    fitted = head(scenes=2, standardize="standard").fit(apart, y, groups=videos, times=times)
    assert fitted.centres_.shape == (2, 12)
    assert np.sign(fitted.centres_[:, 0]).sum() == 0


def flipped(count, seed, *, alike=False):
    """Two scenes, told by columns of their own, in which the same signs mean other classes; or one scene alone."""
    random = np.random.default_rng(seed)
    videos = np.repeat(np.arange(count), 6)
    scene, y = videos % 2, random.integers(3, size=6 * count)
    meant = y if alike else (y + scene) % 3
    place = np.zeros(len(y)) if alike else np.where(scene, 3.0, -3.0)
    X = np.hstack([2.0 * np.eye(3)[meant], place[:, None] * np.ones(6)])
    return (X + 0.7 * random.normal(size=X.shape)).astype(np.float32), y, videos, np.tile(np.arange(6), count)


def test_a_network_a_scene_helps_where_scenes_mean_other_things_and_does_no_harm_where_there_is_one():
    settings = {"epochs": 10, "window": 1, "standardize": "none", "width": 4, "attention_heads": 2}
    gains = [
        accuracy(flipped(60, 0, alike=alike), flipped(100, 1, alike=alike), scenes=2, **settings)
        - accuracy(flipped(60, 0, alike=alike), flipped(100, 1, alike=alike), **settings)
        for alike in (False, True)
    ]
    assert gains[0] > 0.05
    assert gains[1] > -0.05


@pytest.mark.parametrize("settings", [{}, {"kind": "convolution", "causal": True}, {"scenes": 2}])
def test_a_kept_head_answers_alike_and_knows_that_it_learned_from_videos(settings, tmp_path):
    X, y, videos, times = film(12, 8, 0)
    fitted = head(epochs=2, **settings).fit(X, y, groups=videos, times=5 * times)
    save_head(fitted, tmp_path / "head", fingerprints={"x": "0" * 12})
    again = load_head(tmp_path / "head")
    assert again.step_ == 5
    np.testing.assert_array_equal(again.predict_proba(X, videos, 5 * times), fitted.predict_proba(X, videos, 5 * times))
    with pytest.raises(HeadDataError, match="was not told which rows are of which"):
        again.predict_proba(X)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "lstm"}, "kind must be 'transformer' or 'convolution'"),
        ({"window": 0}, "window must be a whole number"),
        ({"step": 0.0}, "step must be finite and positive"),
        ({"width": 30}, "multiple of attention_heads"),
        ({"scenes": 0}, "scenes must be"),
        ({"layers": 0}, "layers must be"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, said):
    X, y, videos, times = film(4, 5, 0)
    with pytest.raises(HeadConfigError, match=said):
        head(**settings).fit(X, y, groups=videos, times=times)


def test_what_has_no_place_in_time_is_refused_and_says_what_to_do():
    X, y, videos, times = film(4, 5, 0)
    with pytest.raises(HeadDataError, match="no sense of time"):
        make_head("ridge").fit(X, y, times=times)
    with pytest.raises(HeadDataError, match="no groups or videos were given"):
        head().fit(X, y, times=times)
    with pytest.raises(HeadDataError, match="are infinite"):
        head().fit(X, y, groups=videos, times=np.where(times == 1, np.inf, times))
    with pytest.raises(HeadDataError, match="one a row, however"):
        head().fit(X, y, groups=videos, times=times[:-1])
    with pytest.raises(HeadDataError, match="1 are of several"):
        head().fit(X, y, groups=np.where(np.arange(20) < 2, "p", "q"), videos=videos, times=times)
    with pytest.raises(HeadDataError, match="9 scenes need as many videos"):
        head(scenes=9).fit(X, y, groups=videos, times=times)
    with pytest.raises(HeadConfigError, match="is asked about rows alone"):
        make_head("late", member="sequence").fit(X, y)
    with pytest.raises(HeadConfigError, match="windows of a video's rows"):
        torch_form(head(epochs=1).fit(X, y, groups=videos, times=times))
