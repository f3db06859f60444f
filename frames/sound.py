"""The sound of a video: mono, 16 kHz, placed by time stamps; and the piece of it around each frame.

A row of sound belongs to a frame, and to the frame's time: the window is cut out around the time stamp that the table
of `cer-feat frames` has for the frame, so that a variable frame rate, sound that begins later than the picture and
sound that stops earlier shift nothing. Where there is no sound, there is no row: `Masked`, with the reason.

What a row follows from is the video's bytes and the frame's time, so that is the digest that stands beside it; the
face's picture has no part in it. The video must be the one that the frames were made of, byte for byte.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kit.errors import Masked, listing
from .decoding import decoded, decoder_versions, opened, require_av
from .errors import FolderError, VideoError
from .finding import named_videos
from .folder import MadeFrames, file_sha256, read_table, table_path

if TYPE_CHECKING:
    from av.audio.stream import AudioStream

CODE = 1
"""Version of what stands here; part of the identity."""
RATE_HZ = 16_000
"""What everything is resampled to: the rate that networks of speech were trained at."""
AROUND, BEFORE = "around", "before"
"""Where windows lie by the frame's time, in the identity; `before` is what causal ones are."""
NEAR_S = 0.05
"""A frame so little outside of the sound is one of its edge: containers begin and end their streams a coded packet
apart, 26 ms in MP3."""
_JITTER_S = 0.03
"""Time stamps that are off by so little are rounded, as Matroska's are; more is a hole."""
_KEPT_BYTES = 512 << 20
"""Decoded sound that is kept for the frames to come: two hours and a half."""
_DEFAULT_COUNTS = 5_000_000  # channels that "this is the default stream" is worth to the command ffmpeg
log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """Sound without a gap."""

    start_s: float
    """When it begins, by the file's own zero, as the frames' times."""
    samples: NDArray[np.float32]
    """(n,) mono, `RATE_HZ` a second, -1 to 1."""

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self.start_s + len(self.samples) / RATE_HZ


@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """All sound of a video."""

    pieces: tuple[Piece, ...]
    """In order, apart from each other; none where there is no sound."""
    has_track: bool
    """Whether the file has a stream of sound at all."""
    choice: str | None
    """In words which stream was taken, where there are several."""
    faults: tuple[str, ...]
    """What went wrong, in the order in which it was met."""

    @property
    def is_silent(self) -> bool:
        """Whether there is sound and no value of it differs from zero: a row is made of that, too."""
        return bool(self.pieces) and not any(piece.samples.any() for piece in self.pieces)

    def around(self, time_s: float | None, window_s: float, *, causal: bool = False) -> NDArray[np.float32]:
        """Cut out the sound around a time.

        Parameters
        ----------
        time_s : float or None
            Of the frame, by the file's own zero; the middle of the window. None: the file does not say.
        window_s : float
            Length.
        causal : bool
            The time is the end of the window instead: nothing is heard that sounds later.

        Returns
        -------
        ndarray of shape (n,), float32
            `window_s` seconds; where the sound begins or ends within the window, what there is of it: nothing is filled
            up, since silence would be heard as such.

        Raises
        ------
        Masked
            If there is no sound at that time.
        """
        if not self.has_track:
            raise Masked("its video has no sound track")
        if not self.pieces:
            raise Masked("no sound of its video can be decoded")
        if time_s is None:
            raise Masked("its video does not say when the frame is shown")
        heard = self.pieces
        if causal:
            heard = tuple(piece for piece in self.pieces if piece.start_s <= time_s) or self.pieces[:1]
        piece = min(heard, key=lambda piece: max(piece.start_s - time_s, time_s - piece.end_s))
        if time_s < piece.start_s - NEAR_S or time_s > piece.end_s + NEAR_S:
            if time_s < self.pieces[0].start_s:
                raise Masked("the sound of its video begins later")
            after = time_s > self.pieces[-1].end_s
            raise Masked("the sound of its video has ended" if after else "the sound of its video has a hole there")
        n = round(window_s * RATE_HZ)
        at_s = min(max(time_s, piece.start_s), piece.end_s) - piece.start_s
        first = int(at_s * RATE_HZ) - n if causal else round(at_s * RATE_HZ) - n // 2
        return piece.samples[max(0, first) : max(0, first + n)]


