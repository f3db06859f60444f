"""The place of a store: its file system, tried out with real files, its free space, and the store itself."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..console import size_text
from . import Check, fail, guarded, ok, one_line, warn

_LITTLE_SPACE, _NO_SPACE = 10**9, 10**7
_STALE_S = 3600.0
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "lustre", "glusterfs", "ceph", "beegfs", "gpfs", "afs")
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def checks(store: Path) -> list[Check]:
    """All checks of a store's place; temporary files are made in it (or in the nearest folder there is) and removed."""
    place = next(p for p in (store, *store.absolute().parents) if p.is_dir())
    return [
        *guarded("store", lambda: _store(store), limit_s=20),
        *guarded("file system", lambda: _kind(place), limit_s=10),
        *guarded("free space", lambda: _space(place), limit_s=10),
        *guarded("file operations", lambda: _operations(place), limit_s=20),
    ]


def _store(path: Path) -> list[Check]:
    """Can it be read, and did killed writers or repairs leave anything?"""
    from ...featstore import FeatstoreError, Store

    if path.exists() and not path.is_dir():
        return [fail("store", f"{path} is a file, a store is a folder", "name another with --store or CER_STORE")]
    if not (path / "store.json").exists():
        if path.is_dir() and any(path.iterdir()):
            return [fail("store", f"{path} is neither empty nor a store", "name another with --store or CER_STORE")]
        return [ok("store", f"none at {path} yet", f"cer-feat extract … --store {path} makes one")]
    try:
        opened = Store(path)
        features = []
        for dataset in opened.datasets():
            opened.manifest(dataset)
            features += opened.features(dataset)
    except (FeatstoreError, OSError) as error:
        return [fail("store", one_line(error), "cer-feat verify says what is damaged")]
    counted = f"{len(opened.datasets())} datasets, {len(features)} features"
    found = [ok("store", f"{path}: {counted}, of a format this release reads")]
    left = [*path.glob(".tmp-*"), *path.glob("*/.tmp-*"), *path.glob("*/*/.tmp-*")]
    stale = [p for p in left if _age_s(p) > _STALE_S]
    aside = list(path.glob("*/*/damaged-*"))
    if stale:
        found.append(warn("stale files", f"{len(stale)} that killed runs left, first: {stale[0]}",
                          "the next cer-feat extract of that feature removes them"))  # fmt: skip
    if aside:
        found.append(warn("damaged shards", f"{len(aside)} set aside by verify --repair, first: {aside[0]}",
                          "delete them when cer-feat extract has brought their rows back"))  # fmt: skip
    return found


def _kind(place: Path) -> Check:
    mount, kind = mounted(place)
    if not kind:
        return ok("file system", "its type is not known on this system")
    text = f"{kind}, mounted at {mount}"
    if kind in _REMOTE:
        return warn(
            "file system", f"{text}: a network", "works, but slower; stage the store on a local disk for training"
        )
    if kind.startswith("fuse"):
        return warn("file system", f"{text}: FUSE", "what sync promises there depends on what serves it; keep a copy")
    if kind in ("tmpfs", "ramfs"):
        return warn("file system", f"{text}: memory", "a store there is gone after a restart, and takes memory")
    return ok("file system", text)


def mounted(place: Path) -> tuple[str, str]:
    """Mount point and type of the file system that a folder is on; empty where that cannot be known."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", ""
    found, real = ("", ""), place.resolve()
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if real.is_relative_to(point) and len(point) >= len(found[0]):  # of two mounts on one point the later counts
            found = (point, fields[2])
    return found


def _space(place: Path) -> Check:
    usage = shutil.disk_usage(place)
    text = f"{size_text(usage.free)} of {size_text(usage.total)} free at {place}"
    if not os.access(place, os.W_OK):
        return ok("free space", f"{text}; read-only, so none is needed")
    if usage.free < _NO_SPACE:
        return fail("free space", text, "make room: a shard of 2,048 rows of 2,304 float32 takes 19 MB")
    if usage.free < _LITTLE_SPACE:
        return warn("free space", text, "100,000 rows of 2,304 float32 take 0.9 GB; --dtype float16 halves that")
    return ok("free space", text)


def _operations(place: Path) -> list[Check]:
    """Try what the store relies on, in a temporary folder that is removed again."""
    try:
        with _scratch(place) as folder:
            return [check for name, probe in _PROBES for check in _tried(name, probe, folder)]
    except OSError as error:
        if error.errno in _READ_ONLY:
            return [warn("writing", f"{place} is read-only for you",
                         "reading and training work; to extract, name another --store")]  # fmt: skip
        return [fail("writing", f"no file can be made in {place}: {one_line(error)}", "name another --store")]


@contextlib.contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".tmp-doctor-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tried(name: str, probe: Callable[[Path], list[Check]], folder: Path) -> list[Check]:
    try:
        return probe(folder)
    except OSError as error:
        found = f"refused: {one_line(error.strerror or error)}"
        return [fail(name, found, "the store needs it; use another file system")]


def _committing(folder: Path) -> list[Check]:
    """What a store does to its files, done by its own calls."""
    from ...featstore.rows import files

    trial, elsewhere = files.try_out(folder), "use another file system"
    links = ok("hard links", "work")
    if trial.way != "link":
        links = warn("hard links", "refused", "shards are committed by a rename instead")
    exclusive = ok("exclusive names", "a name that exists is not written again")
    if not trial.is_exclusive:
        exclusive = fail("exclusive names", "a commit replaces a file that exists", f"{elsewhere}: writers could mix")
    rename = ok("rename", "replaces a file in one step")
    if not trial.replaces:
        rename = fail("rename", "a rename over a file does not replace it", elsewhere)
    sync = ok("sync", "files and folders")
    if os.name == "nt":
        sync = ok("sync", "files; this system does not sync folders")
    elif not trial.syncs_folders:
        sync = fail("sync", "files, but not folders", elsewhere)
    return [links, exclusive, rename, sync]


def _mapping(folder: Path) -> list[Check]:
    path, data = folder / "mapped", secrets.token_bytes(8192)
    path.write_bytes(data)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        same = mapped[:] == data
    return [ok("memory maps", "work") if same else fail("memory maps", "give other bytes", "use another file system")]


def _case(folder: Path) -> list[Check]:
    (folder / "Case").write_bytes(b"x")
    if (folder / "case").exists():
        advice = "features whose names differ only in case would clash: avoid them"
        return [warn("case of names", "not kept apart", advice)]
    return [ok("case of names", "kept apart")]


_PROBES: tuple[tuple[str, Callable[[Path], list[Check]]], ...] = (
    ("committing", _committing),
    ("memory maps", _mapping),
    ("case of names", _case),
)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # removed meanwhile by its writer
        return 0.0
