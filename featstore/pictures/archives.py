"""Pictures inside archives, read in any order: zip files, and tar files that are not compressed.

Members are only ever read, never unpacked, so no name can lead out of anywhere. Links, devices and sparse members are
no pictures: they are passed over and counted. A compressed tar file has no way to a member but through all that stand
before it; `Tree` reads label files from one, pictures must be unpacked.

A member is called as people mean it: backslashes of Windows' tools divide folders, `./` and a drive are dropped. Where
an archive does not say in which code page a name is, and it is not UTF-8, nothing can tell: such a name is shown as
code page 437 unless another is asked for, and found under its spelling in any of `CODE_PAGES`.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import lzma
import os
import re
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Generic, NamedTuple, TypeVar

from ..rows import files

SUFFIXES = (".zip", ".tar")
"""Endings of archives that a picture's path may lead into."""
MAX_BYTES = 256 * 1024 * 1024
"""Largest picture that is read."""

CODE_PAGES = (
    "cp437", "cp1252", "gb18030", "cp932", "big5", "cp949", "cp850", "cp852", "cp866", "cp1250", "cp1251", "cp1254",
)  # fmt: skip
"""Encodings of names that archives are found to hold without saying so."""

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
"""What reading a stream from a damaged archive raises."""


T = TypeVar("T")


class _Stored(NamedTuple, Generic[T]):
    """One member as an archive has it."""

    name: str | None
    """None: nothing says in which code page it is."""
    raw: bytes
    place: T


class Members(Generic[T]):
    """Where each plain file of an archive is, by the names that may be meant, and what cannot be taken."""

    names: tuple[str, ...]
    """Of two members of one name the later counts, as in unpacking."""
    undecided: tuple[str, ...]
    """Those of `names` whose code page nothing says."""
    links: tuple[str, ...]
    """Names of links, which are not followed."""
    odd: int
    """Links, devices and sparse members."""
    replaced: int
    """Members that a later one of the same name stands in for."""

    def __init__(self, stored: Iterable[_Stored[T]], links: Iterable[str], devices: int, encoding: str | None) -> None:
        self._places: dict[str, T] = {}
        self._spelt: dict[str, T | None] = {}
        undecided: dict[str, None] = {}
        self.replaced = 0
        for name, raw, place in stored:
            if name is None:
                name = self._undecided(raw, place, encoding)
                if not encoding:
                    undecided[name] = None
            self.replaced += name in self._places
            self._places[name] = place
        self.names, self.undecided, self.links = tuple(self._places), tuple(undecided), tuple(links)
        self.odd = len(self.links) + devices

    def find(self, name: str) -> T | None:
        """Where a member is; one of an undecided name under any spelling that leads to this one only."""
        found = self._places.get(name)
        return self._spelt.get(name) if found is None else found

    def _undecided(self, raw: bytes, place: T, encoding: str | None) -> str:
        """Note every spelling of a name, and give the one to show."""
        for page in CODE_PAGES:
            with contextlib.suppress(UnicodeDecodeError):
                name = plain_name(raw.decode(page))
                self._spelt[name] = place if self._spelt.get(name, place) is place else None
        try:  # in code page 437 a backslash may be half of a letter of another one
            return plain_name(raw.decode(encoding)) if encoding else raw.decode(CODE_PAGES[0])
        except UnicodeDecodeError:
            raise OSError(f"the name {raw!r} of a member is not in the encoding {encoding}") from None


class Archive(abc.ABC, Generic[T]):
    """A file of files, read by any number of threads; a forked process opens its own.

    Parameters
    ----------
    path : Path
    members : Members
        The plain files in it, and what else it holds.
    """

    def __init__(self, path: Path, members: Members[T]) -> None:
        self._path, self.members = path, members

    @property
    def names(self) -> tuple[str, ...]:
        """Members that are plain files, in the archive's order."""
        return self.members.names

    @abc.abstractmethod
    def read(self, member: str) -> bytes:
        """Bytes of one member; raises OSError if it is missing, damaged, or larger than 256 MiB."""

    @abc.abstractmethod
    def head(self, member: str, size: int) -> bytes:
        """The first bytes of one member; raises OSError."""

    def _place(self, member: str) -> T:
        place = self.members.find(member)
        if place is None:
            raise FileNotFoundError(2, "no such member", f"{self._path}/{member}")
        return place


def open_archive(path: Path, encoding: str | None = None) -> ZipArchive | TarArchive:
    """Open the archive at `path` by its content.

    Parameters
    ----------
    path : Path
    encoding : str, optional
        Code page of the names that the archive says nothing about.

    Raises
    ------
    OSError
        If it is neither a zip file nor an uncompressed tar file.
    """
    if zipfile.is_zipfile(path) or path.suffix.lower() == ".zip":
        return ZipArchive(path, encoding)
    return TarArchive(path, encoding)


