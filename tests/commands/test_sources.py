from __future__ import annotations

import errno
import os
import sys
from contextlib import ExitStack

import pytest
import typer
from PIL import Image

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.commands import sources
from cer_fusion.commands.sources import ShownPictures, ShownVideos, source_of
from tests.frames.clips import counted, grey, write_clip


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
    assert isinstance(found, ShownPictures)
    assert found.names == (name,)


@pytest.mark.parametrize("name", ["x.asf", "x.jpg", "x"])
def test_a_video_is_one_whatever_it_is_called(tmp_path, name):
    write_clip(tmp_path / "a.mkv", counted(2)).rename(tmp_path / name)
    assert isinstance(shown(tmp_path / name), ShownVideos)


def test_a_folder_gives_its_pictures_behind_links_and_counts_the_rest(tmp_path, capsys):
    still(tmp_path / "shown" / "a.jfif")
    still(tmp_path / "elsewhere" / "b.jpg")
    (tmp_path / "shown" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "shown" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "shown" / "notes.txt").write_text("hello")
    found = shown(tmp_path / "shown")
    assert isinstance(found, ShownPictures)
    assert found.names == ("a.jfif", "linked/b.jpg")
    assert "left out: 1 × .txt, 1 × links that lead nowhere" in capsys.readouterr().err


def test_a_gif_that_moves_is_a_video_alone_and_its_first_picture_among_pictures(tmp_path, capsys):
    assert isinstance(shown(moving(tmp_path / "a.gif")), ShownVideos)
    still(tmp_path / "b.jpg")
    found = shown(tmp_path)
    assert isinstance(found, ShownPictures)
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


@pytest.mark.parametrize("ending", [".mp4", ".mpg", ".psd", ".doc", ".h5", ".xbm", ".ico"])
def test_a_picture_is_refused_early_where_it_could_not_be_drawn_at_the_end(tmp_path, ending):
    Image.new("RGB", (300, 300)).save(tmp_path / "a.png")
    with pytest.raises(typer.BadParameter, match=r"no picture ends in|cannot be written as|would make 256 x 256"):
        shown(tmp_path / "a.png").drawn_to(tmp_path / f"drawn{ending}")
    for fine in (".png", ".jpg", ".bmp", ".webp", ".gif", ".tiff"):
        assert shown(tmp_path / "a.png").drawn_to(tmp_path / f"drawn{fine}") == [tmp_path / f"drawn{fine}"]


def test_a_picture_that_is_too_large_for_a_form_is_refused_before_the_work(tmp_path):
    Image.new("RGB", (16_400, 600)).save(tmp_path / "a.png")
    with pytest.raises(typer.BadParameter, match=r"16400 x 600 pixels cannot be written as WEBP"):
        shown(tmp_path / "a.png").drawn_to(tmp_path / "drawn.webp")


def test_several_are_not_drawn_into_a_folder_that_is_called_as_a_file(tmp_path):
    for name in ("a.png", "b.png"):
        still(tmp_path / "stills" / name)
    with pytest.raises(typer.BadParameter, match=r"2 pictures are drawn into a folder, and .*out.mp4 is called as one"):
        shown(tmp_path / "stills").drawn_to(tmp_path / "out.mp4")
    (tmp_path / "clips").mkdir()
    for name in ("a.mkv", "b.mkv"):
        write_clip(tmp_path / "clips" / name, counted(2))
    with pytest.raises(typer.BadParameter, match="2 videos are drawn into a folder"):
        shown(tmp_path / "clips").drawn_to(tmp_path / "out.png")
    (tmp_path / "out.mp4").mkdir()
    assert shown(tmp_path / "stills").drawn_to(tmp_path / "out.mp4")[0] == tmp_path / "out.mp4" / "a.png"


@pytest.mark.parametrize("ending", [".png", ".gif", ".avi"])
def test_a_video_is_refused_early_where_it_could_not_be_written_at_the_end(tmp_path, ending, monkeypatch):
    import av

    from cer_fusion.frames import VideoError

    found = shown(moving(tmp_path / "a.gif"))
    with pytest.raises(VideoError, match=r"a video is written as \.mp4, \.mkv, \.mov"):
        found.drawn_to(tmp_path / f"drawn{ending}")
    monkeypatch.setattr(av, "codecs_available", set())
    with pytest.raises(VideoError, match=r"no H\.264 encoder"):
        found.drawn_to(tmp_path / "drawn.mp4")


def test_a_gif_that_moves_is_drawn_as_a_video(tmp_path):
    from cer_fusion.commands.sources import Shown
    from cer_fusion.frames import FrameSettings, VideoReader

    found = shown(moving(tmp_path / "a.gif"), tmp_path / "frames")
    told = Shown(settings=FrameSettings(faces="none"), detector=None)
    assert len(list(found.crops(told))) == 3
    assert found.annotate(tmp_path / "drawn.mp4", {}, told) == 3
    assert len(list(VideoReader(tmp_path / "drawn.mp4").frames())) == 3


def test_a_webp_that_moves_is_a_picture_and_that_is_told(tmp_path, capsys):
    pictures = [Image.fromarray(picture) for picture in counted(3)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:])
    assert isinstance(shown(tmp_path / "a.webp"), ShownPictures)
    assert "1 WebP pictures move (first: a.webp)" in " ".join(capsys.readouterr().err.split())
    pictures[0].save(tmp_path / "a.webp")
    shown(tmp_path / "a.webp")
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_pictures_whose_names_are_no_text_are_left_out_and_told(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(sources, "say", said.append)
    name = os.fsdecode(b"caf\xe9.jpg")
    still(tmp_path / "shown" / name)
    with pytest.raises(typer.BadParameter, match=r"no name of a picture or video in .* is UTF-8 text"):
        shown(tmp_path / "shown")
    with pytest.raises(typer.BadParameter, match="is not UTF-8 text, and no table of answers can say it: rename it"):
        shown(tmp_path / "shown" / name)
    still(tmp_path / "shown" / "a.jpg")
    said.clear()
    assert shown(tmp_path / "shown").names == ("a.jpg",)
    assert "left out: 1 whose names are not UTF-8 text[/] (first: " + name in said[0]


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    from cer_fusion.commands import outputs

    def refusing(*, dir):
        raise PermissionError(errno.EACCES, "", str(dir))

    monkeypatch.setattr(outputs.tempfile, "TemporaryFile", refusing)
    with pytest.raises(typer.BadParameter, match=r"cannot be written: .* is read-only for you"):
        outputs.check_outputs({"--annotate": tmp_path / "new" / "drawn.mp4"}, overwrite=True)
