"""Pictures as the store sees them: bytes with a digest, in folders or inside zip and tar files."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..manifests.manifest import Manifest
from ..manifests.places import Places
from .archives import Archive, bounded, inside_archive, open_archive
from .seen import Seen, State

T = TypeVar("T")
S = TypeVar("S", bound="Source")
CHANGED = "its bytes changed while it was read"
_AHEAD = 4096
"""Pictures whose hashing is asked for at a time."""


class Source(Protocol):
    """What samples' rows are made of, by the paths in the manifest; threads share it, and processes are sent it.

    `PictureSource` reads files; whoever makes rows of something else that a path leads to gives `extract` another.
    """

    def digest(self, path: str) -> str:
        """Identify what a sample's row follows from, in 64 hex digits; raises OSError where it cannot be read."""

    def content(self, path: str) -> tuple[bytes, str, State | None]:
        """Bytes for the embedder, the digest of what they were made from, as it is now, and the state of the one file
        that it follows from; None where that is not to be remembered.

        Raises
        ------
        OSError
            If it cannot be read, which may pass.
        Masked
            If there is nothing to make a row of.
        """

    def state(self, path: str) -> State | None:
        """What the file system says of the one file that the digest follows from; None to have it asked every time."""


class PictureSource:
    """Reads the pictures of a manifest; safe to use from several threads, and from processes forked meanwhile.

    Parameters
    ----------
    root : Path
        Folder, zip file or tar file that the pictures' paths start at.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._places = Places(root)
        self._local = threading.local()
        self._archives: dict[Path, Path | None] = {}

    def read(self, path: str) -> bytes:
        """Bytes of one picture; where none lies under its path, of the only one that the path may mean (see `Places`).

        Raises
        ------
        OSError
            If it is missing, unreadable, or larger than 256 MiB.
        """
        if "\0" in path:  # no file system has such names; the calls would raise ValueError
            raise OSError("its path holds a NUL character")
        try:
            return self._read(self._root / path)
        except (FileNotFoundError, NotADirectoryError):
            meant = self._places.find(path)
            if meant is None or meant == path:
                raise
        return self._read(self._root / meant)

    def __reduce__(self) -> tuple[type[PictureSource], tuple[Path]]:
        """Send it to a process by its root: what is open stays here."""
        return PictureSource, (self._root,)

    def digest(self, path: str) -> str:
        """sha256 of the picture's bytes, in hex."""
        return hashlib.sha256(self.read(path)).hexdigest()

    def content(self, path: str) -> tuple[bytes, str, State | None]:
        """Bytes of one picture, their sha256, and the file's state, as `read_with_state` has them."""
        data, state = self.read_with_state(path)
        return data, hashlib.sha256(data).hexdigest(), state

    def read_with_state(self, path: str) -> tuple[bytes, State | None]:
        """Bytes of one picture, and the state of its file, None where it was changed so lately that this says little.

        Raises
        ------
        OSError
            As `read`, and if the file was written meanwhile, or not all of it was read.
        """
        before = self.state(path)
        data = self.read(path)
        if before is None:
            return data, None
        is_short = self._archive_of(self._root / path) is None and len(data) != before.size
        if is_short or self.state(path) != before:
            raise OSError(CHANGED)
        return data, None if before.is_racy(time.time()) else before

    def check(self, path: str) -> None:
        """Raise OSError where a picture, or the archive that it is in, cannot be opened; nothing of it is read."""
        full = self._root / path
        archive = self._archive_of(full)
        if archive is None:
            full.open("rb").close()
        else:
            open_archive(archive)

    def state(self, path: str) -> State | None:
        """What the file system says of the file that a picture is or is in; None where that cannot be told."""
        full = self._root / path
        try:
            found = os.stat(full)
        except (OSError, ValueError):  # of a path that holds a NUL character
            archive = self._archive_of(full)
            if archive is None:
                return None
            try:
                found = os.stat(archive)
            except OSError:
                return None
        return State.of(found) if stat.S_ISREG(found.st_mode) else None

    def _archive_of(self, full: Path) -> Path | None:
        """The archive that a path leads into; each is looked for once a folder."""
        folder = full.parent
        if folder not in self._archives:
            inside = None if "\0" in str(full) else inside_archive(full)
            self._archives[folder] = None if inside is None else inside[0]
        return self._archives[folder]

    def _read(self, full: Path) -> bytes:
        by_process: dict[int, dict[Path, Archive[Any]]] = self._local.__dict__.setdefault("opened", {})
        opened = by_process.setdefault(os.getpid(), {})  # a forked process would share each file's position
        for archive in opened.keys() & set(full.parents):
            return self._member(opened, archive, full.relative_to(archive).as_posix())
        try:
            if full.exists() and not full.is_file() and not full.is_dir():  # a pipe or a device has no end
                raise OSError("is no file")
            return bounded(full.stat().st_size, full.read_bytes)
        except (FileNotFoundError, NotADirectoryError):
            inside = inside_archive(full)
            if inside is None:
                raise
        opened[inside[0]] = open_archive(inside[0])
        return self._member(opened, *inside)

    @staticmethod
    def _member(opened: dict[Path, Archive[Any]], archive: Path, member: str) -> bytes:
        try:
            return opened[archive].read(member)
        except OSError as error:
            if error.errno is not None and not isinstance(error, FileNotFoundError):
                del opened[archive]  # its file handle may be stale for good (ESTALE); the next read opens it anew
            raise


