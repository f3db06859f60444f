"""The transform: how a picture becomes a network's input, and the proof of what it did.

The part that touches one picture (decode, resize, crop) yields uint8 pixels on the CPU; scaling to floats happens on
a whole batch, on the network's device. Resizing is Pillow's, which is always antialiased.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from cer_fusion.backbones.errors import OptionError
from cer_fusion.backbones.picture import ALPHA, open_picture
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    import torch

ResizeRule = Literal["squash", "shorter"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Colour = Literal["RGB", "BGR"]
Scale = Literal["0-1", "0-255"]
Triple = tuple[float, float, float]

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Two tiny pictures (13 x 9 PNG, 24 x 16 JPEG; a tone ramp with a disc) whose decoded pixels identify the decoder.
PROBES = (
    (
        "iVBORw0KGgoAAAANSUhEUgAAAA0AAAAJCAIAAABmGDE9AAAAOUlEQVR42mNkYNAQZWCAIDEYA5PNwiDPQAxgYVBAE9mHxHbCpW4fhh4nXOYRay"
        "9V1TkR6Q8UOWQAACC6BopYt2GvAAAAAElFTkSuQmCC"
    ),
    (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4"
        "x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAQ"
        "ABgDASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAABQAEBv/EAB4QAAEEAgMBAAAAAAAAAAAAAAABAwQRAiEFMWGB/8QAFgEBAQEAAAAAAA"
        "AAAAAAAAAABQIE/8QAHhEAAQQBBQAAAAAAAAAAAAAAAQADBBECEhMhIjH/2gAMAwEAAhEDEQA/AAGofhva47Xoi1DpU0INR8a6+EMyGje4VnYl"
        "nikLhCpaVCOgwiWt0QZnJGo14n25fVf/2Q=="
    ),
)


@dataclass(frozen=True, kw_only=True)
class Transform:
    """One fixed way from picture file to network input; equal transforms give equal pixels."""

    size_px: int
    """Side of the square input."""
    resize: ResizeRule = "squash"
    """"squash": both sides become size_px / crop_pct, whatever the aspect; "shorter": the shorter side does."""
    crop_pct: float = 1.0
    """The centre crop's share of the resized picture; 1.0 keeps a square picture whole."""
    interpolation: Interpolation = "bilinear"
    """Resampling filter."""
    mean: Triple = (0.0, 0.0, 0.0)
    """Subtracted after scaling, in the network's channel order."""
    std: Triple = (1.0, 1.0, 1.0)
    """Divided by after that, in the network's channel order."""
    colour: Colour = "RGB"
    """Channel order the network expects."""
    scale: Scale = "0-1"
    """Value range before mean and std."""

    def __post_init__(self) -> None:
        for name, vocabulary in (
            ("resize", ResizeRule),
            ("interpolation", Interpolation),
            ("colour", Colour),
            ("scale", Scale),
        ):
            if getattr(self, name) not in get_args(vocabulary):
                allowed = ", ".join(get_args(vocabulary))
                raise OptionError(f"{name} must be one of {allowed}, however: {name}={getattr(self, name)!r}")
        if not 1 <= self.size_px <= 4096:
            raise OptionError(f"size_px must be within 1..4096, however: size_px={self.size_px}")
        if not 0 < self.crop_pct <= 1:
            raise OptionError(f"crop_pct must be within (0, 1], however: crop_pct={self.crop_pct}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(self.std):
            raise OptionError(f"mean and std need three values, std none of them 0: {self.mean}, {self.std}")

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Open one picture file and bring it to the input size.

        Returns
        -------
        ndarray of shape (size_px, size_px, 3), uint8, RGB

        Raises
        ------
        PictureError
            If the bytes are not a usable picture.
        """
        return self.apply(open_picture(data))

    def apply(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop an RGB image, which stays as it is; the part of `decode` after opening."""
        pixels = self.scaled(image)
        return np.array(pixels[self.centred(*pixels.shape[:2])])  # a copy to write to

    def five_crop(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize an RGB image and cut its corners (top left, top right, bottom left, bottom right) and its centre.

        Returns
        -------
        ndarray of shape (5, size_px, size_px, 3), uint8, RGB
        """
        pixels = self.scaled(image)
        first, last = slice(None, self.size_px), slice(-self.size_px, None)
        corners = [pixels[rows, columns] for rows in (first, last) for columns in (first, last)]
        return np.stack([*corners, pixels[self.centred(*pixels.shape[:2])]])

    def scaled(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize an RGB image to the size before the crop: (h, w, 3), not to be written to."""
        size = self.resized(*image.size)
        return np.asarray(image if size == image.size else image.resize(size, RESAMPLING[self.interpolation]))

    def centred(self, height: int, width: int) -> tuple[slice, slice]:
        """Return the rows and columns of the centre crop; torchvision's CenterCrop rounds so, half to even."""
        top = round((height - self.size_px) / 2.0)
        left = round((width - self.size_px) / 2.0)
        return slice(top, top + self.size_px), slice(left, left + self.size_px)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the size before the crop; "shorter" truncates the longer side as torchvision's Resize does."""
        target = int(self.size_px / self.crop_pct)
        if self.resize == "squash":
            return target, target
        if width <= height:
            return target, int(target * height / width)
        return int(target * width / height), target

    def to_tensor(self, pictures: torch.Tensor, *, channels_last: bool = False) -> torch.Tensor:
        """Scale a batch: uint8 (b, h, w, 3) RGB -> float32 (b, 3, h, w) on the same device, bit-equal to torchvision.

        `channels_last` keeps the pictures' own memory order under the (b, 3, h, w) shape; the values are the same.
        """
        import torch

        if self.colour == "BGR":
            pictures = pictures.flip(-1)
        pictures = pictures.permute(0, 3, 1, 2)  # (b, h, w, 3) -> (b, 3, h, w)
        x = (pictures if channels_last else pictures.contiguous()).to(torch.float32)
        if self.scale == "0-1":
            x.div_(255)
        if self.mean != (0.0, 0.0, 0.0):
            x.sub_(torch.tensor(self.mean, dtype=torch.float32, device=x.device).view(1, 3, 1, 1))
        if self.std != (1.0, 1.0, 1.0):
            x.div_(torch.tensor(self.std, dtype=torch.float32, device=x.device).view(1, 3, 1, 1))
        return x

    def to_array(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scale a batch in NumPy: uint8 (b, h, w, 3) RGB -> float32 (b, 3, h, w); equal to `to_tensor`."""
        ordered = pictures[..., ::-1] if self.colour == "BGR" else pictures
        x = np.ascontiguousarray(ordered.transpose(0, 3, 1, 2)).astype(np.float32)  # (b, h, w, 3) -> (b, 3, h, w)
        if self.scale == "0-1":
            x /= np.float32(255)
        x -= np.asarray(self.mean, dtype=np.float32).reshape(1, 3, 1, 1)
        x /= np.asarray(self.std, dtype=np.float32).reshape(1, 3, 1, 1)
        return x

    def probe(self) -> str:
        """Return 16 hex digits that change when a library update changes the pixels this transform yields."""
        return probe(self)

    def identity(self) -> dict[str, Any]:
        """Return everything that fixes this transform's numbers, ready for JSON."""
        fields = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        fixed = {"crop": "center", "decoder": "pillow", "antialias": True, "alpha": ALPHA, "exif": "applied"}
        return dict(sorted({**fields, **fixed, "probe": self.probe()}.items()))


@functools.lru_cache(maxsize=64)
def probe(transform: Transform) -> str:
    """Digest what `transform` makes of the two built-in pictures."""
    digest = hashlib.sha256()
    for text in PROBES:
        digest.update(transform.decode(base64.b64decode(text)).tobytes())
    return digest.hexdigest()[:16]
