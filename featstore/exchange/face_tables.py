"""Tables that face tools write, a row a frame: OpenFace 2, Py-Feat's Fex, blendshapes of MediaPipe or ARKit.

Their columns become blocks with named columns, their rows are matched to samples by file name, or by video and frame
number; rows of which the tool itself says that it failed have no numbers that mean anything, and are told apart.

- OpenFace (Baltrušaitis et al., 2018, "OpenFace 2.0"): a CSV a video, blanks after commas, frames counted from 1,
  `confidence` and `success`, AU intensities from 0 to 5 (`AU01_r`) and presences (`AU01_c`); of a picture `face` in
  place of `frame`.
- Py-Feat (Cheong et al., 2023): `input` and `frame` counted from 0, maybe every n-th, `FaceScore`, AUs from 0 to 1.
- Blendshapes: 52 names from 0 to 1, as ARKit and MediaPipe's face landmarker call them. They come without a table of
  their own, so what the other columns are called is told from common names.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from ...kit.text import AROUND, first_line, stream_cells
from ..errors import FormatError, RowsError, listing, nearest

Face = Literal["error", "best"]
"""What becomes of a frame with several faces: refused, or the one that the tool is surest of."""

_HEAD = 1 << 16
_OFF = 0.25
"""How far from a frame, in frames, a time stamp may lie."""
_PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_SHAPES = tuple(re.findall(r"\w+", """
    browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
    eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft
    eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft
    mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight
    mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft
    mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft
    noseSneerRight
"""))  # fmt: skip
_ONE_OF = ("_neutral", "tongueOut")
"""The 52nd: MediaPipe has the one, ARKit the other."""
_FILES = ("input", "file", "filename", "file_name", "image", "image_path", "path", "sample_id", "picture")
_VIDEOS = ("video", "video_id", "video_name", "clip")
_NUMBERS = ("frame", "frame_number", "frame_id", "frame_idx", "frame_index")
_SECONDS = {"timestamp": 1.0, "time_s": 1.0, "time": 1.0, "timestamp_ms": 1e-3, "time_ms": 1e-3}


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Columns of one kind."""

    titles: str
    """A regular expression of their titles."""
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    """Whether they are 0 or 1."""


@dataclass(frozen=True, kw_only=True)
class _Tool:
    """What is known of a tool's tables."""

    name: str
    blocks: Mapping[str, _Block]
    sure: str | None = None
    """The column that says how sure it is of a face."""
    success: str | None = None
    """The column that is 0 where it found none."""
    first: int | None = None
    """The number of a video's first frame; None where that is not settled."""


_OPENFACE = _Tool(
    name="OpenFace", sure="confidence", success="success", first=1,
    blocks={
        "au_intensity": _Block(titles=r"AU\d\d_r", low=0, high=5),
        "au_presence": _Block(titles=r"AU\d\d_c", whole=True),
        "gaze": _Block(titles=r"gaze_([01]_[xyz]|angle_[xy])"), "pose": _Block(titles=r"pose_[TR][xyz]"),
    },
)  # fmt: skip
_PYFEAT = _Tool(
    name="Py-Feat", sure="FaceScore", first=0,
    blocks={
        "au": _Block(titles=r"AU\d\d", low=0, high=1),
        "emotion": _Block(titles="anger|disgust|fear|happiness|sadness|surprise|neutral", low=0, high=1),
        "pose": _Block(titles="Pitch|Roll|Yaw"),
    },
)  # fmt: skip
_BLENDSHAPES = _Tool(
    name="blendshapes", blocks={"blendshapes": _Block(titles="|".join((*_SHAPES, *_ONE_OF)), low=0, high=1)}
)
TABLES = "a table of OpenFace, Py-Feat or blendshapes"


@dataclass(frozen=True, kw_only=True)
class FaceTable:
    """What tables of a face tool hold, ready for `import_rows`."""

    tool: str
    blocks: Mapping[str, npt.NDArray[np.float32]] = field(repr=False)
    """Block -> (n, d), of the rows that the tool did not fail at."""
    columns: Mapping[str, tuple[str, ...]]
    """Block -> the titles of its d columns."""
    names: tuple[str, ...] = field(repr=False)
    """What each row belongs to: a file's name, or ``video/00012.jpg``, frames counted from 1."""
    failed: Mapping[str, str] = field(repr=False)
    """Likewise of the rows that it failed at, with the reason."""
    told: str
    """How rows and samples are matched, for people."""
    others: int
    """Columns that are in no block."""


