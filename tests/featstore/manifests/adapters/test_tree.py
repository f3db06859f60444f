"""Files as other people have them: linked, named and packed otherwise than one's own."""

from __future__ import annotations

import json
import os
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest

from cer_fusion.featstore import Manifest
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.adapters.tree import Tree
from cer_fusion.featstore.pictures import pictures
from cer_fusion.kit.pictures import picture_kind
from tests.featstore.manifests.adapters.layouts import as_folder, fill, tarred, zipped

JPEG, PNG, GIF, TIFF = b"\xff\xd8\xff\xe0" + bytes(40), b"\x89PNG\r\n\x1a\n" + bytes(40), b"GIF89a" + bytes(9), b"II*\0"
WEBP, BMP = b"RIFF\0\0\0\0WEBPVP8 ", b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0" + bytes(20)
HEIC, AVIF = b"\0\0\0\x18ftypheic" + bytes(20), b"\0\0\0\x1cftypavif" + bytes(20)
MP4 = b"\0\0\0\x18ftypisom" + bytes(20)
NFC, NFD = unicodedata.normalize("NFC", "Müller"), unicodedata.normalize("NFD", "Müller")


def read_all(manifest: Manifest) -> list[bytes]:
    source = pictures.PictureSource(manifest.root)
    return [source.read(sample.path) for sample in manifest.samples]


# Links


def test_a_linked_split_a_linked_class_a_linked_picture_and_a_linked_root_are_followed(tmp_path):
    elsewhere = fill(tmp_path / "elsewhere", {"test/a/1.png": b"1", "b/2.png": b"2", "3.png": b"3"})
    root = fill(tmp_path / "faces", {"train/a/0.png": b"0"})
    (root / "test").symlink_to(elsewhere / "test")
    (root / "train/b").symlink_to(elsewhere / "b")
    (root / "train/a/3.png").symlink_to(elsewhere / "3.png")
    (tmp_path / "link").symlink_to(root)
    adapted = build("folder", tmp_path / "link")
    assert adapted.manifest.ids == ("test/a/1", "train/a/0", "train/a/3", "train/b/2")
    assert read_all(adapted.manifest) == [b"1", b"0", b"3", b"2"]
    assert (adapted.left_out, adapted.notes) == ({}, ())


def test_rafdb_with_linked_folders_has_its_pictures(tmp_path):
    elsewhere = fill(
        tmp_path / "e", {"aligned/train_0001_aligned.jpg": b"1", "list_patition_label.txt": "train_0001.jpg 8\n"}
    )
    root = fill(tmp_path / "RAF-DB", {"compound/readme.txt": ""})
    (root / "compound/Image").symlink_to(elsewhere)
    (root / "compound/EmoLabel").symlink_to(elsewhere)
    adapted = build("rafdb-compound", root)
    assert adapted.missing == ()
    assert read_all(adapted.manifest) == [b"1"]


def test_frames_and_annotations_behind_links_are_read(tmp_path):
    header = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n"
    elsewhere = fill(tmp_path / "e", {"v/00001.jpg": b"1", "Train_Set/v.txt": header + "0\n"})
    root = tmp_path / "root"
    root.mkdir()
    (root / "frames").symlink_to(elsewhere)
    assert build("frames", root).manifest.ids == ("v/00001.jpg",)
    assert build("affwild2", root).manifest.ids == ("v/00001",)


def test_links_that_lead_back_end_and_links_to_nothing_are_counted(tmp_path):
    root = fill(tmp_path / "faces", {"a/1.png": b"1", "b/2.png": b"2"})
    (root / "a/up").symlink_to(root)
    (root / "a/self.png").symlink_to("self.png")
    (root / "b/gone.png").symlink_to(tmp_path / "gone.png")
    adapted = build("folder", root)
    assert adapted.manifest.ids == ("a/1", "b/2")
    assert adapted.left_out == {"link that leads back to a folder above it": 1, "link whose target is not there": 2}
    assert adapted.notes == ("2 links lead nowhere: a/self.png, b/gone.png",)


