"""Pictures and videos as commands take them: how faces are found in them, what is told of it, and crops by sample id.

`cer-feat frames` makes videos into frames; `cer-fuse predict` is shown pictures, videos, folders of either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zipfile import is_zipfile

import typer

from ..kit.errors import Masked
from ..kit.text import is_utf8
from .console import escape, progress_bar, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..frames import Box, Detector, FrameSettings, FrameSound, MadeFrames, Mark, Row
    from ..fusion.keeping.answers import Predictions


def detector_of(name: str, min_face: int, min_score: float | None, points: str | None, device: str) -> Detector:
    """The detector that `--detector` names; where networks run on what no detector runs on, it is the CPU's."""
    from ..frames import detector_named

    on = device if device == "auto" or device.startswith("cuda") else "cpu"
    return detector_named(
        name, min_face_px=min_face, min_score=min_score, points=points, device="cpu" if name == "mtcnn" else on
    )


@dataclass(kw_only=True)
class Shown:
    """What has been found so far in what is shown."""

    settings: FrameSettings
    detector: Detector | None
    """None: the pictures are crops already, or whole frames are meant."""
    overwrite: bool = False
    """Whether frames made otherwise, and pictures and videos that are there, may be replaced."""
    without_face: list[str] = field(default_factory=list)
    """Pictures without a face; of videos the report says it."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Pictures that are none, and why."""
    boxes: dict[str, Box] = field(default_factory=dict)
    """Where the face of a sample is, in pixels of its picture or frame."""

    @property
    def masked(self) -> dict[str, int]:
        """Of `unusable`, how many have no answer for no fault of theirs, by the reason: their video has no sound."""
        return dict(Counter(found for text in self.unusable.values() if (found := Masked.reason(text)) is not None))


@dataclass(frozen=True, kw_only=True)
class ShownPictures:
    """One picture, or all in a folder and the folders in it."""

    root: Path
    names: tuple[str, ...]
    """Paths from the root, with slashes; they are the sample ids."""
    filmed = False
    sound = None
    time_of = None

    def files(self) -> list[Path]:
        """What is read."""
        return [self.root / name for name in self.names]

    def drawn_to(self, target: Path) -> list[Path]:
        """Where `annotate` writes: to a file for one picture, else below a folder; refuses what cannot be written."""
        if len(self.names) == 1 and target.suffix:
            self._try(target)
            return [target]
        _need_folder(target, len(self.names), "pictures")
        drawn = [(target / name).with_suffix(".png") for name in self.names]
        alike = Counter(str(path).casefold() for path in drawn)  # a.jpg and a.png
        return [
            target / f"{name}.png" if alike[str(path).casefold()] > 1 else path
            for name, path in zip(self.names, drawn, strict=True)
        ]

    def _try(self, target: Path) -> None:
        """Write an empty picture of the same size into memory: whether its form can be told before the work."""
        import io

        from PIL import Image

        from ..backbones import PictureError
        from ..backbones.picture import picture_header

        form = Image.registered_extensions().get(target.suffix.lower(), "")
        if form not in Image.SAVE:
            raise typer.BadParameter(
                f"no picture ends in {target.suffix!r}: a picture is drawn as one, such as .png or .jpg",
                param_hint="--annotate",
            )
        try:
            size = picture_header((self.root / self.names[0]).read_bytes())[:2]
        except PictureError:
            return  # told when it is its turn
        out = io.BytesIO()
        try:
            Image.new("RGB", size).save(out, form)
            written = size
            if form in Image.OPEN:
                with Image.open(out, formats=(form,)) as again:
                    written = again.size
        except Exception as error:  # a boundary: each form has its own limits, and its own errors for them
            raise typer.BadParameter(
                f"a picture of {size[0]} x {size[1]} pixels cannot be written as {form}: {error}\n  name one in .png",
                param_hint="--annotate",
            ) from None
        if written != size:
            raise typer.BadParameter(
                f"{form} would make {written[0]} x {written[1]} of {size[0]} x {size[1]} pixels: name one in .png",
                param_hint="--annotate",
            )

    def crops(self, shown: Shown) -> Iterator[tuple[str, bytes]]:
        """Ids and bytes of the pictures, or of the largest face in each."""
        import numpy as np

        from ..backbones import PictureError
        from ..backbones.picture import open_picture
        from ..frames import largest

        several = 0
        with progress_bar() as step:
            for number, name in enumerate(self.names, start=1):
                data = (self.root / name).read_bytes()
                step("pictures", number, len(self.names))
                if shown.detector is None:
                    yield name, data
                    continue
                try:
                    picture = np.asarray(open_picture(data))
                except PictureError as error:
                    shown.unusable[name] = str(error)
                    continue
                faces = shown.detector.detect(picture)
                chosen = largest([face.box for face in faces])
                if chosen is None:
                    shown.without_face.append(name)
                    continue
                several += len(faces) > 1
                shown.boxes[name] = faces[chosen].box
                yield name, shown.settings.encode(shown.settings.alignment.crop(picture, faces[chosen]))
        if several:
            say(f"{several:,} pictures have several faces: the largest is taken")

    def annotate(self, target: Path, marks: dict[str, Mark], shown: Shown) -> int:
        """Write each picture with its mark to where `drawn_to` says."""
        import io

        import numpy as np
        from PIL import Image

        from ..backbones.picture import open_picture
        from ..frames import annotated
        from ..kit.files import write_whole

        places = dict(zip(self.names, self.drawn_to(target), strict=True))
        for name, mark in marks.items():
            picture = annotated(np.asarray(open_picture((self.root / name).read_bytes())), [mark])
            out = io.BytesIO()
            Image.fromarray(picture).save(out, Image.registered_extensions()[places[name].suffix.lower()])
            write_whole(places[name], out.getvalue(), overwrite=shown.overwrite)
        return len(marks)


