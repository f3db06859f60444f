"""Files below a folder or inside an archive, under one set of names; archive litter is passed over."""

from __future__ import annotations

import contextlib
import csv
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from featstore.archives import (
    DAMAGED,
    MAX_BYTES,
    Archive,
    TarArchive,
    ZipArchive,
    bounded,
    is_compressed_tar,
    plain_name,
)
from featstore.csv_table import decoded
from featstore.errors import ManifestError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
_TEXT_SUFFIXES = frozenset({".csv", ".txt"})


class Tree:
    """Files of a dataset, whatever holds them.

    Parameters
    ----------
    root : Path
        A folder, a zip file, a tar file, or a single `.csv` or `.txt` file. Of a compressed tar file texts can be
        read, pictures cannot: `pictures` and `picture` refuse.

    Raises
    ------
    ManifestError
        If it is none of these, or damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.odd = 0
        """Links, devices and members whose names lead out of the archive, which are passed over."""
        self._lone = root.is_file() and root.suffix.lower() in _TEXT_SUFFIXES
        self.start = root.parent if self._lone else root
        """Where the names start, for a manifest's root."""
        self._archive: Archive | None = None
        self._compressed = False
        found = self._all_names()
        inside = [name for name in found if not _leads_out(name)]
        self.odd += len(found) - len(inside)
        self.names = sorted(name for name in inside if not _is_litter(name))
        self._present = frozenset(self.names)
        self._by_lower = {name.lower(): name for name in self.names}

    def pictures(self) -> list[str]:
        """Names of all picture files, sorted."""
        found = [name for name in self.names if PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES]
        if found and self._compressed:
            raise self._no_pictures()
        return found

    def picture(self, name: str) -> str:
        """The name of a picture as it is here, letter case aside; `name` itself where there is none."""
        if self._compressed:
            raise self._no_pictures()
        return name if name in self._present else self._by_lower.get(name.lower(), name)

    def __contains__(self, name: str) -> bool:
        return name in self._present

    def find(self, ending: str) -> list[str]:
        """Names that are `ending` or end with `/ending`, letter case aside; the shallowest first."""
        wanted = "/" + ending.lower()
        return sorted((n for n in self.names if ("/" + n.lower()).endswith(wanted)), key=lambda n: (n.count("/"), n))

    def find_one(self, ending: str, expected: str, part: str = "") -> str:
        """The one name that ends so; where there are several, the one below a folder called `part`.

        Raises
        ------
        ManifestError
            If there is none, or still several; says what was expected.
        """
        found = self.find(ending)
        if len(found) > 1 and part:
            found = [name for name in found if part in name.lower().split("/")]
        if len(found) != 1:
            wrong = "several" if found else "no"
            raise ManifestError(
                f"{wrong} {ending} under {self.root}{': ' + ', '.join(found) if found else ''}\n  expected {expected}"
            )
        return found[0]

    def read(self, name: str) -> bytes:
        """Bytes of one file of at most 256 MiB."""
        with self._telling(name):
            if self._compressed:
                with self.stream(name) as file:
                    data = file.read(MAX_BYTES + 1)
                return bounded(len(data), lambda: data)
            if self._archive is not None:
                return self._archive.read(name)
            path = self.start / name
            return bounded(path.stat().st_size, path.read_bytes)

    def text(self, name: str) -> str:
        """A small text file, whatever its byte-order mark and line ends."""
        return decoded(self.read(name), Path(self.where(name)))

    def lines(self, name: str) -> Iterator[tuple[int, str]]:
        """(number from 1, text) of each line that is not blank."""
        for number, line in enumerate(self.text(name).splitlines(), 1):
            if line.strip():
                yield number, line.strip()

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Open one file of any size, to be read from its beginning on; damage found on the way is told."""
        with contextlib.ExitStack() as opened, self._telling(name):
            if isinstance(self._archive, ZipArchive):
                archive = opened.enter_context(zipfile.ZipFile(self.root))
                yield opened.enter_context(archive.open(name))
            elif self._archive is not None or self._compressed:
                tar = opened.enter_context(tarfile.open(self.root))
                member = next(m for m in tar if m.isreg() and plain_name(m.name) == name)
                file = tar.extractfile(member)
                assert file is not None, "a regular file has content"
                yield opened.enter_context(file)
            else:
                yield opened.enter_context((self.start / name).open("rb"))

    def rows(self, name: str) -> Iterator[tuple[int, list[str]]]:
        """(line, cells) of each row of a CSV file of any size that is not blank, one at a time."""
        with self.stream(name) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            try:
                for row in reader:
                    if any(cell.strip() for cell in row):
                        yield reader.line_num, [cell.strip() for cell in row]
            except UnicodeDecodeError as error:
                raise ManifestError(f"{self.where(name)} is not UTF-8 text (byte {error.start})") from None
            except csv.Error as error:
                raise ManifestError(f"{self.where(name)}:{reader.line_num}: not valid CSV: {error}") from None

    def where(self, name: str) -> str:
        """What error messages call a file."""
        return str(self.start / name)

    def _all_names(self) -> list[str]:
        if self.root.is_dir():
            return [p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file()]
        if self._lone:
            return [self.root.name]
        try:
            if zipfile.is_zipfile(self.root):
                self._archive = ZipArchive(self.root)
                return list(self._archive.names)
            if is_compressed_tar(self.root):
                self._compressed = True
                with tarfile.open(self.root) as tar:
                    return [plain_name(member.name) for member in tar if member.isreg()]
            if tarfile.is_tarfile(self.root):
                self._archive = tar_archive = TarArchive(self.root)
                self.odd = tar_archive.odd
                return list(tar_archive.names)
        except DAMAGED as error:
            raise ManifestError(f"{self.root} is a damaged archive: {error}") from None
        raise ManifestError(f"{self.root} is neither a folder nor a zip file nor a tar file")

    @contextlib.contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        try:
            yield
        except DAMAGED as error:
            raise ManifestError(f"{self.where(name)} cannot be read: {error}") from None

    def _no_pictures(self) -> ManifestError:
        return ManifestError(
            f"{self.root} is a compressed tar file: every picture would be reached through all that stand before it\n"
            f"  unpack it and name the folder, or keep it as an uncompressed tar file or a zip file"
        )


def _leads_out(name: str) -> bool:
    return name.startswith(("/", "\\")) or ".." in name.split("/")


def _is_litter(name: str) -> bool:
    return any(part.startswith(".") or part in {"__MACOSX", "Thumbs.db", "desktop.ini"} for part in name.split("/"))
