"""The line from videos to rows of sound beside rows of pictures: masked, counted, resumed, joined, verified."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.featstore import Manifest, Store, extract
from cer_fusion.featstore.errors import IncompleteError
from cer_fusion.frames import FrameSound
from cer_fusion.frames.sound import RATE_HZ
from cer_fusion.fusion.keeping.answers import read_predictions
from tests.backbones.test_audio import loud  # noqa: F401  # a fixture: a backbone of sound without any library
from tests.featstore.conftest import ToyEmbedder
from tests.frames.clips import tones, write_sounding

STEADY, UNEVEN = range(0, 1000, 50), [0, 40, 70, 200, 233, 410, 480, 610, 777, 930]
SHORT = "the sound of its video has ended"
NONE = "its video has no sound track"


@pytest.fixture
def listed(run, tmp_path):
    """List frames of four videos: a tone that steps at .5 s, uneven times, sound to .38 s alone, no sound."""
    videos = tmp_path / "videos"
    videos.mkdir()
    step = tones((0, 500), (0.5, 2000), end_s=1.0)
    write_sounding(videos / "1.mkv", STEADY, step)
    write_sounding(videos / "2.mp4", UNEVEN, np.stack([step, step], axis=1), rate_hz=48_000, codec="aac")
    write_sounding(videos / "3.mkv", STEADY, step[: round(0.38 * 48_000)])
    write_sounding(videos / "4.mkv", STEADY)
    run("cer-feat frames videos -o frames --faces none")
    run("cer-feat manifest frames frames -o ce.csv")
    return Manifest.read(tmp_path / "ce.csv")


LINE = "cer-feat extract --backbone audio:loud -O window=0.2 --data ce.csv --videos videos --device cpu"


def test_every_frame_has_the_row_of_its_moment_or_is_masked_and_counted(run, loud, listed, tmp_path):  # noqa: F811
    result = run(LINE + " --json")
    report = json.loads(result.stdout)
    assert (report["samples"], report["embedded"]) == (70, 20 + 10 + 9)
    assert report["masked"] == {SHORT: 11, NONE: 20}
    assert "31 of 70 frames are masked, and have no row" in " ".join(result.stderr.split())
    view = Store(tmp_path / "features").view(["loud"], missing="drop")
    assert not {sample_id[:2] for sample_id in view.ids} & {"04"}
    changes = dict(zip(view.ids, view.blocks["loud.changes"][:, 0], strict=True))
    for video, times_ms in (("01", STEADY), ("02", UNEVEN)):
        for i, time_ms in enumerate(times_ms, start=1):
            wanted = 2 * (500 if time_ms <= 400 else 2000 if time_ms >= 600 else 500 + 7.5 * (time_ms - 400))
            assert changes[f"{video}/{i:05d}.jpg"] == pytest.approx(wanted, rel=0.06), (video, time_ms)
    assert (view.blocks["loud.level"] > 0.1).all(), "never zero rows"
    shown = json.loads(run("cer-feat show loud --json").stdout)
    assert shown["masked"] == report["masked"]
    assert shown["identity"]["options"]["window"] == 0.2
    assert {"probe", "rate_hz", "decoding"} <= set(shown["identity"]["sound"])
    assert "libavcodec" in shown["described"]["versions"]


def test_a_second_run_finds_everything_there_and_parts_and_processes_make_the_same(run, loud, listed, tmp_path):  # noqa: F811
    run(LINE + " --shard-rows 16")
    names = sorted(path.name for path in (tmp_path / "features" / "ce").glob("loud@*/shard-*"))
    again = json.loads(run(LINE + " --shard-rows 16 --json").stdout)
    assert (again["already"], again["embedded"], again["masked"]) == (70, 0, {SHORT: 11, NONE: 20})
    for part in (1, 0):
        run(LINE + f" --shard-rows 16 --store parted --parts 2 --part {part}")
    parted = sorted(path.name for path in (tmp_path / "parted" / "ce").glob("loud@*/shard-*"))
    assert parted == names


def test_rows_of_sound_and_of_pictures_are_joined_by_sample_and_do_not_disturb_each_other(run, loud, listed, tmp_path):  # noqa: F811
    store = Store.create(tmp_path / "features")
    extract(ToyEmbedder(), listed, store, dataset="ce")
    run(LINE)
    again = extract(ToyEmbedder(), listed, store, dataset="ce")
    assert (again.already, again.embedded) == (70, 0)
    with pytest.raises(IncompleteError, match=r"31 of 70 samples have no row in 'loud@(.|\n)*masked: the sound of"):
        store.view(["toy", "loud"])
    both = store.view(["toy", "loud"], missing="drop")
    assert len(both) == 39
    alone = store.view(["toy"])
    places = [alone.ids.index(sample_id) for sample_id in both.ids]
    assert np.array_equal(both.blocks["toy.left"], alone.blocks["toy.left"][places])


def test_a_changed_picture_unsettles_no_row_of_sound_and_a_changed_video_stops_the_run(run, loud, listed, tmp_path):  # noqa: F811
    run(LINE)
    (tmp_path / "frames" / "01" / "00003.jpg").write_bytes((tmp_path / "frames" / "02" / "00001.jpg").read_bytes())
    assert json.loads(run(LINE + " --json").stdout)["already"] == 70
    assert "made from sound, which was not compared" in " ".join(run("cer-feat verify --images").stderr.split())
    assert run("cer-feat verify --images --videos videos").stdout.rstrip().endswith("all as written")
    shutil.copy(tmp_path / "videos" / "3.mkv", tmp_path / "videos" / "1.mkv")
    with pytest.raises(Exception, match="is not the video that its frames were made of"):
        run(LINE)
    told = run("cer-feat verify --images --videos videos", code=1).stdout
    assert told.count("01/000") >= 20
    assert "is not the video that its frames were made of" in told
    run("cer-feat frames videos -o frames --faces none --overwrite")
    report = json.loads(run(LINE + " --json").stdout)
    assert (report["embedded"], report["shared"], report["masked"]) == (0, 9, {SHORT: 22, NONE: 20})


def test_reader_processes_hear_what_threads_hear(loud, listed, tmp_path):  # noqa: F811
    from cer_fusion.backbones import create
    from cer_fusion.backbones.zoo.audio import SoundBackbone

    made = create("audio:loud", window=0.2)
    assert isinstance(made, SoundBackbone)
    sound = FrameSound(tmp_path / "frames", tmp_path / "videos", made.window_s)
    made.take_sound(sound)
    found = []
    for processes in (0, 1):
        store = Store.create(tmp_path / f"store{processes}")
        extract(made, listed, store, dataset="ce", source=sound, reader_processes=processes)
        found.append(sorted(path.name for path in store.path.glob("ce/loud@*/shard-*")))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--backbone audio:loud", "--videos: is needed by audio:loud"),
        ("--backbone vit --videos videos", "says where the sound is"),
        ("--backbone audio:loud --backbone vit --videos videos", "vit look at pictures and the others hear sound"),
        ("--backbone audio:loud --videos videos --align", "sound is heard: there is no face in it"),
    ],
)
def test_sound_without_videos_beside_pictures_or_with_faces_is_refused(run, loud, listed, more, told):  # noqa: F811
    said = " ".join(run(f"cer-feat extract --data ce.csv {more}", code=2).stderr.replace("│", " ").split())
    assert told in said


@pytest.fixture
def labelled(run, listed, tmp_path):
    """The same frames with labels, one a half of each video: a dataset beside, `ce`."""
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sample_id", "path", "label", "split", "group"])
        for sample in listed.samples:
            later = int(sample.sample_id[3:8]) > 5
            split = "test" if sample.sample_id.startswith("02") else "train"
            label = ["Sadly Angry", "Fearfully Surprised"][later]
            table.writerow([sample.sample_id, sample.path, label, split, sample.group])
    run("cer-feat manifest csv labels.csv --pictures frames -o ce.csv --overwrite")


PICTURES = "cer-feat extract --backbone timm:test_resnet --weights random --as seen --data ce.csv --device cpu"


def test_videos_are_answered_by_sound_and_pictures_to_the_bit_as_step_by_step(run, loud, labelled, tmp_path):  # noqa: F811
    run(PICTURES)
    run(LINE)
    run(LINE.replace("window=0.2", "window=0.4,causal=true") + " --as heard")
    run("cer-fuse train --head linear --features seen,loud,heard --missing drop -o runs/both ")
    run("cer-fuse predict --head runs/both --data ce --missing drop -o steps.csv")
    shown = run("cer-fuse predict videos --head runs/both --no-faces -o once.csv --device cpu --json")
    steps, once = read_predictions(tmp_path / "steps.csv"), read_predictions(tmp_path / "once.csv")
    assert steps.ids == once.ids
    assert (steps.proba == once.proba).all()
    masked = json.loads(shown.stdout)["masked"]
    assert masked.pop(NONE) == 20
    assert masked.pop(SHORT) == 11
    assert sum(masked.values()) == 70 - 31 - len(once.ids), "the first frames, before which nothing was heard"
    assert "frames are masked, and have no answer" in " ".join(shown.stderr.split())


def test_a_video_without_sound_and_a_picture_have_no_answer_from_a_head_that_hears(run, loud, labelled, tmp_path):  # noqa: F811
    run(LINE)
    run("cer-fuse train --head linear --features loud --missing drop -o runs/hears ")
    told = run("cer-fuse predict videos/4.mkv --head runs/hears --no-faces", code=1).stderr
    assert "20 frames are masked, and have no answer: its video has no sound track (20)" in " ".join(told.split())
    told = run("cer-fuse predict frames/01/00001.jpg --head runs/hears --no-faces", code=1).stderr
    assert "made from the sound around frames" in " ".join(told.replace("│", " ").split())


@pytest.mark.slow
def test_a_causal_sequence_on_causal_sound_answers_without_the_future(run, loud, labelled, tmp_path):  # noqa: F811
    run(LINE.replace("window=0.2", "window=0.2,causal=true"))
    run("cer-fuse train --head sequence --features loud --missing drop -o runs/live "
        "--set causal=true,window=5,epochs=3,members=1,width=16,standardize=standard")  # fmt: skip
    step = tones((0, 500), (0.5, 2000), end_s=1.0, rate_hz=RATE_HZ)
    other = np.where(
        np.arange(len(step)) < round(0.6 * RATE_HZ), step, np.random.default_rng(0).normal(0, 0.2, len(step))
    )
    answers = []
    for number, sound in enumerate((step, other)):
        (tmp_path / f"new{number}").mkdir()
        write_sounding(tmp_path / f"new{number}" / "5.mkv", STEADY, sound, rate_hz=RATE_HZ)
        run(f"cer-fuse predict new{number} --head runs/live --no-faces -o {number}.csv")
        found = read_predictions(tmp_path / f"{number}.csv")
        answers.append(dict(zip(found.ids, found.proba, strict=True)))
    one, two = answers
    assert one.keys() == two.keys() == {f"05/{i:05d}.jpg" for i in range(3, 21)}
    early = [name for name in one if int(name[3:8]) <= 13]  # shown at 0.6 s
    assert all((one[name] == two[name]).all() for name in early)
    assert any((one[name] != two[name]).any() for name in one if name not in early)


@pytest.mark.slow
def test_a_head_that_learned_in_seconds_is_asked_about_videos_in_seconds(run, loud, listed, tmp_path):  # noqa: F811
    times_ms = {"01": STEADY, "02": UNEVEN, "03": STEADY}
    shown_s = {
        f"{one}/{i + 1:05d}.jpg": ms / 1000 for one, listed_ms in times_ms.items() for i, ms in enumerate(listed_ms)
    }
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sample_id", "path", "label", "split", "group", "time_s"])
        for sample in listed.samples:
            if (time_s := shown_s.get(sample.sample_id)) is not None:
                split = "test" if sample.sample_id.startswith("03") else "train"
                label = ["Sadly Angry", "Fearfully Surprised"][time_s > 0.4]
                table.writerow([sample.sample_id, sample.path, label, split, sample.group, time_s])
    run("cer-feat manifest csv labels.csv --pictures frames -o ce.csv --overwrite")
    (tmp_path / "videos" / "4.mkv").unlink()
    run(LINE)
    run("cer-fuse train --head sequence --features loud --missing drop -o runs/timed "
        "--set window=5,epochs=3,members=1,width=16,standardize=standard,step=0.1")  # fmt: skip
    run("cer-fuse predict --head runs/timed --data ce --missing drop -o steps.csv")
    run("cer-fuse predict videos --head runs/timed --no-faces -o once.csv")
    steps, once = read_predictions(tmp_path / "steps.csv"), read_predictions(tmp_path / "once.csv")
    assert steps.ids == once.ids
    np.testing.assert_allclose(steps.proba, once.proba, atol=1e-6)
