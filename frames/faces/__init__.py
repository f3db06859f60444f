"""Faces in pictures: found, aligned, followed from frame to frame, and one of them chosen.

``MTCNN().detect(picture)`` gives a `Face` each with box, score, points; ``Alignment().crop(picture, face)`` an upright
square, a `Tracker` numbers that go through a video, `MainTrack` the face that counts. The detector needs the extra
`faces`, whose weights come with it; nothing is downloaded later.
"""

from __future__ import annotations

from cer_fusion.frames.faces.alignment import Alignment
from cer_fusion.frames.faces.choosing import POLICIES, MainTrack, Policy, largest, presences
from cer_fusion.frames.faces.face import LANDMARKS, Box, Detector, Face, overlap
from cer_fusion.frames.faces.mtcnn import MTCNN, MTCNNSettings
from cer_fusion.frames.faces.tracking import Tracker, TrackSettings

__all__ = [
    "LANDMARKS",
    "MTCNN",
    "POLICIES",
    "Alignment",
    "Box",
    "Detector",
    "Face",
    "MTCNNSettings",
    "MainTrack",
    "Policy",
    "TrackSettings",
    "Tracker",
    "largest",
    "overlap",
    "presences",
]
