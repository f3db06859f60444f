from __future__ import annotations

import hashlib
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from cer_fusion.featstore import Manifest, read_soft_labels
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build, ferplus
from cer_fusion.featstore.manifests.adapters.fer2013 import grey_png, read_rows
from cer_fusion.featstore.manifests.adapters.ferplus import write_votes
from cer_fusion.featstore.manifests.adapters.tree import Tree
from cer_fusion.featstore.pictures import pictures
from tests.featstore.manifests.adapters.layouts import SAVED, as_folder, fill, tarred_and_gzipped, zipped

FACES = (np.arange(5 * 48 * 48) * 7919 % 251).astype(np.uint8).reshape(5, 48, 48)
USAGE = ("Training", "Training", "PublicTest", "PrivateTest", "Training")


def pixels(face: np.ndarray) -> str:
    return " ".join(map(str, face.ravel()))


def fer2013_csv() -> str:
    rows = [
        f"{emotion},{pixels(face)},{usage}" for emotion, face, usage in zip((0, 3, 6, 4, 1), FACES, USAGE, strict=True)
    ]
    return "\r\n".join(["emotion,pixels,Usage", *rows, ""])


NEW = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    "Training,fer0000000.png,0,0,4,0,2,0,0,0,4,0\n"
    "Training,fer0000001.png,0,9,1,0,0,0,0,0,0,0\n"
    "PublicTest,fer0028638.png,0,0,0,3,0,0,3,0,4,0\n"
    "PrivateTest,fer0032220.png,7,0,0,3,0,0,0,0,0,0\n"
    "Training,,0,0,0,0,0,0,0,0,0,10\n"
)


@pytest.mark.parametrize("pack", [as_folder, zipped, tarred_and_gzipped])
def test_pixels_become_pictures_that_are_read_like_any_other(tmp_path, pack):
    root = pack(fill(tmp_path / "f", {"fer2013/fer2013.csv": fer2013_csv(), "fer2013/README": "x"}))
    adapted = build("fer2013", root, archive=tmp_path / "out/m.pictures.zip")
    assert [(s.sample_id, s.label, s.split) for s in adapted.manifest.samples] == [
        ("row00000", "Angry", "train"),
        ("row00001", "Happy", "train"),
        ("row00002", "Neutral", "valid"),
        ("row00003", "Sad", "test"),
        ("row00004", "Disgust", "train"),
    ]
    adapted.manifest.write(tmp_path / "out/m.csv")
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    again = Manifest.read(moved / "m.csv")
    source = pictures.PictureSource(again.root)
    for sample, face in zip(again.samples, FACES, strict=True):
        with Image.open(io.BytesIO(source.read(sample.path))) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), face)


def test_the_archive_is_the_same_to_the_byte_on_every_machine(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text(fer2013_csv())
    build("fer2013", path, archive=tmp_path / "a.zip")
    digest = hashlib.sha256((tmp_path / "a.zip").read_bytes()).hexdigest()
    assert digest == "367240f80ec893ac01c4c012ce02a1ecba1847a22663d1b41cd0a88bbb74ab6d"


@settings(deadline=None, max_examples=50)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60))))
def test_grey_pixels_survive_as_png(face):
    with Image.open(io.BytesIO(grey_png(face))) as image:
        image.verify()
    with Image.open(io.BytesIO(grey_png(face))) as image:
        np.testing.assert_array_equal(np.asarray(image), face)