def tool_of(path: Path) -> str | None:
    """Return whose table a CSV file, or the first in a folder of them, is; None if nobody's that is known."""
    files = _files(path)
    if not files:
        return None
    with files[0].open("rb") as file:
        line = first_line(file.read(_HEAD))
    found = _known({title.strip(AROUND) for title in re.split(r"[,;\t|]", line)})
    return None if found is None else found.name


def read_face_table(
    path: Path,
    *,
    blocks: Sequence[str] = (),
    face: Face = "error",
    first_frame: int | None = None,
    fps: float | None = None,
) -> FaceTable:
    """Read a table, or a folder of them with the same columns, one a video.

    Parameters
    ----------
    path : Path
    blocks : sequence of str
        Which blocks to take; all that the columns make if left out.
    face : {"error", "best"}
    first_frame : int, optional
        The number of a video's first frame in the table; by default the tool's own, which blendshapes have none of.
    fps : float, optional
        Frames a second, where a table has time stamps and no numbers of frames.

    Raises
    ------
    FormatError
        If it is no such table, a column is missing or empty, or a cell is no number; with file and line.
    RowsError
        If a value is out of its range, or a frame has several faces.
    """
    files = _files(path)
    if not files:
        raise FormatError(f"{path} holds no table")
    found: list[_Row] = []
    columns: dict[str, tuple[str, ...]] = {}
    for file in files:
        reader = _Reader(file, blocks, first_frame, fps)
        if columns and columns != reader.columns:
            raise FormatError(
                f"{file} has other columns than {files[0]}: {listing(_apart(columns, reader.columns), 6)}\n"
                "  a feature has the same columns everywhere: import tables of one tool and one setting"
            )
        columns = reader.columns
        found += reader.rows()
    rows, failed = _one_face(found, face, reader.tool)
    if not rows:
        raise RowsError(f"{reader.tool.name} failed at all {len(failed):,} rows of {path}: nothing is left to import")
    values = np.array([row.values for row in rows], dtype=np.float32)
    ends = np.cumsum([len(titles) for titles in columns.values()])
    return FaceTable(
        tool=reader.tool.name,
        blocks=dict(zip(columns, np.split(values, ends[:-1], axis=1), strict=True)),
        columns=columns,
        names=tuple(row.name for row in rows),
        failed=failed,
        told=reader.told,
        others=reader.others,
    )


@dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    where: str
    values: tuple[float, ...]
    sure: float
    failed: str = ""


