"""Which of a frame's faces is the one that counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from cer_fusion.frames.faces.face import Box, area

Policy = Literal["track", "largest", "all", "none"]
POLICIES: tuple[str, ...] = get_args(Policy)
"""`track`: of the tracks that are there, the one with most presence in the video. `largest`: the largest box of each
frame. `all`: every face, each track by itself. `none`: no faces are looked for, the frame itself is the picture."""

Tracked = tuple[int, Sequence[tuple[int, Box]]]
"""A frame's number, and (track, box) of its faces."""


@dataclass(kw_only=True)
class Presence:
    """What a track amounts to."""

    first: int
    last: int
    area: float = 0.0
    """Sum of its boxes' areas over its frames, in square pixels."""


def presences(frames: Iterable[Tracked]) -> dict[int, Presence]:
    """Sum up the tracks of a video."""
    found: dict[int, Presence] = {}
    for number, faces in frames:
        for track, box in faces:
            one = found.setdefault(track, Presence(first=number, last=number))
            one.last = number
            one.area += area(box)
    return found


class MainTrack:
    """In every frame the face of the track with most presence, of those that begin before and end after it.

    Where that track has no face in a frame (looking away, a missed detection) nobody else stands in for it: the frame
    has no main face. After a cut new tracks begin, and the choice is made among them.
    """

    def __init__(self, tracks: dict[int, Presence]) -> None:
        self._ranked = sorted(tracks, key=lambda track: (-tracks[track].area, track))
        self._tracks = tracks

    def choose(self, number: int, faces: Sequence[tuple[int, Box]]) -> int | None:
        """Position of the main face; None where there is none. Frames may be asked for in rising order only."""
        # a track that is over never comes back, so the search stays as short as the tracks alive are few
        self._ranked = [track for track in self._ranked if self._tracks[track].last >= number]
        owner = next((track for track in self._ranked if self._tracks[track].first <= number), None)
        return next((i for i, (track, _) in enumerate(faces) if track == owner), None)


def largest(boxes: Sequence[Box]) -> int | None:
    """Position of the largest box, the first of equals; None where there is none."""
    return max(range(len(boxes)), key=lambda i: (area(boxes[i]), -i), default=None)
