"""Which pictures were read before, and what they looked like then, so that a finished dataset is not read again.

A picture whose size and times of change are those of when it was read has the digest that it had: one call a picture in
place of all of its bytes. The times are the modification and the change of status (`mtime`, `ctime`), as Git's index
has them; the latter is set by the system, so that a file replaced by one of its size under the old date is noticed. A
picture that was changed within `RACY_S` of being read is read again: a clock's grain may hide one more change.

What is kept here is no part of a store: a file beside the dataset's manifest, one for each part of a run, which may be
removed at any time, and is not written where the folder is read-only. Nothing that is promised rests on it but which
pictures `extract` reads again: `verify --images` and ``check_pictures`` read all of them.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import CommitError
from ..rows import files

RACY_S = 2.0
"""Coarsest grain of the clocks of file systems that pictures lie on (FAT, NFS 2)."""
WRITTEN_EVERY_S = 10.0
"""Seconds between two writings while pictures are read, at least."""
ENDING = ".seen"
_MAGIC = b"cer-seen\x01\0\0\0\0\0\0\0"
_ENTRY = np.dtype([("key", "V16"), ("size", "<i8"), ("mtime_ns", "<i8"), ("ctime_ns", "<i8"), ("sha256", "V32")])
_PIECE = 1 << 16
"""Entries that are looked through at a time where few are wanted."""
log = logging.getLogger(__name__)


class State(NamedTuple):
    """What the file system says of a picture's file, or of the archive that it is in."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> State:
        """Take it from what `os.stat` gives."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def is_racy(self, now_s: float) -> bool:
        """Whether it was changed so lately, or by a clock that is ahead, that another change may look the same."""
        return max(self.mtime_ns, self.ctime_ns) > (now_s - RACY_S) * 1e9


class Seen:
    """What is known of a dataset's pictures, and what a run adds to it; safe to use from several threads.

    Parameters
    ----------
    folder : Path
        Of the dataset in the store; it need not be there yet.
    root : Path
        Where the pictures' paths start: the same path below another root is another picture.
    part : (int, int)
        The part k of n whose pictures this run looks at; each part keeps a file of its own.
    paths : iterable of str, optional
        The only pictures that will be asked for: what else the files know takes no memory. Default: any may be.
    trusted : bool
        False knows no picture, so that all are read, and keeps what is found.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        part: tuple[int, int] = (0, 1),
        *,
        paths: Iterable[str] | None = None,
        trusted: bool = True,
    ) -> None:
        self._folder, self._root, self._part = folder, os.fsencode(os.path.realpath(root)), part
        self._wanted = None if paths is None else _heads_of(b"".join(map(self._key, paths)))
        self._unread = self._tables() if trusted else iter(())
        self._tables_read: list[_Table] = []
        self._reading = threading.Lock()
        self._noted: dict[bytes, tuple[State, bytes]] = {}
        self._written, self._written_at = 0, time.monotonic()

    def digest(self, path: str, state: State) -> str | None:
        """Return the sha256 of a picture that has not changed since it was read; None of any other."""
        key = self._key(path)
        for number in itertools.count():
            if number == len(self._tables_read) and not self._read_another(number):
                return None
            digest = self._tables_read[number].find(key, state)
            if digest is not None:
                self._noted[key] = state, digest
                return digest.hex()
        return None

    def note(self, path: str, state: State, digest: str) -> None:
        """Keep the digest of a picture that was read while its file was in this state, unless that says too little."""
        if not state.is_racy(time.time()):
            self._noted[self._key(path)] = state, bytes.fromhex(digest)

    def write_more(self, *, at_least: float = 1.0) -> None:
        """Write if more is known than was written: `at_least` so many times as much, and not as often as it is asked.

        A run that writes so now and then loses what it read last if it is killed, and takes a share of its time.
        """
        soon = at_least > 1 and time.monotonic() - self._written_at < WRITTEN_EVERY_S
        if not soon and len(self._noted) > self._written * at_least:
            self.write()

    def write(self) -> None:
        """Keep what was found, in the place of what this part kept before; a folder that is read-only keeps nothing."""
        self._written, self._written_at = len(self._noted), time.monotonic()
        entries = np.array(
            [(key, *state, digest) for key, (state, digest) in sorted(self._noted.items())], dtype=_ENTRY
        )
        body = entries.tobytes()
        data = _MAGIC + hashlib.sha256(body).digest() + body
        path = self._path(*self._part)
        try:
            if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
                files.replace(path, data)
            if self._part[1] == 1:  # the whole dataset was looked at: what its parts had kept is in here
                for other in self._folder.glob(f"*{ENDING}"):
                    if other != path:
                        files.remove(other)
        except (CommitError, OSError) as error:
            log.debug("not kept which pictures were read: %s", error)

    def _path(self, k: int, n: int) -> Path:
        return self._folder / (f"pictures{ENDING}" if n == 1 else f"pictures-{k}-of-{n}{ENDING}")

    def _read_another(self, number: int) -> bool:
        """Read the next file: only if none before it knows some picture. False if there is no other."""
        with self._reading:
            if number < len(self._tables_read):  # another thread has just read it
                return True
            self._tables_read += itertools.islice(self._unread, 1)
            return number < len(self._tables_read)

    def _tables(self) -> Iterator[_Table]:
        """The files that there are, those that this part is likely to be in first, each read when it is asked for."""
        likely = [self._path(*self._part), self._path(0, 1)]
        others = [path for path in sorted(self._folder.glob(f"*{ENDING}")) if path not in likely]
        for path in dict.fromkeys([*likely, *others]):
            table = _read(path, self._wanted)
            if table is not None:
                yield table

    def _key(self, path: str) -> bytes:
        name = path.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(self._root + b"\0" + name, digest_size=16).digest()


