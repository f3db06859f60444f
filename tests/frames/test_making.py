from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.frames import (
    Alignment,
    FolderError,
    FrameSettings,
    MadeFrames,
    OptionError,
    VideoError,
    index_path,
    make_frames,
    read_table,
    table_path,
)
from tests.frames.clips import FollowingDetector, SquareDetector, busy, counted, grey, squares, write_clip

SMALL = FrameSettings(alignment=Alignment(size_px=32))
WHOLE = FrameSettings(faces="none")


@pytest.fixture
def clip(tmp_path):
    """Twelve frames: a square drifts; frames 5 and 6 have none; from 9 on a second, larger one is there."""
    frames = [squares((20 + 2 * i, 30)) for i in range(8)]
    frames[4] = frames[5] = grey()
    frames += [squares((36 + 2 * i, 30), (100, 20)) for i in range(4)]
    return write_clip(tmp_path / "7.mp4", frames)


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_faces_are_numbered_as_their_frames_and_frames_without_one_have_no_picture(tmp_path, clip):
    made = make_frames(clip, "07", tmp_path / "out", SMALL, SquareDetector())
    wanted = [f"{i:05d}.jpg" for i in (1, 2, 3, 4, 7, 8, 9, 10, 11, 12)]
    assert sorted(path.name for path in (tmp_path / "out" / "07").iterdir()) == wanted
    assert made.without_picture == ((5, 6),)
    assert made.counts == {
        "frames": 12, "cuts": 0, "pictures": 10, "faces": 14, "tracks": 2, "without_face": 2, "without_main": 0,
        "several_faces": 4, "damaged": 0,
    }  # fmt: skip
    assert size_of(tmp_path / "out" / "07" / "00001.jpg") == (32, 32)


def test_the_table_has_a_row_for_every_face_and_for_every_frame_without_one(tmp_path, clip):
    make_frames(clip, "07", tmp_path, SMALL, SquareDetector())
    rows = list(read_table(table_path(tmp_path, "07")))
    assert [row.frame for row in rows] == [*range(1, 9), 9, 9, 10, 10, 11, 11, 12, 12]
    assert [row.frame for row in rows if row.face is None] == [5, 6]
    assert {row.track for row in rows if row.main} == {1}  # the drifting square goes on after its gap
    assert [row.picture for row in rows if row.frame == 9] == ["07/00009.jpg", ""]
    first = rows[0]
    assert first.face is not None
    assert np.allclose(first.face.box, (20, 30, 44, 54), atol=2)
    assert len(first.face.landmarks) == 5
    assert first.time_s == 0


def test_largest_takes_the_largest_face_of_each_frame(tmp_path):
    small_then_large = [squares((20, 30)), squares((20, 30))]
    frame = squares((20, 30))
    frame[20:60, 90:140] = 255
    path = write_clip(tmp_path / "1.mp4", [*small_then_large, frame])
    make_frames(path, "01", tmp_path / "out", replace(SMALL, faces="largest"), SquareDetector())
    rows = list(read_table(table_path(tmp_path / "out", "01")))
    assert [(row.frame, row.position) for row in rows if row.main] == [(1, 1), (2, 1), (3, 2)]


def test_all_gives_every_track_a_folder(tmp_path, clip):
    made = make_frames(clip, "07", tmp_path / "out", replace(SMALL, faces="all"), SquareDetector())
    assert made.folders == ("07-track1", "07-track2")
    assert [path.name for path in sorted((tmp_path / "out" / "07-track2").iterdir())] == [
        f"{i:05d}.jpg" for i in range(9, 13)
    ]


def test_whole_frames_need_no_detector(tmp_path, clip):
    made = make_frames(clip, "07", tmp_path / "out", WHOLE, None)
    assert made.counts["pictures"] == 12
    assert size_of(tmp_path / "out" / "07" / "00012.jpg") == (160, 96)


def test_every_third_frame_keeps_its_number(tmp_path, clip):
    make_frames(clip, "07", tmp_path / "out", replace(WHOLE, every=3, ending="png"), None)
    assert sorted(path.name for path in (tmp_path / "out" / "07").iterdir()) == [
        "00001.png", "00004.png", "00007.png", "00010.png",
    ]  # fmt: skip


@pytest.fixture
def two_shots(tmp_path):
    """Twelve frames: from 7 on it is dark, and another square stands where the first one stood."""
    frames = [squares((20 + 2 * i, 30)) for i in range(12)]
    for frame in frames[6:]:
        frame[frame == 90] = 10
    return write_clip(tmp_path / "8.mp4", frames)


def test_no_face_is_followed_across_a_cut(tmp_path, two_shots):
    made = make_frames(two_shots, "08", tmp_path / "out", SMALL, SquareDetector())
    assert (made.counts["cuts"], made.counts["tracks"], made.counts["pictures"]) == (1, 2, 12)
    rows = list(read_table(table_path(tmp_path / "out", "08")))
    assert [row.track for row in rows] == [1] * 6 + [2] * 6
    assert all(row.main for row in rows)


