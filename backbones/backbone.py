"""The backbone: what turns picture files into named rows, and can say exactly what made them.

`Backbone` is what every kind has in common and what a feature store needs; it knows neither torch nor ONNX.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from cer_fusion.backbones.errors import OptionError, ShapeError
from cer_fusion.backbones.picture import open_picture
from cer_fusion.backbones.transform import Transform
from cer_fusion.backbones.views import Views, crops_of, each_view, transform_for, views_named
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

PRECISIONS = ("float32", "bfloat16", "float16")
"""float32, or the type that autocast computes in; rows are float32 always."""

CPU_PIECE = 8
"""Pictures a forward pass on a CPU, unless the encoder says another number; see `Backbone.pieces`."""

AUTO_BATCH_CPU, AUTO_BATCH_GPU = 32, 256
"""What an automatic batch size starts from: on a CPU at least so many, in whole pieces."""


class Backbone(ABC):
    """Picture files -> {block: (b, d) float32}."""

    name: str
    """What `create` was asked for: "vit", "timm:<name>", "onnx:<file stem>"."""
    blocks: Mapping[str, int]
    """Block name -> width, in the order in which blocks are joined."""
    transform: Transform
    """From picture to input."""
    architecture: str
    """Names the network's code."""
    options: Mapping[str, Any]
    """Choices that change the numbers."""
    precision: str
    """One of `PRECISIONS`."""
    device: str
    """Where it computes."""
    code: int
    """Version of the embedding code."""
    piece: int
    """How many pictures are computed at once: on a CPU always the same number; 0, all that are given, on a GPU."""
    views: Views = "none"
    """What a row is the mean of; set by `take_views`."""

    def take_views(self, views: str) -> None:
        """Make each row the mean over several views of its picture, from now on; it becomes part of the identity.

        Parameters
        ----------
        views : "none", "flip", "five-crop" or "five-crop+flip"
            See `cer_fusion.backbones.views.Views`; they cost 1, 2, 5 and 10 forward passes a picture.

        Raises
        ------
        OptionError
            If there are no such views, or others were taken before.
        """
        wanted = views_named(views)
        if wanted == self.views:
            return
        if self.views != "none":
            raise OptionError(
                f"{self.name} takes the views {self.views!r} already; make another backbone for {views!r}"
            )
        self.views = wanted
        self.transform = transform_for(wanted, self.transform)
        self.options = {**self.options, "views": wanted}

    @property
    def auto_batch(self) -> int:
        """What an automatic batch size starts from: whole pieces on a CPU, one a thread; many on a GPU."""
        if not self.piece:
            return AUTO_BATCH_GPU
        pieces = -(-AUTO_BATCH_CPU // self.piece)
        return -(-pieces // self.at_once) * self.at_once * self.piece

    @property
    def at_once(self) -> int:
        """How many pieces are computed side by side."""
        return 1

    @property
    def open(self) -> Callable[[bytes], Image.Image]:
        """The first half of `decode`, equal for all backbones: whoever uses several opens each picture once."""
        return open_picture

    @property
    def prepare(self) -> Callable[[Image.Image], NDArray[np.uint8]]:
        """The second half of `decode`, this backbone's own; it knows the transform alone, and not the network."""
        return self.transform.apply if crops_of(self.views) == 1 else self.transform.five_crop

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Open one picture file and bring it to the input size; safe to call from several threads.

        Returns
        -------
        ndarray of shape (h, w, 3), uint8, RGB; (5, h, w, 3) where the views are crops

        Raises
        ------
        PictureError
            A ValueError whose text says why the bytes are not a usable picture.
        """
        return self.prepare(self.open(data))

    def embed(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Embed a batch of decoded pictures.

        Parameters
        ----------
        pictures : ndarray of shape (b, h, w, 3), or (b, 5, h, w, 3) where the views are crops; uint8, RGB
            As `decode` gives them, stacked.

        Returns
        -------
        dict
            Block name -> float32 (b, d). NaN and infinity are returned as they come: who stores rows refuses them.

        Raises
        ------
        DeviceMemoryError
            A MemoryError: so many pictures at once do not fit on the device.
        """
        side, crops = self.transform.size_px, crops_of(self.views)
        one = (side, side, 3) if crops == 1 else (crops, side, side, 3)
        if pictures.dtype != np.uint8 or pictures.ndim != len(one) + 1 or pictures.shape[1:] != one:
            raise ShapeError(
                f"pictures must be uint8 of shape (b, {', '.join(map(str, one))}), however: "
                f"{pictures.dtype} {pictures.shape}\n"
                f"  in backbone: {self.name}; decode() gives pictures of that shape"
            )
        if not len(pictures):
            return {block: np.empty((0, width), np.float32) for block, width in self.blocks.items()}
        found = [self.one_view(view) for view in each_view(pictures, self.views)]
        if len(found) == 1:
            return found[0]
        return {block: np.mean([rows[block] for rows in found], axis=0) for block in self.blocks}

    def one_view(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Embed pictures (b, h, w, 3) as they are, and check what comes out."""
        rows = self.pieces(pictures) if self.piece else self.compute(pictures)
        for block, width in self.blocks.items():
            if rows[block].shape != (len(pictures), width):
                raise ShapeError(
                    f"block {block!r} of {self.name} must have shape ({len(pictures)}, {width}), "
                    f"however: {rows[block].shape}"
                )
        return rows

    def pieces(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Embed in pieces of exactly `piece` pictures, the last one filled up with black ones.

        CPU libraries choose a kernel, and with it the order of additions, by the size of the batch. With one size for
        all, a picture's row has the same bits whatever it is embedded together with.
        """
        starts = range(0, len(pictures), self.piece)
        computed = self.compute_each([self._filled_up(pictures[start : start + self.piece]) for start in starts])
        return {block: np.concatenate([rows[block] for rows in computed])[: len(pictures)] for block in self.blocks}

    def _filled_up(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if len(pictures) == self.piece:
            return pictures
        full = np.zeros((self.piece, *pictures.shape[1:]), np.uint8)
        full[: len(pictures)] = pictures
        return full

    def compute_each(self, pieces: Sequence[NDArray[np.uint8]]) -> list[dict[str, NDArray[np.float32]]]:
        """Embed pieces that are filled up, each by itself."""
        return [self.compute(piece) for piece in pieces]

    @abstractmethod
    def compute(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Embed a batch that has been checked."""

    @abstractmethod
    def weights_digest(self) -> str:
        """Return the sha256 of what was learned, as it is now."""

    def spec(self) -> dict[str, Any]:
        """Return everything that fixes this backbone's numbers, ready for JSON; equal specs give equal rows."""
        return {
            "architecture": self.architecture,
            "options": dict(sorted(self.options.items())),
            "weights": {"digest": self.weights_digest()},
            "transform": self.transform.identity(),
            "precision": self.precision,
            "code": self.code,
        }

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what people want to know and no identity depends on, ready for JSON."""

    def __repr__(self) -> str:
        joined = " + ".join(f"{block} {width}" for block, width in self.blocks.items())
        return f"<Backbone {self.name}: {joined}, {self.transform.size_px} px, {self.device}, {self.precision}>"
