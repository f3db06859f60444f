"""The ground that all packages stand on: errors with a remedy, whole files, JSON documents, and text that people edit.

Files and folders appear under their name only when all their bytes are on the disk; documents know their format,
version and digest; dataclasses become JSON and come back checked; what kind of picture a file is shows in its first
bytes, and an ONNX file is read whole. It knows nothing of faces, rows or heads.
"""

from __future__ import annotations

from cer_fusion.kit.errors import (
    CerError,
    DocumentError,
    MissingExtraError,
    NewerFormatError,
    OutputExistsError,
    WriteError,
    listing,
    nearest,
)

__all__ = [
    "CerError",
    "DocumentError",
    "MissingExtraError",
    "NewerFormatError",
    "OutputExistsError",
    "WriteError",
    "listing",
    "nearest",
]
