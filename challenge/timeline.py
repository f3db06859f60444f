"""Frames in their order: which video and frame each row is, where frames are missing, filling them in time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..fusion.data.moments import FRAME_ID
from ..fusion.errors import TimelineError

LAST = 9_999_999
"""The highest frame number believed: more than 92 hours at 30 frames a second."""

_RULE = "expected VIDEO/NNNNN.jpg: the video, a slash, the frame number from 1 on in five digits"

_MEND = "pictures that are counted from 0 are listed with: cer-feat manifest frames FOLDER --first-frame 0"


class Frame(NamedTuple):
    """One frame; sorts by video, then by time."""

    video: str
    """Name of the video: all that stands before the last slash."""
    number: int
    """Frame number, from 1."""
    suffix: str = ".jpg"
    """What ends the id: the ending of the picture's file name, or nothing."""


def parse_frame(sample_id: str) -> Frame:
    """Read video and frame number from a sample id.

    Everything before the last slash is the video; the file name is the frame number in five digits, counted from 1
    (six or seven digits only from frame 100,000 on, so that a frame has one name), and any ending.

    Raises
    ------
    TimelineError
        Saying what in the id is none of that.
    """
    found = FRAME_ID.fullmatch(sample_id)
    if found is None:
        raise TimelineError(f"sample id {sample_id!r} names no frame of a video: {_fault(sample_id)}\n  {_RULE}")
    digits = found["number"]
    number = int(digits)
    if number == 0:
        raise TimelineError(f"sample id {sample_id!r} is frame 0, but frames are counted from 1\n  {_RULE}\n  {_MEND}")
    if len(digits) > 5 and digits[0] == "0":
        raise TimelineError(
            f"sample id {sample_id!r} names no frame of a video: {digits!r} has zeros to spare\n  {_RULE}"
        )
    return Frame(found["video"], number, found["suffix"] or "")


def counted_from_zero(sample_ids: Iterable[str]) -> str | None:
    """What to know of frames that are counted from 0, before much is done with them; None where none are."""
    zeros = [one for one in sample_ids if re.fullmatch(r".+/0+(\.[A-Za-z0-9]+)?", one, re.DOTALL)]
    if not zeros:
        return None
    return (
        f"{len(zeros):,} videos have a frame 0 (first: {zeros[0]!r}), and the challenge counts from 1: smoothing and "
        f"submitting will refuse them\n  {_MEND}"
    )


def frame_name(frame: Frame) -> str:
    """Return the sample id of a frame; `parse_frame` reads it back."""
    return f"{frame.video}/{frame.number:05d}{frame.suffix}"


def _fault(sample_id: str) -> str:
    if "\\" in sample_id and "/" not in sample_id:
        return "it has backslashes, no slash"
    video, slash, name = sample_id.rpartition("/")
    if not slash or not video:
        return "it has no folder before the file name"
    stem = name.partition(".")[0]
    if stem.isascii() and stem.isdigit():
        return f"the frame number {stem!r} has {len(stem)} digits"
    return f"the file name {name!r} is no frame number"


IntArray = NDArray[np.int64]

