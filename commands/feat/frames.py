"""`cer-feat frames`: from videos to numbered pictures of faces."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from cer_fusion.commands import face_options as face
from cer_fusion.commands.console import FAILED, escape, out_json, out_table, progress_bar, say, show_logs
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.options import Json

if TYPE_CHECKING:
    from cer_fusion.frames import FrameSettings, MadeFrames


@forms(
    always=("output", "faces", "every", "format", "overwrite", "as_json"),
    found=Form(
        "says how faces are found and cut out, and --faces none leaves that out",
        ("size", "margin", "min_face", "min_score"),
    ),
    jpg=Form("is of jpg", ("quality",)),
)
def frames(
    ctx: typer.Context,
    videos: Annotated[
        Path, typer.Argument(metavar="VIDEO|FOLDER", help="A video, or a folder of videos and of folders.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pictures; made if needed.")],
    faces: Annotated[
        str,
        typer.Option(
            help="track: one face a frame, of the track most present; largest: the largest of each frame; all: every "
            "track in a folder of its own; none: whole frames."
        ),
    ] = "track",
    every: Annotated[int, typer.Option(min=1, help="Keep every Nth frame; frames keep their numbers.")] = 1,
    size: face.SizePx = face.DEFAULT_SIZE,
    margin: face.Margin = face.DEFAULT_MARGIN,
    min_face: face.MinFace = face.DEFAULT_MIN_FACE,
    min_score: face.MinScore = face.DEFAULT_MIN_SCORE,
    format: Annotated[str, typer.Option("--format", help="jpg or png.")] = "jpg",
    quality: Annotated[int, typer.Option(help="Of jpg, 1 to 100.")] = 95,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace frames made of another video or with other settings.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Decode videos to `01/00001.jpg` and so on, as the ABAW challenge numbers frames; find, align, follow faces.

    Run it again after a kill: what is done is not done again. Needs pip install 'cer-fusion\\[video,faces]'.

    Example: cer-feat frames videos -o frames && cer-feat manifest frames frames -o ce.csv
    """
    from cer_fusion.frames import (
        DiskError,
        Ending,
        FolderError,
        FrameSettings,
        Policy,
        VideoError,
        held_by,
        make_frames,
        named_videos,
        printable,
    )

    show_logs()
    only(ctx, found=faces != "none", jpg=format == "jpg")
    settings = FrameSettings(
        every=every,
        faces=cast(Policy, faces),
        alignment=face.alignment_of(size, margin),
        ending=cast(Ending, format),
        quality=quality,
    )
    held = held_by(videos, apart_from=output)
    found = named_videos(videos, held)
    left_out = held.with_pictures_left_out()
    if left_out:
        say(f"{len(found):,} videos; left out: {escape(counted(left_out))}")
    detector = None if settings.faces == "none" else face.detector_of(min_face, min_score)
    made: list[MadeFrames] = []
    failed: dict[str, str] = {}
    with progress_bar() as step:
        for name, path in found.items():
            try:
                one = make_frames(path, name, output, settings, detector, overwrite=overwrite, progress=step)
            except (VideoError, FolderError, DiskError) as error:
                if len(found) == 1:
                    raise
                failed[name] = printable(str(error))
                say(f"[bold red]{escape(name)}:[/] {escape(error)}")
            else:
                made.append(one)
                tell_made(one)
    _report(made, failed, left_out, settings, output, as_json)
    if failed or not any(one.counts["pictures"] for one in made):
        raise typer.Exit(FAILED)


def counted(left_out: dict[str, int]) -> str:
    """`3 × .txt, 1 × links that lead nowhere`."""
    return ", ".join(f"{count:,} × {what}" for what, count in left_out.items())


