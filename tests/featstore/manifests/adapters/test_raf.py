from __future__ import annotations

from pathlib import Path

import pytest

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build
from tests.featstore.manifests.adapters.layouts import as_folder, fill, tarred, zipped

LABELS = "\ufeff0001.jpg 3\r\n0002.JPG 8\r\n\r\n0003.jpg 13\r\n0004.jpg 7\r\n"
PARTITION = "0004.jpg 0\n0001.jpg 0\n0002.JPG 1\n0003.jpg 2\n0005.jpg 1\n"


@pytest.fixture
def rafce(tmp_path) -> Path:
    return fill(
        tmp_path / "RAF-CE",
        {
            "RAF-CE/RAF-CE/RAFCE_emolabel.txt": LABELS,
            "RAF-CE/RAF-CE/RAFCE_partition.txt": PARTITION,
            "RAF-CE/RAF-CE/RAFCE_AUlabel.txt": "0001.jpg 4+7\n",
            "RAF-CE/aligned/0001_aligned.jpg": b"1",
            "RAF-CE/aligned/0002_aligned.jpg": b"2",
            "RAF-CE/aligned/0003_aligned.jpg": b"3",
            "RAF-CE/original/0001.jpg": b"o",
            "__MACOSX/RAF-CE/RAFCE_emolabel.txt": b"\0\1",
        },
    )


@pytest.mark.parametrize("pack", [as_folder, zipped, tarred])
def test_all_fourteen_classes_are_read_and_the_partitions_meaning_is_told(rafce, pack):
    adapted = build("raf-ce", pack(rafce))
    assert [(s.sample_id, s.label, s.split) for s in adapted.manifest.samples] == [
        ("0001", "Sadly Angry", "train"),
        ("0002", "Fearfully Disgusted", "test"),
        ("0003", "Happily Sad", "valid"),
        ("0004", "Fearfully Surprised", "train"),
    ]
    assert len(adapted.manifest.classes.labels) == 14
    assert adapted.left_out == {"no label in RAFCE_emolabel.txt": 1}
    assert adapted.missing == ("0004",)
    assert adapted.notes == (
        "assumed of RAFCE_partition.txt: 0 is train (2), 1 is test (1), 2 is valid (1); "
        "set it with --partition 0=train,1=test,2=valid",
    )


def test_action_units_are_columns_of_the_manifest_where_there_is_a_file_of_them(rafce):
    file = next(rafce.rglob("RAFCE_AUlabel.txt"))
    file.write_text("0001.jpg 4+L7\n0002.jpg null\n0003.jpg 7\n0005.jpg 12\n")
    for options in ({}, {"map_to": "abaw7"}):
        manifest = build("raf-ce", rafce, **options).manifest
        known = {sample.sample_id: dict(sample.further) for sample in manifest.samples}
        assert known["0001"] == {"au.4": 1, "au.7": 1}
        assert known["0004"] == {}
    file.write_text("0001.jpg 4\n0003.jpg smile\n")
    with pytest.raises(ManifestError, match=r"RAFCE_AUlabel\.txt:2: 'smile' is no action unit"):
        build("raf-ce", rafce)
    file.unlink()
    assert build("raf-ce", rafce).manifest.further == {}


