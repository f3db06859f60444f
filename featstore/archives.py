"""Pictures inside archives, read in any order: zip files, and tar files that are not compressed.

Members are only ever read, never unpacked, so no name can lead out of anywhere. Links, devices and sparse members of a
tar file are no pictures: they are passed over and counted. A compressed tar file has no way to a member but
through all that stand before it; `Tree` reads label files from one, pictures must be unpacked.
"""

from __future__ import annotations

import functools
import lzma
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from featstore import files

SUFFIXES = (".zip", ".tar")
"""Endings of archives that a picture's path may lead into."""
MAX_BYTES = 256 * 1024 * 1024
"""Largest picture that is read."""

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
"""What reading a stream from a damaged archive raises."""


class Archive(Protocol):
    """A file of files, read by any number of threads; a forked process opens its own."""

    @property
    def names(self) -> tuple[str, ...]:
        """Members that are plain files, in the archive's order."""

    def read(self, member: str) -> bytes:
        """Bytes of one member; raises OSError if it is missing, damaged, or larger than 256 MiB."""


def open_archive(path: Path) -> Archive:
    """Open the archive at `path` by its content.

    Raises
    ------
    OSError
        If it is neither a zip file nor an uncompressed tar file.
    """
    return ZipArchive(path) if zipfile.is_zipfile(path) or path.suffix.lower() == ".zip" else TarArchive(path)


def is_compressed_tar(path: Path) -> bool:
    """True for `.tar.gz`, `.tar.bz2`, `.tar.xz` and their short forms, by content."""
    if not path.is_file() or zipfile.is_zipfile(path) or _is_plain_tar(path):
        return False
    try:
        return tarfile.is_tarfile(path)
    except DAMAGED:  # inside its first block
        return False


class ZipArchive:
    """A zip file, as an `Archive`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError:
            raise
        except Exception as error:  # a boundary: see `read`
            raise OSError(f"{path} is not a usable zip file: {_reason(error)}") from None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in self._zip.namelist() if not name.endswith("/"))

    def read(self, member: str) -> bytes:
        try:
            info = self._zip.getinfo(member)
            return bounded(info.file_size, lambda: self._zip.read(info))
        except KeyError:
            raise FileNotFoundError(2, "no such member", f"{self._path}/{member}") from None
        except (OSError, MemoryError):
            raise
        except (
            Exception
        ) as error:  # a boundary: zipfile and its decompressors raise nearly anything on what is damaged,
            # encrypted, or compressed in a way they do not know; the picture goes to quarantine with the reason
            raise OSError(f"{self._path}/{member} cannot be read: {_reason(error)}") from None


class TarArchive:
    """An uncompressed tar file, as an `Archive`: an index of where each member begins, and an open file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index = tar_index(path)
        self._file = path.open("rb")
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._index.places)

    @property
    def odd(self) -> int:
        """How many links, devices and sparse members were passed over."""
        return self._index.odd

    def read(self, member: str) -> bytes:
        try:
            offset, size = self._index.places[member]
        except KeyError:
            raise FileNotFoundError(2, "no such member", f"{self._path}/{member}") from None

        def take() -> bytes:
            with self._lock:
                self._file.seek(offset)
                data = self._file.read(size)
            if len(data) != size:
                raise OSError(f"{self._path}/{member} cannot be read: the archive is cut short")
            return data

        return bounded(size, take)

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # a reader's archives live as long as its thread
            self._file.close()


class TarIndex(NamedTuple):
    """Where the members of a tar file are."""

    places: dict[str, tuple[int, int]]
    """Name to (offset, size) in bytes; of two members of one name the later counts, as in unpacking."""
    odd: int
    """Links, devices and sparse members."""


def tar_index(path: Path) -> TarIndex:
    """Read the headers of a tar file, once as long as the file stays as it is.

    Raises
    ------
    OSError
        If it is no tar file, or a compressed one.
    """
    return _indexed(path, files.state(path))


def bounded(size: int, read: Callable[[], bytes]) -> bytes:
    """What `read` gives, unless it would be more than `MAX_BYTES`."""
    if size > MAX_BYTES:
        raise OSError(f"larger than {MAX_BYTES // 2**20} MiB ({size:,} bytes)")
    return read()


@functools.lru_cache(maxsize=8)
def _indexed(path: Path, state: tuple[object, ...]) -> TarIndex:
    places: dict[str, tuple[int, int]] = {}
    odd = 0
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    places[plain_name(member.name)] = (member.offset_data, member.size)
                elif not member.isdir():
                    odd += 1
    except OSError:
        raise
    except Exception as error:  # a boundary: tarfile raises nearly anything on damaged headers
        packed = is_compressed_tar(path)
        why = "it is compressed: pictures cannot be read from it in any order" if packed else _reason(error)
        raise OSError(f"{path} is not a usable tar file: {why}") from None
    return TarIndex(places, odd)


def plain_name(name: str) -> str:
    """A tar member's name as a path below the archive: `./a/b.png` and `/a/b.png` are `a/b.png`."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _reason(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _is_plain_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, mode="r:"):
            return True
    except (tarfile.TarError, OSError, EOFError):
        return False