def test_a_picture_that_no_stored_block_holds_is_refused():
    with pytest.raises(ValueError, match="65,535"):
        grey_png(np.zeros((256, 256), dtype=np.uint8))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("7," + pixels(FACES[0]) + ",Training", r"fer2013.csv:2: ids .* run from 0 to 6, however: 7"),
        ("0,1 2 3,Training", r"fer2013.csv:2: expected 2,304 pixels from 0 to 255, however: 3 from 1 to 3"),
        ("0,,Training", r"fer2013.csv:2: expected 2,304 pixels"),
        ("0,a b,Training", r"fer2013.csv:2: pixels must be numbers"),
        (
            "0," + pixels(FACES[0].astype(int) + 200) + ",Training",
            r"fer2013.csv:2: expected 2,304 pixels from 0 to 255",
        ),
        ("0," + pixels(FACES[0]) + ",Test", r"fer2013.csv:2: Usage must be Training, PublicTest or PrivateTest"),
        ("0,1", r"fer2013.csv:2: expected 3 fields, however: 2"),
    ],
)
def test_faulty_rows_are_refused_and_leave_no_archive(tmp_path, row, message):
    root = fill(tmp_path / "f", {"fer2013.csv": f"emotion,pixels,Usage\n{row}\n"})
    with pytest.raises(ManifestError, match=message):
        build("fer2013", root, archive=tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_other_columns_are_refused(tmp_path):
    root = fill(tmp_path / "f", {"fer2013.csv": "label,pixels\n"})
    with pytest.raises(ManifestError, match="expected the columns emotion,pixels,Usage, however: label, pixels"):
        build("fer2013", root, archive=tmp_path / "a.zip")


@pytest.fixture
def pair(tmp_path) -> Path:
    return fill(tmp_path / "f", {"fer2013.csv": fer2013_csv(), "fer2013new.csv": NEW})


def test_ferplus_as_two_csv_files_gives_the_same_labels_as_its_folders(tmp_path, pair):
    folders = fill(
        tmp_path / "g",
        {
            f"{folder}/label.csv": "".join(
                line.partition(",")[2].replace(",", ',"(0, 0, 48, 48)",', 1) + "\n"
                for line in NEW.splitlines()[1:]
                if line.startswith(f"{usage},fer")
            )
            for usage, folder in zip(USAGE[1:4], ("FER2013Train", "FER2013Valid", "FER2013Test"), strict=True)
        },
    )
    for labels in ("compound7", "basic8"):
        found = build("ferplus", pair, labels=labels, archive=tmp_path / "p.zip")
        same = build("ferplus", folders, labels=labels)
        assert [s._replace(path="") for s in found.manifest.samples] == [
            s._replace(path="") for s in same.manifest.samples
        ]
        assert found.left_out["not a face"] == 1
        assert found.missing == ()
        assert len(same.missing) == len(same.manifest)


def test_each_row_of_votes_has_the_face_that_stands_beside_it(tmp_path, pair):
    manifest = build("ferplus", pair, archive=tmp_path / "p.zip").manifest
    assert [(s.sample_id, s.label, s.split) for s in manifest.samples] == [
        ("fer0000000", "Angrily Surprised", "train"),
        ("fer0028638", "Sadly Fearful", "valid"),
    ]
    with Image.open(io.BytesIO(pictures.PictureSource(manifest.root).read(manifest.samples[1].path))) as image:
        np.testing.assert_array_equal(np.asarray(image), FACES[2])


def test_a_compound_has_a_vote_a_pair_of_annotators_who_saw_its_two_emotions(tmp_path, pair):
    manifest = build("ferplus", pair, archive=tmp_path / "p.zip").manifest
    votes = {face.sample_id: face.votes for face in ferplus._faces(Tree(pair))}
    assert write_votes(pair, manifest, tmp_path / "votes.csv", labels="compound7") == 2
    shares = read_soft_labels(tmp_path / "votes.csv", manifest.classes.labels)
    for sample in manifest.samples:
        own = votes[sample.sample_id]
        pairs = {name: own[one] * own[other] for (one, other), name in ferplus._PAIRS.items()}
        expected = [pairs[name] / sum(pairs.values()) for name in manifest.classes.labels]
        np.testing.assert_allclose(shares[sample.sample_id], expected, atol=1e-6)
        assert manifest.classes.labels[np.argmax(expected)] == sample.label


def test_votes_of_the_pair_become_soft_labels(tmp_path, pair):
    manifest = build("ferplus", pair, labels="basic8", archive=tmp_path / "p.zip").manifest
    assert write_votes(pair, manifest, tmp_path / "votes.csv") == 2
    assert (tmp_path / "votes.csv").read_text().splitlines()[1] == "fer0000001,0,9,1,0,0,0,0,0"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.rsplit("\n", 2)[0] + "\n", r"fer2013new.csv ends before .*fer2013.csv"),
        (lambda text: text + "Training,x.png,0,0,0,0,0,0,0,0,0,0\n", r"new.csv:7 and .* stands beside no row"),
        (lambda text: text.replace("PublicTest", "PrivateTest"), r"new.csv:4 and .* a row of its valid split"),
        (lambda text: text.replace(",4,0\n", ",x,0\n", 1), r"new.csv:2: votes must be numbers"),
        (lambda text: text.replace(",4,0\n", ",0\n", 1), r"new.csv:2: expected Usage, Image name and 10 votes"),
    ],
)
def test_two_files_that_do_not_belong_together_are_refused(tmp_path, pair, edit, message):
    (pair / "fer2013new.csv").write_text(edit(NEW))
    with pytest.raises(ManifestError, match=message):
        build("ferplus", pair, archive=tmp_path / "p.zip")
    with pytest.raises(ManifestError, match="name the zip file"):
        build("ferplus", pair)