def test_a_second_run_does_nothing(tmp_path, clip):
    make_frames(clip, "07", tmp_path / "out", SMALL, SquareDetector())
    before, detector = content(tmp_path / "out"), SquareDetector()
    assert make_frames(clip, "07", tmp_path / "out", SMALL, detector).skipped
    assert (content(tmp_path / "out"), detector.asked) == (before, 0)


def test_the_log_of_the_decoder_is_off_whoever_turned_it_on(tmp_path, clip):
    """Its callback waits for the lock that a closing decoder holds: torchvision turned it on, and videos hung."""
    import av

    class Imports(SquareDetector):
        def detect(self, picture):
            assert self.asked or av.logging.get_level() is None
            av.logging.set_level(av.logging.ERROR)
            return super().detect(picture)

    av.logging.set_level(av.logging.ERROR)
    make_frames(clip, "07", tmp_path / "out", SMALL, Imports())
    assert av.logging.get_level() is None


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("frames_done", [1, 4, 6, 11])
@pytest.mark.parametrize("kind", ["clip", "two_shots"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path, request, kind, frames_done):
    clip = request.getfixturevalue(kind)
    make_frames(clip, "07", tmp_path / "whole", SMALL, SquareDetector())

    class Dies(SquareDetector):
        def detect(self, picture):
            if self.asked == frames_done:
                raise Killed
            return super().detect(picture)

    with pytest.raises(Killed):
        make_frames(clip, "07", tmp_path / "out", SMALL, Dies())
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    detector = SquareDetector()
    make_frames(clip, "07", tmp_path / "out", SMALL, detector)
    assert detector.asked == 12 - frames_done
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_torn_line_and_a_torn_picture_are_made_again(tmp_path, clip, monkeypatch):
    make_frames(clip, "07", tmp_path / "whole", SMALL, SquareDetector())

    def die(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("cer_fusion.frames.making.sort_pictures", die)
        with pytest.raises(Killed):
            make_frames(clip, "07", tmp_path / "out", SMALL, SquareDetector())
    work = tmp_path / "out" / ".07.frames"
    journal = work / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:9]) + lines[9][:20])
    (work / "pictures" / "2-0").write_bytes(b"")
    detector = SquareDetector()
    make_frames(clip, "07", tmp_path / "out", SMALL, detector)
    assert detector.asked == 12 - 8  # the header and eight frames were whole
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_run_killed_while_names_are_given_goes_on(tmp_path, clip, monkeypatch, step):
    import os

    make_frames(clip, "07", tmp_path / "whole", SMALL, SquareDetector())
    real, count = os.replace, iter(range(100))

    def replace_until(source, target):
        if "sorted" in str(target) and next(count) == 3 * step + 1:
            raise Killed
        if step == 2 and str(target).endswith("07.frames.csv") and ".07.frames" not in str(target):
            raise Killed
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_until)
        with pytest.raises(Killed):
            make_frames(clip, "07", tmp_path / "out", SMALL, SquareDetector())
    detector = SquareDetector()
    make_frames(clip, "07", tmp_path / "out", SMALL, detector)
    assert detector.asked == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_other_settings_are_named_and_refused_unless_overwriting(tmp_path, clip):
    make_frames(clip, "07", tmp_path / "out", SMALL, SquareDetector())
    other = replace(SMALL, alignment=Alignment(size_px=48), every=2)
    with pytest.raises(FolderError, match=r"every was 1, is 2, alignment\.size_px was 32, is 48"):
        make_frames(clip, "07", tmp_path / "out", other, SquareDetector())
    make_frames(clip, "07", tmp_path / "out", other, SquareDetector(), overwrite=True)
    assert size_of(tmp_path / "out" / "07" / "00001.jpg") == (48, 48)
    assert not (tmp_path / "out" / "07" / "00002.jpg").exists()


def test_another_video_of_that_name_is_refused(tmp_path, clip):
    make_frames(clip, "07", tmp_path / "out", WHOLE, None)
    other = write_clip(tmp_path / "other.mp4", counted(3))
    with pytest.raises(FolderError, match=r"of another video, 7\.mp4"):
        make_frames(other, "07", tmp_path / "out", WHOLE, None)


def test_pictures_that_were_deleted_are_made_again(tmp_path, clip):
    make_frames(clip, "07", tmp_path / "out", SMALL, SquareDetector())
    before = content(tmp_path / "out")
    (tmp_path / "out" / "07" / "00003.jpg").unlink()
    assert not make_frames(clip, "07", tmp_path / "out", SMALL, SquareDetector()).skipped
    assert content(tmp_path / "out") == before


def test_a_folder_of_somebody_else_is_left_alone(tmp_path, clip):
    (tmp_path / "out" / "07").mkdir(parents=True)
    with pytest.raises(FolderError, match="no index says that it was made here"):
        make_frames(clip, "07", tmp_path / "out", WHOLE, None)


