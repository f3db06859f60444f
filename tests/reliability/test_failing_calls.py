"""P3: whichever file operation fails, it is told in words, and the store is as it was before."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from cer_fusion.commands import feat
from cer_fusion.featstore.errors import CommitError
from tests.reliability import toy
from tests.reliability.power import instead_of_os

CODES = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)
CALLS = ("open", "write", "fsync", "close", "link", "replace", "unlink", "mkdir", "stat")
SHARD_ROWS = 3
COMMAND = ["extract", "-b", "timm:test_vit", "-w", "random", "-d", "faces.csv", "-s", "store", "--shard-rows", "2"]


class FailingOs:
    """Stands where a store's files say `os`: the n-th operation fails, or all from there on."""

    def __init__(self, nth: int | None = None, code: int = 0, *, for_good: bool = False) -> None:
        self.nth, self.code, self.for_good = nth, code, for_good
        self.count = 0
        self.failed = ""

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        if name not in CALLS:
            return call

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            due = self.nth is not None and (self.count == self.nth or (self.for_good and self.count > self.nth))
            if due and name == "close":
                call(*args)  # the descriptor is gone, whatever close says
            if due:
                self.failed = self.failed or name
                raise OSError(self.code, os.strerror(self.code))
            return call(*args, **kwargs)

        return counted


@pytest.mark.slow
def test_whichever_operation_fails_the_store_is_as_before_and_the_next_run_completes(tmp_path, scaled, figure):
    grown = toy.write_manifest(tmp_path, 10, contents={4: b"BAD", 8: b"picture 0001"})
    starts: dict[str, Path | None] = {"no store": None, "a store": tmp_path / "before"}
    toy.embed(grown.keep(i < 5 for i in range(10)), tmp_path / "before", shard_rows=SHARD_ROWS)
    cases = [
        (start, nth, code, for_good)
        for start, before in starts.items()
        for nth in range(1, _operations(tmp_path, before, grown) + 1)
        for code in CODES
        for for_good in (False, True)
    ]
    told = harmless = 0
    chosen = random.Random(0).sample(cases, scaled(len(cases), 60))
    for start, nth, code, for_good in chosen:
        with _a_run(tmp_path, starts[start], grown, nth, code, for_good=for_good) as (error, failing, store):
            case = f"{start}: {failing.failed} number {nth} fails with {errno.errorcode[code]}"
            expected = toy.rows(tmp_path / f"whole {start}")
            earlier = toy.rows(starts[start]).keys() if starts[start] else set()
            found = toy.rows_so_far(store)
            assert toy.wrong(found, expected) == [], case
            assert earlier <= found.keys(), case
            if error:
                assert os.strerror(code) in str(error), case
                assert f"in folder: {store}" in str(error) or f"in folder: {store.parent}" in str(error), case
                told += 1
            else:
                assert toy.names(store) == toy.names(tmp_path / f"whole {start}"), case
                harmless += 1
            if failing.failed != "unlink" and not for_good:  # what cannot be removed stays until the next run
                assert toy.temporaries(store) == [], case
            toy.embed(grown, store, shard_rows=SHARD_ROWS)
            assert toy.names(store) == toy.names(tmp_path / f"whole {start}"), case
            assert toy.rows(store).keys() == expected.keys(), case
    text = f"{len(chosen):,} of {len(cases):,} cases (each operation x 5 errors, once or from there on): {told:,} told"
    figure("P3", f"{text}, {harmless:,} harmless, 0 wrong, 0 lost, all next runs complete")


def test_the_command_tells_a_failing_disk_without_a_traceback(tmp_path, monkeypatch, figure):
    (tmp_path / "faces").mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / "faces" / f"{i}.png")
    (tmp_path / "faces.csv").write_text("sample_id,path\n" + "".join(f"s{i},faces/{i}.png\n" for i in range(4)))
    monkeypatch.chdir(tmp_path)
    passing = FailingOs()
    instead_of_os(monkeypatch, passing)
    assert CliRunner().invoke(feat.app, COMMAND).exit_code == 0
    tried = []
    for code in CODES:
        shutil.rmtree(tmp_path / "store")
        failing = FailingOs(random.Random(code).randrange(2, passing.count), code, for_good=True)
        instead_of_os(monkeypatch, failing)
        result = CliRunner().invoke(feat.app, COMMAND)
        case = (failing.failed, failing.nth, result.output, result.exception)
        assert (result.exit_code, type(result.exception)) == (1, SystemExit), case
        assert "error: could not" in result.stderr, case
        assert os.strerror(code) in result.stderr, case
        assert "Traceback" not in result.output, case
        tried.append(f"{failing.failed} with {errno.errorcode[code]}")
    instead_of_os(monkeypatch, os)
    assert CliRunner().invoke(feat.app, COMMAND).exit_code == 0
    figure("P3", f"cer-feat extract on a failing disk ({', '.join(tried)}): 0 tracebacks, the next run completes")


def _operations(tmp_path: Path, before: Path | None, manifest: Any) -> int:
    """Number of file operations of a run that nothing disturbs; its store stays for comparison."""
    whole = tmp_path / ("whole a store" if before else "whole no store")
    if before:
        shutil.copytree(before, whole)
    counting = FailingOs()
    with pytest.MonkeyPatch.context() as patch:
        instead_of_os(patch, counting)
        toy.embed(manifest, whole, shard_rows=SHARD_ROWS)
    return counting.count


@contextmanager
def _a_run(
    tmp_path: Path, before: Path | None, manifest: Any, nth: int, code: int, *, for_good: bool
) -> Iterator[tuple[CommitError | None, FailingOs, Path]]:
    """A run in which an operation fails, and what it said."""
    store = tmp_path / "disk" / "store"
    store.parent.mkdir()
    if before:
        shutil.copytree(before, store)
    failing, told = FailingOs(nth, code, for_good=for_good), None
    with pytest.MonkeyPatch.context() as patch:
        instead_of_os(patch, failing)
        try:
            toy.embed(manifest, store, shard_rows=SHARD_ROWS)
        except CommitError as error:
            told = error
    yield told, failing, store
    shutil.rmtree(store.parent)
