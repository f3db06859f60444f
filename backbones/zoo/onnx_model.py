"""Any ONNX model with a stated input recipe: ``onnx:<file>``; needs the extra ``[onnx]``.

A file says what it computes but not what its input means, so that is stated. It runs on the device that was asked for,
and on no other.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from ...kit.onnx_file import OnnxFile, OnnxFileError, outline, read_onnx, with_output
from ..backbone import CPU_PIECE, Backbone, or_does_not_fit
from ..errors import DeviceError, MissingExtraError, OptionError, WeightsError, listed, nearest
from ..picture import Transform
from ..recipes import Recipe


def build(
    *,
    target: str,
    device: str,
    precision: str,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    colour: str | None = None,
    scale: str | None = None,
    size_px: int | None = None,
    interpolation: str = "bicubic",
    resize: str = "squash",
    layout: str | None = None,
    output: str | None = None,
    pool: str = "none",
) -> OnnxBackbone:
    """Open the model.

    Parameters
    ----------
    target : str
        The file; data files that it names are read from its own folder.
    device, precision : str
        "cpu", "cuda", "cuda:1" or "auto"; "float32", which is what the model was saved in, or "tf32" on CUDA.
    mean, std : three floats, or one for grey
        In the model's channel order, on its value scale. Required: a file does not tell.
    colour : "RGB", "BGR" or "L"
        Required; "L" for a model that takes one channel of grey.
    scale : "0-1" or "0-255"
        Required.
    size_px : int, optional
        Side of the input; only needed where the file leaves it open.
    interpolation, resize : str
        As in `Transform`.
    layout : "NCHW" or "NHWC", optional
        Only needed where the file leaves it open.
    output : str, optional
        Which output is the feature, or which tensor within the model; the first output when not given.
    pool : "none", "mean", "mean_last" or "first"
        What becomes of one that has more than a row a picture; see `POOLS`.
    """
    rest: dict[str, Any] = {"size_px": size_px, "interpolation": interpolation, "resize": resize, "layout": layout}
    rest |= {"output": output, "pool": pool}
    recipe = OnnxRecipe.stated(mean=mean, std=std, colour=colour, scale=scale, **rest)
    return create_onnx(target, recipe, device=device, precision=precision)


logger = logging.getLogger(__name__)

LAYOUTS = ("NCHW", "NHWC")

INPUT_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(uint8)": np.dtype(np.uint8),
}
"""What a model may take; integers only where the recipe leaves pictures as they are."""

POOLS = ("none", "mean", "mean_last", "first")
"""How a tensor becomes one row a picture. "mean": of (b, d, …), over all that follows the channels, as a convolution's
maps are pooled; "mean_last": of (b, …, d), over all that stands between, as tokens are; "first": of (b, t, d), the
first token."""

NUMBERS = re.compile(r"tensor\((float|float16|double|bool|u?int(8|16|32|64))\)")
"""Types of outputs that rows can be made of."""

SAME = 1e-4
"""By how much of the largest value a row may change when another picture of its batch does: rounding on a GPU."""


@dataclass(frozen=True, kw_only=True)
class OnnxRecipe:
    """What a model's input means."""

    mean: tuple[float, ...]
    """Subtracted, in the model's channel order and on its value scale."""
    std: tuple[float, ...]
    """Divided by."""
    colour: str
    """"RGB", "BGR" or "L"."""
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
    """Name of the output, or of the tensor within, that is the feature; None takes the first output."""
    pool: str = "none"
    """One of `POOLS`."""

    @classmethod
    def stated(
        cls,
        *,
        mean: Sequence[float] | float | None,
        std: Sequence[float] | float | None,
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
        means, stds = (
            tuple(map(float, each)) if isinstance(each, Sequence) else (float(each),) for each in (mean, std)
        )
        if colour != "L" and (len(means) != 3 or len(stds) != 3):
            raise OptionError(f"mean and std need three values each, such as 1,1,1, however: {mean=}, {std=}")
        if rest.get("pool", "none") not in POOLS:
            raise OptionError(f"pool must be one of {', '.join(POOLS)}, however: pool={rest['pool']!r}")
        return cls(mean=means, std=stds, colour=colour, scale=scale, **rest)


class OnnxBackbone(Backbone):
    """An ONNX model; one block, ``output``."""

    def __init__(
        self, file: OnnxFile, session: Any, recipe: OnnxRecipe, device: str, precision: str = "float32"
    ) -> None:
        self.path = file.path
        self.name = f"onnx:{self.path.stem}"
        self.file = file.digest
        self.data_files = file.data_files
        layout, size_px = input_shape(session, recipe)
        self.session = session
        self.recipe = recipe
        self.layout = layout
        self.input = session.get_inputs()[0]
        self.input_type = input_type(self.input, recipe)
        self.output = choose_output(session, recipe.output)
        self.architecture = "onnx"
        self.options = {"layout": layout, "output": self.output}
        if recipe.pool != "none":
            self.options["pool"] = recipe.pool
        if self.input_type != np.float32:
            self.options["input"] = str(self.input_type)
        self.precision = precision
        self._half = file.has_half_floats
        self.device = device
        self.code = 1
        self.transform = Transform(
            size_px=size_px,
            resize=recipe.resize,  # type: ignore[arg-type]
            interpolation=recipe.interpolation,  # type: ignore[arg-type]
            mean=recipe.mean,
            std=recipe.std,
            colour=recipe.colour,  # type: ignore[arg-type]
            scale=recipe.scale,  # type: ignore[arg-type]
        )
        fixed = self.input.shape[0]  # a number where the model fixes it, else a name or None
        if isinstance(fixed, int) and fixed > 0:
            self.piece = fixed
            self.blocks = {"output": self.tried(fixed)}
            return
        self.piece = CPU_PIECE if device == "cpu" else 0
        try:
            self.blocks = {"output": self.tried(2)}
        except OptionError as several:
            try:
                self.blocks = {"output": self.tried(1)}
            except OptionError:
                raise several from None
            self.piece = 1
            logger.info("%s: computes one picture at a time: %s", self.name, str(several).partition("\n")[0])

    @property
    def rounds(self) -> bool:
        """Whether it computes in fewer bits than float32's, as a model does whose weights have them."""
        return self.precision != "float32" or self._half

    def tried(self, count: int) -> int:
        """Run the model on `count` pictures and again with another first one: d, if it gives a row a picture.

        A row is its picture's alone. In a model that mixes the pictures of a batch (by quantising all of them by the
        largest value, by taking its mean over them, or because its output is turned) another row changes too.
        """
        side = self.transform.size_px
        noise = np.random.default_rng(0)
        pictures = noise.integers(96, 160, (count, side, side, 3)).astype(np.uint8)
        before = self.compute(pictures)["output"]
        pictures[0] = noise.integers((160, 0, 0), (256, 256, 96), (side, side, 3))  # brighter, darker and rougher
        after = self.compute(pictures)["output"]
        if before.shape[0] != count or before.shape != after.shape:
            raise OptionError(
                f"output {self.output!r} of {self.path.name} must have one row a picture, ({count}, d), however: "
                f"{before.shape} for {self.fed(count)}\n  {self.other_outputs()}"
            )
        largest = np.abs(before, where=np.isfinite(before), out=np.zeros_like(before)).max(initial=0)
        if not np.allclose(before[1:], after[1:], rtol=0, atol=SAME * largest, equal_nan=True):
            raise OptionError(
                f"a row of output {self.output!r} of {self.path.name} depends on the other pictures of its batch, so "
                f"it is no feature of its own picture; tried with {self.fed(count)}\n"
                "  export the model with an open batch size (it is then run on one picture at a time)"
            )
        return int(before.shape[1])

    def compute(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Embed a batch that has been checked.

        Raises
        ------
        DeviceMemoryError
            If it does not fit on the device.
        """
        x = self.transform.to_array(pictures)
        if self.layout == "NHWC":
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))  # (b, c, h, w) -> (b, h, w, c)
        return {"output": self.run(x.astype(self.input_type, copy=False))}

    def run(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Run the model: (b, c, h, w) -> (b, d); an output of shape (b, d, 1, 1) loses its ones.

        Raises
        ------
        OptionError
            If the model cannot be run on such an input, or gives no rows.
        """
        try:
            (found,) = or_does_not_fit(
                lambda: self.session.run([self.output], {self.input.name: x}),
                pictures=len(x),
                name=self.name,
                device=self.device,
            )
        except MemoryError:
            raise
        except Exception as error:  # a boundary: onnxruntime raises its own C++ errors, and the text is kept
            raise OptionError(
                f"{self.path.name} cannot be run on {self.fed(len(x))}: {reason(error)}\n"
                f"  its input is declared as {self.input.type} {self.input.shape}; a size that it was not made for, or "
                "an export that fixed one inside, fails so: say its own size_px, or export it again"
            ) from None
        rows = pooled(np.asarray(found, dtype=np.float32), self.recipe.pool)
        if rows.ndim < 2 or any(size != 1 for size in rows.shape[2:]):
            raise OptionError(
                f"output {self.output!r} of {self.path.name} must have shape (b, d), however: {rows.shape}\n"
                f"  make one row of it with pool=mean (maps), pool=mean_last or pool=first (tokens), or "
                f"{self.other_outputs()}"
            )
        return np.ascontiguousarray(rows.reshape(rows.shape[0], rows.shape[1]))

    def fed(self, count: int) -> str:
        """Say what the model is given: name, type and shape."""
        side = self.transform.size_px
        channels = self.transform.channels
        shape = (count, channels, side, side) if self.layout == "NCHW" else (count, side, side, channels)
        return f"input {self.input.name!r}, {self.input_type} {shape}"

    def other_outputs(self) -> str:
        """Say which output could be taken instead."""
        return f"take another with output=NAME: {listed(o.name for o in self.session.get_outputs())}"

    def weights_digest(self) -> str:
        """Return the digest of the file, graph and weights in one, and of the data files that it names."""
        return self.file

    def describe(self) -> dict[str, Any]:
        """Return source, versions, device; no part of the identity."""
        import onnxruntime

        return {
            "name": self.name,
            "blocks": dict(self.blocks),
            "weights_source": self.path.name,
            **({"data_files": list(self.data_files)} if self.data_files else {}),
            "parameters": None,
            "device": self.device,
            "versions": {
                "onnxruntime": str(onnxruntime.__version__),
                "pillow": str(PIL.__version__),
                "numpy": str(np.__version__),
            },
        }


def pooled(rows: NDArray[np.float32], pool: str) -> NDArray[np.float32]:
    """Make one row a picture; see `POOLS`. What has no more than that stays as it is."""
    if pool == "none" or rows.ndim < 3:
        return rows
    if pool == "first":
        return rows[:, 0]
    axes = tuple(range(2, rows.ndim)) if pool == "mean" else tuple(range(1, rows.ndim - 1))
    return np.asarray(rows.mean(axis=axes, dtype=np.float64), dtype=np.float32)


def create_onnx(
    file: str | Path, recipe: OnnxRecipe, *, device: str = "cpu", precision: str = "float32"
) -> OnnxBackbone:
    """Open an ONNX file as a backbone.

    Parameters
    ----------
    file : str or Path
        Data files that it names are read from its own folder.
    device : str
        "cpu", "cuda", "cuda:1" or "auto", which logs its choice. Others are not taken: onnxruntime's provider for
        Apple's devices computes in float16 as it sees fit, and those for AMD's are untried here.

    Raises
    ------
    MissingExtraError
        If onnxruntime is not installed.
    WeightsError
        If the file is missing or damaged, or names data files that are not beside it.
    DeviceError
        If onnxruntime cannot use the device.
    OptionError
        If the recipe does not fit the file.
    """
    if precision not in ("float32", "tf32"):
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
    number = device_number(device, onnxruntime.get_available_providers())
    try:
        model = read_onnx(path)
        if recipe.output is not None:
            model = replace(model, content=_with_output(model.content, recipe.output))
    except OnnxFileError as error:
        raise WeightsError(str(error)) from None
    try:
        session = open_session(model, number, tf32=precision == "tf32")
        if number is not None:
            check_device(session, device, number)
    except DeviceError as error:
        if device != "auto":
            raise
        logger.info("device auto: no CUDA: %s", str(error).partition("\n")[0])
        session, number = open_session(model, None), None
    if device == "auto":
        device = "cpu" if number is None else "cuda"
        logger.info("device auto: onnxruntime computes on %s", device)
    if precision == "tf32" and number is None:
        raise OptionError(f"precision tf32 needs a CUDA device, however: {device}; say precision='float32'")
    return OnnxBackbone(model, session, recipe, device, precision)


def _with_output(content: bytes, wanted: str) -> bytes:
    """Have the graph give out the tensor that is wanted, where it stands within."""
    found = outline(content)
    if wanted in [name for name, _ in found.outputs]:
        return content
    inner = [name for name, _ in found.inner]
    if wanted not in inner:
        outputs = [name for name, _ in found.outputs]
        raise OptionError(
            f"the model has no output {wanted!r}; it has {listed(outputs)}, and within it {listed(inner[::-1])}"
            f"{nearest(wanted, [*outputs, *inner])}\n  cer-feat inspect lists what can be taken"
        )
    return with_output(content, wanted)


def input_type(declared: Any, recipe: OnnxRecipe) -> np.dtype[Any]:
    """Choose what pictures become; whole numbers only hold pictures that the recipe leaves as they are."""
    found = INPUT_TYPES.get(declared.type)
    said = f"input {declared.name!r} is {declared.type} {declared.shape}"
    if found is None:
        raise OptionError(f"{said}, which no pictures are made of; a model must take {', '.join(INPUT_TYPES)}")
    plain = (recipe.scale, recipe.mean, recipe.std) == ("0-255", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    if found.kind == "u" and not plain:
        raise OptionError(
            f"{said}: it takes pixels as they are, so say mean=0,0,0 std=1,1,1 scale=0-255, however: "
            f"mean={recipe.mean} std={recipe.std} scale={recipe.scale}"
        )
    return found


def input_shape(session: Any, recipe: OnnxRecipe) -> tuple[str, int]:
    """Read layout and size off the model, as far as it fixes them, and check the recipe against it."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        found = ", ".join(f"{i.name!r} {i.type} {i.shape}" for i in inputs) or "none"
        raise OptionError(f"the model must take one batch of pictures, however its inputs are: {found}")
    shape = inputs[0].shape
    wanted = 1 if recipe.colour == "L" else 3
    stated = dict(zip(LAYOUTS, (shape[1], shape[3]), strict=True))
    fits = [layout for layout, channels in stated.items() if channels == wanted or not isinstance(channels, int)]
    fixed = [layout for layout, channels in stated.items() if channels == wanted]
    if wanted == 3 and not fixed and 1 in stated.values():
        raise OptionError(
            f"the model takes one channel of grey: say colour=L, and one mean and std; its input is {shape}"
        )
    candidates = [recipe.layout] if recipe.layout else (fixed or fits)
    if len(candidates) != 1 or candidates[0] not in LAYOUTS:
        raise OptionError(f"say layout='NCHW' or layout='NHWC', which the model leaves open; its input is {shape}")
    layout = str(candidates[0])
    channels, sides = (shape[1], shape[2:4]) if layout == "NCHW" else (shape[3], shape[1:3])
    if isinstance(channels, int) and channels != wanted:
        raise OptionError(f"the model takes {channels} channels as {layout}, expected {wanted}; its input is {shape}")
    known = {side for side in sides if isinstance(side, int) and side > 0}
    if len(known) == 2:
        raise OptionError(
            f"the model takes pictures of {sides[0]} x {sides[1]}, expected squares; its input is {shape}"
        )
    if recipe.size_px is not None:
        known.add(recipe.size_px)
    if len(known) != 1:
        said = "leaves its size open; say size_px" if not known else f"needs another size than size_px={recipe.size_px}"
        raise OptionError(f"the model {said}; its input is {shape}")
    return layout, known.pop()


def choose_output(session: Any, wanted: str | None) -> str:
    """Find the output by name, or take the first."""
    outputs = [output.name for output in session.get_outputs() if NUMBERS.fullmatch(output.type)]
    if not outputs:
        found = ", ".join(f"{output.name!r} {output.type}" for output in session.get_outputs()) or "none"
        raise OptionError(f"the model must have an output of numbers, however its outputs are: {found}")
    if wanted is None:
        return str(outputs[0])
    if wanted not in outputs:
        raise OptionError(f"the model has no output {wanted!r}; it has {listed(outputs)}{nearest(wanted, outputs)}")
    return wanted


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def build_has_cuda() -> bool:
    """Tell whether the installed onnxruntime, if any, was built for CUDA; not whether the machine has such a device."""
    try:
        import onnxruntime
    except ImportError:
        return False
    return CUDA in onnxruntime.get_available_providers()


def device_number(device: str, available: Sequence[str]) -> int | None:
    """Translate a device: the number of a CUDA device to be tried, or None for the CPU.

    `available` is what this build of onnxruntime knows; whether the machine has it, only a session can tell.
    """
    if device == "cpu":
        return None
    if device == "auto":
        return 0 if CUDA in available else None
    found = re.fullmatch(r"cuda(?::(\d+))?", device)
    if found and CUDA in available:
        return int(found[1] or 0)
    raise DeviceError(
        f"onnxruntime cannot use device {device!r}; it has {', '.join(available)}\n"
        "  the device may be cpu; or install onnxruntime-gpu for 'cuda' and 'cuda:1'; no other devices are taken"
    )


def open_session(model: OnnxFile, number: int | None, *, threads: int | None = None, tf32: bool = False) -> Any:
    """Open a session on the CPU, or on a CUDA device with the CPU for what that cannot do.

    The CUDA provider computes float32 in TF32 unless told not to (onnxruntime 1.18 and newer can be told).

    Whoever asks for CUDA must ask the session whether it got it: see `check_device`.

    Raises
    ------
    WeightsError
        If onnxruntime refuses the model.
    DeviceError
        If it refuses the device.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about unused initialisers are about the file, not about the user
    if threads is not None:
        options.intra_op_num_threads = threads
    if model.beside:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in model.beside.values()]
        options.add_external_initializers(list(model.beside), values)
    cuda = [] if number is None else [(CUDA, {"device_id": str(number), "use_tf32": str(int(tf32))})]
    try:  # without its own fallback, which takes other devices, and other options, than it was asked for
        return onnxruntime.InferenceSession(model.content, options, providers=[*cuda, CPU], enable_fallback=0)
    except Exception as error:  # a boundary: onnxruntime raises its own C++ errors, and the text is kept
        text = reason(error)
        if number is not None and re.search(r"cuda|cudnn|cublas|device", text, re.IGNORECASE):
            raise DeviceError(
                f"onnxruntime cannot use CUDA device {number}: {text}\n  the device may be cpu, or another number"
            ) from None
        if "is not a registered function/op" in text or "No Op registered" in text:
            raise WeightsError(
                f"the model needs operators that onnxruntime {onnxruntime.__version__} does not have: {text}\n"
                f"  they come with a library of their own, or a newer onnxruntime; export it without them: {model.path}"
            ) from None
        raise WeightsError(f"the ONNX file cannot be opened ({text}): {model.path}") from None


def check_device(session: Any, device: str, number: int) -> None:
    """Refuse a session that was opened for a CUDA device and fell back, which onnxruntime does without an error.

    Raises
    ------
    DeviceError
        With what the session computes on instead.
    """
    got = session.get_providers()
    on = session.get_provider_options().get(CUDA, {}).get("device_id", str(number)) if CUDA in got else None
    if on != str(number):
        instead = "the CPU" if on is None else f"CUDA device {on}"
        raise DeviceError(
            f"device {device!r} was asked for, and onnxruntime would compute on {instead}: this machine has no such "
            "device, or CUDA's and cuDNN's libraries are missing or of another version\n"
            "  what onnxruntime wrote above says which; the device may be cpu, or auto, which takes what there is"
        )


def reason(error: BaseException) -> str:
    """Give the first line of what onnxruntime says, without its own preface."""
    text = str(error).strip().partition("\n")[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)[:300] or type(error).__name__


RECIPE = Recipe(
    name="onnx:<file>",
    note="Any ONNX model; say mean, std, colour (RGB/BGR) and scale (0-1/0-255). Needs pip install 'cer-fusion[onnx]'.",
    build=build,
)