@dataclass(frozen=True, kw_only=True)
class ShownVideos:
    """One video, or all in a folder."""

    videos: dict[str, Path]
    """By name."""
    folder: Path
    """Where their frames are made."""
    times: dict[str, float | None] = field(default_factory=dict)
    """When frames that were made are shown, by their pictures."""
    filmed = True

    def files(self) -> list[Path]:
        """What is read."""
        return list(self.videos.values())

    def drawn_to(self, target: Path) -> list[Path]:
        """Where `annotate` writes: to a file for one video, else one a name in a folder; refuses what cannot be."""
        from ..frames import check_encoder, check_video_name

        check_encoder()
        if len(self.videos) > 1:
            _need_folder(target, len(self.videos), "videos")
            return [target / f"{name}.mp4" for name in self.videos]
        check_video_name(target)
        return [target]

    def crops(self, shown: Shown) -> Iterator[tuple[str, bytes]]:
        """Make the frames of each video as `cer-feat frames` does, and give ids and bytes of the pictures."""
        from ..frames import make_frames

        for name, path in self.videos.items():
            with progress_bar() as step:
                made = make_frames(
                    path, name, self.folder, shown.settings, shown.detector, overwrite=shown.overwrite, progress=step
                )
            tell_made(made)
            for row in self._rows(name):
                if row.picture:
                    self.times[row.picture] = row.time_s
                    if row.face is not None:
                        shown.boxes[row.picture] = row.face.box
                    yield row.picture, (self.folder / row.picture).read_bytes()

    def time_of(self, picture: str) -> float | None:
        """When a frame is shown, in seconds; None where its video does not say."""
        return self.times[picture]

    def sound(self, window_s: float, causal: bool) -> FrameSound:
        """What is heard at the frames, by the paths of their pictures."""
        from ..frames import FrameSound

        return FrameSound(self.folder, self.videos, window_s, causal=causal)

    def annotate(self, target: Path, marks: dict[str, Mark], shown: Shown) -> int:
        """Write each video again with marks to where `drawn_to` says."""
        from ..frames import write_video

        frames = 0
        for name, path in zip(self.videos, self.drawn_to(target), strict=True):
            marked = self._marked(name, marks, shown.settings.every)
            frames += write_video(path, marked, overwrite=shown.overwrite)
        return frames

    def _marked(
        self, name: str, marks: dict[str, Mark], every: int
    ) -> Iterator[tuple[float | None, NDArray[np.uint8]]]:
        from ..frames import VideoReader, annotated

        looked_at = groupby(self._rows(name), key=lambda row: row.frame)
        for frame in VideoReader(self.videos[name]).frames():
            if (frame.number - 1) % every:
                continue
            _, rows = next(looked_at)
            yield frame.time_s, annotated(frame.picture, [marks[row.picture] for row in rows if row.picture in marks])

    def _rows(self, name: str) -> Iterator[Row]:
        from ..frames import read_table, table_path

        return read_table(table_path(self.folder, name))


def _need_folder(target: Path, count: int, what: str) -> None:
    """Refuse a place for several that is called as one picture or video is."""
    from ..frames import PICTURE_SUFFIXES, SUFFIXES

    if count > 1 and not target.is_dir() and target.suffix.lower() in (*PICTURE_SUFFIXES, *SUFFIXES):
        raise typer.BadParameter(
            f"{count:,} {what} are drawn into a folder, and {target} is called as one file: name a folder",
            param_hint="--annotate",
        )


