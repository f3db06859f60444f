"""`cer-feat frames`: from videos to numbered pictures of faces."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import options as opt
from ..console import FAILED, escape, out_json, progress_bar, say, show_logs
from ..outputs import check_folder
from ..sources import counted, detector_of, tell_made
from ..tables import out_table

if TYPE_CHECKING:
    from ...frames import FrameSettings, MadeFrames


@opt.forms(
    found=opt.Form(
        "says how faces are found and cut out, and --faces none leaves that out",
        ("size", *opt.CROPPED, "min_face", "min_score", "look_every", "device"),
    ),
    jpg=opt.Form("is of jpg", ("quality",)),
)
def frames(
    ctx: typer.Context,
    videos: Annotated[
        Path, typer.Argument(metavar="VIDEO|FOLDER", help="A video, or a folder of videos and of folders.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pictures; made if needed.")],
    faces: Annotated[
        Literal["track", "largest", "all", "none"],
        typer.Option(
            help="track: one face a frame, of the track most present; largest: the largest of each frame; all: every "
            "track in a folder of its own; none: whole frames."
        ),
    ] = "track",
    every: Annotated[int, typer.Option(min=1, help="Keep every Nth frame; frames keep their numbers.")] = 1,
    size: opt.SizePx = opt.DEFAULT_SIZE,
    crop: opt.Crop = "face",
    margin: opt.Margin = None,
    detector: opt.DetectorName = "mtcnn",
    points: opt.PointsOf = None,
    min_face: opt.MinFace = opt.DEFAULT_MIN_FACE,
    min_score: opt.MinScore = None,
    look_every: Annotated[
        int,
        typer.Option(
            "--look-every",
            min=1,
            help="Look everywhere in every Nth frame, and between them near where faces were (mtcnn); 1 is slow.",
        ),
    ] = 5,
    device: Annotated[str, typer.Option(help="Of a detector from a file: cpu, cuda, cuda:1 or auto.")] = "auto",
    format: Annotated[Literal["jpg", "png"], typer.Option("--format", help="Of the pictures.")] = "jpg",
    quality: Annotated[int, typer.Option(help="Of jpg, 1 to 100.")] = 95,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each at a video of its own.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace frames made of another video or with other settings.")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Decode videos to `01/00001.jpg` and so on, as the ABAW challenge numbers frames; find, align, follow faces.

    Run it again after a kill: what is done is not done again. Needs pip install 'cer-fusion\\[video,faces]'.

    Example: cer-feat frames videos -o frames && cer-feat manifest frames frames -o ce.csv
    """
    from ...frames import (
        Alignment,
        FrameSettings,
        held_by,
        make_frames,
        named_videos,
        printable,
    )

    show_logs()
    opt.only(ctx, found=faces != "none", jpg=format == "jpg")
    check_folder("--output", output)
    settings = FrameSettings(
        every=every,
        faces=faces,
        look_every=look_every,
        alignment=Alignment(size_px=size, convention=crop, margin=margin),
        ending=format,
        quality=quality,
    )
    held = held_by(videos, apart_from=output)
    found = named_videos(videos, held)
    left_out = held.with_pictures_left_out()
    if left_out:
        say(f"{len(found):,} videos; left out: {escape(counted(left_out))}")
    finder = None if settings.faces == "none" else detector_of(detector, min_face, min_score, points, device)
    done: dict[str, MadeFrames] = {}
    failed: dict[str, str] = {}
    make = functools.partial(make_frames, output=output, settings=settings, detector=finder, overwrite=overwrite)
    with progress_bar() as step:
        for name, one in _each(make, found, workers, step):
            if isinstance(one, Exception):
                if len(found) == 1:
                    raise one
                failed[name] = printable(str(one))
                say(f"[bold red]{escape(name)}:[/] {escape(one)}")
            else:
                done[name] = one
                tell_made(one)
    made = [done[name] for name in found if name in done]
    _report(made, failed, left_out, settings, output, as_json)
    if failed or not any(one.counts["pictures"] for one in made):
        raise typer.Exit(FAILED)


def _each(
    make: Callable[..., MadeFrames], videos: dict[str, Path], workers: int, step: Callable[[str, int, int], None]
) -> Iterator[tuple[str, MadeFrames | Exception]]:
    """Make every video, in order or, by several processes, as they end; a fault of one video is no fault of another."""
    from ...frames import DiskError, FolderError, VideoError

    def result(of: Callable[[], MadeFrames]) -> MadeFrames | Exception:
        try:
            return of()
        except (VideoError, FolderError, DiskError) as error:
            return error

    if min(workers, len(videos)) < 2:
        for name, path in videos.items():
            yield name, result(functools.partial(make, path, name, progress=step))
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the detector's threads in mid-air
    with ProcessPoolExecutor(min(workers, len(videos)), mp_context=context) as pool:
        futures = {pool.submit(make, path, name): name for name, path in videos.items()}
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                step("videos", number, len(videos))
                yield futures[future], result(future.result)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what is under way is in its journal
            raise


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
                "high_dynamic_range": one.facts["high_dynamic_range"],
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
