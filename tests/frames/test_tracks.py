from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cer_fusion.frames import MainTrack, Tracker, TrackSettings, largest, overlap, presences

SIDE = 60.0


def box(left, top=50.0, side=SIDE):
    return (float(left), float(top), left + side, top + side)


def follow(frames, **settings):
    """Tracks of frames given as {number: boxes}."""
    tracker = Tracker(TrackSettings(**settings))
    return {number: tracker.follow(number, boxes) for number, boxes in frames.items()}


def tracks_of(frames):
    return {track for tracks in follow(frames).values() for track in tracks}


def test_a_face_that_drifts_is_one_track():
    assert tracks_of({i: [box(5 * i)] for i in range(1, 40)}) == {1}


def test_a_face_elsewhere_is_another_track():
    assert follow({1: [box(0)], 2: [box(200)]}) == {1: [1], 2: [2]}


@pytest.mark.parametrize("speed", [4, 9, 16])
def test_two_faces_that_swap_places_keep_their_tracks(speed):
    steps = 300 // speed
    frames = {i: [box(speed * i), box(300 - speed * i, 60)] for i in range(steps)}
    for i in range(0, steps, 2):  # the order in which the detector names them says nothing
        frames[i] = frames[i][::-1]
    found = follow(frames)
    rightward = {found[i][0 if i % 2 else 1] for i in range(steps)}
    leftward = {found[i][1 if i % 2 else 0] for i in range(steps)}
    assert len(rightward) == len(leftward) == 1
    assert rightward != leftward


def test_two_faces_keep_their_tracks_while_one_hides_the_other():
    frames = {i: [box(10 * i), box(300 - 10 * i)] for i in range(31)}
    for i in range(13, 18):
        frames[i] = frames[i][:1]  # suppression leaves one of two boxes that nearly coincide
    found = follow(frames)
    assert found[0] == found[30] == [1, 2]


@pytest.mark.parametrize(("missed", "tracks"), [(15, {1}), (16, {1, 2})])
def test_a_track_outlives_so_many_missed_frames_and_no_more(missed, tracks):
    assert tracks_of({1: [box(0)], 2 + missed: [box(0)]}) == tracks


@given(st.lists(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200)), max_size=4), max_size=12))
def test_faces_of_one_frame_are_never_one_track_and_numbers_count_up(places):
    found = follow({i: [box(x, y) for x, y in frame] for i, frame in enumerate(places, start=1)})
    seen = [track for tracks in found.values() for track in tracks]
    assert all(len(set(tracks)) == len(tracks) for tracks in found.values())
    firsts = list(dict.fromkeys(seen))
    assert sorted(firsts) == list(range(1, len(firsts) + 1))


def main_of(frames):
    chooser = MainTrack(presences(frames.items()))
    return {number: chooser.choose(number, faces) for number, faces in frames.items()}


def test_the_main_face_is_of_the_track_with_most_presence_even_where_another_is_larger():
    frames = {i: [(1, box(0)), *([(2, box(200, side=90))] if i in (4, 5) else [])] for i in range(1, 11)}
    assert main_of(frames) == dict.fromkeys(range(1, 11), 0)


def test_nobody_stands_in_for_a_main_face_that_is_missed_for_a_while():
    frames = {i: [*([(1, box(0))] if i != 5 else []), (2, box(200, side=20))] for i in range(1, 11)}
    assert main_of(frames) == {**dict.fromkeys(range(1, 11), 0), 5: None}


def test_after_a_cut_the_choice_is_made_among_the_new_tracks():
    frames = {i: [(1, box(0))] for i in range(1, 6)} | {i: [(2, box(0)), (3, box(90, side=99))] for i in range(6, 9)}
    assert main_of(frames) == {**dict.fromkeys(range(1, 6), 0), **dict.fromkeys(range(6, 9), 1)}


def test_the_largest_of_equals_is_the_first():
    assert largest([box(0), box(100), box(10, side=5)]) == 0
    assert largest([]) is None


def test_overlap_is_intersection_over_union():
    assert overlap(box(0), box(0)) == 1
    assert overlap(box(0), box(SIDE)) == 0
    assert np.isclose(overlap(box(0), box(SIDE / 2)), 1 / 3)
