"""What a challenge fixes, its template, and a submission that answers it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..fusion.errors import SubmissionError
from ..fusion.keeping.answers import Predictions
from ..kit.errors import nearest
from ..kit.files import write_whole
from ..kit.text import read_text
from .timeline import Frame, Timeline

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """The ABAW compound-expression challenge, as data."""

    name: str
    """What it is called."""
    source: str
    """Where these facts are from."""
    classes: tuple[str, ...]
    """Class names as the header spells them; the position is the id."""
    prior_counts: tuple[int, ...]
    """Known numbers of frames a class, in the order of ``classes``."""
    first_column: str
    """Title of the column of frame names."""
    videos: int
    """Videos of the official template, named 01, 02 …"""
    rows: int
    """Frames of the official template."""

    @property
    def header(self) -> str:
        """The first line of a submission and of the template."""
        return ",".join((self.first_column, *self.classes))

    @property
    def prior(self) -> FloatArray:
        """(k,) known class prior, sums to 1."""
        counts = np.asarray(self.prior_counts, dtype=np.float64)
        shares: FloatArray = counts / counts.sum()
        return shares

    @property
    def video_names(self) -> tuple[str, ...]:
        """Names of the videos: two digits, from 01."""
        return tuple(f"{number:02d}" for number in range(1, self.videos + 1))

    def ids_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the challenge's id of each class name: by name, however it is spaced, underscored or capitalised.

        Raises
        ------
        SubmissionError
            If a name is no class of the challenge, or two names are the same one.
        """
        known = {_plain(name): i for i, name in enumerate(self.classes)}
        unknown = [name for name in names if _plain(name) not in known]
        if unknown:
            others = f" ({len(unknown)} such classes: {', '.join(unknown)})" if len(unknown) > 1 else ""
            raise SubmissionError(
                f"class {unknown[0]!r} is none of the challenge's{others}; {nearest(unknown[0], self.classes)}\n"
                "  predict with a head of the challenge's classes only"
            )
        found = tuple(known[_plain(name)] for name in names)
        if len(set(found)) < len(found):
            raise SubmissionError(f"two classes mean the same id of the challenge: {', '.join(names)}")
        return found

    def in_order(self, predictions: Predictions) -> Predictions:
        """Return the same predictions with the challenge's classes in its own order; a class they lack gets 0."""
        ids = self.ids_of(predictions.classes)
        proba = np.zeros((len(predictions.ids), len(self.classes)))
        proba[:, list(ids)] = predictions.proba
        spelling = {name: self.classes[i] for name, i in zip(predictions.classes, ids, strict=True)}
        labels = predictions.labels
        return Predictions(
            ids=predictions.ids,
            classes=self.classes,
            proba=proba,
            labels=None if labels is None else tuple(None if one is None else spelling[one] for one in labels),
        )

    def histogram(self, y: IntArray) -> dict[str, int]:
        """Count (n,) answers by class name, in the challenge's order."""
        return dict(zip(self.classes, np.bincount(y, minlength=len(self.classes)).tolist(), strict=True))

    def divergence(self, y: IntArray) -> float:
        """Kullback-Leibler divergence of the answers' histogram from the known prior, in nats.

        The sum over classes of p log(p / q), p the share of the answers, q the prior: 0 when they agree.
        """
        shares = np.bincount(y, minlength=len(self.classes)) / max(y.size, 1)
        there = shares > 0
        return float((shares[there] * np.log(shares[there] / self.prior[there])).sum())


@functools.cache
def abaw_ce() -> Challenge:
    """The facts of the ABAW compound-expression challenge, read from ``abaw_ce.json``."""
    plain = json.loads(resources.files("cer_fusion.challenge").joinpath("abaw_ce.json").read_text(encoding="utf-8"))
    return Challenge(**plain | {"classes": tuple(plain["classes"]), "prior_counts": tuple(plain["prior_counts"])})


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).casefold()


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


def read_template(path: Path | str, challenge: Challenge) -> Template:
    """Read a template: the challenge's header, then a frame a row; what follows a comma is ignored.

    It may have been saved again by a spreadsheet, with any mark, line ends, quotes and one of the
    separators `,`, `;`, `|` and tab.

    Raises
    ------
    SubmissionError
        Naming file and line: another header, a row that is no frame, a video the challenge does not have, a frame that
        stands twice, or an empty line between rows.
    """
    path = Path(path)
    lines = re.split("\r\n|\r|\n", read_text(path, error=SubmissionError))
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Submission:
    """Answers in the order of the template."""

    names: tuple[str, ...]
    """Frame names, all different."""
    y: IntArray
    """(n,) class ids of the challenge."""

    def text(self, challenge: Challenge) -> str:
        """Return the file's text: the header, then ``01/00001.jpg,<id>`` a row, line feeds only."""
        rows = (f"{name},{y}" for name, y in zip(self.names, self.y.tolist(), strict=True))
        return "\n".join((challenge.header, *rows)) + "\n"

    def write(self, path: Path | str, challenge: Challenge, *, overwrite: bool = True) -> Path:
        """Write the file, whole or not at all; see `write_whole`."""
        path = Path(path)
        return write_whole(path, self.text(challenge).encode(), overwrite=overwrite)


_LOCATION = re.compile(r"([0-9]{2})/([0-9]{5})\.jpg")


def location(text: str) -> Frame | str:
    """Return the frame that a row names, or what is wrong with its name: two-digit video, five-digit frame from 1."""
    found = _LOCATION.fullmatch(text)
    if found is None:
        return f"{text!r} is no frame: expected two digits, a slash, five digits and .jpg, as in 01/00001.jpg"
    if int(found[2]) == 0:
        return f"{text!r} is frame 0, but frames are counted from 1"
    return Frame(found[1], int(found[2]))
