from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cer_fusion.kit import (
    OutputExistsError,
    WriteError,
    make_folder,
    read_plain_file,
    sync_folder,
    whole_file,
    write_whole,
)


def refuse_links(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, "links are not supported")

    monkeypatch.setattr(os, "link", refuse)


def failing(code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return fail


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_takes_no_other_s_place(tmp_path, monkeypatch, links):
    if not links:
        refuse_links(monkeypatch)
    path = tmp_path / "deep" / "er" / "a.csv"
    assert write_whole(path, b"first", overwrite=False) == path
    with pytest.raises(OutputExistsError, match=r"a\.csv is there already(.|\n)*--overwrite"):
        write_whole(path, b"second", overwrite=False)
    assert path.read_bytes() == b"first"
    write_whole(path, b"third")
    assert path.read_bytes() == b"third"
    assert names(path.parent) == ["a.csv"]


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_was_taken_meanwhile_is_left_as_it_is(tmp_path, monkeypatch, links):
    if not links:
        refuse_links(monkeypatch)
    path = tmp_path / "a.csv"
    with pytest.raises(OutputExistsError), whole_file(path, overwrite=False) as temporary:  # noqa: PT012
        temporary.write_bytes(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a.csv"]


def test_of_several_who_write_one_file_at_once_exactly_one_wins(tmp_path, monkeypatch):
    together, link = threading.Barrier(8), os.link

    def linked(source, target):
        together.wait()  # all have written theirs, and all name it now
        link(source, target)

    monkeypatch.setattr(os, "link", linked)

    def write(number: int) -> bool:
        try:
            write_whole(tmp_path / "a.csv", str(number).encode(), overwrite=False)
        except OutputExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert won.count(True) == 1
    assert (tmp_path / "a.csv").read_text() == str(won.index(True))
    assert names(tmp_path) == ["a.csv"]


def test_a_dangling_link_is_something_that_is_there(tmp_path):
    (tmp_path / "a.csv").symlink_to("nowhere")
    with pytest.raises(OutputExistsError):
        write_whole(tmp_path / "a.csv", b"new", overwrite=False)
    assert (tmp_path / "a.csv").is_symlink()


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputExistsError, match="a is a folder, and a file is to be written"):
        write_whole(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "link"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_failing_call_leaves_nothing_behind_and_says_what_to_do(tmp_path, monkeypatch, call, code):
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(code))
        with pytest.raises(WriteError, match=r"could not (write|make)(.|\n)*free: [\d,]+ bytes"):
            write_whole(tmp_path / "a.csv", b"rows", overwrite=False)
    assert names(tmp_path) == []


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
def test_the_advice_fits_the_error_and_the_old_file_stays(tmp_path, monkeypatch, code, advice):
    write_whole(tmp_path / "a", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(code))
        with pytest.raises(WriteError, match=rf"could not write a: (.|\n)*needed: 4 bytes(.|\n)*{advice}"):
            write_whole(tmp_path / "a", b"rows")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_short_write_is_continued_and_half_a_file_is_never_seen_under_its_name(tmp_path, monkeypatch):
    refuse_links(monkeypatch)
    write, seen = os.write, []

    def watched(fd, data):
        seen.append((tmp_path / "a").exists())
        return write(fd, bytes(data[:3]))

    monkeypatch.setattr(os, "write", watched)
    write_whole(tmp_path / "a", b"0123456789", overwrite=False)
    assert seen == [False] * 4
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_bytes_are_synced_before_the_name_and_the_name_after(tmp_path, monkeypatch):
    fsync, replace, steps = os.fsync, os.replace, []

    def synced(fd):
        steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def named(source, target):
        steps.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    write_whole(tmp_path / "a", b"rows")
    assert steps[-3:] == ["file", "name", "folder"]
    with whole_file(tmp_path / "b", overwrite=True) as temporary:
        temporary.write_bytes(b"rows")
    assert steps[-3:] == ["file", "name", "folder"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(fd):
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", b"rows")
    assert names(tmp_path) == []


def test_a_block_that_raises_changes_nothing(tmp_path):
    write_whole(tmp_path / "a", b"old")
    with pytest.raises(ValueError, match="mine"), whole_file(tmp_path / "a", overwrite=True) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise ValueError("mine")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_full_disk_inside_a_block_is_told_and_a_source_that_cannot_be_read_is_its_own_error(tmp_path):
    with (
        pytest.raises(WriteError, match=r"could not write a: No space left"),
        whole_file(tmp_path / "a", overwrite=True),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a", overwrite=True):
        (tmp_path / "elsewhere" / "source").read_bytes()
    with pytest.raises(ConnectionError), whole_file(tmp_path / "a", overwrite=True):
        raise ConnectionResetError
    assert names(tmp_path) == []


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(WriteError, match=r"no room for a: it takes at least 1,000 bytes, 10 are free"):  # noqa: SIM117
        with whole_file(tmp_path / "a", overwrite=True, needed=1000):
            pytest.fail("was begun")
    assert names(tmp_path) == []


def test_a_file_has_the_mode_that_a_plain_open_gives(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "a", b"")
    with whole_file(tmp_path / "b", overwrite=True) as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert len({stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}) == 1


def test_a_folder_that_a_killed_run_made_is_made_durable_by_the_next(tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    fsync, synced = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd)))
    make_folder(tmp_path / "store" / "faces")
    assert synced == [tmp_path.stat().st_ino, (tmp_path / "store").stat().st_ino]


def test_a_folder_is_not_made_where_a_file_is(tmp_path):
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(WriteError, match="could not make store: File exists"):
        make_folder(tmp_path / "store")


def test_a_file_system_that_cannot_sync_folders_is_written_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def only_files(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", only_files)
    write_whole(tmp_path / "a", b"rows", overwrite=False)
    sync_folder(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"rows"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a plain file"):
        read_plain_file(tmp_path / "pipe", most_bytes=10)
    with pytest.raises(OSError, match="not a plain file"):
        read_plain_file(tmp_path, most_bytes=10)
    (tmp_path / "a").write_bytes(b"0" * 11)
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_plain_file(tmp_path / "a", most_bytes=10)
