"""Making the frames of one video: read, find faces, cut them out, write pictures, whole or not at all.

All work happens in a hidden folder beside the result. A video is read, looked at and written frame by frame; what is
done stands in a journal, so that a killed run only decodes again, which is the cheap part. When the video has ended its
faces become tracks, the pictures get their names, and the index that is renamed into place last makes all of it count.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from PIL import __version__ as pillow_version

from ..kit.errors import listing, nearest
from ..kit.plain import flat
from . import decoding
from .decoding import VideoReader
from .errors import FolderError, OptionError, VideoError
from .faces import POLICIES, Alignment, Detector, Face, Follows, Policy, largest
from .finding import frame_name, printable
from .folder import (
    Journal,
    MadeFrames,
    Row,
    Seen,
    file_sha256,
    index_path,
    read_table,
    table_path,
    write_table,
)  # fmt: skip
from .tracks import (
    Changes,
    CutSettings,
    MainTrack,
    Tracked,
    Tracker,
    TrackSettings,
    presences,
    with_cuts,
)

logger = logging.getLogger(__name__)

Ending = Literal["jpg", "png"]
Progress = Callable[[str, int, int], None]
_COUNTS = (
    "frames", "cuts", "pictures", "faces", "tracks", "without_face", "without_main", "several_faces", "damaged",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FrameSettings:
    """Everything that fixes the pictures besides the video and the detector; checked once when made."""

    every: int = 1
    """Keep frames 1, 1 + every, 1 + 2 every, …; they keep their numbers."""
    faces: Policy = "track"
    """Which faces; see `cer_fusion.frames.faces.POLICIES`."""
    look_every: int = 5
    """Look everywhere in every Nth frame, and in the others near where faces were, where the detector can do that; see
    `faces_in`."""
    alignment: Alignment = field(default_factory=Alignment)
    """What a crop is."""
    tracking: TrackSettings = field(default_factory=TrackSettings)
    """When a face is the one of the frame before."""
    cuts: CutSettings = field(default_factory=CutSettings)
    """When a frame begins a new shot, and with it new tracks."""
    ending: Ending = "jpg"
    """What pictures are written as."""
    quality: int = 95
    """Of JPEG, which is written without chroma subsampling."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.every < 1:
            raise OptionError(f"every must be at least 1, however: {self.every}")
        if self.look_every < 1:
            raise OptionError(f"look_every must be at least 1, however: {self.look_every}")
        if self.faces not in POLICIES:
            raise OptionError(
                f"faces must be one of the policies, however: {self.faces!r}; {nearest(self.faces, POLICIES)}"
            )
        if self.ending not in get_args(Ending):
            raise OptionError(f"pictures are written as jpg or png, however: {self.ending!r}")
        if not 1 <= self.quality <= 100:
            raise OptionError(f"quality must be from 1 to 100, however: {self.quality}")

    def identity(self, detector: Detector | None) -> dict[str, Any]:
        """What is asked for, as far as it fixes the pictures of a given video; JSON values."""
        picture: dict[str, Any] = {"ending": self.ending}
        if self.ending == "jpg":
            picture["quality"] = self.quality
        found = {"decoding": decoding.CODE, "every": self.every, "faces": self.faces, "picture": picture}
        if detector is None:
            return found
        if isinstance(detector, Follows):
            found["look_every"] = self.look_every
        return {
            **found, "detector": detector.identity(), "alignment": self.alignment.identity(),
            "tracking": self.tracking.identity(), "cuts": self.cuts.identity(),
        }  # fmt: skip

    def versions(self, detector: Detector | None) -> dict[str, str]:
        """Libraries that the pictures' bytes come from; finished pictures outlive a new version of them."""
        codec = "jpg" if self.ending == "jpg" else "zlib"
        found = {**decoding.decoder_versions(), "pillow": pillow_version, codec: str(features.version(codec))}
        return found if detector is None else {**found, **detector.versions()}

    def encode(self, picture: NDArray[np.uint8]) -> bytes:
        """The bytes of a picture file: (h, w, 3) uint8 RGB; equal pictures give equal bytes."""
        out = io.BytesIO()
        image = Image.fromarray(picture)
        if self.ending == "jpg":
            image.save(out, "JPEG", quality=self.quality, subsampling=0)
        else:
            image.save(out, "PNG", compress_level=1)
        return out.getvalue()