def read_sound(path: Path | str) -> Sound:
    """Decode the sound of a video; what is damaged costs itself only.

    The channels' mean, resampled by FFmpeg (libswresample), each piece without a gap by itself. Of several streams the
    one that the command `ffmpeg` takes: the most channels, where being marked as the default counts as five million;
    the first of equals (its manual, "Automatic stream selection").

    Raises
    ------
    VideoError
        If the file cannot be opened.
    DiskError
        If the disk fails.
    MissingExtraError
        If PyAV is not installed.
    """
    path = Path(path)
    with opened(path) as container:
        return _sound_of(container, path)


def _sound_of(container: Any, path: Path) -> Sound:
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not streams:
        return Sound(pieces=(), has_track=bool(container.streams.audio), choice=None, faults=())
    chosen = max(streams, key=_worth)  # the first of equals
    choice = None
    if len(streams) > 1:
        others = ", ".join(_stream_text(stream) for stream in streams if stream is not chosen)
        choice = f"of {len(streams)} sound streams {_stream_text(chosen)} is taken, as ffmpeg would: not {others}"
    faults: list[str] = []
    made = _Pieces(faults.append)
    frames = decoded(container, chosen, path, where=lambda: f"after {made.end_s:.2f} s of sound", fault=faults.append)
    for frame in frames:
        made.add(frame)
    return Sound(pieces=tuple(made.ended()), has_track=True, choice=choice, faults=tuple(faults))


def _worth(stream: AudioStream) -> int:
    from av.stream import Disposition

    default = bool(stream.disposition & Disposition.default)
    return stream.codec_context.channels + _DEFAULT_COUNTS * default


def _stream_text(stream: AudioStream) -> str:
    coding = stream.codec_context
    return f"stream {stream.index} ({coding.channels} channels, {coding.sample_rate} Hz, {coding.name})"


class _Pieces:
    """Puts decoded frames together: those that follow each other are a piece."""

    def __init__(self, fault: Any) -> None:
        self._fault = fault
        self._done: list[Piece] = []
        self._resampler: Any = None
        self._rate_hz = 0
        self._start_s, self._count = 0.0, 0
        self._parts: list[NDArray[np.float32]] = []

    @property
    def end_s(self) -> float:
        """How far the sound has come."""
        return self._start_s + self._count / self._rate_hz if self._rate_hz else 0.0

    def add(self, frame: Any) -> None:
        """Add a frame at its time; one that does not say its time follows the one before."""
        channels = _channels(frame)
        expected = self.end_s
        start_s = expected if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
        if self._resampler is not None and start_s < expected - _JITTER_S:  # it was heard already
            self._fault(
                f"after {expected:.2f} s of sound: time goes back to {start_s:.2f} s; what is double is dropped"
            )
            channels = channels[:, round((expected - start_s) * frame.sample_rate) :]
            start_s = expected
        if self._resampler is None or self._rate_hz != frame.sample_rate or start_s > expected + _JITTER_S:
            self._end()
            self._start_s, self._count, self._rate_hz = start_s, 0, frame.sample_rate
            self._resampler = require_av().AudioResampler(format="fltp", layout="mono", rate=RATE_HZ)
        if channels.shape[1]:
            mono = np.ascontiguousarray(channels.mean(axis=0, dtype=np.float32)[None])  # (c, n) -> (1, n)
            if not np.isfinite(mono).all():  # the filter would carry it on; NaN marks what is not there, besides
                self._fault(f"after {self.end_s:.2f} s of sound: values that are no numbers are taken for silence")
                mono = np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0)
            self._count += mono.shape[1]
            given = require_av().AudioFrame.from_ndarray(mono, format="fltp", layout="mono")
            given.sample_rate = self._rate_hz
            self._take(self._resampler.resample(given))

    def ended(self) -> list[Piece]:
        """All pieces, once every frame has been added."""
        self._end()
        return self._done

    def _take(self, frames: list[Any]) -> None:
        self._parts += [frame.to_ndarray()[0].astype(np.float32) for frame in frames]

    def _end(self) -> None:
        if self._resampler is not None:
            self._take(self._resampler.resample(None))
        samples = np.concatenate(self._parts) if self._parts else np.empty(0, np.float32)
        if len(samples):
            samples.flags.writeable = False
            self._done.append(Piece(self._start_s, samples))
        self._parts = []


