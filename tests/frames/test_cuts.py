from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.frames.tracks import Changes, CutSettings, with_cuts


def scene(seed: int, size: tuple[int, int] = (90, 160)) -> np.ndarray:
    """Soft patches of any colour, wider than a frame."""
    few = np.random.default_rng(seed).integers(0, 255, (6, 24, 3), dtype=np.uint8)
    return np.kron(few, np.ones((size[0] // 6, size[1] // 8, 1), np.uint8))


def view(whole: np.ndarray, left: int) -> np.ndarray:
    return whole[:, left : left + 160]


def cuts(frames, **settings) -> list[int]:
    changes = Changes()
    measured = [(i, changes.of(frame)) for i, frame in enumerate(frames, 1)]
    found = list(with_cuts(iter(measured), lambda one: one[1], CutSettings(**settings)))
    assert [one for one, _ in found] == measured  # every frame once, in order
    return [i for (i, _), cut in found if cut]


def test_every_change_of_scene_is_a_cut_and_the_first_frame_is_none():
    assert cuts([view(scene(i // 10), i) for i in range(40)]) == [11, 21, 31]


def test_a_shot_of_one_frame_is_a_shot():
    assert cuts([view(scene(seed), 0) for seed in (0, 0, 1, 2, 2)]) == [3, 4]


@pytest.mark.parametrize("speed", [1, 4, 12])
def test_a_camera_that_pans_cuts_nothing_however_fast(speed):
    whole = np.concatenate([scene(seed) for seed in range(3)], axis=1)
    places = [0] * 3 + [speed * i for i in range(1, 40)]
    assert cuts([view(whole, left) for left in places]) == []


def test_a_cut_into_a_pan_is_found():
    assert cuts([view(scene(i // 12), 6 * (i % 12)) for i in range(24)]) == [13]


def test_noise_and_a_small_thing_that_appears_cut_nothing():
    random, ground = np.random.default_rng(0), view(scene(0), 0).astype(float)
    frames = [np.clip(ground + random.normal(0, 20, ground.shape), 0, 255).astype(np.uint8) for _ in range(20)]
    for frame in frames[10:]:
        frame[30:50, 40:60] = 255
    assert cuts(frames) == []


@pytest.mark.parametrize("n", range(8))
def test_videos_of_a_few_frames_keep_them_all(n):
    assert cuts([view(scene(0), 0)] * n) == []
    assert cuts([view(scene(0), 0)] * n + [view(scene(1), 0)]) == ([n + 1] if n else [])


def test_neighbours_are_all_that_is_in_memory():
    asked = []

    def frames():
        for i in range(100):
            asked.append(i)
            yield i

    for frame, _ in with_cuts(frames(), lambda _: 0.0, CutSettings()):
        assert asked[-1] <= frame + 2


def test_settings_decide_and_are_in_the_identity():
    frames = [view(scene(seed), 0) for seed in (0, 0, 0, 1, 1, 1)]
    assert (cuts(frames), cuts(frames, least_change=255.0)) == ([4], [])
    assert CutSettings().identity() != CutSettings(least_change=30.0).identity()
