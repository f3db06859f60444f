from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cer_fusion.kit import OutputExistsError, WriteError, bring_back, folders, whole_folder


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "run"
    with pytest.raises(ValueError, match="mine"), whole_folder(target) as built:  # noqa: PT012
        (built / "a").write_text("half")
        raise ValueError("mine")
    assert names(tmp_path / "deep") == []
    with whole_folder(target) as built:
        (built / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert names(tmp_path / "deep") == ["run"]


@pytest.mark.parametrize("way", ["exchange", "renames"])
def test_a_folder_that_is_there_is_replaced_only_by_a_whole_one(tmp_path, monkeypatch, way):
    if way == "renames":
        monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    target = tmp_path / "run"
    for text in ("old", "new"):
        with whole_folder(target) as built:
            (built / text).write_text(text)
    assert names(target) == ["new"]
    with pytest.raises(ValueError, match="mine"), whole_folder(target):
        raise ValueError("mine")
    assert names(target) == ["new"]
    assert names(tmp_path) == ["run"]


def test_an_old_folder_keeps_its_place_when_the_new_one_cannot_take_it(tmp_path, monkeypatch):
    target, rename = tmp_path / "run", os.rename
    with whole_folder(target) as built:
        (built / "old").write_text("1")

    def refused(source, into):
        if Path(into) == target and str(source).endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, into)

    monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(WriteError, match="could not write run"), whole_folder(target) as built:
        (built / "new").write_text("1")
    assert names(target) == ["old"]
    assert names(tmp_path) == ["run"]


def test_of_several_who_write_to_one_name_at_once_exactly_one_wins(tmp_path):
    target, together = tmp_path / "run", threading.Barrier(8)

    def write(number: int) -> str:
        try:
            with whole_folder(target, overwrite=False) as built:
                (built / "mine").write_text(str(number))
                together.wait()  # all have found the name free, and all put theirs there now
        except OutputExistsError as error:
            return str(error)
        return str(number)

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(write, range(8)))
    refused = [end for end in ends if "run is there already" in end and "--overwrite" in end]
    assert len(refused) == 7
    assert [(target / "mine").read_text()] == [end for end in ends if end not in refused]
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_never_takes_the_place_of_a_file_or_a_link(tmp_path, overwrite):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with (
            pytest.raises(OutputExistsError, match=f"{name} is a {name}, and a folder is to be written"),
            whole_folder(tmp_path / name, overwrite=overwrite),
        ):
            pytest.fail("was begun")
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["elsewhere", "file", "link"]


def test_an_empty_folder_may_be_there_and_another_s_folder_is_never_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    with whole_folder(tmp_path / "run", overwrite=False, mark="run.json") as built:
        (built / "run.json").write_text("1")
    with whole_folder(tmp_path / "run", mark="run.json") as built:
        (built / "other").write_text("1")
    with pytest.raises(OutputExistsError, match=r"no run\.json"), whole_folder(tmp_path / "run", mark="run.json"):
        pytest.fail("was begun")
    assert names(tmp_path / "run") == ["other"]


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(WriteError, match="no room for run"), whole_folder(tmp_path / "run", needed=11):
        pytest.fail("was begun")
    assert names(tmp_path) == []


def test_all_files_and_folders_are_synced_before_the_folder_has_its_name(tmp_path, monkeypatch):
    fsync, synced, expected = os.fsync, set(), set()

    def watched(fd):
        if not (tmp_path / "run").exists():
            synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    with whole_folder(tmp_path / "run") as built:
        (built / "deep").mkdir()
        (built / "deep" / "a").write_text("1")
        expected = {one.stat().st_ino for one in (built, built / "deep", built / "deep" / "a")}
    assert expected <= synced


def test_a_folder_has_the_mode_that_a_plain_mkdir_gives(tmp_path):
    (tmp_path / "plain").mkdir()
    with whole_folder(tmp_path / "run"):
        pass
    assert len({stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}) == 1


_KILLED = """
import os, sys
from pathlib import Path
import cer_fusion.kit.folders as module
target, calls = Path(sys.argv[1]), int(sys.argv[2])
if sys.argv[3] == "renames":
    module._exchanged = lambda one, other: False
def dies(event, args):
    global calls
    if event in ("os.rename", "shutil.rmtree", "os.rmdir"):
        calls -= 1
        if calls == 0:
            os._exit(9)
sys.addaudithook(dies)
with module.whole_folder(target, overwrite=True) as built:
    (built / "text").write_text("new")
"""


@pytest.mark.parametrize("way", ["exchange", "renames"])
@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6, 7])
def test_a_kill_at_any_step_of_a_replacement_leaves_the_old_folder_or_the_new(tmp_path, way, call):
    target = tmp_path / "run"
    with whole_folder(target, overwrite=False) as built:
        (built / "text").write_text("old")
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(target), str(call), way], timeout=600).returncode
    assert ended in (0, 9)
    assert target.exists() is ((way, call) != ("renames", 2)), "only between two renames is there nothing"
    bring_back(target)
    assert (target / "text").read_text() in ("old", "new")
    if ended == 0:
        assert (target / "text").read_text() == "new"
        assert names(tmp_path) == ["run"]


def test_a_folder_that_a_kill_left_aside_comes_back_only_where_its_name_is_free(tmp_path):
    target = tmp_path / "run [1]"
    aside = tmp_path / ".run [1].old.abcdef"
    aside.mkdir()
    (aside / "text").write_text("old")
    bring_back(tmp_path / "other")
    bring_back(target)
    assert (target / "text").read_text() == "old"
    assert names(tmp_path) == ["run [1]"]
    bring_back(target)
    bring_back(tmp_path / "no" / "such" / "place")


def test_a_new_result_does_not_forget_the_old_one_that_a_kill_left_aside(tmp_path):
    (tmp_path / ".run.old.abcdef").mkdir()
    (tmp_path / ".run.old.abcdef" / "text").write_text("old")
    with pytest.raises(OutputExistsError), whole_folder(tmp_path / "run", overwrite=False):
        pytest.fail("was begun")
    assert (tmp_path / "run" / "text").read_text() == "old"
