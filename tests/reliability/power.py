"""A simulated disk: every file operation is written down, and power cuts lose what was not synced.

What a power cut may leave is what POSIX allows, which is less than any real file system keeps. Of a file that was not
synced: nothing, a part, zeros or garbage. Of the changes to a folder's names since the folder was synced: any subset, a
rename being one change. A folder whose own name is lost takes everything inside with it.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cer_fusion.featstore.rows import files
from cer_fusion.kit import files as kit_files

FOLDER = -1
"""Stands for a folder where the number of a file could stand."""


@dataclass(frozen=True)
class Change:
    """Names of one folder that change together: to a file's number, to FOLDER, or to None where a name goes."""

    folder: str
    names: Mapping[str, int | None]


@dataclass(frozen=True)
class Written:
    """Bytes added to a file."""

    file: int
    data: bytes


@dataclass(frozen=True)
class FileSynced:
    """All of a file's bytes are on the disk."""

    file: int


@dataclass(frozen=True)
class FolderSynced:
    """All names of a folder are on the disk."""

    folder: str


@dataclass(frozen=True)
class Promised:
    """A caller was told that this file, with these bytes, is on the disk."""

    path: str
    data: bytes


Entry = Change | Written | FileSynced | FolderSynced | Promised


class Killed(BaseException):
    """Ends a simulated process; no handler of the code under test catches it."""


class RecordingOs:
    """Stands where a store's files say `os`: does what it is told, and writes down what that was.

    Parameters
    ----------
    root : Path
        Names are noted relative to this folder, which is taken as durable.
    without : str
        `fsync of files` or `fsync of folders` are left out, to see whether a test notices.
    links : bool
        Whether the file system knows hard links.
    """

    def __init__(self, root: Path, *, without: str = "", links: bool = True) -> None:
        self.log: list[Entry] = []
        self.dies_after: int | None = None
        """Number of operations after which the process is killed; nothing that it still tries has any effect."""
        self._root, self._without, self._links = root, without, links
        self._open: dict[int, int | str] = {}
        self._file_at: dict[str, int] = {}
        self._files = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        self._live()
        fd = os.open(path, flags, mode)
        if flags & os.O_CREAT:
            self._files += 1
            self._open[fd] = self._file_at[str(path)] = self._files
            self._change(path, self._files)
        else:
            self._open[fd] = self._relative(path)
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._live()
        written = os.write(fd, data)
        file = self._open[fd]
        assert isinstance(file, int)
        self._note(Written(file, bytes(data[:written])))
        return written

    def fsync(self, fd: int) -> None:
        self._live()
        target = self._open[fd]
        if isinstance(target, int) and self._without != "fsync of files":
            self._note(FileSynced(target))
        elif isinstance(target, str) and self._without != "fsync of folders":
            self._note(FolderSynced(target))

    def close(self, fd: int) -> None:
        del self._open[fd]  # first: once it is closed, another thread's file may have its number
        os.close(fd)

    def link(self, source: Path, target: Path) -> None:
        self._live()
        if not self._links:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        os.link(source, target)
        self._file_at[str(target)] = self._file_at[str(source)]
        self._change(target, self._file_at[str(target)])

    def replace(self, source: Path, target: Path) -> None:
        self._live()
        os.replace(source, target)
        self._file_at[str(target)] = file = self._file_at.pop(str(source))
        self._note(Change(self._relative(source.parent), {source.name: None, target.name: file}))

    def unlink(self, path: Path) -> None:
        self._live()
        os.unlink(path)
        self._file_at.pop(str(path), None)
        self._change(path, None)

    def mkdir(self, path: Path) -> None:
        self._live()
        os.mkdir(path)
        self._change(path, FOLDER)

    def promise(self, path: Path, data: bytes) -> None:
        """Note that a caller was told so."""
        self._live()
        self._note(Promised(self._relative(path), data))

    def _change(self, path: Path, target: int | None) -> None:
        self._note(Change(self._relative(path.parent), {path.name: target}))

    def _note(self, entry: Entry) -> None:
        self.log.append(entry)

    def _live(self) -> None:
        if self.dies_after is not None and len(self.log) >= self.dies_after:
            raise Killed

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self._root)


def instead_of_os(patch: pytest.MonkeyPatch, stand_in: Any) -> None:
    """Let every write to a store go through this: nothing else of the store's code touches the disk."""
    for module in (files, kit_files):
        patch.setattr(module, "os", stand_in)


@dataclass
class Disk:
    """What is on the disk for certain, and what is only in memory."""

    names: dict[str, dict[str, int]] = field(default_factory=dict)
    """Durable names of each folder."""
    pending: dict[str, list[Change]] = field(default_factory=dict)
    """Changes of each folder since it was synced, in order."""
    written: dict[int, bytes] = field(default_factory=dict)
    synced: set[int] = field(default_factory=set)

    def do(self, entry: Entry) -> None:
        """Take in one operation."""
        match entry:
            case Change(folder, names):
                self.pending.setdefault(folder, []).append(entry)
                for file in names.values():
                    if file is not None and file != FOLDER:
                        self.written.setdefault(file, b"")
            case Written(file, data):
                self.written[file] += data
                self.synced.discard(file)
            case FileSynced(file):
                self.synced.add(file)
            case FolderSynced(folder):
                self.names[folder] = _changed(self.names.get(folder, {}), self.pending.pop(folder, []))

    def after_power_cut(self, chance: random.Random, keep: float) -> dict[str, bytes | None]:
        """One legal state: path to content, None for folders. `keep` is how likely each unsynced thing survives."""
        names = {
            folder: _changed(
                self.names.get(folder, {}),
                [change for change in self.pending.get(folder, []) if chance.random() < keep],
            )
            for folder in self.names.keys() | self.pending.keys()
        }
        content = {
            file: data if file in self.synced or chance.random() < keep else _torn(data, chance)
            for file, data in self.written.items()
        }
        tree: dict[str, bytes | None] = {}
        _walk(".", names, content, tree)
        return tree


def materialise(tree: Mapping[str, bytes | None], folder: Path) -> None:
    """Put a state into a folder."""
    for path, data in sorted(tree.items()):  # a folder's name sorts before what is inside
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)


def _changed(names: dict[str, int], changes: list[Change]) -> dict[str, int]:
    out = dict(names)
    for change in changes:
        for name, target in change.names.items():
            if target is None:
                out.pop(name, None)
            else:
                out[name] = target
    return out


def _torn(data: bytes, chance: random.Random) -> bytes:
    """What may be found in place of bytes that were never synced."""
    part = data[: chance.randrange(len(data) + 1)]
    missing = len(data) - len(part)
    garbage = chance.randbytes(len(data))
    return chance.choice([b"", part, bytes(len(data)), part + bytes(missing), part + garbage[:missing], garbage])


def _walk(
    folder: str, names: dict[str, dict[str, int]], content: dict[int, bytes], tree: dict[str, bytes | None]
) -> None:
    for name, target in names.get(folder, {}).items():
        path = name if folder == "." else f"{folder}/{name}"
        if target == FOLDER:
            tree[path] = None
            _walk(path, names, content, tree)
        else:
            tree[path] = content[target]
