"""A frame of a video, as sample ids name it: ``01/00001.jpg``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from cer_fusion.fusion.errors import TimelineError

LAST = 9_999_999
"""The highest frame number believed: more than 92 hours at 30 frames a second."""

_ID = re.compile(r"(?P<video>.+)/(?P<number>[0-9]{5,7})(?P<suffix>\.[A-Za-z0-9]+)?", re.DOTALL)
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
    found = _ID.fullmatch(sample_id)
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
