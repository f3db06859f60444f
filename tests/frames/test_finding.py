from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.frames import VideoError, held_by, named_videos
from cer_fusion.frames.finding import kind_of
from tests.frames.clips import counted, write_clip


def moving(path, format="GIF", n=3):
    pictures = [Image.fromarray(picture) for picture in counted(n)]
    pictures[0].save(path, format, save_all=True, append_images=pictures[1:])
    return path


def still(path, format="JPEG"):
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(path, format)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mkv", counted(2)).read_bytes()


@pytest.mark.parametrize("ending", [".asf", ".m2ts", ".264", ".ts", ".3gp", ".bin", ".jpg", ""])
def test_a_video_is_told_by_its_content_whatever_it_is_called(tmp_path, clip, ending):
    (tmp_path / f"a{ending}").write_bytes(clip)
    assert kind_of(tmp_path / f"a{ending}") == "video"


@pytest.mark.parametrize("ending", [".jfif", ".jpe", "", ".mp4", ".dat"])
def test_a_picture_is_told_by_its_content_whatever_it_is_called(tmp_path, ending):
    assert kind_of(still(tmp_path / f"a{ending}")) == "picture"


def test_a_gif_or_png_that_moves_is_a_video_and_one_that_does_not_is_a_picture(tmp_path):
    assert kind_of(moving(tmp_path / "a.gif")) == kind_of(moving(tmp_path / "a.png", "PNG")) == "video"
    assert kind_of(still(tmp_path / "b.gif", "GIF")) == kind_of(still(tmp_path / "b.png", "PNG")) == "picture"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("notes.txt", b"hello", "other"),
        ("types.ts", b"export const a = 1;\n", "other"),
        ("rows.npy", b"\x93NUMPY\x01\0" + bytes(200), "other"),
        ("list.m3u8", b"#EXTM3U\na.mp4\n", "list"),
        ("text.mp4", b"this is no video", "video"),
        ("empty.mp4", b"", "video"),
        ("text.jpg", b"this is no picture", "picture"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(40), "picture"),
    ],
)
def test_what_is_neither_is_what_its_ending_says(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) == kind


def test_sound_alone_is_no_video(tmp_path):
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(4000))
    assert kind_of(tmp_path / "a.wav") == "other"


def test_videos_in_subfolders_and_behind_links_are_taken_and_all_else_is_counted(tmp_path, clip):
    root, outside = tmp_path / "videos", tmp_path / "outside"
    for path in ("videos/a/1.mp4", "videos/b/c/2.avi", "outside/3.mkv", "elsewhere.mp4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(clip)
    (root / "linked").symlink_to(outside)
    (root / "again").symlink_to(outside)
    (outside / "loop").symlink_to(root)
    (root / "4.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    (root / "5.mp4").symlink_to(tmp_path / "gone.mp4")
    (root / "notes.txt").write_text("hello")
    (root / ".hidden.mp4").write_bytes(clip)
    still(root / "b" / "cover.jpg")
    held = held_by(root)
    assert [path.name for path in held.videos] == ["4.mp4", "1.mp4", "3.mkv", "2.avi"]
    assert held.with_pictures_left_out() == {
        ".jpg (pictures)": 1, ".txt": 1, "hidden files": 1, "links that lead nowhere": 1,
        "links to folders that are looked at anyway": 2,
    }  # fmt: skip
    assert set(named_videos(root, held)) == {"01", "02", "03", "04"}


def test_the_folder_of_results_is_not_looked_at(tmp_path, clip):
    for path in ("1.mp4", "frames/2.mp4"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(clip)
    assert [path.name for path in held_by(tmp_path, apart_from=tmp_path / "frames").videos] == ["1.mp4"]


def test_one_name_in_two_folders_is_refused_before_any_work(tmp_path, clip):
    for path in ("a/1.mp4", "b/01.avi"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(clip)
    with pytest.raises(VideoError, match=r"a/1\.mp4 and b/01\.avi would both be the folder '01'.*--output of its own"):
        named_videos(tmp_path)


def test_a_link_beside_the_video_it_leads_to_is_no_second_one(tmp_path, clip):
    (tmp_path / "1.mp4").write_bytes(clip)
    (tmp_path / "01.mp4").symlink_to(tmp_path / "1.mp4")
    assert len(named_videos(tmp_path)) == 1


def test_a_picture_is_refused_as_a_video(tmp_path):
    with pytest.raises(VideoError, match="is a picture, no video"):
        named_videos(still(tmp_path / "a.mp4"))
