"""Where the pictures are that a table or a list names: paths as people and other systems write them."""

from __future__ import annotations

import os
import re
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import ManifestError, listing
from ..pictures.archives import Members, inside_archive, open_archive

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:(?=/)")


def folded(name: str) -> str:
    """A name as it is compared where letter case and the form of its accents (NFC, NFD) do not matter."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def plain_path(text: str) -> str:
    """A path with slashes and nothing that means nothing: quotes, blanks around it, `./`, `//`, `file://`, `~`."""
    path = text.strip()
    if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'":
        path = path[1:-1].strip()
    if path.lower().startswith("file://"):
        path = re.sub(r"^(localhost)?/(?=[A-Za-z]:)|^localhost(?=/)", "", unquote(path[len("file://") :]))
    path = path.replace("\\", "/")
    if path.startswith("~/"):
        path = os.path.expanduser(path)
    lead = "/" if path.startswith("/") else ""
    return lead + "/".join(part for part in path.split("/") if part not in ("", "."))


class Places:
    """Finds files below a root by paths that are spelt otherwise there; safe to use from several threads.

    Parameters
    ----------
    root : Path
        Folder or archive that the paths start at.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.RLock()
        self._archives: dict[Path, Members[Any] | None] = {}
        self._folded: dict[Path, dict[str, str | None]] = {}

    def has(self, path: str) -> bool:
        """True if a file lies there under exactly this path."""
        full = self._root / path
        if "\0" in path:
            return False
        if os.path.isfile(full):
            return True
        inside = None if os.path.lexists(full) else inside_archive(full)
        members = None if inside is None else self._members(inside[0])
        return inside is not None and members is not None and members.find(inside[1]) is not None

    def find(self, path: str) -> str | None:
        """The path under which a file lies there: as it is, else plain, else the only one of other case or accents."""
        plain = plain_path(path)
        for reading in dict.fromkeys((path, plain)):
            if self.has(reading):
                return reading
        return None if "\0" in path or _is_absolute(plain) else self._spelt_otherwise(plain.split("/"))

    def _spelt_otherwise(self, parts: Sequence[str]) -> str | None:
        here, found = self._root, list[str]()
        for depth, part in enumerate(parts):
            if here.is_file():
                part = "/".join(parts[depth:])  # of an archive, whose names are whole paths
            name = part if os.path.lexists(here / part) else self._names(here).get(folded(part))
            if name is None:
                return None
            found.append(name)
            if here.is_file():
                return "/".join(found)
            here = here / name
        return "/".join(found) if here.is_file() else None

    def _names(self, holder: Path) -> dict[str, str | None]:
        """Folded names in a folder or an archive, to the one that there is of each; None where there are several."""
        with self._lock:
            if holder not in self._folded:
                names: dict[str, str | None] = {}
                for name in self._listed(holder):
                    key = folded(name)
                    names[key] = name if key not in names else None
                self._folded[holder] = names
            return self._folded[holder]

    def _listed(self, holder: Path) -> Iterable[str]:
        if holder.is_file():
            members = self._members(holder)
            return () if members is None else members.names
        try:
            return os.listdir(holder)
        except OSError:
            return ()

    def _members(self, archive: Path) -> Members[Any] | None:
        """What an archive holds; None if it cannot be read."""
        with self._lock:
            if archive not in self._archives:
                try:
                    self._archives[archive] = open_archive(archive).members
                except OSError:
                    self._archives[archive] = None
            return self._archives[archive]


def as_meant(paths: Sequence[str], root: Path, *, where: str, lines: Sequence[int]) -> tuple[list[str], list[str]]:
    """The paths of a table, read as they are meant where one reading lies on the disk.

    A path that lies nowhere stays, plainly spelt: its picture is missing. Absolute paths of another machine are taken
    below the root if they all begin alike, and what follows that is there.

    Parameters
    ----------
    paths : sequence of str
    root : Path
        Where they start.
    where : str
        The table, for messages.
    lines : sequence of int
        The line of each path.

    Returns
    -------
    list of str
        A path from the root for each; an absolute one only where it lies elsewhere.
    list of str
        What was read otherwise than it is written, for people.

    Raises
    ------
    ManifestError
        With the line, for a path that two files may be meant by, an address in the web, or a path of another machine
        of which nothing lies below the root.
    """
    places = Places(root)
    found: list[str] = []
    foreign: dict[int, str] = {}
    for i, (path, line) in enumerate(zip(paths, lines, strict=True)):
        reading = _reading(path, places, root, f"{where}:{line}")
        if _is_absolute(reading) and not places.has(reading):
            foreign[i] = reading
        found.append(reading)
    if foreign:
        start = _start_of(list(foreign.values()), places)
        for i, path in foreign.items():
            if start is not None:
                below = path[len(start) :].lstrip("/")
                found[i] = places.find(below) or below
            elif _DRIVE.match(path):
                raise ManifestError(
                    f"{where}:{lines[i]}: {paths[i]!r} is a path of another machine; no end of it lies below {root}\n"
                    f"  say where the pictures are with --pictures, or write paths from there"
                )
    otherwise = [f"{old!r} as {new!r}" for old, new in zip(paths, found, strict=True) if old != new]
    notes = [f"{len(otherwise):,} paths are read otherwise than they are written: {listing(otherwise)}"]
    return found, notes if otherwise else []


def _reading(path: str, places: Places, root: Path, where: str) -> str:
    """One path as it is meant; plainly spelt where it lies nowhere."""
    plain = plain_path(path)
    if plain == path and not _is_absolute(path):
        return path if places.has(path) else places.find(path) or path
    if _URL.match(path) and not path.lower().startswith("file://"):
        raise ManifestError(f"{where}: {path!r} is an address in the web: download the pictures, and list their files")
    literal = path if "\\" in path and places.has(path) else None
    if literal and places.has(plain):
        raise ManifestError(f"{where}: {path!r} may mean two files, {path!r} and {plain!r}: rename one of them")
    if literal:
        return literal
    if _is_absolute(plain):
        for start in dict.fromkeys((os.path.abspath(root), os.path.realpath(root))):
            if plain.startswith(f"{start}/".replace("//", "/")):
                return places.find(plain[len(start) :].lstrip("/")) or plain[len(start) :].lstrip("/")
        return plain
    return places.find(plain) or plain


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or bool(_DRIVE.match(path))


def starts(paths: Sequence[str]) -> list[str]:
    """What all these paths begin with and could be left out of them, the shortest first: whole folders, to a slash."""
    columns = zip(*(path.split("/")[:-1] for path in paths), strict=False)
    common = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    return ["/".join(common[:count]) + "/" for count in range(1, len(common) + 1)]


def _start_of(paths: Sequence[str], places: Places) -> str | None:
    """What to leave out at the beginning of all these absolute paths, so that most of them lie below the root."""
    some = paths[:: max(1, len(paths) // 100)]
    there = {
        start: sum(places.find(path[len(start) :].lstrip("/")) is not None for path in some) for start in starts(paths)
    }
    best = max(there, key=lambda start: (there[start], -len(start)), default="")
    return best if there.get(best) else None