def tell_made(made: MadeFrames) -> None:
    """Say what a video gave, and what its user should know of it."""
    counts, facts, name = made.counts, made.facts, escape(made.video)
    if made.skipped:
        say(f"[bold]{name}[/]: there already, {counts['pictures']:,} pictures")
        return
    say(f"[bold]{name}[/]: {counts['pictures']:,} pictures of {counts['frames']:,} frames ({escape(_faces(made))})")
    notes = []
    if facts["variable_frame_rate"]:
        span = facts["frame_s"]
        notes.append(
            f"variable frame rate, from {1000 * span['shortest']:.0f} to {1000 * span['longest']:.0f} ms a frame: kept "
            "frame for frame, times are in the table"
        )
    if facts["turned_degrees"] not in ([0], []):
        notes.append(f"turned upright, as the file says (stored {facts['turned_degrees']} degrees off)")
    if facts["mirrored"]:
        notes.append("mirrored, as the file says")
    if facts["pixel_aspect"] != 1:
        notes.append(f"pixels that are {facts['pixel_aspect']:g} times as wide as high are made square")
    if facts["stream_choice"]:
        notes.append(facts["stream_choice"])
    if facts["interlaced"]:
        notes.append(
            f"{facts['interlaced']:,} frames are interlaced: what moves has combed edges; to have none, make a "
            "copy first: ffmpeg -i IN -vf yadif OUT"
        )
    for note in notes:
        say(f"  {escape(note)}")
    for fault in facts["faults"]:
        say(f"  [yellow]{escape(fault)}[/]")
    if facts["faults"]:
        say("  what could be decoded is kept; later frames are numbered as decoded")
    if made.without_picture:
        say(f"  [yellow]no picture[/] of {_frames_without(made)}")


def tell_frames_from_zero(ids: Iterable[str]) -> None:
    """Say early what smoothing and submitting would refuse late."""
    from cer_fusion.challenge import counted_from_zero

    note = counted_from_zero(ids)
    if note is not None:
        say(f"[yellow]{escape(note)}[/]")


def _faces(made: MadeFrames) -> str:
    counts = made.counts
    if made.identity["faces"] == "none":
        return "whole frames"
    parts = [f"{counts['faces']:,} faces in {counts['tracks']:,} tracks"]
    if counts["cuts"]:
        parts.append(f"{counts['cuts']:,} cuts")
    if counts["several_faces"]:
        parts.append(f"several in {counts['several_faces']:,} frames")
    return ", ".join(parts)


def _frames_without(made: MadeFrames) -> str:
    runs = [str(first) if first == last else f"{first}-{last}" for first, last in made.without_picture]
    more = f" and {len(runs) - 8} more runs" if len(runs) > 8 else ""
    every = made.identity["every"]
    total = sum((last - first) // every + 1 for first, last in made.without_picture)
    return f"{total:,} frames: {', '.join(runs[:8])}{more}"


def _report(
    made: list[MadeFrames],
    failed: dict[str, str],
    left_out: dict[str, int],
    settings: FrameSettings,
    output: Path,
    as_json: bool,
) -> None:
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "video": one.video,
                "file": one.source["file"],
                "made": not one.skipped,
                **one.counts,
                "folders": one.folders,
                "without_picture": one.without_picture,
                "variable_frame_rate": one.facts["variable_frame_rate"],
                "turned_degrees": one.facts["turned_degrees"],
                "mirrored": one.facts["mirrored"],
                "stream_choice": one.facts["stream_choice"],
                "interlaced": one.facts["interlaced"],
                "faults": one.facts["faults"],
            }
            for one in made
        ]
        out_json({"output": output, "faces": settings.faces, "videos": rows, "failed": failed, "left_out": left_out})
        return
    if len(made) > 1:
        keys = ("frames", "pictures", "faces", "tracks", "without_face")
        table = [[one.video, *(f"{one.counts[key]:,}" for key in keys), len(one.facts["faults"])] for one in made]
        table.append(["all", *(f"{sum(one.counts[key] for one in made):,}" for key in keys), ""])
        out_table(["video", *(key.replace("_", " ") for key in keys), "faults"], table)
    if any(one.counts["pictures"] for one in made):
        say(f"next: cer-feat manifest frames {escape(output)} -o {escape(output.name)}.csv")
    else:
        say("[bold red]error:[/] no picture was made of any video")
