"""Making the frames of one video: read, find faces, cut them out, write pictures, whole or not at all.

All work happens in a hidden folder beside the result. A video is read, looked at and written frame by frame; what is
done stands in a journal, so that a killed run only decodes again, which is the cheap part. When the video has ended its
faces become tracks, the pictures get their names, and the index that is renamed into place last makes all of it count.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cer_fusion.backbones.errors import FramesError, VideoError, listed
from cer_fusion.frames.cuts import Changes
from cer_fusion.frames.decoding import VideoFrameRGB, VideoReader
from cer_fusion.frames.faces.choosing import largest
from cer_fusion.frames.faces.face import Detector
from cer_fusion.frames.journal import Journal, Seen
from cer_fusion.frames.made import MadeFrames, file_sha256, index_path, table_path
from cer_fusion.frames.naming import printable
from cer_fusion.frames.settings import FrameSettings
from cer_fusion.frames.sorting import sort_pictures
from cer_fusion.frames.table import read_table

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


def make_frames(
    path: Path,
    name: str,
    output: Path,
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
        What its folder is called; see `naming.video_name`.
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
    FramesError
        If something else is in the way, another process is at it, or the disk fails; what was done is kept then.
    """
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
    reader = VideoReader(path)
    for frame in reader.frames():
        if (frame.number - 1) % settings.every == 0:
            change = 0.0 if detector is None else changes.of(frame.picture)
            before = next(known, None)  # ends before the first line is added, and then stays ended
            if before is None:
                journal.add(_seen(frame, change, settings, detector, pictures))
            elif not _whole(before, pictures):
                _write(before, frame, settings, pictures)
        if progress is not None:
            progress(name, frame.number, max(frame.number, reader.promised or 0))
    journal.finish(reader.facts())


def _seen(
    frame: VideoFrameRGB, change: float, settings: FrameSettings, detector: Detector | None, pictures: Path
) -> Seen:
    faces = () if detector is None else tuple(detector.detect(frame.picture))
    seen = Seen(number=frame.number, time_s=frame.time_s, damaged=frame.damaged, change=change, faces=faces, digests=())
    return replace(seen, digests=_write(seen, frame, settings, pictures))


def _write(seen: Seen, frame: VideoFrameRGB, settings: FrameSettings, pictures: Path) -> tuple[str | None, ...]:
    """Write what the policy may want of a frame; a name in the journal is what makes a file count."""
    if settings.faces == "none":
        return (_put(pictures / f"{seen.number}-0", settings.encode(frame.picture)),)
    only = largest([face.box for face in seen.faces]) if settings.faces == "largest" else None
    digests: list[str | None] = []
    for i, face in enumerate(seen.faces):
        if settings.faces == "largest" and i != only:
            digests.append(None)
            continue
        crop = settings.alignment.crop(frame.picture, face)
        digests.append(_put(pictures / f"{seen.number}-{i}", settings.encode(crop)))
    return tuple(digests)


def _put(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


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
    folders, counts, without = sort_pictures(work, name, settings, journal, table_path(work, name))
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


def _what_is_there(
    output: Path, name: str, work: Path, source: dict[str, Any], identity: dict[str, Any], overwrite: bool
) -> MadeFrames | None:
    """The finished frames of that name, `skipped` where they are what is asked for; None where there are none."""
    index = index_path(output, name)
    if not index.exists():
        in_the_way = [path for path in (output / name, table_path(output, name)) if path.exists()]
        if in_the_way and not index_path(work, name).exists():
            raise FramesError(f"{in_the_way[0]} is there, and no index says that it was made here: name another folder")
        return None
    old = MadeFrames.read(index)
    if old.source["sha256"] == source["sha256"] and old.identity == identity:
        gone = missing_pictures(output, old)
        if not gone:
            return replace(old, skipped=True)
        logger.warning("%s: %d pictures are gone (%s); it is made again", name, len(gone), listed(gone))
        return old
    if not overwrite:
        raise FramesError(
            f"{output} holds frames of {name!r} that were made otherwise: {_difference(old, source, identity)}\n"
            "  name another folder, or replace them with --overwrite"
        )
    return old


def missing_pictures(output: Path, made: MadeFrames) -> list[str]:
    """Names that stand in a finished video's table and not in its folders, or the table itself."""
    table = table_path(output, made.video)
    if not table.is_file() or file_sha256(table) != made.table_sha256:
        return [table.name]
    there = {f"{folder}/{one.name}" for folder in made.folders for one in _entries(output / folder)}
    return [row.picture for row in read_table(table) if row.picture and row.picture not in there]


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _difference(old: MadeFrames, source: dict[str, Any], identity: dict[str, Any]) -> str:
    """Name what differs, in a line."""
    if old.source["sha256"] != source["sha256"]:
        return f"of another video, {old.source['file']} of {old.source['bytes']:,} bytes"
    was, wanted = _flat(old.identity), _flat(identity)
    fields = [key for key in {**was, **wanted} if was.get(key) != wanted.get(key)]
    return listed([f"{key} was {was.get(key)!r}, is {wanted.get(key)!r}" for key in fields])


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _flat(one, f"{prefix}{key}.") if isinstance(one, dict) else {prefix + key: one}
    return found


def _source(path: Path) -> dict[str, Any]:
    """Which video it is."""
    if not path.is_file():
        raise VideoError(f"there is no video {path}")
    try:
        return {"file": printable(path.name), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from None
