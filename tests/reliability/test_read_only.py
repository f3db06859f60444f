"""P20: a store that cannot be written can be trained from, and nothing is written beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cer_fusion.commands import feat, fuse
from cer_fusion.featstore import Store, verify
from cer_fusion.featstore.errors import CommitError
from cer_fusion.fusion import make_head
from tests.reliability import toy
from tests.reliability.mounts import CannotMountError, make_read_only, mounted


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A place with a filled store that refuses writes: a mount if possible, since permissions do not bind root."""
    manifest = toy.write_manifest(tmp_path, 42)
    try:
        with mounted(tmp_path / "place", "8m") as folder:
            toy.embed(manifest, folder / "store", shard_rows=8)
            make_read_only(folder)
            yield folder
        return
    except CannotMountError as reason:
        cannot_mount = str(reason)
    with _without_permission(tmp_path / "bare") as folder:
        toy.embed(manifest, folder / "store", shard_rows=8)
        _forbid(folder)
        if os.access(folder, os.W_OK):
            pytest.skip(f"permissions do not bind this user, and nothing can be mounted: {cannot_mount}")
        yield folder


def test_heads_are_trained_from_a_read_only_store_and_nothing_is_written_there(place, tmp_path, monkeypatch, figure):
    before = _listing(place)
    with pytest.raises(OSError, match=r"Read-only|Permission denied"):
        (place / "probe").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    trained = 0
    for head in ("linear", "mlp"):
        options = ["--set", "epochs=2"] if head == "mlp" else []
        command = ["train", "--head", head, "--store", str(place / "store"), "-o", f"run-{head}", *options]
        result = CliRunner().invoke(fuse.app, command)
        assert result.exit_code == 0, result.output
        assert (tmp_path / f"run-{head}" / "report.json").exists()
        trained += 1
    for mapped in (False, True):
        view = Store(place / "store").view(["toy"], split="train", mapped=mapped)
        head = make_head("linear").fit(view.join(), view.y)
        assert np.isfinite(head.predict_proba(view.join())).all()
        trained += 1
    assert verify(Store(place / "store")).problems == ()
    for command in (["ls"], ["show", "toy"], ["verify"]):
        result = CliRunner().invoke(feat.app, [*command, "--store", str(place / "store")])
        assert result.exit_code == 0, result.output
    assert _listing(place) == before
    figure(
        "P20", f"{trained} heads trained from a read-only store, ls, show and verify run: 0 files written or touched"
    )


def test_extract_into_a_read_only_store_says_so(place, tmp_path):
    grown = toy.write_manifest(tmp_path, 50)
    with pytest.raises(CommitError, match=r"Read-only file system|Permission denied") as caught:
        toy.embed(grown, place / "store", shard_rows=8)
    assert "nothing written before is lost" in str(caught.value)
    assert len(toy.rows(place / "store")) == 42


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every name with its size and its time of change."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        about = path.stat()
        found[str(path)] = (about.st_size, about.st_mtime_ns)
    return found


def _forbid(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))


@contextmanager
def _without_permission(folder: Path) -> Iterator[Path]:
    """A folder that can be forbidden, and is allowed again at the end so that it can be removed."""
    folder.mkdir()
    try:
        yield folder
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