class _Reader:
    """One file: which of its columns are what, and its rows."""

    def __init__(self, path: Path, blocks: Sequence[str], first_frame: int | None, fps: float | None) -> None:
        self.path = path
        self._cells = stream_cells(lambda: path.open("rb"), path, error=FormatError)
        _, header = next(self._cells, (1, []))
        self.titles = [title.strip(AROUND) for title in header]
        tool = _known(set(self.titles))
        if tool is None:
            raise FormatError(f"{path} is not {TABLES}: its columns are {listing(self.titles, 6)}")
        twice = [title for title, count in Counter(self.titles).items() if count > 1 and title]
        if twice:
            raise FormatError(f"{path}:1: columns stand twice: {listing(twice)}")
        self.tool = tool
        self.columns = self._chosen(blocks)
        self.others = len(self.titles) - sum(map(len, self.columns.values()))
        self._ranges = [tool.blocks[block] for block, titles in self.columns.items() for _ in titles]
        self._at = [self.titles.index(title) for titles in self.columns.values() for title in titles]
        self.told, self._name = self._naming(first_frame, fps)

    def rows(self) -> Iterator[_Row]:
        """Read the rows, checked."""
        filled: set[int] = set()
        holes: dict[int, str] = {}
        count = 0
        for line, cells in self._cells:
            where = f"{self.path}:{line}"
            if len(cells) != len(self.titles):
                raise FormatError(f"{where}: expected {len(self.titles)} fields, however: {len(cells)}")
            texts = [cells[at].strip() for at in self._at]
            filled.update(i for i, text in enumerate(texts) if not _is_blank(text))
            sure = self._number("sure", cells, where)
            count += 1
            name = self._name(cells, where)
            if reason := self._failure(texts, cells, sure, where):
                yield _Row(name=name, where=where, values=(), sure=-1.0, failed=reason)
                continue
            for i, text in enumerate(texts):
                if _is_blank(text):
                    holes.setdefault(i, where)
            if not holes:
                yield _Row(name=name, where=where, values=self._values(texts, where), sure=sure or 0.0)
        titles = [self.titles[at] for i, at in enumerate(self._at) if i not in filled]
        if count and titles and len(titles) < len(self._at):
            filled_blocks = [block for block, own in self.columns.items() if not set(own) & set(titles)]
            raise FormatError(
                f"{self.path}: columns {listing(titles, 6)} are empty in all {count:,} rows\n"
                f"  take the other blocks alone: --rows-key {','.join(filled_blocks) or '…'}"
            )
        for i, where in holes.items():
            raise FormatError(f"{where}, column {self.titles[self._at[i]]}: expected a number, however: nothing")

    def _chosen(self, asked: Sequence[str]) -> dict[str, tuple[str, ...]]:
        found = {
            block: tuple(title for title in self.titles if re.fullmatch(one.titles, title))
            for block, one in self.tool.blocks.items()
        }
        if self.tool is _BLENDSHAPES:
            lacking = [name for name in _SHAPES if name not in self.titles]
            if lacking or not any(name in self.titles for name in _ONE_OF):
                raise FormatError(
                    f"{self.path} lacks blendshapes: {listing(lacking or [' or '.join(_ONE_OF)], 6)}; there are "
                    f"{len(found['blendshapes'])}, expected 52"
                )
        there = {block: titles for block, titles in found.items() if titles}
        for block in asked:
            if block not in there:
                raise FormatError(f"{self.path} has no columns for a block {block!r}; {nearest(block, there)}")
        return {block: there[block] for block in asked} if asked else there

    def _naming(self, first_frame: int | None, fps: float | None) -> tuple[str, Callable[[Sequence[str], str], str]]:
        """How a row's sample is called, in words, and a function of cells and place that says it."""
        file, video = self._first(_FILES), self._first(_VIDEOS)
        number, seconds = self._first(_NUMBERS), self._first(_SECONDS)
        if number is None and first_frame is not None:
            raise FormatError(f"{self.path} has no numbers of frames, which --first-frame speaks of")
        if fps is not None and (number is not None or seconds is None):
            has = "no time stamps" if number is None else f"numbers of frames ({number})"
            raise FormatError(f"--fps is for time stamps without numbers of frames, however: {self.path} has {has}")
        if (
            number is None
            and seconds is not None
            and fps is None
            and (file is None or video)
            and self.tool.first is None
        ):
            raise FormatError(
                f"{self.path} has time stamps ({seconds}) and no numbers of frames\n  say the frames a second: --fps 30"
            )
        if number is not None and self.tool.first is None and first_frame is None and (file is None or video):
            raise FormatError(
                f"{self.path}: nothing says whether its frames are counted from 0 or from 1\n"
                "  say which the first frame of a video is: --first-frame 0"
            )
        first = (self.tool.first or 0) if first_frame is None else first_frame

        def frame(cells: Sequence[str], where: str) -> str:
            at = self._position(number, seconds, fps, first, cells, where)
            named = video or file
            folder = self.path.stem if named is None else PurePosixPath(_posix(self._cell(named, cells))).stem
            return f"{folder}/{at:05d}.jpg"

        def picture_or_frame(cells: Sequence[str], where: str) -> str:
            name = self._cell(str(file), cells)
            is_picture = PurePosixPath(_posix(name)).suffix.lower() in _PICTURES
            return name if is_picture or (number is None and fps is None) else frame(cells, where)

        counted = f"{fps or 0:g} frames a second" if number is None else f"column {number!r}, counted from {first}"
        if file is not None and video is None:
            return (
                f"column {file!r}, where it names a video by {counted}" if number else f"column {file!r}",
                picture_or_frame,
            )
        if number is not None or fps is not None:
            return f"{'the file' if video is None else f'column {video!r}'} and {counted}", frame
        return "the file's name", lambda cells, where: self.path.stem

    def _position(
        self, number: str | None, seconds: str | None, fps: float | None, first: int, cells: Sequence[str], where: str
    ) -> int:
        """The number of a row's frame, counted from 1."""
        if number is not None:
            text = self._cell(number, cells)
            if not re.fullmatch(r"[0-9]{1,7}(\.0*)?", text):
                raise FormatError(f"{where}: expected the number of a frame, however: {text!r}")
            if int(float(text)) < first:
                raise FormatError(f"{where}: frame {text} comes before the first, {first}\n  say --first-frame {text}")
            return int(float(text)) - first + 1
        assert seconds is not None, "one of the two is there"
        assert fps is not None
        exact = _float(self._cell(seconds, cells), where) * _SECONDS[seconds.lower()] * fps
        if exact < -_OFF or abs(exact - round(exact)) > _OFF:
            raise FormatError(
                f"{where}: time stamp {self._cell(seconds, cells)} lies between frames at {fps:g} a second\n"
                "  say the rate of the video itself with --fps"
            )
        return round(exact) + 1

    def _first(self, names: Sequence[str] | Mapping[str, float]) -> str | None:
        return next((title for name in names for title in self.titles if title.lower() == name), None)

    def _cell(self, title: str, cells: Sequence[str]) -> str:
        return cells[self.titles.index(title)].strip()

    def _number(self, what: str, cells: Sequence[str], where: str) -> float | None:
        title = getattr(self.tool, what)
        if title is None or title not in self.titles or _is_blank(text := self._cell(title, cells)):
            return None
        return _float(text, where)

    def _failure(self, texts: Sequence[str], cells: Sequence[str], sure: float | None, where: str) -> str:
        """Say why a row's numbers mean nothing; empty for one that is sound."""
        said = "" if sure is None else f", {self.tool.sure} {sure:g}"
        success = self._number("success", cells, where)
        if success is not None and success not in (0, 1):
            raise FormatError(f"{where}: {self.tool.success} must be 0 or 1, however: {success:g}")
        if success == 0:
            return f"{self.tool.name} found no face: success 0{said}"
        scored = self.tool is _PYFEAT and self.tool.sure in self.titles
        if all(map(_is_blank, texts)) or (scored and not sure):
            return f"{self.tool.name} found no face: {'no numbers' if sure is None else f'{self.tool.sure} {sure:g}'}"
        if self.tool is _BLENDSHAPES and not any(_float(text, where) for text in texts if not _is_blank(text)):
            return "no face was found: all blendshapes are 0"
        return ""

    def _values(self, texts: Sequence[str], where: str) -> tuple[float, ...]:
        values = []
        for text, one, at in zip(texts, self._ranges, self._at, strict=True):
            value = _float(text, f"{where}, column {self.titles[at]}")
            if one.whole and value not in (0, 1):
                raise RowsError(f"{where}: {self.titles[at]} must be 0 or 1, however: {text}")
            if not one.low - 1e-3 <= value <= one.high + 1e-3:
                raise RowsError(f"{where}: {self.titles[at]} must lie in [{one.low:g}, {one.high:g}], however: {text}")
            values.append(value)
        return tuple(values)