def inside_archive(full: Path) -> tuple[Path, str] | None:
    """The archive that a path leads into, whatever it is called, and the member's name; None if it leads into none."""
    for parent in full.parents:
        if os.path.isfile(parent):
            is_one = parent.suffix.lower() in SUFFIXES or zipfile.is_zipfile(parent) or tarfile.is_tarfile(parent)
            return (parent, PurePosixPath(full.relative_to(parent)).as_posix()) if is_one else None
        if os.path.exists(parent):
            return None
    return None


def is_compressed_tar(path: Path) -> bool:
    """True for `.tar.gz`, `.tar.bz2`, `.tar.xz` and their short forms, by content."""
    if not path.is_file() or zipfile.is_zipfile(path) or _is_plain_tar(path):
        return False
    try:
        return tarfile.is_tarfile(path)
    except DAMAGED:  # inside its first block
        return False


_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_METHODS.add(getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED))  # Python 3.14
_LOOKALIKES = {
    b"7z\xbc\xaf\x27\x1c": "it is a 7z archive",
    b"Rar!\x1a\x07": "it is a RAR archive",
    b"PK\x03\x04": "it begins as a zip file, but has no end: cut short in a download, or the first of several parts",
    b"PK\x07\x08": "it is the first part of a zip file in several parts",
    b"\x28\xb5\x2f\xfd": "it is compressed by zstd",
    b"\x1f\x8b": "it is compressed by gzip, and holds no whole tar file",
    b"BZh": "it is compressed by bzip2, and holds no whole tar file",
    b"\xfd7zXZ\0": "it is compressed by xz, and holds no whole tar file",
    b"\x1f\x9d": "it is compressed by compress (.Z)",
}


def looks_like(path: Path) -> str:
    """What a file that is no archive of ours seems to be, by its first bytes, and what to do; empty if unknown."""
    with path.open("rb") as file:
        head = file.read(8)
    found = next((what for magic, what in _LOOKALIKES.items() if head.startswith(magic)), "")
    return f"{found}; unpack it and name the folder" if found else ""


class ZipArchive(Archive[zipfile.ZipInfo]):
    """A zip file."""

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        try:
            if _is_last_part(path):
                raise OSError(
                    f"{path} is the last of several parts: join them with: zip -s 0 {path.name} --out whole.zip"
                )
            self._zip = zipfile.ZipFile(path)
            files, links = [], []
            for info in self._zip.infolist():
                if info.is_dir() or info.filename.endswith("\\"):
                    continue
                if stat.S_ISLNK(info.external_attr >> 16):
                    links.append(info.filename)
                else:
                    files.append(_Stored(_zip_name(info), _zip_raw(info), info))
        except OSError:
            raise
        except Exception as error:  # a boundary: see `_telling`
            raise OSError(f"{path} is not a usable zip file: {_reason(error)}") from None
        super().__init__(path, Members(files, links, 0, encoding))

    def refused(self) -> Counter[str]:
        """Why members cannot be read, encrypted or packed in a way that Python does not know, to how many."""
        found = map(self.members.find, self.names)
        return Counter(reason for info in found if info is not None and (reason := _refused(info)))

    def open(self, member: str) -> IO[bytes]:
        """Open one member to be read from its beginning on; raises OSError or `zipfile.BadZipFile`."""
        return self._zip.open(self._readable(member))

    def head(self, member: str, size: int) -> bytes:
        with self._telling(member), self.open(member) as file:
            return file.read(size)

    def read(self, member: str) -> bytes:
        info = self._readable(member)
        with self._telling(member):
            return bounded(info.file_size, lambda: self._zip.read(info))

    def _readable(self, member: str) -> zipfile.ZipInfo:
        info = self._place(member)
        if reason := _refused(info):
            raise OSError(f"it is {reason} in its zip file: unpack that, or pack it again")
        return info

    @contextlib.contextmanager
    def _telling(self, member: str) -> Iterator[None]:
        """Turn whatever a member raises into an OSError, whose reason goes to quarantine with the picture.

        A boundary: zipfile and its decompressors raise nearly anything on what is damaged, or compressed in a way they
        do not know.
        """
        try:
            yield
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise OSError(f"{self._path}/{member} cannot be read: {_reason(error)}") from None


