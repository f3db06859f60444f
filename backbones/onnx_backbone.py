"""A backbone that runs an ONNX file; a file says what it computes but not what its input means, so that is stated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from backbones.backbone import CPU_PIECE, Backbone
from backbones.errors import DeviceError, MissingExtraError, OptionError, WeightsError, listed, nearest
from backbones.transform import Transform

LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True, kw_only=True)
class OnnxRecipe:
    """What a model's input means."""

    mean: tuple[float, float, float]
    """Subtracted, in the model's channel order and on its value scale."""
    std: tuple[float, float, float]
    """Divided by."""
    colour: str
    """"RGB" or "BGR"."""
    scale: str
    """"0-1" or "0-255"."""
    size_px: int | None = None
    """Side of the input; None takes it from the file."""
    interpolation: str = "bicubic"
    """Resampling filter."""
    resize: str = "squash"
    """As in `Transform`."""
    layout: str | None = None
    """"NCHW" or "NHWC"; None takes it from the file."""
    output: str | None = None
    """Name of the output that is the feature; None takes the first."""

    @classmethod
    def stated(
        cls,
        *,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        colour: str | None,
        scale: str | None,
        **rest: Any,
    ) -> OnnxRecipe:
        """Make a recipe from options, naming those that are missing: they are never guessed."""
        given = {"mean": mean, "std": std, "colour": colour, "scale": scale}
        missing = [name for name, value in given.items() if value is None]
        if missing or mean is None or std is None or colour is None or scale is None:
            raise OptionError(
                f"an ONNX file does not say what its input means; say {', '.join(missing)}\n"
                f"  e.g. mean=0.485,0.456,0.406 std=0.229,0.224,0.225 colour=RGB scale=0-1, channels in that order"
            )
        if len(mean) != 3 or len(std) != 3:
            raise OptionError(f"mean and std need three values each, such as 1,1,1, however: {mean=}, {std=}")
        means, stds = (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))
        return cls(mean=means, std=stds, colour=colour, scale=scale, **rest)


class OnnxBackbone(Backbone):
    """An ONNX model; one block, ``output``."""

    def __init__(self, path: Path, session: Any, content: bytes, recipe: OnnxRecipe, device: str) -> None:
        layout, size_px = input_shape(session, recipe)
        self.name = f"onnx:{path.stem}"
        self.path = path
        self.session = session
        self.recipe = recipe
        self.layout = layout
        self.output = choose_output(session, recipe.output)
        self.architecture = "onnx"
        self.options = {"layout": layout, "output": self.output}
        self.precision = "float32"
        self.device = device
        self.code = 1
        batch = session.get_inputs()[0].shape[0]  # a number where the model fixes it, else a name or None
        self.piece = batch if isinstance(batch, int) and batch > 0 else CPU_PIECE if device == "cpu" else 0
        self.file_digest = hashlib.sha256(content).hexdigest()
        self.transform = Transform(
            size_px=size_px,
            resize=recipe.resize,  # type: ignore[arg-type]
            interpolation=recipe.interpolation,  # type: ignore[arg-type]
            mean=recipe.mean,
            std=recipe.std,
            colour=recipe.colour,  # type: ignore[arg-type]
            scale=recipe.scale,  # type: ignore[arg-type]
        )
        black = np.zeros((self.piece or 1, size_px, size_px, 3), np.uint8)
        self.blocks = {"output": self.compute(black)["output"].shape[1]}

    def compute(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Embed a batch that has been checked."""
        x = self.transform.to_array(pictures)
        if self.layout == "NHWC":
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))  # (b, 3, h, w) -> (b, h, w, 3)
        return {"output": self.run(x)}

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model: (b, 3, h, w) -> (b, d); an output of shape (b, d, 1, 1) loses its ones."""
        (rows,) = self.session.run([self.output], {self.session.get_inputs()[0].name: x})
        rows = np.asarray(rows, dtype=np.float32)
        if rows.ndim < 2 or any(size != 1 for size in rows.shape[2:]):
            raise OptionError(
                f"output {self.output!r} of {self.path.name} must have shape (b, d), however: {rows.shape}\n"
                f"  take another with output=NAME: {listed(o.name for o in self.session.get_outputs())}"
            )
        return np.ascontiguousarray(rows.reshape(rows.shape[0], rows.shape[1]))

    def weights_digest(self) -> str:
        """Return the digest of the file: graph and weights are one."""
        return self.file_digest

    def describe(self) -> dict[str, Any]:
        """Return source, versions, device; no part of the identity."""
        import onnxruntime

        return {
            "name": self.name,
            "blocks": dict(self.blocks),
            "weights_source": self.path.name,
            "parameters": None,
            "device": self.device,
            "versions": {
                "onnxruntime": str(onnxruntime.__version__),
                "pillow": str(PIL.__version__),
                "numpy": str(np.__version__),
            },
        }


def create_onnx(
    file: str | Path, recipe: OnnxRecipe, *, device: str = "cpu", precision: str = "float32"
) -> OnnxBackbone:
    """Open an ONNX file as a backbone.

    Raises
    ------
    MissingExtraError
        If onnxruntime is not installed.
    WeightsError
        If the file is missing, damaged, or keeps its weights in other files.
    DeviceError
        If onnxruntime cannot use the device.
    OptionError
        If the recipe does not fit the file.
    """
    if precision != "float32":
        raise OptionError(f"an ONNX model computes in the precision it was saved in, not in {precision!r}")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            "ONNX models need onnxruntime, which is not installed\n  install it with: pip install 'cer-fusion[onnx]'"
        ) from error
    path = Path(file).expanduser()
    if not path.is_file():
        raise WeightsError(f"there is no ONNX file: {path}")
    device, providers = choose_providers(device, onnxruntime.get_available_providers())
    content = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about unused initialisers are about the file, not about the user
    try:  # from bytes: weights in further files, which the digest would miss, are then refused by onnxruntime
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # a boundary: onnxruntime raises its own C++ errors, and the text is kept
        raise WeightsError(f"the ONNX file cannot be opened ({str(error)[:200]}): {path}") from None
    return OnnxBackbone(path, session, content, recipe, device)


