"""Rows in time: which video and which frame each row is, and where frames are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cer_fusion.challenge.timeline.frame import Frame, frame_name, parse_frame
from cer_fusion.fusion.errors import TimelineError
from numpy.typing import NDArray

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
