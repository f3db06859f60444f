"""Tables of OpenFace, Py-Feat and blendshapes: rows at their frames, failures in quarantine, nothing guessed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import Manifest, Sample, class_set, import_rows
from cer_fusion.featstore.errors import FormatError, ManifestError, RowsError
from cer_fusion.featstore.exchange.face_tables import _ONE_OF, _SHAPES, read_face_table
from cer_fusion.featstore.exchange.foreign_files import read_foreign, recognise

UNITS = ("01", "02", "04", "12")


def frames(videos: dict[str, int], *, name: str = "{:05d}.jpg", root: Path = Path()) -> Manifest:
    """Samples of frames as `cer-feat manifest frames` lists them, counted from 1."""
    samples = [
        Sample(f"{video}/{i:05d}.jpg", f"{video}/{name.format(i)}", "", "", video)
        for video, count in videos.items()
        for i in range(1, count + 1)
    ]
    return Manifest(samples=tuple(samples), classes=class_set("abaw7"), root=root)


def openface(count: int, *, seed: int = 0, lost: tuple[int, ...] = (), face: str = "frame") -> list[list[object]]:
    """What OpenFace 2 writes of a video, blanks after commas, failures as rows of zeros."""
    random = np.random.default_rng(seed)
    titles = [*(["frame", " face_id", " timestamp"] if face == "frame" else ["face"]), " confidence"]
    titles += [" success"] if face == "frame" else []
    titles += [f" gaze_0_{axis}" for axis in "xyz"] + [" eye_lmk_x_0"]
    titles += [f" pose_{kind}{axis}" for kind in "TR" for axis in "xyz"] + [" x_0", " p_scale"]
    titles += [f" AU{unit}_r" for unit in UNITS] + [f" AU{unit}_c" for unit in UNITS]
    rows: list[list[object]] = [titles]
    for i in range(1, count + 1):
        sound = i not in lost
        start = [i, 0, f"{(i - 1) / 30:.3f}"] if face == "frame" else [0]
        values = [*random.normal(size=3), 300, *random.normal(size=6), 400, 1.5, *random.uniform(0, 5, 4)]
        values += random.integers(0, 2, 4).tolist()
        values = [f" {value:.3f}" for value in (values if sound else [0.0] * len(values))]
        rows.append([*start, f" {0.98 if sound else 0.02}", *([f" {int(sound)}"] if face == "frame" else []), *values])
    return rows


def pyfeat(places: list[tuple[str, int]], *, seed: int = 1, lost: tuple[int, ...] = ()) -> list[list[object]]:
    """What Fex of Py-Feat writes: frames counted from 0, cells of failures blank."""
    random = np.random.default_rng(seed)
    titles = ["", "FaceRectX", "FaceScore", "x_0", "Pitch", "Roll", "Yaw", *(f"AU{unit}" for unit in UNITS)]
    titles += ["anger", "happiness", "input", "frame", "approx_time"]
    rows: list[list[object]] = [titles]
    for i, (source, frame) in enumerate(places):
        values = ["" if i in lost else f"{value:.4f}" for value in random.uniform(0, 1, 9)]
        rows.append([i, 10, "" if i in lost else 0.97, 3, *values, source, frame, "00:00"])
    return rows


def blendshapes(keys: dict[str, list[object]], count: int) -> list[list[object]]:
    random = np.random.default_rng(2)
    body = [[values[i] for values in keys.values()] + random.uniform(0, 1, 52).round(4).tolist() for i in range(count)]
    return [[*keys, _ONE_OF[0], *_SHAPES], *body]


def write(path: Path, rows: list[list[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def column(rows: list[list[object]], title: str, line: int) -> float:
    titles = [str(one).strip() for one in rows[0]]
    return float(str(rows[line][titles.index(title)]))


def take_in(path: Path, manifest: Manifest, store, name: str = "tool", **how: object):
    more = {key: how.pop(key) for key in ("extra",) if key in how}
    found = read_foreign(path, **how)
    return import_rows(
        found.blocks, found.names, manifest, store, dataset="d", name=name, described=found.described,
        failed=found.failed, **more,
    )  # fmt: skip


def test_openface_rows_are_their_frames_with_named_columns_and_failures_in_quarantine(tmp_path, store):
    tables = {video: openface(n, seed=n, lost=(2,)) for video, n in (("01", 5), ("talk", 4))}
    for video, rows in tables.items():
        write(tmp_path / "out" / f"{video}.csv", rows)
    manifest = frames({"01": 5, "talk": 4, "03": 1})
    report = take_in(tmp_path / "out", manifest, store)
    assert (report.samples, report.matched, report.matched_by) == (10, 7, "sample_id")
    assert report.failed == ("01/00002.jpg", "talk/00002.jpg")
    assert set(report.missing) == {*report.failed, "03/00001.jpg"}
    feature = store.feature("tool")
    assert dict(feature.spec.blocks) == {"au_intensity": 4, "au_presence": 4, "gaze": 3, "pose": 6}
    assert feature.spec.described["columns"]["au_intensity"] == [f"AU{unit}_r" for unit in UNITS]
    quarantined = feature.index().quarantined
    assert quarantined["01/00002.jpg"][1] == "OpenFace found no face: success 0, confidence 0.02"
    assert "talk/00002.jpg" in (feature.folder / "quarantine.csv").read_text()
    view = store.view(["tool"], missing="drop")
    assert view.ids == tuple(name for name in manifest.ids if name not in report.missing)
    for video, rows in tables.items():
        for line in (1, 3, 4):
            at = view.ids.index(f"{video}/{line:05d}.jpg")
            np.testing.assert_allclose(
                view.blocks["tool.au_intensity"][at], [column(rows, f"AU{unit}_r", line) for unit in UNITS], rtol=1e-6
            )
            np.testing.assert_allclose(view.blocks["tool.pose"][at][0], column(rows, "pose_Tx", line), rtol=1e-6)
    again = take_in(tmp_path / "out", manifest, store)
    assert again.feature == report.feature
    assert len(store.feature("tool").shard_paths()) == 1


def test_a_face_without_any_unit_says_something_where_the_tool_says_that_it_succeeded(tmp_path, store):
    rows = openface(3)
    titles = [str(one).strip() for one in rows[0]]
    for unit in UNITS:
        rows[2][titles.index(f"AU{unit}_c")] = " 0.000"
    report = take_in(write(tmp_path / "01.csv", rows), frames({"01": 3}), store, rows_keys=["au_presence"])
    assert (report.matched, report.blank) == (3, ())


def test_pyfeat_counts_frames_from_zero_and_may_skip_some(tmp_path, store):
    rows = pyfeat([("talks/a.mp4", 0), ("talks/a.mp4", 2), ("talks/a.mp4", 4), ("talks/b.mp4", 0)], lost=(1,))
    report = take_in(write(tmp_path / "fex.csv", rows), frames({"a": 5, "b": 1}), store)
    assert report.failed == ("a/00003.jpg",)
    assert set(report.missing) == {"a/00002.jpg", "a/00003.jpg", "a/00004.jpg"}
    view = store.view(["tool"], missing="drop")
    assert view.ids == ("a/00001.jpg", "a/00005.jpg", "b/00001.jpg")
    np.testing.assert_allclose(view.blocks["tool.au"][1], [column(rows, f"AU{unit}", 3) for unit in UNITS], rtol=1e-6)
    assert view.widths == {"tool.au": 4, "tool.emotion": 2, "tool.pose": 3}


def test_pictures_are_matched_by_their_files_names(tmp_path, store, make_manifest):
    manifest = make_manifest(4)
    names = [f"/elsewhere/pictures/{sample.path}" for sample in manifest.samples]
    rows = pyfeat([(name, i) for i, name in enumerate(names)])
    assert take_in(write(tmp_path / "fex.csv", rows), manifest, store).matched == 4
    for i, sample in enumerate(manifest.samples):  # FaceLandmarkImg writes a file a picture
        write(tmp_path / "each" / f"{Path(sample.path).stem}.csv", openface(1, face="face", seed=i))
    assert take_in(tmp_path / "each", manifest, store, "each").matched == 4


@pytest.mark.parametrize("name", ["frame_{:d}.png", "img{:06d}.jpg"])
def test_frames_are_found_however_their_files_write_the_number(tmp_path, store, name):
    table = write(tmp_path / "1.csv", openface(3))  # the video is 01 here, 1 there
    report = take_in(table, frames({"01": 3}, name=name), store)
    assert (report.matched, report.matched_by) == (3, "video and number of the frame")


def test_blendshapes_come_by_file_by_frame_or_by_time(tmp_path, store):
    by_file = blendshapes({"image": [f"7/{i:05d}.jpg" for i in (1, 2, 3)]}, 3)
    by_frame = blendshapes({"video": ["7"] * 3, "frame": [0, 1, 2]}, 3)
    by_time = blendshapes({"timestamp_ms": [0, 40, 80]}, 3)
    manifest = frames({"7": 3})
    for rows, how in ((by_file, {}), (by_frame, {"first_frame": 0}), (by_time, {"fps": 25.0})):
        report = take_in(write(tmp_path / "7.csv", rows), manifest, store, f"way{len(how)}{next(iter(how), '')}", **how)
        assert (report.matched, report.missing) == (3, ())
        np.testing.assert_allclose(
            store.view([report.feature]).join()[1], np.array(rows[2][-52:], np.float32), rtol=1e-6
        )


def test_rows_of_no_blendshape_at_all_are_failures(tmp_path, store):
    rows = blendshapes({"image": ["7/00001.jpg", "7/00002.jpg", "7/00003.jpg"]}, 3)
    rows[1][1:] = [0] * 52
    rows[2][1:] = [""] * 52
    report = take_in(write(tmp_path / "m.csv", rows), frames({"7": 3}), store)
    assert report.failed == ("7/00001.jpg", "7/00002.jpg")


def test_of_several_faces_the_surest_is_taken_where_that_is_asked_for(tmp_path, store):
    rows = openface(3)
    second = [f" {column(rows, str(title).strip(), 2)}" for title in rows[0]]
    second[1], second[3], second[-8] = "1", " 0.5", " 4.000"
    rows.append([2, *second[1:]])
    path = write(tmp_path / "01.csv", rows)
    with pytest.raises(RowsError, match=r"1 frames have several faces.*01\.csv:5[\s\S]*--face best"):
        read_face_table(path)
    assert column(rows, "AU01_r", 2) == pytest.approx(
        read_face_table(path, face="best").blocks["au_intensity"][1, 0], rel=1e-6
    )


def test_frames_that_no_sample_has_are_refused_or_left_out_as_rows_of_other_tools_are(tmp_path, store):
    path = write(tmp_path / "01.csv", openface(5, lost=(5,)))
    with pytest.raises(ManifestError, match=r"2 of 5 names .*01/00004\.jpg[\s\S]*--extra drop"):
        take_in(path, frames({"01": 3}), store)
    report = take_in(path, frames({"01": 3}), store, extra="drop")
    assert (report.matched, report.failed, report.extra) == (3, (), ("01/00004.jpg", "01/00005.jpg"))


def changed(rows, title, line, value):
    titles = [str(one).strip() for one in rows[0]]
    rows[line][titles.index(title)] = value
    return rows


def emptied(rows, title):
    for line in range(1, len(rows)):
        changed(rows, title, line, "")
    return rows


@pytest.mark.parametrize(
    ("rows", "how", "error", "message"),
    [
        (changed(openface(3), "AU01_r", 2, " 5.5"), {}, RowsError, r"t\.csv:3: AU01_r must lie in \[0, 5\], .* 5\.5"),
        (changed(openface(3), "AU02_c", 2, " 0.5"), {}, RowsError, r"t\.csv:3: AU02_c must be 0 or 1"),
        (changed(openface(3), "AU02_c", 2, " x"), {}, FormatError, r"t\.csv:3, column AU02_c: expected a number"),
        (changed(openface(3), "gaze_0_x", 2, ""), {}, FormatError, r"t\.csv:3, column gaze_0_x: expected a number"),
        (changed(openface(3), "success", 2, 2), {}, FormatError, "success must be 0 or 1"),
        (changed(openface(3), "frame", 2, "2.5"), {}, FormatError, "expected the number of a frame"),
        (changed(openface(3), "frame", 1, "0"), {}, FormatError, "frame 0 comes before the first, 1"),
        ([*openface(2), [1, 2]], {}, FormatError, r"t\.csv:4: expected 25 fields, however: 2"),
        (openface(2, lost=(1, 2)), {}, RowsError, "OpenFace failed at all 2 rows"),
        (openface(2), {"blocks": ["gase"]}, FormatError, "no columns for a block 'gase'.*gaze"),
        (openface(2), {"fps": 30.0}, FormatError, r"has numbers of frames \(frame\)"),
        (emptied(pyfeat([("a.mp4", 0)]), "AU02"), {}, FormatError, r"AU02 are empty in all 1 rows[\s\S]*emotion,pose"),
        (changed(pyfeat([("a.mp4", 0)]), "AU02", 1, 1.5), {}, RowsError, r"AU02 must lie in \[0, 1\]"),
        (blendshapes({"frame": [0]}, 1), {}, FormatError, "counted from 0 or from 1[\\s\\S]*--first-frame"),
        (blendshapes({"timestamp": [0]}, 1), {}, FormatError, "say the frames a second: --fps"),
        (blendshapes({"timestamp": [0.05]}, 1), {"fps": 30.0}, FormatError, "lies between frames at 30 a second"),
        (blendshapes({"image": ["a.png"]}, 1), {"first_frame": 0}, FormatError, "no numbers of frames"),
        ([row[:-2] for row in blendshapes({"image": ["a.png"]}, 1)], {}, FormatError, "lacks .*: noseSneerLeft"),
        ([["a", "b"], [1, 2]], {}, FormatError, "is not a table of OpenFace, Py-Feat or blendshapes"),
        ([[*openface(1)[0], " AU01_r"], [*openface(1)[1], 1]], {}, FormatError, "columns stand twice: AU01_r"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_meant_is_refused_with_file_and_line(rows, how, error, message, tmp_path):
    with pytest.raises(error, match=message):
        read_face_table(write(tmp_path / "t.csv", rows), **how)


def test_tables_of_one_folder_have_the_same_columns(tmp_path):
    write(tmp_path / "a.csv", openface(2))
    write(tmp_path / "b.csv", [[cell for i, cell in enumerate(row) if i != 5] for row in openface(2)])
    with pytest.raises(FormatError, match=r"b\.csv has other columns than .*a\.csv: gaze_0_x"):
        read_face_table(tmp_path)


def test_files_are_told_apart_by_their_titles_alone(tmp_path):
    write(tmp_path / "a.csv", openface(1))
    assert recognise(tmp_path / "a.csv") == recognise(tmp_path) == "face table"
    write(tmp_path / "b" / "list.csv", [["sample_id", "path"], ["a", "b"]])
    with pytest.raises(FormatError, match=r"is a text file[\s\S]*a table of OpenFace, Py-Feat or blendshapes"):
        recognise(tmp_path / "b" / "list.csv")
    assert recognise(tmp_path / "b") == "sample folder"