def test_folders_that_link_one_another_in_many_ways_come_to_an_end(tmp_path):
    root = fill(tmp_path / "r", {f"{i}/x.png": b"x" for i in range(7)})
    for i in range(7):
        for j in range(7):
            if i != j:
                (root / f"{i}/to{j}").symlink_to(root / str(j))
    tree = Tree(root)
    assert {f"{i}/x.png" for i in range(7)} <= set(tree.names)
    assert tree.left_out["link that leads back to a folder above it"] > 0


def test_one_picture_in_two_splits_by_way_of_a_link_is_told(tmp_path):
    root = fill(tmp_path / "faces", {"train/a/1.png": b"1", "train/b/2.png": b"2"})
    (root / "test").symlink_to("train")
    adapted = build("folder", root)
    assert len(adapted.manifest) == 4
    (note,) = adapted.notes
    assert "2 pictures are reached more than once, through links: test/a/1.png = train/a/1.png" in note
    assert "--repeats first" in note


def test_a_pool_of_pictures_and_links_into_it_are_not_told_as_repeats(tmp_path):
    root = fill(tmp_path / "faces", {"pool/deep/down/1.png": b"1"})
    (root / "train/a").mkdir(parents=True)
    (root / "train/a/1.png").symlink_to(root / "pool/deep/down/1.png")
    adapted = build("folder", root)
    assert (adapted.manifest.ids, adapted.notes) == (("train/a/1",), ())