class _Table:
    """The entries of a file, sorted by key."""

    def __init__(self, entries: NDArray[np.void]) -> None:
        self._entries = entries
        self._heads = _heads_of(entries["key"].tobytes())

    def find(self, key: bytes, state: State) -> bytes | None:
        """The digest of a picture whose file was in this state."""
        head = int.from_bytes(key[:8], "big")
        at = bisect.bisect_left(self._heads, head)
        while at < len(self._heads) and self._heads[at] == head:
            entry = self._entries[at]
            if entry["key"].tobytes() == key:
                is_same = (int(entry["size"]), int(entry["mtime_ns"]), int(entry["ctime_ns"])) == state
                return entry["sha256"].tobytes() if is_same else None
            at += 1
        return None


def _heads_of(keys: bytes) -> NDArray[np.uint64]:
    """The first eight bytes of each key, as numbers that are sorted as the keys are."""
    return np.frombuffer(keys, ">u8").reshape(-1, 2)[:, 0].astype(np.uint64)


def _read(path: Path, wanted: NDArray[np.uint64] | None) -> _Table | None:
    """The entries of a file, sorted by key; None where there is none, or it is damaged: then all is read anew.

    With `wanted` only entries whose keys begin so are kept, and the file is never in memory as a whole.
    """
    digest, kept = hashlib.sha256(), list[NDArray[np.void]]()
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC) + 32)
            while piece := file.read(-1 if wanted is None else _PIECE * _ENTRY.itemsize):
                digest.update(piece)
                entries = np.frombuffer(piece, dtype=_ENTRY, count=len(piece) // _ENTRY.itemsize)
                if wanted is not None:
                    entries = entries[np.isin(_heads_of(entries["key"].tobytes()), wanted)]
                kept.append(entries)
    except OSError:
        return None
    if head != _MAGIC + digest.digest():
        log.debug("%s is no list of pictures that were read, and is not used", path)
        return None
    return _Table(kept[0] if len(kept) == 1 else np.concatenate([np.empty(0, _ENTRY), *kept]))
