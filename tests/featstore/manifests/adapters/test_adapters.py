from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cer_fusion.featstore.errors import ClassSetError, ManifestError
from cer_fusion.featstore.manifests import adapters
from cer_fusion.featstore.manifests.adapters import KINDS, build
from cer_fusion.featstore.manifests.adapters.ferplus import VOTES, basic8, compound7
from cer_fusion.featstore.manifests.splitting import keep_first
from cer_fusion.featstore.pictures import pictures
from tests.featstore.manifests.adapters.layouts import as_folder, fill, tarred, zipped
from tests.pages import Page

FERPLUS = Path(__file__).resolve().parents[5] / "shared" / "data" / "ferplus.zip"


@pytest.fixture
def rafdb(tmp_path) -> Path:
    lines = "train_0001.jpg 8\r\ntrain_0002.jpg 2\r\n\r\ntest_0001.jpg 11\r\n"
    return fill(
        tmp_path / "RAF-DB",
        {
            "compound/compound/EmoLabel/list_patition_label.txt": lines,
            "compound/compound/Image/aligned/train_0001_aligned.jpg": b"1",
            "compound/compound/Image/aligned/train_0002_aligned.jpg": b"2",
            "compound/compound/Image/aligned/test_0001_aligned.JPG": b"3",
            "__MACOSX/compound/EmoLabel/list_patition_label.txt": b"\0\1",
            "basic/EmoLabel/list_patition_label.txt": "train_00001.jpg 5\ntest_0001.jpg 7\n",
            "basic/Image/aligned/train_00001_aligned.jpg": b"4",
        },
    )


@pytest.mark.parametrize("pack", [as_folder, zipped, tarred])
def test_rafdb_compound_is_found_however_deep_and_mapped_to_abaw(rafdb, pack):
    adapted = build("rafdb-compound", pack(rafdb))
    manifest = adapted.manifest
    assert [(s.sample_id, s.label, s.split) for s in manifest.samples] == [
        ("train_0001", "Fearfully Surprised", "train"),
        ("test_0001", "Disgustedly Surprised", "test"),
    ]
    assert adapted.left_out == {"Happily Disgusted: no class of abaw7": 1}
    assert [pictures.PictureSource(manifest.root).read(s.path) for s in manifest.samples] == [b"1", b"3"]


def test_rafdb_compound_keeps_all_eleven_on_request(rafdb):
    adapted = build("rafdb-compound", rafdb, classes="rafdb_compound11")
    assert [s.label for s in adapted.manifest.samples][1] == "Happily Disgusted"
    assert adapted.left_out == {}


def test_rafdb_basic_stands_beside_compound(rafdb):
    manifest = build("rafdb-basic", rafdb, pictures="original").manifest
    assert [s.label for s in manifest.samples] == ["Sadness", "Neutral"]
    assert manifest.samples[0].path == "basic/Image/original/train_00001.jpg"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train_0002.jpg 12", "ids .* run from 1 to 11, however: 12"),
        ("0001.jpg 3", "prefix"),
        ("train_1.jpg", "expected"),
    ],
)
def test_faulty_rafdb_lines_are_refused_with_file_and_line(tmp_path, line, message):
    root = fill(tmp_path / "r", {"EmoLabel/list_patition_label.txt": f"train_0001.jpg 3\n{line}\n"})
    with pytest.raises(ManifestError, match=rf"list_patition_label.txt:2: .*{message}"):
        build("rafdb-compound", root)


# Test supports per class: the paper's tables, inverted. Nothing official gives the seven train counts, only their sum;
# these are made up to it, as are those of the four classes without a counterpart, 3,954 pictures in all.
ABAW_TEST = {8: 116, 1: 135, 5: 18, 11: 35, 9: 38, 3: 22, 4: 33}
ABAW_TRAIN = {8: 445, 1: 562, 5: 68, 11: 113, 9: 138, 3: 107, 4: 129}
OTHERS = {2: 274, 6: 738, 7: 150, 10: 833}