def test_a_pipe_is_counted_and_not_opened(tmp_path):
    root = fill(tmp_path / "faces", {"a/1.png": b"1"})
    os.mkfifo(root / "a/pipe.png")
    assert build("folder", root).left_out == {"pipe, socket or device": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_counted(tmp_path):
    root = fill(tmp_path / "faces", {"a/1.png": b"1", "b/2.png": b"2"})
    (root / "b").chmod(0)
    try:
        assert build("folder", root).left_out == {"folder that may not be read": 1}
    finally:
        (root / "b").chmod(0o755)


def test_links_inside_an_archive_are_named_with_what_to_do(tmp_path):
    root = fill(tmp_path / "faces", {"train/a/1.png": b"1"})
    (root / "test").symlink_to("train")
    adapted = build("folder", tarred(root))
    assert adapted.left_out == {"link, device, or name that leads out of the archive": 1}
    assert "1 links inside the archive are not followed (first: ./test)" in adapted.notes[0]
    link = zipfile.ZipInfo("test")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as out:
        out.writestr("train/a/1.png", b"1")
        out.writestr(link, "train")
    adapted = build("folder", tmp_path / "z.zip")
    assert adapted.left_out == {"link, device, or name that leads out of the archive": 1}
    assert "(first: test)" in adapted.notes[0]


# Content


@pytest.mark.parametrize("pack", [as_folder, zipped, tarred])
def test_content_decides_what_is_a_picture_and_the_rest_is_counted_by_ending(tmp_path, pack):
    root = fill(
        tmp_path / "faces",
        {
            "a/1.jfif": JPEG, "a/2.jpe": JPEG, "a/3.JPEG": JPEG, "a/4": JPEG, "a/5.dat": PNG, "a/6.jpg_large": GIF,
            "a/7.img": WEBP, "a/8.img": BMP, "a/9.raw": TIFF, "a/x.png": JPEG, "a/empty.jpg": b"",
            "a/n.txt": "BM is a text", "a/m.txt": "x", "a/phone.heic": HEIC, "a/IMG": HEIC, "a/w.avif": AVIF,
            "a/v.mp4": MP4, "a/README": "x", "a/.hidden.png": PNG, "a/._1.jfif": b"\0", "a/.DS_Store": b"x",
            "a/Thumbs.db": b"x", "a/thumbs.db2": b"", "a/desktop.ini": b"x", "__MACOSX/a/._2.jpe": b"x",
        },
    )  # fmt: skip
    adapted = build("folder", pack(root))
    names = [Path(sample.path).name for sample in adapted.manifest.samples]
    assert names == [
        "1.jfif", "2.jpe", "3.JPEG", "4", "5.dat", "6.jpg_large", "7.img", "8.img", "9.raw", "empty.jpg", "x.png",
    ]  # fmt: skip
    cannot = "which cannot be opened; convert it to PNG or JPEG"
    assert adapted.left_out == {
        ".txt file": 2, f".heic file: HEIC, {cannot}": 1, f"file without an ending: HEIC, {cannot}": 1,
        f".avif file: AVIF, {cannot}": 1, ".mp4 file": 1, "file without an ending": 1, ".db2 file": 1,
        "hidden picture: its name or its folder's begins with a dot": 1,
    }  # fmt: skip


def test_frames_of_any_ending_are_frames_and_the_rest_is_counted(tmp_path):
    root = fill(tmp_path / "f", {"01/00001.jfif": JPEG, "01/00002": PNG, "01/notes.txt": "x", "01.frames.csv": "x"})
    adapted = build("frames", root)
    assert adapted.manifest.ids == ("01/00001.jpg", "01/00002.jpg")
    assert adapted.left_out == {".txt file": 1}


def test_an_image_without_samples_says_what_was_there(tmp_path):
    with pytest.raises(
        ManifestError, match=r"no samples(.|\n)*left out: 2 × \.heic file: HEIC, which cannot be opened"
    ):
        build("folder", fill(tmp_path / "f", {"a/1.heic": HEIC, "a/2.heic": HEIC}))


def test_what_a_picture_is_shows_in_its_first_bytes():
    taken = {"JPEG": JPEG, "PNG": PNG, "GIF": GIF, "TIFF": TIFF, "WebP": WEBP, "BMP": BMP}
    assert {kind: picture_kind(head) for kind, head in taken.items()} == {k: (k, True) for k in taken}
    assert picture_kind(HEIC) == ("HEIC", False)
    for other in (b"", b"BM, a text", MP4, b"RIFF\0\0\0\0WAVE", b"%PDF", b"PK\3\4"):
        assert picture_kind(other) == ("", False)


# Names


def test_names_of_lists_and_files_meet_whatever_their_case_and_the_form_of_their_accents(tmp_path):
    labels = f"{NFC}.jpg 3\n{NFD}2.jpg 3\n"
    root = fill(
        tmp_path / "R",
        {
            "RAFCE_emolabel.txt": labels,
            "RAFCE_partition.txt": labels.replace(" 3", " 0"),
            f"aligned/{NFD.upper()}_aligned.jpg": b"1",
            f"aligned/{NFC}2_ALIGNED.JPG": b"2",
        },
    )
    adapted = build("raf-ce", root)
    assert adapted.missing == ()
    assert read_all(adapted.manifest) == [b"1", b"2"]


def test_of_two_files_that_differ_in_case_none_is_guessed(tmp_path):
    root = fill(tmp_path / "r", {"compound/EmoLabel/list_patition_label.txt": "train_1.jpg 3\ntrain_2.JPG 3\n"})
    fill(root / "compound/Image/aligned", {"train_1_aligned.JPG": b"1", "train_1_Aligned.jpg": b"2"})
    fill(root / "compound/Image/aligned", {"train_2_aligned.JPG": b"3", "train_2_aligned.jpg": b"4"})
    adapted = build("rafdb-compound", root)
    assert adapted.missing == ("train_1",)
    assert adapted.manifest.samples[1].path.endswith("train_2_aligned.JPG")


def test_names_that_no_manifest_can_hold_are_counted_and_the_others_are_read(tmp_path):
    root = fill(tmp_path / "faces", {"a/1.png": b"1", "a/new\nline.png": b"x", "a/blank.png ": PNG, "b /2 .png": b"2"})
    with open(os.fsencode(root) + b"/a/caf\xe9.png", "wb") as file:
        file.write(b"x")
    adapted = build("folder", root)
    assert [(s.sample_id, s.label, s.path) for s in adapted.manifest.samples] == [
        ("a/1", "a", "a/1.png"),
        ("b /2", "b", "b /2 .png"),
    ]
    (count,) = adapted.left_out.values()
    assert count == 3
    adapted.manifest.write(tmp_path / "m.csv")
    assert Manifest.read(tmp_path / "m.csv").samples == adapted.manifest.samples
    json.dumps([adapted.left_out, adapted.notes]).encode()


def test_a_root_whose_name_is_not_utf8_is_refused_in_words(tmp_path):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    (root / "a").mkdir(parents=True)
    (root / "a/1.png").write_bytes(b"1")
    with pytest.raises(ManifestError, match=r"is not UTF-8(.|\n)*rename it"):
        build("folder", root)


def test_a_space_that_is_not_a_blank_is_no_control_character(tmp_path):
    name = "a/Screenshot at 3.14.15\u202fPM.png"
    manifest = build("folder", fill(tmp_path / "f", {name: b"1", "a/\u2764\ufe0f.png": b"2"})).manifest
    manifest.write(tmp_path / "m.csv")
    assert Manifest.read(tmp_path / "m.csv").samples == manifest.samples


def test_a_tree_that_was_unpacked_with_backslashes_in_its_names_is_read(tmp_path):
    root = fill(tmp_path / "f", {"train\\a\\1.png": b"1", "test\\b\\2.png": b"2"})
    adapted = build("folder", root)
    assert [(s.sample_id, s.label, s.split) for s in adapted.manifest.samples] == [
        ("test/b/2", "b", "test"),
        ("train/a/1", "a", "train"),
    ]
    assert read_all(adapted.manifest) == [b"2", b"1"]


def test_lists_with_paths_of_windows_name_the_same_pictures(tmp_path):
    raf = fill(tmp_path / "r", {"EmoLabel/list_patition_label.txt": ".\\train_1.jpg 3\n./test_1.jpg 3\n"})
    fill(raf / "Image/aligned", {"train_1_aligned.jpg": b"1", "test_1_aligned.jpg": b"2"})
    assert build("rafdb-compound", raf).missing == ()
    rows = "689\\aa.jpg,1,1,9,9,1;2,1,0,0\nC:\\data\\Manually_Annotated_Images\\2\\bb.jpg,1,1,9,9,1;2,1,0,0\n"
    net = fill(tmp_path / "n", {"training.csv": rows, "Manually_Annotated_Images/689/aa.jpg": b"1"})
    fill(net / "Manually_Annotated_Images/2", {"bb.jpg": b"2"})
    assert read_all(build("affectnet", net).manifest) == [b"1", b"2"]


# Layouts


@pytest.mark.parametrize("pack", [as_folder, zipped, tarred])
@pytest.mark.parametrize("wrap", ["", "faces/", "download/faces v2/"])
def test_a_folder_that_wraps_the_classes_changes_nothing_but_the_paths(tmp_path, pack, wrap):
    files = {f"{wrap}train/a/1.png": b"1", f"{wrap}test/b/2.png": b"2", f"{wrap}cover.png": b"3"}
    adapted = build("folder", pack(fill(tmp_path / "root", files)))
    assert [(s.sample_id, s.label, s.split) for s in adapted.manifest.samples] == [
        ("test/b/2", "b", "test"),
        ("train/a/1", "a", "train"),
    ]
    assert read_all(adapted.manifest) == [b"2", b"1"]
    assert adapted.left_out == {"not in ROOT/<class>/ or ROOT/<split>/<class>/": 1}
    assert adapted.notes == ((f"the classes' folders are below {wrap}",) if wrap else ())


def test_several_datasets_side_by_side_are_not_mixed(tmp_path):
    root = fill(tmp_path / "f", {"one/a/1.png": b"1", "two/a/1.png": b"2"})
    with pytest.raises(ManifestError, match=r"several folders with classes in them: one, two\n  name one"):
        build("folder", root)


def test_rafdb_unpacked_into_a_folder_of_its_own_name_has_its_pictures(tmp_path):
    root = fill(tmp_path / "r", {"basic/EmoLabel/list_patition_label.txt": "train_1.jpg 5\n"})
    fill(root / "basic/Image", {"aligned/aligned/train_1_aligned.jpg": b"1", "original/original/train_1.jpg": b"2"})
    assert read_all(build("rafdb-basic", root).manifest) == [b"1"]
    assert read_all(build("rafdb-basic", root, pictures="original").manifest) == [b"2"]


def test_archives_that_were_not_unpacked_are_named_where_pictures_are_missing(tmp_path):
    root = fill(tmp_path / "r", {"EmoLabel/list_patition_label.txt": "train_1.jpg 5\n", "Image/aligned.zip": b"PK"})
    adapted = build("rafdb-basic", root)
    assert adapted.missing == ("train_1",)
    assert "1 archives among the files are not looked into: Image/aligned.zip" in adapted.notes[0]


@pytest.mark.parametrize("mark", ["utf-16", "utf-8-sig"])
def test_a_list_with_a_byte_order_mark_is_read(tmp_path, mark):
    root = fill(tmp_path / "r", {"EmoLabel/list_patition_label.txt": "train_1.jpg 5\r\n".encode(mark)})
    assert build("rafdb-basic", root).manifest.ids == ("train_1",)


def test_a_list_in_a_code_page_is_read_when_it_is_named(tmp_path):
    text = "0001é.jpg 3\n"
    files = {
        "RAFCE_emolabel.txt": text.encode("cp1252"),
        "RAFCE_partition.txt": text.replace("3", "0").encode("cp1252"),
    }
    root = fill(tmp_path / "r", files)
    with pytest.raises(
        ManifestError, match=r"RAFCE_partition\.txt:1: not UTF-8 text \(byte 4\)(.|\n)*--encoding cp1252"
    ):
        build("raf-ce", root)
    assert build("raf-ce", root, encoding="cp1252").manifest.ids == ("0001é",)
    with pytest.raises(ManifestError, match="no encoding 'cp12525'"):
        build("raf-ce", root, encoding="cp12525")


# Archives


def zip_of(path: Path, *members: tuple[bytes, bytes, bytes, bool]) -> Path:
    """A zip file of (name as stored, data, extra field, flag of UTF-8), each stored as it is."""
    out, central = b"", b""
    for name, data, extra, is_utf8 in members:
        flags = 0x800 if is_utf8 else 0
        common = struct.pack(
            "<HHHHHIIIHH", 20, flags, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(name), len(extra)
        )
        central += (
            b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(out)) + name + extra
        )
        out += b"PK\3\4" + common + name + extra + data
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(central), len(out), 0)
    path.write_bytes(out + central + b"PK\5\6" + end)
    return path


