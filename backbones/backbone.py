"""The backbone: what turns picture files into named rows, and can say exactly what made them.

`Backbone` is what every kind has in common and what a feature store needs; it knows neither torch nor ONNX. Below it:
the views, one picture looked at several times, its row being the mean over all of them (mirroring and the crops of
Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012,
section 4.1: 224 pixels out of 256); pictures whose face is cut out on the way in, by whatever finds faces; and telling
that a batch did not fit into a device's memory.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..kit.table import facts_html, shortened
from .errors import DeviceError, OptionError, PictureError, ShapeError, nearest
from .picture import Transform, open_picture

if TYPE_CHECKING:
    from torch import nn

Views = Literal["none", "flip", "five-crop", "five-crop+flip"]
"""What a row is the mean of: the picture alone; it and its mirror image; its four corners and its centre; these five
and their mirror images."""

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
"""float32; float32 with products rounded to TF32, which CUDA devices alone have; or the type that autocast computes in.
Rows are float32 always."""

CPU_PIECE = 8
"""Pictures a forward pass on a CPU, unless the encoder says another number; see `Backbone.pieces`."""

AUTO_BATCH_CPU, AUTO_BATCH_GPU = 32, 256
"""What an automatic batch size starts from: on a CPU at least so many, in whole pieces."""


@dataclass(frozen=True)
class Begun:
    """A batch that a device is at."""

    ready: Callable[[], bool]
    """Whether `rows` would not wait."""
    rows: Callable[[], dict[str, NDArray[np.float32]]]
    """Waits for what `Backbone.embed` returns, and raises what it raises."""

    @classmethod
    def done(cls, rows: dict[str, NDArray[np.float32]]) -> Begun:
        """One whose rows are there."""
        return cls(lambda: True, lambda: rows)


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
    plugin: Mapping[str, str] | None = None
    """Distribution and version, where its code is another distribution's; then part of the identity."""
    module: nn.Module
    """The network, of those that PyTorch computes; an ONNX model has none."""
    faces: TakenFaces | None = None
    """How the face is cut out of each picture; set by `take_faces`. None: the picture is the face already."""

    def take_views(self, views: str) -> None:
        """Make each row the mean over several views of its picture, from now on; it becomes part of the identity.

        Parameters
        ----------
        views : "none", "flip", "five-crop" or "five-crop+flip"
            See `cer_fusion.backbones.backbone.Views`; they cost 1, 2, 5 and 10 forward passes a picture.

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

    def take_faces(self, faces: Faces, *, missing: str = "resize") -> None:
        """Cut the face out of each picture before it is embedded, from now on; it becomes part of the identity.

        The crop is made at the size that the network takes: nothing is resampled twice.

        Parameters
        ----------
        faces : Faces
            What finds and cuts. Backbones that are given the same one share the search.
        missing : "resize" or "refuse"
            What becomes of a picture without a face: it is resized whole, with a remark, or it is no usable picture.

        Raises
        ------
        OptionError
            If there is no such word, or other faces were taken before.
        """
        if missing not in get_args(Missing):
            raise OptionError(f"missing must be one of {', '.join(get_args(Missing))}, however: {missing!r}")
        if self.faces is not None:
            raise OptionError(f"{self.name} cuts faces out already; make another backbone for another way")
        self.faces = TakenFaces(faces, missing)

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
    def ahead(self) -> int:
        """How many batches may be begun before the rows of the first are asked for: none where nothing is gained."""
        return 0

    @property
    def open(self) -> Callable[[bytes], Any]:
        """The first half of `decode`, equal for backbones that look for faces in the same way, or do not: whoever uses
        several opens each picture, and looks for its face, once."""
        return open_picture if self.faces is None else self.faces

    @property
    def prepare(self) -> Callable[[Any], NDArray[np.uint8]]:
        """The second half of `decode`, this backbone's own; it knows the transform alone, and not the network."""
        last = self.transform.apply if crops_of(self.views) == 1 else self.transform.five_crop
        return last if self.faces is None else CutOut(self.faces.faces, self.transform, last)

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
        if isinstance(data, str | os.PathLike):
            raise OptionError(
                f"decode takes the bytes of a picture file, however: {str(data)!r}\n"
                f"  read it first: pathlib.Path({str(data)!r}).read_bytes()"
            )
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
        return self.start(pictures).rows()

    def start(self, pictures: NDArray[np.uint8]) -> Begun:
        """Begin to embed a batch, as `embed` does; a GPU is at it while the next one is prepared.

        What does not fit on the device is an error here, or when the rows are asked for.
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
            return Begun.done({block: np.empty((0, width), np.float32) for block, width in self.blocks.items()})
        begun = [self.one_view(view) for view in each_view(pictures, self.views)]

        def rows() -> dict[str, NDArray[np.float32]]:
            found = [self._checked(one.rows(), len(pictures)) for one in begun]
            if len(found) == 1:
                return found[0]
            return {block: np.mean([rows[block] for rows in found], axis=0) for block in self.blocks}

        return Begun(ready=lambda: all(one.ready() for one in begun), rows=rows)

    def one_view(self, pictures: NDArray[np.uint8]) -> Begun:
        """Begin to embed pictures (b, h, w, 3) as they are."""
        return Begun.done(self.pieces(pictures)) if self.piece else self.begin(pictures)

    def begin(self, pictures: NDArray[np.uint8]) -> Begun:
        """Begin to embed a batch that has been checked; here it is done at once."""
        return Begun.done(self.compute(pictures))

    def _checked(self, rows: dict[str, NDArray[np.float32]], count: int) -> dict[str, NDArray[np.float32]]:
        """Refuse rows that are not what the blocks say."""
        for block, width in self.blocks.items():
            if rows[block].shape != (count, width):
                raise ShapeError(
                    f"block {block!r} of {self.name} must have shape ({count}, {width}), however: {rows[block].shape}"
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

    @property
    def device_kind(self) -> str:
        """The kind of device that it computes on: "cpu", "cuda", "rocm", "mps"."""
        return self.device.partition(":")[0]

    @property
    def rounds(self) -> bool:
        """Whether it computes in fewer bits than float32's."""
        return self.precision != "float32"

    def spec(self) -> dict[str, Any]:
        """Return everything that fixes this backbone's numbers, ready for JSON; equal specs give equal rows.

        Rows in float32 are the same feature wherever they are computed: they differ in their last bits. In fewer bits
        each kind of device rounds at places of its own, so the kind is part of the identity.
        """
        rounded = {"device_kind": self.device_kind} if self.rounds else {}
        plugged = {} if self.plugin is None else {"plugin": dict(self.plugin)}
        return {
            "architecture": self.architecture,
            "options": dict(sorted(self.options.items())),
            "weights": {"digest": self.weights_digest()},
            "transform": self.transform.identity(),
            "precision": self.precision,
            **rounded,
            "code": self.code,
            **plugged,
            **({} if self.faces is None else {"faces": self.faces.identity()}),
        }

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what people want to know and no identity depends on, ready for JSON."""

    def _repr_html_(self) -> str:
        facts = {
            "blocks": shortened(f"{name} {width:,}" for name, width in self.blocks.items()),
            "pictures": f"{self.transform.size_px} px, resized: {self.transform.resize}",
            "views": self.views,
            "computes": f"on {self.device} in {self.precision}",
        }
        return facts_html(f"Backbone {self.name}", facts)

    def __repr__(self) -> str:
        joined = " + ".join(f"{block} {width}" for block, width in self.blocks.items())
        return f"<Backbone {self.name}: {joined}, {self.transform.size_px} px, {self.device}, {self.precision}>"


VOCABULARY: tuple[Views, ...] = get_args(Views)

CROPS = 5
CROP_PCT = 0.875
"""A crop's share of the resized picture's side, where the transform itself keeps more of it (224 / 256)."""


def views_named(name: str) -> Views:
    """Check the name of a set of views.

    Raises
    ------
    OptionError
        If there is none of that name.
    """
    for known in VOCABULARY:
        if name == known:
            return known
    raise OptionError(f"views must be one of {', '.join(VOCABULARY)}, however: {name!r}{nearest(name, VOCABULARY)}")


def crops_of(views: Views) -> int:
    """Count the crops that are cut from one picture before it is embedded."""
    return CROPS if views.startswith("five-crop") else 1


def transform_for(views: Views, transform: Transform) -> Transform:
    """Leave the transform as it is, or have it keep a margin from which corners can be cut."""
    if crops_of(views) == 1:
        return transform
    return dataclasses.replace(transform, crop_pct=min(transform.crop_pct, CROP_PCT))


def each_view(pictures: NDArray[np.uint8], views: Views) -> Iterator[NDArray[np.uint8]]:
    """Yield one batch (b, h, w, 3) a view, of pictures (b, h, w, 3), or (b, 5, h, w, 3) where they are crops."""
    crops = [pictures] if crops_of(views) == 1 else [pictures[:, number] for number in range(CROPS)]
    yield from crops
    if views.endswith("flip"):
        for crop in crops:
            yield crop[:, :, ::-1]


Missing = Literal["resize", "refuse"]
NO_FACE = "no face was found in it"


class Faces(Protocol):
    """Finds the face of a picture and cuts it out; safe to use from several threads, and can be sent to a process."""

    def find(self, picture: NDArray[np.uint8]) -> Any | None:
        """The face in a picture (h, w, 3) uint8 RGB; None where there is none."""

    def cut(self, picture: NDArray[np.uint8], face: Any, size_px: int) -> NDArray[np.uint8]:
        """The crop, (size_px, size_px, 3) uint8 RGB."""

    def identity(self) -> dict[str, Any]:
        """Everything that fixes the crops but their size; JSON values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PicturePart:
    """Cuts the same part out of every picture, for pictures of faces that are aligned already; it is `Faces`."""

    part: str
    """What the part is called."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom, as shares of width and height."""

    @classmethod
    def again(cls, identity: Mapping[str, Any]) -> PicturePart:
        """What has this identity."""
        left, top, right, bottom = identity["box"]
        return cls(part=identity["part"], box=(left, top, right, bottom))

    def identity(self) -> dict[str, Any]:
        """Everything that fixes the crops but their size; JSON values."""
        return {"part": self.part, "box": list(self.box), "resize": "bicubic"}

    def find(self, picture: NDArray[np.uint8]) -> tuple[int, int, int, int]:
        """The part's box in pixels of a picture (h, w, 3)."""
        height, width = picture.shape[:2]
        left, top, right, bottom = self.box
        return round(left * width), round(top * height), round(right * width), round(bottom * height)

    def cut(self, picture: NDArray[np.uint8], face: Any, size_px: int) -> NDArray[np.uint8]:
        """The part, (h, w, 3) -> (size_px, size_px, 3), uint8, RGB."""
        crop = Image.fromarray(picture).crop(face)
        return np.asarray(crop.resize((size_px, size_px), Image.Resampling.BICUBIC))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
    """An opened picture in which a face was looked for."""

    picture: Image.Image
    face: Any | None
    remark: str
    """What is to be told of its row; empty where there is nothing."""


