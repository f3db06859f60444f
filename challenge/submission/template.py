"""A challenge's template: the frames that want an answer, in order."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cer_fusion.challenge.submission.challenge import Challenge
from cer_fusion.challenge.submission.row import location
from cer_fusion.challenge.timeline.track import Timeline
from cer_fusion.fusion.errors import SubmissionError
from cer_fusion.fusion.files.text_file import read_text


@dataclass(frozen=True, kw_only=True, eq=False)
class Template:
    """Frames to answer, all different; made by `read_template`."""

    names: tuple[str, ...]
    """Frame names in the order of the answers: ``01/00001.jpg``."""

    @functools.cached_property
    def timeline(self) -> Timeline:
        """The rows in time, video by video."""
        return Timeline.of(self.names)

    @functools.cached_property
    def known(self) -> frozenset[str]:
        """The frame names, to look one up."""
        return frozenset(self.names)

    @functools.cached_property
    def video_names(self) -> tuple[str, ...]:
        """Names of its videos, in order of first appearance."""
        return tuple(track.video for track in self.timeline.tracks)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual: frames that no row asks for."""
        holed = [t.video for t in self.timeline.tracks if t.missing.size or t.frames[0] != 1]
        if not holed:
            return ()
        return (f"The template leaves out frames of {len(holed)} videos (first: {holed[0]}); nobody asks for them.",)


def read_template(path: Path, challenge: Challenge) -> Template:
    """Read a template: the challenge's header, then a frame a row; what follows a comma is ignored.

    It may have been saved again by a spreadsheet, with any mark, line ends, quotes and one of the
    separators `,`, `;`, `|` and tab.

    Raises
    ------
    SubmissionError
        Naming file and line: another header, a row that is no frame, a video the challenge does not have, a frame that
        stands twice, or an empty line between rows.
    """
    lines = re.split("\r\n|\r|\n", read_text(path, SubmissionError))
    above = 1 if re.fullmatch(r'"?sep=.?"?[ \t]*', lines[0], re.IGNORECASE) else 0  # Excel's first line
    lines = [re.sub(r"[;\t|]", ",", line.replace('"', "")).strip() for line in lines[above:]]
    while lines and not lines[-1].strip(", "):
        lines.pop()
    header = re.sub(r"\s*,\s*", ",", lines[0]).rstrip(",") if lines else ""
    if header.casefold() != challenge.header.casefold():
        found = repr(lines[0]) if lines else "an empty file"
        raise SubmissionError(f"{path}:{1 + above}: expected the header {challenge.header}\n  however: {found}")
    if len(lines) == 1:
        raise SubmissionError(f"{path}:{1 + above}: the template has a header and no row")
    return Template(names=_frames(path, lines[1:], 2 + above, challenge.video_names))


def _frames(path: Path, rows: Iterable[str], first: int, videos: tuple[str, ...]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=first):
        name = row.partition(",")[0].strip()
        frame = location(name)
        if isinstance(frame, str):
            raise SubmissionError(f"{path}:{number}: {frame if name else 'an empty line between rows'}")
        if frame.video not in videos:
            raise SubmissionError(
                f"{path}:{number}: the challenge has no video {frame.video!r}: they are {videos[0]} to {videos[-1]}"
            )
        if name in seen:
            raise SubmissionError(f"{path}:{number}: {name} stands in line {seen[name]} already")
        seen[name] = number
    return tuple(seen)
