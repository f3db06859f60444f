"""Datasets in miniature: files from a dictionary, as a folder or packed."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Content = bytes | str
Pack = Callable[[Path], Path]


def fill(root: Path, files: dict[str, Content]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def as_folder(root: Path) -> Path:
    return root


def zipped(root: Path) -> Path:
    archive = root.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                out.write(path, path.relative_to(root).as_posix())
    return archive


def tarred(root: Path) -> Path:
    return _tar(root, ".tar", "w")


def tarred_and_gzipped(root: Path) -> Path:
    return _tar(root, ".tar.gz", "w:gz")


def npy(value: object) -> bytes:
    """A `.npy` file as NumPy writes it; `npy("3")` is a text in an array without axes."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(value), allow_pickle=True)
    return buffer.getvalue()


def _tar(root: Path, suffix: str, mode: str) -> Path:
    archive = root.with_name(root.name + suffix)
    with tarfile.open(archive, mode) as out:
        out.add(root, arcname=".")
    return archive
