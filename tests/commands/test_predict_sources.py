from __future__ import annotations

from contextlib import ExitStack

import pytest
import typer
from PIL import Image

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from commands.predict_sources import PictureSource, VideoSource, source_of
from tests.backbones.video.clips import counted, grey, write_clip


def shown(path, frames=None):
    with ExitStack() as keep:
        return source_of(path, frames, keep)


def still(path, format="JPEG"):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(grey()).save(path, format)
    return path


def moving(path):
    pictures = [Image.fromarray(picture) for picture in counted(3)]
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:])
    return path


@pytest.mark.parametrize("name", ["x.jfif", "x.jpe", "x", "x.mp4"])
def test_a_picture_is_no_video_whatever_it_is_called(tmp_path, name):
    found = shown(still(tmp_path / name))
    assert isinstance(found, PictureSource)
    assert found.names == (name,)


@pytest.mark.parametrize("name", ["x.asf", "x.jpg", "x"])
def test_a_video_is_one_whatever_it_is_called(tmp_path, name):
    write_clip(tmp_path / "a.mkv", counted(2)).rename(tmp_path / name)
    assert isinstance(shown(tmp_path / name), VideoSource)


def test_a_folder_gives_its_pictures_behind_links_and_counts_the_rest(tmp_path, capsys):
    still(tmp_path / "shown" / "a.jfif")
    still(tmp_path / "elsewhere" / "b.jpg")
    (tmp_path / "shown" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "shown" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "shown" / "notes.txt").write_text("hello")
    found = shown(tmp_path / "shown")
    assert isinstance(found, PictureSource)
    assert found.names == ("a.jfif", "linked/b.jpg")
    assert "left out: 1 × .txt, 1 × links that lead nowhere" in capsys.readouterr().err


def test_a_gif_that_moves_is_a_video_alone_and_its_first_picture_among_pictures(tmp_path, capsys):
    assert isinstance(shown(moving(tmp_path / "a.gif")), VideoSource)
    still(tmp_path / "b.jpg")
    found = shown(tmp_path)
    assert isinstance(found, PictureSource)
    assert found.names == ("a.gif", "b.jpg")
    assert "1 of the pictures move (first: a.gif): their first frame is taken" in capsys.readouterr().err


def test_pictures_and_videos_side_by_side_are_counted(tmp_path):
    still(tmp_path / "a.jpg")
    write_clip(tmp_path / "b.mkv", counted(2))
    with pytest.raises(typer.BadParameter, match="1 pictures, 1 videos"):
        shown(tmp_path)


@pytest.mark.parametrize(("name", "kind"), [("a.zip", "manifest folder"), ("a.csv", "manifest csv")])
def test_an_archive_or_a_list_is_told_how_it_is_answered(tmp_path, name, kind):
    import zipfile

    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("a.jpg", b"x")
    else:
        (tmp_path / name).write_text("path\na.jpg\n")
    with pytest.raises(typer.BadParameter, match=f"no picture and no video at .*(?s:.*){kind}"):
        shown(tmp_path / name)
