"""Frames in their order: predictions of videos filled and smoothed over time, within a video and never across.

`Timeline.of(ids)` finds videos, frame numbers and gaps in sample ids; `smoothed(predictions, setting)`, with a setting
such as `Smoothing.parse("box:51")`, answers with predictions of the same frames; `sweep_smoothing` scores many settings
on labelled videos and chooses by leaving videos out. Nothing is extracted again: probabilities in, probabilities out.
"""

from __future__ import annotations

from cer_fusion.challenge.timeline.frame import Frame, counted_from_zero, frame_name, parse_frame
from cer_fusion.challenge.timeline.learned import learned_transitions
from cer_fusion.challenge.timeline.setting import METHODS, STICKINESS, Smoothing, parse_windows, settings_of
from cer_fusion.challenge.timeline.smoothing import smoothed
from cer_fusion.challenge.timeline.sweeping import SmoothingSweep, sweep_smoothing
from cer_fusion.challenge.timeline.track import Timeline, Track

__all__ = [
    "METHODS",
    "STICKINESS",
    "Frame",
    "Smoothing",
    "SmoothingSweep",
    "Timeline",
    "Track",
    "counted_from_zero",
    "frame_name",
    "learned_transitions",
    "parse_frame",
    "parse_windows",
    "settings_of",
    "smoothed",
    "sweep_smoothing",
]
