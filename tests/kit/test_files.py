from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cer_fusion.kit.errors import OutputExistsError
from cer_fusion.kit.files import write_whole


def _no_links(source: object, target: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_takes_no_other_s_place(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    path = tmp_path / "deep" / "a.csv"
    assert write_whole(path, b"first", overwrite=False) == path
    with pytest.raises(OutputExistsError, match=r"a\.csv is there already(.|\n)*--overwrite"):
        write_whole(path, b"second", overwrite=False)
    assert path.read_bytes() == b"first"
    write_whole(path, b"third")
    assert path.read_bytes() == b"third"
    assert [one.name for one in path.parent.iterdir()] == ["a.csv"]


def test_of_several_who_write_one_file_at_once_exactly_one_wins(tmp_path, monkeypatch):
    together, link = threading.Barrier(8), os.link

    def linked(source: object, target: object) -> None:
        together.wait()  # all have written theirs, and all name it now
        link(source, target)  # type: ignore[arg-type]

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
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"]


def test_a_dangling_link_is_something_that_is_there(tmp_path):
    (tmp_path / "a.csv").symlink_to("nowhere")
    with pytest.raises(OutputExistsError):
        write_whole(tmp_path / "a.csv", b"new", overwrite=False)
    assert (tmp_path / "a.csv").is_symlink()