@dataclasses.dataclass(frozen=True)
class TakenFaces:
    """Opens a picture and finds its face."""

    faces: Faces
    missing: str

    def __call__(self, data: bytes) -> Looked:
        """Open one picture file; raises PictureError as `open_picture` does, and for a missing face that is refused."""
        picture = open_picture(data)
        face = self.faces.find(np.asarray(picture))
        if face is None and self.missing == "refuse":
            raise PictureError(NO_FACE)
        return Looked(picture=picture, face=face, remark=f"{NO_FACE}: only resized" if face is None else "")

    def identity(self) -> dict[str, Any]:
        """JSON values."""
        return {**self.faces.identity(), "missing": self.missing}


@dataclasses.dataclass(frozen=True)
class CutOut:
    """Cuts the face out at the size before the crop, so that what follows has nothing to resize."""

    faces: Faces
    transform: Transform
    last: Callable[[Image.Image], NDArray[np.uint8]]

    def __call__(self, looked: Looked) -> NDArray[np.uint8]:
        """(size_px, size_px, 3), or five crops of that; uint8, RGB."""
        if looked.face is None:
            return self.last(looked.picture)
        side, _ = self.transform.resized(1, 1)
        return self.last(Image.fromarray(self.faces.cut(np.asarray(looked.picture), looked.face, side)))


