"""What belongs together over time: shots, which end at cuts, and tracks, the faces of following frames that are one;
and of the tracks of a video, the one that counts.

Nobody is recognised: a track goes by where a face is and where it was heading, not by looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .faces import Box, area, overlap

T = TypeVar("T")

CUT_CODE: Final = 1
"""Version of what stands here; part of the identity."""
THUMBNAIL: Final = (32, 18)
"""Width and height that frames are compared at: what moves a little changes little."""


@dataclass(frozen=True, kw_only=True)
class CutSettings:
    """When a frame begins a new shot: when it changes much, and much more than its neighbours do.

    The defaults are those of PySceneDetect's adaptive detector, whose measure is a similar one.
    """

    least_change: float = 15.0
    """Mean absolute change of a thumbnail's values since the frame before, of 255."""
    least_ratio: float = 3.0
    """That change over the median of its neighbours': a camera that pans or shakes cuts nothing."""
    reach: int = 2
    """Neighbours on either side."""

    def identity(self) -> dict[str, Any]:
        """JSON values."""
        return {"method": "thumbnails", "code": CUT_CODE, "thumbnail": list(THUMBNAIL), **vars(self)}


class Changes:
    """How much each frame, asked about in rising order, differs from the one before."""

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None

    def of(self, picture: NDArray[np.uint8]) -> float:
        """Return the mean absolute change of the thumbnail of a frame (h, w, 3), of 255; 0 for the first."""
        small = Image.fromarray(picture).resize(THUMBNAIL, Image.Resampling.BOX)
        now = np.asarray(small, dtype=np.float32)
        before, self._before = self._before, now
        return 0.0 if before is None else round(float(np.abs(now - before).mean()), 3)


def with_cuts(frames: Iterable[T], change_of: Callable[[T], float], settings: CutSettings) -> Iterator[tuple[T, bool]]:
    """Yield every frame, and whether it begins a new shot; only neighbours are in memory at a time.

    A flash counts as a cut, and so does its end; a dissolve does not.
    """
    reach = settings.reach
    near: deque[tuple[T, float] | None] = deque([None] * reach, maxlen=2 * reach + 1)  # None: beyond an end
    for one in chain(((frame, change_of(frame)) for frame in frames), [None] * reach):
        near.append(one)
        asked = near[reach] if len(near) == near.maxlen else None
        if asked is None:
            continue
        frame, change = asked
        others = [other[1] for other in near if other is not None and other is not asked]
        usual = median(others) if others else 0.0
        yield frame, change >= settings.least_change and change >= settings.least_ratio * usual


TRACK_CODE: Final = 1
"""Version of what stands here; part of the identity."""


@dataclass(frozen=True, kw_only=True)
class TrackSettings:
    """When a face continues a track."""

    least_overlap: float = 0.3
    """Intersection over union with the box expected from the track's motion."""
    most_missed: int = 15
    """Frames without a detection after which a track is over."""
    momentum: float = 0.5
    """Share of the old velocity in the new one."""

    def identity(self) -> dict[str, Any]:
        """JSON values."""
        return {"method": "overlap and motion", "code": TRACK_CODE, **vars(self)}


class Tracker:
    """Gives each face of each frame the number of a track, from 1 in the order in which tracks begin.

    Memory and time a frame depend on the tracks that are alive, not on the length of the video.
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self._settings = settings or TrackSettings()
        self._alive: list[_Track] = []
        self._begun = 0

    def cut(self) -> None:
        """End all tracks: what is seen from here on is another shot."""
        self._alive = []

    def follow(self, frame: int, boxes: Sequence[Box]) -> list[int]:
        """Assign the boxes of one frame; frames come in rising order.

        The pair of track and box that overlap most is joined first. Tracks expect their box where their velocity
        takes it, which keeps two faces apart that swap places.
        """
        most, least = self._settings.most_missed, self._settings.least_overlap
        self._alive = [track for track in self._alive if frame - track.frame <= most + 1]
        pairs = [
            (overlap(track.expected(frame), box), -track.number, -i, track)
            for track in self._alive
            for i, box in enumerate(boxes)
        ]
        found: dict[int, _Track] = {}
        for share, _, minus_i, track in sorted(pairs, key=lambda pair: pair[:3], reverse=True):
            if share >= least and -minus_i not in found and track not in found.values():
                found[-minus_i] = track
        for i, box in enumerate(boxes):
            if i in found:
                found[i].move(frame, box, self._settings.momentum)
            else:
                self._begun += 1
                found[i] = _Track(number=self._begun, frame=frame, box=box)
                self._alive.append(found[i])
        return [found[i].number for i in range(len(boxes))]


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


@dataclass(kw_only=True, eq=False)
class _Track:
    number: int
    frame: int
    box: Box
    velocity: tuple[float, float] | None = None  # pixels a frame; None after one sight

    def expected(self, frame: int) -> Box:
        across, down = self.velocity or (0.0, 0.0)
        dx, dy = across * (frame - self.frame), down * (frame - self.frame)
        return self.box[0] + dx, self.box[1] + dy, self.box[2] + dx, self.box[3] + dy

    def move(self, frame: int, box: Box, momentum: float) -> None:
        """See the track again; a new velocity counts in full the first time."""
        steps = frame - self.frame
        new = tuple((box[i] + box[i + 2] - self.box[i] - self.box[i + 2]) / 2 / steps for i in (0, 1))
        old = self.velocity or new
        self.velocity = (
            momentum * old[0] + (1 - momentum) * new[0],
            momentum * old[1] + (1 - momentum) * new[1],
        )
        self.frame, self.box = frame, box
