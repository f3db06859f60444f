"""Videos: files in, numbered pictures of frames or faces out, with a table and a sealed index of what was done.

``held_by(path)`` finds videos and ``named_videos(path)`` their names. ``make_frames(path, name, output, settings,
detector)`` makes the frames of one and goes on where a killed run was; ``VideoReader(path).frames()`` is the stream of
frames by itself.
Needs PyAV, the extra `video`; knows nothing of networks, labels or stores.
"""

from __future__ import annotations

from cer_fusion.frames.decoding import VideoFrameRGB, VideoReader, decoder_versions
from cer_fusion.frames.finding import SUFFIXES, Held, held_by
from cer_fusion.frames.made import MadeFrames, index_path, table_path
from cer_fusion.frames.making import make_frames
from cer_fusion.frames.naming import frame_name, named_videos, video_name
from cer_fusion.frames.settings import FrameSettings
from cer_fusion.frames.table import Row, read_table

__all__ = [
    "SUFFIXES",
    "FrameSettings",
    "Held",
    "MadeFrames",
    "Row",
    "VideoFrameRGB",
    "VideoReader",
    "decoder_versions",
    "frame_name",
    "held_by",
    "index_path",
    "make_frames",
    "named_videos",
    "read_table",
    "table_path",
    "video_name",
]
