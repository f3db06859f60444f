"""A session of onnxruntime on the device that was asked for, and on no other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cer_fusion.backbones.errors import DeviceError, WeightsError
from cer_fusion.kit.onnx_file import OnnxFile

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

CUDA_OPTIONS = {"use_tf32": "0"}
"""The provider computes float32 in TF32 unless told not to (onnxruntime 1.18 and newer can be told)."""


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
        "  say device='cpu', or install onnxruntime-gpu for 'cuda' and 'cuda:1'; no other devices are taken"
    )


def open_session(model: OnnxFile, number: int | None, *, threads: int | None = None) -> Any:
    """Open a session on the CPU, or on a CUDA device with the CPU for what that cannot do.

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
    cuda = [] if number is None else [(CUDA, {"device_id": str(number), **CUDA_OPTIONS})]
    try:  # without its own fallback, which takes other devices, and other options, than it was asked for
        return onnxruntime.InferenceSession(model.content, options, providers=[*cuda, CPU], enable_fallback=0)
    except Exception as error:  # a boundary: onnxruntime raises its own C++ errors, and the text is kept
        text = reason(error)
        if number is not None and re.search(r"cuda|cudnn|cublas|device", text, re.IGNORECASE):
            raise DeviceError(
                f"onnxruntime cannot use CUDA device {number}: {text}\n  say device='cpu', or another number"
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
            "  what onnxruntime wrote above says which; say device='cpu', or device='auto' to take what there is"
        )


def reason(error: BaseException) -> str:
    """Give the first line of what onnxruntime says, without its own preface."""
    text = str(error).strip().partition("\n")[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)[:300] or type(error).__name__
