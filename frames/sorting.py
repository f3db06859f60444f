"""From a journal to pictures under their names: faces become tracks, the policy chooses, the table is written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cer_fusion.frames.cuts import with_cuts
from cer_fusion.frames.faces.choosing import MainTrack, Tracked, largest, presences
from cer_fusion.frames.faces.tracking import Tracker
from cer_fusion.frames.journal import Journal, Seen
from cer_fusion.frames.made import runs
from cer_fusion.frames.naming import frame_name
from cer_fusion.frames.settings import FrameSettings
from cer_fusion.frames.table import Row, write_table

Sorted = tuple[tuple[str, ...], dict[str, int], tuple[tuple[int, int], ...]]
_COUNTS = (
    "frames", "cuts", "pictures", "faces", "tracks", "without_face", "without_main", "several_faces", "damaged",
)  # fmt: skip


def sort_pictures(work: Path, name: str, settings: FrameSettings, journal: Journal, table: Path) -> Sorted:
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
                    _move(work / "pictures" / f"{seen.number}-{i}", work / "sorted" / row.picture)
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

    write_table(table, rows())
    return tuple(folders), {key: int(counts[key]) for key in _COUNTS}, runs(without, settings.every)


def _chosen(name: str, settings: FrameSettings, journal: Journal) -> Iterator[tuple[Seen, bool, list[tuple[Row, int]]]]:
    """Every frame, whether it begins a shot, its rows, and for each the position of its picture among the frame's."""
    tracks = presences(tracked for _, _, tracked in _tracked(settings, journal))
    main = MainTrack(tracks)
    for seen, cut, (number, faces) in _tracked(settings, journal):
        plain = Row(frame=number, time_s=seen.time_s, damaged=seen.damaged)
        file = frame_name(number, settings.ending)
        if not faces:
            picture = f"{name}/{file}" if settings.faces == "none" else ""
            yield seen, cut, [(Row(**{**vars(plain), "picture": picture}), 0)]
            continue
        chosen = largest([box for _, box in faces]) if settings.faces == "largest" else main.choose(number, faces)
        rows = []
        for i, (face, (track, _)) in enumerate(zip(seen.faces, faces, strict=True)):
            folder = f"{name}-track{track}" if settings.faces == "all" else name
            picture = f"{folder}/{file}" if settings.faces == "all" or i == chosen else ""
            given = {"face": face, "position": i + 1, "track": track, "main": i == chosen, "picture": picture}
            rows.append((Row(**{**vars(plain), **given}), i))
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


def _move(path: Path, target: Path) -> None:
    """Rename a picture, unless an earlier run has."""
    if path.exists() or not target.exists():
        os.replace(path, target)