class TarArchive(Archive[tuple[int, int]]):
    """An uncompressed tar file: an index of where each member begins, and its size, and an open file."""

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        super().__init__(path, _indexed(path, encoding, files.state(path)))
        self._file = path.open("rb")
        self._lock = threading.Lock()

    def head(self, member: str, size: int) -> bytes:
        offset, whole = self._place(member)
        return self._take(member, offset, min(size, whole))

    def read(self, member: str) -> bytes:
        offset, size = self._place(member)
        return bounded(size, lambda: self._take(member, offset, size))

    def _take(self, member: str, offset: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(size)
        if len(data) != size:
            raise OSError(f"{self._path}/{member} cannot be read: the archive is cut short")
        return data

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # a reader's archives live as long as its thread
            self._file.close()


def bounded(size: int, read: Callable[[], bytes]) -> bytes:
    """What `read` gives, unless it would be more than `MAX_BYTES`."""
    if size > MAX_BYTES:
        raise OSError(f"larger than {MAX_BYTES // 2**20} MiB ({size:,} bytes)")
    return read()


@functools.lru_cache(maxsize=8)
def _indexed(path: Path, encoding: str | None, state: tuple[object, ...]) -> Members[tuple[int, int]]:
    """Read the headers of a tar file, once as long as the file stays as it is."""
    stored: list[_Stored[tuple[int, int]]] = []
    links: list[str] = []
    devices = 0
    try:
        with tarfile.open(path, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    stored.append(_Stored(*tar_name(member.name), (member.offset_data, member.size)))
                elif member.issym() or member.islnk():
                    links.append(member.name)
                elif not member.isdir():
                    devices += 1
    except OSError:
        raise
    except Exception as error:  # a boundary: tarfile raises nearly anything on damaged headers
        packed = is_compressed_tar(path)
        why = "it is compressed: pictures cannot be read from it in any order" if packed else _reason(error)
        raise OSError(f"{path} is not a usable tar file: {why}") from None
    return Members(stored, links, devices, encoding)


def tar_name(name: str) -> tuple[str | None, bytes]:
    """A tar member's name as it is meant, None if its code page is not known, and as it is stored."""
    raw = name.encode("utf-8", "surrogateescape")
    return (plain_name(name).lstrip("/") if _is_text(name) else None), raw


def plain_name(name: str) -> str:
    """A member's name as people mean it: `./a//b.png`, `a\\b.png` and `C:\\a\\b.png` are `a/b.png`."""
    spelt = re.sub(r"^[A-Za-z]:(?=/)", "", name.replace("\\", "/")).removeprefix("/" if name[1:2] == ":" else "")
    lead = "/" if spelt.startswith("/") else ""
    return lead + "/".join(part for part in spelt.split("/") if part not in ("", "."))


def _zip_name(info: zipfile.ZipInfo) -> str | None:
    """A zip member's name as people mean it; None if its code page is not known.

    The flag of UTF-8 says it, or Info-ZIP's extra field 0x7075 (APPNOTE 6.3.10, 4.6.9) if it is still of this name;
    else bytes that are UTF-8 are taken for that, which is what macOS and older tools of Linux write.
    """
    raw = _zip_raw(info)
    if info.flag_bits & 0x800 or raw.isascii():
        return plain_name(info.orig_filename)
    unicode = _unicode_path(info.extra, raw)
    for stored in (unicode, raw):
        try:
            return plain_name((stored or b"\xff").decode())
        except UnicodeDecodeError:
            continue
    return None


def _zip_raw(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")


def _unicode_path(extra: bytes, raw: bytes) -> bytes | None:
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        body, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 0x7075 and body[:1] == b"\1" and body[1:5] == struct.pack("<I", zlib.crc32(raw)):
            return body[5:]
    return None


def _refused(info: zipfile.ZipInfo) -> str:
    """Why Python cannot read a member; empty if it can."""
    if info.flag_bits & 1:
        return "encrypted"
    if info.compress_type not in _METHODS:
        name = {9: "Deflate64", 93: "zstd", 95: "xz", 98: "PPMd"}.get(
            info.compress_type, f"method {info.compress_type}"
        )
        return f"compressed by {name}"
    return ""


def _is_last_part(path: Path) -> bool:
    """True for the end of a zip file in several parts (APPNOTE 6.3.10, 4.3.16: the number of this disk)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 66_000))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    number = int.from_bytes(tail[at + 4 : at + 6], "little") if at >= 0 else 0
    return number not in (0, 0xFFFF)  # the latter: see its zip64 record


def _is_text(name: str) -> bool:
    """False for a name that holds bytes which are not UTF-8."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def _reason(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _is_plain_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, mode="r:"):
            return True
    except (tarfile.TarError, OSError, EOFError):
        return False