def digests(
    manifest: Manifest,
    *,
    workers: int = 4,
    progress: Callable[[int], None] | None = None,
    seen: Seen | None = None,
    source: Source | None = None,
    later: NDArray[np.bool_] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Hash every picture of a manifest; with `seen`, those alone that may have changed since they were read.

    Parameters
    ----------
    manifest : Manifest
    workers : int
        Threads.
    progress : callable, optional
        Told of each picture.
    seen : Seen, optional
        Knows pictures that were read before, and is told of those that are read now.
    later : ndarray of shape (n,), bool, optional
        Pictures that will be read in any case: those that `seen` does not know are left to that, if they are there.
    source : Source, optional
        What the digests are of, where that is not the manifest's pictures.

    Returns
    -------
    list of str
        sha256 in hex per sample, in order; empty where the picture cannot be read, or is left to later.
    dict
        sample_id to reason, for those that cannot be read.
    """

    def digest_of(source: Source, i: int) -> str:
        path = manifest.samples[i].path
        if seen is None:
            return source.digest(path)
        before = source.state(path)
        known = None if before is None else seen.digest(path, before)
        if known is not None:
            return known
        if before is not None and later is not None and later[i]:
            return ""
        _, digest, state = source.content(path)
        if state is not None:
            seen.note(path, state, digest)
        return digest

    source = PictureSource(manifest.root) if source is None else source
    found, failed = _each(manifest, source, digest_of, workers=workers, progress=progress)
    return [digest or "" for digest in found], failed


def each(
    manifest: Manifest,
    use: Callable[[bytes], T],
    *,
    workers: int = 4,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[T | None], dict[str, str]]:
    """Read every picture of a manifest once and make something of its bytes, in several threads.

    Returns
    -------
    list
        What `use` gave per sample, in order; None where the picture cannot be read.
    dict
        sample_id to reason, for those that cannot be read.
    """

    def one(source: PictureSource, i: int) -> T:
        return use(source.read(manifest.samples[i].path))

    return _each(manifest, PictureSource(manifest.root), one, workers=workers, progress=progress)


def _each(
    manifest: Manifest,
    source: S,
    use: Callable[[S, int], T],
    *,
    workers: int,
    progress: Callable[[int], None] | None,
) -> tuple[list[T | None], dict[str, str]]:
    failed: dict[str, str] = {}

    def one(i: int) -> T | None:
        try:
            return use(source, i)
        except (OSError, MemoryError) as error:
            failed[manifest.samples[i].sample_id] = reason_of(error)
            return None

    out: list[T | None] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(manifest), _AHEAD):  # so that not a million calls wait in memory
            for found in pool.map(one, range(start, min(start + _AHEAD, len(manifest)))):
                out.append(found)
                if progress is not None:
                    progress(1)
    return out, failed


def repeats(manifest: Manifest, found: Sequence[str]) -> list[list[int]]:
    """Positions of samples whose pictures are the same bytes, one list a picture that stands more than once."""
    more_than_once = {digest for digest, count in Counter(found).items() if digest and count > 1}
    places: dict[str, list[int]] = {}
    for i, digest in enumerate(found):
        if digest in more_than_once:
            places.setdefault(digest, []).append(i)
    return list(places.values())


def across_splits(manifest: Manifest, groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """Those repeated pictures that stand in more than one split: they leak."""
    return [list(g) for g in groups if len({manifest.samples[i].split for i in g}) > 1]


def reason_of(error: Exception) -> str:
    """One line for the quarantine, without machine paths that would differ between runs."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "missing"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    if isinstance(error, MemoryError):
        return f"memory did not suffice {error}".strip()
    return " ".join(str(error).split())[:300] or type(error).__name__


def tells_of_reading(reason: str) -> bool:
    """True for what `reason_of` says of a picture that could not be read.

    Stores of before keep such an entry under the picture's digest where only its second read failed: it says nothing
    about the picture.
    """
    plain = reason in {"missing", "permission denied", "is a folder", "is no file", CHANGED}
    return plain or reason.startswith("[Errno ") or " cannot be read: " in reason
