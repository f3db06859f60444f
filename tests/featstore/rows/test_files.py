from __future__ import annotations

import errno
import os

import pytest

from cer_fusion.featstore.errors import CommitError
from cer_fusion.featstore.rows import files


def test_a_committed_name_is_never_written_again(tmp_path):
    assert files.commit(tmp_path / "a", b"first")
    assert not files.commit(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_replace_swaps_in_one_step(tmp_path):
    files.replace(tmp_path / "a", b"first")
    files.replace(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"second"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "link"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_failing_call_leaves_nothing_behind_and_says_what_to_do(tmp_path, monkeypatch, call, code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(CommitError, match=r"could not write shard(.|\n)*needed: 4 bytes, free: [\d,]+ bytes"):
        files.commit(tmp_path / "shard", b"rows")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(files.os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    files.commit(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def refuse_links(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, "links are not supported")

    monkeypatch.setattr(files.os, "link", refuse)


def test_where_links_are_refused_a_name_is_still_never_written_again(tmp_path, monkeypatch):
    refuse_links(monkeypatch)
    assert files.commit(tmp_path / "a", b"first")
    assert not files.commit(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_where_links_are_refused_half_a_file_is_never_seen_under_its_name(tmp_path, monkeypatch):
    refuse_links(monkeypatch)
    write, seen = os.write, []

    def watched(fd, data):
        seen.append((tmp_path / "a").exists())
        return write(fd, bytes(data[:3]))

    monkeypatch.setattr(files.os, "write", watched)
    files.commit(tmp_path / "a", b"0123456789")
    assert seen == [False] * 4


def test_a_name_that_another_writer_gave_is_made_durable_before_it_is_reported(tmp_path, monkeypatch):
    files.commit(tmp_path / "a", b"rows")
    fsync, synced = os.fsync, []
    monkeypatch.setattr(files.os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd)))
    assert not files.commit(tmp_path / "a", b"rows")
    assert tmp_path.stat().st_ino in synced


def test_a_folder_that_a_killed_run_made_is_made_durable_by_the_next(tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    fsync, synced = os.fsync, []
    monkeypatch.setattr(files.os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd)))
    files.make_folder(tmp_path / "store" / "faces")
    assert synced == [tmp_path.stat().st_ino, (tmp_path / "store").stat().st_ino]


def test_a_folder_is_not_made_where_a_file_is(tmp_path):
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(CommitError, match="could not make store: File exists"):
        files.make_folder(tmp_path / "store")


def test_a_file_system_that_cannot_sync_folders_is_written_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def only_files(fd):
        if os.path.isdir(f"/dev/fd/{fd}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    assert files.try_out(tmp_path) == files.Trial(way="link", is_exclusive=True, replaces=True, syncs_folders=True)
    monkeypatch.setattr(files.os, "fsync", only_files)
    assert files.commit(tmp_path / "a", b"rows")
    (tmp_path / "other").mkdir()
    assert not files.try_out(tmp_path / "other").syncs_folders


def test_a_file_system_without_links_or_with_links_that_replace_is_found_by_trying(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "link", os.replace)
    (tmp_path / "replacing").mkdir()
    assert not files.try_out(tmp_path / "replacing").is_exclusive
    refuse_links(monkeypatch)
    (tmp_path / "linkless").mkdir()
    assert files.try_out(tmp_path / "linkless") == files.Trial(
        way="rename", is_exclusive=True, replaces=True, syncs_folders=True
    )
    assert not list(tmp_path.glob("*/.tmp-*"))


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "your quota"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permissions"),
        (errno.EIO, "the disk itself"),
    ],
)
def test_the_advice_fits_the_error(tmp_path, monkeypatch, code, advice):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "write", fail)
    with pytest.raises(CommitError, match=advice):
        files.replace(tmp_path / "a", b"rows")


def test_a_folder_that_cannot_be_looked_into_is_told_as_such(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / ".tmp-old").write_bytes(b"")
    monkeypatch.setattr(files.os, "open", fail)
    with pytest.raises(CommitError, match="could not clean up"):
        files.remove_temporaries(tmp_path, 0)
    with pytest.raises(CommitError, match="could not sync"):
        files.sync_folder(tmp_path)


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(fd):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.commit(tmp_path / "a", b"rows")
    assert list(tmp_path.iterdir()) == []


def test_only_old_temporaries_are_removed(tmp_path):
    old, young = tmp_path / ".tmp-old", tmp_path / ".tmp-young"
    old.write_bytes(b"")
    young.write_bytes(b"")
    os.utime(old, (0, 0))
    assert files.remove_temporaries(tmp_path, 3600) == [old]
    assert [p.name for p in tmp_path.iterdir()] == [".tmp-young"]