def _channels(frame: Any) -> NDArray[np.float32]:
    """The values of a frame, (c, n) float32, -1 to 1."""
    found = frame.to_ndarray()
    if not frame.format.is_planar:
        found = found.reshape(-1, frame.layout.nb_channels).T  # (1, n * c) -> (c, n)
    if found.dtype == np.uint8:
        return np.asarray((found.astype(np.float32) - 128) / 128, np.float32)
    whole = float(-np.iinfo(found.dtype).min) if np.issubdtype(found.dtype, np.integer) else 1.0
    return np.asarray(found / whole, np.float32)


def wav_bytes(samples: NDArray[Any], rate_hz: int = RATE_HZ) -> bytes:
    """A WAV file of samples (n,), or (n, c): what sound is handed on as."""
    from scipy.io import wavfile

    out = io.BytesIO()
    wavfile.write(out, rate_hz, samples)
    return out.getvalue()


@functools.cache
def probe() -> str:
    """Digest what this machine's FFmpeg makes of a second of made sound, in steps that no rounding reaches.

    Part of the identity, as pictures' transforms have one: a library that resamples otherwise is noticed.
    """
    t = np.arange(44_100) / 44_100
    left, right = np.sin(2 * np.pi * 3000 * t * t), 0.5 * np.sin(2 * np.pi * 440 * t)  # a sweep up to 6 kHz; a tone
    pcm = np.round(np.stack([left, right], axis=1) * 20_000).astype(np.int16)
    with require_av().open(io.BytesIO(wav_bytes(pcm, 44_100))) as container:
        (piece,) = _sound_of(container, Path("probe.wav")).pieces
    loudness = np.sqrt(np.mean(piece.samples[:16_000].reshape(20, -1).astype(np.float64) ** 2, axis=1))
    steps = [len(piece.samples) // 100, *np.round(loudness * 200).astype(int).tolist()]
    return hashlib.sha256(repr(steps).encode()).hexdigest()


class FrameSound:
    """The sound around each frame of a folder of frames, by the path of the frame's picture.

    What `featstore.extract` takes as its source: the bytes are a WAV file, mono, float32, `RATE_HZ` a second.

    Parameters
    ----------
    root : Path
        Where the pictures' paths start. Beside a video's folder of pictures lie its index and its table, as
        `make_frames` leaves them: they say which video it is, and when each frame is shown.
    videos : Path, or dict of str to Path
        Folder of the videos, or one video; found by their names, as `named_videos` has them. Or videos by name.
    window_s : float
        Length of sound around a frame.
    causal : bool
        Whether the window ends with the frame's time, instead of having it in its middle.

    Raises
    ------
    VideoError
        If there is no video at that place.
    """

    def __init__(self, root: Path, videos: Path | Mapping[str, Path], window_s: float, *, causal: bool = False) -> None:
        self.root, self.videos, self.window_s, self.causal = Path(root), videos, window_s, causal
        self._named = dict(videos) if isinstance(videos, Mapping) else named_videos(Path(videos))
        self._lock = threading.Lock()
        self._folders: dict[Path, dict[str, Path]] = {}
        """Folder to its folders of pictures and the index of each."""
        self._of: dict[Path, _Video] = {}
        """A video by its index."""
        self._sounds: OrderedDict[Path, Sound] = OrderedDict()
        """Decoded, the last used last."""

    def __reduce__(self) -> tuple[Callable[..., FrameSound], tuple[Any, ...]]:
        """Send it to a process by what it was made of: each decodes for itself."""
        made = functools.partial(FrameSound, causal=self.causal)
        return made, (self.root, self.videos, self.window_s)

    def identity(self) -> dict[str, Any]:
        """Everything that fixes the sound of a given video but the window; JSON values."""
        return {
            "decoding": CODE, "rate_hz": RATE_HZ, "channels": "mean", "place": BEFORE if self.causal else AROUND,
            "edges": "shortened", "cuts": "crossed", "probe": probe(),
        }  # fmt: skip

    def versions(self) -> dict[str, str]:
        """Of the libraries that decode; no part of the identity."""
        return decoder_versions()

    def digest(self, path: str) -> str:
        """sha256 of the video's sha256 and the frame's time.

        Raises
        ------
        FolderError
            If no index or table says which video and which time it is.
        VideoError
            If the video is not there, or is another than the frames were made of.
        """
        video, time_s = self._place(path)
        with video.lock:
            self._check(video)
        return video.digest_at(time_s)

    def content(self, path: str) -> tuple[bytes, str, None]:
        """The sound around the frame, its digest, and no state: nothing is remembered of one file.

        Raises
        ------
        Masked
            If there is none.
        OSError
            If the video was changed while it was read.
        """
        video, time_s = self._place(path)
        sound = self._sound(video)
        return wav_bytes(sound.around(time_s, self.window_s, causal=self.causal)), video.digest_at(time_s), None

    def state(self, path: str) -> None:
        """Nothing that could be remembered: videos are few, and each is read again by every run."""

    def _place(self, path: str) -> tuple[_Video, float | None]:
        """The video of a frame, and when the frame is shown."""
        index = self._index_of(path)
        with self._lock:
            video = self._of.get(index)
            if video is None:
                video = self._of[index] = self._open(index)
        name = "/".join(PurePosixPath(path).parts[-2:])
        if name not in video.times:
            raise FolderError(f"{video.table} has no picture {name}: it is no frame that cer-feat frames made")
        return video, video.times[name]

    def _index_of(self, path: str) -> Path:
        picture = self.root / path
        folder, place = picture.parent.name, picture.parent.parent
        with self._lock:
            known = self._folders.setdefault(place, {})
            if folder not in known and place.is_dir():  # made since, as videos that are shown are one by one
                new = sorted({*place.glob("*.frames.json")} - {*known.values()})
                known.update((name, one) for one in new for name in MadeFrames.read(one).folders)
            found = known.get(folder)
        if found is None:
            raise FolderError(
                f"no index beside {picture.parent} says which video it is of, and when each frame is shown\n"
                "  sound is found for frames that were made here: cer-feat frames VIDEOS -o FRAMES, then "
                "cer-feat manifest frames FRAMES"
            )
        return found

    def _open(self, index: Path) -> _Video:
        made = MadeFrames.read(index)
        if made.video not in self._named:
            names = listing(sorted(self._named))
            place = "what was shown" if isinstance(self.videos, Mapping) else self.videos
            raise VideoError(f"{place} holds no video {made.video!r} ({made.source['file']}); it holds {names}")
        table = table_path(index.parent, made.video)
        if not table.is_file() or file_sha256(table) != made.table_sha256:
            raise FolderError(
                f"{table} is not the table that {index.name} was written with: make the frames again, with --overwrite"
            )
        times = {row.picture: row.time_s for row in read_table(table) if row.picture}
        return _Video(path=self._named[made.video], table=table, sha256=made.source["sha256"], times=times)

    def _check(self, video: _Video) -> None:
        """Read the video once and compare it with what the frames were made of."""
        if video.checked is not None:
            return
        before = os.stat(video.path)
        found = file_sha256(video.path)
        if found != video.sha256:
            raise VideoError(
                f"{video.path} is not the video that its frames were made of: sha256 {video.sha256[:12]}… then, "
                f"{found[:12]}… now\n  their times are those of the other; make the frames again: cer-feat frames, "
                "with --overwrite"
            )
        video.checked = _state(before)

    def _sound(self, video: _Video) -> Sound:
        """The decoded sound; videos are decoded one at a time each, and those last used are kept."""
        with video.lock:
            with self._lock:
                known = self._sounds.get(video.path)
                if known is not None:
                    self._sounds.move_to_end(video.path)
                    return known
            self._check(video)
            found = read_sound(video.path)
            if _state(os.stat(video.path)) != video.checked:
                video.checked = None
                raise OSError("its video changed while it was read")
            silent = "its sound is silent throughout" if found.is_silent else None
            for text in (found.choice, silent, *found.faults[:3]):
                if text is not None:
                    log.warning("%s: %s", video.path.name, text)
            with self._lock:
                self._sounds[video.path] = found
                while len(self._sounds) > 1 and sum(map(_nbytes, self._sounds.values())) > _KEPT_BYTES:
                    self._sounds.popitem(last=False)
        return found


@dataclass(kw_only=True, eq=False)
class _Video:
    """One video and its frames."""

    path: Path
    table: Path
    sha256: str
    times: dict[str, float | None]
    """Picture (`01/00001.jpg`) to when it is shown."""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.checked: tuple[int, int, int] | None = None
        """The file's state when its digest was found to be right."""

    def digest_at(self, time_s: float | None) -> str:
        """What a frame's row follows from; a frame is shown at a microsecond, as the table says it."""
        when = "" if time_s is None else f"{time_s:.6f}"
        return hashlib.sha256(f"cer-fusion sound|{self.sha256}|{when}".encode()).hexdigest()


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _nbytes(sound: Sound) -> int:
    return sum(piece.samples.nbytes for piece in sound.pieces)