def _one_face(found: list[_Row], face: Face, tool: _Tool) -> tuple[list[_Row], dict[str, str]]:
    """Return one row a name, and the names that the tool failed at with the reasons."""
    of_name: dict[str, list[_Row]] = {}
    for row in found:
        of_name.setdefault(row.name, []).append(row)
    rows, failed, several = [], {}, []
    for name, mine in of_name.items():
        sound = [row for row in mine if not row.failed]
        if not sound:
            failed[name] = mine[0].failed
        elif len(sound) > 1 and face == "error":
            several.append(sound[1].where)
        else:
            rows.append(max(sound, key=lambda row: row.sure))
    if several:
        raise RowsError(
            f"{len(several):,} frames have several faces, or stand twice (first: {several[0]})\n"
            f"  take the one that {tool.name} is surest of with --face best"
            if tool.sure
            else f"{len(several):,} frames stand twice (first: {several[0]})"
        )
    return rows, failed


def _known(titles: set[str]) -> _Tool | None:
    if {"confidence"} <= titles and any(re.fullmatch(r"AU\d\d_[rc]|gaze_0_x|pose_Tx", one) for one in titles):
        return _OPENFACE
    if any(re.fullmatch(r"AU\d\d", one) for one in titles) and titles & {"FaceScore", "FaceRectX", "Pitch"}:
        return _PYFEAT
    return _BLENDSHAPES if len(titles & set(_SHAPES)) * 2 > len(_SHAPES) else None


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(one for one in path.iterdir() if one.suffix.lower() == ".csv" and not one.name.startswith("."))


def _apart(a: Mapping[str, Sequence[str]], b: Mapping[str, Sequence[str]]) -> list[str]:
    one, two = ({title for titles in each.values() for title in titles} for each in (a, b))
    return sorted(one ^ two) or ["in another order"]


def _posix(name: str) -> str:
    return name.replace("\\", "/")


def _is_blank(text: str) -> bool:
    return text.lower() in ("", "nan", "na", "none")


def _float(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f"{where}: expected a number, however: {text!r}")
    return value
