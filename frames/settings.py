"""How frames are made of a video: which of them, which faces in them, and what pictures they become."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from cer_fusion.backbones.errors import OptionError, nearest
from cer_fusion.frames import decoding
from cer_fusion.frames.cuts import CutSettings
from cer_fusion.frames.faces.alignment import Alignment
from cer_fusion.frames.faces.choosing import POLICIES, Policy
from cer_fusion.frames.faces.face import Detector
from cer_fusion.frames.faces.tracking import TrackSettings
from numpy.typing import NDArray
from PIL import Image, features
from PIL import __version__ as pillow_version

Ending = Literal["jpg", "png"]


@dataclass(frozen=True, kw_only=True)
class FrameSettings:
    """Everything that fixes the pictures besides the video and the detector; checked once when made."""

    every: int = 1
    """Keep frames 1, 1 + every, 1 + 2 every, …; they keep their numbers."""
    faces: Policy = "track"
    """Which faces; see `cer_fusion.frames.faces.choosing.POLICIES`."""
    alignment: Alignment = field(default_factory=Alignment)
    """What a crop is."""
    tracking: TrackSettings = field(default_factory=TrackSettings)
    """When a face is the one of the frame before."""
    cuts: CutSettings = field(default_factory=CutSettings)
    """When a frame begins a new shot, and with it new tracks."""
    ending: Ending = "jpg"
    """What pictures are written as."""
    quality: int = 95
    """Of JPEG, which is written without chroma subsampling."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.every < 1:
            raise OptionError(f"every must be at least 1, however: {self.every}")
        if self.faces not in POLICIES:
            raise OptionError(
                f"faces must be one of {', '.join(POLICIES)}, however: {self.faces!r}{nearest(self.faces, POLICIES)}"
            )
        if self.ending not in get_args(Ending):
            raise OptionError(f"pictures are written as jpg or png, however: {self.ending!r}")
        if not 1 <= self.quality <= 100:
            raise OptionError(f"quality must be from 1 to 100, however: {self.quality}")

    def identity(self, detector: Detector | None) -> dict[str, Any]:
        """What is asked for, as far as it fixes the pictures of a given video; JSON values."""
        picture: dict[str, Any] = {"ending": self.ending}
        if self.ending == "jpg":
            picture["quality"] = self.quality
        found: dict[str, Any] = {
            "decoding": decoding.CODE,
            "every": self.every,
            "faces": self.faces,
            "picture": picture,
        }
        if detector is not None:
            found["detector"] = detector.identity()
            found["alignment"] = self.alignment.identity()
            found["tracking"] = self.tracking.identity()
            found["cuts"] = self.cuts.identity()
        return found

    def versions(self, detector: Detector | None) -> dict[str, str]:
        """Libraries that the pictures' bytes come from; finished pictures outlive a new version of them."""
        codec = "jpg" if self.ending == "jpg" else "zlib"
        found = {**decoding.decoder_versions(), "pillow": pillow_version, codec: str(features.version(codec))}
        return found if detector is None else {**found, **detector.versions()}

    def encode(self, picture: NDArray[np.uint8]) -> bytes:
        """The bytes of a picture file: (h, w, 3) uint8 RGB; equal pictures give equal bytes."""
        out = io.BytesIO()
        image = Image.fromarray(picture)
        if self.ending == "jpg":
            image.save(out, "JPEG", quality=self.quality, subsampling=0)
        else:
            image.save(out, "PNG", compress_level=1)
        return out.getvalue()
