"""Videos: files in, numbered pictures of frames or faces out, with a table and a sealed index of what was done.

``held_by(path)`` finds videos and ``named_videos(path)`` their names. ``make_frames(path, name, output, settings,
detector)`` makes the frames of one and goes on where a killed run was; ``VideoReader(path).frames()`` is the stream of
frames by itself. ``MTCNN().detect(picture)`` gives a `Face` each with box, score, points; ``Alignment().crop(picture,
face)`` an upright square, a `Tracker` numbers that go through a video, `MainTrack` the face that counts.
``read_sound(path)`` is a video's sound, and a `FrameSound` what is heard around each frame of a folder of frames.
Needs PyAV, the extra `video`, and for faces the extra `faces`, whose weights come with it: nothing is downloaded later.
This package knows pixels and sound; it has not heard of torch, labels or stores.
"""

from __future__ import annotations

from ..kit.errors import MissingExtraError
from .aligning import LooseCrops
from .annotating import Mark, annotated, check_encoder, check_video_name, write_video
from .decoding import VideoFrameRGB, VideoReader, decoder_versions
from .detectors import FileDetector, FileSettings, detector_for_crops, detector_named
from .errors import (
    DetectorError,
    DiskError,
    FolderError,
    FramesError,
    OptionError,
    ShapeError,
    VideoError,
)
from .faces import LANDMARKS, MARGINS, POLICIES, Alignment, Box, Detector, Face, Follows, Policy, largest, overlap
from .finding import (
    PICTURE_SUFFIXES,
    SUFFIXES,
    Held,
    frame_name,
    held_by,
    is_moving_webp,
    named_videos,
    printable,
    video_name,
)
from .folder import MadeFrames, Row, index_path, read_table, table_path
from .making import Ending, FrameSettings, make_frames
from .mtcnn import MTCNN, MTCNNSettings
from .sound import FrameSound, Sound, read_sound
from .tracks import MainTrack, Tracker, TrackSettings, presences

__all__ = [
    "LANDMARKS",
    "MARGINS",
    "MTCNN",
    "PICTURE_SUFFIXES",
    "POLICIES",
    "SUFFIXES",
    "Alignment",
    "Box",
    "Detector",
    "DetectorError",
    "DiskError",
    "Ending",
    "Face",
    "FileDetector",
    "FileSettings",
    "FolderError",
    "Follows",
    "FrameSettings",
    "FrameSound",
    "FramesError",
    "Held",
    "LooseCrops",
    "MTCNNSettings",
    "MadeFrames",
    "MainTrack",
    "Mark",
    "MissingExtraError",
    "OptionError",
    "Policy",
    "Row",
    "ShapeError",
    "Sound",
    "TrackSettings",
    "Tracker",
    "VideoError",
    "VideoFrameRGB",
    "VideoReader",
    "annotated",
    "check_encoder",
    "check_video_name",
    "decoder_versions",
    "detector_for_crops",
    "detector_named",
    "frame_name",
    "held_by",
    "index_path",
    "is_moving_webp",
    "largest",
    "make_frames",
    "named_videos",
    "overlap",
    "presences",
    "printable",
    "read_sound",
    "read_table",
    "table_path",
    "video_name",
    "write_video",
]
