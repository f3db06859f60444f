from __future__ import annotations

import errno
import os

import pytest

from featstore import files
from featstore.errors import CommitError


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


def test_where_links_are_refused_the_name_is_created_exclusively(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, "links are not supported")

    monkeypatch.setattr(files.os, "link", refuse)
    assert files.commit(tmp_path / "a", b"first")
    assert not files.commit(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


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