def test_an_edited_index_is_refused(tmp_path, clip):
    make_frames(clip, "07", tmp_path / "out", WHOLE, None)
    index = index_path(tmp_path / "out", "07")
    index.write_text(index.read_text().replace('"pictures": 12', '"pictures": 13'))
    with pytest.raises(FolderError, match="was changed or damaged after it was written"):
        make_frames(clip, "07", tmp_path / "out", WHOLE, None)


def test_a_video_without_a_frame_leaves_nothing_behind(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError):
        make_frames(tmp_path / "x.mp4", "x", tmp_path / "out", WHOLE, None)
    assert not list((tmp_path / "out").iterdir())


def test_two_processes_do_not_make_one_video_at_a_time(tmp_path, clip):
    pytest.importorskip("fcntl", reason="locks of this kind are POSIX's")

    class Asks(SquareDetector):
        def detect(self, picture):
            if not self.asked:
                with pytest.raises(FolderError, match="another process"):
                    make_frames(clip, "07", tmp_path / "out", SMALL, SquareDetector())
            return super().detect(picture)

    make_frames(clip, "07", tmp_path / "out", SMALL, Asks())


def test_the_index_says_what_made_the_pictures(tmp_path, clip):
    make_frames(clip, "07", tmp_path / "out", SMALL, SquareDetector())
    made = MadeFrames.read(index_path(tmp_path / "out", "07"))
    assert made.source["file"] == "7.mp4"
    assert made.identity["detector"] == {"detector": "squares"}
    assert {"av", "libavcodec", "pillow", "jpg", "squares"} <= made.versions.keys()
    assert json.loads(index_path(tmp_path / "out", "07").read_text())["format"] == "cer-fusion frames index"


def test_a_damaged_video_is_kept_as_far_as_it_goes(tmp_path):
    whole = write_clip(tmp_path / "a.mp4", busy(40), movflags="faststart").read_bytes()
    (tmp_path / "3.mp4").write_bytes(whole[: int(len(whole) * 0.7)])
    made = make_frames(tmp_path / "3.mp4", "03", tmp_path / "out", WHOLE, None)
    assert 0 < made.counts["pictures"] == len(list((tmp_path / "out" / "03").iterdir())) < 40
    assert "promises 40 frames" in made.facts["faults"][-1]


def test_faces_are_followed_and_looked_for_everywhere_every_few_frames_at_cuts_and_where_one_is_lost(tmp_path):
    frames = [squares((20 + i, 30)) for i in range(7)]  # of which the sixth is looked at everywhere
    frames += [grey(200 if i else 199) for i in range(2)]  # lost at a cut; then nobody to follow
    frames += [squares((20 + i, 30)) for i in range(3)]
    frames += [squares((23 + i, 30), (100, 20)) for i in range(4)]  # somebody new, seen when all is looked at again
    path = write_clip(tmp_path / "1.mp4", frames)
    detector = FollowingDetector()
    make_frames(path, "01", tmp_path / "out", replace(SMALL, faces="all"), detector)
    near = [way == "near" for way in detector.ways]
    assert near[:7] == [False, True, True, True, True, False, True]
    found = [sum(row.face is not None for row in rows) for _, rows in groupby(
        read_table(table_path(tmp_path / "out", "01")), key=lambda row: row.frame
    )]  # fmt: skip
    always = FollowingDetector()
    make_frames(path, "01", tmp_path / "slow", replace(SMALL, faces="all", look_every=1), always)
    assert "near" not in always.ways
    wanted = [sum(row.face is not None for row in rows) for _, rows in groupby(
        read_table(table_path(tmp_path / "slow", "01")), key=lambda row: row.frame
    )]  # fmt: skip
    late = [i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b]
    assert len(late) <= 4
    assert all(i >= 12 for i in late)  # only the new face may be late


def test_a_run_that_was_killed_goes_on_following_as_it_would_have(tmp_path, clip):
    class Killed(FollowingDetector):
        def follow(self, picture, boxes):
            if len(self.ways) == 9:
                raise KeyboardInterrupt
            return super().follow(picture, boxes)

    make_frames(clip, "07", tmp_path / "whole", SMALL, FollowingDetector())
    with pytest.raises(KeyboardInterrupt):
        make_frames(clip, "07", tmp_path / "again", SMALL, Killed())
    make_frames(clip, "07", tmp_path / "again", SMALL, FollowingDetector())
    assert content(tmp_path / "again") == content(tmp_path / "whole")


def test_how_often_all_is_looked_at_fixes_the_pictures_where_the_detector_follows():
    seldom = replace(SMALL, look_every=9)
    assert seldom.identity(FollowingDetector()) != SMALL.identity(FollowingDetector())
    assert seldom.identity(SquareDetector()) == SMALL.identity(SquareDetector())
    with pytest.raises(OptionError, match="look_every"):
        FrameSettings(look_every=0)
