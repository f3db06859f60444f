"""Files below a folder or inside an archive, under one set of names; archive litter is passed over."""

from __future__ import annotations

import codecs
import contextlib
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from ....kit.pictures import HEAD_BYTES, picture_kind
from ....kit.text import decoded, first_line, is_told_separator, lines_of
from ...errors import ManifestError, listing
from ...pictures.archives import (
    DAMAGED,
    MAX_BYTES,
    TarArchive,
    ZipArchive,
    bounded,
    is_compressed_tar,
    looks_like,
    plain_name,
    tar_name,
)
from ..csv_table import ADVICE, stream_table
from ..manifest import has_controls
from ..places import folded

PICTURE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff",
})  # fmt: skip
"""Endings of pictures; what ends otherwise is looked into."""
_TEXT_SUFFIXES = frozenset({".csv", ".txt"})
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_LITTER = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})
_FOLLOWED = 16
"""So many times one link is followed: links that lead to one another in many ways must end."""
_FIRST_LINE = 4096
"""Bytes that are looked at for a text's first line."""
_BAD_NAME = "file whose name a manifest cannot hold: not UTF-8, control characters, or a blank at its end"


class Tree:
    """Files of a dataset, whatever holds them.

    Links to folders and files are followed in a folder, and never inside an archive; what leads back to a folder above
    ends there.

    Parameters
    ----------
    root : Path
        A folder, a zip file, a tar file, or a single `.csv` or `.txt` file. Of a compressed tar file texts can be
        read, pictures cannot: `pictures` and `picture` refuse.
    encoding : str, optional
        Of names in an archive that does not say it, and of texts that are not UTF-8.

    Raises
    ------
    ManifestError
        If it is none of these, or damaged.
    """

    def __init__(self, root: Path, encoding: str | None = None) -> None:
        self.root = root
        self.odd = 0
        """Links, devices and members whose names lead out of the archive, which are passed over."""
        self.left_out: Counter[str] = Counter()
        """What else is passed over: reason to number."""
        self.notes: list[str] = []
        """What a user should know about the files."""
        self._encoding = _known(encoding)
        self._lone = root.is_file() and root.suffix.lower() in _TEXT_SUFFIXES
        self.start = root.parent if self._lone else root
        """Where the names start, for a manifest's root."""
        if has_controls(str(root)):
            raise ManifestError(
                f"the name of {str(root)!r} is not UTF-8 text or holds control characters, which no manifest can say: "
                f"rename it"
            )
        self._archive: ZipArchive | TarArchive | None = None
        self._compressed = False
        self._inodes: dict[str, tuple[int, int]] = {}
        self._linked: set[str] = set()
        found = self._all_names()
        inside = [name for name in found if not _leads_out(name)]
        self.odd += len(found) - len(inside)
        kept = [name for name in inside if not self._is_litter(name)]
        self._stored = {self._meant(name): name for name in kept if self._meant(name) != name}
        """Names with backslashes, which some tools unpack so from archives of Windows, by what they mean."""
        self.names = sorted({self._meant(name) for name in kept if self._is_usable(name)})
        self._present = frozenset(self.names)
        self._folded: dict[str, str | None] = {}
        for name in self.names:
            key = folded(name)
            self._folded[key] = name if key not in self._folded else None
        self._by_file: dict[str, list[str]] | None = None
        self._used: set[str] = set()
        self._tell_archive()

    def pictures(self) -> list[str]:
        """Names of all pictures, sorted; from now on `left_out` counts by their endings the files that are none.

        What ends as a picture is one, and told by whoever opens it if it is not; of others the first bytes decide.
        """
        found, others = list[str](), Counter[str]()
        for name in self.names:
            ending = PurePosixPath(name).suffix.lower()
            if ending in PICTURE_SUFFIXES:
                found.append(name)
            elif name not in self._used:
                kind, opened = picture_kind(self._head(name))
                what = f"{ending} file" if ending.strip(".") else "file without an ending"
                if opened:
                    found.append(name)
                else:
                    others[f"{what}: {kind}, which cannot be opened; convert it to PNG or JPEG" if kind else what] += 1
        if found and self._compressed:
            raise self._no_pictures()
        self.left_out.update(others)
        return found

    def picture(self, name: str) -> str:
        """The name of a picture as it is here, letter case and form of accents aside; `name` where there is none."""
        if self._compressed:
            raise self._no_pictures()
        if name in self._present:
            return name
        return self._folded.get(folded(name)) or name

    def called(self, file: str) -> list[str]:
        """All files of this name, in whatever folder, letter case and form of accents aside."""
        if self._by_file is None:
            self._by_file = {}
            for name in self.names:
                self._by_file.setdefault(folded(name.rpartition("/")[2]), []).append(name)
        return self._by_file.get(folded(file), [])

    def path(self, name: str) -> str:
        """What a manifest calls the file of this name."""
        return self._stored.get(name, name)

    def use(self, names: Iterable[str]) -> None:
        """Say that these files are no pictures, and known to be."""
        self._used.update(names)

    def reached_twice(self, names: Iterable[str]) -> list[list[str]]:
        """Of these files, those that are one and the same by way of links."""
        if not self._linked:
            return []
        same: dict[tuple[int, int], list[str]] = {}
        for name in names:
            if name in self._inodes:
                same.setdefault(self._inodes[name], []).append(name)
        return [group for group in same.values() if len(group) > 1 and not self._linked.isdisjoint(group)]

    def archives(self) -> list[str]:
        """Archives among the files, which are not looked into."""
        return [name for name in self.names if name.lower().endswith(_ARCHIVE_SUFFIXES)]

    def __contains__(self, name: str) -> bool:
        return name in self._present

    def find(self, ending: str) -> list[str]:
        """Names that are `ending` or end with `/ending`, letter case aside; the shallowest first."""
        wanted = "/" + folded(ending)
        return sorted((n for n in self.names if ("/" + folded(n)).endswith(wanted)), key=lambda n: (n.count("/"), n))

    def find_one(self, ending: str, expected: str, part: str = "") -> str:
        """The one name that ends so; where there are several, the one below a folder called `part`.

        Raises
        ------
        ManifestError
            If there is none, or still several; says what was expected.
        """
        found = self.find(ending)
        if not found and ending.endswith(".txt"):  # as a spreadsheet saves it
            found = self.find(ending.removesuffix("txt") + "csv")
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
        self._used.add(name)
        with self._telling(name):
            if self._compressed:
                with self.stream(name) as file:
                    data = file.read(MAX_BYTES + 1)
                return bounded(len(data), lambda: data)
            if self._archive is not None:
                return self._archive.read(name)
            path = self.start / self.path(name)
            return bounded(path.stat().st_size, path.read_bytes)

    def text(self, name: str) -> str:
        """A small text file, whatever its mark and line ends; in the tree's encoding where it is not UTF-8."""
        data, where = self.read(name), Path(self.where(name))
        try:
            return decoded(data, where, advice=ADVICE, error=ManifestError)
        except ManifestError:
            if self._encoding is None:
                raise
        return decoded(data, where, encoding=self._encoding, advice=ADVICE, error=ManifestError)

    def lines(self, name: str) -> Iterator[tuple[int, str]]:
        """(number from 1, text) of each line that is not blank; Excel's `sep=;` is none."""
        for number, line in enumerate(lines_of(self.text(name)), 1):
            if line.strip() and not (number == 1 and is_told_separator(line)):
                yield number, line.strip()

    def first_line(self, name: str) -> str:
        """The first line of a file of any kind and size; for a look at what it is."""
        with self.stream(name) as file:
            return first_line(file.read(_FIRST_LINE))

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """Open one file of any size, to be read from its beginning on; damage found on the way is told."""
        with contextlib.ExitStack() as opened, self._telling(name):
            self._used.add(name)
            if isinstance(self._archive, ZipArchive):
                yield opened.enter_context(self._archive.open(name))
            elif self._archive is not None or self._compressed:
                tar = opened.enter_context(tarfile.open(self.root, encoding="utf-8", errors="surrogateescape"))
                member = next(m for m in tar if m.isreg() and self._tar_name(m) == name)
                file = tar.extractfile(member)
                assert file is not None, "a regular file has content"
                yield opened.enter_context(file)
            else:
                yield opened.enter_context((self.start / self.path(name)).open("rb"))

    def rows(
        self, name: str, columns: Sequence[str], wanted: Sequence[str], *, headless: bool = False, fields: str = ""
    ) -> Iterator[tuple[int, list[str]]]:
        """(line, cells of the wanted columns) of each row of a CSV file of any size; see `stream_table`."""
        return stream_table(
            lambda: self.stream(name),
            Path(self.where(name)),
            columns=columns,
            wanted=wanted,
            headless=headless,
            fields=fields,
            encoding=self._encoding,
        )

    def where(self, name: str) -> str:
        """What error messages call a file."""
        return str(self.start / self.path(name))

    def _all_names(self) -> list[str]:
        if self.root.is_dir():
            broken: list[str] = []
            found = list(self._walk(self.root, "", (), Counter(), broken))
            if broken:
                self.left_out["link whose target is not there"] = len(broken)
                self.notes.append(f"{len(broken):,} links lead nowhere: {listing(broken)}")
            return found
        if self._lone:
            return [self.root.name]
        try:
            if zipfile.is_zipfile(self.root):
                self._archive = ZipArchive(self.root, self._encoding)
                return list(self._archive.names)
            if is_compressed_tar(self.root):
                self._compressed = True
                with tarfile.open(self.root, encoding="utf-8", errors="surrogateescape") as tar:
                    return [self._tar_name(member) for member in tar if member.isreg()]
            if tarfile.is_tarfile(self.root):
                self._archive = TarArchive(self.root, self._encoding)
                return list(self._archive.names)
        except DAMAGED as error:
            raise ManifestError(f"{self.root} is a damaged archive: {error}") from None
        why = looks_like(self.root)
        raise ManifestError(
            f"{self.root} is neither a folder nor a zip file nor a tar file{why and f'{chr(10)}  {why}'}"
        )

    def _walk(
        self,
        folder: Path,
        above: str,
        path: tuple[tuple[int, int], ...],
        followed: Counter[tuple[int, int]],
        broken: list[str],
    ) -> Iterator[str]:
        """Names of the files in a folder and those in it, through links; `path` is the folders that lead here."""
        state = folder.stat()
        path = (*path, (state.st_dev, state.st_ino))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except PermissionError:
            self.left_out["folder that may not be read"] += 1
            return
        except OSError as error:
            raise ManifestError(f"{folder} cannot be listed: {error}") from None
        for entry in entries:
            name = above + entry.name
            link = entry.is_symlink()
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
                if link and not is_folder and not is_file:
                    entry.stat()  # raises where the link leads nowhere
            except OSError:
                broken.append(name)
                continue
            if is_folder:
                if link:
                    target, own = entry.stat(), entry.stat(follow_symlinks=False)
                    followed[own.st_dev, own.st_ino] += 1
                    if (target.st_dev, target.st_ino) in path or followed[own.st_dev, own.st_ino] > _FOLLOWED:
                        self.left_out["link that leads back to a folder above it"] += 1
                        continue
                for inner in self._walk(Path(entry.path), f"{name}/", path, followed, broken):
                    if link:
                        self._linked.add(inner)
                    yield inner
            elif is_file:
                if link:
                    target = entry.stat()
                    self._inodes[name] = (target.st_dev, target.st_ino)
                    self._linked.add(name)
                else:
                    self._inodes[name] = (state.st_dev, entry.inode())
                yield name
            else:
                self.left_out["pipe, socket or device"] += 1

    def _tar_name(self, member: tarfile.TarInfo) -> str:
        name, raw = tar_name(member.name)
        return plain_name(raw.decode(self._encoding or "cp437")) if name is None else name

    def _head(self, name: str) -> bytes:
        """The first bytes of a file; none where they cannot be read, or only by way of all that stands before."""
        try:
            if self._archive is not None:
                return self._archive.head(name, HEAD_BYTES)
            if not self._compressed:
                with (self.start / self.path(name)).open("rb") as file:
                    return file.read(HEAD_BYTES)
        except OSError:
            pass
        return b""

    def _meant(self, name: str) -> str:
        """A file's name with the slashes that it means; an archive has seen to that itself."""
        return name.replace("\\", "/") if self._archive is None else name

    def _is_litter(self, name: str) -> bool:
        """True for what operating systems leave behind, and for hidden files; hidden pictures are counted."""
        parts = self._meant(name).split("/")
        if any(part.lower() in _LITTER or part.startswith("._") for part in parts):
            return True
        hidden = any(part.startswith(".") for part in parts)
        if hidden and PurePosixPath(parts[-1]).suffix.lower() in PICTURE_SUFFIXES:
            self.left_out["hidden picture: its name or its folder's begins with a dot"] += 1
        return hidden

    def _is_usable(self, name: str) -> bool:
        usable = name == name.strip() and not has_controls(name)
        if not usable:
            self.left_out[_BAD_NAME] += 1
        return usable

    def _tell_archive(self) -> None:
        """Note what an archive holds that is not taken, or not as it is named; refuse one that cannot be read."""
        if self._archive is None:
            return
        members = self._archive.members
        self.odd += members.odd
        if members.links:
            self.notes.append(
                f"{len(members.links):,} links inside the archive are not followed (first: {members.links[0]}): pack "
                f"what they lead to (tar --dereference; zip without -y)"
            )
        if members.replaced:
            self.left_out["member of an archive that a later one of its name replaces"] = members.replaced
        if members.undecided:
            self.notes.append(
                f"{len(members.undecided):,} names are in a code page that the archive does not tell, shown as cp437: "
                f"{listing(members.undecided)}\n  say it with --encoding, such as gbk, shift_jis or cp1252"
            )
        refused = self._archive.refused() if isinstance(self._archive, ZipArchive) else Counter[str]()
        if refused:
            told = ", ".join(f"{count:,} are {why}" for why, count in refused.items())
            fault = f"of {len(members.names):,} files in {self.root} {told}: Python cannot read them"
            if 2 * refused.total() > len(members.names):
                raise ManifestError(
                    f"{fault}\n  unpack it with another tool and name the folder, or pack it again as plain zip"
                )
            self.notes.append(fault)

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


def _known(encoding: str | None) -> str | None:
    try:
        return encoding and codecs.lookup(encoding).name
    except LookupError:
        raise ManifestError(f"no encoding {encoding!r}; such as gbk, shift_jis, cp1252, cp437") from None