def test_the_published_counts_of_rafdb_compound_give_1562_and_397_in_abaws_classes(tmp_path):
    names = [
        (f"{split}_{i:04d}.jpg", number)
        for split, counts in (("test", ABAW_TEST), ("train", ABAW_TRAIN | OTHERS))
        for i, number in enumerate((n for n, count in counts.items() for _ in range(count)), 1)
    ]
    assert len(names) == 3954
    lines = "".join(f"{name} {number}\n" for name, number in names)
    adapted = build("rafdb-compound", fill(tmp_path / "r", {"compound/EmoLabel/list_patition_label.txt": lines}))
    manifest = adapted.manifest
    assert (len(manifest.select("train")), len(manifest.select("test"))) == (1562, 397)
    assert list(manifest.counts("test").values()) == [116, 135, 18, 35, 38, 22, 33]
    assert adapted.left_out == {
        "Happily Disgusted: no class of abaw7": 274,
        "Sadly Disgusted: no class of abaw7": 738,
        "Fearfully Angry: no class of abaw7": 150,
        "Angrily Disgusted: no class of abaw7": 833,
    }
    assert len(adapted.missing) == 1562 + 397


def test_missing_pictures_stay_in_the_manifest_and_are_named_with_a_way_out(rafdb):
    (rafdb / "compound/compound/Image/aligned/train_0001_aligned.jpg").unlink()
    adapted = build("rafdb-compound", rafdb)
    assert adapted.missing == ("train_0001",)
    assert adapted.notes == ()
    only = build("rafdb-basic", rafdb, pictures="original")
    assert only.missing == ("train_00001", "test_0001")
    assert only.notes == (
        "there are no original pictures, but there are aligned ones: take them with --pictures aligned",
    )


def test_a_folder_without_rafdb_says_what_was_expected(tmp_path):
    with pytest.raises(ManifestError, match=r"no EmoLabel/list_patition_label.txt"):
        build("rafdb-compound", tmp_path)
    with pytest.raises(ManifestError, match="no such folder"):
        build("rafdb-compound", tmp_path / "none")


def test_a_folder_a_class_with_and_without_splits(tmp_path):
    root = fill(tmp_path / "f", {"train/sadly_angry/a.png": b"1", "val/sadly_angry/a.png": b"2", "notes.png": b"3"})
    adapted = build("folder", root, classes="abaw7")
    assert [(s.sample_id, s.label, s.split) for s in adapted.manifest.samples] == [
        ("train/sadly_angry/a", "Sadly Angry", "train"),
        ("val/sadly_angry/a", "Sadly Angry", "valid"),
    ]
    assert adapted.left_out == {"not in ROOT/<class>/ or ROOT/<split>/<class>/": 1}
    flat = build("folder", fill(tmp_path / "g", {"b/1.png": b"1", "a/1.jpg": b"2", "a/1.png": b"3"})).manifest
    assert flat.classes.labels == ("a", "b")
    assert flat.ids == ("a/1.jpg", "a/1.png", "b/1.png")
    with pytest.raises(ManifestError, match="folder 'a' is no class of 'abaw7'"):
        build("folder", tmp_path / "g", classes="abaw7")


def test_an_empty_folder_has_no_samples(tmp_path):
    with pytest.raises(ManifestError, match="no samples under"):
        build("folder", tmp_path)