def source_of(path: Path, frames: Path | None, keep: ExitStack) -> ShownPictures | ShownVideos:
    """What a path shows; frames of videos are made in `frames`, or in a folder that `keep` removes at its end.

    Raises
    ------
    typer.BadParameter
        If there is nothing of the kind, or pictures and videos side by side.
    """
    from ..frames import PICTURE_SUFFIXES, VideoError, held_by, is_moving_webp, named_videos

    try:
        held = held_by(path, apart_from=frames)
    except VideoError:
        raise typer.BadParameter(f"no picture and no video at {path}", param_hint="PICTURE") from None
    pictures, videos = (_with_names(found, held.root) for found in (held.pictures, held.videos))
    if (held.pictures or held.videos) and not (pictures or videos):
        raise typer.BadParameter(
            f"the name of {path} is not UTF-8 text, and no table of answers can say it: rename it"
            if path.is_file()
            else f"no name of a picture or video in {path} is UTF-8 text: rename them",
            param_hint="PICTURE",
        )
    unplayed = [picture for picture in pictures if is_moving_webp(picture)]
    if unplayed:
        say(
            f"{len(unplayed):,} WebP pictures move (first: {escape(unplayed[0].name)}), which FFmpeg does not play: "
            f"their first frame is taken"
        )
    moving = [video for video in videos if video.suffix.lower() in PICTURE_SUFFIXES]
    if pictures and len(moving) == len(videos) > 0:
        say(f"{len(moving):,} of the pictures move (first: {escape(moving[0].name)}): their first frame is taken")
        pictures, videos = tuple(sorted({*pictures, *videos})), ()
    if held.left_out and path.is_dir():
        say(f"left out: {escape(counted(held.left_out))}")
    if pictures and videos:
        first, other = (one[0].relative_to(held.root).as_posix() for one in (pictures, videos))
        raise typer.BadParameter(
            f"{path} holds pictures ({first}) and videos ({other}): name one kind\n"
            f"  {len(pictures):,} pictures, {len(videos):,} videos",
            param_hint="PICTURE",
        )
    if videos:
        folder = frames or Path(keep.enter_context(TemporaryDirectory(prefix="cer-frames-")))
        return ShownVideos(videos=named_videos(path, replace(held, videos=videos)), folder=folder)
    if not pictures:
        raise typer.BadParameter(f"no picture and no video at {path}{_instead(path)}", param_hint="PICTURE")
    return ShownPictures(root=held.root, names=tuple(picture.relative_to(held.root).as_posix() for picture in pictures))


def _with_names(paths: tuple[Path, ...], root: Path) -> tuple[Path, ...]:
    """Those whose names are text, which ids must be; others are told."""
    kept = tuple(path for path in paths if is_utf8(str(path.relative_to(root))))
    left = [path for path in paths if path not in set(kept)]
    if left:
        say(
            f"[yellow]left out: {len(left):,} whose names are not UTF-8 text[/] (first: {escape(left[0].name)}): "
            f"rename them"
        )
    return kept


def _instead(path: Path) -> str:
    """How archives and lists are answered."""
    archive = path.is_file() and (is_zipfile(path) or path.suffix.lower() in (".tar", ".tgz", ".gz", ".xz", ".bz2"))
    if not archive and path.suffix.lower() not in (".csv", ".txt", ".parquet"):
        return ""
    kind, where = ("folder", path) if archive else ("csv", path)
    return (
        f"\n  {'an archive' if archive else 'a list'} is answered from the store: cer-feat manifest {kind} {where} -o "
        f"{path.stem}.csv, then cer-feat extract, then cer-fuse predict --data {path.stem}"
    )


def marks_of(predictions: Predictions, shown: Shown, top: int) -> dict[str, Mark]:
    """The likeliest classes of every sample as bars at its face."""
    from ..frames import Mark

    found = {}
    for name, row in zip(predictions.ids, predictions.proba, strict=True):
        order = (-row).argsort(kind="stable")[:top]
        bars = tuple((predictions.classes[i].replace("_", " "), float(row[i])) for i in order)
        found[name] = Mark(box=shown.boxes.get(name), bars=bars)
    return found


def tell_left_out(shown: Shown) -> None:
    """Say which pictures gave no answer, and why."""
    if shown.without_face:
        first = ", ".join(shown.without_face[:3])
        say(f"[yellow]no face in {len(shown.without_face):,} pictures[/] (first: {escape(first)})")
        say("  for pictures that are faces already: --no-faces")
    masked = shown.masked
    if masked:
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in masked.items())
        say(f"[yellow]{sum(masked.values()):,} frames are masked, and have no answer[/]: {escape(reasons)}")
    unusable = [(name, reason) for name, reason in shown.unusable.items() if Masked.reason(reason) is None]
    for name, reason in unusable[:3]:
        say(f"[yellow]{escape(name)}[/]: {escape(reason)}")
    if len(unusable) > 3:
        say(f"  and {len(unusable) - 3:,} more unusable pictures")


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
        notes.append(f"{facts['interlaced']:,} frames were interlaced: deinterlaced, one picture for each")
    if facts["high_dynamic_range"]:
        notes.append(f"high dynamic range ({facts['high_dynamic_range']}): tone-mapped to 8 bits of BT.709")
    for note in notes:
        say(f"  {escape(note)}")
    for fault in facts["faults"]:
        say(f"  [yellow]{escape(fault)}[/]")
    if facts["faults"]:
        say("  what could be decoded is kept; later frames are numbered as decoded")
    if made.without_picture:
        say(f"  [yellow]no picture[/] of {_frames_without(made)}")


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
