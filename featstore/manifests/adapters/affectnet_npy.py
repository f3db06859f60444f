"""The `.npy` files of AffectNet's release of eight labels: one number, kept as a text in an array without axes."""

from __future__ import annotations

import io

import numpy as np
from cer_fusion.featstore.errors import FormatError, ManifestError
from cer_fusion.featstore.exchange.foreign_npy import read_npy_header

_MAX_BYTES = 4096
"""Far more than the header and a number take."""


def expression(data: bytes, where: str) -> str:
    """The number in an `<id>_exp.npy` file, as text.

    The file is untrusted: it is refused before NumPy builds anything if it is large, holds objects, or more than one
    value.

    Raises
    ------
    ManifestError
        With the place.
    """
    if len(data) > _MAX_BYTES:
        raise ManifestError(f"{where} has {len(data):,} bytes: expected one number")
    try:
        header = read_npy_header(io.BytesIO(data), where)
    except FormatError as error:
        raise ManifestError(str(error)) from None
    if header.shape not in ((), (1,)) or header.dtype.kind not in "USiuf" or header.offset + header.nbytes > len(data):
        raise ManifestError(f"{where} must hold one number, however: {header.dtype} {header.shape}")
    value = np.load(io.BytesIO(data), allow_pickle=False, max_header_size=_MAX_BYTES).reshape(()).item()  # (1,) -> ()
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text.strip().removesuffix(".0")