def test_the_partitions_meaning_can_be_set_and_classes_mapped(rafce):
    adapted = build("raf-ce", rafce, partition="0=train,1=valid,2=test", map_to="abaw7")
    assert [(s.label, s.split) for s in adapted.manifest.samples] == [
        ("Sadly Angry", "train"),
        ("Fearfully Surprised", "train"),
    ]
    assert adapted.left_out["Happily Sad: no class of abaw7"] == 1
    assert build("raf-ce", rafce, pictures="original").manifest.samples[0].path == "RAF-CE/original/0001.jpg"


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {"partition": "0=train,1=test"}, "holds the number 2, which --partition 0=train,1=test does not name"),
        ({}, {"partition": "train=0"}, "--partition must be such as 0=train,1=test,2=valid, however: 'train=0'"),
        ({"RAFCE_partition.txt": "0001.jpg 0\n"}, {}, r"has no line for 0002.JPG, 0003.jpg, 0004.jpg, which"),
        ({"RAFCE_emolabel.txt": "0001.jpg 14\n"}, {}, r"emolabel.txt:1: ids .* run from 0 to 13, however: 14"),
        ({"RAFCE_emolabel.txt": "0001.jpg 1\n0001.jpg 2\n"}, {}, r"emolabel.txt:2: '0001.jpg' stands twice"),
        ({"RAFCE_emolabel.txt": "0001.jpg\n"}, {}, r"emolabel.txt:1: expected '0001.jpg 3', however: '0001.jpg'"),
    ],
)
def test_faulty_files_are_refused_with_file_and_line(rafce, files, options, message):
    fill(rafce / "RAF-CE/RAF-CE", files)
    with pytest.raises(ManifestError, match=message):
        build("raf-ce", rafce, **options)


def test_a_missing_partition_file_says_what_was_expected(rafce):
    (rafce / "RAF-CE/RAF-CE/RAFCE_partition.txt").unlink()
    with pytest.raises(
        ManifestError, match=r"no RAFCE_partition.txt under .*\n  expected RAF-CE's RAFCE_partition.txt"
    ):
        build("raf-ce", rafce)


LISTS = {
    "tabs, a mark, CRLF": lambda text: b"\xef\xbb\xbf" + text.replace(" ", "\t").replace("\n", "\r\n").encode(),
    "several blanks, some at the end": lambda text: text.replace(" ", "   ").replace("\n", "  \t\n").encode(),
    "commas in UTF-16": lambda text: text.replace(" ", ",").encode("utf-16"),
    "semicolons, decimal commas": lambda text: ("sep=;\n" + text.replace(" ", ";").replace("\n", ",0;;\n")).encode(),
    "floats, an old Mac's line ends": lambda text: text.replace("\n", ".0\r").encode(),
    "quotes": lambda text: text.replace(" ", '","').replace("\n", '"\n"').join(('"', "")).removesuffix('"').encode(),
}


@pytest.mark.parametrize("ending", ["txt", "csv"])
@pytest.mark.parametrize("how", LISTS)
def test_lists_are_read_however_they_were_saved(tmp_path, how, ending):
    save = LISTS[how]
    rafce = fill(
        tmp_path / "e",
        {
            f"RAFCE_emolabel.{ending}": save("0001.jpg 3\n0002.jpg 4\n"),
            f"RAFCE_partition.{ending}": save("0001.jpg 0\n0002.jpg 1\n"),
        },
    )
    rafdb = fill(tmp_path / "d", {f"EmoLabel/list_patition_label.{ending}": save("train_1.jpg 3\ntest_2.jpg 4\n")})
    plain = fill(tmp_path / "p", {"EmoLabel/list_patition_label.txt": "train_1.jpg 3\ntest_2.jpg 4\n"})
    assert [s.split for s in build("raf-ce", rafce).manifest.samples] == ["train", "test"]
    wanted = build("rafdb-compound", plain).manifest.samples
    assert build("rafdb-compound", rafdb).manifest.samples == wanted


@pytest.mark.parametrize("line", ["0001.jpg 3 4", "0001.jpg", "0001.jpg 3.5", "0001.jpg,3,5", "0001.jpg 3000"])
def test_a_line_that_can_be_read_in_two_ways_is_refused(tmp_path, line):
    root = fill(tmp_path / "e", {"RAFCE_emolabel.txt": f"{line}\n", "RAFCE_partition.txt": "0001.jpg 0\n"})
    with pytest.raises(ManifestError, match=r"emolabel\.txt:1: expected '0001\.jpg 3', however"):
        build("raf-ce", root)