@pytest.mark.parametrize("how", SAVED)
def test_lists_of_faces_are_read_however_a_spreadsheet_saved_them(tmp_path, how):
    texts = {"fer2013.csv": fer2013_csv(), "fer2013new.csv": NEW}
    rows = {name: [line.split(",") for line in text.splitlines()] for name, text in texts.items()}
    plain = fill(tmp_path / "plain", texts)
    root = fill(tmp_path / "f", {name: SAVED[how](table) for name, table in rows.items()})
    for kind in ("fer2013", "ferplus"):
        wanted = build(kind, plain, archive=tmp_path / "p.zip").manifest
        assert build(kind, root, archive=tmp_path / "a.zip").manifest.samples == wanted.samples
        assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "p.zip").read_bytes()
    headless = fill(
        tmp_path / "h", {"fer2013.csv": fer2013_csv(), "fer2013new.csv": SAVED[how](rows["fer2013new.csv"][1:])}
    )
    assert build("ferplus", headless, archive=tmp_path / "b.zip").manifest.samples == wanted.samples


def test_columns_in_another_order_and_spelling_are_found_by_their_names(tmp_path):
    text = "Emotion, usage ,Pixels,source\n0,Training," + pixels(FACES[0]) + ",web\n"
    (tmp_path / "fer2013.csv").write_text(text)
    assert len(build("fer2013", tmp_path / "fer2013.csv", archive=tmp_path / "a.zip").manifest) == 1
    (tmp_path / "fer2013.csv").write_text(text.replace("source", "usage"))
    with pytest.raises(ManifestError, match=r"fer2013.csv:1: columns 'usage' and 'usage' both look like 'Usage'"):
        build("fer2013", tmp_path / "fer2013.csv", archive=tmp_path / "b.zip")


def test_a_list_of_faces_that_is_not_utf8_is_told_with_its_line_and_read_in_the_encoding_that_is_named(tmp_path):
    row = "0," + pixels(FACES[0]) + ",Training,{}\r\n"
    data = ("emotion,pixels,Usage,note\r\n" + row.format("a") * 20 + row.format("é")).encode("cp1252")
    (tmp_path / "fer2013.csv").write_bytes(data)
    with pytest.raises(ManifestError, match=r"fer2013\.csv:22: not UTF-8 text \(byte " + str(data.index(0xE9))):
        build("fer2013", tmp_path / "fer2013.csv", archive=tmp_path / "a.zip")
    found = build("fer2013", tmp_path / "fer2013.csv", archive=tmp_path / "a.zip", encoding="cp1252")
    assert len(found.manifest) == 21


@pytest.mark.parametrize("cell", ["0.4", "-1", "inf"])
def test_votes_that_are_no_counts_are_refused(tmp_path, pair, cell):
    (pair / "fer2013new.csv").write_text(NEW.replace(",4,0\n", f",{cell},0\n", 1))
    with pytest.raises(ManifestError, match=r"new.csv:2: votes must be whole numbers from 0 up"):
        build("ferplus", pair, archive=tmp_path / "p.zip")


def test_a_list_of_any_size_is_read_a_row_at_a_time(tmp_path):
    row = "0," + pixels(FACES[0]) + ",Training\n"
    with (tmp_path / "fer2013.csv").open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for _ in range(3000):
            file.write(row)
    tree = Tree(tmp_path / "fer2013.csv", "cp1252")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(tree, "fer2013.csv")) == 3000
        assert tracemalloc.get_traced_memory()[1] < 3 << 20, "of a file of more than 20 MB"
    finally:
        tracemalloc.stop()
