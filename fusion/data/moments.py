"""Where rows stand in time: the video and the time of each, and the window of neighbours around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import HeadDataError

FRAME_ID: Final = re.compile(r"(?P<video>.+)/(?P<number>[0-9]{5,7})(?P<suffix>\.[A-Za-z0-9]+)?", re.DOTALL)
"""A sample id that names a frame: ``VIDEO/NNNNN.jpg``."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """The video and the time of every row; checked once when made."""

    videos: Ints
    """(n,) a number a video; -1 where a row is of none, or its time is not known: it stands alone."""
    times: Floats
    """(n,) seconds or frame numbers, in one unit for all videos; NaN where `videos` is -1."""
    names: tuple[str, ...]
    """What the videos are called, by their number."""

    def __post_init__(self) -> None:
        """Refuse two rows of one video at one time."""
        order = np.lexsort((self.times, self.videos))
        videos, times = self.videos[order], self.times[order]
        twice = np.flatnonzero((np.diff(videos) == 0) & (np.diff(times) == 0) & (videos[1:] >= 0))
        if twice.size:
            first, second = sorted(order[twice[0] : twice[0] + 2].tolist())
            raise HeadDataError(
                f"rows of a video must stand at different times, however: {twice.size:,} time stamps repeat (first: "
                f"video {self.names[videos[twice[0]]]!r}, rows {first} and {second}, both at {times[twice[0]]:g})\n"
                "  keep one row a frame; where a group holds several videos, name these: videos=…"
            )

    @property
    def alone(self) -> int:
        """Rows without a video or a time."""
        return int((self.videos < 0).sum())

    @property
    def filmed(self) -> bool:
        """Whether any video has two rows: else time has nothing to say."""
        known = self.videos[self.videos >= 0]
        return bool(known.size) and bool((np.bincount(known) > 1).any())

    def at(self, rows: NDArray[np.generic]) -> Moments:
        """Return the moments of some rows."""
        return Moments(videos=self.videos[rows], times=self.times[rows], names=self.names)

    def usual_step(self) -> float:
        """Return the median time between neighbours in a video; 1 where no video has two rows."""
        order = np.lexsort((self.times, self.videos))
        videos, times = self.videos[order], self.times[order]
        steps = np.diff(times)[(np.diff(videos) == 0) & (videos[1:] >= 0)]
        return float(np.median(steps)) if steps.size else 1.0

    def windows(self, *, size: int, causal: bool, step: float) -> Ints:
        """Return which rows stand around each row: (n, size) row numbers, -1 where there is none.

        A window is a grid of times `step` apart around the row's own, which is its last slot where it is causal, else
        the middle one, ``size // 2``. A slot holds the row of the same video that is nearest to its time, within half a
        step: what is missing in a gap is missing in the window, and rows beyond it do not move up. Slots before the row
        hold earlier rows only, those after it later ones.
        """
        offsets = np.arange(size) - (size - 1 if causal else size // 2)
        found = np.full((len(self.videos), size), -1, np.int64)
        own = int(np.flatnonzero(offsets == 0)[0])
        found[:, own] = np.arange(len(self.videos))
        order = np.lexsort((self.times, self.videos))
        order = order[self.videos[order] >= 0]
        for rows in np.split(order, np.flatnonzero(np.diff(self.videos[order])) + 1):
            if len(rows) > 1:
                found[rows] = rows_near(rows, self.times[rows], offsets, step)
        return found


def rows_near(rows: Ints, times: Floats, offsets: Ints, step: float) -> Ints:
    """Return the windows (t, w) of one video's rows (t,), their times (t,) rising."""
    place = np.arange(len(rows))[:, None]
    wanted = times[:, None] + offsets * step  # (t, w)
    right = np.searchsorted(times, wanted).clip(1, len(rows) - 1)
    near = np.where(wanted - times[right - 1] <= times[right] - wanted, right - 1, right)
    near = np.where(offsets < 0, np.minimum(near, place - 1), np.where(offsets > 0, np.maximum(near, place + 1), place))
    there = (near >= 0) & (near < len(rows))
    near = near.clip(0, len(rows) - 1)
    there &= np.abs(times[near] - wanted) <= step * 0.5 * (1 + 1e-9)
    return np.where(there, rows[near], -1)


