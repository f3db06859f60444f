"""Writing a whole folder or none of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusion.files.atomic import sync_folder


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside ``target`` to write into, and rename it into place when the block ends well.

    Parent folders are made. A folder of that name steps aside first and comes back if the rename fails; when the block
    raises, nothing has changed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    built = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield built
        built.chmod(0o755)
        _put_in_place(built, target)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def _put_in_place(built: Path, target: Path) -> None:
    if not target.exists():
        built.rename(target)
    else:
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        target.rename(aside / "old")
        try:
            built.rename(target)
        except OSError:
            (aside / "old").rename(target)
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    sync_folder(target.parent)
