"""What `cer-fuse predict` can be shown: pictures, folders of pictures, videos; each gives crops by sample id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import typer

from commands.console import escape, progress_bar, say
from commands.feat_frames import tell_made

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backbones.faces import Box, Detector
    from backbones.faces.annotating import Mark
    from backbones.video import FrameSettings, Row
    from fusion.predictions import Predictions


@dataclass(kw_only=True)
class Shown:
    """What has been found so far in what is shown."""

    settings: FrameSettings
    detector: Detector | None
    """None: the pictures are crops already, or whole frames are meant."""
    without_face: list[str] = field(default_factory=list)
    """Pictures without a face; of videos the report says it."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Pictures that are none, and why."""
    boxes: dict[str, Box] = field(default_factory=dict)
    """Where the face of a sample is, in pixels of its picture or frame."""


@dataclass(frozen=True, kw_only=True)
class PictureSource:
    """One picture, or all in a folder and the folders in it."""

    root: Path
    names: tuple[str, ...]
    """Paths from the root, with slashes; they are the sample ids."""

    def crops(self, shown: Shown) -> Iterator[tuple[str, bytes]]:
        """Ids and bytes of the pictures, or of the largest face in each."""
        import numpy as np

        from backbones import PictureError
        from backbones.faces import largest
        from backbones.picture import open_picture

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
        """Write each picture with its mark: to a file for one picture, else below a folder."""
        import io

        import numpy as np
        from PIL import Image

        from backbones.faces.annotating import annotated
        from backbones.picture import open_picture
        from fusion.files.atomic import write_atomic

        single = len(self.names) == 1 and bool(target.suffix)
        for name, mark in marks.items():
            picture = annotated(np.asarray(open_picture((self.root / name).read_bytes())), [mark])
            path = target if single else (target / name).with_suffix(".png")
            out = io.BytesIO()
            try:
                Image.fromarray(picture).save(out, Image.registered_extensions()[path.suffix.lower()])
            except KeyError:
                raise typer.BadParameter(f"no picture ends in {path.suffix!r}", param_hint="--annotate") from None
            write_atomic(path, out.getvalue())
        return len(marks)


@dataclass(frozen=True, kw_only=True)
class VideoSource:
    """One video, or all in a folder."""

    videos: dict[str, Path]
    """By name."""
    folder: Path
    """Where their frames are made."""

    def crops(self, shown: Shown) -> Iterator[tuple[str, bytes]]:
        """Make the frames of each video as `cer-feat frames` does, and give ids and bytes of the pictures."""
        from backbones.video import make_frames

        for name, path in self.videos.items():
            with progress_bar() as step:
                made = make_frames(path, name, self.folder, shown.settings, shown.detector, progress=step)
            tell_made(made)
            for row in self._rows(name):
                if row.picture:
                    if row.face is not None:
                        shown.boxes[row.picture] = row.face.box
                    yield row.picture, (self.folder / row.picture).read_bytes()

    def annotate(self, target: Path, marks: dict[str, Mark], shown: Shown) -> int:
        """Write each video again with marks: to a file for one video, else one a name in a folder."""
        from backbones.video.writing import write_video

        frames = 0
        for name in self.videos:
            path = target if len(self.videos) == 1 else target / f"{name}.mp4"
            frames += write_video(path, self._marked(name, marks, shown.settings.every))
        return frames

    def _marked(
        self, name: str, marks: dict[str, Mark], every: int
    ) -> Iterator[tuple[float | None, NDArray[np.uint8]]]:
        from backbones.faces.annotating import annotated
        from backbones.video import VideoReader

        looked_at = groupby(self._rows(name), key=lambda row: row.frame)
        for frame in VideoReader(self.videos[name]).frames():
            if (frame.number - 1) % every:
                continue
            _, rows = next(looked_at)
            yield frame.time_s, annotated(frame.picture, [marks[row.picture] for row in rows if row.picture in marks])

    def _rows(self, name: str) -> Iterator[Row]:
        from backbones.video import read_table, table_path

        return read_table(table_path(self.folder, name))


def source_of(path: Path, frames: Path | None, keep: ExitStack) -> PictureSource | VideoSource:
    """What a path shows; frames of videos are made in `frames`, or in a folder that `keep` removes at its end.

    Raises
    ------
    typer.BadParameter
        If there is nothing of the kind, or pictures and videos side by side.
    """
    from backbones.video import SUFFIXES as VIDEO_SUFFIXES
    from backbones.video import named_videos

    pictures, videos = _pictures(path), _listed(path, VIDEO_SUFFIXES)
    if pictures and videos:
        raise typer.BadParameter(
            f"{path} holds pictures ({pictures[0]}) and videos ({videos[0]}): name one kind", param_hint="PICTURE"
        )
    if videos or (path.is_file() and not pictures):  # a file that is named itself may end as it likes
        folder = frames or Path(keep.enter_context(TemporaryDirectory(prefix="cer-frames-")))
        return VideoSource(videos=named_videos(path), folder=folder)
    if not pictures:
        raise typer.BadParameter(f"no picture and no video at {path}", param_hint="PICTURE")
    return PictureSource(root=path if path.is_dir() else path.parent, names=tuple(pictures))


def marks_of(predictions: Predictions, shown: Shown, top: int) -> dict[str, Mark]:
    """The likeliest classes of every sample as bars at its face."""
    from backbones.faces.annotating import Mark

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
    for name, reason in list(shown.unusable.items())[:3]:
        say(f"[yellow]{escape(name)}[/]: {escape(reason)}")
    if len(shown.unusable) > 3:
        say(f"  and {len(shown.unusable) - 3:,} more unusable pictures")


def _pictures(path: Path) -> list[str]:
    """The pictures that a path means, as paths from the folder: by content, and through links, as manifests do."""
    from commands.manifest_tools.talk import tell_left_out as tell_files_left_out
    from featstore.adapters.tree import PICTURE_SUFFIXES, Tree
    from featstore.pictures import HEAD_BYTES, picture_kind

    if path.is_dir():
        tree = Tree(path)
        found = [tree.path(name) for name in tree.pictures()]
        if found:
            tell_files_left_out(tree.left_out)
            for note in tree.notes:
                say(escape(note))
        return found
    if not path.is_file():
        return []
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    is_container = head[4:8] == b"ftyp"  # of pictures and of videos, and its brand says which
    named_so = path.suffix.lower() in PICTURE_SUFFIXES and not is_container
    return [path.name] if picture_kind(head)[0] or named_so else []


def _listed(path: Path, suffixes: tuple[str, ...]) -> list[Any]:
    """Files with these endings in the folder itself."""
    if path.is_file():
        return [path.name] if path.suffix.lower() in suffixes and not _pictures(path) else []
    return sorted(
        one.relative_to(path).as_posix()
        for one in path.glob("*")
        if one.suffix.lower() in suffixes and not any(part.startswith(".") for part in one.relative_to(path).parts)
    )