def test_a_csv_of_ones_own_is_mapped_by_its_column_names(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("file,emo,who\na.png,fearfully_surprised,p1\nb.png,6,p2\n")
    manifest = build("csv", path, classes="abaw7", path_column="file", label_column="emo", group_column="who").manifest
    assert [(s.sample_id, s.label, s.group) for s in manifest.samples] == [
        ("a.png", "Fearfully Surprised", "p1"),
        ("b.png", "Sadly Angry", "p2"),
    ]
    with pytest.raises(ManifestError, match=r"t.csv:1: no column 'emotion' \(--label-column\)"):
        build("csv", path, path_column="file", label_column="emotion")
    path.write_text("path,label\na.png,1.0\n")
    assert build("csv", path, classes="abaw7").manifest.samples[0].label == "Happily Surprised"
    path.write_text("path,label\na.png,1.5\n")
    with pytest.raises(ManifestError, match=r"t.csv:2: label '1.5' is not in the class set"):
        build("csv", path, classes="abaw7")


def test_any_kind_can_be_mapped_onto_another_class_set(rafdb, tmp_path):
    adapted = build("rafdb-basic", rafdb, map_to="unity8")
    assert adapted.manifest.classes.name == "basic8"
    assert [s.label for s in adapted.manifest.samples] == ["Sadness", "Neutral"]
    root = fill(tmp_path / "f", {"angry/a.png": b"1", "Other/b.png": b"2"})
    adapted = build("folder", root, map_to="basic7")
    assert [s.label for s in adapted.manifest.samples] == ["Anger"]
    assert adapted.left_out == {"Other: no class of basic7": 1}
    with pytest.raises(ManifestError, match=r"no label of .* is a class of 'abaw7': Other, angry"):
        build("folder", root, map_to="abaw7")
    with pytest.raises(ClassSetError, match="did you mean 'unity8'"):
        build("folder", root, map_to="unity")


def test_every_adapter_is_found_and_says_its_layout():
    assert set(KINDS) >= {
        "affectnet", "affwild2", "csv", "fer2013", "ferplus", "folder", "frames", "parquet", "raf-ce", "rafdb-basic",
        "rafdb-compound",
    }  # fmt: skip
    assert all(callable(kind.read) and kind.layout for kind in KINDS.values())


def test_a_new_adapter_is_one_file_that_is_found_by_itself(tmp_path, monkeypatch):
    (tmp_path / "jaffe.py").write_text(Page("CONTRIBUTING.md").file("featstore/manifests/adapters/jaffe.py"))
    monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path)])
    try:
        adapters.find()
        root = fill(tmp_path / "jaffe", {"KA.HA1.29.tiff": b"1", "KM.SA2.8.tiff": b"2"})
        listed = build("jaffe", root).manifest
        assert [(s.label, s.group) for s in listed.samples] == [("Happiness", "KA"), ("Sadness", "KM")]
        with pytest.raises(ManifestError, match="kind 'jaffe' takes no option 'labels'"):
            build("jaffe", root, labels="x")
    finally:
        KINDS.pop("jaffe", None)
        sys.modules.pop(f"{adapters.__name__}.jaffe", None)


def test_unknown_kinds_and_options_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="did you mean 'rafdb-basic'"):
        build("rafdb-bsic", tmp_path)
    with pytest.raises(ManifestError, match="takes no option 'labels'"):
        build("folder", tmp_path, labels="x")


def votes(**given: int) -> dict[str, int]:
    return {name: given.get(name, 0) for name in VOTES}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"fear": 4, "surprise": 4, "neutral": 2}, "Fearfully Surprised"),
        ({"fear": 3, "surprise": 2, "anger": 1, "neutral": 4}, "Fearfully Surprised"),
        ({"fear": 2, "surprise": 2, "anger": 2}, None),
        ({"fear": 1, "surprise": 8}, None),
        ({"happiness": 5, "sadness": 5}, None),
        ({"sadness": 3, "anger": 7}, "Sadly Angry"),
    ],
)
def test_compound_labels_follow_the_vote_rule(given, expected):
    assert compound7(votes(**given)) == expected


def test_basic_labels_need_six_of_ten_votes():
    assert basic8(votes(fear=6, surprise=4)) == "Fear"
    assert basic8(votes(fear=5, surprise=5)) is None
    assert basic8(votes(unknown=6, fear=4)) is None


def test_ferplus_lines_with_a_wrong_number_of_votes_are_refused(tmp_path):
    root = fill(tmp_path / "f", {"FER2013Train/label.csv": 'fer1.png,"(0, 0, 48, 48)",1,2\n'})
    with pytest.raises(ManifestError, match=r"label.csv:1: expected name, box and 10 votes"):
        build("ferplus", root)


@pytest.mark.skipif(not FERPLUS.exists(), reason="../shared with the FER+ faces is not here")
def test_the_real_ferplus_faces_give_the_documented_counts():
    adapted = build("ferplus", FERPLUS)
    manifest = adapted.manifest
    assert list(manifest.counts("train").values()) == [1095, 785, 171, 20, 508, 298, 576]
    assert list(manifest.counts("valid").values()) == [147, 89, 20, 2, 54, 31, 65]
    digests, failed = pictures.digests(manifest)
    assert failed == {}
    repeated = pictures.repeats(manifest, digests)
    assert len(pictures.across_splits(manifest, repeated)) == 49
    clean = keep_first(manifest, repeated)
    assert (len(clean.select("train")), len(clean.select("valid"))) == (3165, 355)


@pytest.mark.skipif(not FERPLUS.exists(), reason="../shared with the FER+ faces is not here")
def test_the_real_ferplus_faces_give_basic_labels():
    manifest = build("ferplus", FERPLUS, labels="basic8").manifest
    assert list(manifest.counts("train").values()) == [1640, 78, 46, 339, 7072, 7468, 2377, 2735]
    assert list(manifest.counts("valid").values()) == [234, 8, 13, 40, 846, 1060, 278, 377]
