from __future__ import annotations

import pytest

from fusion.files.whole_folder import whole_folder


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
