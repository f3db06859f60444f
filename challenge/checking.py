"""Submissions read: every fault of a file, what it answers, and how two of them differ."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fusion.errors import SubmissionError
from ..fusion.judging.metrics import cohen_kappa, confusion_matrix
from .task import Challenge, Submission, Template, location
from .timeline import Frame, Timeline, frame_name

IntArray = NDArray[np.int64]

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, order=True)
class Fault:
    """What is wrong with a line, or with a run of lines in the same way."""

    line: int
    """The first line it is about, counted from 1; for a missing row the line that it belongs behind."""
    last: int
    """The last line of the run."""
    text: str
    """What is wrong, expected against found."""

    @property
    def where(self) -> str:
        """``line 3`` or ``lines 3-5``."""
        return f"line {self.line}" if self.line == self.last else f"lines {self.line}-{self.last}"


def check(
    data: bytes, challenge: Challenge, template: Template | None = None, *, whole: bool = True
) -> tuple[Fault, ...]:
    """Find every fault of a submission.

    Parameters
    ----------
    data : bytes
        The file as it is.
    challenge : Challenge
        Header, ids and videos.
    template : Template, optional
        Frames and order expected. None expects what is known of the official template: frames of each video in order
        from 1 without holes, videos in order, and the official numbers of both.
    whole : bool
        False looks at the form alone: no rows are missed and no order is asked for.

    Returns
    -------
    tuple of Fault
        By line; empty when there is nothing wrong.
    """
    meant, saved = _as_meant(data, challenge)
    lines = meant.split(b"\n")
    ended = lines[-1] == b""
    if ended:
        lines.pop()
    faults = [*(Fault(1, max(1, len(lines)), text) for text in saved), *_bytes_faults(lines)]
    text = [line.removeprefix(_BOM if i == 0 else b"").decode("utf-8", "replace") for i, line in enumerate(lines)]
    text = [line.removesuffix("\r") for line in text]
    blank = len(text)
    while blank and not text[blank - 1].strip():
        blank -= 1
    if blank < len(text):
        faults.append(Fault(blank + 1, len(text), "blank at the end of the file"))
    if not blank:
        return (*faults, Fault(1, 1, f"the file is empty: expected the header {challenge.header}"))
    headless = text[0] != challenge.header
    if headless:
        faults.append(Fault(1, 1, f"expected the header {challenge.header}, however: {_short(text[0])}"))
    is_row = headless and not isinstance(location(text[0].partition(",")[0]), str)
    found: dict[Frame, int] = {}
    for number, row in enumerate(text[:blank], start=1):
        if number > 1 or is_row:
            faults += _row_faults(row, number, challenge, template, found)
    if whole:
        wanted = _wanted(challenge, found) if template is None else [_frame(name) for name in template.names]
        faults += [*_order_faults(found, wanted), *_missing(found, wanted)]
        if template is None and len(found) != challenge.rows:
            faults.append(
                Fault(blank, blank, f"the official template has {challenge.rows:,} frames, however: {len(found):,}")
            )
    return tuple(sorted(_runs(faults)))


def read_submission(path: Path | str, challenge: Challenge) -> Submission:
    """Read a submission of any number of frames.

    Raises
    ------
    SubmissionError
        Naming the first fault of its form and its line.
    """
    path = Path(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SubmissionError(f"cannot read {path}: {error.strerror}") from None
    faults = check(data, challenge, whole=False)
    if faults:
        more = f" (and {len(faults) - 1:,} more faults)" if len(faults) > 1 else ""
        raise SubmissionError(
            f"{path}:{faults[0].line}: {faults[0].text}{more}\n  see them all with: cer-fuse submit --check {path}"
        )
    rows = [line.split(",") for line in data.decode().splitlines()[1:]]
    return Submission(names=tuple(name for name, _ in rows), y=np.array([int(y) for _, y in rows], dtype=np.int64))


def _as_meant(data: bytes, challenge: Challenge) -> tuple[bytes, list[str]]:
    """The file with what spoils every line of it put right, so that each is told once, and what that was."""
    told = []
    for mark, codec in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            told.append("is UTF-16 text: expected UTF-8, which spreadsheets call CSV UTF-8")
            data = data.decode(codec, "replace").encode()
    if b"\r" in data and b"\n" not in data:
        told.append("lines end in a carriage return (CR): expected a line feed alone")
        data = data.replace(b"\r", b"\n")
    for separator in (b";", b"\t", b"|"):
        if data.removeprefix(_BOM).startswith(challenge.header.encode().replace(b",", separator)):
            told.append(f"cells are separated by {separator.decode()!r}: expected a comma")
            data = data.replace(separator, b",")
    return data, told


def _bytes_faults(lines: list[bytes]) -> Iterator[Fault]:
    if lines and lines[0].startswith(_BOM):
        yield Fault(1, 1, "a byte order mark stands before the header")
    for number, line in enumerate(lines, start=1):
        if line.endswith(b"\r"):
            yield Fault(number, number, "ends in carriage return and line feed (CRLF): expected a line feed alone")
        try:
            line.decode()
        except UnicodeDecodeError:
            yield Fault(number, number, "is not UTF-8 text")


def _row_faults(
    row: str, number: int, challenge: Challenge, template: Template | None, found: dict[Frame, int]
) -> Iterator[Fault]:
    """Faults of one row; its frame goes into `found`."""
    if not row.strip():
        yield Fault(number, number, "blank line between rows")
        return
    if row == challenge.header:
        yield Fault(number, number, "the header stands again")
        return
    cells = row.split(",")
    if len(cells) != 2:
        yield Fault(number, number, f"expected 2 cells (frame, class id), however: {len(cells)} in {_short(row)}")
    frame = location(cells[0])
    if isinstance(frame, str):
        yield Fault(number, number, frame)
    else:
        yield from _frame_faults(frame, number, challenge, template, found)
    if len(cells) == 2 and not (re.fullmatch("[0-9]", cells[1]) and int(cells[1]) < len(challenge.classes)):
        yield Fault(
            number, number, f"expected a class id 0 to {len(challenge.classes) - 1}, however: {_short(cells[1])}"
        )


def _frame_faults(
    frame: Frame, number: int, challenge: Challenge, template: Template | None, found: dict[Frame, int]
) -> Iterator[Fault]:
    name = frame_name(frame)
    if frame in found:
        yield Fault(number, number, f"{name} stands in line {found[frame]} already")
        return
    known = challenge.video_names if template is None else template.video_names
    if frame.video not in known:
        which = "challenge" if template is None else "template"
        yield Fault(number, number, f"{name}: the {which} has no video {frame.video!r}")
    elif template is not None and name not in template.known:
        yield Fault(number, number, f"{name}: the template has no such frame")
    else:
        found[frame] = number


def _wanted(challenge: Challenge, found: Iterable[Frame]) -> list[Frame]:
    """Without a template: every frame up to the last that is there of each video, the first of every other video."""
    last = dict.fromkeys(challenge.video_names, 1)
    for frame in found:
        last[frame.video] = max(last[frame.video], frame.number)
    return [Frame(video, number) for video, count in last.items() for number in range(1, count + 1)]


def _order_faults(found: dict[Frame, int], wanted: list[Frame]) -> Iterator[Fault]:
    place = {frame: i for i, frame in enumerate(wanted)}
    before: Frame | None = None
    for frame, number in found.items():
        if before is not None and place[frame] < place[before]:
            yield Fault(number, number, f"out of order: {frame_name(frame)} stands behind {frame_name(before)}")
        before = frame


def _missing(found: dict[Frame, int], wanted: list[Frame]) -> Iterator[Fault]:
    behind = 1
    videos = {frame.video for frame in found}
    for there, run in groupby(wanted, key=lambda frame: (frame in found, frame.video)):
        frames = list(run)
        if there[0]:
            behind = found[frames[-1]]
            continue
        first, last = frame_name(frames[0]), frame_name(frames[-1])
        text = f"{first} is missing" if len(frames) == 1 else f"{first} to {last} are missing ({len(frames):,} rows)"
        if there[1] not in videos:
            text = f"video {there[1]} is missing altogether"
        yield Fault(behind, behind, f"{text}: expected behind this line")


def _runs(faults: list[Fault]) -> Iterator[Fault]:
    """Join the same fault of neighbouring lines."""
    for text, group in groupby(sorted(faults, key=lambda f: (f.text, f.line)), key=lambda f: f.text):
        run: Fault | None = None
        for fault in group:
            if run is not None and fault.line == run.last + 1:
                run = Fault(run.line, fault.last, text)
                continue
            if run is not None:
                yield run
            run = fault
        if run is not None:
            yield run


def _frame(name: str) -> Frame:
    video, _, file = name.partition("/")
    return Frame(video, int(file[:5]))


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}…")


@dataclass(frozen=True, kw_only=True)
class VideoDifference:
    """One video in both submissions."""

    video: str
    """Its name."""
    rows: int
    """Frames."""
    flips: int
    """Frames that the two answer differently."""
    changes: tuple[int, int]
    """How often the answer changes from one frame to the next, in the first and in the second."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Difference:
    """Two submissions of the same frames."""

    confusion: IntArray
    """(k, k) counts: row = class of the first, column = class of the second."""
    kappa: float | None
    """Cohen's kappa; None when both give every frame the same one class."""
    videos: tuple[VideoDifference, ...]
    """One a video, in order of first appearance."""

    @property
    def rows(self) -> int:
        """Frames."""
        return int(self.confusion.sum())

    @property
    def agreement(self) -> float:
        """Share of the frames that both answer alike, 0-1."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    def to_dict(self, challenge: Challenge) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "rows": self.rows,
            "agreement": self.agreement,
            "kappa": self.kappa,
            "classes": list(challenge.classes),
            "confusion": self.confusion.tolist(),
            "videos": [asdict(one) for one in self.videos],
        }


def difference(first: Submission, second: Submission, challenge: Challenge) -> Difference:
    """Compare two submissions frame by frame, whatever their order.

    Raises
    ------
    SubmissionError
        If they do not answer the same frames.
    """
    position = {name: row for row, name in enumerate(second.names)}
    apart = set(first.names) ^ set(position)
    if apart:
        name = min(apart)
        raise SubmissionError(
            f"the two submissions do not answer the same frames: {len(apart):,} stand in one only (first: {name}, in "
            f"the {'second' if name in position else 'first'})"
        )
    y = np.stack([first.y, second.y[[position[name] for name in first.names]]])
    videos = []
    for track in Timeline.of(first.names).tracks:
        mine = y[:, track.rows]
        changes = (np.diff(mine, axis=1) != 0).sum(axis=1).tolist()
        flips = int((mine[0] != mine[1]).sum())
        videos.append(
            VideoDifference(video=track.video, rows=track.rows.size, flips=flips, changes=(changes[0], changes[1]))
        )
    confusion = confusion_matrix(y[0], y[1], len(challenge.classes))
    return Difference(confusion=confusion, kappa=cohen_kappa(confusion), videos=tuple(videos))