def make_frames(
    path: Path | str,
    name: str,
    output: Path | str,
    settings: FrameSettings,
    detector: Detector | None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> MadeFrames:
    """Make the frames of one video, or find that they are there.

    Parameters
    ----------
    path : Path
        The video.
    name : str
        What its folder is called; see `video_name`.
    output : Path
        Folder of the results; made if needed.
    settings : FrameSettings
    detector : Detector or None
        None exactly where ``settings.faces`` is "none".
    overwrite : bool
        Replace frames of this name that come from another video or other settings.
    progress : callable (video, frames done, frames promised), optional

    Raises
    ------
    VideoError
        If the file is no video or gives no frame; nothing is left of it then.
    FolderError
        If something else is in the way, or another process is at it.
    DiskError
        If the disk fails; what was done is kept then.
    """
    path = Path(path)
    output = Path(output)
    assert (detector is None) == (settings.faces == "none")
    source = _source(path)
    identity = json.loads(json.dumps(settings.identity(detector)))
    work = output / f".{name}.frames"
    old = _what_is_there(output, name, work, source, identity, overwrite)
    if old is not None and old.skipped:
        return old
    work.mkdir(parents=True, exist_ok=True)
    header = {"source": source, "identity": identity, "versions": settings.versions(detector)}
    journal = Journal(work / "journal.jsonl", header)
    try:
        if journal.fresh:
            for one in work.iterdir():
                if one != journal.path:
                    shutil.rmtree(one) if one.is_dir() else one.unlink()
        if journal.end is None:
            _look(path, name, work, settings, detector, journal, progress)
        made = _claimed(work, name, settings, journal, header)
        _put_in_place(work, output, made, old)
    except VideoError:
        journal.close()
        shutil.rmtree(work)
        raise
    finally:
        journal.close()
    shutil.rmtree(work)
    return made


def _source(path: Path) -> dict[str, Any]:
    """Which video it is."""
    if not path.is_file():
        raise VideoError(f"there is no video {path}")
    try:
        return {"file": printable(path.name), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from None


def _what_is_there(
    output: Path, name: str, work: Path, source: dict[str, Any], identity: dict[str, Any], overwrite: bool
) -> MadeFrames | None:
    """The finished frames of that name, `skipped` where they are what is asked for; None where there are none."""
    index = index_path(output, name)
    if not index.exists():
        in_the_way = [path for path in (output / name, table_path(output, name)) if path.exists()]
        if in_the_way and not index_path(work, name).exists():
            raise FolderError(f"{in_the_way[0]} is there, and no index says that it was made here: name another folder")
        return None
    old = MadeFrames.read(index)
    if old.source["sha256"] == source["sha256"] and old.identity == identity:
        gone = _missing(output, old)
        if not gone:
            return replace(old, skipped=True)
        logger.warning("%s: %d pictures are gone (%s); it is made again", name, len(gone), listing(gone))
        return old
    if not overwrite:
        raise FolderError(
            f"{output} holds frames of {name!r} that were made otherwise: {_difference(old, source, identity)}\n"
            "  name another folder, or replace them with --overwrite"
        )
    return old


def _missing(output: Path, made: MadeFrames) -> list[str]:
    """Names that stand in a finished video's table and not in its folders, or the table itself."""
    table = table_path(output, made.video)
    if not table.is_file() or file_sha256(table) != made.table_sha256:
        return [table.name]
    folders = [output / folder for folder in made.folders]
    there = {f"{folder.name}/{one.name}" for folder in folders if folder.is_dir() for one in folder.iterdir()}
    return [row.picture for row in read_table(table) if row.picture and row.picture not in there]


def _difference(old: MadeFrames, source: dict[str, Any], identity: dict[str, Any]) -> str:
    """Name what differs, in a line."""
    if old.source["sha256"] != source["sha256"]:
        return f"of another video, {old.source['file']} of {old.source['bytes']:,} bytes"
    was, wanted = flat(old.identity), flat(identity)
    fields = [key for key in {**was, **wanted} if was.get(key) != wanted.get(key)]
    return listing([f"{key} was {was.get(key)!r}, is {wanted.get(key)!r}" for key in fields])


def _look(
    path: Path,
    name: str,
    work: Path,
    settings: FrameSettings,
    detector: Detector | None,
    journal: Journal,
    progress: Progress | None,
) -> None:
    """Read the video to its end; frames in the journal are neither looked at nor written again."""
    pictures = work / "pictures"
    pictures.mkdir(exist_ok=True)
    known = journal.seen()
    changes = Changes()
    faces: tuple[Face, ...] = ()
    reader = VideoReader(path)
    for frame in reader.frames():
        if (frame.number - 1) % settings.every == 0:
            change = 0.0 if detector is None else changes.of(frame.picture)
            before = next(known, None)  # ends before the first line is added, and then stays ended
            if before is None:
                if detector is not None:
                    step = (frame.number - 1) // settings.every
                    faces = tuple(faces_in(frame.picture, detector, settings, step=step, change=change, before=faces))
                seen = Seen(
                    number=frame.number, time_s=frame.time_s, damaged=frame.damaged, change=change, faces=faces,
                    digests=_write(frame.number, frame.picture, faces, settings, pictures),
                )  # fmt: skip
                journal.add(seen)
            else:
                faces = before.faces
                if not _whole(before, pictures):
                    _write(before.number, frame.picture, faces, settings, pictures)
        if progress is not None:
            progress(name, frame.number, max(frame.number, reader.promised or 0))
    journal.finish(reader.facts())


def faces_in(
    picture: NDArray[np.uint8],
    detector: Detector,
    settings: FrameSettings,
    *,
    step: int,
    change: float,
    before: Sequence[Face],
) -> list[Face]:
    """The faces of a frame, sought near those of the frame before where that suffices.

    It does not in every Nth frame, so that somebody new is seen N - 1 frames late at most; where nobody was seen; where
    the picture changes as at a cut; and where somebody is not found again. What is done follows from the frame's number
    and the frame before alone, so that a killed run goes on as it would have.

    Parameters
    ----------
    step : int
        Frames looked at before this one.
    change : float
        Since the frame before, of 255; see `Changes`.
    before : sequence of Face
        Of the frame before.
    """
    everywhere = step % settings.look_every == 0 or not before or change >= settings.cuts.least_change
    if not everywhere and isinstance(detector, Follows):
        found = detector.follow(picture, [face.box for face in before])
        if len(found) >= len(before):
            return found
    return detector.detect(picture)


def _write(
    number: int, picture: NDArray[np.uint8], faces: Sequence[Face], settings: FrameSettings, pictures: Path
) -> tuple[str | None, ...]:
    """Write what the policy may want of a frame; a name in the journal is what makes a file count."""
    only = largest([face.box for face in faces]) if settings.faces == "largest" else None
    digests: list[str | None] = []
    for i, face in enumerate([None] if settings.faces == "none" else faces):
        if settings.faces == "largest" and i != only:
            digests.append(None)
            continue
        data = settings.encode(picture if face is None else settings.alignment.crop(picture, face))
        (pictures / f"{number}-{i}").write_bytes(data)
        digests.append(hashlib.sha256(data).hexdigest())
    return tuple(digests)


def _whole(seen: Seen, pictures: Path) -> bool:
    """Whether the pictures of a frame are as they were written; a power cut can leave a name without its bytes."""
    for i, digest in enumerate(seen.digests):
        path = pictures / f"{seen.number}-{i}"
        if digest is not None and (not path.is_file() or file_sha256(path) != digest):
            return False
    return True


def _claimed(work: Path, name: str, settings: FrameSettings, journal: Journal, header: dict[str, Any]) -> MadeFrames:
    """Sort the pictures into their folders and write table and index, still in the working folder."""
    claim = index_path(work, name)
    if claim.exists():
        return MadeFrames.read(claim)
    assert journal.end is not None
    folders, counts, without = sort_pictures(work, name, settings, journal)
    if hasattr(os, "sync"):  # once for all pictures: a sync for each would cost more than decoding
        os.sync()
    made = MadeFrames(
        video=name,
        **header,
        facts=journal.end,
        folders=folders,
        counts=counts,
        without_picture=without,
        table_sha256=file_sha256(table_path(work, name)),
    )
    made.write(claim)
    return made


def sort_pictures(
    work: Path, name: str, settings: FrameSettings, journal: Journal
) -> tuple[tuple[str, ...], dict[str, int], tuple[tuple[int, int], ...]]:
    """Move pictures to ``<work>/sorted/<folder>/<frame>`` and write the table; a killed run can do it again.

    Two passes over the journal, neither of which keeps more than the tracks in memory.

    Returns
    -------
    folders, counts, runs of frames without a picture
    """
    counts: Counter[str] = Counter()
    without: list[int] = []
    folders: dict[str, None] = {}

    def rows() -> Iterator[Row]:
        for seen, cut, made in _chosen(name, settings, journal):
            for row, i in made:
                if row.picture:
                    folder = row.picture.rpartition("/")[0]
                    if folder not in folders:
                        (work / "sorted" / folder).mkdir(parents=True, exist_ok=True)
                        folders[folder] = None
                    picture, target = work / "pictures" / f"{seen.number}-{i}", work / "sorted" / row.picture
                    if picture.exists() or not target.exists():  # else an earlier run has moved it
                        os.replace(picture, target)
                yield row
            pictures = sum(bool(row.picture) for row, _ in made)
            counts["frames"] += 1
            counts["pictures"] += pictures
            counts["faces"] += len(seen.faces)
            counts["tracks"] = max([counts["tracks"], *(row.track or 0 for row, _ in made)])
            counts["without_face"] += settings.faces != "none" and not seen.faces
            counts["without_main"] += bool(seen.faces) and not any(row.main for row, _ in made)
            counts["several_faces"] += len(seen.faces) > 1
            counts["damaged"] += seen.damaged
            counts["cuts"] += cut
            if not pictures:
                without.append(seen.number)

    write_table(table_path(work, name), rows())
    return tuple(folders), {key: int(counts[key]) for key in _COUNTS}, _runs(without, settings.every)


def _chosen(name: str, settings: FrameSettings, journal: Journal) -> Iterator[tuple[Seen, bool, list[tuple[Row, int]]]]:
    """Every frame, whether it begins a shot, its rows, and for each the position of its picture among the frame's."""
    tracks = presences(tracked for _, _, tracked in _tracked(settings, journal))
    main = MainTrack(tracks)
    for seen, cut, (number, faces) in _tracked(settings, journal):
        plain = Row(frame=number, time_s=seen.time_s, damaged=seen.damaged)
        file = frame_name(number, settings.ending)
        if not faces:
            picture = f"{name}/{file}" if settings.faces == "none" else ""
            yield seen, cut, [(replace(plain, picture=picture), 0)]
            continue
        chosen = largest([box for _, box in faces]) if settings.faces == "largest" else main.choose(number, faces)
        rows = []
        for i, (face, (track, _)) in enumerate(zip(seen.faces, faces, strict=True)):
            folder = f"{name}-track{track}" if settings.faces == "all" else name
            picture = f"{folder}/{file}" if settings.faces == "all" or i == chosen else ""
            row = replace(plain, face=face, position=i + 1, track=track, main=i == chosen, picture=picture)
            rows.append((row, i))
        yield seen, cut, rows


def _tracked(settings: FrameSettings, journal: Journal) -> Iterator[tuple[Seen, bool, Tracked]]:
    """Every frame, whether it begins a shot, and the tracks of its faces, which end with a shot.

    Time is counted in frames looked at.
    """
    tracker = Tracker(settings.tracking)
    for seen, cut in with_cuts(journal.seen(), lambda seen: seen.change, settings.cuts):
        boxes = [face.box for face in seen.faces]
        step = (seen.number - 1) // settings.every
        if cut:
            tracker.cut()
        yield seen, cut, (seen.number, list(zip(tracker.follow(step, boxes), boxes, strict=True)))


def _runs(numbers: Sequence[int], every: int) -> tuple[tuple[int, int], ...]:
    """Rising numbers, `every` apart where they follow each other, as (first, last) of each run."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + every:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def _put_in_place(work: Path, output: Path, made: MadeFrames, old: MadeFrames | None) -> None:
    """Rename folders, table and index to their names, the index last; can be gone on with after a kill."""
    index_path(output, made.video).unlink(missing_ok=True)
    for folder in old.folders if old is not None else ():
        shutil.rmtree(output / folder, ignore_errors=True)
    for folder in made.folders:
        if (work / "sorted" / folder).exists():
            shutil.rmtree(output / folder, ignore_errors=True)
            (work / "sorted" / folder).rename(output / folder)
    if table_path(work, made.video).exists():
        os.replace(table_path(work, made.video), table_path(output, made.video))
    os.replace(index_path(work, made.video), index_path(output, made.video))
