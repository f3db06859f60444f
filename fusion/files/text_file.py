"""Reading a file that people may have edited: UTF-8, with or without a byte order mark."""

from __future__ import annotations

from pathlib import Path

from fusion.errors import FusionError


def read_text(path: Path, error: type[FusionError]) -> str:
    """Return the text of a file, or raise ``error`` naming it."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{path} is not UTF-8 text") from None