MOST_FRAMES = 10_000_000
"""Frames, gaps included, that one timeline may span."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """The rows of one video, in time order."""

    video: str
    """Name of the video."""
    rows: IntArray
    """(t,) positions of its rows, in time order."""
    frames: IntArray
    """(t,) their frame numbers, rising."""
    suffix: str
    """What ends the sample id of its first row."""

    @property
    def span(self) -> IntArray:
        """Every frame number from the first to the last one that has a row."""
        return np.arange(self.frames[0], self.frames[-1] + 1)

    @property
    def missing(self) -> IntArray:
        """Frame numbers without a row between the first and the last one that has one."""
        return np.setdiff1d(self.span, self.frames, assume_unique=True)

    @property
    def longest_gap(self) -> int:
        """The most frames in a row that are missing between two that are there."""
        return int(np.diff(self.frames).max(initial=1)) - 1

    def sample_id(self, frame: int) -> str:
        """Return the id a frame of this video has, or would have."""
        return frame_name(Frame(self.video, frame, self.suffix))


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """The rows of several videos in time; made from sample ids and checked once."""

    tracks: tuple[Track, ...]
    """One a video, in order of first appearance."""
    n: int
    """Rows."""

    @classmethod
    def of(cls, ids: Sequence[str]) -> Timeline:
        """Find the videos and frames of sample ids, in any order.

        Raises
        ------
        TimelineError
            If an id names no frame, two ids name the same one, or the frame numbers span more than can be meant.
        """
        frames = [parse_frame(sample_id) for sample_id in ids]
        rows: dict[str, list[int]] = {}
        for row, frame in enumerate(frames):
            rows.setdefault(frame.video, []).append(row)
        tracks = tuple(_track(video, mine, frames, ids) for video, mine in rows.items())
        spanned = sum(int(track.frames[-1] - track.frames[0]) + 1 for track in tracks)
        if spanned > MOST_FRAMES:
            widest = max(tracks, key=lambda track: int(track.frames[-1] - track.frames[0]))
            raise TimelineError(
                f"{len(ids):,} rows span {spanned:,} frames, more than {MOST_FRAMES:,}\n"
                f"  the widest video is {widest.video!r}: frames {widest.frames[0]:,} to {widest.frames[-1]:,} "
                f"with {widest.frames.size:,} rows; check its frame numbers"
            )
        return cls(tracks=tracks, n=len(ids))

    @property
    def groups(self) -> tuple[str, ...]:
        """The video of each row, in the order of the rows."""
        found = [""] * self.n
        for track in self.tracks:
            for row in track.rows.tolist():
                found[row] = track.video
        return tuple(found)

    def gaps_text(self) -> str:
        """Say in one sentence how many frames are missing inside videos."""
        missing = {track.video: int(track.missing.size) for track in self.tracks}
        holed = sum(count > 0 for count in missing.values())
        if not holed:
            return f"No frame is missing inside the {len(self.tracks)} videos."
        longest = max(self.tracks, key=lambda track: track.longest_gap)
        return (
            f"{sum(missing.values()):,} frames are missing inside {holed} of {len(self.tracks)} videos "
            f"(longest gap: {longest.longest_gap:,} frames, video {longest.video}); they are filled in time by linear "
            "interpolation of probabilities."
        )


def _track(video: str, rows: list[int], frames: list[Frame], ids: Sequence[str]) -> Track:
    numbers = np.array([frames[row].number for row in rows], dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    positions, numbers = np.asarray(rows, dtype=np.int64)[order], numbers[order]
    twice = np.flatnonzero(np.diff(numbers) == 0)
    if twice.size:
        first, second = (ids[positions[twice[0] + step]] for step in (0, 1))
        raise TimelineError(
            f"two rows are frame {numbers[twice[0]]} of video {video!r}: {first!r} and {second!r}\n"
            "  keep one row a frame"
        )
    return Track(video=video, rows=positions, frames=numbers, suffix=frames[positions[0]].suffix)


FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Filled:
    """One video without gaps, from the first to the last frame that has a row."""

    values: FloatArray
    """(t, k) probabilities; those of missing frames are interpolated."""
    observed: NDArray[np.bool_]
    """(t,) whether the frame has a row of its own."""


def filled(proba: FloatArray, timeline: Timeline) -> list[Filled]:
    """Close the gaps inside each video: (n, k) rows in any order -> one `Filled` a track."""
    out = []
    for track in timeline.tracks:
        span = track.span
        observed = np.zeros(span.size, dtype=np.bool_)
        observed[track.frames - track.frames[0]] = True
        out.append(Filled(values=at_frames(proba[track.rows], track.frames, span), observed=observed))
    return out


def at_frames(values: FloatArray, frames: IntArray, wanted: IntArray) -> FloatArray:
    """Return one video's probabilities at any frame numbers.

    A frame that has a row keeps it to the bit; between two rows probabilities are interpolated linearly in time; before
    the first and after the last row they are held.

    Parameters
    ----------
    values : float64 array of shape (t, k)
        Rows at ``frames``.
    frames : int64 array of shape (t,)
        Rising, t >= 1.
    wanted : int64 array of shape (w,)
        Any frame numbers.

    Returns
    -------
    float64 array of shape (w, k)
    """
    right = np.minimum(np.searchsorted(frames, wanted), frames.size - 1)
    left = np.where((frames[right] > wanted) & (right > 0), right - 1, right)
    apart = np.maximum(frames[right] - frames[left], 1)
    share = np.clip((wanted - frames[left]) / apart, 0.0, 1.0)[:, None] * (right != left)[:, None]
    mixed: FloatArray = values[left] * (1 - share) + values[right] * share
    return mixed