T = TypeVar("T")

_SHORT = re.compile(
    r"out of memory"  # CUDA, HIP, MPS; cudaErrorMemoryAllocation, which pinning memory raises too
    r"|cudaErrorMemoryAllocation|hipErrorOutOfMemory|OUT_OF_MEMORY"
    r"|CU(BLAS|DNN|SPARSE|SOLVER)_STATUS_(ALLOC_FAILED|INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)"
    r"|(CU(BLAS|FFT)|cublas|cufft)\w*ALLOC_FAILED"
    r"|(can't|cannot|could not|couldn't|unable to|failed to|not enough memory:.*) allocate.*\b(memory|bytes|buffer)"
    r"|failed to allocate|fail to allocate|allocation failed|bad allocation|bad_alloc|BFCArena"
    r"|not enough memory|insufficient memory|memory allocation (failed|failure)",
    re.IGNORECASE,
)
"""What torch, the libraries under it and onnxruntime write when memory is short; not all have a class for it."""


class DeviceMemoryError(DeviceError, MemoryError):
    """More pictures at once than the device's memory holds."""


def is_short_of_memory(error: BaseException) -> bool:
    """Tell whether an error, whoever raised it, says that memory did not suffice."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, Exception) and bool(_SHORT.search(str(error)))


def or_does_not_fit(compute: Callable[[], T], *, pictures: int, name: str, device: str) -> T:
    """Compute, or free what the attempt left behind and say what did not fit.

    Raises
    ------
    DeviceMemoryError
        Instead of the error of torch, of the libraries under it or of onnxruntime that says so.
    """
    try:
        return compute()
    except Exception as error:  # a boundary: libraries say by any class and text that memory is short; others go on
        if not is_short_of_memory(error):
            raise
        lines = str(error).strip().splitlines()
        reason = lines[0][:300] if lines else type(error).__name__
    # outside the handler: there the error would keep the attempt's tensors alive
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise DeviceMemoryError(
        f"{pictures} pictures at once do not fit into the memory of {device!r}\n"
        f"  in backbone: {name}; the reason given: {reason}\n"
        f"  take a smaller batch size, or --batch-size auto, which halves it until it fits"
    )