def test_names_with_backslashes_in_a_zip_file_are_folders(tmp_path):
    path = zip_of(
        tmp_path / "z.zip",
        (b"faces\\train\\", b"", b"", False),
        (b"faces\\train\\a\\1.png", b"1", b"", False),
        (b".\\faces\\test\\b\\2.png", b"2", b"", False),
        ("faces\\test\\ä\\3.png".encode(), b"3", b"", True),
    )
    manifest = build("folder", path).manifest
    assert [(s.sample_id, s.split) for s in manifest.samples] == [
        ("test/b/2", "test"), ("test/ä/3", "test"), ("train/a/1", "train"),
    ]  # fmt: skip
    assert read_all(manifest) == [b"2", b"3", b"1"]


def test_a_drive_in_the_names_of_a_zip_file_is_a_wrapping_that_is_dropped(tmp_path):
    path = zip_of(tmp_path / "z.zip", (b"C:\\data\\a\\1.png", b"1", b"", False), (b"C:/data/b/2.png", b"2", b"", False))
    manifest = build("folder", path).manifest
    assert [s.path for s in manifest.samples] == ["data/a/1.png", "data/b/2.png"]
    assert read_all(manifest) == [b"1", b"2"]


def test_names_in_utf8_without_its_flag_and_in_the_unicode_field_are_what_they_say(tmp_path):
    stored = "快乐/1.png".encode("gbk")
    field = struct.pack("<BI", 1, zlib.crc32(stored)) + "快乐/1.png".encode()
    path = zip_of(
        tmp_path / "z.zip",
        (stored, b"1", struct.pack("<HH", 0x7075, len(field)) + field, False),
        ("悲伤/2.png".encode(), b"2", b"", False),
    )
    adapted = build("folder", path)
    assert sorted(s.label for s in adapted.manifest.samples) == sorted(["快乐", "悲伤"])
    assert sorted(read_all(adapted.manifest)) == [b"1", b"2"]
    assert adapted.notes == ()