def entered_moments(videos: Sequence[object] | NDArray[np.generic], times: object, n: int) -> Moments:
    """Return the moments of rows from what a head was told.

    Parameters
    ----------
    videos : sequence of n names or numbers
        The video of each row; an empty text for none.
    times : array of shape (n,), or None
        Seconds or frame numbers, NaN where not known. None: rows of a video stand in the order of their times.

    Raises
    ------
    HeadDataError
        If there are not n of them, a time is infinite, or two rows of a video have one.
    """
    names, codes = np.unique(np.asarray(videos).astype(str), return_inverse=True)
    found = np.arange(n, dtype=np.float64) if times is None else np.asarray(times, dtype=np.float64)
    if codes.shape != (n,) or found.shape != (n,):
        raise HeadDataError(
            f"videos and times must be one a row, however: {codes.shape} and {found.shape} for {n} rows"
        )
    if np.isinf(found).any():
        raise HeadDataError("times must be finite, or NaN where a row's is not known, however: some are infinite")
    if times is None:  # rows of a video, one step apart wherever others stand between them
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(names)))
        found[order] = np.arange(n) - starts[codes[order]]
    there = (names[codes] != "") & ~np.isnan(found)
    return Moments(
        videos=np.where(there, codes, -1).astype(np.int64), times=np.where(there, found, np.nan),
        names=tuple(names.tolist()),
    )  # fmt: skip


def frames_of(ids: Sequence[str], groups: Sequence[str] | None) -> tuple[tuple[str, ...], Floats]:
    """Return the video (empty for none) and the frame number (NaN for none) of rows that are frames of videos.

    A frame's id is ``VIDEO/NNNNN.jpg``, and all frames of a video are in one group. Pictures that are numbered within
    folders of classes have no group or several, and are no frames.
    """
    owners: dict[str, set[str]] = {}
    found = [FRAME_ID.fullmatch(one) for one in ids]
    for one, group in zip(found, groups or [""] * len(ids), strict=True):
        if one is not None:
            owners.setdefault(one["video"], set()).add(group)
    videos = {video for video, groups_ in owners.items() if len(groups_) == 1 and groups_ != {""}}
    named = [one if one is not None and one["video"] in videos else None for one in found]
    return (
        tuple("" if one is None else one["video"] for one in named),
        np.array([np.nan if one is None else float(one["number"]) for one in named]),
    )


def in_time(ids: Sequence[str], groups: Sequence[str] | None, time_s: Floats | None) -> tuple[tuple[str, ...], Floats]:
    """Return the video of each row, empty for none, and its time there, NaN where not known.

    Frames (`frames_of`) stand at their numbers; with `time_s` all rows at their seconds, and groups of those that are
    no frames are videos.

    Raises
    ------
    HeadDataError
        If seconds of a video run backwards while frame numbers rise.
    """
    videos, numbers = frames_of(ids, groups)
    if time_s is None:
        return videos, numbers
    refuse_backwards(videos, numbers, time_s)
    named = groups or ("",) * len(ids)
    return tuple(video or group for video, group in zip(videos, named, strict=True)), time_s


def refuse_backwards(videos: Sequence[str], numbers: Floats, times: Floats) -> None:
    """Refuse time stamps that fall while frame numbers rise.

    Raises
    ------
    HeadDataError
        Naming the video and the first two frames.
    """
    named = np.unique(np.asarray(videos), return_inverse=True)[1]
    known = np.flatnonzero(~np.isnan(numbers) & ~np.isnan(times))
    order = known[np.lexsort((numbers[known], named[known]))]
    falls = np.flatnonzero((np.diff(named[order]) == 0) & (np.diff(times[order]) < 0))
    if falls.size:
        first, second = order[falls[0]], order[falls[0] + 1]
        raise HeadDataError(
            f"time stamps of a video must rise with its frame numbers, however: {falls.size:,} run backwards (first: "
            f"video {videos[first]!r}, frame {numbers[first]:g} at {times[first]:g} s, frame {numbers[second]:g} at "
            f"{times[second]:g} s)\n  a file joined of two has such stamps: leave the times out, or part the video"
        )
