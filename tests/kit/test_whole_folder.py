from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cer_fusion.kit.errors import OutputExistsError
from cer_fusion.kit.files import bring_back, whole_folder


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "run"
    with pytest.raises(FileNotFoundError), whole_folder(target) as built:
        (built / "no" / "such" / "folder").write_text("1")
    assert list((tmp_path / "deep").iterdir()) == []
    with whole_folder(target) as built:
        (built / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run"]


def test_a_folder_that_is_there_is_replaced_only_by_a_whole_one(tmp_path):
    target = tmp_path / "run"
    for text in ("old", "new"):
        with whole_folder(target) as built:
            (built / text).write_text(text)
    assert [path.name for path in target.iterdir()] == ["new"]
    with pytest.raises(FileNotFoundError), whole_folder(target) as built:
        (built / "no" / "such" / "folder").write_text("1")
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


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
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_new_folder_never_takes_the_place_of_a_file_or_a_link(tmp_path):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(OutputExistsError), whole_folder(tmp_path / name, overwrite=False) as built:
            (built / "mine").write_text("1")
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "file", "link"]


_KILLED = """
import os, sys
from pathlib import Path
import cer_fusion.kit.files as module
target, calls = Path(sys.argv[1]), int(sys.argv[2])
if sys.argv[3] == "renames":
    module._exchanged = lambda one, other: False
def dies(event, args):
    global calls
    if event == "os.rename" or (event == "shutil.rmtree" and not str(args[0]).endswith(".part")):
        calls -= 1
        if calls == 0:
            os._exit(9)
sys.addaudithook(dies)
with module.whole_folder(target, overwrite=True) as built:
    (built / "text").write_text("new")
"""


@pytest.mark.parametrize("way", ["exchange", "renames"])
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_kill_at_any_step_of_a_replacement_leaves_the_old_folder_or_the_new(tmp_path, way, call):
    target = tmp_path / "run"
    with whole_folder(target, overwrite=False) as built:
        (built / "text").write_text("old")
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(target), str(call), way]).returncode
    assert ended in (0, 9)
    assert target.exists() is ((way, call) != ("renames", 2)), "only between two renames is there nothing"
    bring_back(target)
    assert (target / "text").read_text() in ("old", "new")
    if ended == 0:
        assert (target / "text").read_text() == "new"
        assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_a_kill_left_aside_comes_back_with_its_content_only_where_its_name_is_free(tmp_path):
    target = tmp_path / "run [1]"
    aside = tmp_path / ".run [1].old.abcdef"
    (aside / "old").mkdir(parents=True)
    (aside / "old" / "text").write_text("old")
    bring_back(tmp_path / "other")
    bring_back(target)
    assert (target / "text").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run [1]"]
    bring_back(target)
    bring_back(tmp_path / "no" / "such" / "place")