@pytest.mark.parametrize(
    ("page", "label"), [("gbk", "快乐"), ("shift_jis", "ソース表"), ("cp1252", "fröhlich"), ("cp949", "기쁨")]
)
def test_names_in_a_code_page_that_nothing_tells_are_told_and_read_when_it_is_named(tmp_path, page, label):
    path = zip_of(tmp_path / "z.zip", (f"{label}/1.png".encode(page), b"1", b"", False), (b"b/2.png", b"2", b"", False))
    told = build("folder", path)
    assert "1 names are in a code page that the archive does not tell" in told.notes[0]
    assert sorted(read_all(told.manifest)) == [b"1", b"2"]
    named = build("folder", path, encoding=page)
    assert {s.label for s in named.manifest.samples} == {label, "b"}
    assert sorted(read_all(named.manifest)) == [b"1", b"2"]  # by a reader that has not heard of the option
    assert named.notes == ()


def test_a_list_finds_members_whose_code_page_nothing_tells(tmp_path):
    path = zip_of(tmp_path / "z.zip", ("faces/fröhlich.png".encode("cp1252"), b"1", b"", False))
    (tmp_path / "list.csv").write_text("path\nfaces/fröhlich.png\n", encoding="utf-8")
    adapted = build("csv", tmp_path / "list.csv", pictures=str(path))
    assert adapted.missing == ()
    assert read_all(adapted.manifest) == [b"1"]