def choose_providers(device: str, available: Sequence[str]) -> tuple[str, list[str]]:
    """Translate a device for onnxruntime; never replace one by another."""
    has_cuda = "CUDAExecutionProvider" in available
    if device == "auto":
        device = "cuda" if has_cuda else "cpu"
    if device == "cpu":
        return device, ["CPUExecutionProvider"]
    if device.startswith("cuda") and has_cuda:
        return device, ["CUDAExecutionProvider"]
    raise DeviceError(
        f"onnxruntime cannot use device {device!r}; it has {', '.join(available)}\n"
        f"  say device='cpu', or install onnxruntime-gpu"
    )


def input_shape(session: Any, recipe: OnnxRecipe) -> tuple[str, int]:
    """Read layout and size off the model, as far as it fixes them, and check the recipe against it."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise OptionError(f"the model must take one batch of pictures, however: {[(i.name, i.shape) for i in inputs]}")
    shape = inputs[0].shape
    fits = [layout for layout, channels in zip(LAYOUTS, (shape[1], shape[3]), strict=True) if channels in (3, None)]
    fixed = [layout for layout, channels in zip(LAYOUTS, (shape[1], shape[3]), strict=True) if channels == 3]
    candidates = [recipe.layout] if recipe.layout else (fixed or fits)
    if len(candidates) != 1 or candidates[0] not in LAYOUTS:
        raise OptionError(f"say layout='NCHW' or layout='NHWC', which the model leaves open; its input is {shape}")
    layout = str(candidates[0])
    channels, sides = (shape[1], shape[2:4]) if layout == "NCHW" else (shape[3], shape[1:3])
    if isinstance(channels, int) and channels != 3:
        raise OptionError(f"the model takes {channels} channels as {layout}, expected 3; its input is {shape}")
    known = {side for side in sides if isinstance(side, int) and side > 0}
    if recipe.size_px is not None:
        known.add(recipe.size_px)
    if len(known) != 1:
        said = "leaves its size open; say size_px" if not known else f"needs another size than size_px={recipe.size_px}"
        raise OptionError(f"the model {said}; its input is {shape}")
    return layout, known.pop()


def choose_output(session: Any, wanted: str | None) -> str:
    """Find the output by name, or take the first."""
    outputs = [output.name for output in session.get_outputs()]
    if wanted is None:
        return str(outputs[0])
    if wanted not in outputs:
        raise OptionError(f"the model has no output {wanted!r}; it has {listed(outputs)}{nearest(wanted, outputs)}")
    return wanted