def test_names_of_a_tar_file_in_a_code_page_are_told_and_read(tmp_path):
    import io
    import tarfile

    path = tmp_path / "t.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="gbk") as tar:
        for name in ("快乐/1.png", "b/2.png", "b/" + "long" * 60 + ".png"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    assert "does not tell" in build("folder", path).notes[0]
    manifest = build("folder", path, encoding="gbk").manifest
    assert {s.label for s in manifest.samples} == {"快乐", "b"}
    assert read_all(manifest) == [b"x"] * 3


def test_of_two_members_of_one_name_the_later_is_read_and_the_other_counted(tmp_path):
    path = zip_of(tmp_path / "z.zip", (b"a/1.png", b"old", b"", False), (b"a\\1.png", b"new", b"", False))
    adapted = build("folder", path)
    assert adapted.left_out == {"member of an archive that a later one of its name replaces": 1}
    assert read_all(adapted.manifest) == [b"new"]


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [(8, 1, "encrypted"), (10, 9, "compressed by Deflate64"), (10, 98, "compressed by PPMd")],
)
def test_members_that_python_cannot_read_are_told_before_anything_is_made(tmp_path, offset, value, why):
    data = bytearray(zipped(fill(tmp_path / "f", {"a/1.png": PNG})).read_bytes())
    data[data.index(b"PK\1\2") + offset] |= value
    (tmp_path / "z.zip").write_bytes(data)
    with pytest.raises(ManifestError, match=rf"of 1 files in .* 1 are {why}: Python cannot read them\n  unpack it"):
        build("folder", tmp_path / "z.zip")
    with pytest.raises(OSError, match=rf"it is {why} in its zip file"):
        pictures.PictureSource(tmp_path / "z.zip").read("a/1.png")


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it"),
        (b"Rar!\x1a\x07\1\0", "it is a RAR archive; unpack it"),
        (b"PK\3\4", "it begins as a zip file, but has no end"),
        (b"PK\7\x08PK\3\4", "it is the first part of a zip file in several parts"),
        (b"\x28\xb5\x2f\xfd", "it is compressed by zstd"),
    ],
)
def test_archives_of_other_kinds_are_called_by_their_names(tmp_path, head, why):
    (tmp_path / "faces.zip").write_bytes(head + bytes(3000))
    with pytest.raises(ManifestError, match=f"neither a folder nor a zip file nor a tar file\n  {why}"):
        build("folder", tmp_path / "faces.zip")


def test_the_last_of_several_parts_of_a_zip_file_is_told(tmp_path):
    data = bytearray(zipped(fill(tmp_path / "f", {"a/1.png": PNG})).read_bytes())
    data[data.rindex(b"PK\5\6") + 4] = 2
    (tmp_path / "z.zip").write_bytes(data)
    with pytest.raises(ManifestError, match=r"is the last of several parts: join them with: zip -s 0 z\.zip"):
        build("folder", tmp_path / "z.zip")


def test_an_archive_may_be_called_as_it_likes(tmp_path):
    for pack, name in ((zipped, "faces.download"), (tarred, "faces")):
        path = pack(fill(tmp_path / pack.__name__ / "in", {"a/1.png": b"1"})).rename(tmp_path / name)
        assert read_all(build("folder", path).manifest) == [b"1"]
